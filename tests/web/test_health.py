"""The operators' door: alive, ready, numbers."""

import asyncio
import json
import socket
import sqlite3
from contextlib import closing

import httpx2
import pytest
from msgspec.structs import replace

from receiver.config.settings import Settings
from receiver.errors import Unavailable
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.tokens import Tokens
from receiver.web.app import build_app, create_app
from receiver.worker import Worker
from tests.support.failing_store import over_failing_store
from tests.support.loopback import Answer, post, serving, talk
from tests.support.waiting import until
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, LogLines, callback_path, caller, log_task

ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}  # who reads what is wrong with each part


async def test_a_living_process_says_so(stranger: httpx2.AsyncClient) -> None:
    answer = await stranger.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_a_ready_service_names_each_part(stranger: httpx2.AsyncClient) -> None:
    answer = await stranger.get("/readyz", headers=ADMIN)
    document = answer.json()
    assert answer.status_code == 200, document
    assert document["status"] == "ready"
    assert document["parts"]["store"] == "ok"
    assert document["parts"]["assets"] == "running"


async def test_without_a_commit_it_lives_but_is_not_ready(
    stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    path = runtime.settings.data_dir / "receiver.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        answer = await stranger.get("/readyz", headers=ADMIN)
        assert (await stranger.get("/healthz")).status_code == 200
        connection.execute("ROLLBACK")
    assert answer.status_code == 503
    assert answer.json()["status"] == "not ready"
    assert "commit" in answer.json()["parts"]["store"]

    async def recovered() -> bool:
        parts: dict[str, str] = (await stranger.get("/readyz", headers=ADMIN)).json()["parts"]
        return parts["store"] == "ok"

    await until(recovered)


class IdleLoop:
    """A loop without work, in a state of a test's choice."""

    name = "sink x"

    def __init__(
        self, *, stopped: str | None = None, note: str | None = None, error: Exception | None = None
    ) -> None:
        self._stopped, self._note, self._error = stopped, note, error

    def wake(self, *, is_due: bool = False) -> None:
        pass

    def stopped(self) -> str | None:
        return self._stopped

    def note(self) -> str | None:
        return self._note

    async def loop(self) -> None:
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()

    async def drain(self, timeout_seconds: float) -> int:
        return 0


@pytest.mark.parametrize(
    ("loop", "state", "status"),
    [
        (IdleLoop(), "running", 200),
        (IdleLoop(note="its key is refused"), "running, but its key is refused", 200),
        (IdleLoop(stopped="stopped: answered 410"), "stopped: answered 410", 200),
        (IdleLoop(error=KeyError("x")), "restarting after KeyError", 503),
        (IdleLoop(), "not started", 503),
    ],
    ids=["running", "noted", "stopped", "crashed", "not started"],
)
async def test_a_loop_that_does_not_run_shows(
    runtime: Runtime, loop: IdleLoop, state: str, status: int
) -> None:
    worker = Worker([loop], count_restart=runtime.metrics.loop_restarted)
    if state != "not started":
        worker.start()
        await asyncio.sleep(0)  # each loop begins
    async with caller(build_app(replace(runtime, worker=worker))) as stranger:
        answer = await stranger.get("/readyz", headers=ADMIN)
    await worker.drain(1)
    assert answer.status_code == status
    assert answer.json()["parts"]["sink x"] == state


async def test_probes_are_not_in_the_usual_log(stranger: httpx2.AsyncClient, log_lines: LogLines) -> None:
    await stranger.get("/healthz")
    await stranger.get("/readyz", headers=ADMIN)
    await stranger.get("/metrics")
    assert {line["log_level"] for line in log_lines} == {"debug"}


async def test_the_numbers_count_what_the_doors_did(
    stranger: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await log_task(backend, "t1")
    await stranger.post(callback_path(runtime), content=sample_callback("vidgo", "t9"))
    await stranger.post("/callbacks/vidgo/wrong", content=b"{}")
    answer = await stranger.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'receiver_callbacks_total{provider="vidgo",verdict="early"} 1.0' in answer.text
    assert 'receiver_callbacks_rejected_total{status="401"} 1.0' in answer.text
    assert 'receiver_tasks{state="submitted"} 1.0' in answer.text


async def test_while_the_store_is_away_the_other_numbers_still_come(runtime: Runtime) -> None:
    app = build_app(over_failing_store(runtime, Unavailable("away")))
    async with caller(app) as stranger:
        await stranger.post("/callbacks/vidgo/wrong", content=b"{}")
        answer = await stranger.get("/metrics")
    assert answer.status_code == 200
    assert 'receiver_callbacks_rejected_total{status="401"} 1.0' in answer.text
    assert "receiver_tasks" not in answer.text


class TestPrivateMetrics:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"RECEIVER_METRICS_PRIVATE": "true"}

    async def test_only_admins_see_the_numbers(
        self, stranger: httpx2.AsyncClient, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient
    ) -> None:
        statuses = [(await client.get("/metrics")).status_code for client in (stranger, backend, admin)]
        assert statuses == [401, 403, 200]


class TestAProviderThatCannotBeReached:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        with socket.socket() as probe:  # free again when it is asked for
            probe.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
        return {"VIDGO_API_KEY": "k", "VIDGO_BASE_URL": nobody, "VIDGO_FIRST_POLL_SECONDS": "0"}

    async def test_shows_beside_its_loop_and_leaves_the_service_ready(
        self, stranger: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
    ) -> None:
        calm = (await stranger.get("/metrics")).text
        assert 'receiver_provider_trouble{provider="vidgo"} 0.0' in calm
        assert 'receiver_provider_trouble{provider="reapi"}' not in calm
        parts = (await stranger.get("/readyz", headers=ADMIN)).json()["parts"]
        assert parts["poll vidgo"] == "running"
        assert "poll reapi" not in parts  # nobody is asked without a key
        await log_task(backend, "t1")
        runtime.worker.wake("poll vidgo")

        async def poll_counted() -> str | None:
            numbers = (await stranger.get("/metrics")).text
            failure = 'receiver_polls_total{outcome="connect_failed",provider="vidgo"} 1.0'
            return numbers if failure in numbers else None

        assert 'receiver_provider_trouble{provider="vidgo"} 1.0' in await until(poll_counted)
        answer = await stranger.get("/readyz", headers=ADMIN)
        assert answer.status_code == 200
        assert answer.json()["parts"]["poll vidgo"].startswith("running, but ")

    async def test_is_told_whoever_met_the_trouble(
        self, stranger: httpx2.AsyncClient, runtime: Runtime
    ) -> None:
        await runtime.status_client.ask("vidgo", "t1", None)  # as for a new link, with no poll at all
        assert 'receiver_provider_trouble{provider="vidgo"} 1.0' in (await stranger.get("/metrics")).text


async def test_the_served_app_opens_its_runtime_and_closes_it_at_the_end(web_settings: Settings) -> None:
    for _ in range(2):  # the second time only works when the first was closed: a lock keeps others out
        async with serving(create_app(web_settings), lifespan="on") as port:
            request = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            assert Answer(await talk(port, request)).status == 200


async def test_a_request_that_the_stop_interrupts_is_told_no_more_than_is_known(
    web_settings: Settings,
) -> None:
    token = Tokens(web_settings.secrets).for_provider("vidgo")
    async with serving(create_app(web_settings), lifespan="on") as port:
        half = asyncio.create_task(talk(port, post(f"/callbacks/vidgo/{token}", b"{}")[:-1]))
        for request in await until(waiting_requests):  # as the server does when it waits no longer
            request.cancel()
        answer = Answer(await half)
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert json.loads(answer.body)["detail"] == "The service is stopping; ask or send again."


async def waiting_requests() -> list[asyncio.Task[object]]:
    """Those that this process has begun to answer."""
    return [
        task
        for task in asyncio.all_tasks()
        if (coroutine := task.get_coro()) is not None
        and "run_asgi" in repr(coroutine)
        and getattr(coroutine, "cr_await", None) is not None
    ]


async def test_what_is_nowhere_is_a_problem_too(stranger: httpx2.AsyncClient) -> None:
    for path in ("/", "/healthz/", "/../etc/passwd", "/favicon.ico"):
        answer = await stranger.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"


async def test_requests_leave_one_line_without_what_was_in_the_query(
    backend: httpx2.AsyncClient, log_lines: LogLines
) -> None:
    await backend.get("/assets/vidgo/t1/0?expires=1&signature=secret-signature")
    assert [line["event"] for line in log_lines] == ["request.answered"]
    assert log_lines[0]["route"] == "/assets/{provider}/{task_id:path}/{index}"
    assert log_lines[0]["status"] == 404
    assert "secret-signature" not in repr(log_lines)


async def test_a_fault_of_our_own_is_a_500_without_internals(runtime: Runtime, log_lines: LogLines) -> None:
    app = build_app(over_failing_store(runtime, RuntimeError("a detail that nobody should see")))
    async with caller(app, API_TOKEN) as backend:
        answer = await backend.get("/tasks/vidgo/t1")
    assert answer.status_code == 500
    assert "detail that nobody" not in answer.text
    assert [line["event"] for line in log_lines] == ["request.failed", "request.answered"]
