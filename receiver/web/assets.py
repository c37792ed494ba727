"""The bytes of a stored file, to backends and to whoever holds a signed link."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from receiver.asset_keys import disposition, own_key
from receiver.errors import Rejected
from receiver.models import Asset, AssetState, Event
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.urls import ASSET_PATH
from receiver.web import problems
from receiver.web.auth import Role, may_act_for, require
from receiver.web.connections import LEAVE, most_streams
from receiver.web.endpoints import Audience, Endpoint
from receiver.web.etags import names_tag
from receiver.web.streams import STREAMS, Stream

MAX_AGE_SECONDS = 86_400
_NAME = re.compile(r"[0-9]{1,6}\.[A-Za-z0-9]{1,8}")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

log = structlog.get_logger()


class Width(StrEnum):
    """The edges of small pictures, as they are asked for."""

    SMALL = "320"
    LARGE = "1280"


class LinkQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What a signed link carries; a wrong one is wrong as a whole, so nothing of it is checked here.

    ``width`` is no part of it: whoever may have the file may have it smaller.
    """

    expires: str | None = None
    signature: str | None = None
    width: Width | None = None


async def show(runtime: Runtime, request: Request, query: LinkQuery) -> Response:
    """The file, or the part of it that is asked for."""
    _leave_name_out(request.path_params)
    params = request.path_params
    provider, task_id, index = params["provider"], params["task_id"], _index(params["index"])
    has_token = request.state.role >= Role.BACKEND
    remaining = 0 if has_token else _remaining_seconds(runtime, query, provider, task_id, index)
    # Before anything is looked up, so that those who are too many cost next to nothing.
    shares = [f"file {provider}/{task_id}/{index}", *([f"token {request.state.caller}"] if has_token else [])]
    return await streamed(request, shares, lambda stream: _answer(runtime, request, query, remaining, stream))


async def streamed(
    request: Request, shares: Sequence[str], answer: Callable[[Stream], Awaitable[Response]]
) -> Response:
    """An answer that may be a file on its way to a slow reader, for which there are so many places.

    One that is a file gives its place back itself, however it ends. Raises Unavailable for one too many.
    """
    leave = request.scope.get("extensions", {}).get(LEAVE)
    stream = STREAMS.open(*shares, most=most_streams(), leave=leave)
    try:
        answered = await answer(stream)
    except BaseException:
        stream.close()
        raise
    if not isinstance(answered, _File):
        stream.close()
    return answered


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=ASSET_PATH,
        summary="Fetch one stored file, or a small picture of it",
        audience=Audience.LINK,
        takes=LinkQuery,
        gives={200: "*/*", 206: "*/*", 304: None},
        refuses=(400, 401, 403, 404, 416, 503),
        answer=show,
    ),
)

