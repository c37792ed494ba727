"""The four seams: Provider, Store, BlobStore and Sink, and what each one promises.

``FileRecord`` is what a Store can do besides where the record is a file that people back up with us,
``ServerRecord`` where it is in a server that they back up by themselves, ``SharedRecord`` where several
processes share it, ``MovableRecord`` where all of it can be moved to another store that can.

An implementation is one class in one file, found by name or URL scheme (see ``plugins``). Driver errors
are translated inside it, ``from exc``; only the exceptions named here come out. Whoever opened a part
closes it, once, and calls nothing on it afterwards.
"""

from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, Self, runtime_checkable

from receiver.clock import Clock
from receiver.models import (
    NO_LOAD,
    Alert,
    AnnouncedPage,
    Asset,
    AssetWork,
    Attempt,
    AuditEntry,
    AuditFilter,
    AuditPage,
    AuditRow,
    Backlog,
    Budget,
    BudgetPeriod,
    BudgetScope,
    BudgetStanding,
    Callback,
    CostBy,
    CostFilter,
    CostSum,
    DeadLetterPage,
    Delivery,
    Event,
    FetchLoad,
    FileRow,
    FoundDead,
    GatewayToken,
    HistoryPage,
    KeptBody,
    KeptDelivery,
    Lane,
    LaneClaim,
    Mark,
    Matches,
    Moved,
    NewOrder,
    Notification,
    OddDelivery,
    OddPage,
    OpenTask,
    Order,
    OrderEnd,
    OrderFacts,
    OrderFilter,
    OrderPage,
    OutboxEntry,
    OutboxWork,
    PollWork,
    ProviderFacts,
    Receipt,
    RecordCopy,
    Recording,
    Refusal,
    RefusalFilter,
    RefusalPage,
    RelayWork,
    Replay,
    ReplayState,
    ReplayWork,
    Replica,
    Report,
    Route,
    Sample,
    SeriesRead,
    SeriesWanted,
    ServerSeen,
    Session,
    Settlement,
    SigningKeys,
    Stage,
    Stats,
    StatusRequest,
    Submission,
    SubmissionFilter,
    SubmissionPage,
    TableCopy,
    Tally,
    Task,
    TaskFilter,
    TaskKey,
    TaskPage,
    TaskStanding,
    Verdict,
    WorkFilter,
)
from receiver.options import PluginOptions, StoreOptions

NO_AHEAD: Mapping[str, int] = {}
Due = Literal["assets", "outbox", "polls", "held", "replays"]


class Provider(Protocol):
    """Who calls us. Stateless and pure: facts as data, parsing as a function."""

    facts: ProviderFacts

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        """Whether the raw bytes carry this provider's own valid signature. Never raises.

        Asked only where ``facts.signing`` is not NONE and the operator has set what it is checked with. The
        parts that most schemes are made of are in ``receiver.signing``.
        """

    def parse(self, document: object) -> Report:
        """What a decoded document says, a status answer's or a callback's. Never raises.

        It is JSON, or of a callback that is a form its fields, which are text (see ``forms``).
        Unknown fields are passed over, missing ones tolerated. What is not understood is a Report in
        state UNCLEAR with a ``note``, never a guess: an unknown state is not a failure.
        """

    def status_request(self, task_id: str, model: str | None) -> StatusRequest | None:
        """How to ask about a task; None where that needs a model and none is known."""


@runtime_checkable
class OrderProvider(Provider, Protocol):
    """What a provider offers besides, where clients may order from it through the gateway."""

    orders: OrderFacts


class ReplayStore(Protocol):
    """Replays as durable jobs. Each method is one transaction, as ``Store`` says it.

    A step is found in one method and made in another, for looking may take long and callbacks wait behind
    what writes. Between the two anything may happen: whoever makes the step looks again at what was found.
    """

    async def count_matches(self, stage: Stage, wanted: WorkFilter, asked_at: datetime) -> int:
        """How much a replay that is asked for at ``asked_at`` matches, for people to read.

        Added up from several short reads: what changes meanwhile may be counted as it was or as it is.
        """

    async def start_replay(self, replay: Replay, audit: AuditEntry | None = None) -> Replay:
        """Keep a new replay, with its count as it is; it will touch nothing that comes later.

        Where one has its id, that is given back as it is, whatever it is about, and nothing is changed.
        """

    async def tally_matches(
        self, stage: Stage, wanted: WorkFilter, asked_at: datetime, most_seconds: float
    ) -> Tally:
        """What ``count_matches`` counts, in parts, and no longer than so many seconds."""

    async def lease_replays(
        self, now: datetime, lease_until: datetime, limit: int, *, ahead: Mapping[str, int] = NO_AHEAD
    ) -> list[ReplayWork]:
        """Take up to ``limit`` running replays whose next step is due.

        A replay with more than a thousand unsettled pieces, or what ``ahead`` says of its id where that is
        more, is postponed; a notify replay only when every sink that it may address has so many waiting. A
        replay that is done is handed out once more, so that its end is told, and a cancelled one as long as
        there is something to take back.
        """

    async def find_matches(self, work: ReplayWork, limit: int) -> Matches:
        """The next ``limit`` matches of a notify, fetch or poll replay, or fewer.

        None with the lease lost.
        """

    async def step_replay(self, work: ReplayWork, matches: Matches, now: datetime, next_at: datetime) -> bool:
        """Queue what the matches need that ``find_matches`` found last for this lease.

        Each is looked at again in this transaction: one that matches no more by now is passed over. It is due
        again at ``next_at``. The cursor moves in the same transaction, so a crash repeats nothing.
        """

    async def list_kept(self, work: ReplayWork, limit: int) -> list[KeptDelivery]:
        """The next matches of a reprocess replay; none where there are no more, or the lease is lost."""

    async def reprocess(
        self, work: ReplayWork, read: Sequence[KeptDelivery], now: datetime, next_at: datetime
    ) -> bool:
        """Apply kept deliveries whose reports were read anew, and move the cursor behind them.

        One that was judged since ``list_kept`` keeps that verdict, and counts as such. With an empty ``read``
        the replay has looked at everything.
        """

    async def change_replay(
        self, replay_id: str, state: ReplayState, now: datetime, audit: AuditEntry | None = None
    ) -> Replay:
        """Pause, resume (``running``) or cancel.

        A cancelled one queues nothing more at once, and what it queued is leased no more. Some hundred pieces
        that nobody holds are taken back now, the others by ``withdraw_pieces``.

        Raises Rejected: UNKNOWN_REPLAY, or REPLAY_ENDED for one that has ended.
        """

    async def withdraw_pieces(self, work: ReplayWork, now: datetime, lease_until: datetime) -> bool:
        """Take back some hundred more pieces of a cancelled replay; whether there are more.

        Then the lease goes on until ``lease_until``.
        """

    async def get_replay(self, replay_id: str) -> Replay | None: ...

    async def list_replays(self, limit: int) -> list[Replay]:
        """The newest replays."""


