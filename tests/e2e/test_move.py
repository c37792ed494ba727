"""A record that is moved to PostgreSQL and back, or dumped and restored: whoever asks is told the same."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from receiver.config.settings import load_settings
from receiver.models import Outcome, ReplayState, Stage, TaskState
from receiver.ports import Store
from receiver.runtime import Runtime, open_runtime
from receiver.stores.sqlite import SqliteStore
from receiver.testing import TurnableClock, sample_callback
from receiver.web.app import build_app
from tests.contracts.replaying import publish, replay, start_replay, step_replay
from tests.support.cli_callers import run
from tests.support.factories import (
    NOW,
    answer,
    completed,
    failed,
    later,
    progress,
    recording,
    settlement,
    stored,
    submission,
    unclear,
)
from tests.support.missing import missing
from tests.support.postgres import scratch_database, scratch_schema
from tests.support.settling import settle_outbox
from tests.support.waiting import until
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, caller

pytestmark = pytest.mark.usefixtures("plain_environment")

ODD = "\0 \x1b[2J \U0010ffff0 \U0010ffff \u202e \u00e9 \U0001f600 \\u0000"
NAME = "\U0010ffff0 \u00e9 \U0001f600"  # with no control characters
METADATA = {
    "order": "7",
    "nul\0": ODD,
    "huge": 123456789012345678901234567890,
    "tiny": -9223372036854775809,
    "exact": 1.7976931348623157e308,
    "deep": [{"a": None, "b": [True, "\\u0000", "\\\0"]}],
}
SURROGATES = rb'{"code": 200, "data": {"task_id": "odd", "status": "odd \ud800", "n": 1e999, "m": \u0000}}'


ID_OF: dict[str, Callable[[dict[str, Any]], str]] = {
    "event_id": lambda task: task["event_id"],
    "delivery_id": lambda task: task["deliveries"][0]["id"],
    "notification_id": lambda task: task["notifications"][0]["id"],
}


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with scratch_database() as url:
        yield url


@pytest.fixture
def schema(database: str) -> Iterator[str]:
    with scratch_schema(database) as url:
        yield url


class World:
    """One record and its settings, wherever the record is; and a clock that stands still beside it."""

    def __init__(self, folder: Path) -> None:
        self.settings = {
            "RECEIVER_DATA_DIR": str(folder),
            "RECEIVER_SECRET": "a-secret-for-tests-only",
            "RECEIVER_API_TOKENS": API_TOKEN,
            "RECEIVER_ADMIN_TOKENS": ADMIN_TOKEN,
            "RECEIVER_PUBLIC_URL": "https://receiver.test",
            "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
            "RECEIVER_METADATA_INDEX": "order",
            "VIDGO_API_KEY": "a-key",  # so that what is weakly proved is held
            "VIDGO_BASE_URL": "http://127.0.0.1:9",
            "RECEIVER_SINK_APP": "jsonl:app.jsonl",
            "RECEIVER_SINK_SHOP": "jsonl:shop.jsonl",
        }
        self.url = "sqlite:receiver.db"

    @asynccontextmanager
    async def served(self) -> AsyncIterator[tuple[Runtime, httpx2.AsyncClient]]:
        """The service in this process, at a time at which nothing is due, and an admin at its doors."""
        settings = load_settings(self.settings | {"RECEIVER_DATABASE_URL": self.url})
        async with (
            open_runtime(settings, clock=TurnableClock(later(3600))) as runtime,
            caller(build_app(runtime), ADMIN_TOKEN) as client,
        ):
            yield runtime, client

    async def answers(self) -> dict[str, Any]:
        """What every door says of everything on record."""
        async with self.served() as (_, client):
            return await ask_for_all(client)

    async def moved(self, to: str) -> dict[str, Any]:
        """What the command says in JSON; the record is there from now on."""
        result = await asyncio.to_thread(
            run, "move", "--to", to, "--json", **self.settings, RECEIVER_DATABASE_URL=self.url
        )
        assert result.exit_code == 0, result.output
        self.url = to
        said: dict[str, Any] = json.loads(result.stdout)
        return said


class Asker:
    """What was said by each path, and by each list on all its pages."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self.said: dict[str, Any] = {}

    async def ask(self, path: str) -> Any:
        reply = await self._client.get(path)
        assert reply.status_code == 200, (path, reply.text)
        self.said[path] = reply.json()
        return self.said[path]

    async def ask_pages(self, path: str) -> list[Any]:
        pages: list[list[Any]] = []
        cursor: str | None = None
        while cursor is not None or not pages:
            reply = await self._client.get(path, params={"limit": 5} | ({"cursor": cursor} if cursor else {}))
            assert reply.status_code == 200, (path, reply.text)
            page = reply.json()
            cursor = page.pop("next_cursor")
            pages += page.values()
        self.said[path] = pages
        return [row for page in pages for row in page]


