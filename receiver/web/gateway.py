"""The gateway's door: a provider's own paths, with its own forms of answers and refusals."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from receiver.config.bearer import acts_for
from receiver.errors import OverBudget, Rejected, Unavailable
from receiver.escapes import encode_harmless
from receiver.gateway.gateway import Gateway
from receiver.gateway.kept import kept_request
from receiver.gateway.orders import OrderRequest, Placed
from receiver.gateway.paths import MAX_MODEL_CHARACTERS, Kind, Wanted, match, split_owner
from receiver.gateway.splice import Document, NotAnOrder, read_document, value_at
from receiver.gateway.upstream import NoAnswer, UpstreamAnswer, UpstreamRequest
from receiver.models import (
    REFUSAL_STATUSES,
    GatewayCallbacks,
    GatewayKeys,
    GatewayRefusal,
    Order,
    OrderState,
    Quote,
    RefusalKind,
    TaskStanding,
)
from receiver.ports import OrderProvider
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.urls import CALLBACKS, GATEWAY
from receiver.usd import to_usd
from receiver.web import problems
from receiver.web.endpoints import unless_left
from receiver.web.gateway_access import (
    Access,
    AccessGuard,
    Refused,
    named_owner,
    owner_of,
    require_model,
)
from receiver.web.limits import BodyLimiter, Limits, announces_body

MAX_METADATA_BYTES = 4096
MAX_KEY_CHARACTERS = 255
MAX_WAITING_BYTES = 64 * 2**20
MOST_REQUESTS = 1024
BODY_SECONDS = 60.0
MAX_UPLOAD_BYTES = 110 * 2**20
UPLOAD_SECONDS = 600.0
QUESTION_SECONDS = 25.0
PIECE_SECONDS = 10.0  # from one piece of an upload to the next

# Of a caller's headers, those that go on.
_PASSED_UP = ("content-type", "accept", "user-agent", "idempotency-key", "x-request-id")

# An answer may be anybody's HTML; no browser shall take it for ours.
_HARMLESS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; sandbox",
    "x-content-type-options": "nosniff",
}

_KINDS: Mapping[ProblemType, RefusalKind] = {
    ProblemType.BODY_TOO_LARGE: RefusalKind.TOO_LARGE,
    ProblemType.BODY_TOO_SLOW: RefusalKind.TOO_SLOW,
    ProblemType.COMPRESSED_BODY: RefusalKind.COMPRESSED,
}

_WORDS: Mapping[RefusalKind, str] = {
    RefusalKind.UNAVAILABLE: "the order was not sent; send it again",
    RefusalKind.UNKNOWN_OUTCOME: "whether the provider took this order is not known yet; do not order it"
    " again: submission {submission} tells what becomes of it",
    RefusalKind.OTHER_BODY: "this Idempotency-Key was used for another order within 24 h",
    RefusalKind.STILL_OPEN: "an equal order is still open, as submission {submission}; send X-Receiver-Again:"
    " yes if another one is meant",
}

log = structlog.get_logger()


class GatewayDoor:
    """``/gateway/{provider}/...``: orders, their status, and the few paths that are passed through."""

    def __init__(self, runtime: Runtime, gateway: Gateway) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._gateway = gateway
        self._settings = settings
        self._guard = AccessGuard(settings, runtime.tokens, gateway.tokens)
        self._intake = BodyLimiter(
            Limits(
                body_timeout_seconds=BODY_SECONDS,
                max_requests=MOST_REQUESTS,
                max_token_requests=MOST_REQUESTS,
                max_waiting_bytes=MAX_WAITING_BYTES,
                max_token_bytes=MAX_WAITING_BYTES,
            )
        )
        hosts = settings.gateway_hosts.items()
        self._hosts = {host: provider for provider, names in hosts for host in names}
        self._own_callbacks = f"{settings.public_url}{CALLBACKS}"

    def takes(self, scope: Scope) -> bool:
        """Whether a request is for the gateway, by its path or by a host name that is a provider's here."""
        return str(scope["path"]).startswith(GATEWAY) or (
            bool(self._hosts) and self._host_of(scope) is not None
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = self._host_of(scope) if self._hosts else None
        raw = _raw_path(scope)
        name, _, rest = (own, "", raw) if own else raw.partition(GATEWAY)[2].lstrip("/").partition("/")
        provider = self._gateway.providers.get(name)
        if provider is None:
            await problems.problem(ProblemType.UNKNOWN_PATH, "There is nothing at this path.")(
                scope, receive, send
            )
            return
        visit = _Visit(provider, Request(scope, receive, send))
        try:
            response = await self._answer(visit, rest)
        except asyncio.CancelledError:  # the server stops, and an order may be out
            words = "this receiver is stopping, and whether the order was taken is not known"
            response = self._refusal(visit, RefusalKind.UNKNOWN_OUTCOME, words)
        await response(scope, receive, send)

    def _host_of(self, scope: Scope) -> str | None:
        """The provider that is at the root of the host that was asked for."""
        asked = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        return self._hosts.get(asked.partition(":")[0].lower())

    async def _answer(self, visit: "_Visit", rest: str) -> Response:
        """Answer whatever comes, and log it in one line."""
        started = time.perf_counter()
        try:
            response = await self._answered(visit, rest)
        except Refused as refused:
            response = self._refusal(visit, refused.kind, str(refused))
        except OverBudget as exc:
            self._runtime.metrics.over_budget(exc.scope, exc.period)
            response = self._refusal(visit, RefusalKind.OVER_BUDGET, exc.detail)
        except NotAnOrder as exc:
            response = self._refusal(visit, RefusalKind.INVALID, str(exc))
        except Rejected as exc:
            kind = _KINDS.get(exc.kind, RefusalKind.INVALID)
            response = self._refusal(visit, kind, exc.detail)
        except Unavailable as exc:
            visit.reason = str(exc)
            words = "this cannot be done now, and nothing was sent; send it again"
            response = self._refusal(visit, RefusalKind.UNAVAILABLE, words)
        except ClientDisconnect:
            response = Response(status_code=400)  # for the log; nobody is there to read it
        except Exception:
            log.exception("gateway.failed", provider=visit.name)
            words = "this is a fault of the receiver; whether anything was sent is not known"
            response = self._refusal(visit, RefusalKind.UNKNOWN_OUTCOME, words)
        if not visit.is_read and announces_body(visit.headers):
            problems.closing(response)
        if visit.warnings:
            response.headers["x-receiver-warnings"] = ", ".join(dict.fromkeys(visit.warnings))
        log.info(
            "gateway.answered",
            provider=visit.name,
            kind=visit.kind,
            method=visit.request.method,
            status=response.status_code,
            who=visit.who,
            submission_id=visit.submission_id,
            warnings=visit.warnings,
            reason=visit.reason,
            seconds=round(time.perf_counter() - started, 6),
        )
        return response

    async def _answered(self, visit: "_Visit", rest: str) -> Response:
        request = visit.request
        _check_framing(visit)
        access = await self._guard.admit(visit.provider.facts, visit.all_of(b"authorization"))
        visit.who = access.who
        in_path, path = split_owner(rest)
        named = named_owner(visit.headers, self._settings.gateway_owner_headers, in_path)
        if named is not None:
            owner_of(access, named, named)
        query = request.scope["query_string"].decode("latin-1")
        wanted = match(visit.provider.orders, request.method, path, query)
        if wanted is None:
            raise Refused(RefusalKind.NOT_FOUND, "there is nothing at this path of the gateway")
        visit.kind = wanted.kind.value
        match wanted.kind:
            case Kind.ORDER:
                return await self._order(visit, wanted, access, named)
            case Kind.STATUS:
                return await self._status(visit, wanted, access, named)
            case Kind.PASSAGE:
                return await self._pass(visit, wanted, access)

    # --- orders ---------------------------------------------------------------------------------------

    async def _order(self, visit: "_Visit", wanted: Wanted, access: Access, named: str | None) -> Response:
        request, limit = visit.request, self._settings.gateway_max_body_bytes
        self._intake.check(visit.headers, limit)
        with self._intake.reserve(access.who, limit) as place:
            body = await place.read(request.receive)
            visit.is_read = True
            order = self._order_request(visit, wanted, access, named, read_document(body))
            placed = await unless_left(request, self._gateway.orders.place(order))
        visit.submission_id = placed.order.submission_id
        for scope, period in placed.order.exceeded:
            visit.warnings.append(f"budget-{scope}-{period}")
            self._runtime.metrics.over_soft_budget(scope, period)
        return self._placed(visit, placed)

    def _order_request(
        self, visit: "_Visit", wanted: Wanted, access: Access, named: str | None, document: Document
    ) -> OrderRequest:
        headers, facts = visit.headers, visit.provider.orders
        key = headers.get("idempotency-key") or None
        if key is not None and len(key) > MAX_KEY_CHARACTERS:
            raise Refused(
                RefusalKind.INVALID, f"an Idempotency-Key has at most {MAX_KEY_CHARACTERS} characters"
            )
        model = wanted.model or _model(value_at(document.values, facts.model_at or ()))
        require_model(access, model)
        quote = self._quote(visit, model, document)
        callback = self._own_callback(facts.has_callbacks, document)
        policy = self._settings.gateway_callbacks
        return OrderRequest(
            provider=visit.name,
            facts=facts,
            target=wanted.target,
            document=document,
            model=model,
            owner=owner_of(access, named, self._settings.gateway_owner),
            metadata=_metadata(headers.get("x-receiver-metadata")),
            credential=access.credential,
            upstream_key=access.key_hash,
            who=access.who,
            token=access.token,
            headers=_passed_up(headers, access),
            key=key,
            is_again=headers.get("x-receiver-again", "").lower() == "yes",
            callback_url=callback,
            keeps_callback=callback is not None and policy is GatewayCallbacks.KEEP,
            relays_callback=callback is not None and policy is GatewayCallbacks.RELAY,
            quote=quote,
            kept=self._kept(visit.name, document),
        )

    def _kept(self, provider: str, document: Document) -> object:
        """What is kept of an order's body."""
        if self._settings.gateway_keep_requests:
            return kept_request(document.values)
        return self._gateway.quotes.priced_fields(provider, document.values)

    def _quote(self, visit: "_Visit", model: str, document: Document) -> Quote:
        """What the catalogs say of an order. Raises Refused for one that may not be sent."""
        quotes, metrics = self._gateway.quotes, self._runtime.metrics
        quote = quotes.quote(visit.name, model, document.values)
        if quote is None:
            metrics.unknown_model(visit.name)
            return quotes.of_unknown(visit.name, document.values)
        metrics.quoted(visit.name, model, quote.broken)
        visit.warnings += [each.name for each in quote.broken]
        if refused := quotes.refused(quote):
            kind = RefusalKind.NO_PROMPT if refused[0].name == "prompt-missing" else RefusalKind.INVALID
            raise Refused(kind, "; ".join(f"{each.name}: {each.message}" for each in refused))
        return quote

    def _own_callback(self, has_callbacks: bool, document: Document) -> str | None:
        """The URL that the caller wants to be called at; one of ours is none."""
        url = document.values.get("callback_url") if has_callbacks else None
        if url is None:
            return None
        if not isinstance(url, str):
            raise Refused(RefusalKind.INVALID, "`callback_url` must be a text")
        return None if url.startswith(self._own_callbacks) else url

    def _placed(self, visit: "_Visit", placed: Placed) -> Response:
        if placed.answer is None:
            assert placed.refusal is not None, "one of the two is there"  # noqa: S101
            words = _WORDS[placed.refusal].format(submission=placed.order.submission_id)
            response = self._refusal(visit, placed.refusal, words)
        else:
            response = _down(placed.answer)
            if placed.order.state is OrderState.UNKNOWN:
                _keep_from_repeating(response)
        if placed.is_replay:
            response.headers["idempotent-replayed"] = "true"
        _tell(response, placed.order)
        self._tell_cost(response, placed.order)
        return response

    def _tell_cost(self, response: Response, order: Order | None) -> None:
        """Say what an order costs, as far as that is known."""
        if order is None or order.micros is None:
            return
        usd = to_usd(order.micros)
        response.headers["x-receiver-cost-usd"] = usd
        if self._settings.gateway_cost_header is not None:
            response.headers[self._settings.gateway_cost_header] = usd
        if order.credits is not None:
            response.headers["x-receiver-credits"] = order.credits

    # --- status ---------------------------------------------------------------------------------------

    async def _status(self, visit: "_Visit", wanted: Wanted, access: Access, named: str | None) -> Response:
        assert wanted.task_id is not None, "a status path names its task"  # noqa: S101
        standing = await self._gateway.status.find(visit.name, wanted.task_id)
        if self._settings.gateway_keys is GatewayKeys.PASS and not _is_its(standing, access):
            return await self._sent(visit, wanted, access)  # by its own key, so nothing else is shown
        if standing is None or not _may_see(standing, access, named):
            raise Refused(RefusalKind.NOT_FOUND, "there is no such task")
        visit.submission_id = standing.submission.id
        telling = self._gateway.status.document(standing)
        if self._gateway.status.may_ask(standing):
            telling = unless_left(visit.request, telling)
        document = await telling
        response = Response(document, media_type="application/json", headers=_HARMLESS)
        response.headers["x-receiver-submission"] = standing.submission.id
        response.headers["x-receiver-state"] = "bound"
        self._tell_cost(response, standing.order)
        return response

    # --- passages -------------------------------------------------------------------------------------

    async def _pass(self, visit: "_Visit", wanted: Wanted, access: Access) -> Response:
        if visit.request.method == "GET":
            return await self._sent(visit, wanted, access)
        self._intake.check(visit.headers, MAX_UPLOAD_BYTES)
        headers = _passed_up(visit.headers, access)
        if (length := visit.headers.get("content-length")) is not None:
            headers["content-length"] = length
        return await self._sent(visit, wanted, access, headers=headers, body=_pieces(visit))

    async def _sent(
        self,
        visit: "_Visit",
        wanted: Wanted,
        access: Access,
        *,
        headers: Mapping[str, str] | None = None,
        body: AsyncIterator[bytes] | bytes = b"",
    ) -> Response:
        """The provider's answer, untouched, to what is not recorded here."""
        sent = await self._gateway.upstreams[visit.name].send(
            UpstreamRequest(
                method=visit.request.method,
                target=wanted.target,
                headers=headers or _passed_up(visit.headers, access),
                body=body,
                seconds=QUESTION_SECONDS if visit.request.method == "GET" else UPLOAD_SECONDS,
            )
        )
        if isinstance(sent, NoAnswer):
            raise Refused(RefusalKind.UNAVAILABLE, f"the provider did not answer ({sent.outcome})")
        return _down(sent)

    def _refusal(self, visit: "_Visit", kind: RefusalKind, words: str) -> Response:
        request_id = visit.submission_id or self._runtime.clock.new_id("gtw")
        refusal = GatewayRefusal(kind=kind, message=f"receiver: {words}", request_id=request_id)
        response = Response(
            encode_harmless(visit.provider.orders.refuse(refusal)),
            REFUSAL_STATUSES[kind],
            _HARMLESS,
            media_type="application/json",
        )
        match kind:
            case RefusalKind.UNAVAILABLE:
                response.headers["retry-after"] = "1"
            case RefusalKind.UNKNOWN_OUTCOME:
                _keep_from_repeating(response)
            case RefusalKind.NO_CREDENTIAL | RefusalKind.NOT_BEARER | RefusalKind.WRONG_CREDENTIAL:
                response.headers["www-authenticate"] = "Bearer"
            case RefusalKind.TOO_SLOW | RefusalKind.TOO_LARGE | RefusalKind.COMPRESSED:
                problems.closing(response)
        return response


class _Visit:
    """One request, as far as it is understood yet."""

    def __init__(self, provider: OrderProvider, request: Request) -> None:
        self.provider = provider
        self.name = provider.facts.name
        self.request = request
        # Looked up a dozen times, which the library's own would be searched for from the first to the last.
        self.headers: Mapping[str, str] = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in reversed(request.scope["headers"])  # the first of a name stays
        }
        self.kind: str | None = None
        self.who: str | None = None
        self.submission_id: str | None = None
        self.warnings: list[str] = []
        self.reason: str | None = None  # why nothing can be done now, for the log
        self.is_read = False

    def all_of(self, wanted: bytes) -> list[str]:
        """Every header of this name, in lower case."""
        return [value.decode("latin-1") for name, value in self.request.scope["headers"] if name == wanted]


