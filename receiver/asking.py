"""Asking a provider's status endpoint about one task: key, pace, and what the answer was."""

import asyncio
import socket
import ssl
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx2
import msgspec
import structlog

from receiver import payload
from receiver.clock import Clock
from receiver.errors import Rejected, causes
from receiver.ingest import understand
from receiver.models import Report, StatusRequest
from receiver.pace import TROUBLES, Pace, Trouble
from receiver.ports import Provider
from receiver.words import Outcome, ReportState

log = structlog.get_logger()

# A wish to be asked less often is part of the trade; one of more than so many seconds is worth telling.
USUAL_WISH_SECONDS = 60.0
SHORTEST_WISH_SECONDS = 1.0
LONGEST_WISH_SECONDS = 86_400.0  # so that a hostile Retry-After cannot park a provider for ever

_ENDS = frozenset({ReportState.COMPLETED, ReportState.FAILED})


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How one provider's API is reached, and how often it may be asked."""

    api_key: str | None  # without one it is not asked at all
    base_url: str  # without a slash at its end
    polls_per_minute: int
    first_poll_seconds: float

    def __repr__(self) -> str:
        return f"Access(base_url={self.base_url!r})"  # no key


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one question. ``detail`` says it in words, without links, key or body.

    A ``report`` is there where a body came that counts as an answer about the task: ``answered`` (it ended),
    ``in_progress``, and ``unreadable`` (its report is then UNCLEAR).
    """

    outcome: Outcome
    detail: str | None = None
    report: Report | None = None
    body: bytes = b""
    retry_after_seconds: float | None = None  # the provider's wish; until a trouble is over, where not asked
    asked: bool = True  # False: it was not, as the trouble of that outcome stands


_NO_MODEL = Answer(
    outcome=Outcome.NO_MODEL, detail="the provider is asked by model, and the submission names none"
)


class Asker:
    """Asks providers, each at its own pace, and remembers which of them cannot be asked now, and why.

    Who asks looks at ``room`` first; ``ask`` itself heeds no pace. One answer takes at most
    ``timeout_seconds`` and ``max_answer_bytes``.
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
    ) -> None:
        self._providers = providers
        self._accesses = accesses
        self._http = http
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._max_answer_bytes = max_answer_bytes
        now = clock.now()
        self._paces = {name: Pace(access.polls_per_minute, now) for name, access in accesses.items()}

    def can_ask(self, provider: str) -> bool:
        """Whether there is a key for it."""
        access = self._accesses.get(provider)
        return access is not None and access.api_key is not None

    def trouble(self, provider: str) -> str | None:
        """What keeps it from being asked, in words for people, if anything does."""
        trouble = self._paces[provider].trouble
        if trouble is None:
            return None
        seconds = (self.free_at(provider) - self._clock.now()).total_seconds()
        if trouble.outcome is Outcome.RATE_LIMITED and seconds <= USUAL_WISH_SECONDS:
            return None
        again = f"in {seconds:.0f} s" if seconds > 0 else "when a task is due"
        return f"{trouble.outcome}: {trouble.detail}, asked again {again}"

    def room(self, provider: str) -> int:
        """How many questions its pace allows now."""
        return self._paces[provider].room(self._clock.now())

    def free_at(self, provider: str) -> datetime:
        """From when on its pace allows a question; in the past where it does now."""
        return self._paces[provider].free_at(self._clock.now())

    def sends_away(self, provider: str) -> bool:
        """Whether it cannot be asked for so long that who waits is better told at once, whatever its pace."""
        return self._paces[provider].sends_away(self._clock.now())

    def lasting(self, provider: str, outcomes: Collection[Outcome]) -> timedelta | None:
        """For how long it has been in trouble of these outcomes; None where it is not."""
        pace = self._paces[provider]
        is_theirs = pace.trouble is not None and pace.trouble.outcome in outcomes
        return pace.troubled_for(self._clock.now()) if is_theirs else None

    def out_of_turn(self, provider: str) -> datetime | None:
        """Ask for one question that does not wait for its turn among the polls.

        None: it may be asked now, and is expected to be. Else when to come again.
        """
        return self._paces[provider].out_of_turn(self._clock.now())

    async def ask(self, provider: str, task_id: str, model: str | None) -> Answer:
        """One question, asked at once. Whatever goes wrong is an answer, too.

        While a trouble keeps the provider from being asked, that is the answer, and nobody is asked.
        """
        asked_at = self._clock.now()
        try:
            request = self._providers[provider].status_request(task_id, model)
            if request is None:
                return _NO_MODEL
            left = self._paces[provider].stands_for(asked_at)
            if left is not None:
                return self._sent_away(provider, left)
            answer = await self._exchange(provider, request, task_id)
        except Exception as exc:  # noqa: BLE001 - an adapter may be anybody's code, and its bug is its own
            # Only the type: what it says may be the answer it choked on.
            answer = Answer(outcome=Outcome.CRASHED, detail=type(exc).__name__)
        self._learn(provider, answer, asked_at)
        return answer

    def _sent_away(self, provider: str, left: timedelta) -> Answer:
        trouble = self._paces[provider].trouble
        assert trouble is not None, "only a trouble sends away"  # noqa: S101
        return Answer(
            outcome=trouble.outcome,
            detail=trouble.detail,
            retry_after_seconds=left.total_seconds(),
            asked=False,
        )

    async def _exchange(self, provider: str, request: StatusRequest, task_id: str) -> Answer:
        key = self._accesses[provider].api_key
        if key is None:
            return Answer(outcome=Outcome.KEY_REFUSED, detail="no key is set")
        if not (key.isascii() and key.isprintable()):
            return Answer(outcome=Outcome.KEY_REFUSED, detail="the key has characters that no header carries")
        self._paces[provider].take(self._clock.now())
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._get(provider, key, request, task_id)
        except (TimeoutError, httpx2.TimeoutException):
            detail = f"the provider did not answer within {self._timeout_seconds:g} s"
            return Answer(outcome=Outcome.TIMEOUT, detail=detail)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, UnicodeError) as exc:
            return _unreached(exc)

    async def _get(self, provider: str, key: str, request: StatusRequest, task_id: str) -> Answer:
        headers = {
            "Authorization": f"Bearer {key}",
            "Accept": "application/json",
            # Decompressing what was not asked for is how small answers become large ones.
            "Accept-Encoding": "identity",
        }
        async with self._http.stream(
            "GET",
            self._accesses[provider].base_url + request.path,
            params=dict(request.query) or None,
            headers=headers,
            timeout=self._timeout_seconds,
            follow_redirects=False,  # the key goes where the operator said or nowhere
        ) as response:
            now = self._clock.now()
            wish = _wish_seconds(response.headers.get("retry-after", ""), now)
            key_works = self._paces[provider].key_works(now)
            if not response.is_success:
                return refusal(response.status_code, wish, key_works=key_works)
            body = await _read(response, self._max_answer_bytes)
        if body is None:
            detail = f"the answer is compressed, or has more than {self._max_answer_bytes} bytes"
            return Answer(outcome=Outcome.UNREADABLE, detail=detail)
        return judge(self._providers[provider], task_id, body, wish, key_works=key_works)

    def _learn(self, provider: str, answer: Answer, asked_at: datetime) -> None:
        pace = self._paces[provider]
        before = pace.trouble
        if answer.outcome in TROUBLES:
            pace.met(
                answer.outcome,
                answer.detail or "",
                asked_at=asked_at,
                now=self._clock.now(),
                wish_seconds=answer.retry_after_seconds,
            )
        elif answer.outcome is not Outcome.CRASHED:  # a bug of ours says nothing of the provider
            pace.over(asked_at=asked_at, accepted=answer.outcome is not Outcome.REFUSED)
        _log_change(provider, before, pace.trouble)


