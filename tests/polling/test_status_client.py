"""Asking providers over real connections: what an answer counts as, and what follows for the next one."""

import asyncio
import gzip
import json
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from receiver.fetching.client import open_plain_client
from receiver.links import inline_link
from receiver.models import Access, Outcome, RemoteFile, Report, ReportState, StatusRequest
from receiver.plugins import load_providers, names
from receiver.polling.status_client import StatusClient
from receiver.providers.vidgo import Vidgo
from receiver.simulator import SimulatorOptions, serve_simulator
from receiver.testing import TurnableClock, sample_callback
from tests.support.factories import NOW
from tests.support.fake_world import make_trust
from tests.support.media_host import Answer as Told
from tests.support.media_host import MediaHost, media_host, redirects, repeats, writes
from tests.support.samples import links_in_sample
from tests.support.status_host import KEY, MODEL, access, asking, running, status_path, tells
from tests.support.waiting import until

PATH = status_path("vidgo", "t1")
LINK = "https://cdn.test/secret-link.png"


def in_crumbs(body: bytes) -> Told:
    """Each byte in a chunk of its own: 2 MiB would keep the loop from all else for half a minute."""
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    return writes(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock(NOW)


@pytest.fixture
async def status_client(host: MediaHost, clock: TurnableClock) -> AsyncIterator[StatusClient]:
    async with asking(host, clock) as status_client:
        yield status_client


async def outcome(status_client: StatusClient, host: MediaHost, answer: Told) -> Outcome:
    """What an answer of Vidgo's counts as."""
    host.put(PATH, answer)
    return (await status_client.ask("vidgo", "t1", None)).outcome


# --- the question and its answer ------------------------------------------------------------------------


@pytest.mark.parametrize("provider", names("providers"))
async def test_every_provider_is_asked_where_it_says_and_understood(
    host: MediaHost, status_client: StatusClient, provider: str
) -> None:
    body = sample_callback(provider, "t1", files=[LINK])
    host.put(status_path(provider, "t1", MODEL), tells(body))

    answer = await status_client.ask(provider, "t1", MODEL)

    assert (answer.outcome, answer.body) == (Outcome.ANSWERED, body)
    assert answer.report is not None
    assert [file.url for file in answer.report.files] == links_in_sample(provider, [LINK])
    (head,) = host.requests
    facts = load_providers()[provider].facts
    assert f"{facts.key_header}: {facts.key_prefix}{KEY}\r\n".lower() in head.lower()
    assert "accept-encoding: identity\r\n" in head.lower()
    assert "cookie" not in head.lower()


async def test_a_provider_that_is_asked_by_post_gets_the_id_in_a_body(
    host: MediaHost, status_client: StatusClient
) -> None:
    host.put("/v1", tells(sample_callback("runware", "t1", files=[LINK])))
    assert (await status_client.ask("runware", "t1", MODEL)).outcome is Outcome.ANSWERED
    (head,) = host.requests
    assert head.startswith("POST /v1 ")
    assert "content-type: application/json\r\n" in head.lower()


FAL_STATUS = "/vendor/gpt-image-2/requests/t1/status"
FAL_RESULTS = "/vendor/gpt-image-2/requests/t1"
DONE = {"status": "COMPLETED", "request_id": "t1"}


async def test_results_apart_from_their_status_are_fetched_once_it_is_over_and_kept_as_one_document(
    host: MediaHost, status_client: StatusClient
) -> None:
    host.put(FAL_STATUS, tells({"status": "IN_PROGRESS", "request_id": "t1"}, status=202))
    assert (await status_client.ask("fal", "t1", MODEL)).outcome is Outcome.IN_PROGRESS
    host.put(FAL_STATUS, tells(DONE))
    host.put(FAL_RESULTS, tells({"images": [{"url": LINK}]}))

    answer = await status_client.ask("fal", "t1", MODEL)

    assert answer.outcome is Outcome.ANSWERED
    assert json.loads(answer.body) == {"answer": DONE, "results": {"images": [{"url": LINK}]}}
    assert [head.split(" ")[1] for head in host.requests] == [FAL_STATUS, FAL_STATUS, FAL_RESULTS]
    assert all(f"authorization: key {KEY}\r\n" in head.lower() for head in host.requests)


@pytest.mark.parametrize(
    ("results", "outcome"),
    [
        (tells({"detail": [{"msg": "too dark"}]}, status=422), Outcome.ANSWERED),
        (tells({"detail": "too late", "error_type": "request_timeout"}, status=504), Outcome.ANSWERED),
        (tells({"detail": "come again"}, status=503), Outcome.UNREADABLE),
        (tells(b"<html>", status=502), Outcome.UNREADABLE),
        (tells({"images": []}), Outcome.NO_FILES),
        (tells({}, status=401), Outcome.KEY_REFUSED),
        (tells({}, status=429), Outcome.RATE_LIMITED),
    ],
)
async def test_results_that_are_a_failure_end_the_task_where_they_are_about_its_run(
    host: MediaHost, status_client: StatusClient, results: Told, outcome: Outcome
) -> None:
    host.put(FAL_STATUS, tells(DONE))
    host.put(FAL_RESULTS, results)
    assert (await status_client.ask("fal", "t1", MODEL)).outcome is outcome


async def test_an_answer_that_holds_its_images_is_kept_whole_for_them(
    host: MediaHost, status_client: StatusClient
) -> None:
    image = {"type": "image_generation_call", "result": "iVBORw0KGgo" * 1_000}
    whole = {"id": "resp_1", "object": "response", "status": "completed", "output": [image]}
    host.put("/v1/responses/resp_1", tells(whole))

    answer = await status_client.ask("openai", "resp_1", None)

    assert answer.outcome is Outcome.ANSWERED
    assert answer.report is not None
    (file,) = answer.report.files
    assert file == RemoteFile(url=inline_link("iVBORw0KGgo" * 1_000), kind="image")
    assert json.loads(answer.body) == whole


async def test_a_large_answer_without_files_is_read_and_not_kept(
    host: MediaHost, status_client: StatusClient
) -> None:
    text = {"type": "message", "content": "a word of it" * 1_000}
    whole = {"id": "resp_1", "object": "response", "status": "completed", "output": [text]}
    host.put("/v1/responses/resp_1", tells(whole))

    answer = await status_client.ask("openai", "resp_1", None)

    assert answer.outcome is Outcome.ANSWERED
    assert answer.report is not None
    assert answer.report.is_fileless
    size = len(json.dumps(whole))
    assert json.loads(answer.body) == {"task_id": "resp_1", "state": "completed", "left_out": size}
    assert size > 10_000  # more than any other answer may have


async def test_the_simulated_providers_answer(clock: TurnableClock) -> None:
    options = SimulatorOptions(task_seconds=0.0, picture_pixels=64, keys={"vidgo": KEY})
    async with serve_simulator(options=options) as url, open_plain_client() as http:
        submitted = await http.post(
            f"{url}/vidgo/api/generate/submit", json=ORDER, headers={"Authorization": f"Bearer {KEY}"}
        )
        task_id = submitted.json()["data"]["task_id"]
        status_client, stranger = (
            StatusClient(providers=load_providers(), accesses={"vidgo": each}, http=http, clock=clock)
            for each in (at(f"{url}/vidgo"), at(f"{url}/vidgo", key="another"))
        )
        while (answer := await status_client.ask("vidgo", task_id, None)).outcome is Outcome.IN_PROGRESS:
            await asyncio.sleep(0.02)
        assert answer.outcome is Outcome.ANSWERED
        assert (await status_client.ask("vidgo", "no-such-task", None)).outcome is Outcome.UNKNOWN_TASK
        assert (await stranger.ask("vidgo", task_id, None)).outcome is Outcome.KEY_REFUSED


ORDER = {"model": "gpt-image-2", "input": {"prompt": "a lighthouse"}}


def at(base_url: str, *, key: str = KEY) -> Access:
    return Access(
        api_keys=(key,) if key else (), base_url=base_url, polls_per_minute=60, first_poll_seconds=300.0
    )


async def test_a_failure_is_an_answer(host: MediaHost, status_client: StatusClient) -> None:
    failed = tells(sample_callback("vidgo", "t1", error="too dark"))
    assert await outcome(status_client, host, failed) is Outcome.ANSWERED


async def test_a_task_that_still_runs_is_in_progress(host: MediaHost, status_client: StatusClient) -> None:
    assert await outcome(status_client, host, tells(running())) is Outcome.IN_PROGRESS


async def test_nobody_is_asked_who_wants_a_model_that_is_not_known(
    host: MediaHost, status_client: StatusClient
) -> None:
    answer = await status_client.ask("apixo", "t1", None)
    assert answer.outcome is Outcome.NO_MODEL
    assert host.requests == []
    assert status_client.room("apixo") == 6


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, Outcome.KEY_REFUSED),
        (403, Outcome.KEY_REFUSED),
        (402, Outcome.OUT_OF_CREDIT),
        (404, Outcome.UNKNOWN_TASK),
        (429, Outcome.RATE_LIMITED),
        (400, Outcome.REFUSED),
        (408, Outcome.HTTP_ERROR),
        (410, Outcome.REFUSED),
        (422, Outcome.REFUSED),
        (425, Outcome.HTTP_ERROR),
        (500, Outcome.HTTP_ERROR),
        (503, Outcome.HTTP_ERROR),
    ],
)
async def test_an_error_is_none_about_the_task_wherever_its_status_stands(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock, status: int, expected: Outcome
) -> None:
    error = {"code": status, "message": "no", "data": None}
    for answer in (tells(b"{}", status=status), tells(error), tells(error | {"code": str(status)})):
        assert await outcome(status_client, host, answer) is expected
        clock.turn_to(max(status_client.free_at("vidgo"), clock.now()))
    assert sum(head.startswith(f"GET {PATH} ") for head in host.requests) == 3


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("within", [True, False])
async def test_a_question_that_is_refused_while_others_are_answered_is_no_trouble(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock, status: int, *, within: bool
) -> None:
    await outcome(status_client, host, tells(running()))
    clock.turn(59)
    refused = tells({"code": status}) if within else tells(b"{}", status=status)
    host.put(PATH, refused)
    answer = await status_client.ask("vidgo", "t1", None)
    assert (answer.outcome, answer.detail) == (
        Outcome.REFUSED,
        f"the provider refused the question about this task ({status})",
    )
    assert status_client.problem("vidgo") is None
    assert status_client.room("vidgo") > 1


