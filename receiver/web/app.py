"""The app: every endpoint's route over one open runtime, with the callbacks in front."""

import asyncio
import importlib
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from receiver.config.settings import Settings
from receiver.errors import ReceiverError
from receiver.models import Work
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime, open_runtime
from receiver.urls import CALLBACKS, GATEWAY
from receiver.web import (
    assets,
    audit,
    costs,
    dead_letters,
    docs,
    events,
    gateway_tokens,
    health,
    history,
    openapi,
    orders,
    plans,
    problems,
    refusals,
    replays,
    sessions,
    settings,
    sinks,
    stats,
    submissions,
    tasks,
    time_series,
)
from receiver.web.callbacks import CallbackDoor
from receiver.web.direct import DirectDoor
from receiver.web.endpoints import Audience, Endpoint, Nothing, Reception
from receiver.web.limits import BodyLimiter, Limits
from receiver.web.pages.later import LaterPages

if TYPE_CHECKING:
    from receiver.web.gateway import GatewayDoor

log = structlog.get_logger()


async def show_openapi(_runtime: Runtime, _request: Request, _: Nothing) -> Response:
    """The API, for machines."""
    return Response(OPENAPI, media_type="application/json")


ENDPOINTS: tuple[Endpoint[Any], ...] = (
    *submissions.ENDPOINTS,
    *orders.ENDPOINTS,
    *costs.ENDPOINTS,
    *tasks.ENDPOINTS,
    *history.ENDPOINTS,
    *events.ENDPOINTS,
    *stats.ENDPOINTS,
    *refusals.ENDPOINTS,
    *time_series.ENDPOINTS,
    *assets.ENDPOINTS,
    *plans.ENDPOINTS,
    *replays.ENDPOINTS,
    *dead_letters.ENDPOINTS,
    *sinks.ENDPOINTS,
    *settings.ENDPOINTS,
    *gateway_tokens.ENDPOINTS,
    *sessions.ENDPOINTS,
    *audit.ENDPOINTS,
    *health.ENDPOINTS,
    *docs.ENDPOINTS,
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

# The first parts of all paths there are.
_FIRST_SEGMENTS = frozenset(
    path.split("/")[1]
    for path in ("/", "/admin/", CALLBACKS, GATEWAY, *(endpoint.path for endpoint in ENDPOINTS))
)

OPENAPI = msgspec.json.encode(openapi.document(ENDPOINTS))


def create_app(settings: Settings, work: Collection[Work] = frozenset(Work)) -> "Service":
    """The service, for an ASGI server or to be mounted in another app; nothing is opened yet.

    ``settings`` must hold its secrets (see ``credentials``).
    """
    return Service(lambda: settings, work)


class Service:
    """The ASGI app that opens its runtime when the server starts it, and closes it at the end.

    Mounted in another app it is told of no start: frameworks keep that from what is mounted. Then either
    the outer app's lifespan is ``Service.lifespan``, or the runtime is opened by the first request and closed
    with the event loop; until that request nothing is fetched, sent or polled.
    """

    def __init__(self, load: Callable[[], Settings], work: Collection[Work] = frozenset(Work)) -> None:
        self._load = load
        self._work = work
        self._app: Doors | None = None
        self._runtime: Runtime | None = None
        self._opening: tuple[asyncio.Task[None], asyncio.Future[None]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            phase = "startup"
            try:
                await receive()
                async with self.lifespan():
                    await send({"type": "lifespan.startup.complete"})
                    phase = "shutdown"
                    await receive()
            except BaseException as exc:
                said = str(exc) if isinstance(exc, ReceiverError) else traceback.format_exc()
                await send({"type": f"lifespan.{phase}.failed", "message": said})
                raise
            await send({"type": "lifespan.shutdown.complete"})
            return
        try:
            if self._app is None:
                if self._opening is None:  # in a task of its own, once for all that wait
                    opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._opening = asyncio.create_task(self._keep_open(opened)), opened
                await asyncio.shield(self._opening[1])
            assert self._app is not None  # noqa: S101 - for mypy
            await self._app(scope, receive, send)
        except ReceiverError as exc:  # only the opening raises these
            log.warning("service.not_opened", reason=str(exc))
            detail = "The service could not start; its log says why."
            await problems.problem(ProblemType.UNAVAILABLE, detail)(scope, receive, send)
        except asyncio.CancelledError:
            # The server stops and waits no longer: by itself it would say 500 and log a fault of ours. Where
            # half an answer is out already, the server closes the connection.
            with suppress(RuntimeError):
                await problems.stopping()(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _outer: object = None) -> AsyncIterator[None]:
        """Keep the runtime open; as the lifespan of an outer app, ``FastAPI(lifespan=service.lifespan)``."""
        async with open_runtime(self._load(), work=self._work) as runtime:
            self._app, self._runtime = build_app(runtime), runtime
            try:
                yield
            finally:
                self._app = self._runtime = None

    @property
    def direct(self) -> DirectDoor | None:
        """Where a server that serves this app, and nothing around it, may bring callbacks; None: not yet."""
        return None if self._app is None else self._app.direct

    def stop_waits(self) -> None:
        """Answer at once whoever waits for a task's end. For a server that is about to stop.

        Servers end their requests first and the lifespan after it, which would tell us too late.
        """
        if self._runtime is not None:
            self._runtime.task_waiters.stop()

    async def _keep_open(self, opened: asyncio.Future[None]) -> None:
        try:
            async with self.lifespan():
                opened.set_result(None)
                await asyncio.get_running_loop().create_future()  # until the loop ends and cancels this
        except Exception as exc:  # noqa: BLE001 - told to whoever waits, and tried again by the next request
            opened.set_exception(exc)
        finally:
            self._opening = None


def build_app(runtime: Runtime) -> "Doors":
    """The routes over a runtime that is open and stays the caller's."""
    return Doors(runtime)


class Doors:
    """Every endpoint, and the callbacks in front; ``direct`` takes callbacks without a scope."""

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        intake = BodyLimiter(Limits(body_timeout_seconds=settings.body_timeout_seconds))
        self._public_path = unquote(urlsplit(settings.public_url).path)
        self._callbacks = CallbackDoor(runtime, intake)
        self.direct = DirectDoor(self._callbacks, lambda path: path_from_root(path, "", self._public_path))
        reception = Reception(runtime, intake)
        by_path: defaultdict[str, list[Endpoint[Any]]] = defaultdict(list)
        for endpoint in ENDPOINTS:
            if runtime.gateway is not None or endpoint not in gateway_tokens.ENDPOINTS:
                by_path[endpoint.path].append(endpoint)
        pages = LaterPages(runtime)
        self._rest = Starlette(
            routes=[
                *pages.shared_routes(),  # before those of the API, to which they give way by themselves
                *(_route(reception, path, endpoints) for path, endpoints in by_path.items()),
                *pages.routes(),
            ],
            exception_handlers={HTTPException: problems.for_unrouted},
        )
        # A task id may end in a slash; nobody is sent elsewhere because of one.
        self._rest.router.redirect_slashes = False
        self._gateway: GatewayDoor | None = None
        if runtime.gateway is not None:  # imported where it is wanted only
            door = importlib.import_module("receiver.web.gateway")
            opened: GatewayDoor = door.GatewayDoor(runtime, runtime.gateway)
            self._gateway = opened

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scope = from_root(scope, self._public_path)
        is_http = scope["type"] == "http"
        if is_http and scope["path"].startswith(CALLBACKS):
            return self._callbacks(scope, receive, send)
        if is_http and self._gateway is not None and self._gateway.takes(scope):
            return self._gateway(scope, receive, send)
        return self._rest(scope, receive, send)


def from_root(scope: Scope, public_path: str) -> Scope:
    """The scope as if this app lay at the root: see ``path_from_root``."""
    path: str = scope["path"]
    root = scope.get("root_path", "")
    below = path_from_root(path, root, public_path)
    return scope if below == path and not root else {**scope, "path": below, "root_path": ""}


def path_from_root(path: str, root: str, public_path: str) -> str:
    """A decoded path without what the app is mounted at, or the public URL's path.

    A proxy may cut that path off or hand it on, so it is removed only in front of a path of ours.
    """
    if not root and not public_path:  # the usual way
        return path
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    if public_path and path.startswith(f"{public_path}/"):
        below = path[len(public_path) :]
        path = below if below.split("/", 2)[1] in _FIRST_SEGMENTS else path
    return path or "/"


def _route(reception: Reception, path: str, endpoints: Sequence[Endpoint[Any]]) -> Route:
    """One route for all methods of a path, so that a 405 can name them all."""
    by_method = {endpoint.method: endpoint for endpoint in endpoints}

    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await reception.answer(by_method[method], request)

    return Route(path, answer, methods=list(by_method))
