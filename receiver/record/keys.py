"""Select rows by one key, or by many through a joined list of VALUES, which every database has.

A list is filled in before it is joined, which costs more than all the rest where there is one key.
"""

from collections.abc import Sequence
from itertools import chain

Key = tuple[str, ...]


class ByKeys:
    """A query for the rows of some keys, by what is selected, the tables and the columns of the key."""

    def __init__(self, select: str, tables: str, key: Sequence[str]) -> None:
        """``key`` names columns with their table's short name, ``tables`` begins with that table."""
        names = [column.partition(".")[2] for column in key]
        self._width = len(key)
        self._one = f"{select} FROM {tables} WHERE {' AND '.join(f'{column} = ?' for column in key)}"
        joined = " AND ".join(f"{column} = k.{name}" for column, name in zip(key, names, strict=True))
        self._many = (
            f"WITH k ({', '.join(names)}) AS (VALUES {{keys}}) {select} FROM k JOIN {tables} WHERE {joined}"
        )
        self._sized: dict[int, str] = {}

    def of(self, keys: Sequence[Key]) -> tuple[str, Sequence[str]]:
        """The statement for these keys, of which there is at least one, and its parameters.

        There are statements for some numbers of keys only, so that each is prepared once: the last key is
        repeated up to the next of these.
        """
        if len(keys) == 1:
            return self._one, keys[0]
        count = 1 << (len(keys) - 1).bit_length()
        values = list(chain.from_iterable(keys))
        values += values[-self._width :] * (count - len(keys))
        return self._statement(count), values

    def _statement(self, count: int) -> str:
        if count not in self._sized:
            one = f"({', '.join('?' * self._width)})"
            self._sized[count] = self._many.format(keys=", ".join([one] * count))
        return self._sized[count]