async def test_where_nothing_but_403_comes_it_is_the_key(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock
) -> None:
    forbidden = tells(b"{}", status=403)
    await outcome(status_client, host, tells(running()))
    found = []
    for _ in range(4):
        found.append(await outcome(status_client, host, forbidden))
        clock.turn(30)
    assert found == [Outcome.REFUSED] * 3 + [Outcome.KEY_REFUSED]


async def test_nobody_is_asked_while_a_trouble_stands(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock
) -> None:
    await outcome(status_client, host, tells(b"{}", status=401))
    clock.turn(20)
    host.put(PATH, tells(running()))

    answer = await status_client.ask("vidgo", "t1", None)

    assert (answer.outcome, answer.asked, answer.retry_after_seconds) == (Outcome.KEY_REFUSED, False, 40)
    assert answer.detail == "the provider refused the key (401)"
    assert len(host.requests) == 1
    # What could not be asked anyhow is no victim of the state.
    await outcome(status_client, host, tells(b"{}", status=401))
    assert (await status_client.ask("apixo", "t1", None)).outcome is Outcome.NO_MODEL
    clock.turn(40)
    assert (await status_client.ask("vidgo", "t1", None)).outcome is Outcome.KEY_REFUSED
    assert len(host.requests) == 2


async def test_what_a_task_says_of_itself_counts_for_more_than_a_code_beside_it(
    host: MediaHost, status_client: StatusClient
) -> None:
    document = json.loads(sample_callback("vidgo", "t1", error="too dark")) | {"code": 500}
    assert await outcome(status_client, host, tells(document)) is Outcome.ANSWERED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Sign in</html>",
        b"[]",
        b"{}",
        b'{"code": 200, "data": null}',
        b'{"code": 1000000000000000000000000}',
        b'{"code": true}',
        b'{"code": 200, "data": {"task_id": "t1", "status": "melted"}}',
        b'{"code": 200, "data": {"status": "finished"}}',
        sample_callback("vidgo", "t2"),
        b"[" * 5000,
    ],
)
async def test_what_is_not_understood_is_kept_for_the_task_that_was_asked_about(
    host: MediaHost, status_client: StatusClient, body: bytes
) -> None:
    host.put(PATH, tells(body))

    answer = await status_client.ask("vidgo", "t1", None)

    assert (answer.outcome, answer.body) == (Outcome.UNREADABLE, body)
    assert answer.report is not None
    assert (answer.report.task_id, answer.report.state) == ("t1", ReportState.UNCLEAR)
    assert answer.report.files == ()
    assert answer.detail
    assert status_client.problem("vidgo") is None