class DeadLetterStore(Protocol):
    """What sinks did not get: dead letters, and entries of sinks that are not set any more.

    Each method is one transaction, as ``Store`` says it. What is found in one and changed in another is
    looked at again there.
    """

    async def list_dead(
        self, wanted: WorkFilter, sink: str | None, limit: int, cursor: str | None
    ) -> DeadLetterPage:
        """A page of dead letters; Rejected (BAD_CURSOR) for a cursor that is not ours."""

    async def count_dead(
        self, wanted: WorkFilter, sinks: Sequence[str], died_by: datetime | None = None
    ) -> int:
        """How many dead letters a requeue would revive; no ``sinks`` means every one.

        Added up from several short reads, as ``ReplayStore.count_matches`` is.
        """

    async def tally_dead(
        self, wanted: WorkFilter, sinks: Sequence[str], died_by: datetime, most_seconds: float
    ) -> Tally:
        """What had died by then, in parts, and counted no longer than so many seconds."""

    async def find_dead(
        self,
        wanted: WorkFilter,
        sinks: Sequence[str],
        limit: int,
        *,
        after: str | None = None,
        died_by: datetime | None = None,
    ) -> FoundDead:
        """Up to ``limit`` dead letters for ``revive_dead``, the oldest first, behind the cursor ``after``.

        With ``died_by`` those that had died by then, and neither were sent nor died again since.

        Raises Rejected (BAD_CURSOR) for a cursor that is not ours.
        """

    async def revive_dead(
        self,
        keys: Sequence[str],
        now: datetime,
        act: str | None = None,
        *,
        died_by: datetime | None = None,
    ) -> int:
        """Make those due again that are dead letters still, with all their time before them; how many.

        They are as if made now, so that the links in them live. ``act`` is the key of the entry in the audit
        that has done so many more then; here and in the two that move and drop.
        """

    async def count_unset_sinks(self) -> Mapping[str, Mapping[str, int]]:
        """What is undelivered at sinks that are not set any more, by sink, then OutboxState."""

    async def list_undelivered(self, sink: str, limit: int) -> list[str]:
        """The keys of up to ``limit`` entries of a sink that are pending or dead, for the two below.

        What is delivered, or is another sink's, by the time of those is left alone by them.
        """

    async def move_undelivered(
        self, entries: Sequence[str], sink: str, to: str, now: datetime, act: str | None = None
    ) -> Moved:
        """Give the entries of a sink to another one, due and as if made now.

        Those that the other one has (the same event, revision and replay, in whatever state) are dropped.
        """

    async def drop_undelivered(self, entries: Sequence[str], sink: str, act: str | None = None) -> int:
        """Forget those of the entries that are the sink's; how many."""

    async def move_dead(self, keys: Sequence[str], to: str, now: datetime, act: str | None = None) -> Moved:
        """Give those of ``find_dead`` that are dead letters still to another sink, due and as if made now.

        Those that the other one has (the same event, revision and replay, in whatever state) are dropped.
        """

    async def drop_dead(self, keys: Sequence[str], act: str | None = None) -> int:
        """Forget those that are dead letters still; how many."""


class SessionStore(Protocol):
    """Log-ins to the admin pages, the same for every process on the record; part of a Store."""

    async def open_session(self, session: Session, most: int, audit: AuditEntry | None = None) -> None:
        """Keep a new one. Of its token's others the newest stay, so that there are ``most`` in all."""

    async def note_seen(self, session_id: str, now: datetime) -> None:
        """Somebody asked for something with it."""

    async def end_sessions(self, ids: Sequence[str], audit: AuditEntry | None = None) -> int:
        """End these for good; how many of them there were."""

    async def end_all_sessions(self, now: datetime, audit: AuditEntry | None = None) -> int:
        """The same for every one there is, and for codes that could open more; how many were not over."""

    async def keep_code(
        self, code: str, token: str, expires_at: datetime, now: datetime, audit: AuditEntry | None = None
    ) -> None:
        """Let a code stand for a token once, both given by their hashes; or for another act of once."""

    async def use_code(self, code: str, now: datetime) -> str | None:
        """The hash of the token that a code stands for; None for one that is over, used up or unknown."""


