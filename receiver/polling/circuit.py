"""A provider's circuit breaker: why it is not asked now, and for how long; pure.

Moments are ``Clock.uptime``. It is what this process has met, and what others that share its record say that
they were told (see ``turns``); after a restart one question finds out how things are.
"""

from collections.abc import Mapping
from datetime import timedelta

import msgspec

from receiver.models import Outcome

# In a half-open circuit one question at a time finds out whether the provider answers again; so many seconds
# it may take.
PROBE_SECONDS = 30.0
# An open circuit that closes sooner is waited for; those who would wait longer are told so at once.
PATIENCE_SECONDS = 60.0


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """How long a circuit stays open: the first time, and at most. Each failure in a row doubles it."""

    first_seconds: float
    longest_seconds: float


_OURS = Waits(first_seconds=60.0, longest_seconds=900.0)  # a key or a balance, which somebody has to mend
_THEIRS = Waits(first_seconds=5.0, longest_seconds=300.0)  # a host that mends itself

# Outcomes that say something about the provider, not about the one task that was asked about. Outcomes that
# share a Waits count as one failure.
PROVIDER_FAILURES: Mapping[Outcome, Waits] = {
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
    """A question that ended in one of PROVIDER_FAILURES. ``retry_after_seconds`` is the provider's header."""

    outcome: Outcome
    detail: str
    asked_at: timedelta
    retry_after_seconds: float | None = None


def is_ours(outcome: Outcome) -> bool:
    """Whether somebody has to mend a key or a balance of ours."""
    return PROVIDER_FAILURES[outcome] is _OURS


def is_of_a_key(outcome: Outcome) -> bool:
    """Whether it is said of the key that was shown, so that another one may do better."""
    return is_ours(outcome) or outcome is Outcome.RATE_LIMITED


class CircuitState(msgspec.Struct, frozen=True, kw_only=True):
    """Open until ``until``, and half-open from then on. A closed circuit has no state (None)."""

    outcome: Outcome
    detail: str
    since: timedelta  # of the first failure
    met_at: timedelta  # of the latest one
    wait_seconds: float
    until: timedelta
    is_probed: bool = False  # a question that may close it is on its way

    def is_open(self, now: timedelta) -> bool:
        """Whether no question may be asked now; else one at a time may."""
        return now < self.until

    def turns_away(self, now: timedelta) -> bool:
        """Whether callers are told at once that the provider cannot be asked, instead of waiting."""
        is_long = self.wait_seconds >= PATIENCE_SECONDS
        return is_long and self.is_open(now) and not self.is_probed  # a probe's answer is worth waiting for


def after_failure(before: CircuitState | None, failure: Failure, now: timedelta) -> CircuitState:
    """The state after one more failure."""
    is_same = before is not None and PROVIDER_FAILURES[before.outcome] is PROVIDER_FAILURES[failure.outcome]
    same = before if is_same else None
    # Asked before the first failure was known: counted with it.
    together = before is not None and failure.asked_at <= before.met_at
    waits, asked_for = PROVIDER_FAILURES[failure.outcome], failure.retry_after_seconds
    if asked_for is not None and failure.outcome is Outcome.RATE_LIMITED:
        seconds = asked_for
    elif same is None:
        seconds = max(waits.first_seconds, asked_for or 0.0)
    else:
        longer = same.wait_seconds if together else min(2 * same.wait_seconds, waits.longest_seconds)
        seconds = max(longer, asked_for or 0.0)
    until = now + timedelta(seconds=seconds)
    return CircuitState(
        outcome=failure.outcome,
        detail=failure.detail,
        since=same.since if same else now,
        met_at=now,
        wait_seconds=seconds,
        until=max(until, before.until) if before and together else until,
    )


def half_open(state: CircuitState, now: timedelta) -> CircuitState:
    """The state while one question is on its way and all others wait for its answer."""
    until = max(state.until, now + timedelta(seconds=PROBE_SECONDS))
    return msgspec.structs.replace(state, until=until, is_probed=True)


def after_success(state: CircuitState, asked_at: timedelta, *, accepted: bool) -> CircuitState | None:
    """The state after a question, asked at ``asked_at``, that met none of PROVIDER_FAILURES; None is closed.

    Only an ``accepted`` question shows that the key and the balance are good.
    """
    if PROVIDER_FAILURES[state.outcome] is _OURS and not accepted:
        return state
    # A question that got through beside one too many does not end the provider's Retry-After.
    if state.outcome is Outcome.RATE_LIMITED and asked_at <= state.met_at:
        return state
    return None
