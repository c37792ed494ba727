"""The values that pass between modules: frozen, keyword-only, without behaviour of their own.

All times are aware UTC. All ids are text with a prefix that tells what they name (``sub_``, ``dlv_``,
``evt_``, ``out_``, ``rpl_``).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

# --- states and outcomes: one word each, the same in code, database, log, metric and README ---------


class Via(StrEnum):
    """How a result reached us."""

    CALLBACK = "callback"
    POLL = "poll"


class Proof(StrEnum):
    """What showed that a callback is authentic, from strongest to weakest."""

    SUBMISSION = "submission"  # a token made for one submission
    SIGNATURE = "signature"  # the provider signed the raw bytes
    PROVIDER = "provider"  # the one token per provider
    NONE = "none"  # untokened, and the operator allows that
    POLL = "poll"  # we asked the provider ourselves


class Verdict(StrEnum):
    """What a delivery turned out to be."""

    ACCEPTED = "accepted"  # the first terminal state of an owned task
    DUPLICATE = "duplicate"  # says what is known already
    PROGRESS = "progress"  # a known state that ends nothing
    EARLY = "early"  # authentic, but its submission is not in the log yet
    CONFLICT = "conflict"  # contradicts the terminal state that came first
    UNRECOGNISED = "unrecognised"  # authentic, but not understood; kept raw
    UNCONFIRMED = "unconfirmed"  # an end, but on weak proof: counts once the provider has confirmed it
    REFUSED = "refused"  # a submission's token used for another task
    UNOWNED = "unowned"  # was early, and no submission ever came


class ReportState(StrEnum):
    """What a provider's document says about its task."""

    PROGRESS = "progress"
    COMPLETED = "completed"
    FAILED = "failed"
    UNCLEAR = "unclear"  # not understood: never treated as an end


class TaskState(StrEnum):
    """Where a task stands, as a backend sees it."""

    SUBMITTED = "submitted"  # no terminal result yet
    FETCHING = "fetching"  # ended at the provider; files still to come
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"


class EventType(StrEnum):
    """What consumers are told, and the CloudEvents ``type``."""

    COMPLETED = "task.completed"
    PARTIAL = "task.partial"
    FAILED = "task.failed"


class AssetState(StrEnum):
    """Where one file stands."""

    PENDING = "pending"
    STORED = "stored"
    FAILED = "failed"


class OutboxState(StrEnum):
    """Where one event stands on its way to one sink."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class Confirm(StrEnum):
    """Which callbacks count only once the provider has confirmed them, where it can be asked."""

    WEAK = "weak"  # those that came by a mere provider token, or untokened
    ALWAYS = "always"
    NEVER = "never"


class Stage(StrEnum):
    """What a replay does again."""

    NOTIFY = "notify"  # send events to the sinks
    FETCH = "fetch"  # download files that could not be had
    REPROCESS = "reprocess"  # read kept raw deliveries with today's adapter
    POLL = "poll"  # ask the provider about tasks that have not ended


class ReplayState(StrEnum):
    """Where a replay stands."""

    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


class Outcome(StrEnum):
    """How one attempt at an asset, at a sink or at a provider ended. The README explains each in a line."""

    # good ends
    STORED = "stored"
    DELIVERED = "delivered"
    # what a provider said when it was asked about a task
    ANSWERED = "answered"
    IN_PROGRESS = "in_progress"
    UNKNOWN_TASK = "unknown_task"
    UNREADABLE = "unreadable"
    KEY_REFUSED = "key_refused"
    OUT_OF_CREDIT = "out_of_credit"
    NO_MODEL = "no_model"
    # the link or its host is not acceptable
    BAD_URL = "bad_url"
    PRIVATE_ADDRESS = "private_address"
    HOST_NOT_ALLOWED = "host_not_allowed"
    BAD_REDIRECT = "bad_redirect"
    # the network or the other side failed
    DNS_FAILED = "dns_failed"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    TOO_SLOW = "too_slow"
    INTERRUPTED = "interrupted"
    RATE_LIMITED = "rate_limited"
    HTTP_ERROR = "http_error"
    GONE = "gone"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    # the bytes are not what they should be
    TOO_LARGE = "too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    # our own side
    STORAGE_FAILED = "storage_failed"
    CRASHED = "crashed"
    # ends of a task that no single attempt explains
    NO_FILES = "no_files"
    LOST = "lost"


# --- what comes in --------------------------------------------------------------------------------


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request at the providers' door, not yet verified: nothing in it may be believed."""

    provider: str
    token: str | None
    body: bytes
    headers: Mapping[str, str]  # names in lower case
    received_at: datetime


