"""The record table by table: how all of it gets into another database, and the proof that it did.

The columns are named here once, for every engine. What an engine keeps besides (which migrations it applied,
who runs which loop, who is logged in) is no part of the record. No trigger is switched off: they find nothing
to count in tables that are empty, and what they keep is copied last, in the place of what they made of it.
"""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from receiver.errors import Misconfigured, ReceiverError
from receiver.models import TableCopy
from receiver.ports import RecordTables
from receiver.record.cursor import Cursor
from receiver.record.leases import EVERYBODY
from receiver.record.store import free_leases

ROWS_BETWEEN_LOOKS = 256  # at the progress

_encode = msgspec.msgpack.Encoder().encode


class Table(NamedTuple):
    """A table's name, its primary key, and its other columns."""

    name: str
    key: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return self.key + self.others


def _table(name: str, key: str, others: str = "") -> Table:
    return Table(name, tuple(key.split()), tuple(others.split()))


# What happened. A trigger of one of these writes to those below only.
HAPPENED = (
    _table(
        "submissions",
        "number",
        "id provider owner task_id model metadata created_at bound_at withdrawn_at traceparent key"
        " has_charge",
    ),
    _table("requests", "number", "request"),
    _table(
        "orders",
        "number",
        "state credential upstream_key guard digest callback_url sent_at lease due_at settled_at said_task_id"
        " outcome status media_type answer relay_due_at relay_attempts relay_outcome",
    ),
    _table(
        "charges",
        "number",
        "provider owner model token images micros credits basis as_of state held_at settled_at",
    ),
    _table("budgets", "scope name period", "micros is_hard unpriced set_at"),
    _table("budget_sums", "scope name period start", "micros"),
    _table(
        "cost_sums",
        "day owner provider model token",
        "orders images unpriced held charged released uncertain as_of",
    ),
    _table(
        "deliveries",
        "number",
        "provider task_id claim digest submission via proof verdict provider_state note waiting received_at"
        " last_seen_at seen body",
    ),
    _table("spared", "number"),
    _table(
        "events",
        "number",
        "id via fingerprint received_at type ended_at revision error_code error_message announced",
    ),
    _table("earlier_event_ids", "id", "number"),
    _table("revisions", "event revision", "content"),
    _table(
        "assets",
        "event position",
        "kind state outcome attempts due_at lease deadline_at key media_type bytes width height sha256"
        " settled_at renewed replay_id alike provider host_hash",
    ),
    _table("links", "event position", "url"),
    _table("contents", "digest", "event position"),
    _table(
        "outbox",
        "number",
        "event sink revision replay_id state outcome attempts due_at lease created_at settled_at revived"
        " detail line",
    ),
    _table(
        "attempts",
        "number",
        "event target attempt outcome started_at seconds detail times last_started_at entry",
    ),
    _table("polls", "number", "provider due_at lease asked outcome detail asked_at held replay_id"),
    _table(
        "replays",
        "id",
        "stage state requested_by created_at finished_at rate due_at lease matched looked_at queued settled"
        " cursor up_to results filter sinks",
    ),
    _table("gateway_tokens", "name", "hash providers models owner created_at expires_at revoked_at"),
    _table("audit", "number", "at act who role door said_name target filter planned done reason result key"),
)

# What is kept of it besides, by triggers, by upkeep and for plots. A new record has rows of these already.
KEPT = (
    _table("unended", "number"),
    _table("failures", "provider type number"),
    _table("counts", "kind name state", "number"),
    _table(
        "cost_totals",
        "period start owner provider model token",
        "orders images unpriced held charged released uncertain as_of",
    ),
    _table("ownerless", "verdict", "kept"),
    _table("retention", "id", "deliveries_to submissions_to polls_to outbox_to"),
    _table("heartbeat", "id", "beats"),
    _table("series", "number", "name labels"),
    _table("buckets", "series width start", "value"),
    _table("refusals", "number", "hour provider status reason scheme count first_at last_at"),
    _table("marks", "at kind what"),
)

TABLES = HAPPENED + KEPT


class NewTables(RecordTables, Protocol):
    """The tables of a record to which all is written in one transaction, which is not ended here."""

    @property
    def cursor(self) -> Cursor:
        """One in that transaction."""

    def clear(self, table: Table) -> None:
        """Delete all rows."""

    def write(self, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        """Insert rows, each with the table's columns in their order."""


def fill(
    new: NewTables, source: RecordTables, now: datetime, progress: Callable[[int, int], None]
) -> list[TableCopy]:
    """Copy every table, read it back, and compare; then free all leases, as nobody works on anything.

    ``progress`` is told how many rows were written or read back, and how many there will be. Raises
    Misconfigured where the new record holds something, and ReceiverError where it is not the same then.
    """
    _refuse_filled(new)
    for table in KEPT:
        new.clear(table)
    counts = [source.count(table.name) for table in TABLES]
    count = _Progress(progress, 2 * sum(counts))
    copies = [_copy(new, source, table, count) for table in TABLES]
    free_leases(new.cursor, now, EVERYBODY)
    return copies


def _refuse_filled(new: NewTables) -> None:
    for table in HAPPENED:
        if new.cursor.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchone():  # noqa: S608 - a name from above
            raise Misconfigured(
                f"the database to move to holds a record already (its table {table.name} has rows):"
                " name an empty one"
            )


def _copy(new: NewTables, source: RecordTables, table: Table, count: "_Progress") -> TableCopy:
    if table in KEPT:
        new.clear(table)  # of what triggers made of the others
    sent, found = _Digest(table.name), _Digest(table.name)
    with closing(_read(source, table)) as rows:
        new.write(table, sent.over(count.over(rows)))
    with closing(_read(new, table)) as rows:
        for _ in found.over(count.over(rows)):
            pass
    if sent.result() != found.result():
        raise ReceiverError(
            f"the table {table.name} did not arrive as it was ({sent.words()} were read, {found.words()} read"
            " back): nothing was kept of it, and the record is where it was"
        )
    return found.result()


def _read(tables: RecordTables, table: Table) -> Generator[Sequence[Any], None, None]:
    return tables.read(table.name, table.columns, table.key)


class _Digest:
    """SHA-256 over rows as MessagePack has them, one after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._hash = hashlib.sha256()
        self._rows = self._bytes = 0

    def over(self, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        for row in rows:
            encoded = _encode(row)
            self._hash.update(encoded)
            self._rows += 1
            self._bytes += len(encoded)
            yield row

    def result(self) -> TableCopy:
        return TableCopy(name=self._name, rows=self._rows, bytes=self._bytes, sha256=self._hash.hexdigest())

    def words(self) -> str:
        return f"{self._rows:,} rows with {self._bytes:,} bytes and hash {self._hash.hexdigest()[:16]}"


class _Progress:
    """Rows that went by, over all tables."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def over(self, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        for row in rows:
            self._done += 1
            if self._done % ROWS_BETWEEN_LOOKS == 0 or self._done == self._total:
                self._progress(self._done, self._total)
            yield row
