"""One leased outbox entry: published to its sink, then delivered, retried or a dead letter."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime

import msgspec
import structlog

from receiver.backoff import Backoff
from receiver.clock import Clock
from receiver.envelope import LinkMaker, message_id, render
from receiver.errors import Gone, Misconfigured, Permanent, Unavailable
from receiver.leased import OutboxWork, Settlement
from receiver.models import Route
from receiver.payload import path_part
from receiver.ports import Sink, Store
from receiver.times import to_text
from receiver.tokens import Tokens
from receiver.words import EventType, Outcome

log = structlog.get_logger()

# A sink keeps its own deadline and says better what happened; ours catches the one that does not.
GRACE_SECONDS = 1.0


class SinkPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How one sink is treated."""

    timeout_seconds: float  # of one publish
    max_attempts: int


class Relay:
    """Publishes leased entries. ``stopped`` names the sinks that want no more, and why.

    The loop that leases asks ``stopped`` first: a stopped sink gets nothing until a restart, and its
    entries stay pending. A publish lasts at most the policy's ``timeout_seconds`` and a second, so a
    lease must last longer.
    """

    def __init__(
        self,
        *,
        store: Store,
        sinks: Mapping[str, Sink],
        policies: Mapping[str, SinkPolicy],
        source: str,
        link: LinkMaker,
        clock: Clock,
    ) -> None:
        self._store = store
        self._sinks = sinks
        self._policies = policies
        self._source = source
        self._link = link
        self._clock = clock
        self.stopped: dict[str, str] = {}

    async def run(self, work: OutboxWork) -> Settlement:
        """Publish one entry and settle it; how it ended. Raises nothing about the sink.

        Raises Unavailable when the store cannot settle; then the lease runs out, and the same message
        is sent again. So it is when the caller is cancelled.
        """
        started_at = self._clock.now()
        failure = await self._publish(work)
        settlement = decide(
            work,
            failure,
            started_at=started_at,
            settled_at=self._clock.now(),
            backoff=Backoff(max_attempts=self._policies[work.sink].max_attempts),
            chance=self._clock.random(),
        )
        settled = False
        try:
            settled = await self._store.settle_outbox(work, settlement)
        finally:
            _log(work, settlement, settled=settled)
        return settlement

    async def _publish(self, work: OutboxWork) -> Exception | None:
        """Why it failed, or None."""
        if work.sink in self.stopped:  # stopped while this entry was already leased
            return Gone(self.stopped[work.sink])
        try:
            notification = render(work, source=self._source, link=self._link)
            async with asyncio.timeout(self._policies[work.sink].timeout_seconds + GRACE_SECONDS):
                await self._sinks[work.sink].publish(notification)
        except Gone as exc:
            self._stop(work.sink, str(exc))
            return exc
        except Exception as exc:  # noqa: BLE001 - a sink may be anybody's code, and its bug is its own
            return exc
        return None

    def _stop(self, sink: str, reason: str) -> None:
        if sink not in self.stopped:
            self.stopped[sink] = reason
            log.error("sink.stopped", sink=sink, reason=reason)


def decide(
    work: OutboxWork,
    failure: Exception | None,
    *,
    started_at: datetime,
    settled_at: datetime,
    backoff: Backoff,
    chance: float,
) -> Settlement:
    """What follows from an attempt; pure. ``chance`` in [0, 1) is the jitter.

    Delivered without a failure. Gone leaves the entry pending for later, however often. Permanent makes
    it a dead letter. Everything else is tried again until ``backoff`` gives up.
    """
    outcome, detail = _told(failure)
    retry_at = None
    if isinstance(failure, Gone):
        retry_at = settled_at  # nobody leases from a stopped sink; a restart finds it due
    elif failure is not None and not isinstance(failure, Permanent):
        wish = failure.retry_after_seconds if isinstance(failure, Unavailable) else None
        retry_at = backoff.next_at(work.attempt, settled_at, chance, at_least_seconds=wish)
    return Settlement(
        outcome=outcome, started_at=started_at, settled_at=settled_at, retry_at=retry_at, detail=detail
    )


