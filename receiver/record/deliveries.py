"""Deliveries: every body that came, filed under its task and its token, and what it turned out to be."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any

import msgspec

from receiver.models import Recording, Verdict
from receiver.record import rules
from receiver.record.cursor import Cursor
from receiver.record.rows import ByKeys, Row, find_row, find_rows, insert_into, parameters
from receiver.record.rules import (
    LARGE_BYTES,
    MOST_LARGE,
    MOST_LARGE_ALIKE,
    OWNERLESS,
    DeliveryRow,
    FilingKey,
    SubmissionRow,
    TaskKey,
)
from receiver.times import to_text

Key = tuple[str, str, str, str]  # a place and a digest

_COLUMNS = """
SELECT d.provider, d.task_id, d.claim, d.digest, d.number, d.submission, d.via, d.proof, d.verdict, d.waiting,
    d.received_at, length(d.body) AS body_bytes
"""
BY_NUMBER = f"{_COLUMNS} FROM deliveries d WHERE number = :number"
BY_KEY = ByKeys(_COLUMNS, "deliveries d", ["d.provider", "d.task_id", "d.claim", "d.digest"])

# What came for a task and may still change. The plus is for SQLite: by its task it is found sooner than among
# all that nobody owns.
OPEN_OF_TASK = ByKeys(
    _COLUMNS,
    "deliveries d",
    ["d.provider", "d.task_id"],
    where="+d.verdict IN ('early', 'unrecognised', 'unconfirmed')",
)

# A repeat raises a counter.
UPDATE_DELIVERY = """
UPDATE deliveries SET submission = :submission, verdict = :verdict, waiting = :waiting, seen = seen + :again,
    last_seen_at = coalesce(:last_seen_at, last_seen_at)
WHERE number = :number
"""

# Only its key was left, and now it counts again: retention, which goes by numbers, must come to it once more.
RENEW_DELIVERY = """
UPDATE deliveries SET number = (SELECT max(number) + 1 FROM deliveries), received_at = :received_at,
    body = :body
WHERE number = :number
"""

# It was read anew. A body in which yesterday's adapter found no task may name one now.
REREAD_DELIVERY = """
UPDATE deliveries SET task_id = :task_id, provider_state = :provider_state, note = :note
WHERE number = :number
"""

# How many deliveries of each verdict are kept that nobody owns, whenever they came.
COUNT_OWNERLESS = "SELECT verdict, kept FROM ownerless"

# How many of these are large. Left to itself SQLite would look at them all.
COUNT_LARGE = f"""
SELECT count(*) FROM (SELECT 1 FROM deliveries INDEXED BY deliveries_large
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') AND length(body) > {LARGE_BYTES}
        AND verdict = :verdict LIMIT :most) l
"""  # noqa: S608

# How many there are; counting stops at the limit. Both are for SQLite: with the plus it does not plan anew
# for each verdict, and for the type it does not read what waits.
COUNT_ALIKE = """
SELECT count(*) FROM (SELECT 1 FROM deliveries
    WHERE provider = :provider AND task_id = :task_id AND claim = :claim AND +verdict = :verdict
        AND (typeof(waiting) = 'text') = :waits
    LIMIT :most) a
"""

# How many of these are large, whether they wait or not.
COUNT_LARGE_ALIKE = f"""
SELECT count(*) FROM (SELECT 1 FROM deliveries
    WHERE provider = :provider AND task_id = :task_id AND claim = :claim AND +verdict = :verdict
        AND length(body) > {LARGE_BYTES}
    LIMIT :most) l
"""  # noqa: S608

NEWEST_ALIKE = """
SELECT max(number) FROM deliveries
WHERE provider = :provider AND task_id = :task_id AND claim = :claim AND +verdict = :verdict
    AND number NOT IN (SELECT value FROM json_each(:without))
"""

# The key and the times stay, and no more: nobody asked for the task.
EXPIRE_EARLY = """
UPDATE deliveries SET verdict = 'unowned', waiting = NULL, body = NULL WHERE number IN
    (SELECT number FROM deliveries
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') -- as the index says it
        AND verdict = 'early' AND received_at < :received_before LIMIT :most)
