"""The simulator's doors: every provider's submit and status paths, the media, and the truth."""

import hmac
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from receiver import payload
from receiver.clock import Clock
from receiver.errors import Misconfigured, Rejected
from receiver.simulator.apidot import ApidotDialect
from receiver.simulator.apixo import ApixoDialect
from receiver.simulator.plot import (
    NO_KEY,
    NOT_BEARER,
    NOT_FOUND,
    WRONG_KEY,
    Dialect,
    PlayedTask,
    SimulatorOptions,
)
from receiver.simulator.reapi import ReapiDialect
from receiver.simulator.stage import Draw, Stage
from receiver.simulator.vidgo import VidgoDialect

DIALECTS: tuple[Dialect, ...] = (VidgoDialect(), ApidotDialect(), ApixoDialect(), ReapiDialect())


def create_simulator(options: SimulatorOptions | None = None, clock: Clock | None = None) -> Starlette:
    """The simulator as an ASGI app; its lifespan must run, for it ends what is still playing.

    Raises Misconfigured if Pillow is missing.
    """
    options = options or SimulatorOptions()
    stage = Stage(options, clock or Clock(), _load_draw())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with stage:
            yield

    desks = [ProviderDesk(dialect, stage, options.keys.get(dialect.name)) for dialect in DIALECTS]
    gallery = Gallery(stage)
    return Starlette(lifespan=lifespan, routes=[*(desk.mount() for desk in desks), *gallery.routes()])


def _load_draw() -> Draw:
    try:
        drawing = importlib.import_module("receiver.simulator.drawing")
    except ImportError as exc:
        raise Misconfigured(
            "The simulator draws its images with Pillow: pip install 'receiver[demo]'"
        ) from exc
    return cast("Draw", drawing.draw)


class ProviderDesk:
    """One provider's API: who may ask, what was asked, and the answer in its own words."""

    def __init__(self, dialect: Dialect, stage: Stage, key: str | None) -> None:
        self._dialect = dialect
        self._stage = stage
        self._key = key

    def mount(self) -> Mount:
        routes = [
            Route(self._dialect.submit_path, self._submit, methods=["POST"]),
            Route(self._dialect.status_path, self._status, methods=["GET"]),
        ]
        return Mount(f"/{self._dialect.name}", routes=routes)

    async def _submit(self, request: Request) -> Response:
        try:
            self._check_key(request)
            body = payload.mapping(payload.decode(await request.body()))
            order = self._dialect.read_order(body, request.path_params)
        except Rejected as problem:
            return self._refuse(problem)
        origin = f"{request.url.scheme}://{request.url.netloc}"
        task = self._stage.start(self._dialect, order, origin)
        if order.simulate.call_before_answer:
            await task.called.wait()
        return JSONResponse(self._dialect.submitted(task))

    async def _status(self, request: Request) -> Response:
        try:
            self._check_key(request)
            task = self._find(request)
        except Rejected as problem:
            return self._refuse(problem)
        return JSONResponse(self._dialect.status(task, self._stage.now()))

    def _check_key(self, request: Request) -> None:
        if self._key is None:
            return
        given = request.headers.get("authorization")
        if given is None:
            raise Rejected(401, NO_KEY, "Send your key as Authorization: Bearer KEY.")
        scheme, _, key = given.partition(" ")
        if scheme.lower() != "bearer":
            raise Rejected(401, NOT_BEARER, "Send your key as Authorization: Bearer KEY.")
        if not hmac.compare_digest(key.strip().encode(), self._key.encode()):
            raise Rejected(401, WRONG_KEY, "The key is not valid.")

    def _find(self, request: Request) -> PlayedTask:
        task_id = self._dialect.asked_for(request.path_params, request.query_params)
        task = self._stage.find(self._dialect.name, task_id)
        # Where the path names a model, it must be the task's own.
        if task is None or request.path_params.get("model", task.order.model) != task.order.model:
            raise Rejected(404, NOT_FOUND, "There is no such task.")
        return task

    def _refuse(self, problem: Rejected) -> Response:
        return JSONResponse(self._dialect.refusal(problem), status_code=problem.status)


class Gallery:
    """What is shown to anybody: the media, and the truth about every task."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def routes(self) -> list[Route]:
        return [
            Route("/media/{provider}/{task_id}/{name}", self._media, methods=["GET"]),
            Route("/truth", self._truth, methods=["GET"]),
        ]

    async def _media(self, request: Request) -> Response:
        picture = await self._stage.picture(**request.path_params)
        if picture is None:
            return Response(status_code=404)
        return Response(picture.content, media_type=picture.media_type)

    async def _truth(self, _: Request) -> Response:
        return JSONResponse(self._stage.truth())
