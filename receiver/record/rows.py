"""Rows as values and values as parameters, by name: one binding of times, enums and JSON for every table.

A statement selects each column under the name of the field that it is for (``AS``), and names its parameters
(``:name``). Times are text of a fixed width, states are their words, flags are 0 and 1, and what has a shape
of its own (a mapping, a list, a struct) is JSON.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from receiver.record.cursor import Cursor
from receiver.times import to_text

T = TypeVar("T", bound=msgspec.Struct)

Row = dict[str, Any]

_AS_THEY_ARE = frozenset({str, int, float, bytes, type(None)})
_WITH_A_SHAPE = (inspect.CollectionType, inspect.DictType, inspect.StructType, inspect.TupleType)
_read_json = msgspec.json.Decoder().decode


def fetch_all(cursor: Cursor) -> list[Row]:
    """What a statement found, each row by the names of its columns."""
    names = _names(cursor)
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def fetch_one(cursor: Cursor) -> Row | None:
    """The first row of a statement by the names of its columns; None where it found nothing."""
    row = cursor.fetchone()
    return None if row is None else dict(zip(_names(cursor), row, strict=True))


def read_all(cursor: Cursor, kind: type[T], **shared: object) -> list[T]:
    """What a statement found as values; ``shared`` are fields that are no columns, alike for all of them."""
    return to_values(fetch_all(cursor), kind, **shared)


def read_one(cursor: Cursor, kind: type[T], **more: object) -> T | None:
    """The first row of a statement as a value, ``more`` being no columns; None where it found nothing."""
    row = fetch_one(cursor)
    return None if row is None else to_value(row, kind, **more)


def to_values(rows: Sequence[Row], kind: type[T], **shared: object) -> list[T]:
    """Rows as values, all at once: that is twice as fast as one by one. Other columns are passed over."""
    if not rows:
        return []
    for row in rows:
        _complete(row, kind, shared)
    return msgspec.convert(rows, list[kind], strict=False)  # type: ignore[valid-type] # known at run time


def to_value(row: Row, kind: type[T], **more: object) -> T:
    """One row as a value, with fields that are no columns. Other columns are passed over."""
    _complete(row, kind, more)
    return msgspec.convert(row, kind, strict=False)  # flags are numbers


def parameters(**values: object) -> Row:
    """Values by the names that a statement has for them."""
    return {name: to_column(value) for name, value in values.items()}


def parameters_of(value: msgspec.Struct, **more: object) -> Row:
    """The fields of a value, and ``more``, by their names."""
    return {name: to_column(getattr(value, name)) for name in value.__struct_fields__} | parameters(**more)


def to_column(value: object) -> object:
    """A value as a column keeps it."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, Enum):
        return value.value
    if kind is bool:
        return int(value)  # type: ignore[call-overload] # it is one
    return msgspec.json.encode(value).decode()


def _names(cursor: Cursor) -> list[str]:
    return [name for name, *_ in cursor.description or ()]


def _complete(row: Row, kind: type[msgspec.Struct], more: dict[str, object]) -> None:
    """Add what is no column, and read what is JSON."""
    row.update(more)
    for name in _json_fields(kind):
        if isinstance(text := row.get(name), str):
            row[name] = _read_json(text)


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