async def ask_for_all(client: httpx2.AsyncClient) -> dict[str, Any]:
    """What every door says of everything on record, but for what is of the moment."""
    asker = Asker(client)
    said = asker.said
    for task in await asker.ask_pages("/tasks"):
        path = f"{task['provider']}/{task['task_id']}"
        await asker.ask(f"/tasks/{path}")
        for kind in ("deliveries", "notifications", "attempts"):
            await asker.ask_pages(f"/{kind}/{path}")
    for found_by, id_of in ID_OF.items():
        await asker.ask(f"/tasks?{found_by}={id_of(said['/tasks/vidgo/t1'])}")
    for row in await asker.ask_pages("/submissions"):
        await asker.ask(f"/submissions/{row['id']}")
    for row in (await asker.ask("/replays"))["replays"]:
        await asker.ask(f"/replays/{row['id']}")
    await asker.ask_pages("/dead-letters")
    # What narrows these down is in the path already, so a few rows must do.
    for path in (
        "/submissions?bound=false",
        "/tasks?metadata.order=7",
        *(f"/tasks?state={state}" for state in TaskState),
    ):
        (await asker.ask(path)).pop("next_cursor")
    # What is held is asked about anew at each start of SQLite's, and once after a move.
    for name in ("poll", "waiting_on"):
        assert said["/tasks/vidgo/asked"].pop(name)
    stats = await asker.ask("/stats")
    del stats["counted_at"], stats["wal_bytes"]
    return said


async def fill(store: Store) -> None:
    """All that a record may hold, made by the methods that services call."""
    await fill_old(store)
    await fill_files(store)
    await fill_strays(store)
    await fill_polls(store)
    await fill_replays(store)
    while await store.purge(NOW - timedelta(days=30), 100):
        pass


async def fill_old(store: Store) -> None:
    """A body, a request and attempts that are dropped in the end, and a count that is kept."""
    await store.log_submission(submission("old", id_="sub_old"))
    await store.record(recording(completed("old", files=2), received_at=NOW - timedelta(days=40)))
    await settle_files(store, Outcome.TIMEOUT, Outcome.STORED)
    while await store.follow_deliveries(later(0), 10):
        pass


async def fill_files(store: Store) -> None:
    """Files and notifications in every state, with a repeat and a conflict."""
    await store.log_submission(submission("t1", id_="sub_1"))
    for report in (completed("t1", files=3), completed("t1", files=3), failed("t1")):
        await store.record(recording(report))
    await settle_files(store, Outcome.STORED, Outcome.GONE, Outcome.STORED)
    await publish(store, "app", at=5)
    await publish(store, "shop", at=5, outcome=Outcome.REFUSED)
    await store.log_submission(submission("waits", id_="sub_waits"))
    await store.record(recording(failed("waits")))
    await store.log_submission(submission("files", id_="sub_files"))
    await store.record(recording(completed("files", files=2)))
    again = settlement(Outcome.TIMEOUT, at=later(8), retry_at=later(80_000))
    for sink in ("app", "shop"):
        for entry in await store.lease_outbox(sink, later(7), later(65), 10):
            await settle_outbox(store, entry, again)
    for file in await store.lease_assets(later(7), later(60), 10):
        await store.settle_asset(file, again)


