"""The simulator answers programs on this machine, and no page in a browser on it."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from receiver.simulator import Addresses, serve_providers
from tests.support.playing import QUICK, submission

HERE = [
    "127.0.0.1:{port}",
    "localhost:{port}",
    "LocalHost",
    "127.4.5.6",
    "[::1]:{port}",
    "[::1]",
    "127.0.0.1",
]
ELSEWHERE = [
    "pictures.example:{port}",
    "localhost.pictures.example:{port}",
    "127.0.0.1.pictures.example",
    "pictures.example",
    "0.0.0.0:{port}",
    "192.0.2.7:{port}",
    "[::]:{port}",
    "[127.0.0.1]:{port}",
    "::1",
    "127.1:{port}",
    "",
]
ORDER = submission("vidgo", "gpt-4o-image", 1, None)[1]


@pytest.fixture
async def places() -> AsyncIterator[Addresses]:
    async with serve_providers(options=QUICK) as addresses:
        yield addresses


def doors(places: Addresses) -> list[str]:
    """An order at the combined port, and one at each port of a provider."""
    return [
        f"{places.combined}/vidgo/api/generate/submit",
        *(f"{root}/any" for root in places.roots.values()),
    ]


async def statuses(urls: list[str], headers: dict[str, str]) -> set[int]:
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=60.0) as http:
        sent = {
            url: {name: value.format(port=httpx2.URL(url).port) for name, value in headers.items()}
            for url in urls
        }
        return {(await http.post(url, json=ORDER, headers=own)).status_code for url, own in sent.items()}


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_a_host_that_is_not_this_machine_is_refused_at_every_port(places: Addresses, host: str) -> None:
    assert await statuses(doors(places), {"host": host}) == {403}
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=60.0) as http:
        port = httpx2.URL(places.combined).port
        listed = await http.get(places.combined, headers={"host": host.format(port=port)})
    assert listed.status_code == 403
    assert await truth(places) == []


@pytest.mark.parametrize("origin", ["https://pictures.example", "null", "http://127.0.0.1:{port}", ""])
async def test_what_a_page_sends_is_refused_at_every_port(places: Addresses, origin: str) -> None:
    assert await statuses(doors(places), {"origin": origin}) == {403}
    assert await truth(places) == []


@pytest.mark.parametrize("host", HERE)
async def test_a_program_may_know_this_machine_by_any_of_its_names(places: Addresses, host: str) -> None:
    assert await statuses(doors(places)[:1], {"host": host}) == {200}


async def truth(places: Addresses) -> list[object]:
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=60.0) as http:
        tasks: list[object] = (await http.get(f"{places.combined}/truth")).json()
        return tasks
