"""Every link and every name of the corpus, at the guard and through the real client."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
import pytest_asyncio

from receiver.fetching.addresses import GLOBAL_UNICAST, REFUSED_NETWORKS, check_url, is_literal
from receiver.fetching.client import GuardedClient
from receiver.models import Outcome
from tests.hostile.corpus import (
    NO_TRUST,
    OPENED,
    PASS,
    Line,
    Name,
    Trap,
    alternative_name,
    names,
    place_of,
    trap,
    urls,
)
from tests.support.fake_world import OTHER_PUBLIC, PUBLIC, make_trust
from tests.support.media_host import redirects

pytestmark = pytest.mark.asyncio(loop_scope="module")

URLS, NAMES = urls(), names()
LINK, FIRST = "https://files.example.com/x.png", "https://files.example.com/first"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trap]:
    folder = tmp_path_factory.mktemp("trap")
    hosts = {check_url(line.url).host for line in URLS if line.verdict == PASS}
    hosts |= {name.name for name in NAMES}
    trust = make_trust(folder, [alternative_name(host) for host in sorted(hosts)])
    async with trap(trust, folder) as made:
        yield made


# --- the files themselves -------------------------------------------------------------------------


async def test_the_corpus_is_large_and_has_every_category() -> None:
    assert len({line.url for line in URLS}) == len(URLS) >= 500
    assert {line.verdict for line in URLS} <= {PASS, *Outcome}
    counts = Counter([line.category for line in URLS] + [name.category for name in NAMES])
    # Our own addresses and thousands of answers are made of code, further below.
    assert {number for number in range(1, 77) if counts[number] < 2} == {40, 56}


async def test_the_borders_of_every_range_are_in_the_corpus() -> None:
    hosts = {line.url.removeprefix("https://").strip("/[]"): line.verdict for line in URLS}
    for network in (*REFUSED_NETWORKS, GLOBAL_UNICAST):
        within = PASS if network == GLOBAL_UNICAST else Outcome.PRIVATE_ADDRESS
        assert hosts[str(network[0])] == hosts[str(network[-1])] == within
        for beside in (int(network[0]) - 1, int(network[-1]) + 1):
            if 0 <= beside < 2**network.max_prefixlen:
                assert str(type(network[0])(beside)) in hosts, network


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", URLS, ids=place_of)
async def test_a_link_comes_to_its_verdict_and_nothing_else_is_dialled(line: Line, world: Trap) -> None:
    async with world.client() as client:
        assert await world.fetch(line.url, client) == line.verdict, line.why
    if line.verdict == PASS:
        _check_asked_once(line.url, world)
    else:
        assert (world.world.resolved, world.world.dialled) == ([], [])

    # A network opened elsewhere opens no line. Names and odd ports are then left to the resolver, so the
    # outcome may be another one.
    async with world.client(opened=OPENED) as client:
        assert (await world.fetch(line.url, client) == PASS) is (line.verdict == PASS), line.why
    assert bool(world.world.dialled) is (line.verdict == PASS)


def _check_asked_once(url: str, world: Trap) -> None:
    """Of the host that a link names, and by its name."""
    host = check_url(url).host
    assert world.world.resolved == ([] if is_literal(host) else [host])
    assert world.world.dialled == [host if is_literal(host) else PUBLIC]
    (request,) = world.host.requests
    shown = f"[{host}]" if ":" in host else host
    assert f"\r\nHost: {shown}\r\n" in request


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES, ids=place_of)
async def test_a_name_is_judged_by_every_answer_each_time(name: Name, world: Trap) -> None:
    world.world.names[name.name] = iter(name.answers)
    try:
        async with world.client() as client:
            for verdict, answer in zip(name.verdicts, name.answers, strict=False):
                assert await world.fetch(f"https://{name.name}/x", client) == verdict, name.why
                assert world.world.dialled == ([answer[0]] if verdict == PASS else [])
                assert world.world.resolved == [name.name]
    finally:
        del world.world.names[name.name]


@pytest.mark.parametrize("last", [PUBLIC, "127.0.0.1"])
async def test_five_thousand_answers_are_none(world: Trap, last: str) -> None:
    world.world.names["files.example.com"] = iter(
        [[*(f"8.8.{n // 256}.{n % 256}" for n in range(5000)), last]]
    )
    async with world.client() as client:
        assert await world.fetch(LINK, client) == Outcome.DNS_FAILED
    assert world.world.dialled == []
    del world.world.names["files.example.com"]


class Resolver:
    """Answers after a while, or fails."""

    def __init__(self, answer: Sequence[str] | Exception, seconds: float) -> None:
        self.answer = answer
        self.seconds = seconds

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(self.seconds)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    "resolver",
    [
        Resolver([PUBLIC], 30),
        Resolver(OSError(-3, "Temporary failure in name resolution"), 0),  # SERVFAIL
        Resolver(OSError(-2, "Name or service not known"), 0),
        Resolver(OSError(-5, "No address associated with hostname"), 0),
        Resolver(UnicodeError("encoding with 'idna' codec failed (UnicodeError: label too long)"), 0),
        Resolver(ConnectionRefusedError(111, "the resolver is not there"), 0),
        Resolver(TimeoutError("the resolver does not answer"), 0),
    ],
    ids=["30 s", "SERVFAIL", "no such name", "no address", "no name at all", "refused", "timeout"],
)
async def test_a_resolver_that_is_slow_or_fails_is_an_outcome(world: Trap, resolver: Resolver) -> None:
    client = GuardedClient(resolve=resolver, resolve_seconds=0.05, dial=world.world.dial, tls=NO_TRUST)
    assert await world.fetch(LINK, client) == Outcome.DNS_FAILED
    assert world.world.dialled == []
    await client.aclose()


# --- our own addresses ----------------------------------------------------------------------------


@pytest.mark.parametrize("url", [LINK, f"https://{PUBLIC}/", f"https://[{OTHER_PUBLIC}]/x"])
async def test_a_public_address_of_this_machine_is_refused(world: Trap, url: str) -> None:
    async with world.client(ours=[PUBLIC, OTHER_PUBLIC]) as client:
        assert await world.fetch(url, client) == Outcome.PRIVATE_ADDRESS
    assert world.world.dialled == []


async def test_one_address_of_this_machine_among_others_is_enough(world: Trap) -> None:
    world.world.names["files.example.com"] = iter([["8.8.8.8", "1.1.1.1", PUBLIC]])
    async with world.client(ours=[PUBLIC]) as client:
        assert await world.fetch(LINK, client) == Outcome.PRIVATE_ADDRESS
    assert world.world.dialled == []
    del world.world.names["files.example.com"]


async def test_this_machine_behind_a_translator_is_refused(world: Trap) -> None:
    world.world.names["files.example.com"] = iter([["64:ff9b::808:808"]])
    async with world.client(ours=["8.8.8.8"]) as client:
        assert await world.fetch(LINK, client) == Outcome.PRIVATE_ADDRESS
    assert world.world.dialled == []
    del world.world.names["files.example.com"]


# --- redirects ------------------------------------------------------------------------------------


def refused(each: int) -> Iterator[Line]:
    """So many refused lines of each kind, those that a Location header holds as they are."""
    taken = Counter[tuple[int, str]]()
    for line in URLS:
        kind = (line.category, line.verdict)
        fits = len(line.url) < 60_000 and line.url.isprintable() and line.url == line.url.strip()
        start = line.url.partition("//")[0]  # with a blank in it, all is a path of the same host
        absolute = line.category not in (67, 68) and line.url[0].isalnum() and " " not in start
        if line.verdict != PASS and fits and absolute and taken[kind] < each:
            taken[kind] += 1
            yield line


@pytest.mark.parametrize("line", list(refused(4)), ids=place_of)
async def test_a_redirect_to_a_refused_link_is_refused_too(line: Line, world: Trap) -> None:
    location = line.url.encode("utf-8").decode("latin-1")
    status = (301, 302, 303, 307, 308)[line.number % 5]
    world.host.put("/first", redirects(location, status))
    async with world.client() as client:
        outcome = await world.fetch(FIRST, client)
    wanted = Outcome.BAD_REDIRECT if line.verdict == Outcome.BAD_URL else line.verdict
    assert outcome == wanted, line.why
    assert world.world.dialled == [PUBLIC]
    assert len(world.host.requests) == 1


@pytest.mark.parametrize(
    ("location", "verdict"),
    [
        ("//127.0.0.1/", Outcome.PRIVATE_ADDRESS),
        ("//[::1]/", Outcome.PRIVATE_ADDRESS),
        ("//localhost/", Outcome.PRIVATE_ADDRESS),
        ("//169.254.169.254/latest/meta-data/", Outcome.PRIVATE_ADDRESS),
        ("//user:secret@files.example.com/", Outcome.BAD_REDIRECT),
        ("//127.1/", Outcome.BAD_REDIRECT),
        ("///127.0.0.1/", PASS),  # only a path of the same host, as for browsers' relatives
        ("https:127.0.0.1", PASS),
        ("https:///127.0.0.1/", PASS),
        ("/\\127.0.0.1/", Outcome.BAD_REDIRECT),
        ("\\\\127.0.0.1\\", Outcome.BAD_REDIRECT),
        ("http:127.0.0.1", Outcome.BAD_REDIRECT),
        ("http:///127.0.0.1/", Outcome.BAD_REDIRECT),
        ("http://files.example.com/", Outcome.BAD_REDIRECT),  # a downgrade
        ("https://files.example.com:80/", Outcome.BAD_REDIRECT),
        ("https://files.exam\tple.com/", Outcome.BAD_REDIRECT),
        ("java\tscript:alert(1)", Outcome.BAD_REDIRECT),
        ("/\t/127.0.0.1/", Outcome.BAD_REDIRECT),
        ("/a b", PASS),
        ("/a b\\c", Outcome.BAD_REDIRECT),
        ("/a\tb c", Outcome.BAD_REDIRECT),
        ("//files.example.com /x", Outcome.BAD_REDIRECT),
        ("https: //127.0.0.1/", PASS),  # only a path of the same host
        ("/ //127.0.0.1/", PASS),
        ("/\x7f", Outcome.BAD_REDIRECT),
        ("../../../x", PASS),
        ("?", Outcome.BAD_REDIRECT),  # the same place again, for ever
        ("#fragment", Outcome.BAD_REDIRECT),
    ],
)
async def test_a_relative_redirect_leaves_its_host_for_none_that_a_link_may_not_name(
    world: Trap, location: str, verdict: str
) -> None:
    world.host.put("/first", redirects(location))
    async with world.client() as client:
        assert await world.fetch(FIRST, client) == verdict
    assert set(world.world.dialled) == {PUBLIC}
    assert set(world.world.resolved) == {"files.example.com"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_from_https_to_http_is_refused_even_into_an_opened_network(
    world: Trap, status: int
) -> None:
    world.host.put("/first", redirects(f"http://{OPENED[0][1]}/x.png", status))
    async with world.client(opened=OPENED) as client:
        assert await world.fetch(FIRST, client) == Outcome.BAD_REDIRECT
    assert world.world.dialled == [PUBLIC]


@pytest.mark.parametrize("hops", [4, 21])
async def test_a_chain_of_redirects_ends_after_three(world: Trap, hops: int) -> None:
    for number in range(hops):
        world.host.put(f"/hop-{number}", redirects(f"https://files.example.com/hop-{number + 1}"))
    async with world.client() as client:
        assert await world.fetch("https://files.example.com/hop-0", client) == Outcome.BAD_REDIRECT
    assert world.world.dialled == [PUBLIC] * 4


async def test_each_hop_is_resolved_and_judged_anew(world: Trap) -> None:
    world.world.names["files.example.com"] = iter([[PUBLIC], ["127.0.0.1"]])
    world.host.put("/first", redirects(LINK))
    async with world.client() as client:
        assert await world.fetch(FIRST, client) == Outcome.PRIVATE_ADDRESS
    assert world.world.dialled == [PUBLIC]
    del world.world.names["files.example.com"]
