"""Leased outbox entries: publish them to their sink, settle each: delivered, due again, or a dead letter."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from receiver.asset_links import LinkMaker
from receiver.backoff import LONGEST_WISH_SECONDS, Backoff
from receiver.clock import Clock, Leaps
from receiver.envelope import message_id, render, render_test
from receiver.errors import Gone, Permanent, Unavailable
from receiver.models import Notification, OutboxWork, Outcome, Settlement, SinkState
from receiver.ports import BatchSink, Sink, Store
from receiver.sink_circuit import ITS_OWN, Circuit, Diagnosis, Failure, Outage
from receiver.times import to_text
from receiver.tracing import Span, Traces

log = structlog.get_logger()

# A sink keeps its own deadline and says better what happened; ours catches the one that does not.
GRACE_SECONDS = 1.0
# Beyond a publish's deadline: by then a probe has been settled, or never will be.
SETTLING_SECONDS = 5.0
# For the messages of a batch, whose links the asset store signs: a credential that it waits for may hang.
MAKING_SECONDS = 10.0
# A sink that has failed for less than this is no reason to give up what got old while we were down ourselves.
PATIENCE_SECONDS = 3600.0
GIVEN_UP_AT_ONCE = 500
RENDERED_AT_ONCE = 64  # messages: then callbacks have the loop for a moment

RETRIES = Backoff(max_attempts=None)  # what ends an entry is its age


class SinkPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How one sink is treated."""

    timeout_seconds: float  # of one publish
    max_age_seconds: float  # of an entry: then a failure makes it a dead letter


class SinkAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A sink's answer to the last publish or to a test."""

    event_id: str
    outcome: Outcome
    detail: str | None
    seconds: float
    ended_at: datetime


