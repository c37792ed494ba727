"""What was read before anything is judged: of memory here and elsewhere, of the record, of the disk."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from receiver.models import Backlog, Outcome, SinkState


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings allow."""

    lost_after_seconds: float
    early_limit: int
    retention_days: float


class SinkSeen(msgspec.Struct, frozen=True, kw_only=True):
    """How a sink takes events; ``since`` when it has not taken any, as far as is known."""

    state: SinkState
    outcome: Outcome | None = None
    since: datetime | None = None


class ProviderSeen(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider can be asked, and when it last called.

    ``outcome`` is what keeps it from being asked. ``usual_gap`` is the mean time between its callbacks since
    this process began, once there were enough of them.
    """

    title: str
    pushes: bool
    key_variable: str
    has_key: bool
    outcome: Outcome | None = None
    is_ours: bool = False  # somebody here has to mend a key or a balance
    since: datetime | None = None
    called_at: datetime | None = None
    usual_gap: timedelta | None = None


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """How often a loop crashed since the start, and when it did last."""

    times: int
    at: datetime


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The disk of the data folder; below ``floor_bytes`` nothing is downloaded."""

    free_bytes: int
    floor_bytes: int


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """Many more than usual within ten minutes. ``usual`` is the median of such spans, of a week at most."""

    count: int
    usual: float


class ClockMove(msgspec.Struct, frozen=True, kw_only=True):
    """When the wall clock was found moved, and how far: below zero if back."""

    at: datetime
    by: timedelta


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; ``backlog`` is None where the record could not be read now."""

    now: datetime
    limits: Limits
    store_problem: str | None = None
    loops: Mapping[str, str] = {}  # by name its state, wherever it runs
    crashes: Mapping[str, Crash] = {}
    disk: Disk | None = None
    is_disk_known: bool = True
    sinks: Mapping[str, SinkSeen] = {}
    providers: Mapping[str, ProviderSeen] = {}
    unauthorised: Burst | None = None  # callbacks without a good token
    refused: Burst | None = None  # callbacks with the token of another task
    clock_move: ClockMove | None = None
    backlog: Backlog | None = None
