"""Migrations of a file, in their order; sqlite-utils applies them, and is imported only where one is due.

Names of applied ones are kept as sqlite-utils keeps them, in ``_sqlite_migrations``, so that its own command
line can read them. Most starts find nothing to apply: they save its import, which is a tenth of a start's
processor time and 3 MiB.
"""

import importlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlite_utils import Database

Step = Callable[["Database"], None]

IS_KEPT = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlite_migrations'"

APPLIED = "SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY rowid"


class Steps:
    """A set of migrations: functions that this decorates, named as they are."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._steps: dict[str, Step] = {}

    def __call__(self, step: Step) -> Step:
        name = getattr(step, "__name__", "")
        if name in self._steps:
            raise ValueError(f"there are two migrations {name}")
        self._steps[name] = step
        return step

    @property
    def names(self) -> Sequence[str]:
        return list(self._steps)

    def applied(self, connection: sqlite3.Connection) -> Sequence[str]:
        """The names that the file has, in the order in which they were applied; it may have newer ones."""
        if connection.execute(IS_KEPT).fetchone() is None:
            return []
        return [name for (name,) in connection.execute(APPLIED, (self._name,))]

    def pending(self, connection: sqlite3.Connection) -> list[str]:
        """The names that ``apply`` would apply."""
        applied = frozenset(self.applied(connection))
        return [name for name in self._steps if name not in applied]

    def apply(self, connection: sqlite3.Connection, *, stop_before: str | None = None) -> list[str]:
        """Apply what is pending, each in a transaction or savepoint of its own; return the names."""
        pending = self.pending(connection)
        if stop_before is not None:
            pending = pending[: pending.index(stop_before)]
        if pending:
            sqlite_utils: Any = importlib.import_module("sqlite_utils")
            migrations = sqlite_utils.Migrations(self._name)
            for name in pending:
                migrations()(self._steps[name])
            migrations.apply(sqlite_utils.Database(connection))
        return pending
