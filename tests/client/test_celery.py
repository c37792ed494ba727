"""Celery tasks that the receiver starts, with an event as a value; and tasks that order, once."""

import asyncio
import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from celery import Celery

import receiver.client.celery
from receiver.celery_message import encode
from receiver.client import Event, NotSent, UnknownOutcome
from receiver.testing import sample_notification
from tests.support.manual import CHAPTERS, python_examples
from tests.support.sink_hosts import free_port
from tests.support.web_callers import API_TOKEN

app = Celery("tasks", broker="memory://")
(ORDER,) = (code for code in python_examples(CHAPTERS["client"]) if "autoretry_for" in code)


def vidgo_submit(prompt: str, callback_url: str) -> str:
    """A provider that counts what it bills."""
    billed.append(prompt)
    if prompt == "lost":
        raise TimeoutError
    return f"t{len(billed)}"


billed: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_billed() -> None:
    billed.clear()


@pytest.fixture
def placed(port: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], "asyncio.Future[object]"]:
    """Run the task with this id and prompt, in a thread: its result, or the error that it failed with."""
    monkeypatch.setenv("RECEIVER_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("RECEIVER_TOKEN", API_TOKEN)
    provider = ModuleType("vidgo")
    vars(provider)["submit"] = vidgo_submit
    monkeypatch.setitem(sys.modules, "vidgo", provider)
    manual: dict[str, Any] = {"__name__": "tasks"}
    exec(ORDER.replace("redis://127.0.0.1:6379/0", "memory://"), manual)
    order = manual["order"]

    def run(id_: str, prompt: str) -> "asyncio.Future[object]":
        applied = asyncio.to_thread(order.apply, args=("user-17", prompt), task_id=id_)
        return asyncio.ensure_future(_result(applied))

    return run


async def _result(applied: object) -> object:
    return (await applied).result  # type: ignore[misc]


def test_a_task_is_handed_the_event_that_the_sink_sent() -> None:
    told: list[Event] = []

    @receiver.client.celery.task(app, name="tasks.image_done")
    def image_done(event: Event) -> None:
        told.append(event)

    message = encode(sample_notification("evt_7", metadata={"order": 7}), "tasks.image_done")
    arguments, _, _ = json.loads(message.body)
    app.tasks[message.headers["task"]].apply(args=arguments, throw=True)
    (event,) = told
    assert (event.id, event.metadata, json.loads(event.raw)) == ("evt_7", {"order": 7}, arguments[0])


async def test_a_job_that_is_run_again_orders_once(placed: Callable[..., "asyncio.Future[object]"]) -> None:
    assert await placed("job-1", "a lighthouse") is None
    again = await placed("job-1", "a lighthouse")
    assert isinstance(again, UnknownOutcome)
    assert again.task_id == "t1"
    assert billed == ["a lighthouse"]


async def test_a_job_whose_order_may_have_left_is_not_ordered_again(
    placed: Callable[..., "asyncio.Future[object]"],
) -> None:
    assert isinstance(await placed("job-1", "lost"), TimeoutError)
    assert isinstance(await placed("job-1", "lost"), UnknownOutcome)
    assert billed == ["lost"]


async def test_without_a_receiver_the_job_is_tried_again_and_nothing_is_ordered(
    placed: Callable[..., "asyncio.Future[object]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECEIVER_URL", f"http://127.0.0.1:{free_port()}")
    failed = await placed("job-1", "a lighthouse")
    assert isinstance(failed, NotSent)
    assert billed == []
