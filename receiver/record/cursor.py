"""What the record needs of a database's cursor: the part of PEP 249 that every driver has."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol


class Cursor(Protocol):
    """Runs one statement at a time, inside a transaction that whoever hands it over has begun."""

    @property
    def description(self) -> Any:
        """The columns of what the last statement found, each begun by its name."""

    @property
    def rowcount(self) -> int:
        """How many rows the last statement changed, all runs of ``executemany`` together."""

    def execute(self, sql: str, parameters: Any = ..., /) -> "Cursor": ...

    def executemany(self, sql: str, parameters: Any, /) -> "Cursor": ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


@contextmanager
def snapshot(db: Cursor) -> Iterator[None]:
    """All that is read inside is of one moment."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")


def change_each(db: Cursor, sql: str, values: Sequence[Any]) -> int:
    """How many rows a statement changed, run for each of ``values``: drivers say -1 where it never ran."""
    return db.executemany(sql, values).rowcount if values else 0
