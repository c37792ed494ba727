"""Both ways to the providers' door, the server's direct one and the app's: one answer, record and log."""

import asyncio
import hmac
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_plus

import msgspec
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.config.settings import Settings
from receiver.errors import Unavailable
from receiver.ingest import Ingest, Secrets
from receiver.models import Receipt, Recording
from receiver.runtime import Runtime, open_runtime
from receiver.testing import sample_callback
from receiver.web.app import build_app
from receiver.web.callbacks import CallbackDoor
from receiver.web.direct import DirectDoor, DirectExchange
from receiver.web.limits import BodyLimiter, Limits
from tests.hostile.requests import REQUESTS, request
from tests.support.failing_store import over_failing_store
from tests.support.loopback import Answer, post, serving, talk
from tests.support.waiting import until
from tests.support.web_callers import LogLines, callback_path, verdicts
from tests.test_ingest import SigningBody

AT_ONCE = 24
QUIET_SECONDS = 0.2
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
SHORT = b"POST /callbacks/a/b HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]"
PARTS = b'--x\r\nContent-Disposition: form-data; name="json"\r\n\r\n%b\r\n--x--\r\n' % sample_callback(
    "vidgo", "parts"
)
DATE = re.compile(rb"\r\ndate: [^\r]+")


class Said(NamedTuple):
    """What came of a corpus: each answer, each log line without its duration, the counters."""

    answers: dict[str, bytes]
    lines: list[str]
    counters: list[str]


def behind_another_app(doors: ASGIApp) -> ASGIApp:
    """The same doors as somebody mounts them, who offers no direct one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await doors(scope, receive, send)

    return app


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of what was taken directly."""
    paths: list[str] = []
    start = DirectExchange.start

    def noting(self: DirectExchange) -> None:
        paths.append(self._path)
        start(self)

    monkeypatch.setattr(DirectExchange, "start", noting)
    return paths


