"""Asking a provider's status endpoint about one task: key, pace, and what the answer was."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import httpx2
import msgspec
import structlog

from receiver.backoff import retry_after_seconds
from receiver.clock import Clock
from receiver.errors import FetchFailed
from receiver.fetching.codings import Unpacker, coding_of
from receiver.fetching.download import PieceWatch
from receiver.lazy_map import LazyMap
from receiver.links import is_inline
from receiver.models import Access, Outcome, Report, StatusRequest
from receiver.polling.answers import Answer, judge, refusal, stand_in, unreached
from receiver.polling.circuit import (
    PROVIDER_FAILURES,
    CircuitState,
    Failure,
    after_failure,
    after_success,
    half_open,
    is_of_a_key,
    is_ours,
)
from receiver.polling.rate_limit import OutOfTurn, TokenBucket
from receiver.ports import Provider

log = structlog.get_logger()

# A wish to be asked less often is part of the trade; one of more than so many seconds is worth telling.
USUAL_RETRY_AFTER_SECONDS = 60.0
SHORTEST_RETRY_AFTER_SECONDS = 1.0
AGREED_SECONDS = 1.0  # two that wait for the same are apart by the time of telling each other
# How long a question that was answered shows that the key is good.
KEY_WORKS_SECONDS = 60.0


# By these, results say how the run of their task failed, and not that there are none.
_OF_A_RUN = frozenset({400, 422, 500, 502, 503, 504})

_KEY_GONE = Answer(
    outcome=Outcome.KEY_GONE,
    detail="the key that it was ordered with is not set any more",
    asked=False,
)
_NO_MODEL = Answer(
    outcome=Outcome.NO_MODEL, detail="the provider is asked by model, and the submission names none"
)


class StatusClient:
    """Asks providers, each at its own pace, and remembers which of them cannot be asked now, and why.

    Its memory ends with the process: after a start each provider is asked as if for the first time. Callers
    look at ``room`` first; ``ask`` itself keeps no pace. One answer takes at most ``timeout_seconds`` and
    ``max_answer_bytes``, and two questions where the first path does not know the task.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        accesses: Mapping[str, Access],
        http: httpx2.AsyncClient,
        clock: Clock,
        timeout_seconds: float = 10.0,
        max_answer_bytes: int = 2_097_152,
        keys: Mapping[str, Mapping[str, str]] = {},
    ) -> None:
        """``keys`` are those that orders went out with, by provider and by what orders say of them."""
        self._providers = providers
        self._accesses = accesses
        self._http = http
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._max_answer_bytes = max_answer_bytes
        self._keys = keys
        self._memories = LazyMap(accesses, self._empty_memory)

    def _empty_memory(self, provider: str) -> "_Memory":
        per_minute = self._accesses[provider].per_minute(self._providers[provider].facts)
        now = self._clock.uptime()
        return _Memory(bucket=TokenBucket(per_minute, now), out_of_turn=OutOfTurn(per_minute, now))

    def providers(self) -> Iterable[str]:
        """All that it knows of."""
        return self._memories

    def can_ask(self, provider: str) -> bool:
        """Whether there is a key for it."""
        access = self._accesses.get(provider)
        return access is not None and access.api_key is not None

    def has_several_keys(self, provider: str) -> bool:
        """Whether one of its keys may be refused while another one works."""
        return len(self._accesses[provider].api_keys) > 1

    def problem(self, provider: str) -> str | None:
        """What keeps it from being asked, in words for people, if anything does."""
        memory = self._memories[provider]
        state, free_at, said = memory.circuit.state, memory.free_at(), ""
        if state is None:
            number, state = self._troubled_key(provider)
            if state is None:
                return None
            free_at, said = state.until, f"key {number} of {len(self._accesses[provider].api_keys)} is "
        seconds = (free_at - self._clock.uptime()).total_seconds()
        if state.outcome is Outcome.RATE_LIMITED and seconds <= USUAL_RETRY_AFTER_SECONDS:
            return None
        again = f"in {seconds:.0f} s" if seconds > 0 else "when a task is due"
        return f"{said}{state.outcome}: {state.detail}, asked again {again}"

    def _troubled_key(self, provider: str) -> tuple[int, CircuitState | None]:
        """The first of several keys that cannot be asked with, by its place from 1, and why."""
        by_key = self._memories[provider].by_key
        for number, key in enumerate(self._accesses[provider].api_keys, 1):
            if key in by_key and by_key[key].state is not None:
                return number, by_key[key].state
        return 0, None

    def accepted_at(self, provider: str) -> datetime | None:
        """When a question was answered last, as far as none has failed since."""
        at = self._memories[provider].circuit.accepted_at
        return None if at is None else self._by_the_wall(at)

    def room(self, provider: str) -> int:
        """How many questions its pace allows now."""
        return self._memories[provider].room(self._clock.uptime())

    def free_at(self, provider: str) -> datetime:
        """From when on its pace allows a question; in the past where it does now."""
        return self._by_the_wall(self._memories[provider].free_at())

    def turns_away(self, provider: str) -> bool:
        """Whether it cannot be asked for so long that callers are told at once instead of waiting."""
        state = self._memories[provider].circuit.state
        return state is not None and state.turns_away(self._clock.uptime())

    def lasting(
        self, provider: str, outcomes: Collection[Outcome], upstream_key: str | None = None
    ) -> timedelta | None:
        """How long its circuit has been open for one of these outcomes; None where it is not.

        Where it has several keys, that may be the circuit of the one that is asked with.
        """
        memory, key = self._memories[provider], self._key(provider, upstream_key)
        states = [memory.circuit.state, memory.by_key[key].state if key in memory.by_key else None]
        since = [state.since for state in states if state is not None and state.outcome in outcomes]
        return self._clock.uptime() - min(since) if since else None

    def out_of_turn(self, provider: str) -> datetime | None:
        """Ask for one question that does not wait for its turn among the polls.

        None: ask now; the question is counted already. Otherwise: when to come again.
        """
        memory, now = self._memories[provider], self._clock.uptime()
        again_at = memory.out_of_turn.ask(now, state.until if (state := memory.circuit.state) else now)
        return None if again_at is None else self._by_the_wall(again_at)

    def gap_out_of_turn(self, provider: str) -> timedelta:
        """The time from one question out of turn to the next."""
        return self._memories[provider].out_of_turn.gap

    def closed_seconds(self, provider: str) -> float:
        """For how long nobody should ask it; 0.0 where that is for this process alone to know.

        A key or a balance may be mended by a restart, which finds out; and so does a question on its way.
        """
        state = self._memories[provider].circuit.state
        if state is None or state.is_probed or is_ours(state.outcome):
            return 0.0
        return max((state.until - self._clock.uptime()).total_seconds(), 0.0)

    def count_others(self, provider: str, asked: int, closed_seconds: float) -> None:
        """Count what other processes asked, and wait where one of them was told to for longer."""
        memory, now = self._memories[provider], self._clock.uptime()
        for _ in range(asked):
            memory.bucket.take(now)
        if closed_seconds > self.closed_seconds(provider) + AGREED_SECONDS:
            detail = "another process was told to wait"
            failure = Failure(
                outcome=Outcome.RATE_LIMITED,
                detail=detail,
                asked_at=now,
                retry_after_seconds=closed_seconds,
            )
            memory.circuit.met(failure, now)

    async def ask(
        self, provider: str, task_id: str, model: str | None, upstream_key: str | None = None
    ) -> Answer:
        """Ask one question at once. Whatever goes wrong is an answer, too.

        While its circuit is open, the provider is not asked: the answer says why. What was ordered with a
        key (``upstream_key`` is its hash) is asked about with that one and no other, and of several keys each
        has a circuit of its own for what its provider says of it.
        """
        asked_at = self._clock.uptime()
        key = self._key(provider, upstream_key)
        if key is None and upstream_key is not None:
            return _KEY_GONE
        try:
            request = self._providers[provider].status_request(task_id, model)
            if request is None:
                return _NO_MODEL
            state = self._closed(provider, key, asked_at)
            if state is not None:
                return Answer(
                    outcome=state.outcome,
                    detail=state.detail,
                    retry_after_seconds=(state.until - asked_at).total_seconds(),
                    asked=False,
                )
            answer = await self._exchange(provider, key, request, task_id)
        except Exception as exc:  # noqa: BLE001 - an adapter may be anybody's code, and its bug is its own
            # Only the type: what it says may be the answer it choked on.
            answer = Answer(outcome=Outcome.CRASHED, detail=type(exc).__name__)
        self._learn(provider, key, answer, asked_at)
        return answer

    def _key(self, provider: str, upstream_key: str | None) -> str | None:
        """The key to ask with; None where it is not set, or not any more."""
        if upstream_key is None:
            return self._accesses[provider].api_key
        return self._keys.get(provider, {}).get(upstream_key)

    def _circuits(self, provider: str, key: str | None) -> Sequence["_Circuit"]:
        """Those that a question goes through: the provider's own, and that of one of several keys."""
        memory = self._memories[provider]
        if key is None or not self.has_several_keys(provider):
            return (memory.circuit,)
        return memory.circuit, memory.by_key.setdefault(key, _Circuit())

    def _closed(self, provider: str, key: str | None, now: timedelta) -> CircuitState | None:
        """The state that lets no question through now."""
        states = [circuit.state for circuit in self._circuits(provider, key)]
        return next((state for state in states if state is not None and state.is_open(now)), None)

    def _take(self, provider: str, key: str) -> None:
        """Count a question that is being asked."""
        now = self._clock.uptime()
        self._memories[provider].bucket.take(now)
        for circuit in self._circuits(provider, key):
            circuit.half_open(now)

    def _by_the_wall(self, moment: timedelta) -> datetime:
        """A moment of uptime as a time of the wall clock as it is set now."""
        wait = moment - self._clock.uptime()
        return self._clock.now() + wait

    async def _exchange(self, provider: str, key: str | None, request: StatusRequest, task_id: str) -> Answer:
        if key is None:
            return Answer(outcome=Outcome.KEY_REFUSED, detail="no key is set")
        if not (key.isascii() and key.isprintable()):
            return Answer(outcome=Outcome.KEY_REFUSED, detail="the key has characters that no header carries")
        self._take(provider, key)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._ask_on(provider, key, request, task_id)
        except (TimeoutError, httpx2.TimeoutException):
            detail = f"the provider did not answer within {self._timeout_seconds:g} s"
            return Answer(outcome=Outcome.TIMEOUT, detail=detail)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, UnicodeError) as exc:
            return unreached(exc)

    async def _ask_on(self, provider: str, key: str, request: StatusRequest, task_id: str) -> Answer:
        """Ask, and once more where the results are, or where else the task may be known."""
        answer = await self._get(provider, key, request, task_id)
        if request.results is not None and answer.outcome is Outcome.NO_FILES:
            self._take(provider, key)
            return await self._get(provider, key, request.results, task_id, before=answer.body)
        if request.otherwise is None or answer.outcome is not Outcome.UNKNOWN_TASK:
            return answer
        self._take(provider, key)
        otherwise = await self._get(provider, key, request.otherwise, task_id)
        # At the second path, any error may mean that the task is not known there.
        counts = otherwise.report is not None or otherwise.outcome is Outcome.RATE_LIMITED
        return otherwise if counts else answer

    async def _get(
        self, provider: str, key: str, request: StatusRequest, task_id: str, *, before: bytes = b""
    ) -> Answer:
        """Ask at one path; ``before`` is the answer that the results at it belong to."""
        facts = self._providers[provider].facts
        headers = {
            facts.key_header: f"{facts.key_prefix}{key}",
            "Accept": "application/json",
            # Plain bytes cost least; some hosts pack their answers all the same.
            "Accept-Encoding": "identity",
            **request.headers,
        }
        async with self._http.stream(
            "GET" if request.body is None else "POST",
            self._accesses[provider].url(self._providers[provider].facts) + request.path,
            params=dict(request.query) or None,
            json=request.body,
            headers=headers,
            timeout=self._timeout_seconds,
            follow_redirects=False,  # the key goes where the operator said or nowhere
        ) as response:
            seconds = retry_after_seconds(response.headers.get("retry-after", ""), self._clock.now())
            # A wish for no time at all would have the next question asked in the same moment.
            wish = None if seconds is None else max(seconds, SHORTEST_RETRY_AFTER_SECONDS)
            key_works = self._circuits(provider, key)[-1].key_works(self._clock.uptime())
            if not response.is_success and not (before and response.status_code in _OF_A_RUN):
                return refusal(response.status_code, wish, key_works=key_works)
            try:
                body = await _read(response, max(request.most_bytes, self._max_answer_bytes))
            except FetchFailed as exc:
                return Answer(outcome=Outcome.UNREADABLE, detail=f"the answer cannot be read: {exc}")
        if before:
            body = b'{"answer":%b,"results":%b}' % (before, body)
        answer = judge(self._providers[provider], task_id, body, wish, key_works=key_works)
        if len(body) <= self._max_answer_bytes or answer.report is None or _has_files_in_it(answer.report):
            return answer
        return msgspec.structs.replace(answer, body=stand_in(answer.report, len(body)))

    def _learn(self, provider: str, key: str | None, answer: Answer, asked_at: timedelta) -> None:
        now, circuits = self._clock.uptime(), self._circuits(provider, key)
        before = [circuit.state for circuit in circuits]
        if answer.outcome in PROVIDER_FAILURES:
            failure = Failure(
                outcome=answer.outcome,
                detail=answer.detail or "",
                asked_at=asked_at,
                retry_after_seconds=answer.retry_after_seconds,
            )
            if len(circuits) > 1 and is_of_a_key(answer.outcome):
                circuits[-1].met(failure, now)
                circuits[0].was_heard(asked_at, accepted=False)
            else:
                circuits[0].met(failure, now)
        elif answer.outcome is not Outcome.CRASHED:  # a bug of ours says nothing of the provider
            for circuit in circuits:
                circuit.was_heard(asked_at, accepted=answer.outcome is not Outcome.REFUSED)
        for was, circuit in zip(before, circuits, strict=True):
            _tell(provider, was, circuit.state)


