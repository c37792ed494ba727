"""The admin pages, imported when somebody first opens one."""

import asyncio
import importlib

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from receiver.runtime import Runtime

SHARED = ("/admin/health.json",)  # paths that the API has, too


class WithoutTokenRoute(Route):
    """A page at a path of the API: for browsers with a log-in, and not for whoever comes with a token."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        names = {name for name, _ in scope.get("headers", ())}
        if b"authorization" in names or b"cookie" not in names:
            return Match.NONE, {}
        return super().matches(scope)


class LaterPages:
    """All of them as one app: templates are much to start with, and many services are never looked at."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._app: Starlette | None = None
        self._opening = asyncio.Lock()

    def routes(self) -> list[Route]:
        """What leads here, behind all with paths of their own; nothing where the settings want no pages."""
        if not self._runtime.settings.pages:
            return []
        return [Route(path, self) for path in ("/", "/admin", "/admin/{below:path}")]

    def shared_routes(self) -> list[Route]:
        """What leads here before the API, for browsers alone."""
        return [WithoutTokenRoute(path, self) for path in SHARED] if self._runtime.settings.pages else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app or await self._opened()
        await app(scope, receive, send)

    async def _opened(self) -> Starlette:
        async with self._opening:
            if self._app is None:  # callbacks are answered meanwhile
                self._app = await asyncio.to_thread(self._open)
            return self._app

    def _open(self) -> Starlette:
        pages = importlib.import_module("receiver.web.pages.all_pages")
        door = pages.page_door(self._runtime)
        app = Starlette(routes=door.routes(), exception_handlers={HTTPException: door.answer_unrouted})
        app.router.redirect_slashes = False
        return app
