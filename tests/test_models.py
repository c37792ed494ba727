"""Times as text: readable by anybody, and in the order of time."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from receiver.times import from_text, to_text

SECOND = datetime(2026, 11, 21, 10, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (SECOND, "2026-11-21T10:00:05.000Z"),
        (SECOND.replace(microsecond=999), "2026-11-21T10:00:05.000Z"),
        (SECOND.replace(microsecond=120_000), "2026-11-21T10:00:05.120Z"),
        (SECOND.replace(microsecond=999_999), "2026-11-21T10:00:05.999Z"),
        (SECOND.astimezone(timezone(timedelta(hours=5, minutes=30))), "2026-11-21T10:00:05.000Z"),
    ],
)
def test_a_time_is_written_in_utc_with_milliseconds(moment: datetime, text: str) -> None:
    assert to_text(moment) == text


def test_a_written_time_is_read_back_to_the_millisecond() -> None:
    moment = SECOND.replace(microsecond=120_000)

    assert from_text(to_text(moment)) == moment


def test_times_sort_as_text() -> None:
    moments = [SECOND + timedelta(milliseconds=step) for step in range(-1500, 1500, 250)]

    assert sorted(map(to_text, moments)) == [to_text(moment) for moment in moments]
