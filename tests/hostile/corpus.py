"""The corpus as values, and the trap that every line of it is let loose in."""

import itertools
import json
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

from receiver.errors import FetchFailed
from receiver.fetching.addresses import Network, is_literal
from receiver.fetching.client import GuardedClient
from receiver.fetching.download import DownloadLimits, DownloadThreads, download
from receiver.testing import TurnableClock
from tests.support.fake_world import PUBLIC, FakeWorld, Trust
from tests.support.media_host import MediaHost, media_host, says

FOLDER = Path(__file__).parent
PASS = "pass"
OPENED = (ip_network("10.99.0.0/16"),)  # where no line of the corpus leads
LIMITS = DownloadLimits(max_bytes=100_000, deadline_seconds=10)
NO_TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # quick to make: the system's authorities are many
_TIMES = re.compile(r"\{\{(.+?)\*(\d+)\}\}", re.DOTALL)


class Line(NamedTuple):
    """A link and what must become of it."""

    number: int
    category: int
    verdict: str
    url: str
    why: str


class Name(NamedTuple):
    """A name, what each lookup of it answers, and what becomes of a link to it each time."""

    number: int
    category: int
    verdicts: tuple[str, ...]
    name: str
    answers: tuple[tuple[str, ...], ...]
    why: str


def urls() -> list[Line]:
    return [
        Line(number, int(category), verdict, _spelt_out(json.loads(url)), why)
        for number, (category, verdict, url, why) in _lines("urls.tsv")
    ]


def names() -> list[Name]:
    return [
        Name(
            number,
            int(category),
            tuple(verdicts.split()),
            name,
            tuple(tuple(answer.split()) for answer in answers.split("|")),
            why,
        )
        for number, (category, verdicts, name, answers, why) in _lines("names.tsv")
    ]


def _lines(name: str) -> Iterator[tuple[int, list[str]]]:
    text = (FOLDER / name).read_text(encoding="utf-8")
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.startswith("#"):
            yield number, line.split("\t")


def _spelt_out(text: str) -> str:
    return _TIMES.sub(lambda found: found[1] * int(found[2]), text)


def place_of(line: Line | Name) -> str:
    """A test's name: where in the file to look."""
    return f"line {line.number}, category {line.category}"


class Trap:
    """The real client in a world where every public address is one host on loopback."""

    def __init__(self, world: FakeWorld, host: MediaHost, trust: Trust, folder: Path) -> None:
        self.world = world
        self.host = host
        self._trust = trust
        self._folder = folder
        self._threads = DownloadThreads()
        self._numbers = itertools.count()

    @asynccontextmanager
    async def client(
        self, *, opened: Sequence[Network] = (), ours: Sequence[str] = ()
    ) -> AsyncIterator[GuardedClient]:
        client = GuardedClient(
            opened=opened,
            tls=self._trust.client,
            resolve=self.world.resolve,
            dial=self.world.dial,
            is_ours=ours.__contains__,
        )
        try:
            yield client
        finally:
            await client.aclose()

    async def fetch(self, url: str, client: GuardedClient, limits: DownloadLimits = LIMITS) -> str:
        """The outcome of a download, or `pass`; forgets first what was dialled before."""
        self.world.dialled.clear()
        self.world.resolved.clear()
        self.host.requests.clear()
        path = self._folder / f"file-{next(self._numbers)}"
        try:
            got, _ = await download(
                client,
                url,
                path,
                limits,
                clock=TurnableClock(),
                take=lambda _: None,
                look=lambda _: None,
                threads=self._threads,
            )
        except FetchFailed as exc:
            assert not path.exists()
            return exc.outcome.value
        assert got.bytes == path.stat().st_size
        return PASS


@asynccontextmanager
async def trap(trust: Trust, folder: Path) -> AsyncIterator[Trap]:
    async with media_host(trust.server) as host:
        host.otherwise = says(200, b"bytes")
        yield Trap(FakeWorld({}, host.port, otherwise=[PUBLIC]), host, trust, folder)


def alternative_name(host: str) -> str:
    """A host as a certificate names it."""
    return f"IP:{host}" if is_literal(host) else f"DNS:{host}"
