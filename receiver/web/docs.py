"""The manual in a browser: the same for everybody, and imported when somebody first opens it."""

import asyncio
import importlib
from types import ModuleType
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.etags import names_tag


async def list_chapters(_runtime: Runtime, request: Request, _: Nothing) -> Response:
    """The chapters, a line for each."""
    pages = await _pages()
    return _answer(request, pages, pages.contents())


async def show_chapter(_runtime: Runtime, request: Request, _: Nothing) -> Response:
    """One chapter."""
    name, pages = request.path_params["chapter"], await _pages()
    if name not in pages.manual.NAMES:
        raise Rejected(ProblemType.UNKNOWN_CHAPTER, "The manual has no such chapter; `GET /docs` lists them.")
    return _answer(request, pages, pages.chapter(name))


async def show_picture(_runtime: Runtime, request: Request, _: Nothing) -> Response:
    """One picture of a chapter."""
    pages = await _pages()
    picture = pages.picture(request.path_params["picture"])
    if picture is None:
        raise Rejected(ProblemType.UNKNOWN_PATH, "The manual has no such picture.")
    return _answer(request, pages, picture, "image/webp")


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/docs",
        summary="List the chapters of the manual",
        audience=Audience.ANYONE,
        takes=Nothing,
        gives={200: "text/html", 304: None},
        answer=list_chapters,
    ),
    Endpoint(
        method="GET",
        path="/docs/{chapter}",
        summary="Show one chapter of the manual",
        audience=Audience.ANYONE,
        takes=Nothing,
        gives={200: "text/html", 304: None},
        refuses=(404,),
        answer=show_chapter,
    ),
    Endpoint(
        method="GET",
        path="/docs/pictures/{picture}",
        summary="Show a picture of the manual",
        audience=Audience.ANYONE,
        takes=Nothing,
        gives={200: "image/webp", 304: None},
        refuses=(404,),
        answer=show_picture,
    ),
)


async def _pages() -> ModuleType:
    # Hardly anybody opens it at a service, and a parser of Markdown is much to start with.
    return await asyncio.to_thread(importlib.import_module, "receiver.web.manual_pages")


def _answer(request: Request, pages: ModuleType, page: Any, media_type: str = "text/html") -> Response:
    headers = {**pages.HEADERS, "etag": page.etag}
    if names_tag(request.headers.get("if-none-match"), page.etag):
        return Response(status_code=304, headers=headers)
    return Response(page.content, headers=headers, media_type=media_type)
