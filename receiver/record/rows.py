"""Rows as values and values as parameters, by name: one binding of times, enums and JSON for every table.

A statement selects each column under the name of the field that it is for (``AS``), and names its parameters
(``:name``). Times are text of a fixed width, states are their words, flags are 0 and 1, and what has a shape
of its own (a mapping, a list, a struct) is JSON.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import Enum
from functools import cache
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from receiver.errors import Unavailable
from receiver.record.cursor import Cursor
from receiver.times import to_text

T = TypeVar("T", bound=msgspec.Struct)

Row = dict[str, Any]
Key = tuple[str | int, ...]

_AS_THEY_ARE = frozenset({str, int, float, bytes, type(None)})
_WITH_A_SHAPE = (inspect.CollectionType, inspect.DictType, inspect.StructType, inspect.TupleType)
_name = itemgetter(0)  # of a column, in what a cursor says of it
from_json = msgspec.json.Decoder().decode  # of a column that holds any JSON


def fetch_all(cursor: Cursor) -> list[Row]:
    """What a statement found, each row by the names of its columns."""
    rows = cursor.fetchall()
    if not rows:
        return []
    names = [*map(_name, cursor.description)]
    return [dict(zip(names, row)) for row in rows]  # noqa: B905 - a driver's row has all; asking costs as much again


def fetch_one(cursor: Cursor) -> Row | None:
    """The first row of a statement by the names of its columns; None where it found nothing."""
    row = cursor.fetchone()
    return None if row is None else dict(zip(map(_name, cursor.description), row))  # noqa: B905 - as above


def read_all(cursor: Cursor, kind: type[T], **shared: object) -> list[T]:
    """What a statement found as values; ``shared`` are fields that are no columns, alike for all of them."""
    return to_values(fetch_all(cursor), kind, **shared)


def read_limits(cursor: Cursor, kind: type[T], what: str) -> list[T]:
    """The same of what says whether something may be done at all.

    Raises Unavailable where a row is not understood, such as one of a later release: passed over, or taken
    for a fault while something is under way, it would bound nothing.
    """
    try:
        return read_all(cursor, kind)
    except msgspec.ValidationError as exc:
        raise Unavailable(f"{what} on record is not understood by this release: mend or remove it") from exc


def read_one(cursor: Cursor, kind: type[T], **more: object) -> T | None:
    """The first row of a statement as a value, ``more`` being no columns; None where it found nothing."""
    row = fetch_one(cursor)
    return None if row is None else to_value(row, kind, **more)


def find_rows(cursor: Cursor, kind: type[T]) -> list[T]:
    """The same where every instruction counts: for a kind like an array, of columns in its fields' order."""
    rows = cursor.fetchall()
    if len(rows) == 1:
        return [msgspec.convert(rows[0], kind)]
    values: list[T] = msgspec.convert({"rows": rows}, _list_of(kind)).rows if rows else []  # type: ignore[attr-defined]
    return values


def find_row(cursor: Cursor, kind: type[T]) -> T | None:
    """The first row in the same way; None where the statement found nothing."""
    row = cursor.fetchone()
    return None if row is None else msgspec.convert(row, kind)


def to_values(rows: Sequence[Row], kind: type[T], **shared: object) -> list[T]:
    """Rows as values, all at once, which is faster than one by one. Other columns are passed over."""
    if not rows:
        return []
    if shared:
        for row in rows:
            row.update(shared)
    for name in _json_fields(kind):
        for row in rows:
            _read_in_place(row, name)
    values: list[T] = msgspec.convert({"rows": rows}, _list_of(kind), strict=False).rows  # type: ignore[attr-defined]
    return values


def to_value(row: Row, kind: type[T], **more: object) -> T:
    """One row as a value, with fields that are no columns. Other columns are passed over."""
    if more:
        row.update(more)
    for name in _json_fields(kind):
        _read_in_place(row, name)
    return msgspec.convert(row, kind, strict=False)  # flags are numbers


def _read_in_place(row: Row, name: str) -> None:
    if isinstance(text := row.get(name), str):
        row[name] = from_json(text)