_HEADERS = {
    "content-security-policy": "default-src 'none'; sandbox",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def _leave_name_out(params: dict[str, Any]) -> None:
    """Take ``0/0.png`` for ``0``: clients that read a file's type from its path get links that end so."""
    task_id, _, number = params["task_id"].rpartition("/")
    if task_id and _NAME.fullmatch(params["index"]) and params["index"].partition(".")[0] == number:
        params |= {"task_id": task_id, "index": number}


def _index(text: str) -> int:
    """Not Starlette's own ``int``: it takes digits without end, which Python refuses to convert."""
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise _unknown_file()
    return int(text)


def _remaining_seconds(runtime: Runtime, query: LinkQuery, provider: str, task_id: str, index: int) -> int:
    """How long a signed link will still be good for. Raises Rejected where it is not."""
    if query.signature is None or query.expires is None:
        require(Role.STRANGER, Role.BACKEND)
        return 0
    expires = int(query.expires) if re.fullmatch(r"[0-9]{1,15}", query.expires) else 0
    is_ours = runtime.tokens.check_link(provider, task_id, index, expires, query.signature)
    remaining = expires - runtime.clock.now().timestamp()
    # One answer for both, so that nobody learns which signature was once right.
    if not is_ours or remaining < 0:
        raise Rejected(ProblemType.LINK_NOT_VALID, "This link is not valid, or not any more.")
    return int(remaining)


async def _answer(
    runtime: Runtime, request: Request, query: LinkQuery, remaining: int, stream: Stream
) -> Response:
    params = request.path_params
    provider, task_id = params["provider"], params["task_id"]
    has_token = request.state.role >= Role.BACKEND
    event = await runtime.store.get_event(provider, task_id)
    # For a token, another owner's files do not exist.
    if event is None or (has_token and not may_act_for(request, event.submission.owner)):
        raise _unknown_file()
    cache_control = "no-store"  # nobody keeps what a token fetched
    if remaining:  # a copy lives no longer than the link that fetched it
        cache_control = f"private, max-age={min(remaining, MAX_AGE_SECONDS)}, immutable"
    if query.width is not None:
        return await send_thumbnail(runtime, request, event, int(query.width), cache_control)
    return await send_asset(runtime, request, event, cache_control, stream)


async def send_thumbnail(
    runtime: Runtime, request: Request, event: Event, edge: int, cache_control: str
) -> Response:
    """A small picture of the file that the request's path names, no side longer than ``edge``.

    Raises Rejected where the file is not there or has none, Unavailable where it cannot be made now.
    """
    asset = stored_asset(request, event)
    headers = {
        **_HEADERS,
        "cache-control": cache_control,
        "etag": f'"{asset.sha256}-{edge}"',
        "content-disposition": disposition(
            f"{_name(event, asset).rpartition('.')[0]}-{edge}.webp", "image/webp"
        ),
    }
    if names_tag(request.headers.get("if-none-match"), headers["etag"]):
        return Response(status_code=304, headers=headers)
    image = await runtime.thumbnails.get(asset, edge)
    return Response(image, headers=headers, media_type="image/webp")


async def send_asset(
    runtime: Runtime, request: Request, event: Event, cache_control: str, stream: Stream
) -> Response:
    """The file of an event that the request's path names, or the part that is asked for.

    Raises Rejected where it is not there. Whoever asks has been found to be allowed to.
    """
    stream.join(f"owner {event.submission.owner}", most_streams())
    asset = stored_asset(request, event)
    etag, size = f'"{asset.sha256}"', asset.bytes or 0
    headers = {
        **_HEADERS,
        "accept-ranges": "bytes",
        "cache-control": cache_control,
        "etag": etag,
        "content-disposition": disposition(_name(event, asset), asset.media_type),
    }
    if names_tag(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    span = _span(request, etag, size)
    if span is not None and span[1] == 0:
        beyond = {"content-range": f"bytes */{size}"}
        return problems.problem(ProblemType.RANGE_NOT_SATISFIABLE, f"The file has {size} bytes.", beyond)
    return await _send(runtime, request, asset, span, headers, stream)


def _name(event: Event, asset: Asset) -> str:
    """What says how people's copy of a file is called: its own task, though it be linked to another's."""
    task = event.submission
    return own_key(task.provider, task.task_id or "", asset.index, asset.key or "")


def stored_asset(request: Request, event: Event) -> Asset:
    """The file of an event that the request's path names. Raises Rejected where it is not stored."""
    index = _index(request.path_params["index"])
    asset = next((asset for asset in event.assets if asset.index == index), None)
    if asset is None:
        raise _unknown_file()
    if asset.state is not AssetState.STORED or asset.key is None:
        why = f", because of {asset.outcome}" if asset.outcome else ""
        raise Rejected(ProblemType.FILE_NOT_STORED, f"This file is {asset.state}{why}.")
    return asset


def _unknown_file() -> Rejected:
    return Rejected(ProblemType.UNKNOWN_FILE, "No such file of any task is known here.")


def _span(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """First byte and length of a single good range; a length of 0 where it is beyond the end.

    None, the whole file, for several ranges and for bad ones, as RFC 9110 (14.2) allows.
    """
    wanted = "" if request.method == "HEAD" else request.headers.get("range", "")
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), int(last) if last else size - 1
        return None if last and end < start else (start, max(0, min(end, size - 1) - start + 1))
    return (max(0, size - int(last)), min(size, int(last))) if last else None


async def _send(
    runtime: Runtime,
    request: Request,
    asset: Asset,
    span: tuple[int, int] | None,
    headers: dict[str, str],
    stream: Stream,
) -> Response:
    start, length = span or (0, asset.bytes or 0)
    headers["content-length"] = str(length)
    if span is not None:
        headers["content-range"] = f"bytes {start}-{start + length - 1}/{asset.bytes}"
    status = 200 if span is None else 206
    if request.method == "HEAD":
        return Response(None, status, headers, media_type=asset.media_type)
    chunks = runtime.blobs.open(asset.key or "", start, length)
    try:
        first = await anext(chunks, b"")  # before the status line is out, as the file may be missing
    except FileNotFoundError as exc:
        log.error("asset.missing", key=asset.key)  # noqa: TRY400 - where it was missed says nothing
        raise Rejected(
            ProblemType.FILE_MISSING, "The file was stored once and is not there any more."
        ) from exc
    return _File(stream, first, chunks, status, headers, asset.media_type)


class _File(StreamingResponse):
    """A file that is being sent, closed however that ends, also when its reader leaves in the middle."""

    def __init__(
        self,
        stream: Stream,
        first: bytes,
        chunks: AsyncIterator[bytes],
        status: int,
        headers: dict[str, str],
        media_type: str | None,
    ) -> None:
        super().__init__(self._pieces(first), status, headers, media_type)
        self._stream = stream
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()
            if isinstance(self._chunks, AsyncGenerator):
                await self._chunks.aclose()

    async def _pieces(self, first: bytes) -> AsyncIterator[bytes]:
        yield first
        self._stream.moved()
        async for chunk in self._chunks:
            yield chunk
            self._stream.moved()
