"""Who may talk to the simulator: programs on this machine, and no page in a browser on it."""

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.simulator.requests import is_loopback


class NoPages:
    """Refuses what a web page could have sent: a page can post to local ports, by a name that leads here.

    Every browser says where a page is from when it posts (``Origin``), and by which name it came (``Host``).
    Programs send no ``Origin``, and know this machine by a name or an address of loopback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._app
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if "origin" in headers:
                said = "The simulator takes nothing from pages: send no Origin.\n"
                answer = PlainTextResponse(said, 403)
            elif not all(map(_is_of_loopback, headers.getlist("host") or [""])):
                said = "The simulator is at http://127.0.0.1 and localhost; it knows no other Host.\n"
                answer = PlainTextResponse(said, 403)
        await answer(scope, receive, send)


def _is_of_loopback(host: str) -> bool:
    """Whether a ``Host`` is a name or an address of loopback, with a port or without."""
    name, colon, port = host.rpartition(":")
    if not (colon and port.isascii() and port.isdigit()):
        name = host
    if name.startswith("[") and name.endswith("]"):
        return ":" in name and is_loopback(name[1:-1])
    return ":" not in name and is_loopback(name.lower())
