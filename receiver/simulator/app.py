"""The simulator's doors: every provider's API, the media, and the truth."""

import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.clock import Clock
from receiver.errors import Misconfigured
from receiver.simulator.apidot import ApidotDialect
from receiver.simulator.apixo import ApixoDialect
from receiver.simulator.bfl import BflDialect
from receiver.simulator.desk import ProviderDesk
from receiver.simulator.directory import DirectoryDoor, Door
from receiver.simulator.engine import Stage
from receiver.simulator.fal import FalDialect
from receiver.simulator.kie import KieDialect
from receiver.simulator.media import Draw
from receiver.simulator.model import Dialect, Media, SimulatorOptions
from receiver.simulator.piapi import PiapiDialect
from receiver.simulator.reapi import ReapiDialect
from receiver.simulator.replicate import ReplicateDialect
from receiver.simulator.uploads import Uploads
from receiver.simulator.vidgo import VidgoDialect
from receiver.simulator.visitors import NoPages
from receiver.simulator.wavespeed import WavespeedDialect

DIALECTS: tuple[Dialect, ...] = (
    VidgoDialect(),
    ApidotDialect(),
    ApixoDialect(),
    ReapiDialect(),
    ReplicateDialect(),
    WavespeedDialect(),
    KieDialect(),
    BflDialect(),
    PiapiDialect(),
    FalDialect(),
)


def create_simulator(
    options: SimulatorOptions | None = None,
    clock: Clock | None = None,
    own_ports: Mapping[int, str] | None = None,
) -> ASGIApp:
    """The simulator as an ASGI app; its lifespan must run, for it ends what is still playing.

    Every provider is below its name; what comes in at one of ``own_ports`` is for that provider alone, at the
    root. Raises Misconfigured if Pillow or PyNaCl is missing.
    """
    options = options or SimulatorOptions()
    try:
        drawing = importlib.import_module("receiver.simulator.images")
        importlib.import_module("receiver.simulator.private_keys")
    except ImportError as exc:
        raise Misconfigured(
            "The simulator draws its images with Pillow, and signs for fal with PyNaCl:"
            " pip install 'callback-receiver[demo]'"
        ) from exc
    stage = Stage(options, clock or Clock(), cast("Draw", drawing.draw))
    uploads = Uploads(stage)
    beside = Gallery(stage, uploads).doors()
    gallery = [door.route() for door in beside]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with stage:
            yield

    desks = [ProviderDesk(each, stage, options, uploads) for each in DIALECTS]
    ports = own_ports or {}
    directory = DirectoryDoor(
        {desk.name: desk.doors() for desk in desks}, beside, {name: port for port, name in ports.items()}
    )
    apps = {desk.name: desk.app() for desk in desks}
    mounts = [Mount(f"/{name}", app) for name, app in apps.items()]
    combined = Starlette(
        lifespan=lifespan, routes=[*mounts, *gallery, Route("/", directory.answer, methods=["GET"])]
    )
    roots = {name: Starlette(routes=[*gallery, Mount("/", app)]) for name, app in apps.items()}
    return NoPages(ByPort(combined, {port: roots[name] for port, name in ports.items()}))


class ByPort:
    """One app for all ports: clients that join their paths to a base URL drop any prefix in it."""

    def __init__(self, combined: ASGIApp, roots: Mapping[int, ASGIApp]) -> None:
        self._combined = combined
        self._roots = roots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, port = scope.get("server") or (None, 0)
        await self._roots.get(port or 0, self._combined)(scope, receive, send)


class Gallery:
    """What is shown to anybody: the media, what a liar calls media, and the truth about every task."""

    def __init__(self, stage: Stage, uploads: Uploads) -> None:
        self._stage = stage
        self._uploads = uploads

    def doors(self) -> list[Door]:
        paths = {
            "/truth": self.truth,
            "/media/{provider}/{task_id}/{name}": self.media,
            "/forged/{provider}/{task_id}/{name}": self.forged,
            "/uploads/{path:path}": self.uploaded,
        }
        return [Door(method="GET", path=path, answer=answer) for path, answer in paths.items()]

    async def truth(self, _: Request) -> Response:
        """What really happened."""
        return Response(msgspec.json.encode(self._stage.truth()), media_type="application/json")

    async def media(self, request: Request) -> Response:
        """A file of a task."""
        found = self._stage.find_file(**request.path_params)
        if found is None:
            return Response(status_code=404)
        task, file = found
        if task.links and not task.links.opens(request.url.path, request.query_params, self._stage.now()):
            return Response(status_code=403)  # as the stores behind signed links say
        return _shown(await self._stage.make(task.id, file.index, task.order.makes[file.index]))

    async def forged(self, request: Request) -> Response:
        """What a forged callback names.

        It is a good image, so that only the receiver's own checks keep it from being fetched.
        """
        task = self._stage.find(request.path_params["provider"], request.path_params["task_id"])
        if task is None:
            return Response(status_code=404)
        task.forged_fetches += 1
        return _shown(await self._stage.make(f"forged {task.id}", 0))

    async def uploaded(self, request: Request) -> Response:
        """An image to work from."""
        file = self._uploads.find(request.path_params["path"])
        return Response(status_code=404) if file is None else _shown(file)


def _shown(file: Media) -> Response:
    return Response(file.content, media_type=file.media_type)
