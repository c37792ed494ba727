"""What people did by hand: entries that are added, and never changed but for how many an act has done."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from receiver.models import AuditEntry, AuditFilter, AuditPage, AuditRow
from receiver.record.cursor import Cursor
from receiver.record.rows import fetch_all, parameters, parameters_of, read_one, to_values
from receiver.record.windows import cursor_at, number_below

T = TypeVar("T")

ENTRY_COLUMNS = "at, act, who, role, door, said_name, target, filter, planned, done, reason, result, key"

INSERT = f"""
INSERT INTO audit ({ENTRY_COLUMNS})
VALUES (:at, :act, :who, :role, :door, :said_name, :target, :filter, :planned, :done, :reason, :result, :key)
ON CONFLICT (key) DO NOTHING
"""  # noqa: S608
OF_KEY = f"SELECT number, {ENTRY_COLUMNS} FROM audit WHERE key = :key"  # noqa: S608
ADD_DONE = "UPDATE audit SET done = coalesce(done, 0) + :done WHERE key = :key"
END = "UPDATE audit SET result = :result WHERE key = :key"

CLAUSES = {
    "who": "who = :who",
    "act": "act = :act",
    "target": "target = :target",
    "since": "at >= :since",
    "until": "at < :until",
}


def note(db: Cursor, entry: AuditEntry) -> bool:
    """Keep an entry, unless there is one with its key; whether it was kept."""
    return db.execute(INSERT, parameters_of(entry)).rowcount == 1


def count_done(db: Cursor, entry: AuditEntry) -> None:
    """Keep an entry; where there is one with its key, that has done so many more."""
    if not note(db, entry):
        add_done(db, entry.key or "", entry.done or 0)


def add_done(db: Cursor, key: str, done: int) -> None:
    """An act that goes on has done so many more."""
    db.execute(ADD_DONE, {"key": key, "done": done})


def end_act(db: Cursor, key: str, result: str) -> AuditRow | None:
    """An act that went on has ended; its entry."""
    db.execute(END, {"key": key, "result": result})
    return get_entry(db, key)


def noting(db: Cursor, change: Callable[[Cursor], T], entry: AuditEntry | None) -> T:
    """Make a change and note whose it is, with how many it changed, where it says so and they are any."""
    result = change(db)
    if entry is not None and result != 0:
        done = result if isinstance(result, int) else entry.done
        note(db, msgspec.structs.replace(entry, done=done))
    return result


def counting(db: Cursor, change: Callable[[Cursor], T], key: str | None, how_many: Callable[[T], int]) -> T:
    """Make a change that is part of an act, and count it."""
    result = change(db)
    if key is not None:
        add_done(db, key, how_many(result))
    return result


def get_entry(db: Cursor, key: str) -> AuditRow | None:
    return read_one(db.execute(OF_KEY, {"key": key}), AuditRow)


def list_audit(db: Cursor, wanted: AuditFilter, limit: int, cursor: str | None) -> AuditPage:
    """A page of entries, the newest first; see ``ports.AuditStore.list_audit``."""
    values = parameters(**msgspec.structs.asdict(wanted), below=number_below(cursor), limit=limit + 1)
    rows = fetch_all(db.execute(list_query(wanted), values))
    place = rows[limit - 1]["number"] if len(rows) > limit else None
    return AuditPage(entries=tuple(to_values(rows[:limit], AuditRow)), next_cursor=cursor_at(place))


def list_query(wanted: AuditFilter) -> str:
    """The statement that lists what is wanted: with the clauses that are set, so that an index is found."""
    set_ = [clause for name, clause in CLAUSES.items() if getattr(wanted, name) is not None]
    where = " AND ".join(["number < :below", *set_])
    return f"SELECT number, {ENTRY_COLUMNS} FROM audit WHERE {where} ORDER BY number DESC LIMIT :limit"  # noqa: S608
