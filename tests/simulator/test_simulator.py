"""The simulator over a real port: what it says is what the providers document."""

import asyncio
import hashlib
import io
import socket
import sys
from datetime import timedelta
from typing import Any

import httpx2
import msgspec
import pytest
from PIL import Image

from receiver import payload
from receiver.clock import Clock
from receiver.errors import Misconfigured, Unavailable
from receiver.models import ReportState
from receiver.simulator import SimulatorOptions, create_simulator, serve_simulator
from receiver.simulator.images import FORMATS, SIZES, draw
from receiver.simulator.model import CallAttempt, Retries
from receiver.simulator.sender import Caller
from tests.support.playing import MODELS, PROVIDERS, PUSHING, id_in, playing, submission

# --- submissions, answers, files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "shape"),
    [
        ("vidgo", {"code": 200, "data": {"task_id", "status", "created_time"}}),
        ("apidot", {"code": 200, "data": {"task_id", "status", "created_time"}}),
        ("apixo", {"code": 200, "message": "success", "data": {"taskId"}}),
        ("reapi", {"id", "model", "status", "created_at"}),
    ],
)
async def test_a_submission_is_answered_in_the_documented_shape(provider: str, shape: Any) -> None:
    async with playing() as backend:
        answer = await backend.submit(provider)
        assert answer.status_code == 200
        document = answer.json()
        if isinstance(shape, set):
            assert set(document) == shape
        else:
            assert document == shape | {"data": document["data"]}
            assert set(document["data"]) == shape["data"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_results_are_real_images_of_the_size_that_truth_tells(provider: str) -> None:
    async with playing() as backend:
        task_id = id_in(provider, await backend.submit(provider, count=3))
        report = await backend.ended(provider, task_id)
        truth = await backend.truth()
        assert (truth["provider"], truth["task_id"], truth["state"]) == (provider, task_id, "completed")
        assert [file.url for file in report.files] == [file["url"] for file in truth["files"]]
        assert len(report.files) == 3
        for file in truth["files"]:
            answer = await backend.http.get(file["url"])
            assert answer.headers["content-type"] == file["media_type"]
            assert int(answer.headers["content-length"]) == len(answer.content) == file["bytes"]
            assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
            image = Image.open(io.BytesIO(answer.content))
            image.load()
            assert (image.width, image.height) == (file["width"], file["height"])
            assert Image.MIME[str(image.format)] == file["media_type"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_running_task_says_so_and_has_no_files_yet(provider: str) -> None:
    async with playing() as backend:
        task_id = id_in(provider, await backend.submit(provider, delay_seconds=60))
        report = PROVIDERS[provider].parse((await backend.ask(provider, task_id)).json())
        assert (report.task_id, report.state, report.files) == (task_id, ReportState.PROGRESS, ())


async def test_a_vidgo_task_moves_from_not_started_to_running(monkeypatch: pytest.MonkeyPatch) -> None:
    async with playing() as backend:
        task_id = id_in("vidgo", await backend.submit("vidgo", delay_seconds=600))
        first = (await backend.ask("vidgo", task_id)).json()["data"]
        in_five_minutes = Clock().now() + timedelta(minutes=5)
        monkeypatch.setattr(Clock, "now", lambda _: in_five_minutes)
        second = (await backend.ask("vidgo", task_id)).json()["data"]
        assert (first["status"], second["status"]) == ("not_started", "running")
        assert 0 <= first["progress"] < second["progress"] < 100


async def test_some_vidgo_models_answer_with_a_bare_id_and_no_status() -> None:
    async with playing() as backend:
        data = (await backend.submit("vidgo", model="seedream-5.0-lite", count=2)).json()["data"]
        assert set(data) == {"task_id", "created_time"}
        assert len(data["task_id"]) == 16


# --- callbacks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PUSHING)
async def test_a_callback_says_what_the_adapter_understands(provider: str) -> None:
    async with playing() as backend:
        task_id = id_in(provider, await backend.submit(provider, count=2))
        [body] = await backend.called(1)
        told = PROVIDERS[provider].parse(payload.decode(body))
        assert (told.task_id, told.state, len(told.files)) == (task_id, ReportState.COMPLETED, 2)
        ended = await backend.ended(provider, task_id)  # some say in their answers alone what they took
        assert told == msgspec.structs.replace(ended, credits=None)


async def test_callback_bodies_have_the_documented_fields() -> None:
    async with playing() as backend:
        await backend.submit("vidgo")
        vidgo: Any = payload.decode((await backend.called(1))[0])
        await backend.submit("apixo")
        apixo: Any = payload.decode((await backend.called(2))[1])
    assert set(vidgo) == {"code", "data"}
    assert set(vidgo["data"]) == {
        "task_id",
        "status",
        "files",
        "created_time",
        "progress",
        "error_message",
    }
    assert set(apixo["data"]) == {
        "taskId",
        "state",
        "resultJson",
        "costTime",
        "createTime",
        "completeTime",
    }
    assert isinstance(apixo["data"]["resultJson"], str)


@pytest.mark.parametrize(
    ("provider", "code", "message"),
    [
        ("vidgo", None, "too dark"),
        ("apidot", None, "too dark"),
        ("apixo", "CONTENT_VIOLATION", "too dark"),
        ("reapi", "80006", "too dark"),
    ],
)
async def test_a_task_can_be_made_to_fail(provider: str, code: str | None, message: str) -> None:
    async with playing() as backend:
        answer = await backend.submit(provider, outcome="failed", error=message)
        report = await backend.ended(provider, id_in(provider, answer))
        assert report.state is ReportState.FAILED
        assert (report.error_code, report.error_message) == (code, message)
        if provider in PUSHING:
            [body] = await backend.called(1)
            assert PROVIDERS[provider].parse(payload.decode(body)) == report


async def test_vidgo_tries_again_after_a_500_and_stops_when_acknowledged() -> None:
    async with playing(statuses=[500, 503, 204]) as backend:
        await backend.submit("vidgo")
        bodies = await backend.called(3)
        truth = await backend.truth(lambda task: len(task["callbacks"]) == 3)
        assert [call["status"] for call in truth["callbacks"]] == [500, 503, 204]
        assert [call["attempt"] for call in truth["callbacks"]] == [1, 2, 3]
        await asyncio.sleep(0.1)  # the next attempt would come after 0.04 s
        assert len(bodies) == 3
        assert len(set(bodies)) == 1


async def test_vidgo_gives_up_after_three_retries() -> None:
    async with playing(statuses=[500] * 9) as backend:
        await backend.submit("vidgo")
        await backend.called(4)
        await asyncio.sleep(0.2)
        assert len(backend.bodies) == 4


async def test_apixo_takes_nothing_but_200_for_an_answer() -> None:
    options = SimulatorOptions(task_seconds=0.0, retry_factor=0.001, picture_pixels=64)
    async with playing(options, statuses=[204, 202, 200]) as backend:
        await backend.submit("apixo")
        await backend.called(3)
        truth = await backend.truth(lambda task: len(task["callbacks"]) == 3)
        assert [call["status"] for call in truth["callbacks"]] == [204, 202, 200]


async def test_truth_keeps_the_answers_and_not_the_callback_url() -> None:
    async with playing() as backend:
        await backend.submit("vidgo")
        truth = await backend.truth(lambda task: task["callbacks"])
        assert truth["callbacks"][0]["answer"] == {"status": "accepted"}
        assert "/callbacks/token" not in (await backend.http.get("/truth")).text


async def test_a_receiver_that_is_not_there_is_noted_as_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with playing() as backend:
        backend.callback_url = f"http://127.0.0.1:{port}/"
        await backend.submit("vidgo")
        truth = await backend.truth(lambda task: len(task["callbacks"]) == 4)
        assert {(call["status"], call["error"]) for call in truth["callbacks"]} == {(None, "ConnectError")}


async def test_a_receiver_that_never_answers_is_given_up_after_the_providers_time_limit() -> None:
    attempts: list[CallAttempt] = []
    caller = Caller(Clock(), retry_factor=0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        patience = Retries(waits_seconds=(1.0,), timeout_seconds=0.05)
        await caller.call(url, b"{}", patience, attempts.append)
    await caller.aclose()
    assert [(done.status, done.error) for done in attempts] == [(None, "timeout"), (None, "timeout")]


async def test_a_hundred_and_fifty_duplicates_arrive_at_once() -> None:
    async with playing() as backend:
        await backend.submit("vidgo", duplicate=150)
        assert len(set(await backend.called(150))) == 1


async def test_a_callback_can_be_repeated_dropped_or_early() -> None:
    async with playing(SimulatorOptions(task_seconds=60, picture_pixels=64)) as backend:
        await backend.submit("vidgo", duplicate=3, delay_seconds=0)
        assert len(await backend.called(3)) == 3

        answer = await backend.submit("apidot", call_before_answer=True)
        assert len(backend.bodies) == 4
        told = PROVIDERS["apidot"].parse(payload.decode(backend.bodies[3]))
        assert told.task_id == id_in("apidot", answer)

        dropped = await backend.submit("apixo", drop_callback=True, delay_seconds=0)
        await backend.ended("apixo", id_in("apixo", dropped))
        await asyncio.sleep(0.1)
        assert len(backend.bodies) == 4


async def test_reapi_never_calls_back() -> None:
    async with playing() as backend:
        path, body = submission("reapi", "gpt-image-2", 1, None)
        answer = await backend.http.post(path, json=body | {"callback_url": backend.callback_url})
        await backend.ended("reapi", id_in("reapi", answer))
        await asyncio.sleep(0.1)
        assert backend.bodies == []


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_with_a_key_set_nobody_else_gets_in(provider: str) -> None:
    options = SimulatorOptions(keys={provider: "right"}, task_seconds=60)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic right"}):
        async with playing(options, headers=headers) as backend:
            assert (await backend.submit(provider)).status_code == 401
            assert (await backend.ask(provider, "any")).status_code == 401
            assert (await backend.http.get("/truth")).json() == []
    async with playing(options, headers={"Authorization": "Bearer right"}) as backend:
        assert (await backend.submit(provider)).status_code == 200


async def test_reapi_numbers_its_refusals() -> None:
    codes = []
    for headers in ({}, {"Authorization": "Basic x"}, {"Authorization": "Bearer x"}):
        async with playing(SimulatorOptions(keys={"reapi": "right"}), headers=headers) as backend:
            error = (await backend.submit("reapi")).json()["error"]
            assert set(error) == {"code", "message", "request_id"}
            codes.append(error["code"])
    assert codes == [10001, 10002, 10003]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_unknown_task_is_not_found_and_reads_as_nothing(provider: str) -> None:
    async with playing() as backend:
        answer = await backend.ask(provider, "task-of-somebody-else")
        assert answer.status_code == 404
        assert PROVIDERS[provider].parse(answer.json()).state is ReportState.UNCLEAR


async def test_an_apixo_task_is_found_only_under_its_own_model() -> None:
    async with playing() as backend:
        task_id = id_in("apixo", await backend.submit("apixo"))
        answer = await backend.http.get("/apixo/api/v1/statusTask/flux-2", params={"taskId": task_id})
        assert answer.status_code == 404


async def test_apixo_words_a_missing_prompt_as_documented() -> None:
    async with playing() as backend:
        answer = await backend.http.post("/apixo/api/v1/generateTask/flux-2", json={"input": {}})
        assert answer.status_code == 400
        assert answer.json() == {
            "code": 400,
            "message": "Invalid request",
            "data": {"error": "Missing required field: input.prompt"},
        }


@pytest.mark.parametrize(
    ("provider", "change"),
    [
        ("vidgo", {"model": None}),
        ("vidgo", {"model": "gpt-image-2", "input": {"prompt": "hills", "n": 1}}),
        ("vidgo", {"input": {"prompt": "hills", "n": 16}}),
        ("vidgo", {"input": {"prompt": "hills", "n": "2"}}),
        ("vidgo", {"callback_url": "https://example.com/callbacks"}),
        ("vidgo", {"callback_url": "http://127.0.0.1@example.com/"}),
        ("vidgo", {"callback_url": "http://127.0.0.1:99999/"}),
        ("vidgo", {"callback_url": "http://127.0.0.1/" + "x" * 2048}),
        ("vidgo", {"simulate": {"outcom": "failed"}}),
        ("vidgo", {"simulate": {"duplicate": 0}}),
        ("apidot", {"input": {}}),
        ("apixo", {"request_type": "callback", "callback_url": None}),
        ("apixo", {"request_type": "sync"}),
        ("reapi", {"model": "gpt-image-2", "n": 2}),
        ("reapi", {"prompt": ""}),
    ],
)
async def test_a_wrong_submission_is_refused(provider: str, change: dict[str, Any]) -> None:
    async with playing() as backend:
        path, body = submission(provider, MODELS[provider], 1, None)
        assert (await backend.http.post(path, json=body | change)).status_code == 400
        assert (await backend.http.get("/truth")).json() == []


async def test_a_submission_that_is_not_json_is_refused() -> None:
    async with playing() as backend:
        answer = await backend.http.post("/vidgo/api/generate/submit", content=b"not json")
        assert answer.status_code == 400


async def test_media_exists_only_for_what_was_made() -> None:
    async with playing() as backend:
        task_id = id_in("vidgo", await backend.submit("vidgo", delay_seconds=60))
        for path in (f"/media/vidgo/{task_id}/0.png", "/media/vidgo/other/0.png", "/media/x/y/0.png"):
            assert (await backend.http.get(path)).status_code == 404


@pytest.mark.parametrize("path", ["/vidgo/api/generate/submit", "/vidgo/api/common/upload/base64"])
async def test_an_order_whose_sender_is_killed_in_the_middle_is_none_and_no_fault(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_simulator() as url, httpx2.AsyncClient(base_url=url) as client:
        port = int(url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer k\r\n"
        writer.write(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        assert (await client.get("/truth")).json() == []
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []


# --- drawing and serving ------------------------------------------------------------------------------


def test_a_picture_is_the_same_for_the_same_task_and_differs_between_files() -> None:
    first, second = draw("task-a", 0), draw("task-a", 1)
    draw.cache_clear()
    assert draw("task-a", 0) == first != second


def test_pictures_come_in_every_format_and_several_sizes() -> None:
    pictures = [draw("task-a", index) for index in range(3)]
    assert {picture.media_type for picture in pictures} == {media_type for _, media_type, _ in FORMATS}
    assert len({(picture.width, picture.height) for picture in pictures}) == 3
    assert {(picture.width, picture.height) for picture in pictures} <= set(SIZES)


def test_without_pillow_the_operator_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "receiver.simulator.images")
    with pytest.raises(Misconfigured, match=r"pip install 'callback-receiver\[demo\]'"):
        create_simulator()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.com", "::"])
async def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(Misconfigured, match="loopback"):
        async with serve_simulator(host):
            pass


async def test_a_port_that_is_taken_is_the_operators_to_change() -> None:
    async with serve_simulator() as url:
        port = httpx2.URL(url).port
        assert port is not None
        with pytest.raises(Unavailable, match=str(port)):
            async with serve_simulator(port=port):
                pass


async def test_leaving_the_block_stops_it_even_in_the_middle_of_a_task() -> None:
    async with asyncio.timeout(60):
        async with playing(SimulatorOptions(task_seconds=3600)) as backend:
            await backend.submit("vidgo")
            url = backend.http.base_url
    with pytest.raises(httpx2.ConnectError):
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=60.0) as http:
            await http.get(url.join("/truth"))
