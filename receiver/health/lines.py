"""Lines of health: what is wrong, since when, what it may cost, and what to do about it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from receiver.models.health import MOST_COUNTED


class Severity(StrEnum):
    """How soon somebody should look, the soonest first."""

    CRITICAL = "critical"  # now: something is being lost, or soon will be
    WARNING = "warning"  # today
    NOTICE = "notice"  # when there is time

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return tuple(Severity).index(self)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    ``key`` is the rule's name, and behind a colon the sink, the provider or the loop: the same as long as it
    lasts. ``since`` is None where only whoever looks again and again can say. ``images`` are the files, or
    tasks of one file at least, that it touches; None where that is everything that comes. No field has a
    secret or a link in it.
    """

    key: str
    severity: Severity
    since: datetime | None
    cause: str
    images: int | None
    step: str
    command: str | None = None


def rule_of(key: str) -> str:
    """The name of the rule that a line with this key is of."""
    return key.partition(":")[0]


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that is wrong at ``as_of``, in order; ``unknown`` names the rules that could not be looked at."""

    as_of: datetime
    lines: tuple[Line, ...]
    looked_at: tuple[str, ...]
    unknown: tuple[str, ...]
    last_delivery_at: datetime | None


def in_order(lines: Iterable[Line]) -> list[Line]:
    """The most severe first, of those what touches most images, then the oldest; without a time last."""
    return sorted(
        lines,
        key=lambda line: (
            line.severity.rank,
            -(MOST_COUNTED * 2 if line.images is None else line.images),
            line.since is None,
            line.since.timestamp() if line.since else 0.0,
            line.key,
        ),
    )


def dated(lines: Sequence[Line], noticed: Mapping[str, datetime]) -> list[Line]:
    """The lines, those without a time of their own with the one at which their key was noticed."""
    return [
        msgspec.structs.replace(line, since=noticed[line.key]) if line.since is None else line
        for line in lines
    ]


def number(count: int) -> str:
    """A count for people: beyond what is counted, ``10,000+``."""
    return f"{MOST_COUNTED:,}+" if count > MOST_COUNTED else f"{count:,}"
