"""How often one provider may be asked, and for how long not at all; pure, but for what it remembers.

Kept in memory: after a start a provider is asked as if for the first time. Times are of the wall clock, and
one that is set back makes nobody wait longer.
"""

import sys
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from receiver.words import Outcome

# While it is not known whether a trouble is over, one question at a time finds out, in so many seconds.
PROBE_SECONDS = 30.0
# A trouble that lasts no longer is waited out; from a longer one those who wait are sent away.
PATIENCE_SECONDS = 60.0
# How long a question that was answered shows that the key is good.
KEY_WORKS_SECONDS = 60.0


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a provider is left alone: the first time, and at most; each time twice as long."""

    first_seconds: float
    longest_seconds: float


_OURS = Waits(first_seconds=60.0, longest_seconds=900.0)  # a key or a balance, which somebody has to mend
_THEIRS = Waits(first_seconds=5.0, longest_seconds=300.0)  # a host that mends itself

# What says something of the provider and not of the one task that was asked about.
TROUBLES: Mapping[Outcome, Waits] = {
    Outcome.KEY_REFUSED: _OURS,
    Outcome.OUT_OF_CREDIT: _OURS,
    Outcome.RATE_LIMITED: Waits(first_seconds=15.0, longest_seconds=900.0),
    Outcome.BAD_URL: _THEIRS,
    Outcome.DNS_FAILED: _THEIRS,
    Outcome.CONNECT_FAILED: _THEIRS,
    Outcome.TLS_FAILED: _THEIRS,
    Outcome.TIMEOUT: _THEIRS,
    Outcome.INTERRUPTED: _THEIRS,
    Outcome.HTTP_ERROR: _THEIRS,
}


class Trouble(msgspec.Struct, kw_only=True):
    """Why a provider is left alone. The times are those of ``Pace``, which never go back."""

    outcome: Outcome
    detail: str
    since: datetime  # when it was met first
    met_at: datetime  # and last
    wait_seconds: float
    until: datetime
    is_probed: bool = False  # a question that finds out whether it is over is on its way


class Bucket:
    """So many questions a minute, evenly, and a tenth of them at once.

    ``paid_at`` is when all that was asked so far will have been paid for at this pace.
    """

    def __init__(self, per_minute: float, now: datetime) -> None:
        self._gap = timedelta(minutes=1) / per_minute
        self._at_once = max(1, int(per_minute // 10))
        self._paid_at = now
        self._line_at = now

    def room(self, now: datetime) -> int:
        """How many questions may be asked now."""
        return max(0, (now + self._at_once * self._gap - max(self._paid_at, now)) // self._gap)

    def free_at(self) -> datetime:
        """When there is room for one; in the past where there is."""
        return self._paid_at - (self._at_once - 1) * self._gap

    def take(self, now: datetime) -> None:
        """Count a question, whether there was room for it or not."""
        self._paid_at = max(self._paid_at, now) + self._gap

    def line_up(self, now: datetime) -> datetime:
        """When to come again, from ``now`` on: another time for each, so that not all come at once."""
        self._line_at = max(self._line_at + self._gap, self.free_at(), now)
        return self._line_at


class Pace:
    """The pace of one provider.

    Questions out of turn (for new links) have half of it for themselves, whatever waits in turn, and
    what they use the others go without: so neither can starve the other, and the sum keeps to the pace.
    """

    def __init__(self, per_minute: int, now: datetime) -> None:
        self._all = Bucket(per_minute, now)
        self._out_of_turn = Bucket(per_minute / 2, now)
        self._trouble: Trouble | None = None
        self._accepted_at: datetime | None = None  # when the latest question that was answered was asked
        self._latest = now
        self._set_back = timedelta()

    @property
    def trouble(self) -> Trouble | None:
        """What keeps the provider from being asked; past its ``until`` nobody knows whether it is over."""
        return self._trouble

    def room(self, now: datetime) -> int:
        """How many questions may be asked now."""
        steady = self._steady(now)
        return min(self._all.room(steady), self._most(steady))

    def free_at(self, now: datetime) -> datetime:
        """From when on there is room; in the past where there is."""
        self._steady(now)
        free_at = self._all.free_at()
        return (max(free_at, self._trouble.until) if self._trouble else free_at) - self._set_back

    def out_of_turn(self, now: datetime) -> datetime | None:
        """Ask for one question out of turn. None: it may be asked now. Else when to come again."""
        steady = self._steady(now)
        if self._out_of_turn.room(steady) and self._most(steady):
            self._out_of_turn.take(steady)
            return None
        until = max(steady, self._trouble.until) if self._trouble else steady
        return self._out_of_turn.line_up(until) - self._set_back

    def stands_for(self, now: datetime) -> timedelta | None:
        """How long the provider must still not be asked; None where nothing forbids it now."""
        left = self._trouble.until - self._steady(now) if self._trouble else timedelta()
        return left if left > timedelta() else None

    def sends_away(self, now: datetime) -> bool:
        """Whether those who wait are better told at once that the provider cannot be asked."""
        trouble = self._trouble
        return (
            trouble is not None
            and trouble.wait_seconds >= PATIENCE_SECONDS
            and not trouble.is_probed  # its answer is worth waiting for
            and self.stands_for(now) is not None
        )

    def troubled_for(self, now: datetime) -> timedelta:
        """For how long the trouble has lasted, if there is one."""
        return self._steady(now) - self._trouble.since if self._trouble else timedelta()

    def key_works(self, now: datetime) -> bool:
        """Whether a question was answered a moment ago, with no trouble since."""
        at = self._accepted_at
        return at is not None and self._steady(now) - at <= timedelta(seconds=KEY_WORKS_SECONDS)

    def take(self, now: datetime) -> None:
        """Count a question that is being asked."""
        steady = self._steady(now)
        self._all.take(steady)
        if self._trouble:
            self._trouble.until = max(self._trouble.until, steady + timedelta(seconds=PROBE_SECONDS))
            self._trouble.is_probed = True

    def met(
        self, outcome: Outcome, detail: str, *, asked_at: datetime, now: datetime, wish_seconds: float | None
    ) -> None:
        """A question asked at ``asked_at`` met one of the TROUBLES; ``wish_seconds`` is its Retry-After."""
        steady, before, waits = self._steady(now), self._trouble, TROUBLES[outcome]
        same = before if before is not None and TROUBLES[before.outcome] is waits else None
        # Asked before the first one's failure was known: the same trouble, not a longer one.
        together = before is not None and asked_at + self._set_back <= before.met_at
        seconds = _wait_seconds(waits, same, together=together)
        if wish_seconds is not None:
            seconds = wish_seconds if outcome is Outcome.RATE_LIMITED else max(seconds, wish_seconds)
        until = steady + timedelta(seconds=seconds)
        if before is not None and together:
            until = max(until, before.until)
        self._accepted_at = None
        self._trouble = Trouble(
            outcome=outcome,
            detail=detail,
            since=same.since if same else steady,
            met_at=steady,
            wait_seconds=seconds,
            until=until,
        )

    def over(self, *, asked_at: datetime, accepted: bool = True) -> None:
        """A question asked at ``asked_at`` met none of the TROUBLES, so the provider can be asked.

        Unless it was ``accepted``, that says nothing of the key and the balance.
        """
        asked_at, before = asked_at + self._set_back, self._trouble
        if accepted:
            self._accepted_at = asked_at
        if before is None or (TROUBLES[before.outcome] is _OURS and not accepted):
            return
        # One that got through together with one too many does not lift the provider's wish.
        if before.outcome is not Outcome.RATE_LIMITED or asked_at > before.met_at:
            self._trouble = None

    def _most(self, steady: datetime) -> int:
        if self._trouble is None:
            return sys.maxsize
        return 1 if steady >= self._trouble.until else 0

    def _steady(self, now: datetime) -> datetime:
        """``now`` on a clock that nobody sets back."""
        self._set_back = max(self._set_back, self._latest - now)
        self._latest = now + self._set_back
        return self._latest


def _wait_seconds(waits: Waits, same: Trouble | None, *, together: bool) -> float:
    """How long to wait this time, where the ``same`` trouble was met before."""
    if same is None:
        return waits.first_seconds
    return same.wait_seconds if together else min(same.wait_seconds * 2, waits.longest_seconds)
