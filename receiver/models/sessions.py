"""Who is logged in to the admin pages."""

from datetime import datetime
from enum import StrEnum

import msgspec


class PageRole(StrEnum):
    """What somebody may do on the admin pages."""

    VIEWER = "viewer"  # look
    ADMIN = "admin"  # look at everything, and act


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One log-in. Neither the token nor what the cookie holds is kept: only hashes of them."""

    id: str  # a hash of what the cookie holds
    role: PageRole
    token: str  # a keyed hash of the token that opened it
    said_name: str  # who it is, as they say themselves; not proven
    created_at: datetime
    seen_at: datetime  # to the minute
    expires_at: datetime