class ByKeys:
    """A query for the rows of one key or of many, by what is selected, the tables and the columns of the key.

    Many are joined as a list of VALUES, which every database has. It is filled in before it is joined, and
    that costs more than all the rest where there is one key.
    """

    def __init__(
        self, select: str, tables: str, key: Sequence[str], beside: Sequence[str] = (), where: str = ""
    ) -> None:
        """``key`` names columns with their table's short name, ``tables`` begins with that table.

        ``beside`` are more values of each key, before the others, that ``tables`` have as ``{name}``;
        ``where`` is true of every row that is found.
        """
        names = [*beside, *(column.partition(".")[2] for column in key)]
        self._width = len(names)
        also = f" AND {where}" if where else ""
        alone = tables.format_map(dict.fromkeys(beside, "?"))
        tables = tables.format_map({name: f"k.{name}" for name in beside})
        self._one = f"{select} FROM {alone} WHERE {' AND '.join(f'{column} = ?' for column in key)}{also}"
        joined = " AND ".join(
            f"{column} = k.{name}" for column, name in zip(key, names[len(beside) :], strict=True)
        )
        given = f"WITH k ({', '.join(names)}) AS (VALUES {{keys}})"
        self._many = f"{given} {select} FROM k CROSS JOIN {tables} WHERE {joined}{also}"
        self._sized: dict[int, str] = {}

    def of(self, keys: Sequence[Key]) -> tuple[str, Sequence[str | int]]:
        """The statement for these keys, of which there is at least one, and its parameters.

        There are statements for some numbers of keys only, so that each is prepared once: the last key is
        repeated up to the next of these.
        """
        if len(keys) == 1:
            return self._one, keys[0]
        count = 1 << (len(keys) - 1).bit_length()
        values = list(chain.from_iterable(keys))
        values += values[-self._width :] * (count - len(keys))
        if count not in self._sized:
            one = f"({', '.join('?' * self._width)})"
            self._sized[count] = self._many.format(keys=", ".join([one] * count))
        return self._sized[count], values


def insert_into(table: str, *names: str) -> str:
    """A statement that inserts rows of these columns, in this order.

    Where every instruction counts: a driver takes parameters by their place in half the time that it takes to
    look them up by their names.
    """
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608


def parameters(**values: object) -> Row:
    """Values by the names that a statement has for them."""
    for name, value in values.items():
        if bind := _BINDINGS[type(value)]:
            values[name] = bind(value)
    return values


def parameters_of(value: msgspec.Struct, **more: object) -> Row:
    """The fields of a value, and ``more``, by their names; a field of any JSON is kept as JSON, text too."""
    fields = msgspec.structs.asdict(value)
    for name in _json_fields(type(value)):
        if fields[name] is not None:
            fields[name] = _to_json(fields[name])
    return parameters(**fields | more)


def to_column(value: object) -> object:
    """A value as a column keeps it."""
    bind = _BINDINGS[type(value)]
    return bind(value) if bind else value


class _Bindings(dict[type, Callable[[Any], object] | None]):
    """By type, how a value is kept where a driver does not take it as it is; found when the first comes."""

    def __missing__(self, kind: type) -> Callable[[Any], object] | None:
        self[kind] = binding = self._of(kind)
        return binding

    def _of(self, kind: type) -> Callable[[Any], object] | None:
        if kind in _AS_THEY_ARE:
            return None
        if issubclass(kind, datetime):
            return to_text
        if issubclass(kind, Enum):
            return attrgetter("_value_")  # what ``value`` says, in a third of its time
        return int if issubclass(kind, bool) else _to_json


_BINDINGS = _Bindings()


def _to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


@cache
def _list_of(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """A struct of rows: what converting to it means is worked out once, to a mere list of them every time."""
    return msgspec.defstruct("_Rows", [("rows", list[kind])])  # type: ignore[valid-type] # known at run time


@cache
def _json_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields of a value whose columns hold JSON."""
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType), "rows become structs"  # noqa: S101
    return tuple(field.name for field in described.fields if _has_a_shape(field.type))


def _has_a_shape(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(_has_a_shape(each) for each in kind.types)
    if isinstance(kind, inspect.CustomType):
        return kind.cls is object  # any JSON document
    return isinstance(kind, _WITH_A_SHAPE)
