"""The Store port on the tables of the record: every method one transaction, one line of dispatch.

What an engine adds is where its writes and reads run: a ``Writer`` and ``Readers`` with its connections.
"""

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
    Backlog,
    DeadLetterPage,
    Delivery,
    Event,
    FetchLoad,
    FoundDead,
    HistoryPage,
    KeptDelivery,
    Matches,
    Moved,
    OutboxEntry,
    OutboxWork,
    PollWork,
    Receipt,
    Recording,
    Replay,
    ReplayState,
    ReplayWork,
    Route,
    Session,
    Settlement,
    Stage,
    Stats,
    Submission,
    SubmissionFilter,
    SubmissionPage,
    Task,
    TaskFilter,
    TaskPage,
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
    dead_letters,
    deliveries,
    filters,
    history,
    lists,
    outbox,
    polls,
    recording,
    replay_steps,
    replays,
    retention,
    sessions,
    stats,
    submissions,
    unset_sinks,
    views,
)
from receiver.record.cursor import Cursor
from receiver.record.leases import lease_name
from receiver.record.page_reads import PageReader
from receiver.record.readers import Purpose, Query, Readers
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

    async def bind_submission(self, submission_id: str, task_id: str, now: datetime) -> Submission:
        return await self._writer.write(
            lambda c: submissions.bind_submission(c, submission_id, task_id, now, self._options)
        )

    async def withdraw_submission(self, submission_id: str, now: datetime) -> Submission:
        return await self._writer.write(lambda c: submissions.withdraw_submission(c, submission_id, now))

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
            )
        )

    async def settle_asset(self, work: AssetWork, settlement: Settlement) -> bool:
        return await self._writer.write_batched(self._settle_assets, (work, settlement))

    async def lease_outbox(
        self, sink: str, now: datetime, lease_until: datetime, limit: int, *, newest_first: bool = False
    ) -> list[OutboxWork]:
        lease = self._new_lease()
        return await self._writer.write(
            lambda c: outbox.lease_outbox(
                c, sink, now, lease_until, lease, limit=limit, newest_first=newest_first
            )
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

    async def start_replay(self, replay: Replay) -> None:
        await self._writer.write(lambda c: replays.start(c, replay))

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

    async def change_replay(self, replay_id: str, state: ReplayState, now: datetime) -> Replay:
        return await self._writer.write(
            lambda c: replay_steps.change_replay(c, replay_id, state, now, self._options)
        )

    async def withdraw_pieces(self, work: ReplayWork, now: datetime, lease_until: datetime) -> bool:
        return await self._writer.write(
            lambda c: replay_steps.withdraw_pieces(c, work, now, lease_until, self._options)
        )

    async def find_dead(
        self, wanted: WorkFilter, sinks: Sequence[str], limit: int, *, after: str | None = None
    ) -> FoundDead:
        look = partial(dead_letters.find_dead, wanted=wanted, sinks=sinks, limit=limit, after=after)
        return await self._read(look, Purpose.WORK)

    async def revive_dead(self, keys: Sequence[str], now: datetime) -> int:
        return await self._writer.write(lambda c: dead_letters.revive(c, keys, now))

    async def move_undelivered(self, entries: Sequence[str], sink: str, to: str, now: datetime) -> Moved:
        return await self._writer.write(lambda c: unset_sinks.move(c, entries, sink, to, now))

    async def drop_undelivered(self, entries: Sequence[str], sink: str) -> int:
        return await self._writer.write(lambda c: unset_sinks.drop(c, entries, sink))

    async def expire_early(self, received_before: datetime, limit: int) -> int:
        return await self._writer.write(lambda c: deliveries.expire_early(c, received_before, limit))

    async def purge(self, before: datetime, limit: int) -> int:
        return await self._writer.write(
            lambda c: retention.purge(c, before, limit, now=self._options.clock.now())
        )

    async def open_session(self, session: Session, most: int) -> None:
        await self._writer.write(lambda c: sessions.open_session(c, session, most))

    async def note_seen(self, session_id: str, now: datetime) -> None:
        await self._writer.write(lambda c: sessions.note_seen(c, session_id, now))

    async def end_sessions(self, ids: Sequence[str]) -> int:
        return await self._writer.write(lambda c: sessions.end_sessions(c, ids))

    async def end_all_sessions(self, now: datetime) -> int:
        return await self._writer.write(lambda c: sessions.end_all_sessions(c, now))

    async def keep_code(self, code: str, token: str, expires_at: datetime, now: datetime) -> None:
        await self._writer.write(lambda c: sessions.keep_code(c, code, token, expires_at, now))

    async def use_code(self, code: str, now: datetime) -> str | None:
        return await self._writer.write(lambda c: sessions.use_code(c, code, now))

    async def keep_alert(self, alert: Alert) -> None:
        await self._writer.write(lambda c: alerts.keep_alert(c, alert))

    async def forget_alerts(self, told_before: datetime) -> None:
        await self._writer.write(lambda c: alerts.forget_alerts(c, told_before))

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

    async def list_tasks(self, wanted: TaskFilter, limit: int, cursor: str | None) -> TaskPage:
        return await self._read(lambda c: lists.list_tasks(c, wanted, limit, cursor), Purpose.LIST)

    async def count_matches(self, stage: Stage, wanted: WorkFilter, asked_at: datetime) -> int:
        return await self._count(
            lambda low: (
                lambda c: filters.count_on(c, filters.search_as_of(c, stage, wanted, asked_at), low=low)
            )
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

    async def count_dead(self, wanted: WorkFilter, sinks: Sequence[str]) -> int:
        return await self._count(lambda low: lambda c: dead_letters.count_dead(c, wanted, sinks, low))

    async def count_stats(self) -> Stats:
        now = self._options.clock.now()
        return await self._read(lambda c: stats.count_stats(c, now, self._sinks), Purpose.WORK)

    async def list_announced(
        self, cursor: str | None, wanted: Route, limit: int, *, last: int = 0
    ) -> AnnouncedPage:
        after = None if cursor is None else number_below(cursor)
        return await self._read(lambda c: outbox.list_announced(c, after, last, limit, wanted), Purpose.LIST)

    async def list_alerts(self) -> list[Alert]:
        return await self._read(alerts.list_alerts, Purpose.DUE)

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

    def _new_lease(self) -> str:
        return lease_name(self._holder, self._options.clock.new_id("lease"))

    def _record_all(self, db: Cursor, records: Sequence[Recording]) -> Sequence[Receipt | ReceiverError]:
        return recording.record_all(db, records, self._options)

    def _settle_assets(self, db: Cursor, ended: Sequence[tuple[AssetWork, Settlement]]) -> Sequence[bool]:
        return assets.settle_assets(db, ended, self._options.routes)

    async def _read(self, query: Query[T], purpose: Purpose = Purpose.LOOK_UP) -> T:
        return await self._readers.read(query, purpose)

    async def _list_history(
        self, kind: history.Kind[S], task: tuple[str, str], limit: int, cursor: str | None
    ) -> HistoryPage[S] | None:
        return await self._read(lambda c: views.list_history(c, kind, task, limit, cursor), Purpose.LIST)

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
    assets.free_assets(db, now, holder)
    outbox.free_outbox(db, now, holder)
    polls.free_leases(db, now, holder)
    replays.free_leases(db, now, holder)


def _beat(db: Cursor) -> None:
    db.execute("UPDATE heartbeat SET beats = beats + 1")