async def test_a_redirect_is_not_followed(host: MediaHost, status_client: StatusClient) -> None:
    host.put("/elsewhere", tells(sample_callback("vidgo", "t1")))
    assert await outcome(status_client, host, redirects("/elsewhere")) is Outcome.HTTP_ERROR
    assert len(host.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        tells(b"x" * 10_001),
        repeats(b"x" * 1000),
        tells(gzip.compress(b" " * 10_001), "content-encoding: gzip"),
        tells(gzip.compress(b"") * 1000, "content-encoding: gzip"),
        tells(gzip.compress(b"{}")[:-3], "content-encoding: gzip"),
        tells(b"\x1f\x8bnone", "content-encoding: gzip"),
        tells(sample_callback("vidgo", "t1"), "content-encoding: br"),
        tells(sample_callback("vidgo", "t1"), "content-encoding: gzip, gzip"),
        in_crumbs(sample_callback("vidgo", "t1") + b" " * 4000),
    ],
)
async def test_an_answer_that_is_too_long_or_cannot_be_unpacked_is_not_read(
    host: MediaHost, status_client: StatusClient, answer: Told
) -> None:
    host.put(PATH, answer)
    got = await status_client.ask("vidgo", "t1", None)
    assert (got.outcome, got.report, got.body) == (Outcome.UNREADABLE, None, b"")
    assert (got.detail or "").startswith("the answer cannot be read: ")


