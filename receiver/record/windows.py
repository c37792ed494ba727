"""Long ranges of rows, looked through in windows: each statement reads keys of one index, and few rows.

A filter may match one row in a million, so what a look covers is bounded by time and not by what it finds.
Whoever wants more goes on where it ended. So no read holds a thread, or a snapshot of the file, for long.
"""

import re
import time
from collections.abc import Iterator, Mapping

import msgspec

from receiver.errors import Rejected
from receiver.problem_types import ProblemType
from receiver.record.cursor import Cursor

LOOK_SECONDS = 0.25
FIRST_WINDOW = 250  # rows; each window after it is twice as large, so that a slow disk is seen in time
LARGEST_WINDOW = 4_000
LAST_NUMBER = 2**63 - 1

CURSOR = re.compile(r"at_([0-9]{1,18})")


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a table in the order of their numbers, as one index has them."""

    table: str  # with its alias and, where it is not the table's own key, its index
    number: str
    only: str = "true"  # what the index finds them by
    is_of_tasks: bool = False  # whether the numbers are those of tasks, which rise as these are logged


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Some of these rows: all whose numbers are from ``low`` to ``high``."""

    low: int
    high: int
    is_last: bool


def windows(
    db: Cursor,
    walk: Walk,
    values: Mapping[str, object],
    *,
    low: int = 0,
    high: int = LAST_NUMBER,
    newest_first: bool = False,
    most_rows: int | None = None,
) -> Iterator[Window]:
    """Cut the rows with numbers from ``low`` to ``high`` into windows, until all are in one or time is up.

    With ``most_rows`` it is up when so many were looked through.
    """
    until = time.monotonic() + LOOK_SECONDS
    left = most_rows
    size = FIRST_WINDOW if left is None else min(FIRST_WINDOW, left)
    sql = edge_query(walk, newest_first=newest_first)
    while True:
        edge = db.execute(sql, {**values, "low": low, "high": high, "size": size - 1}).fetchone()
        if edge is None:
            yield Window(low=low, high=high, is_last=True)
            return
        (number,) = edge
        if newest_first:
            yield Window(low=number, high=high, is_last=False)
            high = number - 1
        else:
            yield Window(low=low, high=number, is_last=False)
            low = number + 1
        if left is not None:
            left -= size
        if left == 0 or time.monotonic() >= until:
            return
        size = min(2 * size, LARGEST_WINDOW)
        if left is not None:
            size = min(size, left)


def edge_query(walk: Walk, *, newest_first: bool) -> str:
    """The number of the row at which a window ends, if there are so many."""
    order = "DESC" if newest_first else "ASC"
    return f"""
    SELECT {walk.number} FROM {walk.table} WHERE {walk.only} AND {walk.number} BETWEEN :low AND :high
    ORDER BY {walk.number} {order} LIMIT 1 OFFSET :size
    """  # noqa: S608


def number_below(cursor: str | None) -> int:
    """The number that all rows of a page are below. Raises Rejected (BAD_CURSOR) for one not ours."""
    if cursor is None:
        return LAST_NUMBER
    match = CURSOR.fullmatch(cursor)
    if match is None:
        raise Rejected(ProblemType.BAD_CURSOR, "Pass the next_cursor of the page before, or none.")
    return int(match[1])


def cursor_at(number: int | None) -> str | None:
    """Where the page begins whose rows are below a number, if there is one."""
    return None if number is None else f"at_{number}"