def _told(failure: Exception | None) -> tuple[Outcome, str | None]:
    match failure:
        case None:
            return Outcome.DELIVERED, None
        case Unavailable() | Permanent():
            return failure.outcome, str(failure)
        case TimeoutError():
            return Outcome.TIMEOUT, "the sink did not return in time"
    # Only the type: what a stranger's exception says may be the message it choked on.
    return Outcome.CRASHED, type(failure).__name__


def _log(work: OutboxWork, settlement: Settlement, *, settled: bool) -> None:
    retry_at = settlement.retry_at
    delivered = settlement.outcome is Outcome.DELIVERED
    # Neither delivered nor to be tried again: a dead letter, which somebody has to look at.
    write = log.info if delivered else log.warning if retry_at else log.error
    write(
        "notification.settled",
        sink=work.sink,
        event_id=message_id(work),
        provider=work.event.provider,
        task_id=work.event.task_id,
        outcome=settlement.outcome.value,
        attempt=work.attempt,
        seconds=round((settlement.settled_at - settlement.started_at).total_seconds(), 3),
        retry_at=to_text(retry_at) if retry_at else None,
        # False: the lease was lost to somebody else, or the store is away. It will be sent again.
        settled=settled,
    )


def link_maker(tokens: Tokens, public_url: str, *, life_seconds: float, clock: Clock) -> LinkMaker:
    """Signed links to assets that die ``life_seconds`` after the notification was made.

    One that is sent late, to a sink that was stopped for long, still has half of that life before it: it is
    signed anew whenever half a life has passed, so that a retry names the same link as the try before it.
    """
    root = public_url.rstrip("/")

    def link(provider: str, task_id: str, index: int, made_at: datetime) -> str:
        halves_gone = max(0, (clock.now() - made_at).total_seconds() // (life_seconds / 2))
        expires = int(made_at.timestamp() + life_seconds + halves_gone * life_seconds / 2)
        signature = tokens.sign_link(provider, task_id, index, expires)
        place = f"{path_part(provider)}/{path_part(task_id)}/{index}"
        return f"{root}/assets/{place}?expires={expires}&signature={signature}"

    return link


def route(sink: str, filter_text: str, *, providers: Collection[str] | None = None) -> Route:
    """Which events a sink wants, from text such as ``provider=vidgo,apixo type=task.completed``.

    Keys are provider, type and owner; a key that is not there wants all. Raises Misconfigured with every
    problem at once, among them a provider that is not in ``providers``, where those are given.
    """
    known = {"provider": providers, "type": [each.value for each in EventType], "owner": None}
    wanted: dict[str, set[str]] = {key: set() for key in known}
    problems = []
    for term in filter_text.split():
        key, _, text = term.partition("=")
        values = text.split(",")
        problem = _problem(key, values, known)
        if problem:
            problems.append(f"RECEIVER_SINK_{sink.upper()}_FILTER {problem}")
        else:
            wanted[key].update(values)
    if problems:
        raise Misconfigured(*problems)
    return Route(
        sink=sink,
        providers=frozenset(wanted["provider"]),
        types=frozenset(wanted["type"]),
        owners=frozenset(wanted["owner"]),
    )


def _problem(key: str, values: list[str], known: Mapping[str, Collection[str] | None]) -> str | None:
    if key not in known:
        return f"has {key!r}; write KEY=VALUE,VALUE with the keys {', '.join(known)}"
    if "" in values:
        return f"has no value after {key!r}, or an empty one"
    choices = known[key]
    strangers = [] if choices is None else [value for value in values if value not in choices]
    if strangers:
        return f"has the unknown {key} {strangers[0]!r}; known are {', '.join(choices or ())}"
    return None
