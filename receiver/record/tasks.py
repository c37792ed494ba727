"""A task as a batch of deliveries reads, binds and ends it: its submission, its one event, its files."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec.structs import replace

from receiver.links import host_hash
from receiver.models import Price, Recording
from receiver.options import StoreOptions
from receiver.record import costs, rules
from receiver.record.cursor import Cursor
from receiver.record.ends import End, end_all
from receiver.record.rows import ByKeys, find_rows, insert_into
from receiver.record.rules import SubmissionRow, TaskKey
from receiver.times import to_text

SELECT_TASK = "SELECT s.number, s.id, s.provider, s.owner, s.task_id, e.fingerprint, s.has_charge, p.held"
TASKS = "submissions s LEFT JOIN events e ON e.number = s.number LEFT JOIN polls p ON p.number = s.number"
BY_ID = ByKeys(SELECT_TASK, TASKS, ["s.id"])
BY_TASK = ByKeys(SELECT_TASK, TASKS, ["s.provider", "s.task_id"])

BIND = "UPDATE submissions SET task_id = ?, bound_at = ? WHERE number = ?"

# The first terminal state of a task wins: the key would refuse another.
INSERT_EVENT = insert_into(
    "events", "number", "id", "via", "fingerprint", "received_at", "error_code", "error_message"
)
INSERT_ASSET = insert_into(
    "assets", "event", "position", "provider", "host_hash", "kind", "due_at", "deadline_at"
)
INSERT_LINK = insert_into("links", "event", "position", "url")


class Submissions:
    """The submissions that a batch has read, with its changes; ``write`` saves them."""

    def __init__(self, db: Cursor) -> None:
        self._db = db
        self._by_id: dict[str, SubmissionRow | None] = {}
        self._by_task: dict[TaskKey, SubmissionRow | None] = {}
        self._bound: list[tuple[object, ...]] = []

    def know(self, tasks: Iterable[TaskKey], found: Iterable[SubmissionRow]) -> None:
        """Know which of these tasks have one."""
        self._by_task.update(dict.fromkeys(tasks))
        for row in found:
            self.put(row)

    def read_named(self, recordings: Sequence[Recording]) -> None:
        """Read those that the tokens of the recordings name, together."""
        named = {each.submission_id: None for each in recordings if each.submission_id is not None}
        self._read_ids([(id_,) for id_ in named if id_ not in self._by_id])

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
            task = provider, task_id
            self.know([task], find_rows(self._db.execute(*BY_TASK.of([task])), SubmissionRow))
        return self._by_task[provider, task_id]

    def put(self, row: SubmissionRow) -> None:
        """Know a row as it is now."""
        self._by_id[row.id] = row
        if row.task_id is not None:
            self._by_task[row.provider, row.task_id] = row

    def bind(self, row: SubmissionRow, task_id: str, now: datetime) -> None:
        """Tie a reserved submission to its task, which no other one has."""
        self.put(replace(row, task_id=task_id))
        self._bound.append((task_id, to_text(now), row.number))

    def hold(self, row: SubmissionRow) -> None:
        """A callback about its task waits for the provider's word."""
        self.put(replace(row, held=1))

    def end(self, row: SubmissionRow, fingerprint: str) -> None:
        """Its task has ended so."""
        self.put(replace(row, fingerprint=fingerprint))

    def write(self) -> None:
        if self._bound:
            self._db.executemany(BIND, self._bound)

    def _read_ids(self, ids: Sequence[tuple[str]]) -> None:
        if ids:
            self._by_id.update((id_, None) for (id_,) in ids)
            self.know((), find_rows(self._db.execute(*BY_ID.of(ids)), SubmissionRow))


class Events:
    """The events and files that a batch adds; ``write`` saves them."""

    def __init__(self, db: Cursor, options: StoreOptions) -> None:
        self._db = db
        self._routes = options.routes
        self._credit_prices = options.credit_prices
        self._events: list[tuple[object, ...]] = []
        self._assets: list[tuple[object, ...]] = []
        self._links: list[tuple[object, ...]] = []
        self._ends: list[End] = []
        self._charges: list[tuple[int, Price, datetime]] = []  # that providers name themselves

    def add(self, recording: Recording, owner: SubmissionRow, now: datetime) -> None:
        """Bring the end of a task that has none; without files it ends ``now``."""
        report, received_at = recording.report, to_text(recording.received_at)
        code, message = rules.error_of(report)
        number, provider = owner.number, owner.provider
        # Named after its submission: when an end comes again that a restored backup knows nothing of,
        # consumers see that it is the same.
        id_ = f"evt_{owner.id[4:]}"
        event = number, id_, recording.via.value, recording.fingerprint, received_at, code, message
        self._events.append(event)
        if owner.has_charge and report.credits is not None and provider in self._credit_prices:
            price = self._credit_prices[provider].charge(report.credits)
            self._charges.append((number, price, now))
        told = rules.end_of(report)
        if told is not None:
            end = End(
                event=number,
                type=told,
                ended_at=now,
                provider=provider,
                owner=owner.owner,
                cost=rules.cost_of(recording) if owner.has_charge else None,
            )
            self._ends.append(end)
            return
        deadline_at = to_text(recording.links_die_at)
        for position, file in enumerate(report.files):
            host = host_hash(file.url)
            self._assets.append((number, position, provider, host, file.kind, received_at, deadline_at))
            self._links.append((number, position, file.url))

    def write(self) -> None:
        if self._events:
            self._db.executemany(INSERT_EVENT, self._events)
        if self._assets:
            self._db.executemany(INSERT_ASSET, self._assets)
            self._db.executemany(INSERT_LINK, self._links)
        if self._charges:
            costs.correct(self._db, self._charges)
        if self._ends:
            end_all(self._db, self._ends, self._routes)
