"""The service while its PostgreSQL fails: nothing is lost or doubled, and it is back without a restart.

Every outage looks alike from outside: 503 with `Retry-After`, a readiness that names the failure, one line in
the log when it begins and one when it is over.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from receiver.stores.postgres.connections import WRITING
from receiver.testing import sample_callback
from tests.e2e.service import ADMIN_TOKEN, API_TOKEN, SECRET, Receiver, bearer, receiver
from tests.support.fault_proxy import fault_proxy
from tests.support.pooler import pooler
from tests.support.postgres_cluster import PASSWORD, Cluster, postgres_cluster
from tests.support.waiting import until, wait_until

DATABASE = "record"
OTHER_PASSWORD = "CANARY-password-that-is-new"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres_cluster() as cluster:
        cluster.create(DATABASE)
        yield cluster


@pytest.fixture(scope="module")
def process(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One service for all tests: each outage must leave it as it was."""
    folder = tmp_path_factory.mktemp("service")
    service = Receiver(folder, {"RECEIVER_DATABASE_URL": cluster.url(DATABASE)})
    service.launch()
    try:
        yield service
        assert PASSWORD not in service.output()
        assert OTHER_PASSWORD not in service.output()
        assert "Traceback" not in service.output()
    finally:
        service.discard()


@pytest.fixture
async def service(process: Receiver) -> AsyncIterator[Receiver]:
    async with httpx2.AsyncClient(base_url=process.url, trust_env=False, timeout=15.0) as http:
        process.http = http
        await until(process.is_ready)
        yield process


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A task of the test's own."""
    return f"task-{abs(hash(request.node.name))}"


# --- outages ------------------------------------------------------------------------------------------

Act = Callable[[Cluster], object]


def on_record(*statements: str) -> Act:
    return lambda cluster: cluster.do(*statements, database=DATABASE)


def on_server(*statements: str) -> Act:
    """Statements, and then the end of the service's connections, which it keeps for ever."""

    def act(cluster: Cluster) -> None:
        cluster.do(*statements)
        terminate(cluster)

    return act


def terminate(cluster: Cluster, condition: str = "true") -> None:
    ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND {condition}"
    cluster.do(ended)


