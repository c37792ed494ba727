"""How many events a second a replay sends to Redis again, and how long callbacks wait meanwhile.

    python -m tests.bench.replay [--events 100000]

A service whose record holds so many events is asked to send them all again. Callbacks come one after the
other, at first alone, then beside the replay. Redis is the one that the tests know (``TEST_REDIS_URL``).
Afterwards the stream must have each event once.

Exits 1 when it has not, or when a target is missed.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.bench.readers import percentile
from tests.bench.relay import check_each_once, fill
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.e2e.service import ADMIN_TOKEN, Receiver, bearer, receiver
from tests.support.sink_hosts import SharedRedis

ALONE = 500  # callbacks that come while nothing else happens
LOOK_SECONDS = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    add_json(parser)
    chosen = parser.parse_args()
    host = SharedRedis()
    try:
        with tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
            uvloop.run(fill(f"sqlite:{folder}/data/receiver.db", Path(folder), range(chosen.events), None))
            wait_for_quiet()
            with foreign() as cores:
                rows = uvloop.run(measure(Path(folder), host, chosen.events))
        check_each_once(host.received(), chosen.events)
    finally:
        host.close()
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


async def measure(folder: Path, host: SharedRedis, events: int) -> list[Row]:
    async with receiver(
        folder, {"RECEIVER_SINK_QUEUE": host.url, "RECEIVER_EARLY_LIMIT": "100000"}
    ) as service:
        numbers = itertools.count()
        for _ in range(ALONE):  # the first ones are slow
            await acknowledged(service, next(numbers))
        alone = sorted([await acknowledged(service, next(numbers)) for _ in range(ALONE)])
        began = time.monotonic()
        sending = asyncio.create_task(sent_again(service))
        beside = []
        while not sending.done():
            beside.append(await acknowledged(service, next(numbers)))
        seconds = time.monotonic() - began
        await sending
        beside.sort()
    return [
        Row(measure="replay to Redis", unit="events/s", ours=[events / seconds], target=10_000),
        *(
            Row(
                measure=f"callbacks beside a replay, p{share}",
                unit="ms",
                ours=[1000 * percentile(beside, share)],
                yardstick="alone",
                theirs=[1000 * percentile(alone, share)],
                target=2.0 if share == 99 else None,
                at_most=True,
            )
            for share in (50, 99)
        ),
    ]


async def acknowledged(service: Receiver, number: int) -> float:
    """The seconds that a callback took."""
    began = time.perf_counter()
    await service.call_back(f"beside-{number}")
    return time.perf_counter() - began


async def sent_again(service: Receiver) -> None:
    asked = await service.http.post(
        "/replays", json={"filter": {}, "stage": "notify"}, headers=bearer(ADMIN_TOKEN)
    )
    asked.raise_for_status()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        answer = await service.http.get(f"/replays/{asked.json()['id']}", headers=bearer(ADMIN_TOKEN))
        if answer.json()["state"] == "done":
            return


if __name__ == "__main__":
    sys.exit(main())
