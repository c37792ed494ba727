"""Tokens of the gateway: each may order of some providers, some models, for one owner, until some day."""

from datetime import datetime

import msgspec

TOKEN_MARK = "rgw_"  # noqa: S105 - how each of them begins, so that one is found where it should not be


class GatewayToken(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one: a hash, and what it may be used for. A name is never given twice."""

    name: str
    hash: str  # SHA-256 of the token, in hexadecimal digits
    providers: tuple[str, ...] = ()  # none: every one
    models: tuple[str, ...] = ()  # none: every one
    owner: str | None = None  # None: whoever an order names
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        """Whether it lets in."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