class GatewayTokenStore(Protocol):
    """Tokens of the gateway, the same for every process on the record; part of a Store."""

    async def add_gateway_token(self, token: GatewayToken, audit: AuditEntry | None = None) -> bool:
        """Keep a new one; False, and nothing is kept, where its name was given before."""

    async def list_gateway_tokens(self) -> list[GatewayToken]:
        """All of them, the oldest first, with those that are over or revoked.

        Raises Unavailable where one cannot be read: it is not passed over.
        """

    async def revoke_gateway_token(self, name: str, now: datetime, audit: AuditEntry | None = None) -> bool:
        """Let nobody in by it any more; False where there is none of this name that was not revoked yet."""


class AuditStore(Protocol):
    """What people did by hand: who, when, by which door, why, and how much it touched; part of a Store.

    An act that is a write of the record is noted in that write's transaction, by its ``audit``: both are
    there or neither is. Nothing is noted where nothing was changed (it was so already), and where an entry
    with the same ``key`` is there; what a method counts becomes the entry's ``done``.

    For an act that is many writes, ``note_act`` comes first (``key`` set, ``done`` 0), each write raises
    ``done`` by its ``act``, and ``end_act`` comes last. For one that is none (a prompt is shown, a sink is
    sent a test), ``note_act`` comes first and the act only if it did not raise: what was not noted is not
    done. An entry is made by ``models.audit_entry`` of an ``Actor``, which the doors know.
    """

    async def note_act(self, entry: AuditEntry) -> bool:
        """Keep an entry; False where its ``key`` was there, and then that one stays as it is."""

    async def count_act(self, entry: AuditEntry) -> None:
        """Keep an entry; where its ``key`` was there, that one has ``done`` so many more."""

    async def end_act(self, key: str, result: str) -> AuditRow | None:
        """Say how an act ended that is many writes; its entry then."""

    async def get_act(self, key: str) -> AuditRow | None: ...

    async def list_audit(self, wanted: AuditFilter, limit: int, cursor: str | None) -> AuditPage:
        """A page of entries, the newest first; Rejected (BAD_CURSOR) for a cursor that is not ours."""


class TimeSeriesStore(Protocol):
    """What happened over time, for plots, and what was turned away. Each method is one transaction.

    Counters of minutes are added up, whoever of several processes counted; of a gauge the last is kept. Times
    are in seconds of Unix.
    """

    async def add_time_series(
        self, samples: Sequence[Sample], refusals: Sequence[Refusal], marks: Sequence[Mark] = ()
    ) -> None:
        """Add what was counted since the last time: each sample and each refusal to its row, and marks.

        That a version was started is no mark where the one before it was the same.
        """

    async def list_aged_series(
        self, after: int, minutes_before: int, hours_before: int, limit: int
    ) -> list[int]:
        """The next series behind the number ``after`` that have minutes or hours from before these times."""

    async def sum_up_series(self, numbers: Sequence[int], minutes_before: int, hours_before: int) -> None:
        """Make hours of these series' minutes from before, which must end with one, and drop older hours."""

    async def forget_marks(self, before: datetime) -> None: ...

    async def list_refusals(self, wanted: RefusalFilter, limit: int, cursor: str | None) -> RefusalPage:
        """A page of what was turned away; Rejected (BAD_CURSOR) for a cursor that is not ours."""

    async def forget_refusals(self, before: datetime) -> None:
        """Drop the rows of hours that began before."""


class OrderStore(Protocol):
    """Orders that pass through the gateway; part of a Store. Each method is one transaction.

    An order's submission says whether it is bound, whoever bound it; then its state is ``bound``.
    """

    async def reserve_order(self, new: NewOrder) -> tuple[Order, bool]:
        """Keep a submission and its order, which is being sent from now on; (order, True).

        Where its guard has another that was sent since ``guard_since``, (that one, False): nothing is kept.
        Whoever reserved it and is gone leaves it ``unknown``, as what was leased (see ``Store``).
        """

    async def settle_order(self, submission_id: str, end: OrderEnd, now: datetime) -> tuple[Order, bool]:
        """Keep how sending a reserved order ended; the order as it is now, and whether anything may be due.

        It may be where what had come for its task before has found its owner by this.

        One that is bound gets its task, unless it has one already (then both are kept) or another submission
        has that; one that is refused or unsent is withdrawn.
        """

    async def sweep_orders(self, now: datetime, lost_before: datetime, limit: int) -> int:
        """Make unknown what nobody can still be sending, and unresolved what was sent before ``lost_before``.

        Those that were bound by something else than their answer are noted as bound.

        Up to ``limit`` of each; how many there were of the more frequent.
        """

    async def lease_relays(self, now: datetime, lease_until: datetime, limit: int) -> list[RelayWork]:
        """Take up to ``limit`` callers' URLs that are due to be told; an attempt is counted now.

        A lease that ran out makes the work due again.
        """

    async def settle_relay(self, submission_id: str, outcome: str, retry_at: datetime | None) -> None:
        """Keep how telling ended; without ``retry_at`` it is over."""

    async def get_order(self, submission_id: str) -> Order | None: ...

    async def list_orders(self, wanted: OrderFilter, limit: int, cursor: str | None) -> OrderPage:
        """A page of orders, the newest first; Rejected (BAD_CURSOR) for a cursor that is not ours."""

    async def get_standing(self, provider: str, task_id: str) -> TaskStanding | None:
        """What a status document of a task is made of; None where nobody logged it."""


