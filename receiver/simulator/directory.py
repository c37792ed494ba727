"""Which paths the simulator answers: what `GET /` says, read from the routes themselves."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_PLACE = re.compile(r"{(\w+)(?::\w+)?}")


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """One path and what answers there. The first line of its docstring tells people what it does."""

    method: str
    path: str  # as Starlette writes it; behind a "?" the query that it wants
    answer: Callable[[Request], Awaitable[Response]]
    words: Mapping[str, Iterable[str]] = {}  # of a part of the path that takes a few words: those

    def route(self) -> Route:
        return Route(self.path.partition("?")[0], self.answer, methods=[self.method])


class PathShown(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    path: str
    about: str


class ProviderShown(msgspec.Struct, frozen=True, kw_only=True):
    """Where one provider is played: its paths are below ``url``, and below ``own_url`` as well."""

    url: str
    own_url: str | None
    paths: Sequence[PathShown]


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """All providers that are played, and the paths beside them."""

    providers: Mapping[str, ProviderShown]
    beside: ProviderShown


class DirectoryDoor:
    """Answers with the directory: as JSON, or as text where a request accepts ``text/plain``."""

    def __init__(
        self, providers: Mapping[str, Sequence[Door]], beside: Sequence[Door], own_ports: Mapping[str, int]
    ) -> None:
        self._providers = {name: _shown(doors) for name, doors in providers.items()}
        self._beside = _shown([*beside, Door(method="GET", path="/", answer=self.answer)])
        self._own_ports = own_ports

    async def answer(self, request: Request) -> Response:
        """List these paths."""
        # With the name by which this machine was asked.
        url = f"{request.url.scheme}://{request.url.netloc}"
        own_urls = {
            name: f"{request.url.scheme}://{request.url.replace(port=port).netloc}"
            for name, port in self._own_ports.items()
        }
        directory = Directory(
            providers={
                name: ProviderShown(url=f"{url}/{name}", own_url=own_urls.get(name), paths=paths)
                for name, paths in self._providers.items()
            },
            beside=ProviderShown(url=url, own_url=None, paths=self._beside),
        )
        if "text/plain" in request.headers.get("accept", ""):
            parts = [
                "\n".join([f"{name}  {'  '.join(filter(None, (one.own_url, one.url)))}", *_lines(one.paths)])
                for name, one in directory.providers.items()
            ]
            parts.append("\n".join([f"beside them  {directory.beside.url}", *_lines(directory.beside.paths)]))
            return PlainTextResponse("\n\n".join(parts) + "\n")
        return Response(msgspec.json.encode(directory), media_type="application/json")


def _shown(doors: Iterable[Door]) -> list[PathShown]:
    """Each path with each of the words that it takes, and without Starlette's converters."""
    shown = []
    for door in doors:
        about = (door.answer.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        paths = [_PLACE.sub(r"{\1}", door.path)]
        for name, words in door.words.items():
            paths = [path.replace(f"{{{name}}}", word) for path in paths for word in words]
        shown += [PathShown(method=door.method, path=path, about=about) for path in paths]
    return shown


def _lines(paths: Sequence[PathShown]) -> list[str]:
    width = max(len(each.path) for each in paths)
    return [f"  {each.method:4} {each.path:{width}}  {each.about}" for each in paths]