class _Circuit(msgspec.Struct, kw_only=True):
    """Why a provider, or one of its keys, is not asked with now. Moments are of ``Clock.uptime``."""

    state: CircuitState | None = None
    accepted_at: timedelta | None = None  # when the latest question that was answered was asked

    def key_works(self, now: timedelta) -> bool:
        """Whether a question was answered a moment ago, and none has failed since."""
        at = self.accepted_at
        return at is not None and now - at <= timedelta(seconds=KEY_WORKS_SECONDS)

    def half_open(self, now: timedelta) -> None:
        """A question is on its way."""
        self.state = half_open(self.state, now) if self.state else None

    def met(self, failure: Failure, now: timedelta) -> None:
        self.state, self.accepted_at = after_failure(self.state, failure, now), None

    def was_heard(self, asked_at: timedelta, *, accepted: bool) -> None:
        """A question met none of PROVIDER_FAILURES; only an ``accepted`` one shows that the key is good."""
        self.accepted_at = asked_at if accepted else self.accepted_at
        self.state = after_success(self.state, asked_at, accepted=accepted) if self.state else None


class _Memory(msgspec.Struct, kw_only=True):
    """What is remembered of one provider. Moments are of ``Clock.uptime``."""

    bucket: TokenBucket  # of all questions
    out_of_turn: OutOfTurn
    circuit: _Circuit = msgspec.field(default_factory=_Circuit)
    by_key: dict[str, _Circuit] = {}  # of several keys: what is said of one of them

    def room(self, now: timedelta) -> int:
        room, state = self.bucket.room(now), self.circuit.state
        if state is None:
            return room
        return 0 if state.is_open(now) else min(room, 1)

    def free_at(self) -> timedelta:
        free_at, state = self.bucket.free_at(), self.circuit.state
        return max(free_at, state.until) if state else free_at