class CostStore(Protocol):
    """What orders cost, and the budgets that bound it; part of a Store. Each method is one transaction.

    An order's price is held by ``reserve_order`` and settled by whatever ends the order or its task.
    """

    async def sum_costs(self, wanted: CostFilter, by: Sequence[CostBy], limit: int) -> list[CostSum]:
        """Sums of the orders that are wanted: one of all, or one for each that ``by`` tells apart.

        They come in the order of day, owner, provider, model and token.
        """

    async def set_budget(self, budget: Budget, audit: AuditEntry | None = None) -> BudgetStanding:
        """Keep a budget, in the place of the one of its scope, name and period; how it stands.

        What its present period has used already counts.
        """

    async def remove_budget(
        self, scope: BudgetScope, name: str, period: BudgetPeriod, audit: AuditEntry | None = None
    ) -> bool:
        """Forget a budget; whether there was one."""

    async def list_budgets(self, now: datetime) -> list[BudgetStanding]:
        """All budgets, and how much of the periods that run ``now`` is used."""


class PageReads(Protocol):
    """What the admin pages read of a Store, beside everything else and never for long.

    Each of these is a part of a page: it is read on threads that only pages have, is ended after a quarter of
    a second or when whoever asks leaves, and raises Unavailable then. What has the name of a method of the
    Store does the same.
    """

    async def sum_costs(self, wanted: CostFilter, by: Sequence[CostBy], limit: int) -> list[CostSum]: ...

    async def list_budgets(self, now: datetime) -> list[BudgetStanding]: ...

    async def get_session(self, session_id: str) -> Session | None:
        """One session, over or not."""

    async def list_sessions(self, now: datetime) -> list[Session]:
        """Those that are not over, the newest first, some hundreds at most."""

    async def list_tasks(self, wanted: TaskFilter, limit: int, cursor: str | None) -> TaskPage:
        """A page of tasks, found among 5,000 rows at most; ``looked_to`` says how far back that went."""

    async def find_tasks(self, beginning: str, limit: int) -> list[TaskKey]:
        """Some tasks whose providers' ids begin so, of each provider there is."""

    async def get_task(self, provider: str, task_id: str) -> Task | None: ...

    async def get_event(self, provider: str, task_id: str) -> Event | None: ...

    async def get_submission(self, submission_id: str) -> Submission | None: ...

    async def list_submissions(
        self, wanted: SubmissionFilter, limit: int, cursor: str | None
    ) -> SubmissionPage: ...

    async def list_examples(
        self, stage: Stage, wanted: WorkFilter, asked_at: datetime, limit: int
    ) -> list[TaskKey]:
        """Some of the tasks that a replay would be about that is asked for at that time, the newest first."""

    async def list_dead_examples(
        self, wanted: WorkFilter, sinks: Sequence[str], died_by: datetime, limit: int
    ) -> list[TaskKey]:
        """Some of the tasks that a requeue would be about, the newest first."""

    async def list_odd(self, verdict: Verdict, limit: int, cursor: str | None) -> OddPage:
        """A page of deliveries of a verdict by which they changed nothing, or nothing yet."""

    async def list_likely(
        self, provider: str, since: datetime, until: datetime, limit: int
    ) -> list[OddDelivery]:
        """Early callbacks of a provider that came in that time, of the newest 5,000 early ones."""

    async def count_odd(self, verdicts: Sequence[Verdict], most: int) -> dict[Verdict, int]:
        """How many deliveries there are of each of these verdicts; ``most`` stands for so many and more."""

    async def list_pending_files(self, limit: int) -> list[FileRow]:
        """Files that are still to be fetched, those whose links die first in front.

        How many wait is counted up to 5,000.
        """

    async def list_first_files(self, submission_ids: Sequence[str]) -> dict[str, list[Asset]]:
        """The stored ones among the first four files of each of these tasks, by their submissions' ids."""

    async def list_failures(self, submission_ids: Sequence[str]) -> dict[str, str | None]:
        """Of those that failed the provider's code, or else a file's outcome; None where there is neither."""

    async def list_dead(self, sink: str | None, limit: int, cursor: str | None) -> DeadLetterPage:
        """A page of dead letters, found among 5,000 of them at most."""

    async def count_dead_outcomes(self, sink: str | None, most: int) -> dict[str, int]:
        """What the newest ``most`` dead letters ended with, the most frequent first."""

    async def count_waiting_outcomes(self, sink: str, most: int) -> dict[str, int]:
        """What the last tries came to of ``most`` events that wait for a sink; '' for those not tried."""

    async def list_open_tasks(self, provider: str, limit: int) -> list[OpenTask]:
        """Tasks of a provider that have not ended, the oldest of the 5,000 that are asked about next."""

    async def list_bodies(self, provider: str, task_id: str, limit: int, most_bytes: int) -> list[KeptBody]:
        """What came last about a task, the newest first; without bodies that are larger."""

    async def list_replays(self, limit: int) -> list[Replay]: ...

    async def get_replay(self, replay_id: str) -> Replay | None: ...

    async def list_audit(self, wanted: AuditFilter, limit: int, cursor: str | None) -> AuditPage: ...

    async def read_series(
        self, wanted: Sequence[SeriesWanted], since: int, until: int, step: int
    ) -> list[list[SeriesRead]]:
        """The series of each that is wanted, from one time to another, in stretches of ``step`` seconds.

        What is kept by the hour only comes in stretches of an hour at least; of a stretch that is kept both
        ways in part there are two buckets.
        """

    async def list_marks(self, since: datetime, until: datetime, limit: int) -> list[Mark]:
        """The newest marks of that time, the latest first."""

    async def list_refusals(self, wanted: RefusalFilter, limit: int, cursor: str | None) -> RefusalPage: ...


