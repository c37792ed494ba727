"""Benchmarks as an SVG: how far each row is from its target, and what grows with the record."""

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape

from tests.bench.rows import Row
from tests.bench.rows import figure as figure_told

LINE, LEFT, WIDTH = 22, 300, 820  # pixels
UNITS_A_DECADE = 220
MET, MISSED = "#2e7d32", "#c62828"
PANEL_WIDTH, PANEL_HEIGHT, MARGIN = 270, 150, 30
PANELS_ACROSS = 3


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


def curves(sizes: Sequence[int], panels: Mapping[str, Sequence[float]]) -> str:
    """A small plot for each title: its figures over the sizes, these on a logarithmic scale, those from 0."""
    rows = math.ceil(len(panels) / PANELS_ACROSS)
    drawn = "".join(
        f'<g transform="translate({PANEL_WIDTH * (number % PANELS_ACROSS)} '
        f'{PANEL_HEIGHT * (number // PANELS_ACROSS)})">{panel(title, sizes, figures)}</g>'
        for number, (title, figures) in enumerate(panels.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{PANEL_WIDTH * PANELS_ACROSS}" '
        f'height="{PANEL_HEIGHT * rows}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/>{drawn}</svg>\n'
    )


def panel(title: str, sizes: Sequence[int], figures: Sequence[float]) -> str:
    logs = [math.log10(size) for size in sizes]
    across = max(logs[-1] - logs[0], 1e-9)
    bottom, right = PANEL_HEIGHT - MARGIN, PANEL_WIDTH - MARGIN
    scale = (bottom - MARGIN - 12) / (max(figures) or 1.0)  # room for the figures above the points
    points = [
        (MARGIN + (right - MARGIN) * (log - logs[0]) / across, bottom - figure * scale)
        for log, figure in zip(logs, figures, strict=True)
    ]
    line = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    marks = "".join(
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{MET}"/>'
        f'<text x="{x:.0f}" y="{y - 6:.0f}" text-anchor="middle">{figure_told(figure)}</text>'
        f'<text x="{x:.0f}" y="{bottom + 14}" text-anchor="middle" fill="#555">{short(size)}</text>'
        for (x, y), size, figure in zip(points, sizes, figures, strict=True)
    )
    return (
        f'<text x="{MARGIN}" y="18" font-weight="bold">{escape(title)}</text>'
        f'<path d="M{MARGIN} {bottom}H{right}" stroke="#999"/>'
        f'<polyline points="{line}" fill="none" stroke="{MET}" stroke-width="2"/>{marks}'
    )


def short(size: int) -> str:
    """Ten thousand is 10k, a million 1M."""
    return f"{size // 1_000_000}M" if size >= 1_000_000 else f"{size // 1000}k" if size >= 1000 else str(size)
