"""Fixtures for a backend's tests: the providers played, a real service, and events as its webhook gets them.

    pytest_plugins = ["receiver.testing"]  # in conftest.py

It needs pytest. Nothing starts, and nothing is loaded, before a test asks for it. (PYTEST_DONT_REWRITE: what
it asserts has words of its own.)
"""

import base64
import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest

from receiver.client import AsyncReceiver, Receiver, read_event
from receiver.client.signatures import SECRET_VARIABLE, key_of, sign
from receiver.urls import path_part

PROVIDERS = ("vidgo", "apidot", "apixo", "reapi")
START_SECONDS = 30.0
STOP_SECONDS = 10.0  # what the service promises

# What the shell of whoever runs the tests may have set for a real service.
_PREFIXES = ("RECEIVER_", *(f"{name.upper()}_" for name in PROVIDERS))
_NAMES = {"DATABASE_URL", "PORT", "DYNO", "WEB_CONCURRENCY"}


class Simulator:
    """The four providers' APIs on loopback; any key will do. ``url`` is where all of them are."""

    def __init__(self, url: str) -> None:
        self.url = url

    def base_url(self, provider: str) -> str:
        """What takes the place of ``https://api.vidgo.ai`` and the like."""
        return f"{self.url}/{provider}"


class Service:
    """A running receiver with a folder of its own, which knows the played providers; its gateway is on.

    ``provider_key`` is the key that it has for each of them, and wants from whoever orders by the gateway.
    """

    provider_key = "any-key-will-do"

    def __init__(self, url: str, token: str, data: Path) -> None:
        self.url = url
        self.token = token
        self.data = data

    def base_url(self, provider: str) -> str:
        """The gateway to a provider: what takes the place of ``https://api.vidgo.ai`` and the like."""
        return f"{self.url}/gateway/{provider}"

    @property
    def environment(self) -> dict[str, str]:
        """What a backend reads to find it."""
        return {"RECEIVER_URL": self.url, "RECEIVER_TOKEN": self.token}

    def client(self) -> Receiver:
        """A client for it; close it."""
        return Receiver(self.url, self.token)

    def async_client(self) -> AsyncReceiver:
        """A client for it; close it."""
        return AsyncReceiver(self.url, self.token)

    def events(self) -> list[dict[str, Any]]:
        """The messages that it has sent to its sink, a file, so far."""
        path = self.data / "events.jsonl"
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


class MakeEvent(Protocol):
    """Makes a message and the headers that it is signed by, as a webhook gets them.

    Without ``files`` a task failed, with ``error`` as the provider's words. Each call is about a task of its
    own, unless ``task_id`` says otherwise; the same task and revision have the same id.
    """

    def __call__(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        owner: str = "user-17",
        provider: str = "vidgo",
        task_id: str | None = None,
        model: str | None = "gpt-image-2",
        metadata: Mapping[str, object] | None = None,
        files: int = 1,
        error: str | None = None,
        revision: int = 1,
        replay_id: str | None = None,
        timestamp: int | None = None,
    ) -> tuple[bytes, dict[str, str]]: ...


@pytest.fixture(scope="session")
def receiver_simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """The four providers, played for all tests of the run. It needs ``callback-receiver[demo]``."""
    log = tmp_path_factory.mktemp("receiver-simulator") / "log.txt"
    command = (
        "simulate",
        "--port",
        "0",
        "--own-ports",
        "0",
        "--task-seconds",
        "0.2",
        "--picture-pixels",
        "64",
    )
    with _running(command, _clean(), log) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the simulator did not start:\n{log.read_text()}"
        process.stdout.close()
        yield Simulator(json.loads(line)["url"])