class VerifiedCallback(msgspec.Struct, frozen=True, kw_only=True):
    """A callback whose token or signature was checked. Made by ``ingest.verify`` and nowhere else."""

    provider: str
    proof: Proof
    submission_id: str | None  # only a submission token names one
    body: bytes
    received_at: datetime


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """A link that a provider says holds a result. ``kind`` is its word: image, video, audio, model."""

    url: str
    kind: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider's document says, in our words; the result of parsing, free of side effects."""

    task_id: str | None
    state: ReportState
    files: tuple[RemoteFile, ...] = ()
    error_code: str | None = None  # the provider's own
    error_message: str | None = None  # the provider's own
    provider_state: str | None = None  # the state as the provider spelled it
    note: str | None = None  # for UNCLEAR: what was not understood


class ProviderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a provider, as data. Sources stand in the provider's own module."""

    name: str  # as in paths, settings and columns
    title: str  # as people write it
    base_url: str  # of its API
    pushes: bool  # whether it sends callbacks at all
    callback_rules: str  # what it asks of a callback URL, and how it retries, in one sentence
    link_life_seconds: int  # how long its result links live; an assumption where not documented
    first_poll_seconds: int  # the usual time of a task
    poll_spacing_seconds: int
    polls_per_minute: int
    signs: bool = False  # whether ``verify`` can ever say yes; without, it is not asked


class StatusRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How to ask a provider about one task: a GET on ``path``, below its base URL."""

    path: str
    query: Mapping[str, str] = {}


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one ``Store.record`` needs."""

    provider: str
    via: Via
    proof: Proof
    submission_id: str | None  # the one that the token names
    body: bytes
    digest: str  # of the body: what makes a repeat a repeat
    fingerprint: str  # of what the report says; equal for two bodies that mean the same
    report: Report
    received_at: datetime
    links_die_at: datetime


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a delivery; the body of the 200."""

    status: Verdict
    task_id: str | None


# --- what is kept ---------------------------------------------------------------------------------


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """Our record that we asked for a task: the proof of ownership."""

    id: str
    provider: str
    owner: str
    task_id: str | None
    model: str | None
    request: object | None
    metadata: Mapping[str, object]
    created_at: datetime
    bound_at: datetime | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One callback or poll answer as it was kept; repeats raise ``seen``."""

    id: str
    via: Via
    proof: Proof
    verdict: Verdict
    provider_state: str | None
    note: str | None
    bytes: int
    seen: int
    received_at: datetime
    last_seen_at: datetime


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One file named by an event."""

    index: int
    state: AssetState
    kind: str
    outcome: Outcome | None
    attempts: int
    deadline_at: datetime
    key: str | None
    media_type: str | None
    bytes: int | None
    width: int | None
    height: int | None
    sha256: str | None
    settled_at: datetime | None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's end means. ``type`` and ``ended_at`` are unset until its last asset settles."""

    id: str
    provider: str
    task_id: str
    submission: Submission
    via: Via
    received_at: datetime
    type: EventType | None
    ended_at: datetime | None
    revision: int
    error_code: str | None
    error_message: str | None
    assets: tuple[Asset, ...]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at an asset or at a sink; ``target`` is ``asset 0`` or ``sink jsonl``."""

    target: str
    number: int
    outcome: Outcome
    started_at: datetime
    seconds: float
    detail: str | None


class Poll(msgspec.Struct, frozen=True, kw_only=True):
    """How far asking a provider about a task that has not ended has come."""

    asked: int  # times so far
    outcome: Outcome | None  # of the last
    detail: str | None
    asked_at: datetime | None
    due_at: datetime  # when to ask next


class OutboxEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one sink."""

    id: str
    sink: str
    state: OutboxState
    revision: int
    replay_id: str | None
    attempts: int
    outcome: Outcome | None
    due_at: datetime
    settled_at: datetime | None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task with its whole history: what ``GET /tasks/{provider}/{task_id}`` shows."""

    provider: str
    task_id: str
    state: TaskState
    waiting_on: str | None
    submission: Submission
    event: Event | None
    poll: Poll | None  # while it has no event
    deliveries: tuple[Delivery, ...]
    notifications: tuple[OutboxEntry, ...]
    attempts: tuple[Attempt, ...]


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a task list."""

    provider: str
    task_id: str
    state: TaskState
    owner: str
    model: str | None
    submission_id: str
    submitted_at: datetime
    ended_at: datetime | None
    assets_stored: int
    assets_total: int


# --- what is leased and settled -------------------------------------------------------------------


class AssetWork(msgspec.Struct, frozen=True, kw_only=True):
    """A leased asset. ``lease`` must still be on the row when the work is settled."""

    event_id: str
    provider: str
    task_id: str
    index: int
    url: str
    kind: str
    attempt: int  # this one's number, from 1
    deadline_at: datetime
    model: str | None
    renewed: bool  # its link was asked for anew already
    replay_id: str | None
    lease: str


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished download is: the facts a consumer gets."""

    key: str
    media_type: str
    bytes: int
    width: int | None
    height: int | None
    sha256: str


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended, and what follows: done, again at ``retry_at``, or never.

    ``links`` are the event's files as its provider names them now, in order: the asset's own link is
    replaced by its own there, and so are those of the event's other files that wait.
    """

    outcome: Outcome
    started_at: datetime
    settled_at: datetime
    retry_at: datetime | None = None
    detail: str | None = None
    file: StoredFile | None = None
    links: tuple[str, ...] = ()
    links_die_at: datetime | None = None