class Relay:
    """Publishes leased entries. ``stopped`` names the sinks that want no more, and why.

    The loop that leases asks ``stopped`` first: a stopped sink gets nothing until a restart, and its
    entries stay pending. While a sink is down one entry at a time is leased, to find out whether it is back
    (see ``sink_circuit``); what is known of that is gone with the process. Making messages lasts at most ten
    seconds, and a publish the policy's ``timeout_seconds`` and one more: a lease must last longer than both.
    """

    def __init__(
        self,
        *,
        store: Store,
        sinks: Mapping[str, Sink],
        policies: Mapping[str, SinkPolicy],
        source: str,
        links: LinkMaker,
        clock: Clock,
        traces: Traces | None = None,
    ) -> None:
        self._traces = traces
        self._store = store
        self._sinks = sinks
        self._policies = policies
        self._source = source
        self._links = links
        self._clock = clock
        self._leaps = Leaps(clock)
        self._batched = {name: sink for name, sink in sinks.items() if isinstance(sink, BatchSink)}
        self._circuits = {name: Circuit() for name in sinks}
        self.stopped: dict[str, str] = {}
        self.answers: dict[str, SinkAnswer] = {}  # the last of each sink

    def problem(self, sink: str) -> str | None:
        """Why a sink is down or has not taken the last event, in words for people; None where all is well."""
        circuit = self._circuits[sink]
        outage = circuit.outage
        if outage is None:
            last = self.answers.get(sink) if circuit.is_failing else None
            return f"{last.outcome}: {last.detail}" if last else None
        seconds = (outage.until - self._clock.uptime()).total_seconds()
        again = f"in {seconds:.0f} s" if seconds > 0 else "when an event is due"
        return f"{outage.outcome}: {outage.detail}, tried again {again}"

    def tried_again_at(self, sink: str) -> datetime | None:
        """From when on a sink that is down is tried with one event; None where it is not down."""
        outage = self._circuits[sink].outage
        return None if outage is None else self._clock.now() + (outage.until - self._clock.uptime())

    def is_down(self, sink: str) -> bool:
        """Whether a sink takes nothing now: it is down, or asked us to stop."""
        return sink in self.stopped or self._circuits[sink].outage is not None

    def state(self, sink: str) -> SinkState:
        """How a sink takes events now."""
        circuit = self._circuits[sink]
        if sink in self.stopped:
            return SinkState.STOPPED
        if circuit.outage is not None:
            return SinkState.DOWN
        return SinkState.FAILING if circuit.is_failing else SinkState.OK

    def failing_for(self, sink: str) -> timedelta:
        """How long a sink has failed without taking an event."""
        return self._circuits[sink].failing_for(self._clock.uptime())

    async def test(self, sink: str) -> SinkAnswer:
        """Send a test event, also to a sink that is down or stopped, and return its answer.

        The record and the circuit are not told.
        """
        started_at, started = self._clock.now(), self._clock.uptime()
        id_ = self._clock.new_id("test")
        outcome, detail = Outcome.DELIVERED, None
        try:
            await self._send(sink, render_test(id_, sink, source=self._source, now=started_at))
        except Exception as exc:  # noqa: BLE001 - a sink may be anybody's code, and its bug is its own
            outcome, detail = _outcome_of(exc)
        return self._answer(id_, outcome, detail, started)

    def in_batches(self, sink: str) -> bool:
        """Whether a sink gets its entries in batches."""
        return sink in self._batched

    async def lease(
        self, sink: str, now: datetime, until: datetime, limit: int
    ) -> list[Sequence[OutboxWork]]:
        """Take due entries of a sink, for up to ``limit`` calls of ``run``: each alone, or a batch of them.

        While the sink is down, at most one, as its probe.
        """
        circuit = self._circuits[sink]
        room = circuit.room(circuit.batch_size if sink in self._batched else limit, self._clock.uptime())
        if not room:
            return []
        works = await self._store.lease_outbox(sink, now, until, room, newest_first=circuit.wants_newest())
        if not works:
            return []
        publishing = self._policies[sink].timeout_seconds + GRACE_SECONDS
        longest = self._making_seconds(sink) + publishing + SETTLING_SECONDS
        circuit.begin_probe(works[0].id, self._clock.uptime(), longest)
        return [works] if sink in self._batched else [[work] for work in works]

    def has_more(self, sink: str, leased: Sequence[Sequence[OutboxWork]]) -> bool:
        """Whether more may be due than the one batch that ``lease`` took."""
        return sink in self._batched and len(leased[-1]) >= self._circuits[sink].batch_size

    async def next_due_at(self, sink: str) -> datetime | None:
        """When the next entry is due and the sink may get it."""
        due_at = await self._store.next_due_at("outbox", sink)
        again_at = self.tried_again_at(sink)
        if due_at is None or again_at is None:
            return due_at
        return max(due_at, again_at)

    async def run(self, works: Sequence[OutboxWork]) -> list[Settlement]:
        """Publish entries of one sink together, settle them, and return how each ended.

        Raises nothing about the sink. Raises Unavailable when the store cannot settle: the leases run out and
        the same messages are sent again, as they are after a cancellation.
        """
        sink = works[0].sink
        started_at, started = self._clock.now(), self._clock.uptime()
        spans = self._traces.start_publishing(works, started_at) if self._traces else ()
        failures = await self._publish(sink, works, spans)
        settlements = self._judge(sink, works, failures, started_at, started)
        if self._traces is not None:
            self._traces.end_publishing(spans, works, settlements)
        ends: Sequence[bool | Exception] = [False] * len(works)
        try:
            ends = await self._store.settle_outbox_batch(list(zip(works, settlements, strict=True)))
        finally:
            _log_all(works, settlements, ends)
        for end in ends:
            if isinstance(end, Exception):
                raise end
        for settlement in settlements:
            if settlement.is_probe:
                await self._give_up_old(sink, settlement)
        return settlements

    async def _publish(
        self, sink: str, works: Sequence[OutboxWork], spans: Sequence[Span]
    ) -> list[Exception | None]:
        """Publish entries; why each failed, or None. There are as many ``spans``, or none."""
        if sink in self.stopped:  # stopped while these were already leased
            return [Gone(self.stopped[sink])] * len(works)
        made = await self._render_all(sink, works, spans)
        sent = iter(await self._send_all(sink, [each for each in made if isinstance(each, Notification)]))
        failures = [next(sent) if isinstance(each, Notification) else each for each in made]
        gone = next((failure for failure in failures if isinstance(failure, Gone)), None)
        if gone is not None and sink not in self.stopped:
            self.stopped[sink] = str(gone)
            log.error("sink.stopped", sink=sink, reason=str(gone))
        return failures

    async def _render_all(
        self, sink: str, works: Sequence[OutboxWork], spans: Sequence[Span]
    ) -> list[Notification | Exception]:
        """The messages of entries, or why each cannot be made; those of a batch have one deadline."""
        made: list[Notification | Exception] = []
        try:
            async with asyncio.timeout(self._making_seconds(sink)):
                for number, work in enumerate(works):
                    made.append(await self._render(work, spans[number] if spans else None))
                    if number % RENDERED_AT_ONCE == RENDERED_AT_ONCE - 1:
                        await asyncio.sleep(0)
        except TimeoutError:
            late = Unavailable("the links to its files were not signed in time", outcome=Outcome.TIMEOUT)
            made += [late] * (len(works) - len(made))
        return made

    def _making_seconds(self, sink: str) -> float:
        return min(self._policies[sink].timeout_seconds + GRACE_SECONDS, MAKING_SECONDS)

    async def _render(self, work: OutboxWork, span: Span | None) -> Notification | Exception:
        event = work.event
        try:
            links = await self._links.links(event.provider, event.task_id, event.assets, work.created_at)
            message = render(work, source=self._source, links=links)
            return self._traces.send_on(span, message) if self._traces and span else message
        except Exception as exc:  # noqa: BLE001 - one message must not keep back the others
            return exc

    async def _send_all(self, sink: str, notifications: Sequence[Notification]) -> Sequence[Exception | None]:
        batched = self._batched.get(sink)
        if batched is None or len(notifications) < 2:
            return await asyncio.gather(*(self._try_to_send(sink, each) for each in notifications))
        try:
            async with asyncio.timeout(self._policies[sink].timeout_seconds + GRACE_SECONDS):
                ends = await batched.publish_many(notifications)
            return [end for _, end in zip(notifications, ends, strict=True)]
        except Exception as exc:  # noqa: BLE001 - a sink may be anybody's code, and its bug is its own
            return [exc] * len(notifications)

    async def _try_to_send(self, sink: str, notification: Notification) -> Exception | None:
        try:
            await self._send(sink, notification)
        except Exception as exc:  # noqa: BLE001 - a sink may be anybody's code, and its bug is its own
            return exc
        return None

    async def _send(self, sink: str, notification: Notification) -> None:
        async with asyncio.timeout(self._policies[sink].timeout_seconds + GRACE_SECONDS):
            await self._sinks[sink].publish(notification)

    def _judge(
        self,
        sink: str,
        works: Sequence[OutboxWork],
        failures: Sequence[Exception | None],
        started_at: datetime,
        started: timedelta,
    ) -> list[Settlement]:
        """What follows of each end. The sink's circuit hears first of those that were answered.

        So what failed beside them is known for a fault of its own.
        """
        circuit, before = self._circuits[sink], self._circuits[sink].outage
        answered = [work.id for work, failure in zip(works, failures, strict=True) if _is_answer(failure)]
        if answered:
            circuit.answered(answered, started, self._clock.uptime())
        max_age = timedelta(seconds=self._policies[sink].max_age_seconds)
        # After a leap of the clock it has as long again. Looked at each time: leaps are told between looks.
        is_lived = self._leaps.lived(max_age)
        settled_at = self._clock.now()
        delivered: Settlement | None = None  # the same for all: the record keeps in one go what is alike
        settlements = []
        for work, failure in zip(works, failures, strict=True):
            if failure is None and delivered is not None:
                settlements.append(delivered)
                continue
            diagnosis = self._diagnose(work, failure, started)
            is_tried = diagnosis.uses_attempt or self._has_failed_for_long(sink)
            settlement = decide(
                work,
                failure,
                diagnosis,
                started_at=started_at,
                settled_at=settled_at,
                give_up_at=(work.created_at + max_age if is_lived and is_tried else None),
                chance=self._clock.random(),
            )
            if settlement.retry_at is None:
                circuit.forget(work.id)
            if failure is None:
                delivered = settlement
            settlements.append(settlement)
        circuit.batch_ended(is_any_taken=bool(answered))
        self._tell_changes(sink, before)
        # A failure beside others that were taken is told of; so is the last of several.
        place = max(range(len(works)), key=lambda place: (failures[place] is not None, place))
        self.answers[sink] = self._answer(message_id(works[place]), *_outcome_of(failures[place]), started)
        return settlements

    def _answer(self, event_id: str, outcome: Outcome, detail: str | None, started: timedelta) -> SinkAnswer:
        seconds = (self._clock.uptime() - started).total_seconds()
        return SinkAnswer(
            event_id=event_id, outcome=outcome, detail=detail, seconds=seconds, ended_at=self._clock.now()
        )

    def _diagnose(self, work: OutboxWork, failure: Exception | None, started: timedelta) -> Diagnosis:
        """Tell the sink's circuit of a publish that failed for now; return whose fault it was."""
        if failure is None or isinstance(failure, Permanent):
            return ITS_OWN
        outcome, detail = _outcome_of(failure)
        met = Failure(
            entry=work.id,
            outcome=outcome,
            detail=detail or "",
            started_at=started,
            retry_after_seconds=_retry_after_seconds(failure),
        )
        return self._circuits[work.sink].failed(met, self._clock.uptime())

    def _tell_changes(self, sink: str, before: Outage | None) -> None:
        """One line when a sink is down, and one when it is back; between them each probe has its own."""
        after = self._circuits[sink].outage
        if before is None and after is not None:
            log.warning("sink.troubled", sink=sink, outcome=after.outcome.value, detail=after.detail)
        elif before is not None and after is None:
            log.info("sink.recovered", sink=sink, outcome=before.outcome.value)

    def _has_failed_for_long(self, sink: str) -> bool:
        patience = min(PATIENCE_SECONDS, self._policies[sink].max_age_seconds)
        return self.failing_for(sink) >= timedelta(seconds=patience)

    async def _give_up_old(self, sink: str, settlement: Settlement) -> None:
        """Make dead letters of all entries that have waited too long for a sink that is down."""
        max_age = timedelta(seconds=self._policies[sink].max_age_seconds)
        if not (self._leaps.lived(max_age) and self._has_failed_for_long(sink)):
            return
        before, given_up = settlement.settled_at - max_age, 0
        while count := await self._store.give_up_outbox(sink, before, settlement, GIVEN_UP_AT_ONCE):
            given_up += count
        if given_up:
            outcome = settlement.outcome.value
            log.error("notifications.given_up", sink=sink, outcome=outcome, count=given_up)


