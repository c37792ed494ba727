"""The app: every endpoint's route over one open runtime, with the callbacks in front."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.runtime import Runtime, open_runtime
from receiver.settings import Settings
from receiver.web import assets, dead_letters, health, openapi, problems, replays, stats, submissions, tasks
from receiver.web.callbacks import PREFIX, CallbackDoor
from receiver.web.endpoints import Audience, Endpoint, Nothing, Reception
from receiver.web.limits import Intake, Limits


async def show_openapi(_runtime: Runtime, _request: Request, _: Nothing) -> Response:
    """The API, for machines."""
    return Response(OPENAPI, media_type="application/json")


ENDPOINTS: tuple[Endpoint[Any], ...] = (
    *submissions.ENDPOINTS,
    *tasks.ENDPOINTS,
    *stats.ENDPOINTS,
    *assets.ENDPOINTS,
    *replays.ENDPOINTS,
    *dead_letters.ENDPOINTS,
    *health.ENDPOINTS,
    Endpoint(
        method="GET",
        path="/openapi.json",
        summary="Describe this API",
        audience=Audience.ANYONE,
        takes=Nothing,
        gives={200: "application/json"},
        answer=show_openapi,
    ),
)

OPENAPI = msgspec.json.encode(openapi.document(ENDPOINTS))


def create_app(settings: Settings) -> ASGIApp:
    """The served app, which opens its runtime when the server starts it and closes it at the end."""
    opened: list[ASGIApp] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with open_runtime(settings) as runtime:
            opened.append(build_app(runtime))
            yield

    frame = Starlette(lifespan=lifespan)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await frame(scope, receive, send)
            return
        try:
            await opened[0](scope, receive, send)
        except asyncio.CancelledError:
            await _cut_short(scope, receive, send)

    return app


async def _cut_short(scope: Scope, receive: Receive, send: Send) -> None:
    """The server stops and waits no longer: by itself it would say 500 and log a fault of ours."""
    with suppress(RuntimeError):  # half an answer is out already; the server closes the connection
        await problems.stopping()(scope, receive, send)


def build_app(runtime: Runtime) -> ASGIApp:
    """The routes over a runtime that is open and stays the caller's."""
    settings = runtime.settings
    limits = Limits(
        max_body_bytes=settings.max_body_bytes, body_timeout_seconds=settings.body_timeout_seconds
    )
    intake = Intake(limits)
    callbacks = CallbackDoor(runtime, intake)
    rest = _routed(Reception(runtime, intake))

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        is_callback = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        return (callbacks if is_callback else rest)(scope, receive, send)

    return app


def _routed(reception: Reception) -> Starlette:
    by_path: defaultdict[str, list[Endpoint[Any]]] = defaultdict(list)
    for endpoint in ENDPOINTS:
        by_path[endpoint.path].append(endpoint)
    app = Starlette(
        routes=[_route(reception, path, endpoints) for path, endpoints in by_path.items()],
        exception_handlers={HTTPException: problems.for_unrouted},
    )
    # A task id may end in a slash; nobody is sent elsewhere because of one.
    app.router.redirect_slashes = False
    return app


def _route(reception: Reception, path: str, endpoints: Sequence[Endpoint[Any]]) -> Route:
    """One route for all methods of a path, so that a 405 can name them all."""
    by_method = {endpoint.method: endpoint for endpoint in endpoints}

    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await reception.answer(by_method[method], request)

    return Route(path, answer, methods=list(by_method))
