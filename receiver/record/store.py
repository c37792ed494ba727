"""The Store port on the tables of the record: every method one transaction, one line of dispatch.

What an engine adds is where its writes and reads run: a ``Writer`` and ``Readers`` with its connections.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

import msgspec

from receiver.errors import ReceiverError, Unavailable
from receiver.models import (
    NO_LOAD,
    Alert,
    AnnouncedPage,
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
    CostBy,
    CostFilter,
    CostSum,
    DeadLetterPage,
    Delivery,
    Event,
    FetchLoad,
    FoundDead,
    GatewayToken,
    HistoryPage,
    KeptDelivery,
    Mark,
    Matches,
    Moved,
    NewOrder,
    Order,
    OrderEnd,
    OrderFilter,
    OrderPage,
    OutboxEntry,
    OutboxWork,
    PollWork,
    Receipt,
    Recording,
    Refusal,
    RefusalFilter,
    RefusalPage,
    RelayWork,
    Replay,
    ReplayState,
    ReplayWork,
    Route,
    Sample,
    Session,
    Settlement,
    Stage,
    Stats,
    Submission,
    SubmissionFilter,
    SubmissionPage,
    Tally,
    TallyPart,
    Task,
    TaskFilter,
    TaskPage,
    TaskStanding,
    Verdict,
    WorkFilter,
)
from receiver.options import StoreOptions
from receiver.ports import NO_AHEAD, Due
from receiver.record import (
    alerts,
    asset_leases,
    assets,
    backlog,
    budgets,
    contents,
    cost_sums,
    dead_letters,
    deliveries,
    filters,
    gateway_tokens,
    history,
    lists,
    orders,
    outbox,
    polls,
    recording,
    replay_steps,
    replays,
    retention,
    sessions,
    stats,
    submissions,
    tally,
    time_series,
    unset_sinks,
    views,
)
from receiver.record import audit as audit_rows
from receiver.record.cursor import Cursor
from receiver.record.leases import lease_name
from receiver.record.marks import add_marks, forget_marks
from receiver.record.page_reads import PageReader
from receiver.record.readers import Purpose, Query, Readers
from receiver.record.refusals import add_refusals, forget_refusals, list_refusals
from receiver.record.windows import number_below
from receiver.record.writer import Writer

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class RecordStore:
    """Implements what ``ports.Store`` does with an open record."""

    def __init__(self, writer: Writer, readers: Readers, options: StoreOptions) -> None:
        self._writer = writer
        self._readers = readers
        self.pages = PageReader(readers, options)
        self._options = options
        self._holder = options.clock.new_id("process")  # with its start, so that no other one has this name
        self._sinks = frozenset(route.sink for route in options.routes)

    # --- writes ---------------------------------------------------------------------------------------

    async def record(self, record: Recording) -> Receipt:
        return await self._writer.write_batched(self._record_all, record)

    async def log_submission(self, submission: Submission) -> tuple[Submission, bool]:
        return await self._writer.write(lambda c: submissions.log_submission(c, submission, self._options))

    async def bind_submission(
        self, submission_id: str, task_id: str, now: datetime, audit: AuditEntry | None = None
    ) -> Submission:
        return await self._writer.write(
            lambda c: submissions.bind_submission(c, submission_id, task_id, now, self._options, audit)
        )

    async def withdraw_submission(
        self, submission_id: str, now: datetime, audit: AuditEntry | None = None
    ) -> Submission:
        return await self._writer.write(
            lambda c: submissions.withdraw_submission(c, submission_id, now, audit)
        )

    async def reserve_order(self, new: NewOrder) -> tuple[Order, bool]:
        lease = self._new_lease()
        return await self._writer.write(lambda c: orders.reserve_order(c, new, lease))

    async def settle_order(self, submission_id: str, end: OrderEnd, now: datetime) -> tuple[Order, bool]:
        return await self._writer.write(
            lambda c: orders.settle_order(c, submission_id, end, now, self._options)
        )

    async def set_budget(self, budget: Budget, audit: AuditEntry | None = None) -> BudgetStanding:
        return await self._act(lambda c: budgets.set_budget(c, budget), audit)

    async def remove_budget(
        self, scope: BudgetScope, name: str, period: BudgetPeriod, audit: AuditEntry | None = None
    ) -> bool:
        return await self._act(lambda c: budgets.remove_budget(c, scope, name, period), audit)

    async def lease_relays(self, now: datetime, lease_until: datetime, limit: int) -> list[RelayWork]:
        return await self._writer.write(lambda c: orders.lease_relays(c, now, lease_until, limit))

    async def settle_relay(self, submission_id: str, outcome: str, retry_at: datetime | None) -> None:
        await self._writer.write(lambda c: orders.settle_relay(c, submission_id, outcome, retry_at))

    async def sweep_orders(self, now: datetime, lost_before: datetime, limit: int) -> int:
        return await self._writer.write(lambda c: orders.sweep_orders(c, now, lost_before, limit))

    async def lease_assets(
        self,
        now: datetime,
        lease_until: datetime,
        limit: int,
        *,
        retries_first: bool = False,
        load: FetchLoad = NO_LOAD,
    ) -> list[AssetWork]:
        lease, chance = self._new_lease(), self._options.clock.random()
        return await self._writer.write(
            lambda c: asset_leases.lease_assets(
                c,
                now,
                lease_until,
                lease,
                limit=limit,
                retries_first=retries_first,
                load=load,
                chance=chance,
            ),
            is_durable=False,  # who holds the lease is gone with the power that takes it back
        )

    async def settle_asset(self, work: AssetWork, settlement: Settlement) -> bool:
        return await self._writer.write_batched(self._settle_assets, (work, settlement))

    async def find_copy(self, owner: str, sha256: str) -> str | None:
        return await self._read(lambda c: contents.find_copy(c, owner, sha256), Purpose.DUE)

    async def lease_outbox(
        self, sink: str, now: datetime, lease_until: datetime, limit: int, *, newest_first: bool = False
    ) -> list[OutboxWork]:
        lease = self._new_lease()
        return await self._writer.write(
            lambda c: outbox.lease_outbox(
                c, sink, now, lease_until, lease, limit=limit, newest_first=newest_first
            ),
            is_durable=False,
        )

    async def settle_outbox_batch(
        self, ended: Sequence[tuple[OutboxWork, Settlement]]
    ) -> list[bool | Exception]:
        try:
            return [*await self._writer.write(lambda c: outbox.settle_entries(c, ended))]
        except Unavailable as exc:
            return [exc] * len(ended)
        except Exception:  # noqa: BLE001 - whose fault it was shows when each is tried by itself
            return await self._writer.write_each(outbox.settle_entries, ended)

    async def give_up_outbox(
        self, sink: str, created_before: datetime, settlement: Settlement, limit: int
    ) -> int:
        return await self._writer.write(
            lambda c: outbox.give_up_outbox(c, sink, created_before, settlement, limit)
        )

    async def lease_polls(
        self, provider: str, now: datetime, lease_until: datetime, limit: int, *, held_only: bool = False
    ) -> list[PollWork]:
        lease = self._new_lease()
        return await self._writer.write(
            lambda c: polls.lease_polls(
                c, provider, now, lease_until, lease, limit=limit, held_only=held_only
            )
        )

    async def settle_poll(self, work: PollWork, settlement: Settlement) -> bool:
        return await self._writer.write(lambda c: polls.settle_poll(c, work, settlement))

    async def list_held(self, work: PollWork) -> list[KeptDelivery]:
        return await self._read(lambda c: replay_steps.list_held(c, work, self._options), Purpose.DUE)

    async def judge_held(self, read: Sequence[KeptDelivery], now: datetime) -> bool:
        return await self._writer.write(lambda c: replay_steps.judge_held(c, read, now, self._options))

    async def follow_deliveries(self, now: datetime, limit: int) -> int:
        return await self._writer.write(lambda c: polls.follow_deliveries(c, now, limit))

    async def start_replay(self, replay: Replay, audit: AuditEntry | None = None) -> Replay:
        return await self._act(lambda c: replays.start(c, replay), audit)

    async def lease_replays(
        self, now: datetime, lease_until: datetime, limit: int, *, ahead: Mapping[str, int] = NO_AHEAD
    ) -> list[ReplayWork]:
        lease = self._new_lease()
        return await self._writer.write(
            lambda c: replays.lease_replays(
                c, now, lease_until, lease, limit=limit, ahead=ahead, routes=self._options.routes
            )
        )

    async def find_matches(self, work: ReplayWork, limit: int) -> Matches:
        return await self._read(lambda c: replay_steps.find_matches(c, work, limit), Purpose.WORK)

    async def step_replay(self, work: ReplayWork, matches: Matches, now: datetime, next_at: datetime) -> bool:
        return await self._writer.write(
            lambda c: replay_steps.step(c, work, matches, now=now, next_at=next_at, options=self._options)
        )

    async def reprocess(
        self, work: ReplayWork, read: Sequence[KeptDelivery], now: datetime, next_at: datetime
    ) -> bool:
        return await self._writer.write(
            lambda c: replay_steps.reprocess(c, work, read, now=now, next_at=next_at, options=self._options)
        )

    async def change_replay(
        self, replay_id: str, state: ReplayState, now: datetime, audit: AuditEntry | None = None
    ) -> Replay:
        return await self._writer.write(
            lambda c: replay_steps.change_replay(c, replay_id, state, now, self._options, audit)
        )

    async def withdraw_pieces(self, work: ReplayWork, now: datetime, lease_until: datetime) -> bool:
        return await self._writer.write(
            lambda c: replay_steps.withdraw_pieces(c, work, now, lease_until, self._options)
        )

    async def find_dead(
        self,
        wanted: WorkFilter,
        sinks: Sequence[str],
        limit: int,
        *,
        after: str | None = None,
        died_by: datetime | None = None,
    ) -> FoundDead:
        return await self._read(
            lambda c: dead_letters.find_dead(c, wanted, sinks, limit, after, died_by), Purpose.WORK
        )

    async def revive_dead(
        self,
        keys: Sequence[str],
        now: datetime,
        act: str | None = None,
        *,
        died_by: datetime | None = None,
    ) -> int:
        return await self._act_on(lambda c: dead_letters.revive(c, keys, now, died_by), act, int)

    async def move_undelivered(
        self, entries: Sequence[str], sink: str, to: str, now: datetime, act: str | None = None
    ) -> Moved:
        move = partial(unset_sinks.move, entries=entries, sink=sink, to=to, now=now)
        return await self._act_on(move, act, lambda step: step.moved)

    async def drop_undelivered(self, entries: Sequence[str], sink: str, act: str | None = None) -> int:
        return await self._act_on(lambda c: unset_sinks.drop(c, entries, sink), act, int)

    async def move_dead(self, keys: Sequence[str], to: str, now: datetime, act: str | None = None) -> Moved:
        move = partial(dead_letters.move, keys=keys, to=to, now=now)
        return await self._act_on(move, act, lambda step: step.moved)

    async def drop_dead(self, keys: Sequence[str], act: str | None = None) -> int:
        return await self._act_on(lambda c: dead_letters.drop(c, keys), act, int)

    async def expire_early(self, received_before: datetime, limit: int) -> int:
        return await self._writer.write(lambda c: deliveries.expire_early(c, received_before, limit))

    async def purge(self, before: datetime, limit: int) -> int:
        return await self._writer.write(
            lambda c: retention.purge(c, before, limit, now=self._options.clock.now())
        )

    async def open_session(self, session: Session, most: int, audit: AuditEntry | None = None) -> None:
        await self._act(lambda c: sessions.open_session(c, session, most), audit)

    async def note_seen(self, session_id: str, now: datetime) -> None:
        await self._writer.write(lambda c: sessions.note_seen(c, session_id, now))

    async def end_sessions(self, ids: Sequence[str], audit: AuditEntry | None = None) -> int:
        return await self._act(lambda c: sessions.end_sessions(c, ids), audit)

    async def end_all_sessions(self, now: datetime, audit: AuditEntry | None = None) -> int:
        return await self._act(lambda c: sessions.end_all_sessions(c, now), audit)

    async def keep_code(
        self, code: str, token: str, expires_at: datetime, now: datetime, audit: AuditEntry | None = None
    ) -> None:
        await self._act(lambda c: sessions.keep_code(c, code, token, expires_at, now), audit)

    async def use_code(self, code: str, now: datetime) -> str | None:
        return await self._writer.write(lambda c: sessions.use_code(c, code, now))

    async def add_gateway_token(self, token: GatewayToken, audit: AuditEntry | None = None) -> bool:
        return await self._act(lambda c: gateway_tokens.add_token(c, token), audit)

    async def revoke_gateway_token(self, name: str, now: datetime, audit: AuditEntry | None = None) -> bool:
        return await self._act(lambda c: gateway_tokens.revoke_token(c, name, now), audit)

    async def note_act(self, entry: AuditEntry) -> bool:
        return await self._writer.write(lambda c: audit_rows.note(c, entry))

    async def count_act(self, entry: AuditEntry) -> None:
        await self._writer.write(lambda c: audit_rows.count_done(c, entry))

    async def end_act(self, key: str, result: str) -> AuditRow | None:
        return await self._writer.write(lambda c: audit_rows.end_act(c, key, result))

    async def keep_alert(self, alert: Alert) -> None:
        await self._writer.write(lambda c: alerts.keep_alert(c, alert))

    async def forget_alerts(self, told_before: datetime) -> None:
        await self._writer.write(lambda c: alerts.forget_alerts(c, told_before))

    async def add_time_series(
        self, samples: Sequence[Sample], refusals: Sequence[Refusal], marks: Sequence[Mark] = ()
    ) -> None:
        def add(db: Cursor) -> None:
            time_series.add_samples(db, samples)
            add_refusals(db, refusals)
            add_marks(db, marks)

        await self._writer.write(add)

    async def sum_up_series(self, numbers: Sequence[int], minutes_before: int, hours_before: int) -> None:
        await self._writer.write(lambda c: time_series.sum_up(c, numbers, minutes_before, hours_before))

    async def forget_marks(self, before: datetime) -> None:
        await self._writer.write(lambda c: forget_marks(c, before))

    async def forget_refusals(self, before: datetime) -> None:
        await self._writer.write(lambda c: forget_refusals(c, before))

    async def ping(self) -> None:
        await self._writer.write(_beat)

    # --- reads ----------------------------------------------------------------------------------------

    async def next_due_at(self, kind: Due, name: str = "", *, load: FetchLoad = NO_LOAD) -> datetime | None:
        if kind == "assets":
            chance = self._options.clock.random()
            return await self._read(lambda c: asset_leases.next_due_at(c, load, chance), Purpose.DUE)
        return await self._read(lambda c: stats.next_due_at(c, kind, name), Purpose.DUE)

    async def get_submission(self, submission_id: str) -> Submission | None:
        return await self._read(lambda c: views.get_submission(c, submission_id))

    async def list_submissions(
        self, wanted: SubmissionFilter, limit: int, cursor: str | None
    ) -> SubmissionPage:
        return await self._read(lambda c: lists.list_submissions(c, wanted, limit, cursor), Purpose.LIST)

    async def get_order(self, submission_id: str) -> Order | None:
        return await self._read(lambda c: orders.get_order(c, submission_id))

    async def list_orders(self, wanted: OrderFilter, limit: int, cursor: str | None) -> OrderPage:
        return await self._read(lambda c: orders.list_orders(c, wanted, limit, cursor), Purpose.LIST)

    async def sum_costs(self, wanted: CostFilter, by: Sequence[CostBy], limit: int) -> list[CostSum]:
        return await self._read(lambda c: cost_sums.sum_costs(c, wanted, by, limit), Purpose.LIST)

    async def list_budgets(self, now: datetime) -> list[BudgetStanding]:
        return await self._read(lambda c: budgets.list_budgets(c, now), Purpose.LIST)

    async def get_standing(self, provider: str, task_id: str) -> TaskStanding | None:
        return await self._read(lambda c: orders.get_standing(c, provider, task_id))

    async def list_gateway_tokens(self) -> list[GatewayToken]:
        return await self._read(gateway_tokens.list_tokens)

    async def list_unbound(
        self, logged_from: datetime, logged_before: datetime, limit: int
    ) -> tuple[int, list[Submission]]:
        return await self._read(
            lambda c: views.list_unbound(c, logged_from, logged_before, limit), Purpose.DUE
        )

    async def get_task(self, provider: str, task_id: str) -> Task | None:
        return await self._read(lambda c: views.get_task(c, provider, task_id, self._options))

    async def list_deliveries(
        self, provider: str, task_id: str, limit: int, cursor: str | None
    ) -> HistoryPage[Delivery] | None:
        return await self._list_history(history.DELIVERIES, (provider, task_id), limit, cursor)

    async def list_notifications(
        self, provider: str, task_id: str, limit: int, cursor: str | None
    ) -> HistoryPage[OutboxEntry] | None:
        return await self._list_history(history.NOTIFICATIONS, (provider, task_id), limit, cursor)

    async def list_attempts(
        self, provider: str, task_id: str, limit: int, cursor: str | None
    ) -> HistoryPage[Attempt] | None:
        return await self._list_history(history.ATTEMPTS, (provider, task_id), limit, cursor)

    async def get_verdicts(self, provider: str, task_id: str) -> frozenset[Verdict] | None:
        return await self._read(lambda c: views.get_verdicts(c, provider, task_id), Purpose.DUE)

    async def get_event(self, provider: str, task_id: str) -> Event | None:
        return await self._read(lambda c: views.get_event(c, provider, task_id))

    async def get_traceparent(self, provider: str, task_id: str) -> str | None:
        return await self._read(lambda c: views.get_traceparent(c, provider, task_id), Purpose.DUE)

    async def list_links(self, provider: str, task_id: str) -> list[str]:
        return await self._read(lambda c: views.list_links(c, provider, task_id), Purpose.DUE)

    async def list_end_bodies(self, provider: str, task_id: str) -> list[bytes]:
        return await self._read(lambda c: views.list_end_bodies(c, provider, task_id))

    async def list_tasks(self, wanted: TaskFilter, limit: int, cursor: str | None) -> TaskPage:
        return await self._read(lambda c: lists.list_tasks(c, wanted, limit, cursor), Purpose.LIST)

    async def count_matches(self, stage: Stage, wanted: WorkFilter, asked_at: datetime) -> int:
        return await self._count(
            lambda low: (
                lambda c: filters.count_on(c, filters.search_as_of(c, stage, wanted, asked_at), low=low)
            )
        )

    async def tally_matches(
        self, stage: Stage, wanted: WorkFilter, asked_at: datetime, most_seconds: float
    ) -> Tally:
        return await self._tally(
            lambda low: partial(tally.tally_matches, stage=stage, wanted=wanted, asked_at=asked_at, low=low),
            most_seconds,
        )

    async def tally_dead(
        self, wanted: WorkFilter, sinks: Sequence[str], died_by: datetime, most_seconds: float
    ) -> Tally:
        return await self._tally(
            lambda low: partial(tally.tally_dead, wanted=wanted, sinks=sinks, died_by=died_by, low=low),
            most_seconds,
        )

    async def list_kept(self, work: ReplayWork, limit: int) -> list[KeptDelivery]:
        kept: list[KeptDelivery] = []
        low: int | None = 0
        while low is not None and not kept:
            kept, low = await self._read(
                partial(replay_steps.list_kept, work=work, limit=limit, low=low), Purpose.WORK
            )
        return kept

    async def get_replay(self, replay_id: str) -> Replay | None:
        return await self._read(lambda c: replays.get_replay(c, replay_id))

    async def list_replays(self, limit: int) -> list[Replay]:
        return await self._read(lambda c: replays.list_replays(c, limit), Purpose.LIST)

    async def list_dead(
        self, wanted: WorkFilter, sink: str | None, limit: int, cursor: str | None
    ) -> DeadLetterPage:
        return await self._read(
            lambda c: dead_letters.list_dead(c, wanted, sink, limit, cursor), Purpose.LIST
        )

    async def count_dead(
        self, wanted: WorkFilter, sinks: Sequence[str], died_by: datetime | None = None
    ) -> int:
        return await self._count(
            lambda low: lambda c: dead_letters.count_dead(c, wanted, sinks, low, died_by)
        )

    async def count_stats(self) -> Stats:
        now = self._options.clock.now()
        return await self._read(lambda c: stats.count_stats(c, now, self._sinks), Purpose.WORK)

    async def list_announced(
        self, cursor: str | None, wanted: Route, limit: int, *, last: int = 0
    ) -> AnnouncedPage:
        after = None if cursor is None else number_below(cursor)
        return await self._read(lambda c: outbox.list_announced(c, after, last, limit, wanted), Purpose.LIST)

    async def get_act(self, key: str) -> AuditRow | None:
        return await self._read(lambda c: audit_rows.get_entry(c, key))

    async def list_audit(self, wanted: AuditFilter, limit: int, cursor: str | None) -> AuditPage:
        return await self._read(lambda c: audit_rows.list_audit(c, wanted, limit, cursor), Purpose.LIST)

    async def list_alerts(self) -> list[Alert]:
        return await self._read(alerts.list_alerts, Purpose.DUE)

    async def list_aged_series(
        self, after: int, minutes_before: int, hours_before: int, limit: int
    ) -> list[int]:
        return await self._read(
            lambda c: time_series.list_aged(c, after, minutes_before, hours_before, limit), Purpose.WORK
        )

    async def list_refusals(self, wanted: RefusalFilter, limit: int, cursor: str | None) -> RefusalPage:
        return await self._read(lambda c: list_refusals(c, wanted, limit, cursor), Purpose.LIST)

    async def count_backlog(
        self, now: datetime, lost_before: datetime, providers: Collection[str]
    ) -> Backlog:
        return await self._read(lambda c: backlog.count_backlog(c, now, lost_before, providers), Purpose.WORK)

    async def count_unset_sinks(self) -> Mapping[str, Mapping[str, int]]:
        if not self._sinks:  # whoever opens the record for a look around knows of none
            return {}
        return await self._read(lambda c: unset_sinks.count_unset(c, self._sinks), Purpose.WORK)

    async def list_undelivered(self, sink: str, limit: int) -> list[str]:
        return await self._read(lambda c: unset_sinks.list_undelivered(c, sink, limit), Purpose.WORK)

    async def _make_ready(self, keep_indexes: Callable[[Cursor, Sequence[str]], None]) -> None:
        """What the settings ask of a record that has just been opened."""
        options, keys = self._options, self._options.metadata_keys
        if keys is not None:
            await self._writer.write(lambda c: keep_indexes(c, keys))
        if options.routes:  # whoever opens the record for a look around knows of no sinks
            await self._writer.write(
                lambda c: replay_steps.withdraw_hopeless(c, options.clock.now(), options)
            )

    async def aclose(self) -> None:
        await self._readers.aclose()
        await self._writer.aclose()

    async def _act(self, change: Query[T], entry: AuditEntry | None) -> T:
        """Make a change, and note in its transaction who made it."""
        return await self._writer.write(lambda c: audit_rows.noting(c, change, entry))

    async def _act_on(self, change: Query[T], key: str | None, how_many: Callable[[T], int]) -> T:
        """Make a change, and count it in its transaction as one more part of an act."""
        return await self._writer.write(lambda c: audit_rows.counting(c, change, key, how_many))

    def _new_lease(self) -> str:
        return lease_name(self._holder, self._options.clock.new_id("lease"))

    def _record_all(self, db: Cursor, records: Sequence[Recording]) -> Sequence[Receipt | ReceiverError]:
        return recording.record_all(db, records, self._options)

    def _settle_assets(self, db: Cursor, ended: Sequence[tuple[AssetWork, Settlement]]) -> Sequence[bool]:
        return assets.settle_assets(db, ended, self._options.routes, link_copies=self._options.link_copies)

    async def _read(self, query: Query[T], purpose: Purpose = Purpose.LOOK_UP) -> T:
        return await self._readers.read(query, purpose)

    async def _list_history(
        self, kind: history.Kind[S], task: tuple[str, str], limit: int, cursor: str | None
    ) -> HistoryPage[S] | None:
        return await self._read(lambda c: views.list_history(c, kind, task, limit, cursor), Purpose.LIST)

    async def _tally(
        self, count: Callable[[int], Query[tuple[list[TallyPart], int | None]]], most_seconds: float
    ) -> Tally:
        """Count in steps, as ``_count`` does, as long as there is time."""
        until = time.monotonic() + most_seconds
        counts: Counter[tuple[str, str | None, str | None]] = Counter()
        low: int | None = 0
        while low is not None and time.monotonic() < until:
            parts, low = await self._read(count(low), Purpose.LIST)
            for part in parts:
                counts[part.provider, part.state, part.sink] += part.count
        return Tally(
            parts=tuple(
                TallyPart(provider=provider, state=state, sink=sink, count=number)
                for (provider, state, sink), number in sorted(counts.items(), key=str)
            ),
            is_whole=low is None,
        )

    async def _count(self, count: Callable[[int], Query[tuple[int, int | None]]]) -> int:
        """Count in steps from one number to the next, with a word for others in between."""
        total, low = 0, 0
        while True:
            number, reached = await self._read(count(low), Purpose.LIST)
            total += number
            if reached is None:
                return total
            low = reached


def free_leases(db: Cursor, now: datetime, holder: str) -> None:
    """What a holder who is gone was working on is due again."""
    orders.free_orders(db, now, holder)
    assets.free_assets(db, now, holder)
    outbox.free_outbox(db, now, holder)
    polls.free_leases(db, now, holder)
    replays.free_leases(db, now, holder)


def _beat(db: Cursor) -> None:
    db.execute("UPDATE heartbeat SET beats = beats + 1")