class Store(
    ReplayStore,
    DeadLetterStore,
    SessionStore,
    GatewayTokenStore,
    AuditStore,
    TimeSeriesStore,
    OrderStore,
    CostStore,
    Protocol,
):
    """Where the record lives. Every method is one transaction; what returned has been fsynced.

    Those that count what may be a great deal, and ``list_kept``, read in several short transactions: what
    they say is of no one moment, and whatever is done about it looks again.

    Reads wait behind no other kind of read, and a list behind nobody who has left: cancelling one ends it.
    What lists and counts look through at a time is bounded, so that a page may be short, or empty, and have
    another after it. A cursor has at most ``tokens.SEALED_BYTES`` of ASCII and may say where a row lies, for
    callers get it sealed; an id may not, and is the same wherever the record is kept.

    Several processes may share one where its engine lets them (SQLite does not). A lease names its holder
    and ends by itself, whoever took it. Where rows are followed by a mark (``follow_deliveries``, ``purge``,
    cursors of lists and replays), no row may become visible behind a mark that has passed its place. With one
    writer places are given in the order of commits, and nothing needs to be done. An engine with several must
    give them so (by a lock around the commit), or let no mark pass the place of a transaction that is still
    open.
    """

    @classmethod
    async def open(cls, url: str, options: StoreOptions) -> Self:
        """Open what ``url`` names, bringing its schema up to date.

        Frees the leases of those who are certainly gone, and nobody else's: theirs run out. Raises
        Misconfigured when it is damaged, too new or not there to be had, and Unavailable when it is in use.
        """

    @classmethod
    async def pending_migrations(cls, url: str, data_dir: Path) -> list[str] | None:
        """What ``open`` would do to the schema now, which only a backup undoes; None where it would make it.

        Changes nothing, whoever has the record open. Raises what ``open`` raises.
        """

    async def record(self, recording: Recording) -> Receipt:
        """Keep a delivery and everything that follows from it, all or nothing.

        Ownership, verdict, event, pending assets or outbox entries are decided and written together.
        A repeat raises a counter; one that arrives while the first is uncommitted waits for it.
        Limits, for each token and task: a hundred bodies of each verdict, twenty results that wait,
        ten that are large. One more
        raises Unavailable where it may still count (early, unconfirmed, unrecognised), and is only counted
        otherwise. Deliveries without an owner (early and unrecognised, each verdict for itself) raise
        Unavailable beyond ``StoreOptions.early_limit``, and beyond a hundred that are large.
        An end that must be confirmed (``StoreOptions.confirms``) makes no event: it is held as
        ``unconfirmed``, and the task is due to be polled now. So is a success without files, which is no end
        before it was said for ten minutes, by the provider itself where it can be asked. Its sender is told
        nothing of that. The event of another delivery settles what is held: accepted where both say the same,
        conflict where not. A submission's token on a task that is not its own proves no more than the
        provider's; an early delivery is judged when it is matched.
        """

    async def log_submission(self, submission: Submission) -> tuple[Submission, bool]:
        """Keep a submission; (row, True) when new, (existing row, False) when logged before.

        "Before" means the same provider and task id; the caller compares the owner. Early deliveries
        of the task are matched in the same transaction. A reservation is also known by its ``key``: one
        that was withdrawn is new once more. Raises Rejected: KEY_REUSED where the key has another order.
        """

    async def bind_submission(
        self, submission_id: str, task_id: str, now: datetime, audit: AuditEntry | None = None
    ) -> Submission:
        """Tie a reserved submission to its task; the same task again changes nothing.

        Returns the row as it then is: when its ``task_id`` differs from the one asked for, it was
        bound before. Raises Rejected: UNKNOWN_SUBMISSION for an unknown id, TASK_TAKEN when another
        submission has the task. Early deliveries are matched in the same transaction.
        """

    async def withdraw_submission(
        self, submission_id: str, now: datetime, audit: AuditEntry | None = None
    ) -> Submission:
        """Note that the order of a reservation failed: nobody waits for its task. Again changes nothing.

        A callback to its URL binds it all the same, for then the order had not failed, and so does
        ``bind_submission``. Raises Rejected: UNKNOWN_SUBMISSION, or SUBMISSION_BOUND once it is bound.
        """

    async def lease_assets(
        self,
        now: datetime,
        lease_until: datetime,
        limit: int,
        *,
        retries_first: bool = False,
        load: FetchLoad = NO_LOAD,
    ) -> list[AssetWork]:
        """Take up to ``limit`` due assets; an attempt is counted now.

        Each is of the provider that has the fewest under way, ``load`` and what was taken before it, and in
        it of such a host; none is of one that has as many as it may have, or of a host that is not proven
        where its provider's of that kind have as many as they may. Among equals, and of one host,
        those that were tried less go first (three times and more is all the same), and of these the earliest
        deadline, as long as only some hundreds of a host that were tried before are due at once.
        ``retries_first`` keeps one place for those that were tried before, which would wait for ever where
        new ones never end. Where a provider's files are on dozens of hosts, one call considers some of them,
        and all that are proven.
        A lease that ran out makes the work due again, whoever held it.
        """

    async def settle_asset(self, work: AssetWork, settlement: Settlement) -> bool:
        """Record how a download ended. Without ``retry_at`` and ``file`` the asset has failed.

        One that our own storage failed, and that is made again, is not counted as an attempt: the next has
        its number.

        Settling an event's last asset ends the event and writes its outbox entries. An event that had
        ended and has more of its files now is sent again, its revision raised: to a sink that is told of it,
        nothing is sent any more of the revisions before, dead letters among them; but what people replay is.
        """

    async def find_copy(self, owner: str, sha256: str) -> str | None:
        """The key of a stored file of the same owner with these bytes; None where none is known.

        Known are the files that were settled with ``StoreOptions.link_copies``, of equal ones the newest.
        Outcome LINKED says of a file that it was stored under the key of such a one, or with its bytes.
        """

    async def lease_outbox(
        self, sink: str, now: datetime, lease_until: datetime, limit: int, *, newest_first: bool = False
    ) -> list[OutboxWork]:
        """Take up to ``limit`` due entries of one sink, those first that fell due first, or last.

        Each has its event as the entry's revision announced it, whatever its files have come to since.
        """

    async def settle_outbox_batch(
        self, ended: Sequence[tuple[OutboxWork, Settlement]]
    ) -> list[bool | Exception]:
        """Record how publishes ended: delivered, again at ``retry_at``, or dead.

        What came of each, in their order: False where the lease was lost. The one that cannot be settled
        hurts no other: in its place is Unavailable, or what else was wrong with it.
        """

    async def give_up_outbox(
        self, sink: str, created_before: datetime, settlement: Settlement, limit: int
    ) -> int:
        """Make dead letters of what was made before and nobody holds, as a try at the sink ended; how many.

        Of the ``limit`` entries that are due for longest: 0 when none of them is so old.
        """

    async def lease_polls(
        self, provider: str, now: datetime, lease_until: datetime, limit: int, *, held_only: bool = False
    ) -> list[PollWork]:
        """Take up to ``limit`` tasks of one provider that are due to be asked about.

        First those about which a callback waits for confirmation, then the others, each the oldest first.
        A task becomes due ``first_poll_seconds`` after it was logged with its id, or at once when a
        callback waits for confirmation. Those that have ended meanwhile are forgotten on the way.
        ``held_only``: no others than those about which something waits.
        """

    async def settle_poll(self, work: PollWork, settlement: Settlement) -> bool:
        """Record how a question ended: ask again at ``retry_at``, or never."""

    async def list_held(self, work: PollWork) -> list[KeptDelivery]:
        """What was held of a task and would not have to be confirmed if it came now, the oldest first."""

    async def judge_held(self, read: Sequence[KeptDelivery], now: datetime) -> bool:
        """Judge what was held of a task as if it came now, read anew; whether that ended the task."""

    async def follow_deliveries(self, now: datetime, limit: int) -> int:
        """Count up to ``limit`` new deliveries, and drop the polls of the tasks that they ended.

        Returns how many there were; 0 when nothing is left. Whoever leases polls drops those of ended tasks
        on the way, too: this is what drops them for providers that are not asked.
        """

    async def next_due_at(self, kind: Due, name: str = "", *, load: FetchLoad = NO_LOAD) -> datetime | None:
        """When the next work of a kind falls due or its lease runs out, if any.

        ``name`` is the sink of an outbox entry, the provider of a poll; ``held`` are the polls for which
        something waits. ``load`` is for assets: those are left out of which ``lease_assets`` would take none.
        """

    async def expire_early(self, received_before: datetime, limit: int) -> int:
        """Turn up to ``limit`` early deliveries that nobody claimed into unowned ones; how many.

        Of an unowned one the key and the times are kept, not the body. When it comes again it is as good as
        new, but for its count; so it is bounded as a new one is.
        """

    async def purge(self, before: datetime, limit: int) -> int:
        """Drop up to ``limit`` of each from before ``before``: how ended tasks came to their ends.

        That is deliveries that counted, notifications that were delivered, attempts, and requests and the
        links of stored files. How many were looked at; 0 when nothing is left. A task, its event and its
        files stay for ever, so a very late repeat is a repeat still. Of what did not count the row stays
        without its body; what was not understood and has no submission becomes unowned with it. What was not
        understood, or waits, of a task that has not ended is spared until it has: a replay may end the task
        with it.
        """

    async def get_submission(self, submission_id: str) -> Submission | None: ...

    async def list_submissions(
        self, wanted: SubmissionFilter, limit: int, cursor: str | None
    ) -> SubmissionPage:
        """A page of submissions; Rejected (BAD_CURSOR) for a cursor that is not ours."""

    async def list_unbound(
        self, logged_from: datetime, logged_before: datetime, limit: int
    ) -> tuple[int, list[Submission]]:
        """How many reservations of that time wait for a task, and the oldest of them."""

    async def get_task(self, provider: str, task_id: str) -> Task | None:
        """One owned task with its history, some of which may be left out. Strangers' tasks are not found."""

    async def list_deliveries(
        self, provider: str, task_id: str, limit: int, cursor: str | None
    ) -> HistoryPage[Delivery] | None:
        """A page of a task's deliveries; None where ``get_task`` finds none.

        Raises Rejected (BAD_CURSOR) for a cursor that is not ours; so do the two below.
        """

    async def list_notifications(
        self, provider: str, task_id: str, limit: int, cursor: str | None
    ) -> HistoryPage[OutboxEntry] | None: ...

    async def list_attempts(
        self, provider: str, task_id: str, limit: int, cursor: str | None
    ) -> HistoryPage[Attempt] | None: ...

    async def get_verdicts(self, provider: str, task_id: str) -> frozenset[Verdict] | None:
        """What the deliveries of a task that has not ended turned out to be; None where there is no such.

        Of what was not understood only what callbacks said on a proof of that very task: the provider's own
        answers are looked at as they come, and a leaked URL must not decide how long a task stays open.
        """

    async def get_event(self, provider: str, task_id: str) -> Event | None: ...

    async def get_traceparent(self, provider: str, task_id: str) -> str | None:
        """Where the trace of a task's submission goes on; None where there is none, or no such task."""

    async def list_links(self, provider: str, task_id: str) -> list[str]:
        """The links of a task's files as they are on record now, in the order of the files."""

    async def list_end_bodies(self, provider: str, task_id: str) -> list[bytes]:
        """The bodies that ended a task, as far as they are kept."""

    async def list_tasks(self, wanted: TaskFilter, limit: int, cursor: str | None) -> TaskPage:
        """A page of tasks; Rejected (BAD_CURSOR) for a cursor that is not ours."""

    async def count_stats(self) -> Stats: ...

    async def list_announced(
        self, cursor: str | None, wanted: Route, limit: int, *, last: int = 0
    ) -> AnnouncedPage:
        """What was queued for sinks behind ``cursor``, as far as it is wanted, of ``limit`` entries.

        Without a cursor it begins with the ``last`` entries that there are. Raises Rejected (BAD_CURSOR).
        """

    async def list_alerts(self) -> list[Alert]:
        """What was told of lines of health, of each the last."""

    async def keep_alert(self, alert: Alert) -> None:
        """Keep what was told of a line last."""

    async def forget_alerts(self, told_before: datetime) -> None:
        """Forget the lines that are over and began to be told of before."""

    async def count_backlog(
        self, now: datetime, lost_before: datetime, providers: Collection[str]
    ) -> Backlog:
        """Count what waits and what was given up, of each kind 10,000 and one more at most.

        ``lost_before``: of reservations without a task those that were logged before it are counted.
        """

    @property
    def pages(self) -> PageReads:
        """The same record for the admin pages."""

    async def ping(self) -> None:
        """Prove that a commit works."""

    async def aclose(self) -> None: ...


