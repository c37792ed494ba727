"""`receiver show`: from any id that somebody has to the story of its task, asked of a real service."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from typing import NamedTuple

import httpx2
import pytest

from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.support.web_callers import ADMIN_TOKEN, callback_path, log_task

pytestmark = [pytest.mark.usefixtures("plain_environment"), pytest.mark.slow]  # a process for each command


@pytest.fixture
def environment() -> dict[str, str]:
    return {"RECEIVER_METADATA_INDEX": "order"}


class Result(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


async def command(port: int, *arguments: str) -> Result:
    """In a process of its own, as the service runs in this one."""
    environ = {"RECEIVER_URL": f"http://127.0.0.1:{port}", "RECEIVER_TOKEN": ADMIN_TOKEN}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "receiver", *arguments), env=os.environ | environ, stdout=PIPE, stderr=PIPE
    )
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, stdout.decode(), stderr.decode())


@pytest.fixture
async def ids(backend: httpx2.AsyncClient, runtime: Runtime) -> dict[str, str]:
    """Of a task that failed, by the first letters of what each is the id of."""
    logged = await log_task(backend, "task-1", metadata={"order": 7})
    await log_task(backend, "task-2", provider="vidgo")
    await log_task(backend, "task-2", provider="apixo")
    await backend.post(callback_path(runtime), content=sample_callback("vidgo", "task-1", error="no"))
    task = (await backend.get("/tasks/vidgo/task-1")).json()
    return {
        "a submission": logged["id"],
        "an event": task["event_id"],
        "a delivery": task["deliveries"][0]["id"],
        "a notification": task["notifications"][0]["id"],
    }


async def test_any_id_of_a_task_leads_to_its_story(port: int, ids: dict[str, str]) -> None:
    for what, id_ in ids.items():
        shown = await command(port, "show", id_)
        assert (shown.exit_code, shown.stderr) == (0, "")
        first, second, *_ = shown.stdout.splitlines()
        assert first == f"{id_} is {what} of vidgo/task-1"
        assert second == "vidgo task-1"
        assert "Timeline" in shown.stdout
    by_revision = await command(port, "show", f"{ids['an event']}.1", "--json")
    by_subject = await command(port, "show", "vidgo/task-1", "--json")
    by_task_id = await command(port, "show", "task-1", "--json")
    for answer in (by_revision, by_subject, by_task_id):
        assert json.loads(answer.stdout)["submission_id"] == ids["a submission"]


async def test_showing_a_task_can_wait_for_its_end(port: int, ids: dict[str, str]) -> None:
    assert ids
    ended = await command(port, "tasks", "show", "vidgo", "task-1", "--wait", "60", "--json")
    assert json.loads(ended.stdout)["state"] == "failed"
    in_vain = await command(port, "tasks", "show", "vidgo", "task-2", "--wait", "0.2", "--json")
    assert json.loads(in_vain.stdout)["state"] == "submitted"
    assert (await command(port, "tasks", "show", "vidgo", "task-2", "--wait", "61")).exit_code == 2


async def test_a_task_id_that_several_providers_have_lists_their_tasks(
    port: int, ids: dict[str, str]
) -> None:
    assert ids
    shown = await command(port, "show", "task-2")
    assert shown.exit_code == 0
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [
        ["apixo", "task-2"],
        ["vidgo", "task-2"],
    ]
    assert "receiver show PROVIDER/TASK_ID" in shown.stderr
    assert (await command(port, "show", "apixo/task-2")).stdout.startswith("apixo task-2\n")


async def test_a_reservation_and_a_replay_are_shown_as_what_they_are(
    port: int, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    reserved = (await backend.post("/submissions", json={"provider": "vidgo", "owner": "ann"})).json()["id"]
    replay = (await admin.post("/replays", json={"filter": {}, "stage": "poll"})).json()["id"]
    shown = await command(port, "show", reserved)
    assert shown.stdout.startswith(f"{reserved} is a submission that no task is bound to.\n")
    shown = await command(port, "show", replay)
    assert shown.stdout.startswith(f"{replay} is a replay.\n")
    assert json.loads((await command(port, "show", replay, "--json")).stdout)["id"] == replay


async def test_what_is_unknown_is_nothing_found_and_named(port: int) -> None:
    for id_ in ("sub_0", "evt_0.2", "dlv_7", "out_x", "rpl_0", "nothing", "vidgo/nothing", "a/b/c", "/"):
        shown = await command(port, "show", id_)
        assert (shown.exit_code, shown.stdout) == (3, "")
        looked_for = "submission, event, delivery, notification, replay or task"
        assert shown.stderr == f"receiver: no {looked_for} {id_} found\n"


async def test_tasks_are_listed_by_their_metadata(port: int, ids: dict[str, str]) -> None:
    assert ids
    listed = await command(port, "tasks", "list", "--metadata", "order=7", "--json")
    assert [task["task_id"] for task in json.loads(listed.stdout)["tasks"]] == ["task-1"]
    refused = await command(port, "tasks", "list", "--metadata", "user=ann")
    assert refused.exit_code == 2
    assert "RECEIVER_METADATA_INDEX" in refused.stderr
    assert (await command(port, "tasks", "list", "--metadata", "user")).exit_code == 2
