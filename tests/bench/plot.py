"""Rows of benchmarks as an SVG: how far each is from its target, one bar a row."""

import math
import statistics
from collections.abc import Sequence
from html import escape

from tests.bench.rows import Row

LINE, LEFT, WIDTH = 22, 300, 820  # pixels
UNITS_A_DECADE = 220
MET, MISSED = "#2e7d32", "#c62828"


def draw(rows: Sequence[Row]) -> str:
    """Bars on a logarithmic scale; the line in the middle is the target, to the right of it is better."""
    told = [row for row in rows if row.target is not None and not row.is_noise]
    middle = LEFT + (WIDTH - LEFT) // 2
    height = LINE * (len(told) + 2)
    bars = "".join(bar(row, LINE * (number + 1), middle) for number, row in enumerate(told))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f'{bars}<path d="M{middle} {LINE / 2}V{height - LINE}" stroke="#000"/>'
        f'<text x="{middle}" y="{height - 6}" text-anchor="middle">target</text></svg>\n'
    )


def bar(row: Row, top: int, middle: int) -> str:
    share = reached(row)
    most = (WIDTH - LEFT) // 2
    length = max(-most, min(most, UNITS_A_DECADE * math.log10(share)))
    left = middle + min(length, 0)
    return (
        f'<text x="4" y="{top + 14}">{escape(row.measure)}</text>'
        f'<rect x="{left:.0f}" y="{top + 3}" width="{max(abs(length), 1):.0f}" height="{LINE - 8}" '
        f'fill="{MET if row.is_met else MISSED}"><title>{share:.2f} of its target</title></rect>'
    )


def reached(row: Row) -> float:
    """How many times its target it reaches: more is better, also where the target is an upper bound."""
    assert row.target is not None
    middle = max(statistics.median(row.judged), 1e-9)
    return row.target / middle if row.at_most else middle / row.target