@pytest.mark.parametrize(
    ("label", "pack"),
    [
        *((label, gzip.compress) for label in ("gzip", "X-GZIP", "base64, gzip")),
        ("deflate", zlib.compress),
        *((label, bytes) for label in ("identity", "UTF-8", "binary", "none", "base64", "gzip")),
    ],
)
async def test_an_answer_is_read_though_it_is_packed_or_its_label_means_nothing(
    host: MediaHost, status_client: StatusClient, label: str, pack: Callable[[bytes], bytes]
) -> None:
    body = sample_callback("vidgo", "t1")
    host.put(PATH, tells(pack(body), f"content-encoding: {label}"))
    got = await status_client.ask("vidgo", "t1", None)
    assert (got.outcome, got.body) == (Outcome.ANSWERED, body)


async def test_a_malformed_line_in_an_answer_is_passed_over(host: MediaHost, clock: TurnableClock) -> None:
    body = sample_callback("vidgo", "t1")
    host.put(PATH, tells(body, "X-Frame-Options : DENY"))
    async with open_plain_client() as http:
        status_client = StatusClient(
            providers=load_providers(), accesses={"vidgo": at(host.url(""))}, http=http, clock=clock
        )
        got = await status_client.ask("vidgo", "t1", None)
    assert (got.outcome, got.body) == (Outcome.ANSWERED, body)


@pytest.mark.parametrize("answer", [repeats(b" ", pause_seconds=0.02), writes(b"", pause_seconds=5)])
async def test_an_answer_that_does_not_come_in_time_is_not_waited_for(
    host: MediaHost, clock: TurnableClock, answer: Told
) -> None:
    async with asking(host, clock, timeout_seconds=0.2) as status_client, asyncio.timeout(4.5):
        assert await outcome(status_client, host, answer) is Outcome.TIMEOUT


async def test_a_host_that_breaks_off_is_an_outcome(host: MediaHost, status_client: StatusClient) -> None:
    assert await outcome(status_client, host, writes(b"")) is Outcome.INTERRUPTED
    assert await outcome(status_client, host, writes(b"220 smtp ready\r\n\r\n")) is Outcome.INTERRUPTED


@pytest.mark.parametrize("base_url", ["nonsense", "ftp://api.test", "https:///"])
async def test_a_base_url_that_is_none_is_an_outcome(clock: TurnableClock, base_url: str) -> None:
    assert await asked_at(base_url, clock) is Outcome.BAD_URL