# Every table refuses, as a disk without room does.
FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'receiver' LOOP
        EXECUTE format('CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON receiver.%I
            FOR EACH STATEMENT EXECUTE FUNCTION full_disk()', name);
    END LOOP;
END $$;
"""

OUTAGES: dict[str, tuple[Act, Act, str]] = {
    "stopped": (Cluster.stop, Cluster.start, "connection refused"),
    "a full disk": (on_record(FULL), on_record("DROP FUNCTION full_disk CASCADE"), "DiskFull 53100"),
    "read-only": (
        on_server(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on"),
        lambda cluster: cluster.do(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only"),
        "ReadOnlySqlTransaction 25006",
    ),
    "a failover": (Cluster.demote, Cluster.promote, "ReadOnlySqlTransaction 25006"),
    "another password": (
        on_server(f"ALTER ROLE app PASSWORD '{OTHER_PASSWORD}'"),
        on_server(f"ALTER ROLE app PASSWORD '{PASSWORD}'"),
        "InvalidPassword 28P01",
    ),
    "too many connections": (
        on_server("ALTER ROLE app CONNECTION LIMIT 0"),
        on_server("ALTER ROLE app CONNECTION LIMIT -1"),
        "TooManyConnections 53300",
    ),
    "no such database": (
        lambda cluster: rename(cluster, DATABASE, "elsewhere"),
        lambda cluster: rename(cluster, "elsewhere", DATABASE),
        "InvalidCatalogName 3D000",
    ),
}  # fmt: skip


def rename(cluster: Cluster, old: str, new: str) -> None:
    def done() -> bool:
        terminate(cluster)
        try:
            cluster.do(f"ALTER DATABASE {old} RENAME TO {new}")
        except psycopg.errors.ObjectInUse:  # the service has connected meanwhile
            return False
        return True

    wait_until(done)


@pytest.mark.parametrize("case", OUTAGES)
async def test_an_outage_is_a_503_and_a_reason_and_ends_by_itself(
    cluster: Cluster, service: Receiver, case: str, name: str
) -> None:
    fail, mend, reason = OUTAGES[case]
    await service.submit(name)
    seen = len(service.output())

    await asyncio.to_thread(fail, cluster)
    try:
        await assert_refused(service, name)
        await assert_told(service, reason)
        assert (await service.http.get("/healthz")).status_code == 200
        await assert_refused(service, name)  # a second attempt is no second line in the log
    finally:
        await asyncio.to_thread(mend, cluster)

    await assert_back(service, cluster, name, seen)


async def test_a_lock_that_somebody_holds_is_waited_for_and_no_longer_than_a_provider_waits(
    cluster: Cluster, service: Receiver, name: str
) -> None:
    await service.submit(name)
    seen = len(service.output())

    with psycopg.connect(cluster.url(DATABASE, "postgres")) as root:
        root.execute("SELECT pg_advisory_xact_lock(%s, hashtext('receiver'))", (WRITING,))
        await assert_refused(service, name)
        assert "no commit within" in (await service.parts())["store"]  # readiness does not wait as long

    await assert_back(service, cluster, name, seen)


async def test_a_statement_that_takes_too_long_is_ended_in_time(
    cluster: Cluster, service: Receiver, name: str
) -> None:
    await service.submit(name)
    seen = len(service.output())
    body = "'BEGIN PERFORM pg_sleep(30); RETURN NEW; END'"
    slow = f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS {body}"
    hold = "CREATE TRIGGER slow BEFORE INSERT ON receiver.deliveries FOR EACH ROW EXECUTE FUNCTION slow()"

    await asyncio.to_thread(on_record(slow, hold), cluster)
    try:
        await assert_refused(service, name)
    finally:
        await asyncio.to_thread(on_record("DROP FUNCTION slow CASCADE"), cluster)

    await assert_back(service, cluster, name, seen)


async def test_a_server_that_is_silent_holds_up_neither_the_loop_nor_a_callback_for_long(
    cluster: Cluster, service: Receiver, name: str
) -> None:
    await service.submit(name)
    seen = len(service.output())

    cluster.freeze()
    try:
        write = {"provider": "vidgo", "owner": "user-17"}
        ahead = asyncio.create_task(service.http.post("/submissions", json=write, headers=bearer(API_TOKEN)))
        await asyncio.sleep(0.05)  # its commit has begun, and the callback's comes behind it
        reading = asyncio.create_task(service.http.get("/tasks", headers=bearer(API_TOKEN)))
        refusal = asyncio.create_task(assert_refused(service, name))
        waits = []
        while not (refusal.done() and reading.done()):
            began = time.monotonic()
            assert (await service.http.get("/healthz")).status_code == 200
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.05)
        await refusal
        assert_temporary(await ahead)
        assert reading.result().status_code == 503
        assert sorted(waits)[-2] < 3  # one cancellation after the other in the loop would show
    finally:
        cluster.thaw()

    await assert_back(service, cluster, name, seen)


@pytest.mark.parametrize("case", ["stopped", "silent"])
async def test_a_service_without_its_server_ends_in_time(cluster: Cluster, case: str, tmp_path: Path) -> None:
    cluster.create(f"end_{case}")
    async with receiver(tmp_path, {"RECEIVER_DATABASE_URL": cluster.url(f"end_{case}")}) as service:
        await service.submit("task")
        away, back = (cluster.stop, cluster.start) if case == "stopped" else (cluster.freeze, cluster.thaw)
        await asyncio.to_thread(away)
        try:
            refusal = asyncio.create_task(service.http.get("/tasks", headers=bearer(API_TOKEN)))
            await asyncio.sleep(0.5)
            service.signal(signal.SIGTERM)
            # A silent one is told that nobody waits any more, which it does not hear: requests, the loops,
            # the writer and the lanes wait for it one after the other, 16 seconds at the worst.
            assert await service.ended(20.0 if case == "stopped" else 30.0) in {0, -signal.SIGTERM}
            await asyncio.gather(refusal, return_exceptions=True)
            assert "Traceback" not in service.output()
        finally:
            await asyncio.to_thread(back)


# --- connections that end -----------------------------------------------------------------------------


async def test_connections_that_ended_while_idle_are_replaced_and_nobody_is_refused(
    cluster: Cluster, service: Receiver, name: str
) -> None:
    await service.submit(name)
    seen = len(service.output())

    await asyncio.to_thread(terminate, cluster, "state = 'idle'")  # and none on which a loop is at something

    assert (await send(service, name)).status_code == 200
    assert (await service.task(name))["state"] == "failed"  # as the callback says
    assert not lines(service, seen, "store.failed")


async def test_a_transaction_that_is_ended_in_its_midst_leaves_nothing_behind(
    cluster: Cluster, service: Receiver, name: str
) -> None:
    await service.submit(name)
    seen = len(service.output())

    with psycopg.connect(cluster.url(DATABASE, "postgres")) as root:
        root.execute("LOCK TABLE receiver.deliveries")
        refusal = asyncio.create_task(assert_refused(service, name))
        waits = "SELECT 1 FROM pg_stat_activity WHERE usename = 'app' AND wait_event = 'relation'"
        await until(lambda: asyncio.to_thread(cluster.do, waits))
        await asyncio.to_thread(terminate, cluster, "wait_event = 'relation'")
        await refusal

    await assert_back(service, cluster, name, seen)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_what_was_answered_before_a_restart_is_on_record_and_nothing_twice(
    cluster: Cluster, service: Receiver, mode: str
) -> None:
    seen = len(service.output())
    taken: set[str] = set()
    ended = asyncio.Event()

    async def load(sender: int) -> None:
        for number in range(10_000):
            task_id = f"{mode}-{sender}-{number}"
            while (answer := await send(service, task_id)).status_code != 200:
                assert_temporary(answer)
                await asyncio.sleep(0.1)
            assert answer.json()["status"] in {"early", "duplicate"}
            taken.add(task_id)
            if ended.is_set():
                return

    senders = [asyncio.create_task(load(number)) for number in range(10)]
    await until(lambda: len(taken) > 50)
    await asyncio.to_thread(cluster.stop, mode)
    await asyncio.to_thread(cluster.start)
    after = len(taken)
    await until(lambda: len(taken) > after + 50)
    ended.set()
    await asyncio.gather(*senders)

    kept = cluster.do(
        f"SELECT task_id FROM receiver.deliveries WHERE task_id LIKE '{mode}-%'", database=DATABASE
    )
    assert sorted(task_id for (task_id,) in kept) == sorted(taken)
    await until(lambda: lines(service, seen, "store.recovered"))
    assert len(lines(service, seen, "store.failed")) == len(lines(service, seen, "store.recovered")) <= 2


async def test_a_callback_whose_commit_was_cut_off_is_a_repeat_when_it_comes_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with through_proxy(cluster, "cut", tmp_path) as (service, cut):
        for number in range(10):  # the commit that is cut may be another's
            name = f"task-{number}"
            await service.submit(name)
            cut.arm()
            answer = await send(service, name)
            if answer.status_code == 503:
                break
        assert_temporary(answer)
        ask = f"SELECT count(*) FROM receiver.deliveries WHERE task_id = '{name}'"
        assert cluster.do(ask, database="cut") == [(1,)]  # committed, and nobody was told

        again = await send(service, name)

        assert (again.status_code, again.json()["status"]) == (200, "duplicate")
        assert cluster.do("SELECT count(*) FROM receiver.events", database="cut") == [(number + 1,)]
        await until(lambda: name in service.told())


async def test_idle_connections_that_a_proxy_cuts_are_replaced(cluster: Cluster, tmp_path: Path) -> None:
    async with through_proxy(cluster, "idle", tmp_path) as (service, cut):
        await service.submit("task")
        cut.everything()

        assert await service.call_back("task") == "accepted"
        assert (await service.task("task"))["state"] == "failed"


# --- what is in between, and how much -----------------------------------------------------------------


async def test_behind_a_pooler_all_works_and_doctor_names_it(cluster: Cluster, tmp_path: Path) -> None:
    with pooler(cluster.create("pooled"), tmp_path) as url:
        settings = {"RECEIVER_DATABASE_URL": url}
        async with receiver(tmp_path, settings) as service:
            for number in range(8):  # more often than a statement is run before one is prepared
                await service.finish(f"task-{number}")
            assert await service.call_back("task-0") == "duplicate"
            await until(lambda: len(service.told()) == 8)
            listed = await service.http.get("/tasks", headers=bearer(API_TOKEN))
            assert len(listed.json()["tasks"]) == 8
            found = await asyncio.to_thread(doctor, service, url)
            await service.stop()

    assert found["record"]["state"] == "ok"
    assert found["wake-ups"]["detail"].startswith("a pooler is between here and the database")
    assert not lines(service, 0, "store.failed")


async def test_a_process_has_no_more_connections_than_it_may_have(cluster: Cluster, tmp_path: Path) -> None:
    cluster.create("few")
    url, count = cluster.url("few"), "SELECT count(*) FROM pg_stat_activity WHERE datname = 'few'"
    async with receiver(
        tmp_path, {"RECEIVER_DATABASE_URL": url, "RECEIVER_DATABASE_CONNECTIONS": "7"}
    ) as service:
        await service.submit("task")
        asked = [
            "/tasks",
            "/tasks/vidgo/task",
            "/submissions",
            "/tasks/vidgo/task",
            "/tasks?state=failed",
        ] * 8
        answers = await asyncio.gather(*(service.http.get(path, headers=bearer(API_TOKEN)) for path in asked))
        assert {answer.status_code for answer in answers} == {200}
        await service.call_back("task")

        assert cluster.do(count)[0][0] <= 6
        await service.stop()
    assert cluster.do(count) == [(0,)]


# --- what all of them share ---------------------------------------------------------------------------


async def send(service: Receiver, task_id: str) -> httpx2.Response:
    """A callback, whatever comes of it; its provider waits for 10 s."""
    began = time.monotonic()
    body = sample_callback("vidgo", task_id, error="nsfw")
    answer = await service.http.post(service.callback_path(), content=body)
    assert time.monotonic() - began < 10
    return answer


def assert_temporary(answer: httpx2.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1


async def assert_refused(service: Receiver, task_id: str) -> None:
    assert_temporary(await send(service, task_id))


async def assert_told(service: Receiver, reason: str) -> None:
    """Readiness has it, once what it said before is a second old."""

    async def is_told() -> bool:
        parts = await service.parts()
        return parts[""] == "503" and parts["store"] == f"the database cannot commit now ({reason})"

    await until(is_told)


async def assert_back(service: Receiver, cluster: Cluster, task_id: str, seen: int) -> None:
    """It works again; the same callback makes one event; the log had one line for each side of the outage."""
    await until(service.is_ready)
    again = await send(service, task_id)
    assert (again.status_code, again.json()["status"]) == (200, "accepted")
    await until(lambda: task_id in service.told())
    ask = f"SELECT count(*) FROM receiver.deliveries WHERE task_id = '{task_id}'"
    assert cluster.do(ask, database=DATABASE) == [(1,)]
    recovered = await until(lambda: lines(service, seen, "store.recovered"))
    failed = lines(service, seen, "store.failed")
    assert [line["reason"] for line in failed] == [line["after"] for line in recovered]
    assert len(failed) == 1, failed


def lines(service: Receiver, seen: int, event: str) -> list[dict[str, Any]]:
    """Of one event, those that the log has since ``seen`` bytes of it."""
    found = (line for line in service.output()[seen:].splitlines() if line.startswith("{"))
    return [line for line in map(json.loads, found) if line["event"] == event]


def doctor(service: Receiver, url: str) -> dict[str, Any]:
    """What doctor finds while the service runs, by the name of each check."""
    told = subprocess.run(
        [sys.executable, "-m", "receiver", "doctor", "--json"],
        env=os.environ
        | {
            "RECEIVER_DATABASE_URL": url,
            "RECEIVER_DATA_DIR": str(service.data),
            "RECEIVER_URL": service.url,
            "RECEIVER_SECRET": SECRET,
            "RECEIVER_API_TOKENS": API_TOKEN,
            "RECEIVER_ADMIN_TOKENS": ADMIN_TOKEN,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return {each["name"]: each for each in json.loads(told.stdout)["checks"]}


class Cut:
    """Ends connections of a proxy: the one that writes when it next hears of its commit, or all."""

    def __init__(self, everything: Callable[[], None]) -> None:
        self.everything = everything
        self._is_armed = False

    def arm(self) -> None:
        self._is_armed = True

    async def fault(self, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writes = False  # those that only read commit, too
        while piece := await theirs.read(2**16):
            writes = writes or b"INSERT 0 " in piece
            if self._is_armed and writes and b"COMMIT\x00" in piece:
                self._is_armed = False
                return
            writer.write(piece)
            await writer.drain()


@asynccontextmanager
async def through_proxy(cluster: Cluster, database: str, folder: Path) -> AsyncIterator[tuple[Receiver, Cut]]:
    """A service whose connections lead through a proxy; without TLS, so that it sees what passes."""
    cluster.create(database)
    async with fault_proxy(cluster.port) as proxy:
        cut = Cut(proxy.cure)
        proxy.fault = cut.fault
        url = cluster.url(database, port=proxy.port, sslmode="disable")
        async with receiver(folder, {"RECEIVER_DATABASE_URL": url}) as service:
            yield service, cut
            await service.stop()
