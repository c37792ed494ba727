"""What waits in the record, and what was given up: the facts that its health is judged by."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

MOST_COUNTED = 10_000  # what is more is counted as one more


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of a kind there are, ``MOST_COUNTED`` + 1 at most, and the earliest time among these."""

    count: int = 0
    first_at: datetime | None = None


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What was told of a line of health: how bad it was, since when, and whether its end was told, too."""

    key: str
    severity: str
    since: datetime
    told_at: datetime  # of its beginning, or its worsening
    is_over: bool = False


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that wait for something, or were given up within a day.

    ``unsent`` is by sink, also by one that is not set any more, with the time that an event was queued;
    ``open_tasks`` by provider, with the time that the next question about one is due. Of ``unfetched`` it is
    when the task ended, of ``dying`` when the link dies. Of what was given up, and of replays, the newest are
    looked at.
    """

    unsent: Mapping[str, Counted] = {}
    dead: Mapping[str, Counted] = {}  # by sink, within a day
    unfetched: Counted = Counted()
    dying: Counted = Counted()  # within an hour
    lost: Counted = Counted()  # within a day
    unbound: Counted = Counted()  # for longer than a task may take
    open_tasks: Mapping[str, Counted] = {}
    unrecognised: Counted = Counted()
    early: int = 0
    paused: Counted = Counted()  # replays
    stalled: Counted = Counted()  # replays whose step was due a while ago
    oldest_body_at: datetime | None = None  # of those that retention has not looked at yet
    newest_delivery_at: datetime | None = None
    wal_bytes: int | None = None  # the write-ahead log, where the record is a file that has one
