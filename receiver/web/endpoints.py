"""One endpoint as data: who may ask, what it takes and gives; and the way it is answered."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from functools import cache
from types import UnionType as UnionOfTypes
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from msgspec.inspect import (
    AnyType,
    DictType,
    EnumType,
    ListType,
    StructType,
    UnionType,
    VarTupleType,
    type_info,
)
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from receiver import payload
from receiver.errors import ReceiverError, Rejected
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.web import problems
from receiver.web.auth import Guard, Role, require
from receiver.web.limits import BodyLimiter, announces_body

log = structlog.get_logger()

T = TypeVar("T")
Taken = TypeVar("Taken", bound=msgspec.Struct)
Handler = Callable[[Runtime, Request, Taken], Awaitable[Response]]


class Audience(StrEnum):
    """Who may ask."""

    ANYONE = "anyone"
    BACKEND = "backend"
    ADMIN = "admin"
    LINK = "link"  # a backend, or the holder of a signed link; the endpoint decides
    SETTING = "setting"  # anyone, or admins only if so set; the endpoint decides


# Enough for what an endpoint takes that does not say otherwise. A body is decoded on the loop, all at once.
MAX_BODY_BYTES = 128 * 1024
MOST_PARAMETERS = 1200  # of a query; a list of dead letters may name a thousand tasks

# Whose questions may take long. A file is sent with one, and ends with its reader by itself.
_LISTS = frozenset({Audience.BACKEND, Audience.ADMIN})

_ADDRESS = re.compile(r"[0-9A-Fa-f.:\[\]]{2,50}")

# Probes and scrapes come every few seconds and say nothing new.
_PROBED = frozenset({Audience.ANYONE, Audience.SETTING})

# msgspec names the value that is wrong, and not those that are right.
_UNKNOWN_WORD = re.compile(r"Invalid enum value .* - at `\$\.([\w.]+)`", re.DOTALL)


class Nothing(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint without parameters takes: whatever is sent is passed over."""


class Endpoint(msgspec.Struct, Generic[Taken], frozen=True, kw_only=True):
    """The app is assembled from these and openapi.json is written from them, so neither can lack one.

    ``takes`` is the query of a GET and the JSON body of everything else, and what validates it. A list
    is given in a query by repeating its name; no body at all is the same as ``{}``.
    ``gives`` says the answer of each good status: a JSON shape, a media type, or None without a body.
    ``refuses`` lists the statuses that come as problem documents.
    """

    method: str
    path: str  # as Starlette writes it
    summary: str
    audience: Audience
    takes: type[Taken]
    gives: Mapping[int, type[msgspec.Struct] | str | None]
    refuses: tuple[int, ...] = ()
    answer: Handler[Taken]
    max_body_bytes: int = MAX_BODY_BYTES
    headers: Mapping[str, str] = {}  # that are read, and what for; none is required


class Reception:
    """Answers requests to endpoints: asks who it is, takes what was sent, has it answered, logs it."""

    def __init__(self, runtime: Runtime, intake: BodyLimiter) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._intake = intake
        self._guard = Guard(settings.api_tokens, settings.admin_tokens)

    async def answer(self, endpoint: Endpoint[Taken], request: Request) -> Response:
        started = time.perf_counter()
        response = await self._answer_anyhow(endpoint, request)
        # What the proxy in front says of its peer, which nobody here has checked. Proxies add to what they
        # were sent, some (HAProxy) in a line of their own: the last word of all is theirs.
        told = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
        note = log.debug if endpoint.audience in _PROBED else log.info
        note(
            "request.answered",
            method=request.method,
            route=endpoint.path,
            status=response.status_code,
            who=getattr(request.state, "caller", None),
            peer=request.client.host if request.client else None,
            forwarded_for=told if _ADDRESS.fullmatch(told) else None,
            seconds=round(time.perf_counter() - started, 6),
        )
        return response

    async def _answer_anyhow(self, endpoint: Endpoint[Taken], request: Request) -> Response:
        try:
            request.state.is_read = False
            given = request.headers.getlist("authorization")
            # Of two, a proxy in front may have looked at the other one.
            caller = self._guard.identify(given[0] if len(given) == 1 else None)
            request.state.role, request.state.caller = caller.role, caller.name
            request.state.owners = caller.owners
            if endpoint.audience is Audience.BACKEND:
                require(caller.role, Role.BACKEND)
            if endpoint.audience is Audience.ADMIN:
                require(caller.role, Role.ADMIN)
            if endpoint.method == "GET":
                answering = endpoint.answer(self._runtime, request, _query(endpoint, request))
                return await (unless_left(request, answering) if endpoint.audience in _LISTS else answering)
            self._intake.check(request.headers, endpoint.max_body_bytes)
            with self._intake.reserve(caller.name, endpoint.max_body_bytes) as waiting:
                body = await waiting.read(request.receive)
                request.state.is_read = True
                return await endpoint.answer(self._runtime, request, _document(endpoint, body))
        except ReceiverError as error:
            answer = problems.answer(error)
            is_unread = not request.state.is_read and announces_body(request.headers)
            return problems.closing(answer) if is_unread else answer
        except ClientDisconnect:
            return Response(status_code=400)  # for the log; nobody is there to read it
        except Exception:
            # A door must survive what it does not expect; the caller learns nothing about it.
            log.exception("request.failed", method=request.method, route=endpoint.path)
            return problems.internal()


