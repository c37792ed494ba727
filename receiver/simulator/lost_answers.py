"""What an order may get in place of its answer, though it was taken: each fault of one answer."""

from collections.abc import Callable, Mapping
from typing import Literal

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

HANG_UP = "receiver.simulator.hang_up"  # among a scope's extensions: closes the connection, unanswered

AnswerFault = Literal[
    "lose_answer", "cut_answer", "html_502", "answer_without_id", "redirect", "status_408", "status_500"
]


class HangUp(Response):
    """No answer at all."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await _close(scope, receive)


class CutShort(Response):
    """The first half of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await _close(scope, receive)


async def _close(scope: Scope, receive: Receive) -> None:
    """Close the connection, and wait until the server knows it: it would answer by itself otherwise."""
    scope["extensions"][HANG_UP]()
    while (await receive())["type"] != "http.disconnect":
        pass


def faulty(fault: AnswerFault, whole: Response) -> Response:
    """What comes in place of the whole answer."""
    makes: Mapping[AnswerFault, Callable[[], Response]] = {
        "lose_answer": HangUp,
        "cut_answer": lambda: CutShort(whole.body),
        "html_502": lambda: HTMLResponse("<html><body>502 Bad Gateway</body></html>", 502),
        "answer_without_id": lambda: JSONResponse({"code": 200, "data": {"status": "not_started"}}),
        "redirect": lambda: RedirectResponse("https://elsewhere.invalid/", 302),
        "status_408": lambda: JSONResponse({}, 408),
        "status_500": lambda: JSONResponse({}, 500),
    }
    return makes[fault]()