async def fill_strays(store: Store) -> None:
    """What is early, a stranger's, not understood or refused, and reservations."""
    await store.record(recording(completed("early")))
    await store.record(recording(unclear("unclear"), body=SURROGATES))
    await store.record(recording(failed("stranger")))
    for name in ("reserved", "bound", "withdrawn"):
        await store.log_submission(submission(None, id_=f"sub_{name}"))
    await store.withdraw_submission("sub_withdrawn", later(10))
    await store.record(recording(progress("bound"), submission_id="sub_bound"))
    await store.record(recording(completed("t1"), submission_id="sub_bound"))
    await store.record(recording(unclear("bound"), body=b"\xff\xfe\0 \\x41 \n\t\\." * 1000))


async def fill_polls(store: Store) -> None:
    """A task that was asked about in vain, with a callback that is held, and one that ended so."""
    await store.log_submission(submission("asked", id_="sub_asked"))
    await store.record(recording(completed("asked"), weak=True))
    for work in await store.lease_polls("vidgo", later(4000), later(5000), 10):
        await store.settle_poll(work, settlement(Outcome.TIMEOUT, at=later(4000), retry_at=later(80_000)))
    await store.log_submission(submission("answered", id_="sub_answered"))
    await store.record(answer(failed("answered")))


async def fill_replays(store: Store) -> None:
    """One that is paused half-way, one cancelled, one done and one on its way."""
    started = [
        await start_replay(
            store, replay(stage, sinks=sinks, rate=rate, requested_by=ODD, created_at=later(5000))
        )
        for stage, sinks, rate in (
            (Stage.NOTIFY, ("app",), None),
            (Stage.FETCH, (), 0.125),
            (Stage.POLL, (), None),
            (Stage.REPROCESS, (), None),
        )
    ]
    for work in await store.lease_replays(later(5001), later(5060), 10):
        if work.replay.stage is Stage.REPROCESS:
            await store.reprocess(work, await store.list_kept(work, 1), later(5001), later(80_000))
        else:
            await step_replay(store, work, 2, later(5001), later(80_000))
    await store.change_replay(started[0].id, ReplayState.PAUSED, later(5002))
    await store.change_replay(started[1].id, ReplayState.CANCELLED, later(5002))


async def settle_files(store: Store, *outcomes: Outcome) -> None:
    works = sorted(await store.lease_assets(later(1), later(60), 10), key=lambda work: work.index)
    for work, outcome in zip(works, outcomes, strict=True):
        is_stored = outcome is Outcome.STORED
        await store.settle_asset(
            work, stored(work, at=later(2)) if is_stored else settlement(outcome, at=later(2))
        )


async def visit(world: World) -> None:
    """What callers say at the doors."""
    async with world.served() as (_, client):
        for number in range(5):
            new = await log(client, f"web-{number}")
            assert (await call_back(client, new, f"web-{number}")).json()["status"] == "accepted"
        await until(lambda: is_told(client, 5))


async def log(client: httpx2.AsyncClient, task_id: str) -> dict[str, Any]:
    """Log a submission with all that is hard to keep; the row."""
    wanted = {
        "provider": "vidgo",
        "owner": NAME,
        "task_id": task_id,
        "model": NAME,
        "request": {"prompt": ODD, "n": 2**80},
        "metadata": METADATA,
    }
    reply = await client.post("/submissions", json=wanted)
    assert reply.is_success, reply.text
    row: dict[str, Any] = reply.json()
    return row


async def call_back(client: httpx2.AsyncClient, submission: dict[str, Any], task_id: str) -> httpx2.Response:
    """The provider says at the submission's own URL that the task failed."""
    path = submission["callback_url"].removeprefix("https://receiver.test")
    return await client.post(path, content=sample_callback("vidgo", task_id, error=ODD))


async def is_told(client: httpx2.AsyncClient, count: int) -> bool:
    """Whether both sinks know of every one of these tasks, and the other one that is due was asked about."""
    tasks = [(await client.get(f"/tasks/vidgo/web-{number}")).json() for number in range(count)]
    states = [entry["state"] for task in tasks for entry in task["notifications"]]
    asked = (await client.get("/tasks/vidgo/asked")).json()["poll"]["asked"]
    return (states, asked) == (["delivered"] * 2 * count, 2)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "data")
    async with world.served() as (runtime, _):
        options = runtime.store._options  # type: ignore[attr-defined]
    store = await SqliteStore.open(world.url, options)
    await fill(store)
    await store.aclose()
    await visit(world)
    return world