def _tell(provider: str, before: CircuitState | None, after: CircuitState | None) -> None:
    """One line when a provider can no longer be asked, and one when it can again; polls tell the rest."""
    was = before.outcome if before else None
    if after is None:
        if before and was is not Outcome.RATE_LIMITED:
            log.info("provider.recovered", provider=provider, outcome=before.outcome.value)
    elif after.outcome not in {was, Outcome.RATE_LIMITED}:
        outcome, detail = after.outcome.value, after.detail
        log.warning("provider.troubled", provider=provider, outcome=outcome, detail=detail)


def _has_files_in_it(report: Report) -> bool:
    """Whether files are stored from the body: the record needs it whole until they are."""
    return any(is_inline(file.url) for file in report.files)


async def _read(response: httpx2.Response, max_bytes: int) -> bytes:
    """The body, unpacked if it is packed, though plain bytes were asked for.

    Raises FetchFailed if it cannot be unpacked, is longer than ``max_bytes``, packed or not, or comes in
    crumbs.
    """
    coding = coding_of(response.headers.get("content-encoding", ""))
    unpacker = Unpacker(coding) if coding else None
    body, received, pieces = bytearray(), 0, PieceWatch()
    async for chunk in response.aiter_raw():
        pieces.count(len(chunk))
        received += len(chunk)
        _check_bytes(received, max_bytes)
        for piece in unpacker.feed(chunk) if unpacker else (chunk,):
            body += piece
            _check_bytes(len(body), max_bytes)
    return bytes(body + unpacker.finish()) if unpacker else bytes(body)


def _check_bytes(count: int, max_bytes: int) -> None:
    if count > max_bytes:
        raise FetchFailed(Outcome.TOO_LARGE, f"it has more than {max_bytes} bytes")
