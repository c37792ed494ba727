"""The simulator's doors: every provider's submit and status paths, the media, and the truth."""

import hmac
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from receiver.clock import Clock
from receiver.errors import Misconfigured, Rejected
from receiver.simulator.apidot import ApidotDialect
from receiver.simulator.apixo import ApixoDialect
from receiver.simulator.orders import read_body
from receiver.simulator.plot import (
    NO_CREDIT,
    NO_KEY,
    NOT_BEARER,
    NOT_FOUND,
    TOO_MANY,
    WRONG_KEY,
    Dialect,
    Picture,
    PlayedTask,
    SimulatorOptions,
)
from receiver.simulator.reapi import ReapiDialect
from receiver.simulator.stage import Draw, Stage
from receiver.simulator.throttle import Throttle
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

    desks = [ProviderDesk(dialect, stage, options) for dialect in DIALECTS]
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

    def __init__(self, dialect: Dialect, stage: Stage, options: SimulatorOptions) -> None:
        self._dialect = dialect
        self._stage = stage
        self._key = options.keys.get(dialect.name)
        self._has_credit = dialect.name not in options.out_of_credit
        self._throttle = Throttle(options.faults.rate_limit)

    def mount(self) -> Mount:
        routes = [
            Route(self._dialect.submit_path, self._submit, methods=["POST"]),
            Route(self._dialect.status_path, self._status, methods=["GET"]),
        ]
        return Mount(f"/{self._dialect.name}", routes=routes)

    async def _submit(self, request: Request) -> Response:
        try:
            self._check_key(request)
            body = read_body(await request.body())
            order = self._dialect.read_order(body, request.path_params)
        except Rejected as problem:
            return self._refuse(problem)
        origin = f"{request.url.scheme}://{request.url.netloc}"
        task = self._stage.start(self._dialect, order, origin)
        if order.simulate.call_before_answer:
            await task.called.wait()
        return JSONResponse(self._dialect.submitted(task.snapshot(self._stage.now())))

    async def _status(self, request: Request) -> Response:
        try:
            self._check_key(request)
            wait_seconds = self._throttle.wait_seconds()
            if wait_seconds:
                return self._hold_off(wait_seconds)
            self._check_credit()
            task = self._find(request)
        except Rejected as problem:
            return self._refuse(problem)
        return JSONResponse(self._dialect.status(task.snapshot(self._stage.now())))

    def _hold_off(self, wait_seconds: int) -> Response:
        answer = self._refuse(Rejected(429, TOO_MANY, f"Too many requests: try again in {wait_seconds} s."))
        answer.headers["retry-after"] = str(wait_seconds)
        return answer

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

    def _check_credit(self) -> None:
        if not self._has_credit:
            raise Rejected(402, NO_CREDIT, "The balance of this account is used up.")

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
    """What is shown to anybody: the media, what a liar calls media, and the truth about every task."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def routes(self) -> list[Route]:
        return [
            Route("/media/{provider}/{task_id}/{name}", self._media, methods=["GET"]),
            Route("/forged/{provider}/{task_id}/{name}", self._forged, methods=["GET"]),
            Route("/truth", self._truth, methods=["GET"]),
        ]

    async def _media(self, request: Request) -> Response:
        found = self._stage.find_file(**request.path_params)
        if found is None:
            return Response(status_code=404)
        task, file = found
        if task.links and not task.links.opens(request.url.path, request.query_params, self._stage.now()):
            return Response(status_code=403)  # as the stores behind signed links say
        return _shown(await self._stage.draw(task.id, file.index))

    async def _forged(self, request: Request) -> Response:
        """A good image all the same, so that whoever fetches it has it: nothing else must save him."""
        task = self._stage.find(request.path_params["provider"], request.path_params["task_id"])
        if task is None:
            return Response(status_code=404)
        task.forged_fetches += 1
        return _shown(await self._stage.draw(f"forged {task.id}", 0))

    async def _truth(self, _: Request) -> Response:
        return Response(msgspec.json.encode(self._stage.truth()), media_type="application/json")


def _shown(picture: Picture) -> Response:
    return Response(picture.content, media_type=picture.media_type)
