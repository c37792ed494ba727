"""Which paths the simulator answers: what `GET /` says, read from the routes themselves."""

import itertools
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
    """All that is played, and what is beside it."""

    providers: Mapping[str, ProviderShown]
    beside: ProviderShown


class DirectoryDoor:
    """Answers with the directory: in JSON, or as text to who asks for ``text/plain``."""

    def __init__(
        self, providers: Mapping[str, Sequence[Door]], beside: Sequence[Door], own_ports: Mapping[str, int]
    ) -> None:
        self._providers = {name: _shown(doors) for name, doors in providers.items()}
        self._beside = _shown([*beside, Door(method="GET", path="/", answer=self.answer)])
        self._own_ports = own_ports

    async def answer(self, request: Request) -> Response:
        """List these paths."""
        directory = self._directory(request)
        if "text/plain" in request.headers.get("accept", ""):
            return PlainTextResponse(_text(directory))
        return Response(msgspec.json.encode(directory), media_type="application/json")

    def _directory(self, request: Request) -> Directory:
        """With addresses of the name by which this machine was asked."""
        url = f"{request.url.scheme}://{request.url.netloc}"
        return Directory(
            providers={
                name: ProviderShown(url=f"{url}/{name}", own_url=self._own_url(request, name), paths=paths)
                for name, paths in self._providers.items()
            },
            beside=ProviderShown(url=url, own_url=None, paths=self._beside),
        )

    def _own_url(self, request: Request, name: str) -> str | None:
        port = self._own_ports.get(name)
        return f"{request.url.scheme}://{request.url.replace(port=port).netloc}" if port else None


def _shown(doors: Iterable[Door]) -> list[PathShown]:
    return [
        PathShown(method=door.method, path=path, about=_first_line(door.answer))
        for door in doors
        for path in _spelled_out(door)
    ]


def _spelled_out(door: Door) -> list[str]:
    """The path with each of the words that it takes, and without Starlette's converters."""
    names = [name for name in _PLACE.findall(door.path) if name in door.words]
    spelled = itertools.product(*(door.words[name] for name in names))
    return [_filled(door.path, dict(zip(names, words, strict=True))) for words in spelled]


def _filled(path: str, known: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: known.get(place[1], f"{{{place[1]}}}"), path)


def _first_line(answer: object) -> str:
    return (answer.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _text(directory: Directory) -> str:
    """In 80 columns."""
    parts = [
        "\n".join([f"{name}  {'  '.join(filter(None, (one.own_url, one.url)))}", *_lines(one.paths)])
        for name, one in directory.providers.items()
    ]
    parts.append("\n".join([f"beside them  {directory.beside.url}", *_lines(directory.beside.paths)]))
    return "\n\n".join(parts) + "\n"


def _lines(paths: Sequence[PathShown]) -> list[str]:
    width = max(len(each.path) for each in paths)
    return [f"  {each.method:4} {each.path:{width}}  {each.about}" for each in paths]