async def test_a_host_that_takes_no_connection_is_an_outcome(clock: TurnableClock) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        assert await asked_at(f"http://127.0.0.1:{port}", clock) is Outcome.CONNECT_FAILED


async def test_a_host_that_speaks_no_tls_is_an_outcome(clock: TurnableClock) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 X\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await asked_at(f"https://127.0.0.1:{port}", clock) is Outcome.TLS_FAILED


async def test_a_certificate_that_is_not_accepted_is_told_in_openssls_words(
    clock: TurnableClock, tmp_path: Path
) -> None:
    trust = make_trust(tmp_path)  # in which the client has none
    async with media_host(trust.server) as host, open_plain_client() as http:
        base_url = f"https://127.0.0.1:{host.port}"
        status_client = StatusClient(
            providers=load_providers(), accesses={"vidgo": at(base_url)}, http=http, clock=clock
        )
        answer = await status_client.ask("vidgo", "t1", None)
    assert answer.outcome is Outcome.TLS_FAILED
    assert (answer.detail or "").endswith(": self-signed certificate")
    assert "127.0.0.1" not in (answer.detail or "")


async def asked_at(base_url: str, clock: TurnableClock) -> Outcome:
    async with open_plain_client() as http:
        status_client = StatusClient(
            providers=load_providers(), accesses={"vidgo": at(base_url)}, http=http, clock=clock
        )
        answer = await status_client.ask("vidgo", "t1", None)
        assert answer.detail
        assert base_url not in answer.detail
        assert status_client.problem("vidgo") is not None
        return answer.outcome


# --- a second path --------------------------------------------------------------------------------------

MUSIC_PATH = "/api/generate/detail/music?task_id=t1"


def paths(host: MediaHost) -> list[str]:
    """What was asked for, in order."""
    return [head.split(" ")[1] for head in host.requests]


@pytest.mark.parametrize("provider", ["vidgo", "apidot"])
@pytest.mark.parametrize(
    ("model", "first", "second"),
    [("a-song-of-tomorrow", PATH, MUSIC_PATH), ("minimax-music-2.6", MUSIC_PATH, PATH)],
)
async def test_a_task_that_is_not_known_at_one_path_is_asked_about_at_the_other_once(
    host: MediaHost, status_client: StatusClient, provider: str, model: str, first: str, second: str
) -> None:
    host.put(second, tells(sample_callback(provider, "t1", files=[LINK])))
    assert (await status_client.ask(provider, "t1", model)).outcome is Outcome.ANSWERED
    assert paths(host) == [first, second]

    del host.answers[second]
    assert (await status_client.ask(provider, "t1", model)).outcome is Outcome.UNKNOWN_TASK
    assert paths(host) == 2 * [first, second]


async def test_a_404_in_the_body_of_a_200_leads_to_the_other_path_too(
    host: MediaHost, status_client: StatusClient
) -> None:
    host.put(PATH, tells({"code": 404, "message": "no such task"}))
    host.put(MUSIC_PATH, tells(running()))
    assert (await status_client.ask("vidgo", "t1", None)).outcome is Outcome.IN_PROGRESS


async def test_both_paths_count_against_the_pace(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock
) -> None:
    room = status_client.room("vidgo")
    await status_client.ask("vidgo", "t1", None)
    assert status_client.room("vidgo") == room - len(paths(host)) == room - 2


@pytest.mark.parametrize("answer", [tells(running()), tells(b"{}", status=400), tells(b"{}", status=503)])
async def test_only_what_is_not_known_is_asked_about_twice(
    host: MediaHost, status_client: StatusClient, answer: Told
) -> None:
    host.put(PATH, answer)
    await status_client.ask("vidgo", "t1", None)
    assert paths(host) == [PATH]


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_an_error_at_the_other_path_says_nothing_of_the_provider(
    host: MediaHost, status_client: StatusClient, status: int
) -> None:
    host.put(MUSIC_PATH, tells(b"{}", status=status))
    assert (await status_client.ask("vidgo", "t1", None)).outcome is Outcome.UNKNOWN_TASK
    assert status_client.problem("vidgo") is None