def _raw_path(scope: Scope) -> str:
    """The path as it came: an encoded slash in a model is no other segment."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    return str(raw.partition(b"?")[0].decode("latin-1"))


def _check_framing(visit: _Visit) -> None:
    """Raises Refused where two readers could see two bodies."""
    if "content-length" in visit.headers and "transfer-encoding" in visit.headers:
        raise Refused(RefusalKind.INVALID, "send Content-Length or Transfer-Encoding, not both")
    if any(b"\0" in value for _, value in visit.request.scope["headers"]):
        raise Refused(RefusalKind.INVALID, "a header holds a NUL")


def _passed_up(headers: Mapping[str, str], access: Access) -> dict[str, str]:
    hop_by_hop = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    passed = {name: headers[name] for name in _PASSED_UP if name in headers and name not in hop_by_hop}
    name, value = access.key
    return {**passed, name: value}


def _down(answer: UpstreamAnswer) -> Response:
    response = Response(answer.body, answer.status, _HARMLESS)
    for name, value in answer.headers:
        response.headers.append(name, value)
    return response


def _keep_from_repeating(response: Response) -> None:
    """Tell clients that repeat by themselves not to: a repeat could be billed twice."""
    response.headers["x-should-retry"] = "false"
    del response.headers["retry-after"]


def _tell(response: Response, order: Order) -> None:
    response.headers["x-receiver-submission"] = order.submission_id
    response.headers["x-receiver-state"] = order.state.value


def _may_see(standing: TaskStanding, access: Access, named: str | None) -> bool:
    """Whether a task is shown: to who ordered it, and for no other owner than the one that is named."""
    owner = standing.submission.owner
    if named is not None and named != owner:
        return False
    return acts_for(access.owners, owner) and _is_its(standing, access)


def _is_its(standing: TaskStanding | None, access: Access) -> bool:
    """Whether a caller ordered a task, or a backend logged it that is trusted with all of them."""
    if standing is None:
        return False
    if standing.order is None:
        return not access.is_scoped
    return standing.order.credential == access.credential


def _model(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_MODEL_CHARACTERS or not value.isprintable():
        raise Refused(RefusalKind.INVALID, "the order names no `model`")
    return value


def _metadata(text: str | None) -> Mapping[str, object]:
    if text is None:
        return {}
    try:
        document = msgspec.json.decode(text.encode("latin-1")) if len(text) <= MAX_METADATA_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        words = f"X-Receiver-Metadata must be one JSON object of at most {MAX_METADATA_BYTES} bytes"
        raise Refused(RefusalKind.INVALID, words)
    return document


async def _pieces(visit: _Visit) -> AsyncIterator[bytes]:
    """The body piece by piece, as fast as the provider takes it. Raises Rejected, ClientDisconnect."""
    size = 0
    while True:
        async with asyncio.timeout(PIECE_SECONDS):
            message = await visit.request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > MAX_UPLOAD_BYTES:
            raise Rejected(
                ProblemType.BODY_TOO_LARGE, f"An upload may have at most {MAX_UPLOAD_BYTES} bytes."
            )
        if not message.get("more_body", False):
            visit.is_read = True
            yield piece
            return
        yield piece
