"""Templates become pages: everything in them is escaped, times are shown alike, and every URL is ours."""

import gzip
from collections.abc import Callable
from datetime import datetime
from functools import cache
from importlib.resources import as_file, files
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from receiver.escapes import printable
from receiver.times import from_text, in_words, to_text
from receiver.urls import path_part
from receiver.web.pages.redaction import redact_text
from receiver.web.pages.security import HEADERS, NEVER_KEPT
from receiver.web.pages.static import static_files, takes_gzip

LEAST_COMPRESSED = 1_000  # bytes; below it there is nothing to gain
MOST_OF_OTHERS = 160  # characters of what others wrote
MOST_OF_AN_ID = 24  # characters of an id in a list; its end tells it from others


@cache
def environment() -> Environment:
    """The templates of the pages."""
    with as_file(files("receiver") / "web" / "templates") as folder:
        made = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            finalize=_shown,
        )
    made.filters |= {
        "utc": utc,
        "short": short,
        "part": path_part,
        "number": number,
        "span": in_words,
        "size": size,
        "outside": outside,
        "kind": kind,
    }
    return made


def render(template: str, prefix: str, now: datetime, **values: Any) -> bytes:
    """A page; ``prefix`` is the public URL's path, below which all of ours lies."""

    def url(path: str) -> str:
        return prefix + path

    def static(name: str) -> str:
        return prefix + static_files()[name].path

    def ago(moment: datetime | None) -> Markup | str:
        return "" if moment is None else _ago(moment, now)

    def moment(text: str) -> Markup:
        return _ago(from_text(text), now)

    functions: dict[str, Callable[..., Any]] = {"url": url, "static": static, "ago": ago, "moment": moment}
    return environment().get_template(template).render(now=now, **functions, **values).encode()


def respond(
    request: Request, html: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A page that nobody keeps, compressed where that is understood."""
    wanted = {**HEADERS, **NEVER_KEPT, "vary": "accept-encoding", **(headers or {})}
    if len(html) >= LEAST_COMPRESSED and takes_gzip(request):
        wanted["content-encoding"] = "gzip"
        html = gzip.compress(html, 5, mtime=0)
    return Response(html, status, wanted, media_type="text/html")


def _shown(value: Any) -> Any:
    """What a template prints: text from outside without characters that turn or hide what is beside them."""
    return printable(value) if type(value) is str else value


def utc(moment: datetime) -> str:
    """``2026-11-29 17:20:04 UTC``, as people read it."""
    return f"{to_text(moment)[:19].replace('T', ' ')} UTC"


def _ago(moment: datetime, now: datetime) -> Markup:
    """A time as its distance from now, with the whole of it for whoever wants to copy it."""
    seconds = (now - moment).total_seconds()
    words = f"{in_words(seconds)} ago" if seconds >= 0 else f"in {in_words(-seconds)}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(to_text(moment), to_text(moment), words)


def short(text: str) -> str:
    """An id in a list: its end, where it is long."""
    return text if len(text) <= MOST_OF_AN_ID else f"…{text[-(MOST_OF_AN_ID - 1) :]}"


def number(value: int) -> str:
    """``12,345``."""
    return f"{value:,}"


def outside(text: str) -> str:
    """What somebody else wrote: no link, and not for long."""
    plain = redact_text(text)
    return plain if len(plain) <= MOST_OF_OTHERS else f"{plain[:MOST_OF_OTHERS]}…"


def kind(media_type: str | None) -> str:
    """``JPEG`` of ``image/jpeg``, as people name it."""
    return (media_type or "file").rpartition("/")[2].upper()


def size(value: int) -> str:
    """``284 B``, ``1.2 MB``: in thousands, as providers' documents count."""
    for unit, each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if value >= each:
            return f"{value / each:.1f} {unit}"
    return f"{value} B"