async def test_a_wish_to_be_asked_less_is_obeyed_at_the_other_path_too(
    host: MediaHost, status_client: StatusClient
) -> None:
    host.put(MUSIC_PATH, tells(b"{}", "retry-after: 300", status=429))
    assert (await status_client.ask("vidgo", "t1", None)).outcome is Outcome.RATE_LIMITED
    assert status_client.room("vidgo") == 0


# --- what may go wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task_id", ["../../admin", "a/b?c#d", "..", "图", "a b", "x" * 512])
async def test_a_task_id_stays_in_its_place(
    host: MediaHost, status_client: StatusClient, task_id: str
) -> None:
    path = status_path("reapi", task_id)
    host.put(path, tells(sample_callback("reapi", task_id)))
    assert (await status_client.ask("reapi", task_id, None)).outcome is Outcome.ANSWERED
    assert host.requests[0].startswith(f"GET {path} ")
    assert path.count("/") == status_path("reapi", "t1").count("/")


class Broken(Vidgo):
    """An adapter with bugs."""

    def parse(self, document: object) -> Report:
        raise RuntimeError(str(document))

    def status_request(self, task_id: str, model: str | None) -> StatusRequest:
        if model:
            raise RuntimeError(task_id)
        return super().status_request(task_id, model)


async def test_a_bug_in_an_adapter_is_an_outcome_that_tells_no_secret(
    host: MediaHost, clock: TurnableClock
) -> None:
    host.put(PATH, tells(sample_callback("vidgo", "t1", files=[LINK])))
    async with open_plain_client() as http:
        status_client = StatusClient(
            providers={"vidgo": Broken()}, accesses={"vidgo": access(host)}, http=http, clock=clock
        )
        unread = await status_client.ask("vidgo", "t1", None)
        assert (unread.outcome, unread.detail) == (Outcome.UNREADABLE, "the adapter crashed: RuntimeError")
        unasked = await status_client.ask("vidgo", "t1", "a-model")
        assert (unasked.outcome, unasked.detail) == (Outcome.CRASHED, "RuntimeError")
        assert status_client.problem("vidgo") is None


# --- keys -----------------------------------------------------------------------------------------------


async def test_without_a_key_nobody_is_asked(host: MediaHost, clock: TurnableClock) -> None:
    async with asking(host, clock, key=None) as status_client:
        assert not status_client.can_ask("vidgo")
        assert not status_client.can_ask("nobody")
        assert (await status_client.ask("vidgo", "t1", None)).outcome is Outcome.KEY_REFUSED
    assert host.requests == []


@pytest.mark.parametrize("key", ["schlüssel", "a\r\nx-evil: 1", "a\0b"])
async def test_a_key_that_no_header_carries_is_refused_before_it_is_sent(
    host: MediaHost, clock: TurnableClock, key: str
) -> None:
    async with asking(host, clock, key=key) as status_client:
        assert (await status_client.ask("vidgo", "t1", None)).outcome is Outcome.KEY_REFUSED
    assert host.requests == []


async def test_neither_key_nor_link_is_told(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock, caplog: pytest.LogCaptureFixture
) -> None:
    host.put(PATH, tells(sample_callback("vidgo", "t1", files=[LINK])))
    with capture_logs() as lines, caplog.at_level("DEBUG", logger="receiver"):
        answer = await status_client.ask("vidgo", "t1", None)
        refused = [await outcome(status_client, host, tells(b"{}", status=500))]
        clock.turn(5)
        refused.append(await outcome(status_client, host, tells(b"{}", status=401)))
    assert refused == [Outcome.HTTP_ERROR, Outcome.KEY_REFUSED]
    told = f"{answer.detail} {refused} {lines} {caplog.text} {status_client.problem('vidgo')} {access(host)}"
    assert KEY not in told
    assert "secret-link" not in told


# --- pace and troubles ----------------------------------------------------------------------------------


async def test_each_provider_has_its_own_pace(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock
) -> None:
    host.put(PATH, tells(running()))
    assert status_client.room("vidgo") == 6
    for _ in range(6):
        await status_client.ask("vidgo", "t1", None)
    assert (status_client.room("vidgo"), status_client.room("apidot")) == (0, 6)
    clock.turn_to(status_client.free_at("vidgo"))
    assert status_client.room("vidgo") == 1


