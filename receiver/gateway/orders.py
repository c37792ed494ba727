"""One order: recorded before its first byte leaves, sent once, and bound whoever still waits for it."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import msgspec
import structlog

from receiver.clock import Clock
from receiver.errors import ReceiverError, Unavailable
from receiver.gateway.answers import judge
from receiver.gateway.splice import Document, splice
from receiver.gateway.upstream import ANSWER_SECONDS, NoAnswer, Upstream, UpstreamAnswer, UpstreamRequest
from receiver.models import (
    BrokenRule,
    NewOrder,
    Order,
    OrderEnd,
    OrderFacts,
    OrderState,
    Quote,
    RefusalKind,
    Submission,
    poll_lane,
)
from receiver.ports import Store
from receiver.tokens import Tokens
from receiver.urls import callback_url

log = structlog.get_logger()

KEY_LIFE = timedelta(hours=24)
EQUAL_BODY_LIFE = timedelta(seconds=600)
LEASE_GRACE_SECONDS = 30.0  # from the last moment at which an answer may come to when it is given up
MOST_IN_FLIGHT = 1024
MAX_KEPT_ANSWER_BYTES = 16_384
SETTLE_AGAIN_SECONDS = 1.0
LOOK_AGAIN_SECONDS = 0.5  # whether another process has ended what is asked for again
SETTLING_SECONDS = 2.0  # at a stop, to keep what became of the last ones

_OPEN = frozenset({OrderState.SENDING, OrderState.UNKNOWN, OrderState.UNRESOLVED})

# A provider, what sending came to, and the rules that the order breaks.
CountOrder = Callable[[str, OrderState, Sequence[BrokenRule]], None]


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An order that is read and allowed, as it is to be sent."""

    provider: str
    facts: OrderFacts
    target: str  # path and query, as they go out
    document: Document
    model: str | None
    owner: str
    metadata: Mapping[str, object]
    credential: str
    upstream_key: str
    who: str  # for the log
    token: str | None = None  # the name of the token that it was ordered with
    headers: Mapping[str, str]
    key: str | None  # of idempotency
    is_again: bool  # an equal order is meant to be another one
    callback_url: str | None  # the caller's own, which ours replaces
    keeps_callback: bool  # the caller's own goes out instead of ours
    relays_callback: bool = False  # it is called by us, once the task has ended here
    quote: Quote | None = None  # None: the catalogs do not know its model
    kept: object = None  # what is kept of its document

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.target.encode() + b"\n" + self.document.body).hexdigest()

    @property
    def guard(self) -> str | None:
        """What an order that means the same one has, too."""
        if self.key is not None:
            return f"key/{_hash(self.credential, self.provider, self.key)}"
        if self.is_again:
            return None
        return f"body/{_hash(self.credential, self.provider, self.owner, self.digest)}"


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller is told: the provider's answer, or else a refusal of ours."""

    order: Order
    answer: UpstreamAnswer | None = None
    refusal: RefusalKind | None = None
    is_replay: bool = False