@runtime_checkable
class FileRecord(Protocol):
    """What the class of a Store offers besides, where the record is one file on this machine.

    Everything here looks at a file from outside, whoever has it open: nothing writes to it, waits for its
    service or holds that up. Raises Misconfigured where it is damaged or no record of ours, Unavailable
    where it cannot be read now.
    """

    @staticmethod
    def file_of(url: str, data_dir: Path) -> Path:
        """The file that ``url`` names, there or not. Raises Misconfigured where it names none."""

    @staticmethod
    def examine(path: Path, most_seconds: float) -> bool:
        """Look at every page; False when that takes longer than it may."""

    @staticmethod
    def copy_record(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
        """Copy the record as it is at one instant to a new file; ``progress``: pages copied, of how many."""

    @staticmethod
    def check_copy(source: Path, target: Path) -> RecordCopy:
        """Look at every page and every index of a copy, and count what is in it."""

    @staticmethod
    def replica_of(path: Path) -> Replica | None:
        """What another program that copies the record elsewhere has left; None where none does."""

    @staticmethod
    def log_bytes(path: Path) -> int:
        """How large the write-ahead log beside it is."""

    @staticmethod
    def stored_files(copy: Path) -> Iterator[tuple[str, int]]:
        """The key and the bytes of every file that a copy says is stored."""


@runtime_checkable
class ServerRecord(Protocol):
    """What the class of a Store offers besides, where the record is in a server that others look after."""

    @staticmethod
    async def examine_server(url: str, clock: Clock) -> ServerSeen:
        """What people should know of the server. Raises what ``open`` raises."""


EVERY_KIND = ""  # the word for: there may be work of any kind
MISSED = "*"  # the word for: something may have been told that you did not hear


@runtime_checkable
class SharedRecord(Protocol):
    """What a Store offers besides, where several processes share the record.

    They tell each other words, which mean nothing here: who hears one looks at the record a little earlier.
    A lane is what only one of them may run; it is had for a time, by the clock of the record's server.
    """

    def tell(self, word: str) -> None:
        """Tell the other processes soon, in the background; it may get lost. A word has 64 bytes at most."""

    def listen(self, heard: Callable[[str], None]) -> None:
        """From now on, call ``heard`` with each word that another process tells.

        And with MISSED at first and whenever words may have been lost. Where the server or a pooler lets
        nobody listen, that is all there is.
        """

    async def hold_lanes(self, claims: Sequence[LaneClaim], seconds: float) -> Mapping[str, Lane]:
        """Take these lanes, or keep them, for so long from now on; those that are ours now.

        The others are another process's. Raises Unavailable: what was ours is until its time is over.
        """

    async def list_lanes(self) -> Mapping[str, str | None]:
        """What the holder of each lane says of it; None where nobody has it. Raises Unavailable."""

    async def leave_lanes(self, names: Sequence[str]) -> None:
        """Let others have these lanes at once. Raises Unavailable: they have them a little later."""

    async def take_turn(self, lane: str, gap_seconds: float) -> bool:
        """Ask once on a lane, whoever has it, if that may be now; the next turn is after the gap.

        Raises Unavailable.
        """

    async def close_lane(self, lane: str, seconds: float) -> None:
        """Let nobody ask on a lane for so long. Raises Unavailable."""


class RecordTables(Protocol):
    """The tables of a record that nobody else changes as long as one has them. Raises Unavailable."""

    def count(self, table: str) -> int:
        """How many rows there are."""

    def read(
        self, table: str, columns: Sequence[str], key: Sequence[str]
    ) -> Generator[Sequence[Any], None, None]:
        """These columns of every row, in the order of the key: text, integers, floats, bytes and None.

        Nothing else is asked until it has ended, or is closed.
        """


@runtime_checkable
class MovableRecord(Protocol):
    """What the class of a Store offers besides, where its record can be moved to another store and back."""

    @staticmethod
    def hold(url: str, data_dir: Path) -> AbstractContextManager[RecordTables]:
        """The tables of the record that ``url`` names, which has today's schema; nothing writes meanwhile.

        Raises Unavailable where a service has it open.
        """

    @staticmethod
    def fill(
        url: str, options: StoreOptions, source: RecordTables, progress: Callable[[int, int], None]
    ) -> list[TableCopy]:
        """Copy the whole of ``source`` to the new record that ``url`` names: all of it, or nothing.

        Every table is read back and compared before that is final. ``progress`` is told how many rows were
        written or read back, and how many there will be. Raises Unavailable where a service has the new
        record open, Misconfigured where it holds something, ReceiverError where it is not the same then.
        """


class BlobStore(Protocol):
    """Where bytes live. Keys are relative paths whose parts are already percent-encoded."""

    @property
    def root(self) -> Path | None:
        """The folder in which each file lies under its key, where that is on this machine; else None."""

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """Build from a URL without touching it yet. Raises Misconfigured naming what is wrong."""

    async def put(self, key: str, source: Path, media_type: str) -> None:
        """Take over the file at ``source`` (it is gone afterwards) as ``key``, durable on return.

        Readers see the old bytes or the new ones, never a mixture; the same key again replaces.
        Raises Unavailable when there is no room or no answer.
        """

    def open(self, key: str, start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes from ``start``, at most ``length``, in chunks. FileNotFoundError if absent."""

    async def sweep(self) -> int:
        """Remove what interrupted puts left behind, and nothing that is being put now; how much."""

    async def ping(self) -> None:
        """Prove that a file can be written and read back. Raises Unavailable."""

    async def aclose(self) -> None: ...


@runtime_checkable
class SigningBlobs(Protocol):
    """What a blob store offers besides, where it serves its files itself to whoever has a signed link."""

    async def sign(self, keys: Sequence[str], seconds: float) -> Sequence[str]:
        """A link for each key, good for so long, in their order. Raises Unavailable."""


@runtime_checkable
class LinkingBlobs(Protocol):
    """What a blob store offers besides, where equal files need no second copy of their bytes."""

    async def link(self, stored: str, key: str, source: Path) -> str | None:
        """Let ``key`` name what ``stored`` does, which has the bytes of ``source``, and as durably.

        The key under which it is from now on: ``key``, or ``stored`` where one object has one key; then
        ``source`` is gone. None where that cannot be, as what is stored is gone, is another file or may be
        removed much earlier than this one: then nothing was done, and ``put`` stores the file. Raises
        Unavailable.
        """


class Sink(Protocol):
    """Where events go. ``publish`` may be called concurrently and again for the same message."""

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """Build from a URL without connecting yet. Raises Misconfigured naming what is wrong."""

    async def publish(self, notification: Notification) -> None:
        """Return only when the other side has taken responsibility for the message.

        Raises Unavailable (try again), Permanent (never) or Gone (stop this sink). A cancelled call
        may or may not have arrived: the same ``dedupe_key`` is then published again.
        """

    async def ping(self) -> str | None:
        """Prove that the destination answers, without publishing. Raises Unavailable or Permanent.

        What it returns is for people: what leaves open whether the destination would take an event.
        """

    async def aclose(self) -> None: ...


@runtime_checkable
class BatchSink(Sink, Protocol):
    """What a sink offers besides, where handing over many messages at once costs less than each by itself.

    Without it, messages go by ``publish``, several at a time.
    """

    async def publish_many(self, notifications: Sequence[Notification]) -> Sequence[Exception | None]:
        """Hand over these messages in their order; what became of each, in the same order.

        None: the other side has taken responsibility. Otherwise it is what ``publish`` would raise for this
        message alone, and a message that is refused hurts none of the others. Raises the same where one
        reason holds for all. What was cancelled, or is not None, may have arrived all the same.
        """