@pytest.mark.parametrize(
    "value", ["40", format_datetime(NOW + timedelta(seconds=40)), "Sat, 21 Nov 2026 10:00:40 GMT"]
)
async def test_a_provider_that_is_asked_too_often_is_left_alone_as_long_as_it_wants(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock, value: str
) -> None:
    host.put(PATH, tells(b"{}", f"retry-after: {value}", status=429))
    answer = await status_client.ask("vidgo", "t1", None)
    assert answer.retry_after_seconds == 40
    assert status_client.free_at("vidgo") == NOW + timedelta(seconds=40)
    assert status_client.problem("vidgo") is None  # part of the trade
    assert status_client.room("apidot") == 6


@pytest.mark.parametrize("value", ["soon", "-1", "1e9", "", "٣"])
async def test_a_wish_that_makes_no_sense_is_none(
    host: MediaHost, status_client: StatusClient, value: str
) -> None:
    host.put(PATH, tells(b"{}", f"retry-after: {value}".encode().decode("latin-1"), status=429))
    assert (await status_client.ask("vidgo", "t1", None)).retry_after_seconds is None


@pytest.mark.parametrize("value", ["0", "Sat, 21 Nov 2026 09:00:00 GMT"])
async def test_a_wish_for_no_time_at_all_is_one_for_a_second(
    host: MediaHost, status_client: StatusClient, value: str
) -> None:
    host.put(PATH, tells(b"{}", f"retry-after: {value}", status=429))
    assert (await status_client.ask("vidgo", "t1", None)).retry_after_seconds == 1


@pytest.mark.parametrize("value", ["9" * 400, "999999999", "Fri, 31 Dec 9999 23:59:59 -0900"])
async def test_a_hostile_wish_is_bounded_to_a_day_and_told(
    host: MediaHost, status_client: StatusClient, value: str
) -> None:
    host.put(PATH, tells(b"{}", f"retry-after: {value}", status=429))
    answer = await status_client.ask("vidgo", "t1", None)
    assert answer.retry_after_seconds == 86_400
    assert status_client.free_at("vidgo") == NOW + timedelta(days=1)
    assert status_client.problem("vidgo") == (
        "rate_limited: the provider was asked too often (429), asked again in 86400 s"
    )


async def test_a_refused_key_is_told_until_it_works(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock
) -> None:
    with capture_logs() as lines:
        await outcome(status_client, host, tells(b"{}", status=401))
        assert status_client.problem("vidgo") == (
            "key_refused: the provider refused the key (401), asked again in 60 s"
        )
        clock.turn(60)
        assert status_client.room("vidgo") == 1
        assert status_client.problem("vidgo") == (
            "key_refused: the provider refused the key (401), asked again when a task is due"
        )
        await outcome(status_client, host, tells(b"{}", status=401))
        clock.turn(120)
        await outcome(status_client, host, tells(b"{}", status=404))
    assert status_client.problem("vidgo") is None
    assert status_client.room("vidgo") > 1
    assert [(line["event"], line["outcome"]) for line in lines] == [
        ("provider.troubled", "key_refused"),
        ("provider.recovered", "key_refused"),
    ]


async def test_after_a_trouble_one_question_finds_out_while_the_others_wait(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock
) -> None:
    await outcome(status_client, host, tells(b"{}", "retry-after: 40", status=429))
    clock.turn(39)
    assert status_client.room("vidgo") == 0
    clock.turn(1)
    assert status_client.room("vidgo") == 1
    host.put(PATH, writes(b"", pause_seconds=5))
    finding_out = asyncio.create_task(status_client.ask("vidgo", "t1", None))
    await until(lambda: len(host.requests) == 2)
    assert status_client.room("vidgo") == 0
    assert status_client.free_at("vidgo") == NOW + timedelta(seconds=70)
    finding_out.cancel()  # and its answer never comes
    clock.turn(30)
    assert status_client.room("vidgo") == 1
    await outcome(status_client, host, tells(running()))
    assert status_client.room("vidgo") > 1