async def exchange(port: int, pieces: Sequence[bytes]) -> bytes:
    """All that is answered, up to the connection's end or a moment without more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
        async with asyncio.timeout(5):
            while piece := await asyncio.wait_for(reader.read(65_536), QUIET_SECONDS if answers else None):
                answers += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    return DATE.sub(b"", answers)


async def said(
    app: Callable[[Runtime], ASGIApp], settings: Settings, corpus: dict[str, Sequence[bytes]], lines: LogLines
) -> Said:
    lines.clear()
    room = asyncio.Semaphore(AT_ONCE)
    async with open_runtime(settings) as runtime, serving(app(runtime)) as port:

        async def one(pieces: Sequence[bytes]) -> bytes:
            async with room:
                return await exchange(port, pieces)

        answers = await asyncio.gather(*map(one, corpus.values()))
        metrics = runtime.metrics.render(None, runtime.clock.now()).decode()
    noted = [
        {name: value for name, value in line.items() if name != "seconds"}
        for line in lines
        if line["event"].startswith(("callback.", "request."))
    ]
    counters = [
        line for line in metrics.split("\n") if re.match(r"receiver_callbacks_(total|rejected)", line)
    ]
    return Said(dict(zip(corpus, answers, strict=True)), sorted(map(str, noted)), sorted(counters))


def usual(path: str, submission: str) -> dict[str, Sequence[bytes]]:
    """What providers and their proxies really send, and what they get wrong."""

    def sent(name: str, *lines: str, at: str = path, body: bytes | None = None) -> bytes:
        return request(f"usual-{name}", *lines, path=at, body=body)(path)

    big = sample_callback("vidgo", "usual-big", files=[f"https://files.example/{n}.png" for n in range(1500)])
    return {
        "usual": [sent("usual", "Content-Type: application/json")],
        "to a submission": [sent("submission", at=submission)],
        "by a proxy": [
            sent("proxy", "X-Forwarded-For: 192.0.2.1", "Via: 1.1 caddy", "traceparent: 00-0-0-00")
        ],
        "kept alive": [sent("first") + sent("second") + sent("third", "Connection: close")],
        "to be closed": [sent("closed", "Connection: close")],
        "kept by 1.0": [sent("1.0").replace(b"HTTP/1.1", b"HTTP/1.0", 1)],
        "body behind its head": sent("late").partition(b"{")[::2],
        "in three pieces": [sent("three")[:20], sent("three")[20:200], sent("three")[200:]],
        "not JSON": [sent("text", body=b"hello")],
        "a form": [sent("form", body=b"payload=" + quote_plus(sample_callback("vidgo", "form")).encode())],
        "parts": [sent("parts", "Content-Type: multipart/form-data; boundary=x", body=PARTS)],
        "empty": [sent("empty", body=b"")],
        "a list": [sent("list", body=b"[1, 2]")],
        "big": [sent("big", body=big)],
        "too big": [sent("huge", body=b"[" + b"1," * 80_000 + b"1]")],
        "unknown provider": [sent("whose", at="/callbacks/nobody/p.x")],
        "no provider": [sent("none", at="/callbacks/")],
        "no token": [sent("bare", at="/callbacks/vidgo")],
        "wrong token": [sent("wrong", at="/callbacks/vidgo/p.wrong")],
        "another's token": [sent("other", at=path.replace("vidgo", "apixo"))],
        "slash too many": [sent("slash", at=f"{path}/")],
        "token in the query": [sent("query", at=f"{path}?a=b")],
        "identity": [sent("identity", "Content-Encoding: identity")],
        "awaited": [sent("awaited", "Expect: 100-continue")],
        "another method": [sent("method").replace(b"POST", b"PUT", 1)],
        "wrong, then right": [sent("w", at="/callbacks/vidgo/p.x") + sent("r")],
        "so short that they are parsed together": [HEALTH + SHORT + HEALTH],
        "with a health check behind": [sent("health") + HEALTH],
    }


async def test_the_two_ways_give_the_same_answers_lines_and_counters(
    web_settings: Settings, tmp_path: Path, log_lines: LogLines, direct: list[str]
) -> None:
    ours = msgspec.structs.replace(web_settings, data_dir=tmp_path / "direct")
    async with open_runtime(ours) as runtime:
        path = callback_path(runtime)
        submission = f"/callbacks/vidgo/{runtime.tokens.for_submission('vidgo', 'sub_' + '0' * 32)}"
    corpus = usual(path, submission) | {each.name: [each.raw(path)] for each in REQUESTS}
    through_app = await said(
        lambda runtime: behind_another_app(build_app(runtime)), web_settings, corpus, log_lines
    )
    assert direct == []
    directly = await said(build_app, ours, corpus, log_lines)
    assert directly.answers == through_app.answers
    assert directly.lines == through_app.lines
    assert directly.counters == through_app.counters
    assert len(direct) > 40


@pytest.mark.parametrize("error", [Unavailable("away", retry_after_seconds=7), RuntimeError("a bug")])
async def test_what_the_store_cannot_do_is_told_alike(
    runtime: Runtime, error: Exception, direct: list[str]
) -> None:
    doors = build_app(over_failing_store(runtime, error))
    raw = post(callback_path(runtime), sample_callback("vidgo", "t1"))
    answers = []
    for app in (behind_another_app(doors), doors):
        async with serving(app) as port:
            answers.append(DATE.sub(b"", await talk(port, raw)))
    assert answers[0] == answers[1]
    assert Answer(answers[0]).status == (503 if isinstance(error, Unavailable) else 500)
    assert len(direct) == 1


@pytest.mark.parametrize("path", ["/callbacks/vidgo", None])
async def test_a_signature_in_the_headers_is_looked_at_on_either_way_whatever_the_token(
    runtime: Runtime, path: str | None, direct: list[str]
) -> None:
    secret, body = "a-secret-of-theirs", sample_callback("vidgo", "t1")
    ingest = Ingest(
        store=runtime.store,
        providers={"vidgo": SigningBody()},
        tokens=runtime.tokens,
        allow_untokened=False,
        wake=runtime.worker.wake,
        signed={"vidgo": Secrets([secret])},
    )
    doors = build_app(msgspec.structs.replace(runtime, ingest=ingest))
    signature = hmac.digest(secret.encode(), body, "sha256").hex()
    for app in (behind_another_app(doors), doors):
        async with serving(app) as port:
            for line, status in (
                (f"Signature: {signature}", 200),
                (f"Signature: {'0' * 64}", 401),
                ("X: y", 401),
            ):
                answer = Answer(await talk(port, post(path or callback_path(runtime), body, line)))
                assert answer.status == status
    assert len(direct) == 3


class Only:
    """A callback door alone, and the direct way to it."""

    def __init__(self, door: CallbackDoor) -> None:
        self._door = door
        self.direct = DirectDoor(door, lambda path: path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door(scope, receive, send)


@pytest.mark.parametrize("limit", [{"max_requests": 0}, {"max_waiting_bytes": 9}, {"max_token_bytes": 9}])
async def test_where_too_much_waits_both_refuse_and_nothing_stays_counted(
    runtime: Runtime, limit: dict[str, int], direct: list[str]
) -> None:
    intake = BodyLimiter(Limits(body_timeout_seconds=1, **limit))
    only = Only(CallbackDoor(runtime, intake))
    raw = post(callback_path(runtime), sample_callback("vidgo", "t1"))
    answers = []
    for app in (behind_another_app(only), only):
        async with serving(app) as port:
            answers.append(DATE.sub(b"", await talk(port, raw)))
    assert answers[0] == answers[1]
    assert Answer(answers[0]).status == 503
    assert intake.shares == {}
    assert len(direct) == 1


class GatedStore:
    """Records once it is let."""

    def __init__(self, runtime: Runtime) -> None:
        self._store = runtime.store
        self.gate = asyncio.Event()
        self.waiting = 0

    async def record(self, recording: Recording) -> Receipt:
        self.waiting += 1
        await self.gate.wait()
        return await self._store.record(recording)


@pytest.fixture
async def gated(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GatedStore]:
    store = GatedStore(runtime)
    monkeypatch.setattr(runtime.ingest, "_store", store)
    yield store
    store.gate.set()


def in_flight() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if "DirectExchange" in repr(task.get_coro())]


async def test_a_stop_waits_for_the_callback_that_is_being_recorded_and_ends_its_connection(
    runtime: Runtime, gated: GatedStore
) -> None:
    raw = request("t1")(callback_path(runtime))
    async with serving(build_app(runtime)) as port:
        asking = asyncio.create_task(talk(port, raw))
        await until(lambda: gated.waiting == 1)
        asyncio.get_running_loop().call_later(0.3, gated.gate.set)
    answer = Answer(await asking)
    assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_a_callback_that_the_stop_cuts_short_is_asked_for_again(
    runtime: Runtime, gated: GatedStore
) -> None:
    raw = post(callback_path(runtime), sample_callback("vidgo", "t1"))
    async with serving(build_app(runtime)) as port:
        asking = asyncio.create_task(talk(port, raw))
        await until(lambda: gated.waiting == 1)
        (task,) = in_flight()
        task.cancel()  # as the server does when it waits no longer
        answer = Answer(await asking)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


async def test_a_sender_that_leaves_before_the_answer_has_been_recorded_all_the_same(
    runtime: Runtime, gated: GatedStore
) -> None:
    async with serving(build_app(runtime)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("t1")(callback_path(runtime)))
        await until(lambda: gated.waiting == 1)
        writer.transport.abort()
        await asyncio.sleep(0.05)
        gated.gate.set()
        await until(lambda: not in_flight())
        assert await verdicts(runtime) == {"early": 1}


async def test_what_is_behind_a_callback_waits_for_its_answer(runtime: Runtime, gated: GatedStore) -> None:
    path = callback_path(runtime)
    async with serving(build_app(runtime)) as port:
        asking = asyncio.create_task(exchange(port, [request("a")(path) + request("b")(path)]))
        await until(lambda: gated.waiting == 1)
        await asyncio.sleep(0.1)
        assert gated.waiting == 1
        gated.gate.set()
        assert (await asking).count(b"HTTP/1.1 200 OK") == 2


async def test_an_idle_connection_holds_nothing_of_its_last_callback(
    runtime: Runtime, direct: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges: list[DirectExchange] = []
    start = DirectExchange.start

    def noting(self: DirectExchange) -> None:
        exchanges.append(self)
        start(self)

    monkeypatch.setattr(DirectExchange, "start", noting)
    async with serving(build_app(runtime)) as port:
        await exchange(port, [request("t1")(callback_path(runtime))])
    (ended,) = exchanges
    assert len(direct) == 1
    assert not any(hasattr(ended, name) for name in ("_body", "_headers", "_protocol"))


@pytest.mark.parametrize("public_path", ["/hooks", "/callbacks", "/a/b"])
async def test_a_public_path_is_understood_directly_whether_a_proxy_cuts_it_off_or_not(
    web_settings: Settings, public_path: str, direct: list[str]
) -> None:
    named = msgspec.structs.replace(web_settings, public_url=f"https://host.test{public_path}")
    async with open_runtime(named) as runtime, serving(build_app(runtime)) as port:
        for path in (callback_path(runtime), public_path + callback_path(runtime)):
            answer = Answer(await talk(port, post(path, sample_callback("vidgo", "t1"))))
            assert answer.status == 200
    assert len(direct) == 2
