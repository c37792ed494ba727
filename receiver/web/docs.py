"""The manual in a browser: plain pages without scripts, the same for everybody."""

import base64
import hashlib
from functools import cache
from html import escape

import msgspec
from markdown_it.token import Token
from starlette.requests import Request
from starlette.responses import Response

from receiver import manual
from receiver.errors import Rejected
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.etags import names_tag

_STYLE = """
:root { color-scheme: light dark }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif }
pre, table { display: block; overflow-x: auto }
pre { padding: .75rem; border: 1px solid #8886; font-size: .85rem; line-height: 1.35 }
table { border-collapse: collapse; font-size: .9rem }
th, td { padding: .3rem .6rem; border: 1px solid #8886; text-align: left; vertical-align: top }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_HEADERS = {
    "cache-control": "no-cache",  # kept, and asked about by its tag: an upgrade shows at once
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A whole HTML document, and the tag that changes with it."""

    html: bytes
    etag: str


async def list_chapters(_runtime: Runtime, request: Request, _: Nothing) -> Response:
    """The chapters, a line for each."""
    return _answer(request, _contents())


async def show_chapter(_runtime: Runtime, request: Request, _: Nothing) -> Response:
    """One chapter."""
    name = request.path_params["chapter"]
    if name not in manual.NAMES:
        raise Rejected(ProblemType.UNKNOWN_CHAPTER, "The manual has no such chapter; `GET /docs` lists them.")
    return _answer(request, _chapter(name))


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
)


def _answer(request: Request, page: Page) -> Response:
    headers = {**_HEADERS, "etag": page.etag}
    if names_tag(request.headers.get("if-none-match"), page.etag):
        return Response(status_code=304, headers=headers)
    return Response(page.html, headers=headers, media_type="text/html")


@cache
def _contents() -> Page:
    """The list of chapters. Its links are relative to ``/docs``, so they work below any path."""
    rows = "".join(
        f'<li><a href="docs/{chapter.name}">{escape(chapter.title)}</a>: {escape(chapter.purpose)}</li>\n'
        for chapter in manual.chapters().values()
    )
    return _page("The manual", f"<h1>The manual</h1>\n<ul>\n{rows}</ul>\n")


@cache
def _chapter(name: str) -> Page:
    """One chapter, rendered once."""
    chapter = manual.chapters()[name]
    tokens = manual.parse(chapter.text)
    for token, following in zip(tokens, [*tokens[1:], Token("", "", 0)], strict=True):
        if token.type == "heading_open":
            token.attrSet("id", manual.anchor_of(following.content))
        if token.children:
            # Links to chapters and other sites stay links; all others become plain text.
            kept = []
            is_linked = False
            for part in token.children:
                if part.type == "link_open":
                    link = str(part.attrGet("href"))
                    if target := manual.target_of(link):
                        href: str | None = f"{target.name or ''}{target.anchor}"
                    else:
                        href = link if link.startswith("https://") else None
                    is_linked = href is not None
                    part.attrSet("href", href or "")
                if is_linked or part.type not in {"link_open", "link_close"}:
                    kept.append(part)
            token.children = kept
    markdown = manual.markdown()
    body = markdown.renderer.render(tokens, markdown.options, {})
    return _page(chapter.title, f'<p><a href="../docs">The manual</a></p>\n{body}')


def _page(title: str, body: str) -> Page:
    html = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - receiver</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    ).encode()
    return Page(html=html, etag=f'"{hashlib.sha256(html).hexdigest()[:32]}"')