class OrderDesk:
    """Places orders. What it sends goes on apart from whoever asked, until ``drain`` at the latest."""

    def __init__(  # noqa: PLR0913 - by keyword, each a thing of its own
        self,
        *,
        store: Store,
        upstreams: Mapping[str, Upstream],
        tokens: Tokens,
        clock: Clock,
        public_url: str,
        wake: Callable[[str], None],
        wake_for_early: Callable[[str], None],
        answer_seconds: float,
        count: CountOrder = lambda _provider, _state, _broken: None,
    ) -> None:
        self._store = store
        self._upstreams = upstreams
        self._tokens = tokens
        self._clock = clock
        self._public_url = public_url
        self._wake = wake
        self._wake_for_early = wake_for_early
        self._answer_seconds = answer_seconds
        self._count = count
        self._live: dict[str, _Forward] = {}  # by submission
        self._settling: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def place(self, request: OrderRequest) -> Placed:
        """Record an order, send it, and wait for its answer as long as a caller waits.

        Raises Unavailable: nothing was recorded, and nothing sent. Cancelled, it goes on without the caller.
        """
        if self._is_stopping or len(self._live) + len(self._settling) >= MOST_IN_FLIGHT:
            raise Unavailable("no more orders are taken now", retry_after_seconds=1)
        # In a task of its own: between commit and sending nobody may leave.
        beginning = asyncio.create_task(self._begin(request))
        try:
            begun = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(_unheard)
            raise
        if isinstance(begun, Order):
            return await self._repeat(begun, request)
        return await self._await(begun)

    async def drain(self, seconds: float) -> None:
        """Take no more orders, wait so long for answers that are out, and give up the others as unknown."""
        self._is_stopping = True
        if self._live:
            await asyncio.wait([each.task for each in self._live.values()], timeout=seconds)
        left = dict(self._live)
        for forward in left.values():
            forward.task.cancel()
        await asyncio.gather(*(each.task for each in left.values()), return_exceptions=True)
        end = OrderEnd(state=OrderState.UNKNOWN, outcome="stopped")
        given_up = [self._try_to_settle(each.order, end) for each in left.values()]
        unsettled = [*given_up, *self._settling]
        if unsettled:
            # What cannot be kept now is given up by the next start, as after a crash.
            tasks = [asyncio.ensure_future(each) for each in unsettled]
            _, late = await asyncio.wait(tasks, timeout=SETTLING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- a new one ------------------------------------------------------------------------------------

    async def _begin(self, request: OrderRequest) -> "_Forward | Order":
        """Reserve, and begin to send; or the order that this one repeats."""
        now = self._clock.now()
        life = KEY_LIFE if request.key is not None else EQUAL_BODY_LIFE
        new = NewOrder(
            submission=Submission(
                id=self._clock.new_id("sub"),
                provider=request.provider,
                owner=request.owner,
                task_id=None,
                model=request.model,
                request=request.kept,
                metadata=request.metadata,
                created_at=now,
                bound_at=None,
            ),
            credential=request.credential,
            upstream_key=request.upstream_key,
            guard=request.guard,
            digest=request.digest,
            guard_since=now - life,
            callback_url=request.callback_url,
            relays=request.relays_callback,
            lease_until=now + timedelta(seconds=ANSWER_SECONDS + LEASE_GRACE_SECONDS),
            quote=request.quote,
            token=request.token,
        )
        order, is_new = await self._store.reserve_order(new)
        if not is_new:
            return order
        if self._is_stopping:
            await self._settle(order, OrderEnd(state=OrderState.UNSENT, outcome="stopped"))
            raise Unavailable("no more orders are taken now", retry_after_seconds=1)
        forward = _Forward(order)
        forward.task = asyncio.create_task(self._send(forward, request), name=f"order {order.submission_id}")
        self._live[order.submission_id] = forward
        return forward

    async def _send(self, forward: "_Forward", request: OrderRequest) -> Placed:
        order = forward.order
        started = time.perf_counter()
        try:
            sent = await self._upstreams[request.provider].send(self._to_send(order, request))
            seconds = round(time.perf_counter() - started, 6)
            end, answer = _end_of(request.facts, sent)
            broken = request.quote.broken if request.quote else ()
            self._count(request.provider, end.state, broken)
            settled = await self._settle(order, msgspec.structs.replace(end, is_heard=forward.is_heard))
            settled = msgspec.structs.replace(settled, exceeded=order.exceeded)
            log.info(
                "order.sent",
                provider=order.provider,
                model=order.model,
                submission_id=order.submission_id,
                task_id=end.task_id,
                who=request.who,
                state=settled.state.value,
                status=end.status,
                outcome=end.outcome,
                rules=[each.name for each in broken],
                micros=order.micros,
                bytes=len(request.document.body),
                seconds=seconds,
            )
            return Placed(order=settled, answer=answer, refusal=_refusal_of(end.state, answer))
        finally:
            self._live.pop(order.submission_id, None)

    def _to_send(self, order: Order, request: OrderRequest) -> UpstreamRequest:
        changes: dict[str, object] = dict(request.facts.sets)
        if request.facts.has_callbacks and not request.keeps_callback:
            token = self._tokens.for_submission(order.provider, order.submission_id)
            changes["callback_url"] = callback_url(self._public_url, order.provider, token)
        body = splice(request.document, changes) if changes else request.document.body
        return UpstreamRequest(method="POST", target=request.target, headers=request.headers, body=body)

    async def _settle(self, order: Order, end: OrderEnd) -> Order:
        """Keep how it ended. Where that cannot be done now it is done later, and the order stays as it is."""
        try:
            settled, has_found = await self._store.settle_order(order.submission_id, end, self._clock.now())
        except ReceiverError as exc:
            log.warning("order.unsettled", submission_id=order.submission_id, reason=str(exc))
            settling = asyncio.create_task(self._keep_settling(order, end))
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)
            return order
        if settled.task_id is not None:
            # What came before it may be due. Usually nothing did, and there is one more to poll.
            if has_found:
                self._wake_for_early(order.provider)
            else:
                self._wake(poll_lane(order.provider))
        return settled

    async def _keep_settling(self, order: Order, end: OrderEnd) -> None:
        while True:
            await asyncio.sleep(SETTLE_AGAIN_SECONDS)
            if await self._try_to_settle(order, end):
                break
        log.info("order.settled_late", submission_id=order.submission_id, task_id=end.task_id)
        self._wake_for_early(order.provider)

    async def _try_to_settle(self, order: Order, end: OrderEnd) -> bool:
        try:
            await self._store.settle_order(order.submission_id, end, self._clock.now())
        except ReceiverError:
            return False
        return True

    async def _await(self, forward: "_Forward") -> Placed:
        """The end of an order, or that it is not known in the time that callers have."""
        try:
            await asyncio.wait({forward.task}, timeout=self._answer_seconds)
        except asyncio.CancelledError:
            forward.is_heard = False
            raise
        if not forward.task.done():
            forward.is_heard = False
            return Placed(order=forward.order, refusal=RefusalKind.UNKNOWN_OUTCOME)
        if forward.task.cancelled():  # the service stops
            return Placed(order=forward.order, refusal=RefusalKind.UNKNOWN_OUTCOME)
        return forward.task.result()

    # --- one that came before -------------------------------------------------------------------------

    async def _repeat(self, order: Order, request: OrderRequest) -> Placed:
        """Answer as the first time, once that is known. Nothing is sent."""
        if order.digest != request.digest:
            return Placed(order=order, refusal=RefusalKind.OTHER_BODY)
        if request.key is not None and order.state is OrderState.SENDING:
            order = await self._await_end(order)
        if order.state in _OPEN:
            is_equal = request.key is None
            return Placed(
                order=order, refusal=RefusalKind.STILL_OPEN if is_equal else RefusalKind.UNKNOWN_OUTCOME
            )
        return Placed(order=order, answer=_first_answer(request.facts, order), is_replay=True)

    async def _await_end(self, order: Order) -> Order:
        """The order once it is not being sent any more, or as it is when callers have waited long enough."""
        until = self._clock.uptime() + timedelta(seconds=self._answer_seconds)
        while order.state is OrderState.SENDING and self._clock.uptime() < until:
            if (forward := self._live.get(order.submission_id)) is not None:
                left_seconds = (until - self._clock.uptime()).total_seconds()
                await asyncio.wait({forward.task}, timeout=max(0.0, left_seconds))
            else:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            order = await self._store.get_order(order.submission_id) or order
        return order