class PollWork(msgspec.Struct, frozen=True, kw_only=True):
    """A leased question: how did this task end?"""

    submission_id: str
    provider: str
    task_id: str
    model: str | None
    submitted_at: datetime
    attempt: int  # this one's number, from 1
    held: bool  # a callback waits for the answer
    replay_id: str | None
    lease: str


class OutboxWork(msgspec.Struct, frozen=True, kw_only=True):
    """A leased outbox entry with everything its message is made of."""

    id: str
    sink: str
    attempt: int  # this one's number, from 1
    created_at: datetime
    revision: int
    replay_id: str | None
    event: Event
    lease: str


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One message as a sink gets it. Equal ``dedupe_key`` means: the consumer has seen it."""

    event_id: str
    dedupe_key: str  # event, revision and replay: a retry repeats it, a replay does not
    type: EventType
    subject: str
    body: bytes  # application/cloudevents+json


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Which events one sink wants. An empty set wants all."""

    sink: str
    providers: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()

    def wants(self, provider: str, event_type: str, owner: str) -> bool:
        """Whether this sink is told of such an event."""
        return (
            (not self.providers or provider in self.providers)
            and (not self.types or event_type in self.types)
            and (not self.owners or owner in self.owners)
        )


# --- what is asked --------------------------------------------------------------------------------


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks a list shows. Times compare with when the task was submitted."""

    provider: str | None = None
    state: TaskState | None = None
    owner: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class WorkFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay or a requeue applies to; unset fields let everything pass.

    ``since`` and ``until`` compare with when the task was submitted (``poll``), its result came
    (``fetch``, ``reprocess``) or its event ended (``notify``, dead letters).
    """

    provider: str | None = None
    owner: str | None = None
    state: TaskState | None = None
    type: EventType | None = None
    since: datetime | None = None
    until: datetime | None = None
    task_ids: tuple[str, ...] = ()


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A durable job that does a stage again for everything that matched when it was asked for.

    It looks at one match after the other, and queues what there is to do: notifications, files, polls.
    ``results`` counts by outcome what has settled. It is done when all is looked at and settled.
    """

    id: str
    stage: Stage
    filter: WorkFilter
    sinks: tuple[str, ...]  # for notify; empty: every sink that wants the event
    rate: float | None  # matches a second; None: as fast as they settle
    state: ReplayState
    requested_by: str
    created_at: datetime
    finished_at: datetime | None
    matched: int
    looked_at: int
    queued: int
    settled: int
    results: Mapping[str, int]


class ReplayWork(msgspec.Struct, frozen=True, kw_only=True):
    """A replay whose next step is due; ``lease`` must still be on its row when the step is made."""

    replay: Replay
    lease: str


class KeptDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A raw delivery that was not understood when it came."""

    number: int
    recording: Recording  # as it came; its report is still to be read again


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A notification that was given up."""

    id: str
    sink: str
    event_id: str
    provider: str
    task_id: str
    owner: str
    type: EventType
    revision: int
    replay_id: str | None
    attempts: int
    outcome: Outcome
    detail: str | None  # of the last attempt
    created_at: datetime
    settled_at: datetime


class DeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, newest first, and where the next part begins."""

    dead_letters: tuple[DeadLetter, ...]
    next_cursor: str | None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, newest first, and where the next part begins."""

    tasks: tuple[TaskSummary, ...]
    next_cursor: str | None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts for people and gauges: how much there is of everything, and how old the oldest is."""

    submissions: int
    tasks: Mapping[str, int]  # by TaskState
    deliveries: Mapping[str, int]  # by Verdict
    assets: Mapping[str, int]  # by AssetState
    outbox: Mapping[str, Mapping[str, int]]  # by sink, then OutboxState
    oldest_undelivered_at: datetime | None
    oldest_undownloaded_at: datetime | None
    next_deadline_at: datetime | None  # of an asset still to be downloaded
    polls: Mapping[str, Mapping[str, int]]  # tasks without an end, by provider, then last outcome or "never"


def to_text(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and ``Z``; sorts as text in the order of time."""
    if moment.tzinfo is not UTC:  # ours always are, and converting costs more than writing
        moment = moment.astimezone(UTC)
    text: str = msgspec.to_builtins(moment)  # five times as fast as isoformat; leaves a zero fraction out
    return f"{text[:23]}Z" if len(text) == 27 else f"{text[:19]}.000Z"


def from_text(text: str) -> datetime:
    """The inverse of ``to_text``; takes any RFC 3339 text. Raises ValueError without a zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; end it with Z for UTC")
    return moment.astimezone(UTC)
