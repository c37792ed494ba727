"""Somebody is told when something goes wrong and when it is over: once, signed, by one process of all."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.e2e.fleet import fleet
from tests.e2e.service import Receiver, receiver
from tests.support.postgres import scratch_database
from tests.support.sink_hosts import HttpServer
from tests.support.waiting import until

EARLY_LIMIT = 5
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATIENCE_SECONDS = 90.0  # a look every ten seconds, at a count that stands for five
ROUNDS_SECONDS = 25.0


@asynccontextmanager
async def on_sqlite(folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Receiver]:
    async with receiver(folder, settings) as service:
        yield service


@asynccontextmanager
async def on_postgresql(folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Receiver]:
    """A service with a worker beside it, which looks as well."""
    with scratch_database() as database:
        async with fleet(folder, settings, database, ("serve",), ("work",)) as (_, (service, _worker)):
            yield service


class Told:
    """Who is told."""

    def __init__(self, folder: Path) -> None:
        self.server = HttpServer(folder)
        self.server.start()

    def alerts(self) -> list[dict[str, Any]]:
        """All alerts so far; each must be signed."""
        for request in self.server.requests():
            Webhook(SECRET).verify(request["body"].decode(), request["headers"])
        return [json.loads(body) for body in self.server.received()]

    async def of(self, number: int) -> list[dict[str, Any]]:
        async def are_told() -> list[dict[str, Any]] | None:
            alerts = self.alerts()
            return alerts if len(alerts) >= number else None

        return await until(are_told, PATIENCE_SECONDS)


@pytest.fixture
def told(tmp_path: Path) -> Any:
    told = Told(tmp_path)
    yield told
    told.server.stop()


@pytest.mark.parametrize("opened", [on_sqlite, on_postgresql], ids=["sqlite", "postgresql"])
async def test_a_line_is_told_when_it_appears_not_again_after_a_restart_and_when_it_ends(
    opened: Any, told: Told, tmp_path: Path
) -> None:
    settings = {
        "RECEIVER_ALERT_URL": told.server.url,
        "RECEIVER_ALERT_SECRET": SECRET,
        "RECEIVER_EARLY_LIMIT": str(EARLY_LIMIT),
    }
    async with opened(tmp_path, settings) as service:
        for number in range(EARLY_LIMIT):
            assert await service.call_back(f"early-{number}") == "early"
        (alert,) = await told.of(1)
        assert (alert["type"], alert["data"]["key"]) == ("health.appeared", "early")
        assert alert["data"]["severity"] == "critical"

        await service.stop()
        await service.start()
        await asyncio.sleep(ROUNDS_SECONDS)
        assert len(told.alerts()) == 1

        for number in range(EARLY_LIMIT):
            await service.submit(f"early-{number}")
        (_, over) = await told.of(2)
        assert (over["type"], over["data"]["key"]) == ("health.ended", "early")
        assert over["data"]["since"] == alert["data"]["since"]
        text = json.dumps(told.alerts())
        assert "early-0" not in text
        assert told.server.url not in service.output()


async def test_whoever_does_not_take_alerts_is_logged_of_once_and_no_alert(
    told: Told, tmp_path: Path
) -> None:
    settings = {
        "RECEIVER_ALERT_URL": f"{told.server.root}/status/500",
        "RECEIVER_EARLY_LIMIT": str(EARLY_LIMIT),
    }
    async with receiver(tmp_path, settings) as service:
        for number in range(EARLY_LIMIT):
            await service.call_back(f"early-{number}")

        async def failed() -> bool:
            return "alerts.failed" in service.output()

        await until(failed, PATIENCE_SECONDS)
        await asyncio.sleep(ROUNDS_SECONDS)
        assert service.output().count("alerts.failed") == 1
        keys = {json.loads(body)["data"]["key"] for body in told.server.received()}
        assert keys == {"early"}
        assert (await service.parts())["alerts"] == "running"
