"""The providers' door: one bare ASGI callable, because every callback passes here."""

import time
from datetime import datetime

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.errors import ReceiverError, Rejected, Unavailable
from receiver.escapes import encode_harmless
from receiver.models import Proof, Receipt
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.urls import CALLBACKS
from receiver.web import problems
from receiver.web.limits import BodyLimiter, announces_body

MAX_TOKEN_CHARACTERS = 512  # ours have about 70; a longer one is wrong without being looked at

log = structlog.get_logger()

_HEAD = (b"content-type", b"application/json")


class CallbackDoor:
    """``POST /callbacks/{provider}`` and ``POST /callbacks/{provider}/{token}``.

    Limits, then the token, then read; then the signature over the raw bytes, parse and record, which
    are ``ingest.accept``. The answer is exactly 200 once the delivery is durable.
    """

    def __init__(self, runtime: Runtime, intake: BodyLimiter) -> None:
        self._runtime = runtime
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _Request(scope)
        try:
            receipt, proof = await self._accept(request, receive)
        except ClientDisconnect:
            log.info("callback.interrupted", provider=request.provider, seconds=request.seconds())
        except ReceiverError as error:
            await self._refuse(request, error)(scope, receive, send)
        except Exception:
            # The last line of defence: the sender gets a 500 and tries again, the log gets the rest.
            log.exception("callback.failed", provider=request.provider, bytes=request.bytes)
            self._runtime.metrics.rejected(500)
            await problems.internal()(scope, receive, send)
        else:
            try:
                await _send(send, receipt)
            finally:  # it is recorded, whether or not anybody still waits for the answer
                self._note(request, receipt, proof)
                if (traces := self._runtime.traces) is not None:
                    assert request.received_at is not None, "it was accepted"  # noqa: S101
                    await traces.callback(
                        request.name, receipt, size=request.bytes or 0, received_at=request.received_at
                    )

    async def _accept(self, request: "_Request", receive: Receive) -> tuple[Receipt, Proof]:
        if request.name not in self._runtime.providers:
            detail = "No provider of this name is known here."
            raise problems.UnknownInPath(ProblemType.UNKNOWN_PROVIDER, detail)
        request.provider = request.name
        if request.scope["method"] != "POST":
            raise Rejected(ProblemType.METHOD_NOT_ALLOWED, "Callbacks are sent by POST.")
        headers: dict[str, str] = {}  # names in lower case
        for raw_name, raw_value in request.scope["headers"]:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            # A header sent twice is one list, so that no half of it can pass alone.
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        max_bytes = self._runtime.settings.max_body_bytes
        self._intake.check(headers, max_bytes)
        admission = self._runtime.ingest.authorize(request.name, request.token)
        with self._intake.reserve(f"{request.name} {request.token}", max_bytes) as waiting:
            body = await waiting.read(receive)
            request.bytes = len(body)
            received_at = request.received_at = self._runtime.clock.now()
            return await self._runtime.ingest.accept(
                admission, body=body, headers=headers, received_at=received_at
            )

    def _note(self, request: "_Request", receipt: Receipt, proof: Proof) -> None:
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

    def _refuse(self, request: "_Request", error: ReceiverError) -> Response:
        match error:
            case Rejected():
                status, title = problems.status_of(error), error.title
            case Unavailable():
                status, title = 503, error.outcome.value
            case _:
                status, title = 500, type(error).__name__
        self._runtime.metrics.rejected(status)
        log.warning(
            "callback.rejected",
            provider=request.provider,
            status=status,
            title=title,
            bytes=request.bytes,
            seconds=request.seconds(),
        )
        answer = problems.answer(error, {"allow": "POST"} if status == 405 else None)
        is_unread = request.bytes is None and announces_body(Headers(scope=request.scope))
        return problems.closing(answer) if is_unread else answer


class _Request:
    """One request, as far as it is understood yet. ``provider`` is set once it is a known one."""

    __slots__ = ("bytes", "name", "provider", "received_at", "scope", "started", "token")

    def __init__(self, scope: Scope) -> None:
        self.started = time.perf_counter()
        self.scope = scope
        self.bytes: int | None = None  # None until all of the body is read
        self.provider: str | None = None
        self.received_at: datetime | None = None  # all of it
        # The server has decoded the path; our tokens have no slash, so what has one is just wrong.
        self.name, _, token = scope["path"][len(CALLBACKS) :].partition("/")
        self.token = token[:MAX_TOKEN_CHARACTERS] or None

    def seconds(self) -> float:
        return round(time.perf_counter() - self.started, 6)


async def _send(send: Send, receipt: Receipt) -> None:
    body = encode_harmless(receipt)
    headers = [_HEAD, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
