"""Public keys from an address: kept for a day, fetched anew rarely, and never for mere noise."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network

import pytest
from nacl.signing import SigningKey

from receiver.errors import Unavailable
from receiver.fetching.client import GuardedClient
from receiver.fetching.key_sets import MOST_BYTES, MOST_KEYS, KeySet, ed25519_keys
from receiver.models import SigningKeys
from receiver.signing.ed25519 import public_key
from receiver.testing import TurnableClock
from tests.support.media_host import MediaHost, listening, says

OLD, NEW, STRANGER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
MESSAGE = b"what was signed"
DAY = 86_400


def document(*keys: SigningKey) -> bytes:
    items = [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": "k",
            "x": base64.urlsafe_b64encode(bytes(key.verify_key)).decode().rstrip("="),
        }
        for key in keys
    ]
    return json.dumps({"keys": items}).encode()


def signed_by(key: SigningKey) -> Callable[[SigningKeys], bool]:
    signature = key.sign(MESSAGE).signature
    return lambda keys: keys.fits(signature, MESSAGE)


class World:
    """A key set and its host."""

    def __init__(self, host: MediaHost, client: GuardedClient, clock: TurnableClock) -> None:
        self.host, self.clock = host, clock
        self.keys = KeySet(host.url("/jwks.json"), client=client, clock=clock, make=public_key)

    def publish(self, *keys: SigningKey) -> None:
        self.host.put("/jwks.json", says(200, document(*keys)))

    def fall(self) -> None:
        self.host.put("/jwks.json", says(503))

    async def takes(self, key: SigningKey) -> bool:
        return await self.keys.check(signed_by(key))

    @property
    def fetches(self) -> int:
        return len(self.host.requests)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    host = MediaHost()
    client = GuardedClient(opened=(ip_network("127.0.0.0/8"),))
    async with listening(host.serve) as port:
        host.port = port
        yield World(host, client, TurnableClock())
    await client.aclose()


async def test_keys_are_fetched_at_the_first_signature_and_then_kept(world: World) -> None:
    world.publish(OLD, NEW)
    for _ in range(3):
        assert await world.takes(OLD)
        assert await world.takes(NEW)
    assert world.fetches == 1


async def test_what_has_not_the_form_of_a_signature_fetches_nothing(world: World) -> None:
    world.publish(OLD)
    for _ in range(3):
        assert not await world.keys.check(lambda _: False)
        world.clock.turn(DAY)
    assert world.fetches == 0


async def test_forgeries_fetch_once_a_minute_at_most(world: World) -> None:
    world.publish(OLD)
    assert await world.takes(OLD)
    world.clock.turn(61)
    for _ in range(50):
        assert not await world.takes(STRANGER)
        world.clock.turn(1)
    assert world.fetches == 2


async def test_a_new_key_is_learned_at_its_first_signature(world: World) -> None:
    world.publish(OLD)
    assert await world.takes(OLD)
    world.publish(NEW)
    world.clock.turn(59)
    assert not await world.takes(NEW)
    world.clock.turn(1)
    assert await world.takes(NEW)
    assert not await world.takes(OLD)


async def test_after_a_day_keys_are_fetched_anew_and_a_withdrawn_one_is_forgotten(world: World) -> None:
    world.publish(OLD)
    assert await world.takes(OLD)
    world.publish(NEW)
    world.clock.turn(DAY - 1)
    assert await world.takes(OLD)
    world.clock.turn(1)
    assert not await world.takes(OLD)
    assert world.fetches == 2


@pytest.mark.parametrize(
    "answer",
    [
        says(503),
        says(302, b""),
        says(200, b"{"),
        says(200, b'{"keys": []}'),
        says(200, b" " * (MOST_BYTES + 1)),
    ],
)
async def test_while_the_host_is_away_the_last_keys_stay_good(world: World, answer: object) -> None:
    world.publish(OLD)
    assert await world.takes(OLD)
    world.host.answers["/jwks.json"] = answer  # type: ignore[assignment]
    for _ in range(3):
        world.clock.turn(DAY)
        assert await world.takes(OLD)
        assert not await world.takes(NEW)
    assert world.fetches == 4


async def test_before_there_are_any_keys_the_sender_is_told_to_come_again(world: World) -> None:
    world.fall()
    for _ in range(3):
        with pytest.raises(Unavailable) as later:
            await world.takes(OLD)
        assert later.value.retry_after_seconds == 60
    assert world.fetches == 1
    world.publish(OLD)
    world.clock.turn(60)
    assert await world.takes(OLD)


async def test_all_who_come_at_once_wait_for_one_fetch_and_none_takes_it_from_others(
    world: World,
) -> None:
    world.publish(OLD)
    first, *others = [asyncio.create_task(world.takes(OLD)) for _ in range(8)]
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.gather(*others) == [True] * 7
    assert world.fetches == 1


async def test_an_address_in_a_closed_network_is_not_asked(world: World) -> None:
    client = GuardedClient()
    keys = KeySet(world.host.url("/jwks.json"), client=client, clock=world.clock, make=public_key)
    with pytest.raises(Unavailable):
        await keys.check(signed_by(OLD))
    await client.aclose()
    assert world.fetches == 0


def test_of_a_key_set_only_sound_ed25519_keys_count_and_so_many() -> None:
    right = json.loads(document(OLD))["keys"][0]
    wrong = [
        None,
        "text",
        right | {"kty": "EC"},
        right | {"crv": "X25519"},
        right | {"x": None},
        right | {"x": "AAAA"},
        right | {"x": right["x"] + "AAAA"},
        right | {"x": "!" + right["x"][1:]},
        right | {"x": "é" * 43},
    ]
    assert list(ed25519_keys(json.dumps({"keys": [*wrong, right]}).encode())) == [bytes(OLD.verify_key)]
    assert len(list(ed25519_keys(document(*[OLD] * (MOST_KEYS + 5))))) == MOST_KEYS
    for shape in (b"[]", b"null", b"7", b'{"keys": {}}', b'{"keys": 1}'):
        assert list(ed25519_keys(shape)) == []