def _is_answer(failure: Exception | None) -> bool:
    """Whether a sink took a message, or refused that one for good."""
    return failure is None or (isinstance(failure, Permanent) and not isinstance(failure, Gone))


def decide(
    work: OutboxWork,
    failure: Exception | None,
    diagnosis: Diagnosis,
    *,
    started_at: datetime,
    settled_at: datetime,
    give_up_at: datetime | None,
    chance: float,
) -> Settlement:
    """The settlement of an attempt; pure. ``chance`` in [0, 1) is the jitter.

    Without a failure the entry is delivered. Gone leaves it pending for later, however often. Permanent makes
    it a dead letter. After any other failure it is tried again until ``give_up_at``, and once then.
    """
    outcome, detail = _outcome_of(failure)
    retry_at = None
    if isinstance(failure, Gone):
        retry_at = settled_at  # nobody leases from a stopped sink; a restart finds it due
    elif failure is not None and not isinstance(failure, Permanent):
        retry_at = _retry_at(work, failure, diagnosis, settled_at, give_up_at, chance)
    return Settlement(
        outcome=outcome,
        started_at=started_at,
        settled_at=settled_at,
        retry_at=retry_at,
        detail=detail,
        uses_attempt=diagnosis.uses_attempt or retry_at is None,  # the last one counts
        is_probe=diagnosis.is_probe,
    )


