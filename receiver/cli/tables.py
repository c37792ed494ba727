"""Tables, pairs and aligned lines, made to fit the terminal."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import click

from receiver.cli.output import paint, plain
from receiver.cli.terminal import columns, hang, measure, say, shorten, shown
from receiver.escapes import printable

GAP = "  "
EMPTY = "-"
LEAST_CELL = 8  # where nothing else helps, whatever is in it

# What may be shortened in its middle before columns are left out, and how much of it stays at least. An id of
# ours (36 characters) stays whole for as long as anything else gives way, as other commands take it.
_LEAST = {
    "id": 36,
    "task_id": 20,
    "owner": 12,
    "model": 12,
    "requested_by": 10,
    "sink": 12,
    "key": 24,
    "filter": 16,
    "detail": 32,
}

_WIDE = "receiver.wide"


def _remember(context: click.Context, _: click.Parameter, is_wide: bool) -> None:
    context.meta[_WIDE] = is_wide


wide_option = click.option(
    "--wide",
    is_flag=True,
    expose_value=False,
    callback=_remember,
    help="Print tables in full, however narrow the terminal is.",
)


def print_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str], least: Sequence[str] = ()) -> None:
    """Print a column for each of ``names``, which are the rows' keys and the headings.

    A terminal gets as many as fit, with long ids shortened; those of ``least`` are left out first, in order.
    """
    table = {name: [name, *(shown(plain(row.get(name))) for row in rows)] for name in names}
    width = columns()
    if width is None or click.get_current_context().meta.get(_WIDE):
        _print_cells(table)
        return
    kept = _choose(table, least, width)
    fitted = _fit({name: table[name] for name in kept}, width)
    _print_cells(fitted)
    is_shortened = any(fitted[name] != table[name] for name in kept)
    dropped = [name for name in names if name not in kept]
    more = f"{len(dropped)} more column{'s' if len(dropped) > 1 else ''}" if dropped else ""
    for named in (f"{more} ({', '.join(dropped)})" if dropped else "", more):
        said = f"--wide shows {' and '.join(filter(None, (named, 'whole values' if is_shortened else '')))}."
        if len(said) <= width:
            break
    if dropped or is_shortened:
        say(said, dim=True)


def print_pairs(pairs: Sequence[tuple[str, Any]]) -> None:
    """Print names and values, without those that are unset."""
    set_ = [(printable(name), paint(value)) for name, value in pairs if value not in (None, "", {}, [])]
    print_lines(set_)


def print_lines(rows: Iterable[Sequence[str]], *, right: Collection[int] = ()) -> None:
    """Print aligned columns without headings, the last one wrapped; the cells are painted already.

    ``right`` are the numbers of the columns that are aligned to the right.
    """
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(measure, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        *first, last = [
            _pad(cell, width, is_right=number in right)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        label = "".join(cell + GAP for cell in first)
        for line in hang(label, last.rstrip(" "), columns()):
            click.echo(line.rstrip(" "))


def _choose(table: Mapping[str, Sequence[str]], least: Sequence[str], width: int) -> list[str]:
    """The columns that fit once cells are shortened; empty columns are left out first."""
    kept = list(table)
    for name in sorted(least, key=lambda name: any(cell != EMPTY for cell in table[name][1:])):
        needed = sum(min(_width(table[each]), _floor(each)) for each in kept)
        if needed + len(GAP) * (len(kept) - 1) <= width:
            break
        kept.remove(name)
    return kept


def _floor(name: str) -> int:
    return max(len(name), _LEAST[name]) if name in _LEAST else 10_000


def _width(cells: Sequence[str]) -> int:
    return max(map(measure, cells))


def _fit(table: Mapping[str, Sequence[str]], width: int) -> dict[str, list[str]]:
    """Shorten the widest columns until the table fits: to their floors, and below them only where needed."""
    widths = {name: _width(cells) for name, cells in table.items()}
    room = width - len(GAP) * (len(table) - 1)
    for floors in ({name: _floor(name) for name in table}, dict.fromkeys(table, LEAST_CELL)):
        while sum(widths.values()) > room:
            above = {name: each for name, each in widths.items() if each > floors[name]}
            if not above:
                break
            widths[max(above, key=lambda name: above[name])] -= 1
    return {name: [shorten(cell, widths[name]) for cell in cells] for name, cells in table.items()}


def _print_cells(table: Mapping[str, Sequence[str]]) -> None:
    widths = [_width(cells) for cells in table.values()]
    for row in zip(*table.values(), strict=True):
        cells = [_pad(paint(cell), width) for cell, width in zip(row, widths, strict=True)]
        click.echo(GAP.join(cells).rstrip(" "))


def _pad(cell: str, width: int, *, is_right: bool = False) -> str:
    space = " " * (width - measure(cell))
    return space + cell if is_right else cell + space