async def unless_left(request: Request, reading: Awaitable[T]) -> T:
    """The result of ``reading``; when the caller leaves, end it and raise ClientDisconnect.

    ``reading`` may change nothing. The request's body, if any, has been read or is not needed.
    """

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answer, leaving = asyncio.ensure_future(reading), asyncio.ensure_future(leave())
    try:
        await asyncio.wait({answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        leaving.cancel()
        await asyncio.gather(answer, leaving, return_exceptions=True)


def _query(endpoint: Endpoint[Taken], request: Request) -> Taken:
    if not endpoint.takes.__struct_fields__:
        return msgspec.convert({}, endpoint.takes)
    # Strangers may ask for a file, and each parameter costs time.
    if request.scope["query_string"].count(b"&") >= MOST_PARAMETERS:
        raise Rejected(ProblemType.BAD_QUERY, f"A query may have at most {MOST_PARAMETERS} parameters.")
    given, lists = request.query_params, _fields(endpoint.takes, ListType | VarTupleType)
    document: dict[str, Any] = {
        name: given.getlist(name) if name in lists else text for name, text in given.items()
    }
    for name in _fields(endpoint.takes, DictType):
        # One object of all ``NAME.KEY=VALUE``.
        for parameter in [each for each in document if each.startswith(f"{name}.")]:
            gathered = document.setdefault(name, {})
            if isinstance(gathered, dict):
                gathered[parameter.removeprefix(f"{name}.")] = document.pop(parameter)
    try:
        return msgspec.convert(document, endpoint.takes, strict=False)
    except msgspec.ValidationError as exc:
        raise Rejected(ProblemType.BAD_QUERY, _in_words(exc, endpoint.takes)) from exc


@cache
def _fields(takes: type[msgspec.Struct], kind: type | UnionOfTypes) -> frozenset[str]:
    """The parameters of a kind: lists may come more than once, and objects as ``NAME.KEY=VALUE``."""
    info = type_info(takes)
    assert isinstance(info, StructType)  # noqa: S101 - for mypy
    return frozenset(field.encode_name for field in info.fields if isinstance(field.type, kind))


def _document(endpoint: Endpoint[Taken], body: bytes) -> Taken:
    try:
        return _decoded(body or b"{}", endpoint.takes)
    except RecursionError as exc:
        raise Rejected(ProblemType.BAD_BODY, "The JSON is nested too deeply.") from exc
    except ValueError as exc:  # also what is not UTF-8, which is no msgspec error
        raise Rejected(ProblemType.BAD_BODY, _in_words(exc, endpoint.takes)) from exc


def _decoded(body: bytes, takes: type[Taken]) -> Taken:
    """What callbacks may hold, too: msgspec refuses half a surrogate pair in escapes, which is JSON.

    Such halves are replaced where a field takes any JSON, and refused in names: two ids or owners must never
    become one.
    """
    try:
        return msgspec.json.decode(body, type=takes)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as exc:
        try:
            document = payload.decode_whole(body)
        except ValueError:
            raise exc from None  # it knows the place
    if not isinstance(document, dict):
        return msgspec.convert(document, takes)
    free = _free_fields(takes)
    fields = {str(payload.storable(name)): value for name, value in document.items()}
    for name, value in fields.items():
        fields[name] = payload.storable(value)
        if name not in free and fields[name] != value:
            raise ValueError(f"`{name}` holds half a surrogate pair, which is no character")
    return msgspec.convert(fields, takes)


@cache
def _free_fields(takes: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that take any JSON, or an object of any."""
    info = type_info(takes)
    assert isinstance(info, StructType)  # noqa: S101 - for mypy
    return frozenset(
        field.encode_name
        for field in info.fields
        if isinstance(field.type, AnyType)
        or (isinstance(field.type, DictType) and isinstance(field.type.value_type, AnyType))
    )


def _in_words(error: Exception, takes: type[msgspec.Struct]) -> str:
    text = str(error)
    unknown = _UNKNOWN_WORD.fullmatch(text)
    if unknown is None:
        return text.replace("`$.", "`").replace(" - at `$`", "")
    path, kind = unknown[1], type_info(takes)
    for name in path.split("."):  # through the shapes around the field
        assert isinstance(kind, StructType)  # noqa: S101 - for mypy
        kind = next(field.type for field in kind.fields if field.encode_name == name)
        if isinstance(kind, UnionType):  # with None
            kind = next(each for each in kind.types if isinstance(each, EnumType | StructType))
    assert isinstance(kind, EnumType)  # noqa: S101 - for mypy
    return f"`{path}` must be one of: {', '.join(word.value for word in kind.cls)}."
