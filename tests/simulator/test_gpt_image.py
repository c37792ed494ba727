"""The simulator's gpt-image-2: refused and billed as its sellers' pages say, on an account for each key."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import httpx2
import pytest

from receiver.simulator import SimulatorOptions
from receiver.simulator.gpt_image import price_at_apidot, price_at_apixo, price_at_reapi, price_at_vidgo
from receiver.simulator.model import Refusal
from tests.support.playing import QUICK, id_in, playing
from tests.support.waiting import until

VIDGO: list[tuple[dict[str, Any], float | None]] = [
    ({}, 2),
    ({"size": None, "quality": None, "resolution": None}, 2),
    ({"quality": "high", "size": "auto", "resolution": "4K"}, 12),
    ({"quality": "high", "resolution": "2K"}, 12),
    ({"size": "1:1", "resolution": "4K"}, 4),
    ({"size": "16:9", "resolution": "4K"}, 8),
    ({"quality": "high", "size": "21:9", "resolution": "4K"}, 48),
    ({"quality": "medium", "size": "4:5", "resolution": "2K"}, 6),
    ({"quality": "medium", "size": "3840x1280", "resolution": "4K"}, 12),
    ({"quality": "medium", "size": "3840x1280", "resolution": "2K"}, None),
    ({"size": "3840x1264", "resolution": "4K"}, None),
    ({"quality": "high", "size": "3840x2160", "resolution": "4K"}, 48),
    ({"quality": "high", "size": "2160x3840", "resolution": "4K"}, 48),
    ({"quality": "high", "size": "2880x2880", "resolution": "4K"}, 24),
    ({"size": "1024x640", "resolution": "2K"}, 4),
    ({"size": "1024x624", "resolution": "2K"}, None),
    ({"size": "2304x1536", "resolution": "1K"}, None),
    ({"size": "2304x1536"}, None),
    ({"size": "2304x1537", "resolution": "2K"}, None),
    ({"size": "3856x2144", "resolution": "4K"}, None),
    ({"quality": "medium", "size": "1:1", "resolution": "1K"}, 3),
    ({"size": "9:16", "resolution": "4k"}, 8),
    ({"quality": "high", "size": "2304x1536", "resolution": "2K"}, 24),
    ({"size": "3840X1280", "resolution": "4K"}, None),
    ({"size": "３８４０x1280", "resolution": "4K"}, None),  # noqa: RUF001 - full width is meant
    ({"size": "0x0", "resolution": "2K"}, None),
    ({"size": "-16x16", "resolution": "2K"}, None),
    ({"size": "99999999999999999999x16", "resolution": "2K"}, None),
    ({"size": 5}, None),
    ({"size": "2:1"}, None),
    ({"quality": "auto"}, None),
    ({"resolution": "8K"}, None),
    ({"prompt": "\U0001f5fc" * 4000}, 2),
    ({"prompt": "\U0001f5fc" * 4001}, None),
]
APIDOT: list[tuple[dict[str, Any], float | None]] = [
    ({"size": "1:1", "resolution": "1K"}, 1),
    ({"quality": "high", "size": "2304x2048", "resolution": "2K"}, 24),
    ({"size": "3:2", "resolution": "4K"}, 2),
    ({"size": "2304x1537", "resolution": "2K"}, 2),
    ({"size": "3840x1264", "resolution": "2K"}, 4),
    ({"size": "2304x1536"}, None),
    ({"size": "2304*1536", "resolution": "2K"}, None),
    ({"prompt": "x" * 4001}, 1),
]
APIXO: list[tuple[dict[str, Any], float | None]] = [
    ({"aspect_ratio": "16:9", "resolution": "2k"}, 0.02),
    ({"aspect_ratio": "21:9"}, None),
    ({"resolution": "3k"}, None),
    ({"quality": "splendid", "prompt": "x" * 20_000}, 0.02),
    ({"prompt": "x" * 20_001}, None),
]
REAPI: list[tuple[dict[str, Any], float | None]] = [
    ({}, 7),
    ({"size": "auto", "resolution": "2k"}, 14),
    ({"size": "21:9", "resolution": "4k"}, 20),
    ({"size": "1:1", "resolution": "4k"}, None),
    ({"resolution": "4k"}, None),
    ({"size": "1024x1024"}, 7),
    ({"size": 1024}, None),
]
OFFICIAL: list[tuple[dict[str, Any], float | None]] = [
    ({"quality": "low", "size": "1:1", "resolution": "1k", "n": 4}, 24),
    ({"quality": "high", "size": "16:9", "resolution": "4k"}, 1467),
    ({"quality": "high", "resolution": "2k"}, 1467),
    ({"quality": "medium", "size": "1024x1024", "n": 2}, 94),
    ({}, 186),
    ({"size": "1024 x 1024"}, None),
    ({"quality": "splendid"}, None),
    ({"n": 5}, None),
]


def outcome(provider: str, wanted: Mapping[str, object]) -> float | None:
    """The price, or None where it is refused."""
    try:
        return PRICES[provider](wanted)
    except Refusal:
        return None


PRICES: dict[str, Callable[[Mapping[str, object]], float]] = {
    "vidgo": price_at_vidgo,
    "apidot": price_at_apidot,
    "apixo": price_at_apixo,
    "reapi": partial(price_at_reapi, is_official=False),
    "official": partial(price_at_reapi, is_official=True),
}
CASES = {"vidgo": VIDGO, "apidot": APIDOT, "apixo": APIXO, "reapi": REAPI, "official": OFFICIAL}


@pytest.mark.parametrize("provider", CASES)
def test_what_an_order_costs_or_that_it_is_refused(provider: str) -> None:
    for wanted, price in CASES[provider]:
        assert outcome(provider, wanted) == price, wanted


PATH = "/vidgo/api/generate/submit"


def order(**wanted: object) -> dict[str, Any]:
    return {"model": "gpt-image-2", "input": {"prompt": "hills", **wanted}}


async def test_truth_tells_what_each_task_was_billed_in_dollars_and_whose_order_it_was() -> None:
    async with playing() as backend:
        large = order(quality="high", size="16:9", resolution="4K")
        await backend.http.post(PATH, json=large, headers={"x-request-id": "number 1"})
        await backend.http.post(PATH, json=order() | {"simulate": {"outcome": "failed"}})
        await backend.http.post(PATH, json=order(resolution="8K"))

        async def ended() -> list[dict[str, Any]] | None:
            tasks: list[dict[str, Any]] = (await backend.http.get("/truth")).json()
            return tasks if all(task["ended_at"] for task in tasks) else None

        tasks = await until(ended)
    assert [(task["request_id"], task["credits"], task["billed_micros"]) for task in tasks] == [
        ("number 1", 48, 240_000),
        (None, 0, 0),
    ]


async def test_an_order_that_is_taken_for_the_one_before_gets_its_task_and_is_not_billed() -> None:
    async with playing() as backend:
        first = await backend.submit("vidgo")
        again = await backend.submit("vidgo", same_id_again=True)
        assert id_in("vidgo", again) == id_in("vidgo", first)
        [task] = (await backend.http.get("/truth")).json()
        assert task["task_id"] == id_in("vidgo", first)


async def test_each_key_has_a_balance_and_tasks_of_its_own() -> None:
    options = SimulatorOptions(
        keys={"vidgo": ("one", "two")}, credits=2, task_seconds=QUICK.task_seconds, picture_pixels=64
    )

    async with playing(options) as backend:

        async def send(method: str, path: str, key: str, **content: Any) -> httpx2.Response:
            headers = {"authorization": f"Bearer {key}"}
            return await backend.http.request(method, path, headers=headers, **content)

        taken = await send("POST", PATH, "one", json=order())
        assert (await send("POST", PATH, "one", json=order())).status_code == 402
        assert (await send("POST", PATH, "three", json=order())).status_code == 401
        status = f"/vidgo/api/generate/status/{id_in('vidgo', taken)}"
        asked = [(await send("GET", status, key)).status_code for key in ("one", "two", "three")]
        assert asked == [200, 404, 401]
        left = [await send("GET", "/vidgo/api/user/balance", key) for key in ("one", "two")]
        assert [answer.json()["data"]["credits_amount"] for answer in left] == [0, 2]


async def test_apidot_deducts_once_a_task_has_ended_well_but_overdraws_no_account() -> None:
    path, balance = "/apidot/api/generate/submit", "/apidot/api/user/balance"

    async def left() -> float:
        answer = await backend.http.get(balance)
        amount: float = answer.json()["data"]["credits_amount"]
        return amount

    async with playing(SimulatorOptions(credits=2, picture_pixels=64)) as backend:
        running = order() | {"simulate": {"delay_seconds": 0.3}}
        answers = [await backend.http.post(path, json=running) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 402]
        assert await left() == 2

        async def has_deducted() -> bool:
            return await left() == 0

        await until(has_deducted)
