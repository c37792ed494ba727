"""Many values of one type in one parameter, in PostgreSQL's binary form; and what stands for U+0000 in text.

Built here, for the driver takes several times as long: it looks at each value for its type.
"""

import struct
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any, TypeVar

from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format

T = TypeVar("T")

# Text has no U+0000 there: see the schema.
_ESCAPE, _NUL, _ITSELF = "\U0010ffff", "\U0010ffff0", "\U0010ffff1"

_NULL = struct.pack("!i", -1)
_length = struct.Struct("!i").pack
_head = struct.Struct("!5i").pack  # dimensions, whether there are NULLs, type, length, first index


class TextArray(bytes):
    __slots__ = ()


class NumberArray(bytes):
    __slots__ = ()


class FloatArray(bytes):
    __slots__ = ()


class BytesArray(bytes):
    __slots__ = ()


def escape(text: str) -> str:
    """A text as it is kept."""
    if "\0" in text or _ESCAPE in text:
        text = text.replace(_ESCAPE, _ITSELF).replace("\0", _NUL)
    return text


def unescape_rows(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows as they were before they were kept."""
    if any(type(value) is str and _ESCAPE in value for row in rows for value in row):
        return [tuple(map(_unescape, row)) for row in rows]
    return rows


def _unescape(value: Any) -> Any:
    return value.replace(_NUL, "\0").replace(_ITSELF, _ESCAPE) if isinstance(value, str) else value


def texts(values: Sequence[str | None]) -> TextArray:
    return TextArray(_array(25, [None if value is None else escape(value).encode() for value in values]))


def bodies(values: Sequence[bytes | None]) -> BytesArray:
    return BytesArray(_array(17, values))


def numbers(values: Sequence[int | None]) -> NumberArray:
    return NumberArray(_packed(20, "q", values))


def floats(values: Sequence[float | None]) -> FloatArray:
    return FloatArray(_packed(701, "d", values))


# By the type of a parameter, what makes an array of its values.
ARRAYS: dict[int, Callable[[Any], bytes]] = {25: texts, 20: numbers, 701: floats, 17: bodies}


def array_of(values: Sequence[Any]) -> Any:
    """An array of values that are all text or all integers; at least one."""
    return numbers(values) if isinstance(values[0], int) else texts(values)


def register_arrays(adapters: AdaptersMap) -> None:
    """Have the driver hand arrays over as they are."""
    for kind, number in ((TextArray, 1009), (NumberArray, 1016), (FloatArray, 1022), (BytesArray, 1001)):
        name = f"{kind.__name__}Dumper"
        adapters.register_dumper(kind, type(name, (_ArrayDumper,), {"oid": number}))


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


def _array(type_: int, values: Sequence[bytes | None]) -> bytes:
    parts = [_head(1, None in values, type_, len(values), 1)]
    for value in values:
        parts += (_NULL,) if value is None else (_length(len(value)), value)
    return b"".join(parts)


def _packed(type_: int, code: str, values: Sequence[float | None]) -> bytes:
    if None in values:
        packer = struct.Struct(f"!{code}").pack
        return _array(type_, [None if value is None else packer(value) for value in values])
    form = struct.Struct("!" + f"i{code}" * len(values))
    return _head(1, 0, type_, len(values), 1) + form.pack(*chain.from_iterable(zip(repeat(8), values)))
