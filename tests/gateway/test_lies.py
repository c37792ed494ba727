"""A lie about an order, told with its provider's URL: it counts for nothing, and is called one in the end."""

import asyncio

import httpx2
import pytest

from receiver.models import Outcome, Verdict
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.support.engines import on_both_engines
from tests.support.media_host import Answer
from tests.support.order_host import OrderHost, hangs_up, tells
from tests.support.places import SAMPLES
from tests.support.waiting import until
from tests.support.web_callers import callback_path

SUBMIT = "/gateway/vidgo/api/generate/submit"
BODY = {"model": "gpt-image-2", "input": {"prompt": "a lighthouse"}}
TASK = "task-unified-1757165031-uyujaw3d"
LIE = sample_callback("vidgo", TASK, files=["https://evil.example/a.png"])

answered_at_once = tells((SAMPLES / "vidgo-submit-response.json").read_bytes())


async def lies(client: httpx2.AsyncClient, runtime: Runtime) -> None:
    assert (await client.post(callback_path(runtime), content=LIE)).status_code == 200


async def ends(client: httpx2.AsyncClient, upstream: OrderHost) -> None:
    """The provider calls the URL that the order was sent with."""
    url = upstream.orders[0].document["callback_url"].removeprefix("https://receiver.test")
    assert (await client.post(url, content=sample_callback("vidgo", TASK, error="no"))).status_code == 200


async def was_asked(runtime: Runtime) -> bool:
    """The provider has said that the task runs, and will not be asked again for a while."""
    task = await runtime.store.get_task("vidgo", TASK)
    return task is not None and task.poll is not None and task.poll.outcome is Outcome.IN_PROGRESS


async def verdicts(runtime: Runtime) -> list[Verdict]:
    task = await runtime.store.get_task("vidgo", TASK)
    assert task is not None
    return [each.verdict for each in task.deliveries]


@on_both_engines
@pytest.mark.parametrize(
    ("answer", "state"), [(answered_at_once, "bound"), (hangs_up, "unknown")], ids=["bound", "unknown"]
)
async def test_a_lie_about_an_order_is_a_conflict_once_its_own_callback_has_come(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    upstream: OrderHost,
    runtime: Runtime,
    answer: Answer,
    state: str,
) -> None:
    upstream.answers.append(answer)
    upstream.otherwise = tells((SAMPLES / "vidgo-status-running.json").read_bytes())
    ordered = await client.post(SUBMIT, json=BODY)
    assert ordered.headers["x-receiver-state"] == state
    await lies(stranger, runtime)
    if state == "bound":
        await until(lambda: was_asked(runtime))
    await ends(stranger, upstream)
    assert await verdicts(runtime) == [Verdict.CONFLICT, Verdict.ACCEPTED]


@on_both_engines
async def test_a_lie_that_comes_before_an_orders_answer_is_a_conflict_once_its_own_callback_has_come(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(answered_at_once)
    upstream.otherwise = tells((SAMPLES / "vidgo-status-running.json").read_bytes())
    upstream.gate.clear()
    ordering = asyncio.create_task(client.post(SUBMIT, json=BODY))
    await lies(stranger, runtime)
    upstream.gate.set()
    assert (await ordering).status_code == 200
    assert await verdicts(runtime) == [Verdict.UNCONFIRMED]
    await until(lambda: was_asked(runtime))
    await ends(stranger, upstream)
    assert await verdicts(runtime) == [Verdict.CONFLICT, Verdict.ACCEPTED]