class _Forward:
    """An order on its way, and whether its caller is still there."""

    task: "asyncio.Task[Placed]"

    def __init__(self, order: Order) -> None:
        self.order = order
        self.is_heard = True


def _unheard(beginning: "asyncio.Task[_Forward | Order]") -> None:
    """The caller left before it was recorded: it is sent all the same, as the whole order had come."""
    if not beginning.cancelled() and beginning.exception() is None:
        begun = beginning.result()
        if isinstance(begun, _Forward):
            begun.is_heard = False


def _end_of(facts: OrderFacts, sent: UpstreamAnswer | NoAnswer) -> tuple[OrderEnd, UpstreamAnswer | None]:
    """How sending ended, and what of the answer the caller gets."""
    if isinstance(sent, NoAnswer):
        state = OrderState.UNKNOWN if sent.has_left else OrderState.UNSENT
        return OrderEnd(state=state, outcome=sent.outcome), None
    judgement = judge(facts, sent.status, sent.body)
    end = OrderEnd(
        state=judgement.state,
        task_id=judgement.task_id,
        outcome=judgement.outcome,
        status=sent.status,
        media_type=sent.media_type,
        answer=sent.body if len(sent.body) <= MAX_KEPT_ANSWER_BYTES else None,
    )
    is_redirect = 300 <= sent.status < 400
    return end, None if is_redirect else sent


def _refusal_of(state: OrderState, answer: UpstreamAnswer | None) -> RefusalKind | None:
    if answer is not None:
        return None
    return RefusalKind.UNAVAILABLE if state is OrderState.UNSENT else RefusalKind.UNKNOWN_OUTCOME


def _first_answer(facts: OrderFacts, order: Order) -> UpstreamAnswer:
    """What the provider answered, or would have: an order that a callback bound has no answer of its own."""
    media_type, status, body = order.media_type, order.status, order.answer
    if body is None or status is None or order.said_task_id is None:
        task_id = order.task_id or order.said_task_id or ""
        media_type, status = "application/json", 200
        body = msgspec.json.encode(facts.submitted(task_id, order.sent_at))
    headers = (("content-type", media_type),) if media_type else ()
    return UpstreamAnswer(status=status, headers=headers, body=body)


def _hash(*parts: str) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
