"""Callbacks, reports, submissions, deliveries, events and tasks: frozen, keyword-only, without behaviour.

All times are aware UTC. All ids are text with a prefix that tells what they name (``sub_``, ``dlv_``,
``evt_``, ``out_``, ``rpl_``).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from receiver.models.spending import Cost, CostSum
from receiver.models.states import (
    AlertChange,
    AssetState,
    EventType,
    OutboxState,
    Outcome,
    Proof,
    ReportState,
    Signing,
    SinkOrder,
    SinkTest,
    TaskState,
    Verdict,
    Via,
)

MAX_URL_LENGTH = 8192  # of a link that is followed, in characters

T = TypeVar("T")

# --- what comes in --------------------------------------------------------------------------------


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request at the providers' door, not yet verified: nothing in it may be believed."""

    provider: str
    token: str | None
    body: bytes
    headers: Mapping[str, str]  # names in lower case
    received_at: datetime


def _no_key(signature: bytes, message: bytes) -> bool:  # noqa: ARG001 - the type of what fits
    return False


class SigningKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What the signature of one provider's callback is checked with: one of the two."""

    secrets: tuple[str, ...] = ()  # several while one replaces another
    fits: Callable[[bytes, bytes], bool] = _no_key  # whether any public key made (signature, message)

    def __repr__(self) -> str:
        return "SigningKeys(...)"  # so that no log and no traceback shows them


class VerifiedCallback(msgspec.Struct, frozen=True, kw_only=True):
    """A callback whose token or signature was checked. Made by ``ingest.verify`` and nowhere else."""

    provider: str
    proof: Proof
    submission_id: str | None  # only a submission token names one
    body: bytes
    received_at: datetime


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """A link that a provider says holds a result. ``kind`` is its word: image, video, audio, model.

    A result that stands in the document itself, as base64, is a ``data:`` URL of it.
    """

    url: str
    kind: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider's document says, in our words; the result of parsing, free of side effects."""

    task_id: str | None
    state: ReportState
    files: tuple[RemoteFile, ...] = ()
    is_fileless: bool = False  # completed, and what the provider sold is no file: lyrics, a persona
    error_code: str | None = None  # the provider's own
    error_message: str | None = None  # the provider's own
    provider_state: str | None = None  # the state as the provider spelled it
    note: str | None = None  # for UNCLEAR: what was not understood
    credits: str | None = None  # for COMPLETED: how many of its own the provider says it took, decimal


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
    signing: Signing = Signing.NONE  # with what ``verify`` works; where it is NONE, it is not asked
    tells_all: bool = True  # False: a callback has one result of several, or none: it counts once it is asked
    signs_body: bool = True  # False: the signature says who sent it, and nothing of what is in the body
    keys_url: str | None = None  # where its public keys are, as it documents it
    key_header: str = "Authorization"  # in which our key goes to it
    key_prefix: str = "Bearer "  # what stands before the key there


class StatusRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How to ask a provider about one task: a GET on ``path`` below its base URL, or a POST of ``body``."""

    path: str
    query: Mapping[str, str] = {}
    otherwise: "StatusRequest | None" = None  # where to ask next if no such task is known there (404)
    # Where the files are, if the answer says that the task completed and names none. Both are read as one
    # document, ``{"answer": ..., "results": ...}``, whatever status the second has that is about the task.
    results: "StatusRequest | None" = None
    body: object = None  # as JSON
    headers: Mapping[str, str] = {}  # besides our key
    # For answers that hold what was made. One of more bytes than others may have is kept only until its files
    # are stored.
    most_bytes: int = 0


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
    withdrawn_at: datetime | None = None  # while it was unbound; a callback to it counts all the same
    traceparent: str | None = None  # where its trace goes on (W3C Trace Context)
    key: str | None = None  # a hash of what its caller named the reservation by


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
    """Tries in a row that ended alike; ``target`` is ``asset 0`` or ``sink jsonl``."""

    target: str
    number: int  # the last one's
    times: int
    outcome: Outcome
    started_at: datetime  # the first
    last_started_at: datetime
    seconds: float  # the last one's
    detail: str | None  # the last one's


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
    outcome: Outcome | None  # of the last try
    detail: str | None  # and what it said
    due_at: datetime
    settled_at: datetime | None


MOST_SHOWN = 500  # deliveries, notifications and attempts of a task, of each


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a task's history is not shown: it lies between the first of each kind and the others."""

    deliveries: int = 0
    notifications: int = 0
    attempts: int = 0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task with its history: what ``GET /tasks/{provider}/{task_id}`` shows.

    Of deliveries, notifications and attempts it has the first and the newest, the oldest first.
    """

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
    left_out: LeftOut
    cost: Cost | None = None  # where it was ordered through the gateway


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


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One message as a sink gets it. Equal ``dedupe_key`` means: the consumer has seen it."""

    event_id: str  # its CloudEvents id, which names the revision, too: a retry and a replay repeat it
    dedupe_key: str  # event, revision and replay: a retry repeats it, a replay does not
    type: EventType | SinkTest | AlertChange
    subject: str
    body: bytes  # application/cloudevents+json
    traceparent: str | None = None  # for the transport's header, where it has any


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Which events one sink wants, and in which order. An empty set wants all."""

    sink: str
    providers: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    order: SinkOrder = SinkOrder.NONE

    def wants(self, provider: str, event_type: str, owner: str) -> bool:
        """Whether this sink is told of such an event."""
        return (
            (not self.providers or provider in self.providers)
            and (not self.types or event_type in self.types)
            and (not self.owners or owner in self.owners)
        )


# --- what is asked --------------------------------------------------------------------------------


class TaskReference(msgspec.Struct, frozen=True, kw_only=True):
    """Ids that lead to a task. Several of them must all lead to the same."""

    task_id: str | None = None  # the provider's: another provider may have the same
    submission_id: str | None = None
    event_id: str | None = None  # or ``<event id>.<revision>``
    delivery_id: str | None = None
    notification_id: str | None = None


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks a list shows. Times compare with when the task was submitted.

    ``owners`` are those whose tasks may be told of, or how their names begin where they end in ``*``; none is
    every owner. They go with a ``reference``: it leads to few tasks, whosever they are.
    """

    provider: str | None = None
    state: TaskState | None = None
    owner: str | None = None
    owners: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    reference: TaskReference | None = None
    metadata: Mapping[str, str] = {}  # only by keys of ``StoreOptions.metadata_keys``


class SubmissionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which submissions a list shows. Times compare with when each was logged."""

    provider: str | None = None
    owner: str | None = None
    bound: bool | None = None  # with a task, or without
    since: datetime | None = None
    until: datetime | None = None


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, newest first, and where the next part begins.

    It may be shorter than was asked for, or empty, and still have one after it: how much is looked through
    for a page is bounded.
    """

    tasks: tuple[TaskSummary, ...]
    next_cursor: str | None
    looked_to: datetime | None = None  # of a page for people: when the last that was looked at was logged


class HistoryPage(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Part of a task's history, newest first, and where the next part begins."""

    rows: tuple[T, ...]
    next_cursor: str | None


class SubmissionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, newest first, and where the next part begins."""

    submissions: tuple[Submission, ...]
    next_cursor: str | None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts for people and gauges: how much there is of everything, and how old the oldest is."""

    submissions: int
    tasks: Mapping[str, int]  # by TaskState
    deliveries: Mapping[str, int]  # by Verdict
    assets: Mapping[str, int]  # by AssetState
    linked: int  # of the stored ones: without a copy of their own
    outbox: Mapping[str, Mapping[str, int]]  # by sink, then OutboxState
    oldest_undelivered_at: datetime | None
    oldest_undownloaded_at: datetime | None
    next_deadline_at: datetime | None  # of an asset still to be downloaded
    unbound: Mapping[str, int]  # reservations that no task was bound to, by age: under_1h, under_24h, older
    polls: Mapping[str, Mapping[str, int]]  # tasks without an end, by provider, then last outcome or "never"
    unknown_orders: Mapping[str, int] = {}  # through the gateway, without an answer, by the same ages
    oldest_waiting_at: Mapping[str, datetime] = {}  # the oldest event that waits for each sink
    costs: Sequence[CostSum] = ()  # of orders with a price, by provider and model
    wal_bytes: int | None = None  # the write-ahead log, where the record is a file that has one


class ServerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What of a database server, and of the way to it, people should know."""

    weaknesses: list[str]  # settings that may lose what was answered with 200
    seconds_behind: float  # this machine's clock behind the server's; 0.0 where they agree
    is_pooled: bool  # a pooler is between, and lets nobody listen


class RecordCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of the record that was found sound, and how much is in it."""

    bytes: int
    submissions: int
    deliveries: int
    events: int
    stored: int  # files
    unfetched: int  # files
    undelivered: int  # outbox entries


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """What a program that copies the record elsewhere, change by change, has left beside it."""

    program: str
    behind_seconds: float  # from the newest change that it took to the last one of the record
    unsent_seconds: float  # since it took the oldest change that it still has here


class TableCopy(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the record that was moved and read back the same, and how much is in it."""

    name: str
    rows: int
    bytes: int  # of the rows as MessagePack, in the order of the primary key
    sha256: str  # of these bytes
