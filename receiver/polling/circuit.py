"""Why a provider is left alone, and for how long; pure. Moments are of ``Clock.uptime``."""

from collections.abc import Mapping
from datetime import timedelta

import msgspec

from receiver.models import Outcome

# While it is not known whether a trouble is over, one question at a time finds out, in so many seconds.
PROBE_SECONDS = 30.0
# A trouble that lasts no longer is waited out; from a longer one those who wait are sent away.
PATIENCE_SECONDS = 60.0


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a provider is left alone: the first time, and at most; each time twice as long."""

    first_seconds: float
    longest_seconds: float


_OURS = Waits(first_seconds=60.0, longest_seconds=900.0)  # a key or a balance, which somebody has to mend
_THEIRS = Waits(first_seconds=5.0, longest_seconds=300.0)  # a host that mends itself

# What says something of the provider and not of the one task that was asked about. Those that share their
# waits are one trouble, whichever of them is met.
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


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A question that met one of the TROUBLES. ``wish_seconds`` is the provider's Retry-After."""

    outcome: Outcome
    detail: str
    asked_at: timedelta
    wish_seconds: float | None = None


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Why a provider is left alone; past ``until`` nobody knows whether it is over."""

    outcome: Outcome
    detail: str
    since: timedelta  # when it was met first
    met_at: timedelta  # and last
    wait_seconds: float
    until: timedelta
    is_probed: bool = False  # a question that finds out whether it is over is on its way

    def stands(self, now: timedelta) -> bool:
        """Whether it forbids every question now; else one at a time may find out whether it is over."""
        return now < self.until

    def sends_away(self, now: timedelta) -> bool:
        """Whether those who wait are better told at once that the provider cannot be asked."""
        is_long = self.wait_seconds >= PATIENCE_SECONDS
        return is_long and self.stands(now) and not self.is_probed  # a probe's answer is worth waiting for


def worse(before: Trouble | None, failure: Failure, now: timedelta) -> Trouble:
    """The trouble there is after one more failure."""
    is_same = before is not None and TROUBLES[before.outcome] is TROUBLES[failure.outcome]
    same = before if is_same else None
    # Asked before the first one's failure was known: the same trouble, not a longer one.
    together = before is not None and failure.asked_at <= before.met_at
    seconds = _wait_seconds(failure, same, together=together)
    until = now + timedelta(seconds=seconds)
    return Trouble(
        outcome=failure.outcome,
        detail=failure.detail,
        since=same.since if same else now,
        met_at=now,
        wait_seconds=seconds,
        until=max(until, before.until) if before and together else until,
    )


def _wait_seconds(failure: Failure, same: Trouble | None, *, together: bool) -> float:
    """How long to wait this time, where the ``same`` trouble was met before."""
    waits, wish = TROUBLES[failure.outcome], failure.wish_seconds
    if wish is not None and failure.outcome is Outcome.RATE_LIMITED:
        return wish
    seconds = waits.first_seconds
    if same is not None:
        seconds = same.wait_seconds if together else min(2 * same.wait_seconds, waits.longest_seconds)
    return max(seconds, wish or 0.0)


def probed(trouble: Trouble, now: timedelta) -> Trouble:
    """The trouble while a question is on its way: the others wait for its answer, for a while."""
    until = max(trouble.until, now + timedelta(seconds=PROBE_SECONDS))
    return msgspec.structs.replace(trouble, until=until, is_probed=True)


def better(trouble: Trouble, asked_at: timedelta, *, accepted: bool) -> Trouble | None:
    """What is left of it after a question, asked at ``asked_at``, that met none of the TROUBLES.

    Unless it was ``accepted``, that says nothing of the key and the balance.
    """
    if TROUBLES[trouble.outcome] is _OURS and not accepted:
        return trouble
    # One that got through together with one too many does not lift the provider's wish.
    if trouble.outcome is Outcome.RATE_LIMITED and asked_at <= trouble.met_at:
        return trouble
    return None