"""

INSERT_DELIVERY = insert_into(
    "deliveries",
    *("provider", "task_id", "claim", "digest", "submission", "via", "proof", "verdict", "provider_state"),
    *("note", "waiting", "received_at", "last_seen_at", "seen", "body"),
)


class _Filed:
    """One delivery: as it was read, as it will be, and what it takes to write that."""

    __slots__ = ("again", "before", "brought", "last_seen_at", "place_in_line", "row")

    def __init__(self, before: DeliveryRow | None, row: DeliveryRow, brought: Recording | None) -> None:
        self.before = before
        self.row = row
        self.brought = brought  # the body of a row that is new, or of one that is renewed
        self.again = 0  # how much oftener it was seen
        self.last_seen_at: str | None = None
        self.place_in_line = 0  # of what gets a new number; 0 where it keeps the one it has

    @property
    def order(self) -> tuple[int, int]:
        return self.place_in_line, self.row.number or 0

    @property
    def is_changed(self) -> bool:
        return self.row is not self.before or self.again > 0


class Deliveries:
    """The deliveries that a batch has read, with its changes; ``write`` saves them."""

    def __init__(self, db: Cursor) -> None:
        self._db = db
        self._known: dict[Key, _Filed | None] = {}
        self._by_number: dict[int, _Filed] = {}  # of these, those that were read
        # Of these, those of each task, and perhaps some that are filed under another by now: with all that
        # wait looked through for each, one sender would slow down everybody who is recorded with him.
        self._by_task: defaultdict[TaskKey, dict[_Filed, None]] = defaultdict(dict)
        self._opened: set[TaskKey] = set()  # of which all that may still change is known
        self._placed: list[_Filed] = []  # what gets a new number, in this order
        self._reread: list[Row] = []
        self._more: defaultdict[object, int] = defaultdict(
            int
        )  # how many more of a kind there are than in the table
        self._ownerless: dict[str, int] | None = None

    def read(self, keys: Iterable[Key]) -> None:
        """Read those that are filed under these keys, together, where that is not known."""
        if asked := [key for key in dict.fromkeys(keys) if key not in self._known]:
            self.know(asked, find_rows(self._db.execute(*BY_KEY.of(asked)), DeliveryRow))

    def know(self, keys: Iterable[Key], found: Iterable[DeliveryRow] = ()) -> None:
        """Know what was filed under these keys, if anything."""
        self._known.update(dict.fromkeys(keys))
        for row in found:
            self._read(row)

    def find(self, place: FilingKey, digest: str) -> DeliveryRow | None:
        """The row of a body that came before."""
        filed = self._find((*place, digest))
        return None if filed is None else filed.row

    def by_number(self, number: int) -> DeliveryRow:
        """A row that is there."""
        if number in self._by_number:
            return self._by_number[number].row
        row = find_row(self._db.execute(BY_NUMBER, {"number": number}), DeliveryRow)
        assert row is not None, "deliveries are never deleted"  # noqa: S101
        return self._read(row).row

    def read_open(self, tasks: Iterable[TaskKey]) -> None:
        """Read what came for these tasks and may still change, together, where that is not known."""
        if asked := [task for task in dict.fromkeys(tasks) if task not in self._opened]:
            self._opened.update(asked)
            for row in find_rows(self._db.execute(*OPEN_OF_TASK.of(asked)), DeliveryRow):
                self._read(row)

    def settle_held(self, owner: SubmissionRow) -> None:
        """Say of callbacks that waited whether the end of their task, if it has one, bears them out."""
        if owner.fingerprint is None or owner.task_id is None:
            return
        for row in self.open_of_task(owner.provider, owner.task_id):
            if row.verdict is Verdict.UNCONFIRMED and row.submission == owner.number:
                self.change(row, rules.settled(row, owner.fingerprint))

    def open_of_task(self, provider: str, task_id: str) -> list[DeliveryRow]:
        """What came for a task and may still change, in the order it came."""
        self.read_open([(provider, task_id)])
        found = sorted(self._of_task(provider, task_id), key=lambda filed: filed.order)
        rows = [filed.row for filed in found]
        return [row for row in rows if row.verdict in rules.STILL_OPEN]

    def file(self, recording: Recording, verdict: Verdict, place: FilingKey, owner: int | None) -> None:
        """Keep a delivery, or count that its body came again."""
        filed = self._find((*place, recording.digest))
        if filed is None:
            row = rules.filed_anew(recording, verdict, place, owner)
            filed = _Filed(None, row, recording)
            self._put_last(filed)
            if verdict is Verdict.ACCEPTED:  # the usual way: it is history, and counted nowhere
                self._known[_key(row)] = filed
            else:
                self._know(filed)
                self._count(row, 1)
            return
        self._change(filed, rules.come_again(filed.row, recording, verdict, owner))
        self._see(filed, recording)

    def renew(self, recording: Recording, place: FilingKey) -> None:
        """Keep the body again of a delivery of which only the key was left."""
        filed = self._find((*place, recording.digest))
        assert filed is not None, "its key is left"  # noqa: S101
        self._change(
            filed,
            msgspec.structs.replace(
                filed.row, received_at=recording.received_at, body_bytes=len(recording.body)
            ),
        )
        filed.brought = recording
        self._put_last(filed)

    def count_on_newest(self, recording: Recording, verdict: Verdict, place: FilingKey) -> None:
        """Count a delivery that is not kept on the newest of its kind."""
        alike = [filed for filed in self._of_place(place) if filed.row.verdict is verdict]
        known = [filed.row.number for filed in self._of_place(place) if filed.before is not None]
        values = {**_place(place), "verdict": verdict.value, "without": msgspec.json.encode(known).decode()}
        (number,) = self._db.execute(NEWEST_ALIKE, values).fetchone()
        if number is not None:
            self.by_number(number)
            alike.append(self._by_number[number])
        self._see(max(alike, key=lambda filed: filed.order), recording)

    def change(self, row: DeliveryRow, now: DeliveryRow) -> None:
        """Make a row that was found say what it says ``now``."""
        filed = self._known[_key(row)]
        assert filed is not None, "it was found"  # noqa: S101
        self._change(filed, now)

    def reread(self, row: DeliveryRow, now: DeliveryRow, recording: Recording) -> None:
        """The same for one that was read anew, perhaps with another task."""
        filed = self._known[_key(row)]
        assert filed is not None, "it was found"  # noqa: S101
        self._known[_key(row)] = None
        self._change(filed, now)
        self._know(filed)
        report = recording.report
        self._reread.append(
            parameters(
                task_id=now.task_id, provider_state=report.provider_state, note=report.note, number=now.number
            )
        )

    def count_alike(self, place: FilingKey, verdict: Verdict, most: int, *, waits: bool) -> int:
        """How many of one kind one token brought one task; counting stops at ``most``."""
        more = self._more[place, verdict, waits]
        values = {**_place(place), "verdict": verdict.value, "waits": waits, "most": max(most - more, 0)}
        (kept,) = self._db.execute(COUNT_ALIKE, values).fetchone()
        return int(kept) + more

    def count_large_alike(self, place: FilingKey, verdict: Verdict) -> int:
        """How many large ones one token brought one task; counting stops at the most that there may be."""
        more = self._more[place, verdict, "large"]
        values = {**_place(place), "verdict": verdict.value, "most": max(MOST_LARGE_ALIKE - more, 0)}
        (kept,) = self._db.execute(COUNT_LARGE_ALIKE, values).fetchone()
        return int(kept) + more

    def count_ownerless(self, verdict: Verdict) -> int:
        """How many of a verdict nobody owns."""
        if self._ownerless is None:
            self._ownerless = dict(self._db.execute(COUNT_OWNERLESS).fetchall())
        return self._ownerless.get(verdict, 0) + self._more[verdict]

    def count_large(self, verdict: Verdict) -> int:
        """How many of these are large; counting stops at the most that there may be."""
        more = self._more[verdict, "large"]
        values = {"verdict": verdict.value, "most": max(MOST_LARGE - more, 0)}
        (kept,) = self._db.execute(COUNT_LARGE, values).fetchone()
        return int(kept) + more

    def write(self) -> None:
        changed = [_changes(filed) for filed in self._by_number.values() if filed.is_changed]
        if changed:
            self._db.executemany(UPDATE_DELIVERY, changed)
        if self._reread:
            self._db.executemany(REREAD_DELIVERY, self._reread)
        for is_new, run in groupby(self._placed, key=lambda filed: filed.before is None):
            if is_new:
                self._db.executemany(INSERT_DELIVERY, map(_insert, run))
            else:
                self._db.executemany(RENEW_DELIVERY, map(_renewal, run))

    def _find(self, key: Key) -> _Filed | None:
        if key not in self._known:
            self.read([key])
        return self._known[key]

    def _read(self, row: DeliveryRow) -> _Filed:
        """Know a row that was read, unless it is known and changed already."""
        assert row.number is not None, "what was read has a number"  # noqa: S101
        filed = self._by_number.get(row.number)
        if filed is None:
            filed = self._by_number[row.number] = self._know(_Filed(row, row, None))
        return filed

    def _know(self, filed: _Filed) -> _Filed:
        row = filed.row
        self._known[_key(row)] = filed
        self._by_task[row.provider, row.task_id][filed] = None
        return filed

    def _of_task(self, provider: str, task_id: str) -> Iterator[_Filed]:
        for filed in self._by_task[provider, task_id]:
            if (filed.row.provider, filed.row.task_id) == (provider, task_id):
                yield filed

    def _of_place(self, place: FilingKey) -> Iterator[_Filed]:
        provider, task_id, claim = place
        return (filed for filed in self._of_task(provider, task_id) if filed.row.claim == claim)

    def _put_last(self, filed: _Filed) -> None:
        self._placed.append(filed)
        filed.place_in_line = len(self._placed)

    def _see(self, filed: _Filed, recording: Recording) -> None:
        filed.again += 1
        filed.last_seen_at = to_text(recording.received_at)

    def _change(self, filed: _Filed, row: DeliveryRow) -> None:
        self._count(filed.row, -1)
        filed.row = row
        self._count(row, 1)

    def _count(self, row: DeliveryRow, number: int) -> None:
        """Note of which kinds there is one more, or one less."""
        if row.verdict is Verdict.ACCEPTED:
            return  # of these there is no limit
        more, place = self._more, (row.provider, row.task_id, row.claim)
        is_large = rules.is_large(row.body_bytes)
        more[place, row.verdict, row.waiting is not None] += number
        if is_large:
            more[place, row.verdict, "large"] += number
        if row.submission is None and row.verdict in OWNERLESS:
            more[row.verdict] += number
            if is_large:
                more[row.verdict, "large"] += number


def expire_early(db: Cursor, received_before: datetime, limit: int) -> int:
    """Early deliveries that waited long enough become unowned, up to ``limit`` of them; how many."""
    values = parameters(received_before=received_before, most=limit)
    return db.execute(EXPIRE_EARLY, values).rowcount


def _key(row: DeliveryRow) -> Key:
    return row.provider, row.task_id, row.claim, row.digest


def _place(place: FilingKey) -> Row:
    provider, task_id, claim = place
    return {"provider": provider, "task_id": task_id, "claim": claim}


def _insert(filed: _Filed) -> tuple[Any, ...]:
    row, brought = filed.row, filed.brought
    assert brought is not None, "what is new was brought"  # noqa: S101
    moment, report = to_text(row.received_at), brought.report
    key = row.provider, row.task_id, row.claim, row.digest
    what = row.submission, row.via.value, row.proof.value, row.verdict.value
    said = report.provider_state, report.note, row.waiting
    return *key, *what, *said, moment, filed.last_seen_at or moment, 1 + filed.again, brought.body


def _changes(filed: _Filed) -> Row:
    row, before = filed.row, filed.before
    assert before is not None, "what was read"  # noqa: S101
    return {
        "submission": row.submission,
        "verdict": row.verdict.value,
        "waiting": row.waiting,
        "again": filed.again,
        "last_seen_at": filed.last_seen_at,
        "number": before.number,
    }


def _renewal(filed: _Filed) -> Row:
    row, brought = filed.row, filed.brought
    assert brought is not None, "what is renewed was brought"  # noqa: S101
    return parameters(received_at=row.received_at, body=brought.body, number=row.number)
