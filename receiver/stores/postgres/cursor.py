"""The cursor that the record is written and read with: its statements in PostgreSQL's words, many at once."""

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Self

import msgspec
from psycopg import Connection

from receiver.stores.postgres.arrays import ARRAYS, array_of, escape, unescape_rows
from receiver.stores.postgres.dialect import ForMany, for_many, translate

Encoders = Sequence[Any]


class PostgresCursor:
    """Implements ``record.cursor.Cursor``."""

    def __init__(self, connection: Connection[tuple[Any, ...]]) -> None:
        self._cursor = connection.cursor()
        self._many: dict[str, tuple[ForMany, str, Encoders] | None] = {}
        self.changes = 0

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        if sql in {"BEGIN", "COMMIT"}:  # of a snapshot: whoever reads here is in one
            return self
        text, lists, width = translate(sql)
        if width:
            parameters = [array_of(parameters[place::width]) for place in range(width)]
        self._cursor.execute(text, _kept(parameters, lists) if parameters else None)
        self._count()
        return self

    def executemany(self, sql: str, parameters: Any, /) -> Self:
        rows = list(parameters)
        if not rows:
            return self
        many = self._for_many(sql)
        if many is not None and (columns := _columns(rows, many[0])):
            _, text, encoders = many
            arrays = [encode(column) for encode, column in zip(encoders, columns, strict=True)]
            self._cursor.execute(text, arrays)
        else:
            text, lists, _ = translate(sql)
            self._cursor.executemany(text, [_kept(row, lists) for row in rows])
        self._count()
        return self

    def fetchone(self) -> Any:
        row = self._cursor.fetchone()
        return row if row is None else unescape_rows([row])[0]

    def fetchall(self) -> list[Any]:
        return unescape_rows(self._cursor.fetchall())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())

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

    def _count(self) -> None:
        if not (self._cursor.statusmessage or "").startswith("SELECT"):
            self.changes += max(self._cursor.rowcount, 0)


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