@pytest.fixture(scope="session")
def receiver_service(
    receiver_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A real service for all tests of the run, on a free port; what it tells goes to a file."""
    folder = tmp_path_factory.mktemp("receiver-service")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = Service(f"http://127.0.0.1:{port}", secrets.token_urlsafe(16), folder / "data")
    settings = {
        "RECEIVER_HOST": "127.0.0.1",
        "PORT": str(port),
        "RECEIVER_DATA_DIR": str(service.data),
        "RECEIVER_API_TOKENS": service.token,
        "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",  # where the played providers' files are
        "RECEIVER_GATEWAY": "true",
    }
    for name in PROVIDERS:
        settings |= {
            f"{name.upper()}_API_KEY": service.provider_key,
            f"{name.upper()}_BASE_URL": receiver_simulator.base_url(name),
            f"{name.upper()}_FIRST_POLL_SECONDS": "1",
        }
    log = folder / "log.txt"
    with _running(("serve",), _clean() | settings, log) as process:
        _await_ready(process, service.url, log)
        yield service


@pytest.fixture
def webhook_secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """A secret of this test's own, which is also in ``RECEIVER_WEBHOOK_SECRET``."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    monkeypatch.setenv(SECRET_VARIABLE, secret)
    return secret


@pytest.fixture
def image_event(webhook_secret: str) -> MakeEvent:
    """Make messages and what they are signed by: of any type, of any revision, replayed, or too old."""

    def make(
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        owner: str = "user-17",
        provider: str = "vidgo",
        task_id: str | None = None,
        model: str | None = "gpt-image-2",
        metadata: Mapping[str, object] | None = None,
        files: int = 1,
        error: str | None = None,
        revision: int = 1,
        replay_id: str | None = None,
        timestamp: int | None = None,
    ) -> tuple[bytes, dict[str, str]]:
        kind = type or ("task.completed" if files and error is None else "task.failed")
        task = task_id or f"task-{secrets.token_hex(8)}"
        document = _document(kind, provider, task, 0 if kind == "task.failed" else files, revision)
        document["data"] |= {"owner": owner, "model": model, "metadata": dict(metadata or {})}
        if kind == "task.failed":
            document["data"]["error"] = {"code": "failed", "message": error or "the provider failed it"}
        if replay_id is not None:
            document["replayid"] = replay_id
        body = json.dumps(document).encode()
        read_event(body)  # or what a test gets is none
        stamp = str(int(time.time()) if timestamp is None else timestamp)
        headers = {
            "content-type": "application/cloudevents+json",
            "webhook-id": document["id"],
            "webhook-timestamp": stamp,
            "webhook-signature": sign(key_of(webhook_secret), document["id"], stamp, body),
        }
        return body, headers

    return make


def _document(kind: str, provider: str, task_id: str, files: int, revision: int) -> dict[str, Any]:
    """The fields that every event has. The last file of a partial one could not be had."""
    moment = "2026-01-01T00:00:00.000Z"
    event_id = "evt_" + hashlib.sha256(f"{provider}/{task_id}".encode()).hexdigest()[:32]
    assets: list[dict[str, Any]] = [_asset(provider, task_id, index) for index in range(files)]
    if kind == "task.partial":
        assets[-1:] = [{"index": max(files - 1, 0), "state": "failed", "outcome": "gone"}]
    return {
        "specversion": "1.0",
        "id": event_id if revision == 1 else f"{event_id}.{revision}",
        "source": "https://receiver.example",
        "type": kind,
        "subject": f"{provider}/{task_id}",
        "time": moment,
        "datacontenttype": "application/json",
        "revision": revision,
        "data": {
            "provider": provider,
            "task_id": task_id,
            "submission_id": event_id.replace("evt_", "sub_"),
            "submitted_at": moment,
            "received_at": moment,
            "via": "callback",
            "assets": assets,
            "error": None,
        },
    }


def _asset(provider: str, task_id: str, index: int) -> dict[str, Any]:
    place = f"{path_part(provider)}/{path_part(task_id)}/{index}"
    return {
        "index": index,
        "state": "stored",
        "key": f"{place}.png",
        "url": f"https://receiver.example/assets/{place}?expires=1798761600&signature=none",
        "media_type": "image/png",
        "bytes": 1234,
        "width": 64,
        "height": 48,
        "sha256": "ab" * 32,
    }


def _clean() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_PREFIXES) and name not in _NAMES
    }


@contextmanager
def _running(
    command: tuple[str, ...], environment: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    more = ("--json",) if command[0] == "simulate" else ()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - this very package
            [sys.executable, "-m", "receiver", *command, *more],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if more else output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    with httpx2.Client(trust_env=False, timeout=2.0) as http:
        while time.monotonic() < until and process.poll() is None:
            try:
                if http.get(f"{url}/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)
    pytest.fail(f"the receiver did not start:\n{log.read_text()}")
