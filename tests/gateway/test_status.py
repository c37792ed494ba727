"""A task's status through the gateway: its provider's own form, from our record, with links of ours."""

import asyncio
import base64
import json
import time
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.types import ASGIApp

from receiver import unified
from receiver.gateway.status import LOST_SPACING, LOST_WORDS
from receiver.ingest import read_report
from receiver.models import ReportState, Verdict
from receiver.plugins import load_providers
from receiver.polling.answers import Answer, stand_in
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.gateway.conftest import KEY
from tests.support.engines import on_both_engines
from tests.support.media_host import MediaHost, picture, says
from tests.support.order_host import OrderHost, tells
from tests.support.places import SAMPLES
from tests.support.waiting import until
from tests.support.web_callers import API_TOKEN, caller, log_task

PNG = picture()
LARGE = picture(size=(200, 200), compress_level=0)  # more than is kept in the document once it is stored
TASK = "task-unified-1757165031-uyujaw3d"
STATUS = f"/gateway/vidgo/api/generate/status/{TASK}"
ANSWER = (SAMPLES / "vidgo-submit-response.json").read_bytes()
BODY = {"model": "gpt-image-2", "input": {"prompt": "a lighthouse"}}


@pytest.fixture
def gateway_settings() -> dict[str, str]:
    return {"RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8"}


@pytest.fixture
def media(host: MediaHost) -> MediaHost:
    """Where the provider's files are."""
    host.put("/a.png", says(200, PNG))
    host.put("/b.png", says(200, PNG))
    return host


async def ordered(client: httpx2.AsyncClient, upstream: OrderHost, **headers: str) -> str:
    """The path of the callback URL of a new order."""
    upstream.answers.append(tells(ANSWER))
    answer = await client.post("/gateway/vidgo/api/generate/submit", json=BODY, headers=headers)
    assert answer.status_code == 200
    url: str = upstream.orders[-1].document["callback_url"]
    return url.removeprefix("https://receiver.test")


async def told(client: httpx2.AsyncClient, word: str) -> dict[str, Any]:
    """The status document, once it says so."""

    async def asked() -> dict[str, Any] | None:
        answer = await client.get(STATUS)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()["data"]
        return document if document["status"] == word else None

    return await until(asked)


@on_both_engines
async def test_a_finished_task_has_its_providers_document_with_links_that_are_ours(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, upstream: OrderHost, media: MediaHost
) -> None:
    path = await ordered(client, upstream)
    before = (await client.get(STATUS)).json()["data"]
    assert (before["status"], before["progress"], before["files"]) == ("not_started", 0, [])
    files = [media.url("/a.png"), media.url("/b.png")]
    callback = json.loads(sample_callback("vidgo", TASK, files=files))
    callback["data"]["unknown_field"] = {"kept": [1.0]}
    await stranger.post(path, content=json.dumps(callback).encode())
    document = await told(client, "finished")
    links = [file["file_url"] for file in document["files"]]
    for index, link in enumerate(links):
        assert link.startswith(f"https://receiver.test/assets/vidgo/{TASK}/{index}/{index}.png?expires=")
        shown = await stranger.get(link.removeprefix("https://receiver.test"))
        assert (shown.status_code, shown.content) == (200, PNG)
    for file, theirs in zip(document["files"], files, strict=True):
        file["file_url"] = theirs
    assert document == callback["data"]
    assert [sent.method for sent in upstream.sent] == ["POST"]  # nobody was asked


async def test_trap_10_a_file_that_cannot_be_had_keeps_its_providers_link_and_its_place(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, upstream: OrderHost, media: MediaHost
) -> None:
    path = await ordered(client, upstream)
    files = ["https://10.0.0.1/a.png", media.url("/b.png")]
    await stranger.post(path, content=sample_callback("vidgo", TASK, files=files))
    document = await told(client, "finished")
    assert document["files"][0]["file_url"] == files[0]
    assert document["files"][1]["file_url"].startswith("https://receiver.test/assets/")