def refusal(status: int, retry_after_seconds: float | None = None, *, key_works: bool = False) -> Answer:
    """What an answer means that is none about the task, by its HTTP status.

    ``key_works``: the provider took the key a moment ago, so a 403 is not about that.
    """
    outcome, words = _REFUSALS.get(status, (Outcome.HTTP_ERROR, "the provider answered"))
    is_forbidden = status == 403 and key_works
    if is_forbidden or (status not in _REFUSALS and 400 <= status < 500):
        outcome, words = Outcome.REFUSED, "the provider refused the question about this task"
    hint = "; redirects are not followed" if 300 <= status < 400 else ""
    return Answer(
        outcome=outcome, detail=f"{words} ({status}){hint}", retry_after_seconds=retry_after_seconds
    )


# Any other 4xx is about the one question.
_REFUSALS = {
    401: (Outcome.KEY_REFUSED, "the provider refused the key"),
    402: (Outcome.OUT_OF_CREDIT, "the provider wants to be paid first"),
    403: (Outcome.KEY_REFUSED, "the provider refused the key"),
    404: (Outcome.UNKNOWN_TASK, "the provider knows no such task"),
    408: (Outcome.HTTP_ERROR, "the provider answered"),
    425: (Outcome.HTTP_ERROR, "the provider answered"),
    429: (Outcome.RATE_LIMITED, "the provider was asked too often"),
}


