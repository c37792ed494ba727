"""A sink's circuit breaker: whether the sink is down, and when to try it again; pure.

Moments are of ``Clock.uptime``. It is what this process has met, on purpose: of several on one record one
sends to a sink at a time, and a restart is how a stopped sink is started again.
"""

from collections.abc import Iterable
from datetime import timedelta

import msgspec

from receiver.models import Outcome

# While a sink is down, one message at a time finds out whether it is back, so many seconds after the last: at
# first, and at most; each time twice as long.
FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0
# A consumer that chokes on a message looks like one that is down. So many messages in a row may fail as if
# it were their own fault; with one more it is the sink's.
MOST_SUSPECTS = 4
MOST_DOUBTED = 1000  # messages that are remembered as ones that failed while the sink took others
MOST_IN_BATCH = 512

# What says nothing of the message: it was not looked at.
OF_THE_SINK = frozenset(
    {
        Outcome.DNS_FAILED,
        Outcome.CONNECT_FAILED,
        Outcome.TLS_FAILED,
        Outcome.RATE_LIMITED,
        Outcome.UNAVAILABLE,
        Outcome.STORAGE_FAILED,
    }
)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A publish that may succeed another time. ``retry_after_seconds`` is the sink's Retry-After."""

    entry: str
    outcome: Outcome
    detail: str
    started_at: timedelta
    retry_after_seconds: float | None = None


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """Why a sink gets nothing now; from ``until`` on, one message at a time may test whether it is back."""

    outcome: Outcome
    detail: str
    met_at: timedelta  # when it was met first
    wait_seconds: float
    until: timedelta
    probe: str | None = None  # the entry that finds out


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """Whose fault a failure is, as far as is known: the entry's, which ``uses_attempt``, or the sink's.

    A fault of the sink leaves the entry due again in ``wait_seconds``; while the sink is down, when it has
    its turn as a probe. ``is_probe``: the entry was such a probe.
    """

    uses_attempt: bool
    is_probe: bool = False
    wait_seconds: float = 0.0


ITS_OWN = Diagnosis(uses_attempt=True)


class Circuit:
    """The state of one sink: it takes messages, or it is down. Forgotten with the process."""

    def __init__(self) -> None:
        self.outage: Outage | None = None
        self._failing_since: timedelta | None = None  # it took none since
        self._took_at: timedelta | None = None
        self._suspects: dict[str, float] = {}  # entries that failed since it took one, and their last waits
        self._doubted: dict[str, None] = {}  # entries that failed before it took others, the latest last
        self._probes = 0
        # After a batch of which nothing was taken the next one is a single message, and each that is taken
        # lets twice as many follow: one that spoils its whole batch is soon alone, and found out.
        self.batch_size = MOST_IN_BATCH

    @property
    def is_failing(self) -> bool:
        """Whether it has failed since it last took a message."""
        return self._failing_since is not None

    def room(self, limit: int, now: timedelta) -> int:
        """How many of ``limit`` messages it may get now."""
        if self.outage is None:
            return limit
        return 0 if now < self.outage.until else min(limit, 1)

    def batch_ended(self, *, is_any_taken: bool) -> None:
        """Messages that were sent together were judged, or one by itself."""
        self.batch_size = min(2 * self.batch_size, MOST_IN_BATCH) if is_any_taken else 1

    def wants_newest(self) -> bool:
        """Whether the next probe is the newest message; every other probe is the oldest one."""
        return self.outage is not None and self._probes % 2 == 1

    def failing_for(self, now: timedelta) -> timedelta:
        """How long it has failed without taking a message."""
        return timedelta() if self._failing_since is None else now - self._failing_since

    def begin_probe(self, entry: str, now: timedelta, longest_seconds: float) -> None:
        """A message is on its way; until it is settled, ``longest_seconds`` at most, there is no other."""
        if self.outage is not None:
            self._probes += 1
            until = now + timedelta(seconds=longest_seconds)
            self.outage = msgspec.structs.replace(self.outage, until=until, probe=entry)

    def answered(self, entries: Iterable[str], started_at: timedelta, now: timedelta) -> None:
        """It took messages, or refused each of them for good."""
        for entry in entries:
            self._suspects.pop(entry, None)
            self._doubted.pop(entry, None)
        self._doubted |= dict.fromkeys(self._suspects)
        for stale in list(self._doubted)[:-MOST_DOUBTED]:
            del self._doubted[stale]
        self._suspects.clear()
        self._failing_since, self._took_at = None, now
        # What got through together with one too many does not lift the wish.
        is_wish = self.outage is not None and self.outage.outcome is Outcome.RATE_LIMITED
        if self.outage is not None and not (is_wish and started_at <= self.outage.met_at):
            self.outage = None

    def forget(self, entry: str) -> None:
        """It was given up."""
        self._suspects.pop(entry, None)
        self._doubted.pop(entry, None)

    def failed(self, failure: Failure, now: timedelta) -> Diagnosis:
        """It took no message, for now; return whose fault that is."""
        self._failing_since = now if self._failing_since is None else self._failing_since
        if self.outage is not None:
            if failure.entry == self.outage.probe:
                seconds = min(2 * self.outage.wait_seconds, LONGEST_SECONDS)
                self.outage = _outage(failure, seconds, self.outage.met_at, now)
                return msgspec.structs.replace(_waits_with_the_sink(failure), is_probe=True)
            # On its way since before the outage was known: the same one, not a longer one.
            until = now + timedelta(seconds=failure.retry_after_seconds or 0.0)
            self.outage = msgspec.structs.replace(self.outage, until=max(self.outage.until, until))
            return _waits_with_the_sink(failure)
        # The sink took another message while this one was on its way, or since this one failed before: then
        # the fault may be this message's own.
        is_meanwhile = self._took_at is not None and failure.started_at < self._took_at
        is_doubted = failure.outcome not in OF_THE_SINK and failure.entry in self._doubted
        if failure.outcome is not Outcome.RATE_LIMITED and (is_meanwhile or is_doubted):
            return ITS_OWN
        if failure.outcome not in OF_THE_SINK:
            # The sink may choke on this entry: let the entry wait, and not yet the sink.
            before = self._suspects.get(failure.entry)
            wait = FIRST_SECONDS if before is None else min(2 * before, LONGEST_SECONDS)
            self._suspects[failure.entry] = wait
            if len(self._suspects) <= MOST_SUSPECTS:
                return Diagnosis(
                    uses_attempt=False, wait_seconds=max(wait, failure.retry_after_seconds or 0.0)
                )
        self._suspects.clear()
        self._probes = 0
        self.outage = _outage(failure, FIRST_SECONDS, now, now)
        return _waits_with_the_sink(failure)


def _waits_with_the_sink(failure: Failure) -> Diagnosis:
    """Make the entry due as soon as the sink may get one; the wait that the sink asked for is on record."""
    return Diagnosis(uses_attempt=False, wait_seconds=failure.retry_after_seconds or 0.0)


def _outage(failure: Failure, seconds: float, met_at: timedelta, now: timedelta) -> Outage:
    # A wish to be asked less often is obeyed as it is; any other only makes the wait longer.
    is_wish = failure.outcome is Outcome.RATE_LIMITED and failure.retry_after_seconds is not None
    wait = max(FIRST_SECONDS if is_wish else seconds, failure.retry_after_seconds or 0.0)
    return Outage(
        outcome=failure.outcome,
        detail=failure.detail,
        met_at=met_at,
        wait_seconds=seconds,
        until=now + timedelta(seconds=wait),
    )
