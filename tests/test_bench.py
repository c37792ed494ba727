"""The rows of benchmarks: what they are judged by, and when they say nothing."""

from xml.etree import ElementTree as ET

import pytest

from tests.bench.plot import curves, draw
from tests.bench.rows import Result, Row, lines, report


def row(ours: list[float], theirs: list[float] | None = None, **more: object) -> Row:
    yardstick = None if theirs is None else "bare"
    return Row(
        measure="acks",
        unit="/s",
        ours=ours,
        yardstick=yardstick,
        theirs=theirs or [],
        **more,  # type: ignore[arg-type]
    )


def test_a_ratio_is_taken_round_by_round_as_the_machine_changes_between_them() -> None:
    both_slow_down = row([800, 80, 8], [1000, 100, 10], target=0.8)
    assert both_slow_down.is_met is True
    assert not both_slow_down.is_noise


@pytest.mark.parametrize(
    ("figure", "at_most", "is_met"), [(5, False, False), (5, True, True), (20, True, False)]
)
def test_a_figure_without_a_yardstick_is_judged_by_itself(figure: float, at_most: bool, is_met: bool) -> None:
    assert row([figure], target=10, at_most=at_most).is_met is is_met


def test_a_ratio_whose_rounds_lie_far_apart_is_neither_told_nor_judged() -> None:
    noisy = row([100, 900, 500], [500, 500, 500], target=0.1)
    assert noisy.is_met is None
    assert "noise" in "\n".join(lines([noisy]))


@pytest.mark.parametrize(("target", "holds", "code"), [(0.5, True, 0), (0.9, True, 1), (0.5, False, 1)])
def test_a_missed_target_and_a_ledger_that_differs_end_with_1(target: float, holds: bool, code: int) -> None:
    result = Result(rows=[row([8], [10], target=target)], foreign_cores=0, holds=holds)
    assert report(result, as_json=False) == code


def test_the_table_fits_a_hundred_columns() -> None:
    long = row([12_345_678], [1], target=12345, at_most=True)
    assert all(len(line) <= 100 for line in lines([long]))


def test_the_plot_is_an_image_with_a_bar_for_each_row_that_has_a_target() -> None:
    image = ET.fromstring(draw([row([8], [10], target=0.5), row([8], [10]), row([1], [10], target=0.5)]))
    titles = [title.text for title in image.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["1.60 of its target", "0.20 of its target"]


def test_the_plot_of_growth_has_every_figure_over_its_size() -> None:
    image = ET.fromstring(curves([10_000, 5_000_000], {"bytes <a task>": [1040, 874], "ms": [0, 0]}))
    texts = [text.text for text in image.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["bytes <a task>", "1,040", "10k", "874", "5M", "ms", "0", "10k", "0", "5M"]