def _retry_at(
    work: OutboxWork,
    failure: Exception,
    diagnosis: Diagnosis,
    now: datetime,
    give_up_at: datetime | None,
    chance: float,
) -> datetime | None:
    if give_up_at is not None and now >= give_up_at:
        return None
    if not diagnosis.uses_attempt:
        return now + timedelta(seconds=diagnosis.wait_seconds)
    wish = _retry_after_seconds(failure)
    retry_at = RETRIES.next_at(work.attempt, now, chance, at_least_seconds=wish)
    if retry_at is None or give_up_at is None:
        return retry_at
    return min(retry_at, max(give_up_at, now + timedelta(seconds=wish or 0.0)))


def _retry_after_seconds(failure: Exception) -> float | None:
    """The sink's Retry-After, no longer than a day, whoever read it."""
    wish = failure.retry_after_seconds if isinstance(failure, Unavailable) else None
    return None if wish is None or not wish > 0 else min(wish, LONGEST_WISH_SECONDS)


def _outcome_of(failure: Exception | None) -> tuple[Outcome, str | None]:
    match failure:
        case None:
            return Outcome.DELIVERED, None
        case Unavailable() | Permanent():
            # What names its outcome is shown beside the outcome everywhere: once is enough.
            return failure.outcome, str(failure).replace(f" ({failure.outcome})", "", 1)
        case TimeoutError():
            return Outcome.TIMEOUT, "the sink did not return in time"
    # Only the type: what a stranger's exception says may be the message it choked on.
    return Outcome.CRASHED, type(failure).__name__


