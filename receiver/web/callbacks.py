"""The providers' door: one bare ASGI callable, because every callback passes here."""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.errors import NotAuthentic, ReceiverError, Rejected, Unavailable
from receiver.escapes import encode_harmless
from receiver.models import NO_SCHEME, Proof, Receipt, RefusalReason
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.urls import CALLBACKS
from receiver.web import problems
from receiver.web.limits import BodyLimiter, BodyReader, announces_body

MAX_TOKEN_CHARACTERS = 512  # ours have about 70; a longer one is wrong without being looked at

log = structlog.get_logger()

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case
Read = Callable[[BodyReader], Awaitable[bytes]]
Answer = Callable[[int, Headers, bytes], Awaitable[None]]  # status, headers, body

_OF_SIGNATURES = frozenset({RefusalReason.SIGNATURE_WRONG, RefusalReason.SIGNATURE_WRONG_TOKEN_RIGHT})
# What else is no request to look at is a bad one.
_REASONS = {
    ProblemType.BODY_TOO_LARGE: RefusalReason.TOO_LARGE,
    ProblemType.BODY_TOO_SLOW: RefusalReason.TOO_SLOW,
    ProblemType.METHOD_NOT_ALLOWED: RefusalReason.METHOD,
    ProblemType.NOT_JSON: RefusalReason.NOT_JSON,
    ProblemType.TOKEN_OF_ANOTHER_TASK: RefusalReason.TOKEN_OF_ANOTHER_TASK,
    ProblemType.UNKNOWN_PROVIDER: RefusalReason.UNKNOWN_PROVIDER,
}

_JSON = (b"content-type", b"application/json")