def judge(
    provider: Provider,
    task_id: str,
    body: bytes,
    retry_after_seconds: float | None = None,
    *,
    key_works: bool = False,
) -> Answer:
    """What the body of a 200 means. It counts only if it is about the task that was asked about."""
    try:
        report = understand(provider, body)
    except Rejected:
        return _unreadable(task_id, body, "the answer is not JSON")
    if report.state is ReportState.UNCLEAR:
        status = _status_within(body)
        if status is not None:
            return refusal(status, retry_after_seconds, key_works=key_works)
        return _unreadable(task_id, body, report.note, report.provider_state)
    if report.task_id != task_id:
        return _unreadable(task_id, body, "the answer is about another task", report.provider_state)
    outcome = Outcome.ANSWERED if report.state in _ENDS else Outcome.IN_PROGRESS
    return Answer(outcome=outcome, detail=report.provider_state, report=report, body=body)


def _unreadable(task_id: str, body: bytes, note: str | None, provider_state: str | None = None) -> Answer:
    # Filed under the task that was asked about, whatever task the body names.
    report = Report(task_id=task_id, state=ReportState.UNCLEAR, provider_state=provider_state, note=note)
    return Answer(outcome=Outcome.UNREADABLE, detail=note, report=report, body=body)


def _status_within(body: bytes) -> int | None:
    """The error status that some providers write into the body of a 200, as ``code``."""
    code = payload.code(payload.mapping(payload.decode(body)).get("code")) or ""
    is_status = len(code) == 3 and code.isascii() and code.isdigit()
    return int(code) if is_status and 400 <= int(code) < 600 else None


async def _read(response: httpx2.Response, max_bytes: int) -> bytes | None:
    """The body; None where it is too long, or encoded though plain bytes were asked for."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        return None
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


def _wish_seconds(value: str, now: datetime) -> float | None:
    """Retry-After in seconds from now, at most a day; None where it is missing or makes no sense."""
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        try:
            moment = parsedate_to_datetime(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = (moment - now).total_seconds()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, SHORTEST_WISH_SECONDS), LONGEST_WISH_SECONDS)


def _unreached(error: Exception) -> Answer:
    outcome = _outcome(error)
    return Answer(outcome=outcome, detail=_WORDS[outcome])


def _outcome(error: Exception) -> Outcome:
    chain = list(causes(error))
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return Outcome.TLS_FAILED
    if any(isinstance(cause, socket.gaierror) for cause in chain):
        return Outcome.DNS_FAILED
    if isinstance(error, httpx2.ConnectError):
        return Outcome.CONNECT_FAILED
    is_ours = isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError))
    return Outcome.BAD_URL if is_ours else Outcome.INTERRUPTED


# Ours, not the driver's: theirs may repeat the URL.
_WORDS = {
    Outcome.TLS_FAILED: "the encrypted connection to the provider failed",
    Outcome.DNS_FAILED: "the name of the provider's host cannot be resolved",
    Outcome.CONNECT_FAILED: "the provider's host takes no connection",
    Outcome.BAD_URL: "the provider's base URL makes no valid request",
    Outcome.INTERRUPTED: "the provider's host broke off, or sent no valid HTTP",
}


def _log_change(provider: str, before: Trouble | None, after: Trouble | None) -> None:
    """One line when a provider can no longer be asked, and one when it can again; polls tell the rest."""
    was = before.outcome if before else None
    if after is None:
        if before and was is not Outcome.RATE_LIMITED:
            log.info("provider.recovered", provider=provider, outcome=before.outcome.value)
    elif after.outcome not in {was, Outcome.RATE_LIMITED}:
        log.warning("provider.troubled", provider=provider, outcome=after.outcome.value, detail=after.detail)
