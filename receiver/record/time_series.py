"""Series in buckets of a minute and of an hour, by keys: one series is one range of rows.

Counters are added, so several processes add up. What a gauge shows is the worst of its minutes.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from receiver.models import HOUR, MINUTE, Bucket, Measure, Sample, SeriesName, SeriesRead, SeriesWanted
from receiver.record.cursor import Cursor
from receiver.record.filters import json_list

OF_MEASURES = """
SELECT number, name, labels FROM series WHERE name IN (SELECT value FROM json_each(:names))
"""
NEW_SERIES = """
INSERT INTO series (name, labels) VALUES (:name, :labels) ON CONFLICT (name, labels) DO NOTHING
"""
ADD = """
INSERT INTO buckets (series, width, start, value) VALUES (:series, :width, :start, :value)
ON CONFLICT (series, width, start) DO UPDATE SET value = buckets.value + excluded.value
"""
KEEP = """
INSERT INTO buckets (series, width, start, value) VALUES (:series, :width, :start, :value)
ON CONFLICT (series, width, start) DO UPDATE SET value = excluded.value
"""

# Of each series one range of its key, in stretches of ``step`` seconds, as each kind of measure wants it.
READ = """
SELECT series, start / :step * :step AS stretch, sum(value), max(value), min(value) FROM buckets
WHERE series IN (SELECT value FROM json_each(:series))
    AND width = :width AND start >= :since AND start < :until
GROUP BY series, stretch ORDER BY series, stretch
"""
WORSTS = ("sum", "max", "min")  # in that order

# Series with something to sum up or to drop.
AGED = """
SELECT number FROM series s WHERE number > :after AND (
    EXISTS (SELECT 1 FROM buckets WHERE series = s.number AND width = 60 AND start < :minutes_before)
    OR EXISTS (SELECT 1 FROM buckets WHERE series = s.number AND width = 3600 AND start < :hours_before)
) ORDER BY number LIMIT :limit
"""
NAME = "SELECT name FROM series WHERE number = :series"
SUM_UP = """
INSERT INTO buckets (series, width, start, value)
SELECT series, 3600, start / 3600 * 3600, {worst}(value) FROM buckets
WHERE series = :series AND width = 60 AND start < :minutes_before GROUP BY series, start / 3600 * 3600
ON CONFLICT (series, width, start) DO UPDATE SET value = {both}
"""
BOTH = {
    "sum": "buckets.value + excluded.value",
    "max": "CASE WHEN excluded.value > buckets.value THEN excluded.value ELSE buckets.value END",
    "min": "CASE WHEN excluded.value < buckets.value THEN excluded.value ELSE buckets.value END",
}
DROP = "DELETE FROM buckets WHERE series = :series AND width = :width AND start < :before"


def add_samples(db: Cursor, samples: Sequence[Sample]) -> None:
    """Add what counters counted, and keep what gauges show; a new series gets its number on the way."""
    numbers = _number(db, {sample.series for sample in samples})
    # In the order of the key, so that two processes never wait for each other's rows crosswise.
    rows = sorted((numbers[sample.series], sample) for sample in samples)
    for statement, is_counter in ((ADD, True), (KEEP, False)):
        values = [
            {"series": number, "width": MINUTE, "start": sample.start, "value": float(sample.value)}
            for number, sample in rows
            if sample.series.measure.is_counter is is_counter
        ]
        if values:
            db.executemany(statement, values)


def _number(db: Cursor, wanted: Collection[SeriesName]) -> Mapping[SeriesName, int]:
    """The numbers of these series, by one look for all of them; new ones get theirs."""
    if not wanted:
        return {}
    names = {"names": json_list(sorted({series.measure.value for series in wanted}))}
    numbers = _found(db, names)
    if new := [series for series in wanted if series not in numbers]:
        db.executemany(NEW_SERIES, [{"name": name.value, "labels": labels} for name, labels in sorted(new)])
        numbers = _found(db, names)
    return numbers


def _found(db: Cursor, names: Mapping[str, str]) -> Mapping[SeriesName, int]:
    rows = db.execute(OF_MEASURES, names).fetchall()
    return {SeriesName(Measure(name), labels): number for number, name, labels in rows}


def read_series(
    db: Cursor, wanted: Sequence[SeriesWanted], since: int, until: int, step: int
) -> list[list[SeriesRead]]:
    """The series of each that is wanted, from ``since`` to ``until``, in stretches of ``step`` seconds.

    What is kept by the hour only comes in stretches of an hour at least. Of a stretch that has begun as hours
    and goes on as minutes there are two buckets.
    """
    named = _named(db, {each.measure for each in wanted})
    buckets: dict[int, list[Bucket]] = {
        number: [] for each in wanted for number, _ in _matching(named[each.measure], each)
    }
    if not buckets:
        return [[] for _ in wanted]
    columns = {number: WORSTS.index(_worst(measure)) for measure in named for number, _ in named[measure]}
    for width in (HOUR, MINUTE):
        stretch = max(step, width)
        given = {"series": json_list(list(buckets)), "width": width, "step": stretch}
        rows = db.execute(READ, {**given, "since": since // width * width, "until": until}).fetchall()
        for number, start, *values in rows:
            buckets[number].append(Bucket(start, stretch, values[columns[number]]))
    return [
        [
            SeriesRead(by=by, buckets=tuple(buckets[number]))
            for number, by in _matching(named[each.measure], each)
        ]
        for each in wanted
    ]


def _named(
    db: Cursor, measures: Collection[Measure]
) -> Mapping[Measure, list[tuple[int, Mapping[str, str]]]]:
    """All series of these measures: the number and the labels of each."""
    found: dict[Measure, list[tuple[int, Mapping[str, str]]]] = {measure: [] for measure in measures}
    names = json_list(sorted(measure.value for measure in measures))
    for number, name, text in db.execute(OF_MEASURES, {"names": names}).fetchall():
        labels = dict(pair.split("=", 1) for pair in text.split(",") if pair)
        found[Measure(name)].append((number, labels))
    return found


def _matching(named: Iterable[tuple[int, Mapping[str, str]]], wanted: SeriesWanted) -> list[tuple[int, str]]:
    """The numbers of those that are wanted, and the value of the label that is left open."""
    found = []
    for number, labels in named:
        by = labels.get(wanted.by) if wanted.by else ""
        rest = {name: value for name, value in labels.items() if name != wanted.by}
        if by is not None and rest == wanted.labels:
            found.append((number, by))
    return found


def list_aged(db: Cursor, after: int, minutes_before: int, hours_before: int, limit: int) -> list[int]:
    """The next series behind ``after`` with buckets that are older than they are kept."""
    values = {"after": after, "minutes_before": minutes_before, "hours_before": hours_before, "limit": limit}
    return [number for (number,) in db.execute(AGED, values).fetchall()]


def sum_up(db: Cursor, numbers: Iterable[int], minutes_before: int, hours_before: int) -> None:
    """Make hours of the old minutes of these series, and drop their old hours."""
    for number in numbers:
        (name,) = db.execute(NAME, {"series": number}).fetchone()
        values: dict[str, Any] = {"series": number, "minutes_before": minutes_before}
        worst = _worst(Measure(name))
        db.execute(SUM_UP.format(worst=worst, both=BOTH[worst]), values)
        for width, before in ((MINUTE, minutes_before), (HOUR, hours_before)):
            db.execute(DROP, {"series": number, "width": width, "before": before})


def _worst(measure: Measure) -> str:
    """How several buckets become one."""
    return "sum" if measure.is_counter else "min" if measure.is_worst_low else "max"