async def test_every_door_says_the_same_of_a_record_on_postgresql_and_back(world: World, schema: str) -> None:
    before = await world.answers()

    await world.moved(schema)
    there = await world.answers()
    await world.moved("sqlite:back.db")
    back = await world.answers()

    assert [path for path in before if there.get(path) != before[path]] == []
    assert (there, back) == (before, before)
    assert len(before["/tasks"]) > 2
    assert before["/tasks/vidgo/t1"]["event_id"] == "evt_1"


async def test_after_a_move_the_old_is_a_repeat_and_the_new_comes_behind_it(
    world: World, schema: str
) -> None:
    for number, url in enumerate((schema, "sqlite:back.db")):
        await world.moved(url)
        async with world.served() as (_, client):
            before = (await client.get("/tasks/vidgo/web-3")).json()
            old = (await client.get(f"/submissions/{before['submission_id']}")).json()
            repeated = await call_back(client, old, "web-3")
            new = await log(client, f"new-{number}")
            ended = await call_back(client, new, f"new-{number}")
            (newest, *_) = (await client.get("/tasks")).json()["tasks"]
            task = (await client.get("/tasks/vidgo/web-3")).json()

        assert (repeated.json()["status"], ended.json()["status"]) == ("duplicate", "accepted")
        assert newest["task_id"] == f"new-{number}"
        assert (task["event_id"], task["deliveries"][0]["seen"]) == (before["event_id"], 2 + number)


async def test_a_dump_that_is_restored_to_another_database_says_the_same(
    world: World, database: str, tmp_path: Path
) -> None:
    if not shutil.which("pg_dump"):
        missing("the pg_dump command is not installed")
    await world.moved(database)
    before = await world.answers()
    dump = tmp_path / "record.dump"

    with scratch_database() as world.url:
        for command in (
            ["pg_dump", "--schema=receiver", "--format=custom", f"--file={dump}", database],
            ["pg_restore", "--exit-on-error", f"--dbname={world.url}", str(dump)],
        ):
            await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
        assert await world.answers() == before
        async with world.served() as (_, client):
            new = await log(client, "new")
            assert (await call_back(client, new, "new")).json()["status"] == "accepted"
            old = (await client.get("/submissions/" + before["/tasks/vidgo/web-1"]["submission_id"])).json()
            assert (await call_back(client, old, "web-1")).json()["status"] == "duplicate"


# Of four replays, the last rows that are written, each takes half a second.
SLOW_ON_POSTGRESQL = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON replays FOR EACH ROW EXECUTE FUNCTION slow()
"""
SLOW_IN_SQLITE = """
CREATE TRIGGER slow BEFORE INSERT ON replays BEGIN
    SELECT max(n) FROM (
        WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 2000000) SELECT n FROM c
    );
END
"""


@pytest.mark.slow
@pytest.mark.parametrize("to", ["postgresql", "sqlite"])
async def test_a_kill_in_the_middle_leaves_nothing_and_it_is_moved_again(
    world: World, schema: str, to: str
) -> None:
    url = schema if to == "postgresql" else "sqlite:new.db"
    before = await world.answers()
    environ = world.settings | {"RECEIVER_DATABASE_URL": url}
    assert (await asyncio.to_thread(run, "migrate", **environ)).exit_code == 0
    execute(world, url, SLOW_ON_POSTGRESQL if to == "postgresql" else SLOW_IN_SQLITE)

    with subprocess.Popen(
        [sys.executable, "-m", "receiver", "move", "--to", url],
        env=os.environ | world.settings | {"RECEIVER_DATABASE_URL": world.url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert await asyncio.to_thread(process.stderr.readline) == b"Moving\n"
        await asyncio.sleep(0.3)
        process.kill()
        assert process.wait() == -signal.SIGKILL  # it was at it

    # Which waits for what the server still does for it.
    execute(world, url, "DROP TRIGGER slow ON replays" if to == "postgresql" else "DROP TRIGGER slow")
    await world.moved(url)
    assert await world.answers() == before


def execute(world: World, url: str, statement: str) -> None:
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(Path(world.settings["RECEIVER_DATA_DIR"], "new.db"))) as file:
            file.execute(statement)
    else:
        with psycopg.connect(url) as server:
            server.execute(statement.encode())
