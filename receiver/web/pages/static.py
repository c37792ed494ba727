"""Style sheets and scripts: a hash in each one's path, so that browsers keep them as long as they like."""

import gzip
import hashlib
from functools import cache
from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.web.pages.security import HEADERS

_KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FOREVER = {"cache-control": "public, max-age=31536000, immutable"}


class StaticFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file, as it is and compressed."""

    path: str  # below the pages' own
    media_type: str
    content: bytes
    compressed: bytes


@cache
def static_files() -> dict[str, StaticFile]:
    """Every file by its name."""
    found = {}
    folder = files("receiver") / "web" / "static"
    for place in (folder, folder / "vendor"):
        for file in place.iterdir() if place.is_dir() else ():
            kind = _KINDS.get(file.name.rpartition(".")[2])
            if kind is not None:
                content = file.read_bytes()
                digest = hashlib.sha256(content).hexdigest()[:16]
                found[file.name] = StaticFile(
                    path=f"/admin/static/{digest}/{file.name}",
                    media_type=kind,
                    content=content,
                    compressed=gzip.compress(content, mtime=0),
                )
    return found


async def show_static(request: Request) -> Response:
    """A file under its hash, to everybody."""
    file = static_files().get(request.path_params["name"])
    if (
        file is None
        or file.path != f"/admin/static/{request.path_params['hash']}/{request.path_params['name']}"
    ):
        return Response(status_code=404, headers={**HEADERS, "cache-control": "no-store"})
    content, coding = file.content, {}
    if takes_gzip(request):
        content, coding = file.compressed, {"content-encoding": "gzip"}
    headers = {**HEADERS, **_FOREVER, **coding, "vary": "accept-encoding"}
    return Response(content, headers=headers, media_type=file.media_type)


def takes_gzip(request: Request) -> bool:
    """Whether whoever asks can undo it."""
    codings = request.headers.get("accept-encoding", "").lower().split(",")
    return any(each.strip() == "gzip" or each.strip().startswith("gzip;q=1") for each in codings)
