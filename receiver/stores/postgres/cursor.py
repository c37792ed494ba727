"""The cursor that the record is written and read with: its statements in PostgreSQL's words, many at once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Self

import msgspec
from psycopg import Connection

from receiver.stores.postgres.arrays import ARRAYS, array_of, escape, unescape_rows
from receiver.stores.postgres.dialect import ForMany, for_many, translate

Encoders = Sequence[Any]


# What changes rows and says nothing of them but how many.
_CHANGE = re.compile(r"\s*(?:INSERT|UPDATE|DELETE)(?!.*\bRETURNING\b)", re.DOTALL)


class PostgresCursor:
    """Implements ``record.cursor.Cursor``.

    A change waits until something is asked: then all go to the server together, and their answers come
    together, in one way there and back. So what is wrong with a change is raised later, with ``rowcount``,
    with the next query or with ``end``. Until then it counts as one row for each of its values.
    """

    def __init__(self, connection: Connection[tuple[Any, ...]]) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._waiting: list[tuple[str, Any]] = []
        self._many: dict[str, tuple[ForMany, str, Encoders] | None] = {}
        self.changes = 0

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        self._send_waiting()
        return self._cursor.rowcount

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        if sql in {"BEGIN", "COMMIT"}:  # of a snapshot: whoever reads here is in one
            return self
        text, lists, width = translate(sql)
        if width:
            parameters = [array_of(parameters[place::width]) for place in range(width)]
        values = _kept(parameters, lists) if parameters else None
        if _CHANGE.match(sql):
            self._change_later(text, values, 1)
            return self
        if sql.startswith("ROLLBACK"):
            self.forget_waiting()
        self._run(text, values)
        if self._cursor.rowcount > 0 and not (self._cursor.statusmessage or "").startswith("SELECT"):
            self.changes += self._cursor.rowcount
        return self

    def executemany(self, sql: str, parameters: Any, /) -> Self:
        rows = list(parameters)
        if not rows:
            return self
        many = self._for_many(sql)
        if many is not None and (columns := _columns(rows, many[0])):
            _, text, encoders = many
            arrays = [encode(column) for encode, column in zip(encoders, columns, strict=True)]
            self._change_later(text, arrays, len(rows))
        else:
            self._send_waiting()
            text, lists, _ = translate(sql)
            self._cursor.executemany(text, [_kept(row, lists) for row in rows])
            self.changes += max(self._cursor.rowcount, 0)
        return self

    def fetchone(self) -> Any:
        row = self._cursor.fetchone()
        return row if row is None else unescape_rows([row])[0]

    def fetchall(self) -> list[Any]:
        return unescape_rows(self._cursor.fetchall())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())

    def end(self, sql: str) -> str | None:
        """Send all that waits, and with it the end of the transaction; what the server says of that."""
        self._run(sql, None)
        return self._cursor.statusmessage

    def forget_waiting(self) -> None:
        """Send none of what waits."""
        self._waiting.clear()

    def _change_later(self, text: str, values: Any, rows: int) -> None:
        self._waiting.append((text, values))
        self.changes += rows

    def _send_waiting(self) -> None:
        if self._waiting:
            self._run(*self._waiting.pop())

    def _run(self, text: str, values: Any) -> None:
        if not self._waiting:
            self._cursor.execute(text, values)
            return
        waiting, self._waiting = self._waiting, []
        with self._connection.pipeline():
            for change in waiting:
                self._connection.execute(*change)
            self._cursor.execute(text, values)

    def _for_many(self, sql: str) -> tuple[ForMany, str, Encoders] | None:
        """How a statement is run for many rows at once, with what makes each parameter's array."""
        if sql not in self._many:
            form = for_many(sql)
            encoders = form and [ARRAYS.get(type_) for type_ in self._types(form.alone)]
            self._many[sql] = (form, form.text(), encoders) if form and encoders and all(encoders) else None
        return self._many[sql]

    def _types(self, alone: str) -> list[int]:
        """The server's types of a statement's parameters."""
        found = self._cursor.execute(
            f"PREPARE receiver_types AS {alone}\n; SELECT parameter_types::oid[] FROM pg_prepared_statements"  # noqa: S608
            " WHERE name = 'receiver_types'; DEALLOCATE receiver_types".encode()
        )
        found.nextset()
        ((types,),) = found.fetchall()
        return list(types)


def _columns(rows: list[Any], form: ForMany) -> list[tuple[Any, ...]] | None:
    """The values of each parameter; None where one row would be changed twice, which is done in order."""
    if isinstance(rows[0], Mapping):
        rows = (
            list(map(itemgetter(*form.names), rows))
            if len(form.names) > 1
            else [(row[form.names[0]],) for row in rows]
        )
    columns = list(zip(*rows, strict=True))
    if form.identifying:
        changed = set(zip(*(columns[place] for place in form.identifying), strict=True))
        if len(changed) < len(rows):
            return None
    return columns


def _kept(parameters: Any, lists: frozenset[str]) -> Any:
    """Parameters as they are kept, those that are lists in JSON as arrays."""
    if isinstance(parameters, Mapping):
        kept = {name: escape(value) if type(value) is str else value for name, value in parameters.items()}
        for name in lists:
            values = msgspec.json.decode(parameters[name])
            kept[name] = array_of(values) if values else []
        return kept
    return [escape(value) if type(value) is str else value for value in parameters]
