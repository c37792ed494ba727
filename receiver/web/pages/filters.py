"""What the forms of lists ask for: times that may be relative, and words that are known."""

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from receiver.times import from_text
from receiver.web.pages.forms import Form

Word = TypeVar("Word", bound=StrEnum)

_SPAN = re.compile(r"([0-9]{1,5}) ?(min|m|h|d|w)")
_UNITS = {"m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
WANTED_DAY = "a span such as 7d, or a day such as 2026-11-29"
WANTED_TIME = "a span such as 30m, 2h or 7d, or a time such as 2026-11-29T14:00:00Z"


class Fields:
    """The fields of a list's form, and what is wrong with each."""

    def __init__(self, query: Form, now: datetime) -> None:
        self._query = query
        self._now = now
        self.problems: dict[str, str] = {}

    def text(self, name: str) -> str | None:
        return self._query.get(name) or None

    def word(self, name: str, words: type[Word]) -> Word | None:
        """One of these words; None where none is asked for, or another one."""
        text = self._query.get(name)
        try:
            return words(text) if text else None
        except ValueError:
            self.problems[name] = f"one of: {', '.join(words)}"
            return None

    def words(self, name: str, words: type[Word]) -> tuple[Word, ...]:
        """Some of these words, each once: as boxes of a form, or separated by commas."""
        asked = ",".join(self._query.get_all(name)).split(",")
        try:
            return tuple(dict.fromkeys(words(text.strip()) for text in asked if text.strip()))
        except ValueError:
            self.problems[name] = f"some of: {', '.join(words)}"
            return ()

    def known(self, name: str, names: Iterable[str]) -> str | None:
        """One of these names."""
        text, known = self._query.get(name), list(names)
        if text and text not in known:
            self.problems[name] = f"one of: {', '.join(known)}"
            return None
        return text or None

    def number(self, name: str, least: float, most: float) -> float | None:
        """A number in a range."""
        text = self._query.get(name)
        number: float | None = None
        with suppress(ValueError):
            number = float(text)
        if text and not (number is not None and least <= number <= most):
            self.problems[name] = f"a number from {least:g} to {most:g}"
        return number

    def moment(self, name: str) -> datetime | None:
        """A time, or so long ago."""
        text = self._query.get(name)
        if not text:
            return None
        try:
            return self._before(text) or from_text(text)
        except (ValueError, OverflowError):
            self.problems[name] = WANTED_TIME
            return None

    def day(self, name: str) -> str | None:
        """A day in UTC, or the one that was so long ago, as YYYY-MM-DD."""
        text = self._query.get(name)
        if not text:
            return None
        try:
            before = self._before(text)
            return (before.date() if before else date.fromisoformat(text)).isoformat()
        except (ValueError, OverflowError):
            self.problems[name] = WANTED_DAY
            return None

    def _before(self, text: str) -> datetime | None:
        """The time so long ago; None where no span is asked for. Raises OverflowError."""
        span = _SPAN.fullmatch(text)
        return self._now - timedelta(seconds=int(span[1]) * _UNITS[span[2]]) if span else None