def _log_all(
    works: Sequence[OutboxWork], settlements: Sequence[Settlement], ends: Sequence[bool | Exception]
) -> None:
    """A line for each; of what ended alike all lines at once."""
    lines: dict[str, list[dict[str, object]]] = {}
    told: Settlement | None = None
    for work, settlement, end in zip(works, settlements, ends, strict=True):
        if settlement is not told:  # all that was delivered together has the same
            told, level = settlement, _level(settlement)
            seconds = round((settlement.settled_at - settlement.started_at).total_seconds(), 3)
            retry_at = to_text(settlement.retry_at) if settlement.retry_at else None
            those = lines.setdefault(level, [])
        event = work.event
        those.append(
            {
                "sink": work.sink,
                "event_id": message_id(work),
                "provider": event.provider,
                "task_id": event.task_id,
                "outcome": settlement.outcome.value,
                "attempt": work.attempt,
                "seconds": seconds,
                "retry_at": retry_at,
                # False: the lease was lost to somebody else, or the store is away. It will be sent again.
                "settled": end is True,
            }
        )
    for level, each in lines.items():
        write = getattr(log, level)
        if len(each) == 1:
            write("notification.settled", **each[0])
        else:
            write("notification.settled", each=each)


def _level(settlement: Settlement) -> str:
    if settlement.outcome is Outcome.DELIVERED:
        return "info"
    # Neither delivered nor to be tried again: a dead letter, which somebody has to look at.
    return "warning" if settlement.retry_at else "error"
