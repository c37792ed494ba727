"""The fixtures for backends' tests, as such tests use them: a run of pytest of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 60.0

CONFTEST = 'pytest_plugins = ["receiver.testing"]\n'
TESTS = """
import json

import pytest
from receiver.client import VerificationError, verify


def test_events_are_signed_and_of_every_kind(image_event, webhook_secret):
    done = verify(*image_event(metadata={"order": 7}))
    assert (done.type, done.owner, len(done.stored), done.metadata) == (
        "task.completed", "user-17", 1, {"order": 7}
    )
    body, headers = image_event(type="task.partial", owner="user-18", files=3, task_id="t1")
    partial = verify(body, headers, webhook_secret)
    assert (len(partial.assets), len(partial.stored), partial.subject) == (3, 2, "vidgo/t1")
    failed = verify(*image_event(files=0, error="nsfw"))
    assert (failed.type, failed.assets, failed.error.message) == ("task.failed", (), "nsfw")
    first, second = [verify(*image_event(task_id="t1", revision=n)) for n in (1, 2)]
    assert second.id == f"{first.id}.2" and second.revision == 2
    again = verify(*image_event(task_id="t1", replay_id="rpl_1"))
    assert again.id == first.id and again.dedupe_key != first.dedupe_key
    with pytest.raises(VerificationError):
        verify(*image_event(timestamp=0))
    assert verify(*image_event(type="receiver.test")).type == "receiver.test"


def submit(base_url, provider, callback_url):
    # a backend's own code
    import httpx2

    prompt = {"prompt": "a lighthouse", "mode": "text-to-image"}
    body = {"model": "gpt-image-2", "callback_url": callback_url, "input": prompt}
    path = "/api/generate/submit"
    if provider == "apixo":
        path, body = "/api/v1/generateTask/gpt-image-2", body | {"request_type": "callback"}
    if provider == "reapi":
        path, body = "/api/v1/images/generations", {"model": "gpt-image-2", **prompt}
    headers = {"authorization": "Bearer any-key-will-do"}
    answer = httpx2.post(base_url + path, json=body, headers=headers, trust_env=False)
    data = answer.raise_for_status().json()
    data = data.get("data", data)
    return data.get("task_id") or data.get("taskId") or data["id"]


@pytest.mark.parametrize("provider", ["vidgo", "apidot", "apixo", "reapi"])
def test_through_the_gateway_it_is_the_base_url_and_nothing_else(receiver_service, tmp_path, provider):
    import asyncio

    task_id = submit(receiver_service.base_url(provider), provider, None)

    async def fetch():
        async with receiver_service.async_client() as receiver:
            task = await receiver.wait(provider, task_id, timeout=30)
            await receiver.download(task.stored[0], tmp_path / "image")
            return task

    task = asyncio.run(fetch())
    assert (task.type, task.model) == ("task.completed", "gpt-image-2")
    assert (tmp_path / "image").stat().st_size == task.stored[0].bytes


@pytest.mark.parametrize("provider", ["vidgo", "reapi"])
def test_an_order_ends_as_a_file(receiver_service, receiver_simulator, tmp_path, provider):
    with receiver_service.client() as receiver:
        with receiver.submission(provider, "user-18", model="gpt-image-2") as order:
            order.bind(submit(receiver_simulator.base_url(provider), provider, order.callback_url))
        task = receiver.wait(provider, order.task_id, timeout=30)
        assert task.type == "task.completed"
        receiver.download(task.stored[0], tmp_path / "image")
        assert (tmp_path / "image").stat().st_size == task.stored[0].bytes
        assert [row.task_id for row in receiver.tasks(provider=provider, owner="user-18")] == [order.task_id]
"""
COUNTS = """
import sys


def test_nothing_is_loaded_that_nobody_asked_for():
    assert "receiver.testing" not in sys.modules
    assert "receiver" not in sys.modules
"""


def run(folder: Path) -> str:
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error")
    command = [sys.executable, "-m", "pytest", *options, str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_backends_tests_have_events_a_simulator_and_a_service(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_backend.py").write_text(TESTS)
    assert "7 passed" in run(tmp_path)


def test_who_does_not_ask_for_them_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(COUNTS)
    assert "1 passed" in run(tmp_path)
