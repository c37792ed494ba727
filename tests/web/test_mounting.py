"""Below a path, inside another app, under another server: the doors are the same."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp

from receiver.config.settings import Settings
from receiver.runtime import open_runtime
from receiver.testing import sample_callback
from receiver.tokens import Tokens
from receiver.web.app import build_app, create_app
from tests.support.loopback import serving
from tests.support.sink_hosts import free_port
from tests.support.waiting import wait_until
from tests.support.web_callers import API_TOKEN, caller

BACKEND = {"authorization": f"Bearer {API_TOKEN}"}


@asynccontextmanager
async def reached_at(public_url: str, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    named = msgspec.structs.replace(settings, public_url=public_url)
    async with open_runtime(named) as runtime, caller(build_app(runtime), API_TOKEN) as client:
        yield client


async def callback_url(client: httpx2.AsyncClient) -> httpx2.URL:
    reserved = await client.post("/submissions", json={"provider": "vidgo", "owner": "u"})
    return httpx2.URL(reserved.json()["callback_url"])


@pytest.mark.parametrize("path", ["/hooks", "/a/b", "/callbacks", "/tasks", "/my%20hooks"])
async def test_the_callback_url_that_is_given_out_works_with_the_public_urls_path_and_without(
    web_settings: Settings, path: str
) -> None:
    async with reached_at(f"https://host.test{path}", web_settings) as client:
        given_out = await callback_url(client)
        assert given_out.path.startswith(path.replace("%20", " ") + "/callbacks/")
        body = sample_callback("vidgo", "t1")
        handed_on = await client.post(given_out.raw_path.decode(), content=body)
        cut_off = await client.post(given_out.raw_path.decode().removeprefix(path), content=body)
        assert [(each.status_code, each.json()["status"]) for each in (handed_on, cut_off)] == [
            (200, "accepted"),
            (200, "duplicate"),
        ]


async def test_every_other_door_stands_below_the_public_urls_path_too(web_settings: Settings) -> None:
    async with reached_at("https://host.test/hooks", web_settings) as client:
        for prefix in ("", "/hooks"):
            for door in ("/healthz", "/readyz", "/openapi.json", "/tasks", "/submissions"):
                assert (await client.get(prefix + door)).status_code == 200, prefix + door
        for nowhere in ("/hooks", "/hooks/", "/hookshealthz", "/hooks/hooks/healthz", "/other/healthz"):
            assert (await client.get(nowhere)).status_code == 404, nowhere


async def test_a_task_whose_provider_is_called_like_the_path_is_no_path(web_settings: Settings) -> None:
    async with reached_at("https://host.test/tasks", web_settings) as client:
        await client.post("/submissions", json={"provider": "vidgo", "owner": "u", "task_id": "tasks/x"})
        assert (await client.get("/tasks/vidgo/tasks/x")).status_code == 200
        assert (await client.get("/tasks/tasks/vidgo/tasks/x")).status_code == 200


async def served(app: ASGIApp, settings: Settings, prefix: str) -> list[int]:
    """What a real server with ``app`` answers at the doors below a path."""
    token = Tokens(settings.secrets).for_provider("vidgo")
    async with serving(app, lifespan="on") as port, httpx2.AsyncClient() as client:
        at = f"http://127.0.0.1:{port}{prefix}"
        answers = [
            await client.get(f"{at}/readyz"),
            await client.post(f"{at}/callbacks/vidgo/{token}", content=sample_callback("vidgo", "t1")),
            await client.get(f"{at}/tasks", headers=BACKEND),
            await client.get(f"{at}/nothing"),
        ]
    return [answer.status_code for answer in answers]


async def test_mounted_in_another_app_it_opens_at_the_first_request_and_closes_with_the_loop(
    web_settings: Settings,
) -> None:
    outer = Starlette()
    outer.mount("/receiver", create_app(web_settings))
    assert await served(outer, web_settings, "/receiver") == [200, 200, 200, 404]


async def test_mounted_with_its_lifespan_it_is_open_from_the_start_and_can_be_started_again(
    web_settings: Settings,
) -> None:
    for _ in range(2):  # the second time only works when the first was closed: a lock keeps others out
        service = create_app(web_settings)
        outer = Starlette(lifespan=service.lifespan)
        outer.mount("/receiver", service)
        assert await served(outer, web_settings, "/receiver") == [200, 200, 200, 404]


async def test_mounted_where_it_cannot_start_it_answers_503_until_it_can(
    web_settings: Settings,
) -> None:
    service = create_app(web_settings)
    async with open_runtime(web_settings), caller(service) as client:  # one process has the record
        answer = await client.get("/healthz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(web_settings.data_dir) not in answer.text
    outer = Starlette(lifespan=service.lifespan)
    outer.mount("/receiver", service)
    assert await served(outer, web_settings, "/receiver") == [200, 200, 200, 404]


# --- other servers --------------------------------------------------------------------------------------

APP = "receiver.asgi:app"
WORKER = ("-k", "uvicorn_worker.UvicornWorker")
SERVERS = {
    "uvicorn": ("-m", "uvicorn", "--port", "{port}", APP),
    "uvicorn below a path": ("-m", "uvicorn", "--port", "{port}", "--root-path", "/hooks", APP),
    "gunicorn": ("-m", "gunicorn", "-b", "127.0.0.1:{port}", *WORKER, APP),
}


@contextmanager
def started(server: str, port: int, **environ: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *(word.format(port=port) for word in SERVERS[server])]
    with subprocess.Popen(
        command, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("server", SERVERS)
def test_other_asgi_servers_run_receiver_asgi_app(tmp_path: Path, server: str) -> None:
    port = free_port()
    data = str(tmp_path / "data")
    with started(server, port, RECEIVER_DATA_DIR=data, RECEIVER_API_TOKENS=API_TOKEN) as process:
        wait_until(lambda: listens(port))
        answer = httpx2.get(
            f"http://127.0.0.1:{port}/tasks", headers=BACKEND, timeout=20
        )  # it may still import
        assert (answer.status_code, answer.json()["tasks"]) == (200, [])
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
    assert process.returncode in {0, -signal.SIGTERM}
    assert "Traceback" not in said


def test_what_keeps_it_from_starting_is_said_without_a_traceback(tmp_path: Path) -> None:
    settings = {"RECEIVER_DATA_DIR": str(tmp_path), "RECEIVER_NONSENSE": "1"}
    with started("uvicorn", free_port(), **settings) as process:
        said, _ = process.communicate(timeout=20)
    assert process.returncode not in {0, None}
    assert "RECEIVER_NONSENSE is not a setting" in said
    assert "Traceback" not in said
