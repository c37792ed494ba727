"""Spans of what happens to a task, for a collector of traces: one trace, from the backend to the consumer.

The context of a task's submission is on record, so all that happens later is its child, in whichever process.
Attributes are names, ids, outcomes and numbers: never a link, a token, or what a person wrote.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from receiver.clock import Clock
from receiver.envelope import message_id
from receiver.errors import ReceiverError, Rejected
from receiver.models import AssetWork, Notification, OutboxWork, Outcome, PollWork, Receipt, Settlement
from receiver.ports import Store

Kind = Literal["server", "client", "producer"]

# Of a question to a provider: it was answered.
_ANSWERS = frozenset({Outcome.ANSWERED, Outcome.IN_PROGRESS, Outcome.NO_FILES})


class Span(Protocol):
    """Something that has begun, and is told of once it has ended."""

    @property
    def traceparent(self) -> str | None:
        """Where the trace goes on from here; None where nothing is traced."""

    def note(self, attributes: Mapping[str, str | int | None]) -> None:
        """Add what is known of it; None is left out."""

    def end(self, at: datetime, error: str | None = None) -> None:
        """It is over; ``error`` is a short stable name of what went wrong."""


class Tracer(Protocol):
    """Makes spans, and sends those that have ended to a collector, in a thread of its own."""

    def start(self, name: str, kind: Kind, parent: str | None, at: datetime) -> Span:
        """A span that begins ``at``; ``parent`` is a ``traceparent``, None begins a trace. Never raises."""

    async def aclose(self, seconds: float) -> None:
        """Send what has ended, for so many seconds at most."""


class SubmissionSpan(msgspec.Struct):
    """A submission that is being logged; ``task_id`` and ``outcome`` are set once they are known."""

    traceparent: str | None
    task_id: str | None = None
    outcome: str | None = None


class Traces:
    """Tells a tracer of each thing that was done. Whoever has none does not ask, and pays nothing."""

    def __init__(self, tracer: Tracer, store: Store, clock: Clock) -> None:
        self._tracer = tracer
        self._store = store
        self._clock = clock

    async def aclose(self, seconds: float) -> None:
        """Send what has ended, for so many seconds at most."""
        await self._tracer.aclose(seconds)

    @contextmanager
    def submission(self, provider: str, traceparent: str | None) -> Iterator[SubmissionSpan]:
        """A submission is logged within; ``traceparent`` is its request's."""
        span = self._tracer.start("submission", "server", traceparent, self._clock.now())
        told = SubmissionSpan(span.traceparent)
        error = None
        try:
            yield told
        except Rejected:
            told.outcome = "refused"  # which is the backend's error, not ours
            raise
        except BaseException as exc:
            error = type(exc).__name__
            raise
        finally:
            span.note(_task(provider, told.task_id, told.outcome))
            span.end(self._clock.now(), error)

    async def callback(self, provider: str, receipt: Receipt, size: int, received_at: datetime) -> None:
        """A callback was recorded, and has just been answered."""
        ended_at = self._clock.now()
        span = self._tracer.start(
            "callback", "server", await self._parent(provider, receipt.task_id), received_at
        )
        span.note(_task(provider, receipt.task_id, receipt.status.value) | {"receiver.bytes": size})
        span.end(ended_at)

    async def fetch(self, work: AssetWork, settlement: Settlement) -> None:
        """An attempt at a file has ended."""
        size = settlement.file.bytes if settlement.file else None
        more = {"receiver.asset": work.index, "receiver.attempt": work.attempt, "receiver.bytes": size}
        is_good = settlement.file is not None
        await self._past("fetch", work, settlement, more, is_good=is_good)

    async def poll(self, work: PollWork, settlement: Settlement) -> None:
        """A question to a provider has ended."""
        more = {"receiver.attempt": work.attempt}
        is_good = settlement.outcome in _ANSWERS
        await self._past("poll", work, settlement, more, is_good=is_good)

    def start_publishing(self, works: Sequence[OutboxWork], at: datetime) -> list[Span]:
        """One span for each event, sent alone or in a batch: each belongs to a trace of its own.

        So ask the semantic conventions for messaging (1.43), where each message has its own creation context.
        """
        return [self._tracer.start("publish", "producer", work.event.traceparent, at) for work in works]

    def send_on(self, span: Span, notification: Notification) -> Notification:
        """The message with the span as the parent of what its consumer does; its body stays as it is."""
        span.note({"messaging.message.body.size": len(notification.body)})
        traceparent = span.traceparent or notification.traceparent
        return msgspec.structs.replace(notification, traceparent=traceparent)

    def end_publishing(
        self, spans: Sequence[Span], works: Sequence[OutboxWork], settlements: Sequence[Settlement]
    ) -> None:
        """Attempts at a sink have ended."""
        for span, work, settlement in zip(spans, works, settlements, strict=True):
            outcome = settlement.outcome.value
            span.note(
                _task(work.event.provider, work.event.task_id, outcome)
                | {
                    "receiver.sink": work.sink,
                    "receiver.attempt": work.attempt,
                    "messaging.operation.type": "send",
                    "messaging.operation.name": "publish",
                    "messaging.destination.name": work.sink,
                    "messaging.message.id": message_id(work),
                }
            )
            span.end(settlement.settled_at, None if settlement.outcome is Outcome.DELIVERED else outcome)

    async def _past(
        self,
        name: str,
        work: AssetWork | PollWork,
        settlement: Settlement,
        more: Mapping[str, int | None],
        *,
        is_good: bool,
    ) -> None:
        outcome = settlement.outcome.value
        parent = await self._parent(work.provider, work.task_id)
        span = self._tracer.start(name, "client", parent, settlement.started_at)
        span.note({**_task(work.provider, work.task_id, outcome), **more})
        span.end(settlement.settled_at, None if is_good else outcome)

    async def _parent(self, provider: str, task_id: str | None) -> str | None:
        """The context of a task's submission; None, too, where the store cannot say now."""
        if task_id is None:
            return None
        try:
            return await self._store.get_traceparent(provider, task_id)
        except ReceiverError:
            return None


def _task(provider: str, task_id: str | None, outcome: str | None) -> dict[str, str | int | None]:
    return {"receiver.provider": provider, "receiver.task_id": task_id, "receiver.outcome": outcome}