@pytest.mark.parametrize(
    "gateway_settings",
    [{"RECEIVER_MAX_BODY_BYTES": "1000000", "RECEIVER_GATEWAY_LINKS": links} for links in ("ours", "theirs")],
)
async def test_a_file_that_stood_in_the_document_is_told_by_our_link_to_it(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    path = await ordered(client, upstream)
    inside = "data:image/png;base64," + base64.b64encode(LARGE).decode()
    await stranger.post(path, content=sample_callback("vidgo", TASK, files=[inside]))
    (file,) = (await told(client, "finished"))["files"]
    assert file["file_url"].startswith(f"https://receiver.test/assets/vidgo/{TASK}/0/0.png?expires=")


async def test_a_failed_task_has_its_providers_own_words(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    path = await ordered(client, upstream)
    callback = sample_callback("vidgo", TASK, error="the prompt is refused")
    await stranger.post(path, content=callback)
    await told(client, "failed")
    assert (await client.get(STATUS)).content == callback


@on_both_engines
async def test_a_task_given_up_as_lost_has_failed_in_its_providers_form(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    await ordered(client, upstream)
    await runtime.ingest.mark_lost("vidgo", TASK, "no result within 86400 s", runtime.clock.now())
    document = await told(client, "failed")
    assert (document["task_id"], document["files"], document["error_message"]) == (TASK, [], LOST_WORDS)


async def lost(client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime) -> None:
    """A task that was ordered and given up; nothing keeps its provider from being asked."""
    await ordered(client, upstream)
    await runtime.ingest.mark_lost("vidgo", TASK, "no result within 86400 s", runtime.clock.now())


def asked(upstream: OrderHost) -> int:
    return len([sent for sent in upstream.sent if sent.method == "GET"])


@pytest.fixture
def unspaced(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = msgspec.structs.replace(runtime.providers["vidgo"].facts, poll_spacing_seconds=0)
    monkeypatch.setattr(type(runtime.providers["vidgo"]), "facts", facts)


@on_both_engines
@pytest.mark.usefixtures("unspaced")
@pytest.mark.parametrize("error", ["the prompt is refused", None])
async def test_a_lost_task_that_has_ended_after_all_is_told_as_its_provider_tells_it(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime, error: str | None
) -> None:
    await lost(client, upstream, runtime)
    files = [] if error else ["https://nobody.invalid/a.png"]
    document = sample_callback("vidgo", TASK, files=files, error=error)
    upstream.otherwise = tells(document)
    for answer in await asyncio.gather(*(client.get(STATUS) for _ in range(20))):
        assert answer.content == document
    assert (await client.get(STATUS)).content == document
    assert asked(upstream) == 1
    page = await runtime.store.list_deliveries("vidgo", TASK, 10, None)
    assert page is not None
    verdicts = {delivery.verdict for delivery in page.rows}
    assert (Verdict.CONFLICT in verdicts) is bool(files)  # both ends are on record


@pytest.mark.usefixtures("unspaced")
@pytest.mark.parametrize("status", [200, 404, 500])
async def test_a_lost_task_is_asked_about_once_an_hour_however_often_its_caller_asks(
    client: httpx2.AsyncClient,
    upstream: OrderHost,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    await lost(client, upstream, runtime)
    running = (SAMPLES / "vidgo-status-running.json").read_bytes()
    upstream.otherwise = tells(running if status == 200 else {"code": status}, status)
    for _ in range(30):
        document = (await client.get(STATUS)).json()["data"]
        assert (document["status"], document["error_message"]) == ("failed", LOST_WORDS)
    assert asked(upstream) == (2 if status == 404 else 1)  # Vidgo may know a task at another path
    later = runtime.clock.now() + LOST_SPACING
    monkeypatch.setattr(runtime.clock, "now", lambda: later)
    finished = sample_callback("vidgo", TASK, files=["https://nobody.invalid/a.png"])
    upstream.otherwise = tells(finished)
    if status == 200:
        assert (await client.get(STATUS)).content == finished


@on_both_engines
async def test_what_stands_in_for_a_large_answer_is_never_told(
    client: httpx2.AsyncClient, upstream: OrderHost, media: MediaHost, runtime: Runtime
) -> None:
    await ordered(client, upstream)
    document = sample_callback("vidgo", TASK, files=[media.url("/a.png")])
    report = read_report(runtime.providers["vidgo"], document)
    await runtime.ingest.accept_answer("vidgo", report, stand_in(report, 3_000_000), runtime.clock.now())
    (file,) = (await told(client, "finished"))["files"]
    assert file["file_url"].startswith(f"https://receiver.test/assets/vidgo/{TASK}/0/0.png?expires=")


@pytest.mark.usefixtures("unspaced")
async def test_what_stands_in_for_a_large_answer_of_a_task_that_runs_is_rendered(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ordered(client, upstream)
    running = (SAMPLES / "vidgo-status-running.json").read_bytes()
    upstream.otherwise = tells(running)
    ask = runtime.status_client.ask

    async def ask_for_much(*question: Any) -> Answer:
        answer = await ask(*question)
        assert answer.report is not None
        return msgspec.structs.replace(answer, body=stand_in(answer.report, 3_000_000))

    monkeypatch.setattr(runtime.status_client, "ask", ask_for_much)
    for _ in range(2):
        document = (await client.get(STATUS)).json()["data"]
        assert (document["task_id"], document["status"]) == (TASK, "not_started")


@pytest.mark.usefixtures("unspaced")
async def test_who_asks_gets_the_answer_to_his_own_question(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    await ordered(client, upstream)
    upstream.otherwise = tells(running := (SAMPLES / "vidgo-status-running.json").read_bytes())
    assert (await client.get(STATUS)).content == running


async def test_what_retention_has_dropped_is_rendered_and_reads_the_same(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    upstream: OrderHost,
    media: MediaHost,
    runtime: Runtime,
) -> None:
    path = await ordered(client, upstream)
    await stranger.post(path, content=sample_callback("vidgo", TASK, files=[media.url("/a.png")]))
    before = unified.read({"data": await told(client, "finished")})
    await runtime.store.purge(runtime.clock.now(), 100)
    after = unified.read((await client.get(STATUS)).json())
    assert after.state is ReportState.COMPLETED
    assert [file.url.partition("?")[0] for file in after.files] == [
        file.url.partition("?")[0] for file in before.files
    ]


async def test_trap_10_a_task_that_runs_is_asked_about_at_the_providers_pace_however_often_clients_ask(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ordered(client, upstream)
    facts = runtime.providers["vidgo"].facts
    monkeypatch.setattr(
        type(runtime.providers["vidgo"]), "facts", msgspec.structs.replace(facts, poll_spacing_seconds=0.05)
    )
    await asyncio.sleep(0.1)
    running = (SAMPLES / "vidgo-status-running.json").read_bytes()
    upstream.otherwise = tells(running)
    began = time.monotonic()
    answers = await asyncio.gather(*(client.get(STATUS) for _ in range(100)))
    turns = (time.monotonic() - began) / 0.05
    assert {answer.status_code for answer in answers} == {200}
    monkeypatch.setattr(type(runtime.providers["vidgo"]), "facts", facts)
    assert (await client.get(STATUS)).content == running
    assert 1 <= len([sent for sent in upstream.sent if sent.method == "GET"]) <= turns + 2


async def test_an_end_that_the_provider_tells_when_asked_enters_the_record(
    client: httpx2.AsyncClient,
    backend: httpx2.AsyncClient,
    upstream: OrderHost,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await ordered(client, upstream)
    facts = msgspec.structs.replace(runtime.providers["vidgo"].facts, poll_spacing_seconds=0)
    monkeypatch.setattr(type(runtime.providers["vidgo"]), "facts", facts)
    failed = (SAMPLES / "vidgo-callback-failed.json").read_bytes()
    upstream.otherwise = tells(failed)
    assert (await client.get(STATUS)).content == failed
    assert (await backend.get(f"/tasks/vidgo/{TASK}")).json()["state"] == "failed"


async def test_a_task_that_a_backend_logged_is_told_too(
    client: httpx2.AsyncClient, backend: httpx2.AsyncClient
) -> None:
    await log_task(backend, "logged")
    answer = await client.get("/gateway/vidgo/api/generate/status/logged")
    assert answer.json()["data"]["status"] == "not_started"


async def test_a_task_that_is_not_in_the_log_is_the_providers_to_tell_where_its_key_was_shown(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.otherwise = tells({"code": 404, "message": "theirs"}, 404)
    answer = await client.get("/gateway/vidgo/api/generate/status/unknown%20one")
    assert (answer.status_code, answer.json()["message"]) == (404, "theirs")
    (sent,) = upstream.sent
    assert sent.target == "/api/generate/status/unknown%20one"
    assert sent.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("provider", ["vidgo", "apidot", "apixo", "reapi"])
@pytest.mark.parametrize("end", ["finished", "failed", "running"])
async def test_what_we_render_is_read_by_our_own_adapter_as_what_it_means(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    upstream: OrderHost,
    runtime: Runtime,
    provider: str,
    end: str,
) -> None:
    paths = {
        "vidgo": ("api/generate/submit", "api/generate/status/{}"),
        "apidot": ("api/generate/submit", "api/generate/status/{}"),
        "apixo": ("api/v1/generateTask/gpt-image-2", "api/v1/statusTask/gpt-image-2?taskId={}"),
        "reapi": ("api/v1/images/generations", "api/v1/tasks/{}"),
    }
    order_path, status_path = paths[provider]
    upstream.answers.append(tells((SAMPLES / f"{provider}-submit-response.json").read_bytes()))
    upstream.otherwise = tells({}, 500)
    answer = await client.post(f"/gateway/{provider}/{order_path}", json={**BODY, "prompt": "x"})
    submission = await runtime.store.get_submission(answer.headers["x-receiver-submission"])
    assert submission is not None
    assert submission.task_id is not None
    if end != "running":
        files, error = (["https://nobody.invalid/a.png"], None) if end == "finished" else ([], "no")
        body = sample_callback(provider, submission.task_id, files=files, error=error)
        token = runtime.tokens.for_submission(provider, submission.id)
        assert (await stranger.post(f"/callbacks/{provider}/{token}", content=body)).status_code == 200
        await runtime.store.purge(runtime.clock.now(), 100)
    states = {"finished": {ReportState.COMPLETED, ReportState.PROGRESS}, "failed": {ReportState.FAILED}}
    document = (await client.get(f"/gateway/{provider}/{status_path.format(submission.task_id)}")).json()
    report = load_providers()[provider].parse(document)
    assert report.task_id == submission.task_id
    assert report.state in states.get(end, {ReportState.PROGRESS})


class TestWithTokens:
    """Where keys are held here, and callers show tokens of ours."""

    TOKEN, OTHER, BOUND = "alpha-token-of-the-tests", "beta-token-of-the-tests", "gamma-token-of-tests"

    @pytest.fixture
    def gateway_settings(self) -> dict[str, str]:
        tokens = f"{API_TOKEN},alpha:{self.TOKEN},beta:{self.OTHER},gamma:{self.BOUND}@user-17"
        return {"RECEIVER_GATEWAY_KEYS": "hold", "RECEIVER_API_TOKENS": tokens}

    async def test_our_key_goes_on_in_the_place_of_a_token(self, app: ASGIApp, upstream: OrderHost) -> None:
        async with caller(app, self.TOKEN) as mine:
            await ordered(mine, upstream)
        assert upstream.sent[0].headers["authorization"] == f"Bearer {KEY}"
        async with caller(app, KEY) as with_key:
            assert (await with_key.get(STATUS)).status_code == 401

    async def test_trap_8_anothers_task_is_as_unknown_as_none(
        self, app: ASGIApp, upstream: OrderHost
    ) -> None:
        async with caller(app, self.TOKEN) as mine, caller(app, self.OTHER) as other:
            await ordered(mine, upstream, **{"X-Receiver-Owner": "user-17"})
            assert (await mine.get(STATUS)).status_code == 200
            assert (await mine.get(STATUS, headers={"X-Receiver-Owner": "user-17"})).status_code == 200
            refusals = [
                await other.get(STATUS),
                await mine.get(STATUS, headers={"X-Receiver-Owner": "user-18"}),
                await mine.get(STATUS.replace(TASK, "guessed")),
            ]
            assert {answer.status_code for answer in refusals} == {404}
            assert len({answer.content for answer in refusals}) == 1
        assert [sent.method for sent in upstream.sent] == ["POST"]

    async def test_a_token_that_is_bound_orders_for_its_owner_alone(
        self, app: ASGIApp, upstream: OrderHost
    ) -> None:
        async with caller(app, self.BOUND) as bound:
            await ordered(bound, upstream)
            assert (await bound.get(STATUS, headers={"X-Receiver-Owner": "user-17"})).status_code == 200
            refused = await bound.post(
                "/gateway/vidgo/api/generate/submit", json=BODY, headers={"X-Receiver-Owner": "user-18"}
            )
            assert refused.status_code == 403
            assert refused.json()["error"]["type"] == "authentication_error"
        assert len(upstream.orders) == 1


async def test_an_upload_is_passed_on_as_it_comes_and_the_balance_too(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.answers.append(tells({"code": 200, "data": {"file_url": "https://x.test/1"}}))
    body = b"--b\r\n" + b"x" * 500_000 + b"\r\n--b--"
    content_type = "multipart/form-data; boundary=b"
    path = "/gateway/vidgo/api/common/upload/stream"
    answer = await client.post(path, content=body, headers={"content-type": content_type})
    assert answer.status_code == 200
    (sent,) = upstream.sent
    assert (sent.body, sent.headers["content-type"]) == (body, content_type)
    assert sent.headers["content-length"] == str(len(body))
    upstream.answers.append(tells({"code": 200, "data": {"balance": 7}}))
    assert (await client.get("/gateway/vidgo/api/user/balance")).json()["data"] == {"balance": 7}
