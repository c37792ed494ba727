"""What happened over time, in minutes and in hours, for plots; and requests that were turned away."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

MINUTE, HOUR = 60, 3_600  # the widths of buckets, in seconds
NO_SCHEME = "none"  # of a refusal that has nothing to do with signatures


class Measure(StrEnum):
    """What a series is of; those of one measure differ by their labels."""

    # Counters: of a bucket, how much was added in it.
    CALLBACKS = "callbacks"  # recorded, by verdict, and by provider and verdict
    TURNED_AWAY = "turned_away"  # by status
    ANSWER_SECONDS = "answer_seconds"  # callbacks by the upper bound of their time to the answer
    STORED_SECONDS = "stored_seconds"  # files, by that from the callback until they were stored
    SENT_SECONDS = "sent_seconds"  # notifications, by that from the callback until a sink had them
    FILES = "files"  # attempts, by outcome, and by provider and outcome
    FILE_BYTES = "file_bytes"
    NOTIFICATIONS = "notifications"  # attempts, by outcome, and by sink and outcome
    QUESTIONS = "questions"  # to providers, by outcome, and by provider and outcome
    # Gauges: of a bucket, the worst that was seen in it.
    WAITING_FILES = "waiting_files"
    WAITING_EVENTS = "waiting_events"  # of all sinks, and by sink
    OLDEST_FILE_SECONDS = "oldest_file_seconds"
    OLDEST_EVENT_SECONDS = "oldest_event_seconds"
    UNENDED_TASKS = "unended_tasks"  # of all providers, and by provider
    EARLY_CALLBACKS = "early_callbacks"
    UNBOUND_RESERVATIONS = "unbound_reservations"
    DEAD_LETTERS = "dead_letters"  # of all sinks, and by sink
    NEXT_DEADLINE_SECONDS = "next_deadline_seconds"
    DISK_FREE_BYTES = "disk_free_bytes"
    WAL_BYTES = "wal_bytes"

    @property
    def is_counter(self) -> bool:
        return self in _COUNTERS

    @property
    def is_worst_low(self) -> bool:
        """Whether less of it is worse."""
        return self in _WORST_LOW


_COUNTERS = frozenset(
    {
        Measure.CALLBACKS,
        Measure.TURNED_AWAY,
        Measure.ANSWER_SECONDS,
        Measure.STORED_SECONDS,
        Measure.SENT_SECONDS,
        Measure.FILES,
        Measure.FILE_BYTES,
        Measure.NOTIFICATIONS,
        Measure.QUESTIONS,
    }
)
_WORST_LOW = frozenset({Measure.NEXT_DEADLINE_SECONDS, Measure.DISK_FREE_BYTES})

Labels = Mapping[str, str]


class SeriesName(NamedTuple):
    """A measure and its labels as text; both are made of known words."""

    measure: Measure
    labels: str = ""  # provider=vidgo,verdict=accepted, sorted


def series_name(measure: Measure, **labels: str) -> SeriesName:
    return SeriesName(measure, ",".join(f"{name}={labels[name]}" for name in sorted(labels)))


class Sample(NamedTuple):
    """What is added to a bucket, or, of a gauge, what it holds now: the bucket's start is a time of Unix."""

    series: SeriesName
    start: int
    value: float


class Bucket(NamedTuple):
    """A stretch of a series: when it begins, how long it is, in seconds, and what is in it."""

    start: int
    width: int
    value: float


class SeriesWanted(msgspec.Struct, frozen=True, kw_only=True):
    """The series of a measure that have just these labels: some of a value, one of any."""

    measure: Measure
    labels: Labels = {}
    by: str | None = None  # the name of the label that may have any value


class SeriesRead(msgspec.Struct, frozen=True, kw_only=True):
    """A series as it was read: the value of the label by which it was asked for, and its buckets."""

    by: str
    buckets: tuple[Bucket, ...]


class RefusalReason(StrEnum):
    """Why a callback was turned away. The manual says of each what to do."""

    TOKEN_MISSING = "token_missing"  # noqa: S105
    TOKEN_WRONG = "token_wrong"  # noqa: S105
    SIGNATURE_WRONG = "signature_wrong"  # the URL was of the kind that anybody can write
    SIGNATURE_WRONG_TOKEN_RIGHT = "signature_wrong_token_right"  # noqa: S105  # we gave this URL out
    TOKEN_OF_ANOTHER_TASK = "token_of_another_task"  # noqa: S105
    UNKNOWN_PROVIDER = "unknown_provider"
    METHOD = "method"
    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    BAD_REQUEST = "bad_request"  # its framing, or a compressed body
    UNAVAILABLE = "unavailable"  # no fault of the sender's: it could not be recorded then
    INTERNAL_ERROR = "internal_error"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were turned away within an hour, all for the same reason. Nothing in it is a sender's."""

    hour: datetime
    provider: str  # a known one, or "unknown"
    status: int
    reason: RefusalReason
    scheme: str  # of the signature that was looked at, as ``Signing`` has it, or NO_SCHEME
    count: int
    first_at: datetime
    last_at: datetime


class RefusalFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which refusals; what is left out lets everything pass."""

    provider: str | None = None
    reason: RefusalReason | None = None
    since: datetime | None = None
    until: datetime | None = None


class RefusalPage(msgspec.Struct, frozen=True, kw_only=True):
    """Refusals, those of the latest hour first, and the cursor behind the last."""

    refusals: tuple[Refusal, ...]
    next_cursor: str | None


class MarkKind(StrEnum):
    """What happened once, and may be why a plot changes there."""

    VERSION = "version"  # a version was started for the first time
    SETTINGS = "settings"  # a service was started with other settings
    SINK_DOWN = "sink_down"
    SINK_BACK = "sink_back"
    PROVIDER_DOWN = "provider_down"
    PROVIDER_BACK = "provider_back"
    REPLAY_BEGUN = "replay_begun"
    REPLAY_ENDED = "replay_ended"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """One of these: ``what`` is a version, names of settings, a sink, a provider or a replay's id."""

    at: datetime
    kind: MarkKind
    what: str
