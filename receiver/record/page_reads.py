"""What the admin pages read, on threads of their own, each part ended after a quarter of a second."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from receiver.models import (
    Asset,
    AuditFilter,
    AuditPage,
    BudgetStanding,
    CostBy,
    CostFilter,
    CostSum,
    DeadLetterPage,
    Event,
    FileRow,
    KeptBody,
    Mark,
    OddDelivery,
    OddPage,
    OpenTask,
    RefusalFilter,
    RefusalPage,
    Replay,
    SeriesRead,
    SeriesWanted,
    Session,
    Stage,
    Submission,
    SubmissionFilter,
    SubmissionPage,
    Task,
    TaskFilter,
    TaskKey,
    TaskPage,
    Verdict,
    WorkFilter,
)
from receiver.options import StoreOptions
from receiver.record import (
    audit,
    budgets,
    cost_sums,
    dead_letters,
    lists,
    marks,
    page_lists,
    refusals,
    replays,
    sessions,
    time_series,
    views,
)
from receiver.record.readers import Purpose, Query, Readers

T = TypeVar("T")


class PageReader:
    """Implements ``ports.PageReads``."""

    def __init__(self, readers: Readers, options: StoreOptions) -> None:
        self._readers = readers
        self._options = options

    async def sum_costs(self, wanted: CostFilter, by: Sequence[CostBy], limit: int) -> list[CostSum]:
        return await self._read(lambda c: cost_sums.sum_costs(c, wanted, by, limit))

    async def list_budgets(self, now: datetime) -> list[BudgetStanding]:
        return await self._read(lambda c: budgets.list_budgets(c, now))

    async def get_session(self, session_id: str) -> Session | None:
        return await self._read(lambda c: sessions.get_session(c, session_id))

    async def list_sessions(self, now: datetime) -> list[Session]:
        return await self._read(lambda c: sessions.list_sessions(c, now))

    async def list_tasks(self, wanted: TaskFilter, limit: int, cursor: str | None) -> TaskPage:
        most = page_lists.MOST_LOOKED_AT
        return await self._read(lambda c: lists.list_tasks(c, wanted, limit, cursor, most_rows=most))

    async def find_tasks(self, beginning: str, limit: int) -> list[TaskKey]:
        return await self._read(lambda c: page_lists.find_tasks(c, beginning, limit))

    async def get_task(self, provider: str, task_id: str) -> Task | None:
        return await self._read(lambda c: views.get_task(c, provider, task_id, self._options))

    async def get_event(self, provider: str, task_id: str) -> Event | None:
        return await self._read(lambda c: views.get_event(c, provider, task_id))

    async def get_submission(self, submission_id: str) -> Submission | None:
        return await self._read(lambda c: views.get_submission(c, submission_id))

    async def list_submissions(
        self, wanted: SubmissionFilter, limit: int, cursor: str | None
    ) -> SubmissionPage:
        return await self._read(lambda c: lists.list_submissions(c, wanted, limit, cursor))

    async def list_examples(
        self, stage: Stage, wanted: WorkFilter, asked_at: datetime, limit: int
    ) -> list[TaskKey]:
        return await self._read(lambda c: page_lists.list_examples(c, stage, wanted, asked_at, limit))

    async def list_dead_examples(
        self, wanted: WorkFilter, sinks: Sequence[str], died_by: datetime, limit: int
    ) -> list[TaskKey]:
        return await self._read(lambda c: page_lists.list_dead_examples(c, wanted, sinks, died_by, limit))

    async def list_odd(self, verdict: Verdict, limit: int, cursor: str | None) -> OddPage:
        return await self._read(lambda c: page_lists.list_odd(c, verdict, limit, cursor))

    async def list_likely(
        self, provider: str, since: datetime, until: datetime, limit: int
    ) -> list[OddDelivery]:
        return await self._read(lambda c: page_lists.list_likely(c, provider, since, until, limit))

    async def count_odd(self, verdicts: Sequence[Verdict], most: int) -> dict[Verdict, int]:
        return await self._read(lambda c: page_lists.count_odd(c, verdicts, most))

    async def list_pending_files(self, limit: int) -> list[FileRow]:
        return await self._read(lambda c: page_lists.list_pending_files(c, limit))

    async def list_first_files(self, submission_ids: Sequence[str]) -> dict[str, list[Asset]]:
        return await self._read(lambda c: page_lists.list_first_files(c, submission_ids))

    async def list_failures(self, submission_ids: Sequence[str]) -> dict[str, str | None]:
        return await self._read(lambda c: page_lists.list_failures(c, submission_ids))

    async def list_dead(self, sink: str | None, limit: int, cursor: str | None) -> DeadLetterPage:
        every, most = WorkFilter(), page_lists.MOST_LOOKED_AT
        return await self._read(
            lambda c: dead_letters.list_dead(c, every, sink, limit, cursor, most_rows=most)
        )

    async def count_dead_outcomes(self, sink: str | None, most: int) -> dict[str, int]:
        return await self._read(lambda c: page_lists.count_dead_outcomes(c, sink, most))

    async def count_waiting_outcomes(self, sink: str, most: int) -> dict[str, int]:
        return await self._read(lambda c: page_lists.count_waiting_outcomes(c, sink, most))

    async def list_open_tasks(self, provider: str, limit: int) -> list[OpenTask]:
        return await self._read(lambda c: page_lists.list_open_tasks(c, provider, limit))

    async def list_bodies(self, provider: str, task_id: str, limit: int, most_bytes: int) -> list[KeptBody]:
        return await self._read(lambda c: page_lists.list_bodies(c, provider, task_id, limit, most_bytes))

    async def list_replays(self, limit: int) -> list[Replay]:
        return await self._read(lambda c: replays.list_replays(c, limit))

    async def get_replay(self, replay_id: str) -> Replay | None:
        return await self._read(lambda c: replays.get_replay(c, replay_id))

    async def list_audit(self, wanted: AuditFilter, limit: int, cursor: str | None) -> AuditPage:
        return await self._read(lambda c: audit.list_audit(c, wanted, limit, cursor))

    async def read_series(
        self, wanted: Sequence[SeriesWanted], since: int, until: int, step: int
    ) -> list[list[SeriesRead]]:
        return await self._read(lambda c: time_series.read_series(c, wanted, since, until, step))

    async def list_marks(self, since: datetime, until: datetime, limit: int) -> list[Mark]:
        return await self._read(lambda c: marks.list_marks(c, since, until, limit))

    async def list_refusals(self, wanted: RefusalFilter, limit: int, cursor: str | None) -> RefusalPage:
        return await self._read(lambda c: refusals.list_refusals(c, wanted, limit, cursor))

    async def _read(self, query: Query[T]) -> T:
        return await self._readers.read(query, Purpose.PAGE)
