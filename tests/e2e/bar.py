"""The bar of the gateway: what the simulated providers billed is booked here, order by order.

An order's name is its owner here, and the ``X-Request-Id`` that its provider was sent.
"""

import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import httpx2
import msgspec
import psycopg

from receiver.simulator import SimulatorOptions
from tests.e2e.service import API_TOKEN, Receiver, bearer

KEY = "CANARY-key-of-the-provider"
PROVIDERS = ("vidgo", "apidot", "apixo", "reapi")
SIMULATED = SimulatorOptions(task_seconds=0.2, picture_pixels=64, retry_factor=0.5)
ANSWERS = (
    "lose_answer",
    "cut_answer",
    "html_502",
    "answer_without_id",
    "redirect",
    "status_408",
    "status_500",
)
OPEN = {"sending", "unknown", "unresolved"}  # states of an order of which nobody knows whether it was taken

CHARGES = """
SELECT c.owner AS name, c.state, c.micros,
    CASE WHEN s.task_id IS NOT NULL THEN 'bound' ELSE o.state END AS stands
FROM {0}charges c JOIN {0}submissions s USING (number) JOIN {0}orders o USING (number)
"""
SUMS = """
SELECT coalesce(sum(held), 0), coalesce(sum(charged), 0), coalesce(sum(released), 0),
    coalesce(sum(uncertain), 0)
FROM {0}cost_sums
"""


def settings(simulator: str) -> dict[str, str]:
    """The gateway to every simulated provider."""
    return {
        "RECEIVER_GATEWAY": "true",
        "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
        "RECEIVER_GATEWAY_ANSWER_SECONDS": "5",
        **{f"{name.upper()}_BASE_URL": f"{simulator}/{name}" for name in PROVIDERS},
        **{f"{name.upper()}_API_KEY": KEY for name in PROVIDERS},
    }


class Wish:
    """One order, as any of the four is asked for it, with its price and its fate drawn by lot."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self.name = name
        self.provider = dice.choice(PROVIDERS)
        self.key = f"key of {name}" if dice.random() < 0.5 else None
        self.path, wanted = _wanted(self.provider, dice)
        self.body = {**wanted, "simulate": _fate(dice)}

    async def place(self, service: Receiver) -> httpx2.Response | None:
        """Order; None where the connection broke."""
        headers = bearer(KEY) | {"x-receiver-owner": self.name, "x-request-id": self.name}
        if self.key:
            headers["idempotency-key"] = self.key
        path = f"/gateway/{self.provider}{self.path}"
        try:
            return await service.http.post(path, json=self.body, headers=headers)
        except httpx2.TransportError:
            return None


def _wanted(provider: str, dice: random.Random) -> tuple[str, dict[str, Any]]:
    quality, resolution = dice.choice(["low", "medium", "high"]), dice.choice(["1K", "2K", "4K"])
    size = dice.choice(["auto", "1:1", "16:9", "9:16"])
    image: dict[str, Any] = {"prompt": "a lighthouse", "resolution": resolution}
    match provider:
        case "apixo":
            image["aspect_ratio"] = size
            return "/api/v1/generateTask/gpt-image-2", {"request_type": "async", "input": image}
        case "reapi":
            if resolution == "4K" and size not in {"16:9", "9:16"}:
                image["resolution"] = "2K"
            image["size"] = size
            if dice.random() < 0.5:
                image |= {"model": "gpt-image-2-official", "quality": quality, "n": 2}
            return "/api/v1/images/generations", {"model": "gpt-image-2", **image}
        case _:
            image |= {"size": size, "quality": quality}
            return "/api/generate/submit", {"model": "gpt-image-2", "input": image}


def _fate(dice: random.Random) -> dict[str, Any]:
    fate: dict[str, Any] = {}
    match dice.randrange(10):
        case 0 | 1 | 2 | 3:
            fate["answer"] = dice.choice(ANSWERS)
        case 4:
            fate |= {"refuse": dice.choice([400, 402, 429])}
            fate["error_in_200"] = fate["refuse"] == 402
        case 5 | 6:
            fate["late_answer"] = 0.2
    if dice.random() < 0.2:
        fate["outcome"] = "failed"
    if dice.random() < 0.1:
        fate["drop_callback"] = True
    if dice.random() < 0.1:
        fate["duplicate"] = 2
    return fate


async def read_truth(simulator: str) -> list[dict[str, Any]]:
    """What the providers took, one object for each task."""
    async with httpx2.AsyncClient(trust_env=False, timeout=60.0) as http:
        tasks: list[dict[str, Any]] = (await http.get(f"{simulator}/truth")).json()
        return tasks


async def read_orders(service: Receiver) -> dict[str, dict[str, Any]]:
    """Every order that is on record here, by its submission."""
    found: dict[str, dict[str, Any]] = {}
    query = {"limit": "200"}
    while True:
        answer = await service.http.get("/orders", params=query, headers=bearer(API_TOKEN))
        answer.raise_for_status()
        page = answer.json()
        found |= {row["submission_id"]: row for row in page["orders"]}
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


class Charge(msgspec.Struct, frozen=True):
    """What an order costs here."""

    name: str
    state: str
    micros: int
    stands: str  # the order

    @property
    def booked(self) -> int:
        return 0 if self.state == "released" else self.micros


def read_charges(service: Receiver) -> list[Charge]:
    """What every order costs here, in which the kept sums must agree."""
    if database := service.environment.get("RECEIVER_DATABASE_URL"):
        with psycopg.connect(database) as connection:
            # Both of one moment, as below: orders end meanwhile.
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            rows = connection.execute(CHARGES.format("receiver.").encode()).fetchall()
            [sums] = connection.execute(SUMS.format("receiver.").encode()).fetchall()
    else:
        with closing(sqlite3.connect(service.data / "receiver.db")) as connection:
            connection.execute("BEGIN")
            rows = connection.execute(CHARGES.format("")).fetchall()
            [sums] = connection.execute(SUMS.format("")).fetchall()
    charges = [Charge(*row) for row in rows]
    states = ("held", "charged", "released", "uncertain")
    added = [sum(each.micros for each in charges if each.state == state) for state in states]
    assert added == [*map(int, sums)], "the kept sums differ from the charges"
    return charges


def differences(truth: list[dict[str, Any]], charges: Sequence[Charge]) -> list[str]:
    """What the bar does not let pass: sent twice; billed and not booked so; charged and not billed.

    Where nothing was billed, an order may be held or uncertain as long as nobody knows that.
    """
    taken = Counter(task["request_id"] for task in truth)
    wrong = [f"{name} was taken {count} times" for name, count in taken.items() if count > 1]
    billed = {task["request_id"]: task["billed_micros"] for task in truth}
    here: defaultdict[str, list[Charge]] = defaultdict(list)
    for charge in charges:
        here[charge.name].append(charge)
    for name in billed.keys() | here.keys():
        booked = sum(charge.booked for charge in here[name])
        is_open = billed.get(name, 0) == 0 and all(
            charge.stands in OPEN and charge.state in {"held", "uncertain"}
            for charge in here[name]
            if charge.booked
        )
        if booked != billed.get(name, 0) and not is_open:
            stands = [(charge.stands, charge.state, charge.micros) for charge in here[name]]
            wrong.append(f"{name} was billed {billed.get(name)}, and is {stands}")
    return wrong