class CallbackDoor:
    """``POST /callbacks/{provider}`` and ``POST /callbacks/{provider}/{token}``.

    Limits, then the token, then read; then the signature over the raw bytes, parse and record, which
    are ``ingest.accept``. The answer is exactly 200 once the delivery is durable.
    """

    def __init__(self, runtime: Runtime, intake: BodyLimiter) -> None:
        self._runtime = runtime
        self._intake = intake
        self.max_bytes = runtime.settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def read(place: BodyReader) -> bytes:
            return await place.read(receive)

        async def answer(status: int, headers: Headers, body: bytes) -> None:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        request = CallbackRequest(scope["path"], scope["headers"], method=scope["method"])
        await self.exchange(request, read, answer)

    async def exchange(self, request: "CallbackRequest", read: Read, answer: Answer) -> None:
        """Answer one callback, whatever server it came by. ``read`` may raise ClientDisconnect."""
        try:
            receipt, proof = await self._accept(request, read)
        except ClientDisconnect:
            log.info("callback.interrupted", provider=request.provider, seconds=request.seconds())
        except ReceiverError as error:
            await _send(answer, self._refuse(request, error))
        except Exception:
            # The last line of defence: the sender gets a 500 and tries again, the log gets the rest.
            log.exception("callback.failed", provider=request.provider, bytes=request.bytes)
            self._runtime.metrics.rejected(500)
            self._runtime.time_series.refuse(request.provider, 500, RefusalReason.INTERNAL_ERROR)
            await _send(answer, problems.internal())
        else:
            try:
                await _acknowledge(answer, receipt)
            finally:  # it is recorded, whether or not anybody still waits for the answer
                self._note(request, receipt, proof)
                if (traces := self._runtime.traces) is not None:
                    assert request.received_at is not None, "it was accepted"  # noqa: S101
                    await traces.callback(
                        request.name, receipt, size=request.bytes or 0, received_at=request.received_at
                    )

    async def _accept(self, request: "CallbackRequest", read: Read) -> tuple[Receipt, Proof]:
        ingest = self._runtime.ingest
        if request.name not in self._runtime.providers:
            detail = "No provider of this name is known here."
            raise problems.UnknownInPath(ProblemType.UNKNOWN_PROVIDER, detail)
        request.provider = request.name
        if request.method != "POST":
            raise Rejected(ProblemType.METHOD_NOT_ALLOWED, "Callbacks are sent by POST.")
        if not request.is_plain:
            self._intake.check(request.headers(), self.max_bytes)
        admission = ingest.authorize(request.name, request.token)
        with self._intake.reserve(f"{request.name} {request.token}", self.max_bytes) as place:
            body = await read(place)
            request.bytes = len(body)
            received_at = request.received_at = self._runtime.clock.now()
            # Only a signature is looked for in headers.
            headers = request.headers() if admission.is_signed else {}
            return await ingest.accept(admission, body=body, headers=headers, received_at=received_at)

    def _note(self, request: "CallbackRequest", receipt: Receipt, proof: Proof) -> None:
        seconds = request.seconds()
        self._runtime.metrics.callback(request.name, receipt.status, seconds)
        log.info(
            "callback.received",
            provider=request.name,
            task_id=receipt.task_id,
            verdict=receipt.status.value,
            proof=proof.value,
            bytes=request.bytes,
            seconds=seconds,
        )

    def _refuse(self, request: "CallbackRequest", error: ReceiverError) -> Response:
        match error:
            case Rejected():
                status, title = problems.status_of(error), error.title
            case Unavailable():
                status, title = 503, error.outcome.value
            case _:
                status, title = 500, type(error).__name__
        self._runtime.metrics.rejected(status)
        self._runtime.time_series.refuse(request.provider, status, *self._reason(request, error))
        log.warning(
            "callback.rejected",
            provider=request.provider,
            status=status,
            title=title,
            bytes=request.bytes,
            seconds=request.seconds(),
        )
        answer = problems.answer(error, {"allow": "POST"} if status == 405 else None)
        is_unread = request.bytes is None and announces_body(request.headers())
        return problems.closing(answer) if is_unread else answer

    def _reason(self, request: "CallbackRequest", error: ReceiverError) -> tuple[RefusalReason, str]:
        """Why a callback is turned away, and by which kind of signature; not for its sender."""
        match error:
            case NotAuthentic() if error.reason in _OF_SIGNATURES and request.provider is not None:
                return error.reason, self._runtime.providers[request.provider].facts.signing.value
            case NotAuthentic():
                return error.reason, NO_SCHEME
            case Rejected():
                return _REASONS.get(error.kind, RefusalReason.BAD_REQUEST), NO_SCHEME
            case Unavailable():
                return RefusalReason.UNAVAILABLE, NO_SCHEME
            case _:
                return RefusalReason.INTERNAL_ERROR, NO_SCHEME


class CallbackRequest:
    """One request, as far as it is understood yet. ``provider`` is set once it is a known one.

    ``path`` is decoded; ``is_plain`` says that its framing holds nothing that ``BodyLimiter.check`` refuses.
    """

    __slots__ = (
        "_raw_headers",
        "bytes",
        "is_plain",
        "method",
        "name",
        "provider",
        "received_at",
        "started",
        "token",
    )

    def __init__(self, path: str, raw_headers: Headers, *, method: str, is_plain: bool = False) -> None:
        self.started = time.perf_counter()
        self.method = method
        self.is_plain = is_plain
        self._raw_headers = raw_headers
        self.bytes: int | None = None  # None until all of the body is read
        self.provider: str | None = None
        self.received_at: datetime | None = None  # all of it
        # Our tokens have no slash, so what has one is just wrong.
        self.name, _, token = path[len(CALLBACKS) :].partition("/")
        self.token = token[:MAX_TOKEN_CHARACTERS] or None

    def headers(self) -> dict[str, str]:
        """By their names in lower case. One sent twice is one list, so that no half of it can pass alone."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in self._raw_headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    def seconds(self) -> float:
        return round(time.perf_counter() - self.started, 6)


async def _send(answer: Answer, response: Response) -> None:
    await answer(response.status_code, response.raw_headers, bytes(response.body))


async def _acknowledge(answer: Answer, receipt: Receipt) -> None:
    body = encode_harmless(receipt)
    await answer(200, (_JSON, (b"content-length", b"%d" % len(body))), body)
