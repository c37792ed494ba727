"""The client beside a real service, with ``async`` and without: what it tells, waits for and fetches."""

import asyncio
import pickle
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import msgspec
import pytest

from receiver.client import (
    Asset,
    DownloadFailed,
    NotSent,
    Receiver,
    Rejected,
    Unavailable,
    UnknownOutcome,
    calls,
)
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.support.client_forms import Client, connected
from tests.support.media_host import media_host, picture, says
from tests.support.sink_hosts import free_port
from tests.support.waiting import until
from tests.support.web_callers import API_TOKEN, callback_path

IMAGE = picture("PNG", (40, 30))


@pytest.fixture
def environment() -> dict[str, str]:
    return {"RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8", "RECEIVER_CONFIRM": "never"}


@pytest.fixture(params=["sync", "async"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def receiver(form: str, port: int) -> AsyncIterator[Client]:
    async with connected(form, f"http://127.0.0.1:{port}", API_TOKEN) as client:
        yield client


@pytest.fixture
async def gone(form: str) -> AsyncIterator[Client]:
    """A receiver that is not there."""
    async with connected(form, f"http://127.0.0.1:{free_port()}", API_TOKEN) as client:
        yield client


async def row(backend: httpx2.AsyncClient, submission_id: str) -> tuple[str | None, bool]:
    """What the record has of a submission: its task, and whether it was withdrawn."""
    shown = (await backend.get(f"/submissions/{submission_id}")).json()
    return shown["task_id"], shown["withdrawn_at"] is not None


async def finish(runtime: Runtime, backend: httpx2.AsyncClient, task_id: str, *files: str) -> None:
    body = sample_callback("vidgo", task_id, files=files, error=None if files else "nsfw")
    assert (await backend.post(callback_path(runtime), content=body)).status_code == 200


# --- orders ---------------------------------------------------------------------------------------


async def test_what_is_reserved_has_all_that_was_said_and_a_callback_url(
    receiver: Client, backend: httpx2.AsyncClient
) -> None:
    reserved = await receiver.reserve("vidgo", "user-17", model="gpt-image-2", metadata={"order": [7]})
    shown = (await backend.get(f"/submissions/{reserved.id}")).json()
    assert (shown["owner"], shown["model"], shown["metadata"]) == ("user-17", "gpt-image-2", {"order": [7]})
    assert reserved.callback_url == shown["callback_url"]
    assert reserved.callback_url not in repr(reserved)
    await receiver.bind(reserved, "t1")
    assert (reserved.task_id, await row(backend, reserved.id)) == ("t1", ("t1", False))


async def test_the_same_key_is_the_same_reservation(receiver: Client) -> None:
    first, again = [await receiver.reserve("vidgo", "user-17", key="job-1") for _ in range(2)]
    assert first.id == again.id


async def test_left_with_a_task_it_is_bound_and_left_refused_it_is_withdrawn(
    receiver: Client, backend: httpx2.AsyncClient
) -> None:
    async with receiver.submission("vidgo", "user-17") as taken:
        taken.bind("t1")
    async with receiver.submission("vidgo", "user-17") as refused:
        refused.refused()
    assert await row(backend, taken.id) == ("t1", False)
    assert await row(backend, refused.id) == (None, True)


async def test_left_by_an_error_it_is_not_withdrawn_and_the_error_says_so(
    receiver: Client, backend: httpx2.AsyncClient
) -> None:
    with pytest.raises(TimeoutError) as left:
        async with receiver.submission("vidgo", "user-17") as submission:
            raise TimeoutError("the provider did not answer")
    assert await row(backend, submission.id) == (None, False)
    (note,) = left.value.__notes__
    assert submission.id in note
    assert "do not send it again" in note


async def test_an_error_after_the_order_was_taken_binds_it_all_the_same(
    receiver: Client, backend: httpx2.AsyncClient
) -> None:
    async def order() -> None:
        async with receiver.submission("vidgo", "user-17") as submission:
            submission.bind("t1")
            raise KeyError(submission.id)

    with pytest.raises(KeyError) as error:
        await order()
    assert await row(backend, error.value.args[0]) == ("t1", False)


async def test_an_order_that_certainly_did_not_leave_may_be_tried_again_with_its_key(
    receiver: Client, backend: httpx2.AsyncClient
) -> None:
    with pytest.raises(NotSent):
        async with receiver.submission("vidgo", "user-17", key="job-1") as first:
            raise NotSent("refused port")
    assert await row(backend, first.id) == (None, True)
    async with receiver.submission("vidgo", "user-17", key="job-1") as second:
        second.bind("t1")
    assert second.id == first.id
    assert await row(backend, first.id) == ("t1", False)


async def test_an_order_that_may_have_left_is_not_begun_a_second_time(receiver: Client) -> None:
    with pytest.raises(TimeoutError):
        async with receiver.submission("vidgo", "user-17", key="job-1") as first:
            raise TimeoutError
    with pytest.raises(UnknownOutcome) as begun:
        async with receiver.submission("vidgo", "user-17", key="job-1"):
            pytest.fail("it is billed twice")
    assert (begun.value.submission_id, begun.value.task_id) == (first.id, None)
    await receiver.bind(first, "t1")  # its callback, say
    with pytest.raises(UnknownOutcome) as ordered:
        async with receiver.submission("vidgo", "user-17", key="job-1"):
            pytest.fail("it is billed twice")
    assert ordered.value.task_id == "t1"
    assert str(pickle.loads(pickle.dumps(ordered.value))) == str(ordered.value)  # as job queues do


async def test_a_block_that_says_nothing_of_its_order_is_an_error(
    receiver: Client, backend: httpx2.AsyncClient
) -> None:
    with pytest.raises(UnknownOutcome, match="neither"):
        async with receiver.submission("vidgo", "user-17") as submission:
            pass
    assert await row(backend, submission.id) == (None, False)


async def test_without_a_receiver_nothing_is_ordered(gone: Client) -> None:
    with pytest.raises(NotSent, match="ConnectError"):
        async with gone.submission("vidgo", "user-17"):
            pytest.fail("nothing is reserved")


async def test_a_task_that_could_not_be_bound_is_named(
    receiver: Client, gone: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BIND_PAUSES", (0.0, 0.0))
    reserved = await receiver.reserve("vidgo", "user-17")
    with pytest.raises(UnknownOutcome) as told:
        await gone.bind(reserved, "t1")
    assert (told.value.submission_id, told.value.task_id) == (reserved.id, "t1")


async def test_a_task_that_was_ordered_already_is_logged_and_again_changes_nothing(
    receiver: Client, backend: httpx2.AsyncClient
) -> None:
    first, again = [await receiver.track("vidgo", "t1", "user-17", model="m") for _ in range(2)]
    assert first.id == again.id
    assert (await backend.get("/tasks/vidgo/t1")).json()["owner"] == "user-17"


async def test_a_refusal_is_told_with_its_type_and_never_tried_again(receiver: Client, port: int) -> None:
    with pytest.raises(Rejected) as unknown:
        await receiver.reserve("nobody", "user-17")
    assert (unknown.value.status, unknown.value.type) == (400, "urn:receiver:problem:unknown-provider")
    async with connected("sync", f"http://127.0.0.1:{port}", "a-wrong-token") as stranger:
        with pytest.raises(Rejected) as refused:
            await stranger.reserve("vidgo", "user-17")
    assert refused.value.status == 401
    assert "a-wrong-token" not in str(refused.value)


# --- tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["t1", "a/b c?d#e%2F..", ".."])
async def test_who_waits_is_told_as_soon_as_the_task_has_ended(
    receiver: Client, backend: httpx2.AsyncClient, runtime: Runtime, task_id: str
) -> None:
    await receiver.track("vidgo", task_id, "user-17")
    waiting = asyncio.ensure_future(receiver.wait("vidgo", task_id, timeout=30))
    await until(lambda: runtime.task_waiters.places)
    await finish(runtime, backend, task_id)
    task = await asyncio.wait_for(waiting, 10)
    assert (task.type, task.task_id, task.assets) == ("task.failed", task_id, ())
    assert task.error is not None
    assert task.error.message == "nsfw"


async def test_a_wait_ends_when_its_time_is_up(receiver: Client) -> None:
    await receiver.track("vidgo", "t1", "user-17")
    with pytest.raises(TimeoutError, match="t1"):
        await receiver.wait("vidgo", "t1", timeout=0.2)
    assert (await receiver.task("vidgo", "t1")).state == "submitted"


async def test_nobody_waits_for_a_task_that_nobody_knows(receiver: Client) -> None:
    with pytest.raises(Rejected) as unknown:
        await receiver.wait("vidgo", "no-such-task", timeout=30)
    assert unknown.value.status == 404


async def test_a_receiver_that_is_away_is_waited_for(gone: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "AGAIN_SECONDS", 0.05)
    with pytest.raises(TimeoutError):
        await gone.wait("vidgo", "t1", timeout=0.3)
    with pytest.raises(Unavailable):
        await gone.task("vidgo", "t1")


async def test_a_list_goes_on_over_all_of_its_pages(
    receiver: Client, runtime: Runtime, backend: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PAGE_ROWS", "3")
    for number in range(8):
        await receiver.track("vidgo", f"t{number}", "user-17")
    await receiver.track("vidgo", "another", "user-18")
    found = [task.task_id async for task in receiver.tasks(owner="user-17")]
    assert sorted(found) == [f"t{number}" for number in range(8)]


# --- files ----------------------------------------------------------------------------------------


async def stored(receiver: Client, backend: httpx2.AsyncClient, runtime: Runtime) -> Asset:
    """One file of a finished task; what a download asks is the service on this machine."""
    async with media_host() as host:
        await receiver.track("vidgo", "t1", "user-17")
        await finish(runtime, backend, "t1", host.put("/0.png", says(200, IMAGE)))
        task = await receiver.wait("vidgo", "t1", timeout=20)
    (asset,) = task.stored
    return asset


def at(asset: Asset, port: int, **changes: object) -> Asset:
    """Its link, on the port of this test's service."""
    assert asset.url is not None
    return msgspec.structs.replace(
        asset, **{"url": asset.url.replace("https://receiver.test", f"http://127.0.0.1:{port}"), **changes}
    )


async def test_a_file_is_there_in_whole_or_not_at_all(
    receiver: Client, backend: httpx2.AsyncClient, runtime: Runtime, port: int, tmp_path: Path
) -> None:
    asset = at(await stored(receiver, backend, runtime), port)
    folder = tmp_path / "files"
    folder.mkdir()
    await receiver.download(asset, folder / "0.png")
    assert (folder / "0.png").read_bytes() == IMAGE
    for wrong in ({"sha256": "ab" * 32}, {"bytes": len(IMAGE) - 1}):
        with pytest.raises(DownloadFailed):
            await receiver.download(msgspec.structs.replace(asset, **wrong), folder / "1.png")
    assert [path.name for path in folder.iterdir()] == ["0.png"]


async def test_a_link_that_has_run_out_is_no_hindrance_with_a_token(
    receiver: Client, backend: httpx2.AsyncClient, runtime: Runtime, port: int, tmp_path: Path
) -> None:
    asset = at(await stored(receiver, backend, runtime), port)
    assert asset.url is not None
    dead = msgspec.structs.replace(asset, url=asset.url.replace("signature=", "signature=x"))
    await receiver.download(dead, tmp_path / "0.png")
    assert (tmp_path / "0.png").read_bytes() == IMAGE


async def test_the_token_goes_to_no_other_host(receiver: Client, tmp_path: Path) -> None:
    async with media_host() as host:
        url = host.put("/assets/vidgo/t1/0", says(403))
        asset = Asset(index=0, state="stored", url=url)
        with pytest.raises(Rejected):
            await receiver.download(asset, tmp_path / "0.png")
        asked = host.requests
    assert len(asked) == 1
    assert API_TOKEN not in str(asked)


async def test_a_file_that_could_not_be_had_has_no_link(receiver: Client, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone"):
        await receiver.download(Asset(index=0, state="failed", outcome="gone"), tmp_path / "0.png")


# --- settings -------------------------------------------------------------------------------------


def test_where_it_is_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECEIVER_TOKEN", raising=False)
    with pytest.raises(ValueError, match="RECEIVER_TOKEN"):
        Receiver()
    monkeypatch.setenv("RECEIVER_TOKEN", "a-token")
    monkeypatch.setenv("RECEIVER_URL", f"http://127.0.0.1:{free_port()}/below/")
    with Receiver() as receiver, pytest.raises(NotSent):
        receiver.reserve("vidgo", "user-17")