async def test_from_a_long_trouble_those_who_wait_are_sent_away(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock
) -> None:
    await outcome(status_client, host, tells(b"{}", status=500))
    assert not status_client.turns_away("vidgo")
    clock.turn(5)
    await outcome(status_client, host, tells(b"{}", status=401))
    assert status_client.turns_away("vidgo")
    assert not status_client.turns_away("apidot")
    clock.turn(60)
    assert not status_client.turns_away("vidgo")


async def test_how_long_a_trouble_lasts_is_told_to_those_it_concerns(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock
) -> None:
    assert status_client.lasting("vidgo", {Outcome.KEY_REFUSED}) is None
    await outcome(status_client, host, tells(b"{}", status=401))
    clock.turn(60)
    await outcome(status_client, host, tells(b"{}", status=402))
    clock.turn(10)
    assert status_client.lasting("vidgo", {Outcome.OUT_OF_CREDIT}) == timedelta(seconds=70)
    assert status_client.lasting("vidgo", {Outcome.KEY_REFUSED, Outcome.TIMEOUT}) is None


async def test_a_key_that_worked_is_doubted_again_after_a_trouble(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock
) -> None:
    await outcome(status_client, host, tells(running()))
    await outcome(status_client, host, tells(b"{}", status=500))
    clock.turn(5)
    # The host is there again, but who is refused has not been let in.
    assert await outcome(status_client, host, tells(b"{}", status=400)) is Outcome.REFUSED
    assert status_client.problem("vidgo") is None
    assert await outcome(status_client, host, tells(b"{}", status=403)) is Outcome.KEY_REFUSED


async def test_questions_out_of_turn_have_half_of_the_pace_and_wait_for_a_trouble_to_end(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock
) -> None:
    host.put(PATH, tells(running()))
    for _ in range(6):
        await status_client.ask("vidgo", "t1", None)
    assert status_client.room("vidgo") == 0
    again = [status_client.out_of_turn("vidgo") for _ in range(4)]
    assert again == [None, None, None, NOW + timedelta(seconds=2)]
    clock.turn(10)
    await outcome(status_client, host, tells(b"{}", status=401))
    again_at = status_client.out_of_turn("vidgo")
    assert again_at == NOW + timedelta(seconds=70)
    clock.turn_to(again_at)
    assert status_client.out_of_turn("vidgo") is None


@pytest.mark.parametrize("back_seconds", [1, 86_400, 1e9])
async def test_a_clock_that_is_set_back_makes_nobody_wait_longer(
    host: MediaHost, status_client: StatusClient, clock: TurnableClock, back_seconds: float
) -> None:
    host.put(PATH, tells(running(), status=500))
    await asyncio.gather(*(status_client.ask("vidgo", "t1", None) for _ in range(6)))
    clock.turn(-back_seconds)
    assert status_client.free_at("vidgo") - clock.now() == timedelta(seconds=5)
    assert status_client.problem("vidgo") == "http_error: the provider answered (500), asked again in 5 s"
    again_at = status_client.out_of_turn("vidgo")
    assert again_at == clock.now() + timedelta(seconds=5)
    clock.turn(5)
    assert status_client.room("vidgo") == 1
    assert status_client.out_of_turn("vidgo") is None
    assert (await status_client.ask("vidgo", "t1", None)).asked
    assert status_client.free_at("vidgo") - clock.now() == timedelta(seconds=10)


async def test_many_questions_on_their_way_make_one_trouble(
    host: MediaHost, status_client: StatusClient
) -> None:
    host.put(PATH, tells(b"{}", status=500))
    await asyncio.gather(*(status_client.ask("vidgo", "t1", None) for _ in range(6)))
    assert status_client.free_at("vidgo") == NOW + timedelta(seconds=5)


async def test_a_question_that_is_cancelled_leaves_the_provider_to_others(
    host: MediaHost, status_client: StatusClient
) -> None:
    host.put(PATH, writes(b"", pause_seconds=5))
    asking_it = asyncio.create_task(status_client.ask("vidgo", "t1", None))
    await until(lambda: host.requests)
    asking_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking_it
    assert await outcome(status_client, host, tells(running())) is Outcome.IN_PROGRESS


def test_an_access_shows_no_key(tmp_path: Path) -> None:
    shown = at("https://api.test")
    assert KEY not in f"{shown} {shown!r} {msgspec.structs.replace(shown, first_poll_seconds=1.0)!r}"
    assert shown.base_url == "https://api.test"
