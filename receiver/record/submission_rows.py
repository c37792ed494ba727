"""The submissions that a batch of deliveries reads and binds."""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from receiver.models import Recording
from receiver.record.cursor import Cursor
from receiver.record.keys import ByKeys
from receiver.record.rows import Row, find_rows, parameters
from receiver.record.rules import SubmissionRow

_COLUMNS = "SELECT s.number, s.id, s.provider, s.owner, s.task_id, e.fingerprint"
_TABLES = "submissions s LEFT JOIN events e ON e.number = s.number"
BY_ID = ByKeys(_COLUMNS, _TABLES, ["s.id"])
BY_TASK = ByKeys(_COLUMNS, _TABLES, ["s.provider", "s.task_id"])

BIND = "UPDATE submissions SET task_id = :task_id, bound_at = :bound_at WHERE number = :number"

_Task = tuple[str, str]


class Submissions:
    """The submissions that a batch has read, with its changes; ``write`` saves them."""

    def __init__(self, db: Cursor) -> None:
        self._db = db
        self._by_id: dict[str, SubmissionRow | None] = {}
        self._by_task: dict[_Task, SubmissionRow | None] = {}
        self._bound: list[Row] = []

    def read(self, recordings: Sequence[Recording]) -> None:
        """Read those that the recordings name, together."""
        ids = {each.submission_id: None for each in recordings if each.submission_id is not None}
        self._read_ids([(id_,) for id_ in ids])
        asked = {(each.provider, each.report.task_id): None for each in recordings}
        self._read_tasks([(p, t) for p, t in asked if t is not None and (p, t) not in self._by_task])

    def named_by(self, recording: Recording) -> SubmissionRow | None:
        """The one that the token of a delivery names, if it is its provider's."""
        row = None if recording.submission_id is None else self.by_id(recording.submission_id)
        return row if row is not None and row.provider == recording.provider else None

    def by_id(self, id_: str) -> SubmissionRow | None:
        if id_ not in self._by_id:
            self._read_ids([(id_,)])
        return self._by_id[id_]

    def of_task(self, provider: str, task_id: str | None) -> SubmissionRow | None:
        """The one that has a task."""
        if task_id is None:
            return None
        if (provider, task_id) not in self._by_task:
            self._read_tasks([(provider, task_id)])
        return self._by_task[provider, task_id]

    def put(self, row: SubmissionRow) -> None:
        """Know a row as it is now."""
        self._by_id[row.id] = row
        if row.task_id is not None:
            self._by_task[row.provider, row.task_id] = row

    def bind(self, row: SubmissionRow, task_id: str, now: datetime) -> None:
        """Tie a reserved submission to its task, which no other one has."""
        self.put(replace(row, task_id=task_id))
        self._bound.append(parameters(task_id=task_id, bound_at=now, number=row.number))

    def end(self, row: SubmissionRow, fingerprint: str) -> None:
        """Its task has ended so."""
        self.put(replace(row, fingerprint=fingerprint))

    def write(self) -> None:
        if self._bound:
            self._db.executemany(BIND, self._bound)

    def _read_ids(self, ids: Sequence[tuple[str]]) -> None:
        if ids:
            self._by_id.update((id_, None) for (id_,) in ids)
            self._read(*BY_ID.of(ids))

    def _read_tasks(self, tasks: Sequence[_Task]) -> None:
        if tasks:
            self._by_task.update(dict.fromkeys(tasks))
            self._read(*BY_TASK.of(tasks))

    def _read(self, sql: str, keys: Sequence[str]) -> None:
        for row in find_rows(self._db.execute(sql, keys), SubmissionRow):
            self.put(row)
