"""What a whole service says of its work, at its most talkative, while everything goes wrong: no secret."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import pytest

from receiver.testing import sample_callback
from tests.e2e.service import ADMIN_TOKEN, API_TOKEN, SECRET, Consumer, Receiver, bearer, consumer, receiver
from tests.support.fake_world import make_trust
from tests.support.media_host import MediaHost, media_host, picture, redirects, repeats, says, writes
from tests.support.sink_hosts import SharedRedis, free_port
from tests.support.waiting import until

PROMPT = "CANARY prompt of a lighthouse in the rain"
FAILURE = f"refused: {PROMPT}"
USER, PASSWORD = "CANARYuser", "CANARYpassword"
WEBHOOK_KEY = base64.b64encode(b"CANARY-key-of-the-webhooks!!").decode()
# On links. Distinct by case, so that a hit tells where it came from.
QUERY = "X-Sig=CANARYlinksignature&Expires=1"

API_KEYS = {f"{name}_API_KEY": f"CANARY-key-of-{name}" for name in ("VIDGO", "APIDOT", "APIXO", "REAPI")}


class Scene:
    """A service, everybody it talks to, and the problem documents it gave."""

    def __init__(self, service: Receiver, hook: Consumer) -> None:
        self.service = service
        self.hook = hook
        self.secrets: set[str] = set()
        self.problems: list[str] = []
        self.statuses: set[int] = set()

    async def ask(self, method: str, path: str, token: str | None = None, **more: Any) -> httpx2.Response:
        """Any request that may be refused; what the refusal says is kept."""
        answer = await self.service.http.request(
            method,
            path,
            headers=bearer(token) if token else {},
            **more,
        )
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json", (path, answer.text)
            self.problems.append(f"{answer.headers}\n{answer.text}")
            self.statuses.add(answer.status_code)
        return answer

    async def submit(self, task_id: str | None = None, **fields: Any) -> str:
        """Log a submission with a prompt; the path of its callback URL, which is a secret from now on."""
        row = await self.service.submit(
            task_id, request={"prompt": PROMPT, "key": API_KEYS["VIDGO_API_KEY"]}, **fields
        )
        path: str = urlsplit(row["callback_url"]).path
        self.secrets |= {path, path.rpartition("/")[2], path.rpartition(".")[2]}
        return path


@pytest.fixture
async def tls_host(tmp_path: Path) -> AsyncIterator[MediaHost]:
    """A media host whose certificate nobody trusts."""
    folder = tmp_path / "tls"
    folder.mkdir()
    async with media_host(make_trust(folder).server) as host:
        yield host


@pytest.fixture
def redis() -> Iterator[SharedRedis]:
    host = SharedRedis()
    yield host
    host.close()


def sinks(hook: Consumer, failing: Consumer, redis: SharedRedis) -> dict[str, str]:
    """Every kind of destination, in good and in bad order."""
    userinfo = f"{USER}:{PASSWORD}@"
    path = "CANARYhook?key=CANARYhookkey"
    urls = {
        "FILE": "jsonl:events.jsonl",
        "HOOK": f"http://{userinfo}127.0.0.1:{hook.port}/{path}",
        "FAILING": f"http://{userinfo}127.0.0.1:{failing.port}/{path}",
        "CLOSED": f"http://{userinfo}127.0.0.1:{free_port()}/{path}",
        "PLAIN": f"https://{userinfo}127.0.0.1:{hook.port}/{path}",  # TLS to one who does not speak it
        "STREAM": redis.url,
        "LOCKED": f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0?stream=CANARYstream",
        "FOLDER": "jsonl:assets",  # cannot be written
    }
    few = {f"RECEIVER_SINK_{name}_MAX_AGE_SECONDS": "1" for name in urls}
    signed = {
        f"RECEIVER_SINK_{name}_SECRET": f"whsec_{WEBHOOK_KEY}" for name in ("HOOK", "FAILING", "CLOSED")
    }
    return {f"RECEIVER_SINK_{name}": url for name, url in urls.items()} | few | signed


async def play_links(scene: Scene, host: MediaHost, tls_host: MediaHost) -> None:
    """Files to be had and not to be had, in every way that has words of its own."""
    body = picture()
    links = {
        "stored": host.put(f"/CANARYpath/good.png?{QUERY}", says(200, body)),
        "dead": host.put(f"/CANARYpath/dead.png?{QUERY}", says(403, b"CANARYbody expired")),
        "failing": host.put(f"/CANARYpath/failing.png?{QUERY}", says(500)),
        "html": host.put(f"/CANARYpath/page.png?{QUERY}", says(200, b"<html>CANARYbody</html>")),
        "short": host.put(f"/CANARYpath/short.png?{QUERY}", says(200, body[:500], length=len(body))),
        "torn": host.put(f"/CANARYpath/torn.png?{QUERY}", says(200, body[:500])),
        "reset": host.put(f"/CANARYpath/reset.png?{QUERY}", resets),
        "junk": host.put(f"/CANARYpath/junk.png?{QUERY}", writes(b"CANARYjunk from a strange host\r\n\r\n")),
        "endless": host.put(f"/CANARYpath/endless.png?{QUERY}", repeats(b"CANARYbody" * 50_000)),
        "astray": host.put(
            f"/CANARYpath/astray.png?{QUERY}", redirects(f"http://10.0.0.1/CANARYaway?{QUERY}")
        ),
        "broken": host.put(f"/CANARYpath/broken.png?{QUERY}", redirects("http://[CANARYaway")),
        "tls": f"https://127.0.0.1:{tls_host.port}/CANARYpath/tls.png?{QUERY}",
        "plain": f"https://127.0.0.1:{scene.hook.port}/CANARYpath/plain.png?{QUERY}",
        "closed": f"http://127.0.0.1:{free_port()}/CANARYpath/closed.png?{QUERY}",
        "metadata": f"https://169.254.169.254/CANARYpath/metadata?{QUERY}",
        "userinfo": f"http://{USER}:{PASSWORD}@127.0.0.1:{host.port}/CANARYpath/user.png?{QUERY}",
        "label": f"https://{'CANARYhost' * 9}.example/CANARYpath/label.png?{QUERY}",
        "port": f"https://CANARYhost.example:99999/CANARYpath/port.png?{QUERY}",
        "lines": f"https://CANARYhost.example/CANARYpath\r\nX-CANARY: 1?{QUERY}",
        "no-url": f"CANARYnolink {QUERY}",
    }
    for name, link in links.items():
        path = await scene.submit(f"link-{name}")
        answer = await scene.ask("POST", path, content=sample_callback("vidgo", f"link-{name}", files=[link]))
        assert answer.json()["status"] == "accepted", name


async def resets(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 100000\r\n\r\nCANARYbody")
    await writer.drain()
    writer.transport.abort()


async def play_callbacks(scene: Scene, host: MediaHost) -> None:
    """Both kinds of tokens and none, all verdicts, all refusals."""
    link = host.put(f"/CANARYpath/other.png?{QUERY}", says(200, picture()))
    done = sample_callback("vidgo", "t1", files=[link])
    failed = sample_callback("vidgo", "t1", error=FAILURE)
    reserved, other = await scene.submit(), await scene.submit("t2")
    shared = scene.service.callback_path()
    scene.secrets |= {shared, shared.rpartition("/")[2], shared.rpartition(".")[2]}

    async def status(path: str, body: bytes) -> str | int:
        answer = await scene.ask("POST", path, content=body)
        status: str = answer.json()["status"]
        return status

    strange = json.dumps({"code": 200, "data": {"task_id": "t1", "status": PROMPT, "prompt": PROMPT}})
    running = json.dumps({"data": {"task_id": "t1", "status": "running", "prompt": PROMPT}})
    assert await status(shared, sample_callback("vidgo", "t9", files=[link])) == "early"
    assert await status(reserved, strange.encode()) == "unrecognised"
    assert await status(reserved, running.encode()) == "progress"
    assert await status(reserved, done) == "accepted"
    assert await status(shared, done) == "duplicate"
    assert await status(shared, failed) == "conflict"
    assert await status(other, done) == 409
    assert await status(other, sample_callback("vidgo", "t2", error=FAILURE)) == "accepted"
    for forged in (
        f"{shared[:-3]}xyz",
        f"{reserved[:-3]}xyz",
        "/callbacks/vidgo/CANARYtoken",
        "/callbacks/vidgo",
    ):
        assert await status(forged, done) == 401
    assert await status(f"{shared}/CANARYmore", done) == 401
    assert await status(shared.replace("vidgo", "apixo"), done) == 401
    assert await status(shared.replace("vidgo", "CANARYprovider"), done) == 404
    assert await status(shared, f"not JSON: {PROMPT}".encode()) == "unrecognised"
    assert await status(shared, b'"%b"' % (PROMPT.encode() * 100)) == 413
    await scene.ask("GET", f"{shared}?{QUERY}")


async def play_backends(scene: Scene) -> None:
    """What the other doors refuse, with secrets wherever one can be put."""
    new = {"provider": "vidgo", "owner": "another", "task_id": "t1", "request": {"prompt": PROMPT}}
    secret = quote(API_TOKEN)
    await scene.ask("POST", "/submissions", API_TOKEN, json=new)
    await scene.ask("POST", "/submissions", API_TOKEN, content=f'{{"request": "{PROMPT}'.encode())
    await scene.ask("POST", "/submissions", API_TOKEN, json=new | {"provider": "CANARYprovider"})
    await scene.ask("POST", "/submissions", "CANARY-wrong-bearer", json=new)
    await scene.ask("PATCH", "/submissions/sub_1", API_TOKEN, json={"task_id": "t1"})
    await scene.ask("GET", f"/tasks?cursor={secret}", API_TOKEN)
    await scene.ask("GET", "/tasks/vidgo/t77", API_TOKEN)
    await scene.ask("GET", "/tasks", "CANARY-wrong-bearer")
    await scene.ask("GET", f"/assets/vidgo/t1/0?expires=1&signature={secret}")
    await scene.ask("GET", f"/nowhere/{secret}?token={secret}", API_TOKEN)
    await scene.ask("DELETE", f"/submissions?token={secret}", API_TOKEN)
    for probe in ("/stats", "/tasks"):
        assert (await scene.ask("GET", probe, ADMIN_TOKEN)).status_code == 200


OUTCOMES = {
    "receiver_assets_total": {
        "stored", "gone", "http_error", "not_an_image", "interrupted", "truncated", "too_large",
        "bad_redirect", "private_address", "tls_failed", "connect_failed", "bad_url",
    },
    "receiver_notifications_total": {
        "delivered", "http_error", "connect_failed", "tls_failed", "storage_failed",
    },
}  # fmt: skip


async def everything_happened(scene: Scene) -> bool:
    """Whether, by the metrics, each failure that was asked for has come true."""
    numbers = (await scene.service.http.get("/metrics")).text
    return all(
        outcomes <= set(re.findall(rf'{name}{{.*outcome="(\w+)"', numbers))
        for name, outcomes in OUTCOMES.items()
    )


async def give_links_away(scene: Scene) -> None:
    """The signed links of notifications are used, and are secrets as well as what signed the messages."""
    for event in scene.service.events():
        for asset in event["data"]["assets"]:
            if asset.get("url"):
                link = urlsplit(asset["url"])
                scene.secrets.add(link.query.rpartition("=")[2])
                answer = await scene.ask("GET", f"{link.path}?{link.query}")
                assert answer.status_code == 200
    signatures = {line for head in scene.hook.heads for line in re.findall(r"webhook-signature: (\S+)", head)}
    assert signatures
    scene.secrets |= signatures


@pytest.mark.parametrize("log_format", ["json", "text"])
async def test_no_secret_is_ever_said(
    tmp_path: Path, tls_host: MediaHost, redis: SharedRedis, log_format: str
) -> None:
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(media_host())
        hook = await stack.enter_async_context(consumer())
        failing = await stack.enter_async_context(consumer())
        await hook.start()
        await failing.start()
        failing.head = b"HTTP/1.1 500 CANARYreason"
        settings = sinks(hook, failing, redis) | {
            "RECEIVER_LOG_LEVEL": "debug",
            "RECEIVER_LOG_FORMAT": log_format,
            "RECEIVER_MAX_BODY_BYTES": "3000",
            "RECEIVER_ASSET_MAX_BYTES": "1000000",
        }
        service = await stack.enter_async_context(receiver(tmp_path, settings | API_KEYS))
        scene = Scene(service, hook)
        await play_links(scene, host, tls_host)
        await play_callbacks(scene, host)
        await play_backends(scene)
        await until(lambda: everything_happened(scene))
        await give_links_away(scene)
        said = [(await service.http.get(path)).text for path in ("/metrics", "/readyz", "/openapi.json")]
        await service.stop()
    assert scene.statuses >= {400, 401, 403, 404, 405, 409, 413}
    scene.secrets |= {
        SECRET,
        API_TOKEN,
        ADMIN_TOKEN,
        PROMPT,
        quote(PROMPT),
        PASSWORD,
        WEBHOOK_KEY,
        *API_KEYS.values(),
    }
    assert "link-stored" in service.output()  # it does say what happened
    assert_silent("\n".join([service.output(), *said, *scene.problems]), scene.secrets)


def assert_silent(said: str, secrets: set[str]) -> None:
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    forbidden = {*secrets, basic, "CANARY", "canary", "X-Sig", "169.254.169.254", ".png?", "Traceback"}
    for secret in sorted(forbidden):
        found = said.find(secret)
        assert found < 0, f"{secret!r} is in: {said[max(0, found - 400) : found + 200]}"


async def test_the_secrets_of_a_first_start_are_in_a_file_and_nowhere_else(tmp_path: Path) -> None:
    unset = dict.fromkeys(("RECEIVER_SECRET", "RECEIVER_API_TOKENS", "RECEIVER_ADMIN_TOKENS"), "")
    async with receiver(tmp_path, unset | {"RECEIVER_LOG_LEVEL": "debug"}) as service:
        path = service.data / "credentials.json"
        made = json.loads(path.read_bytes())
        await service.http.get("/tasks", headers=bearer(made["admin_token"]))
        await service.stop()
        assert str(path) in service.output()
        assert path.stat().st_mode & 0o077 == 0
        assert len(made) == 3
        assert_silent(service.output(), set(made.values()))


@pytest.mark.parametrize(
    "url",
    [
        f"http://{USER}:{PASSWORD}@/CANARYhook",
        f"http://{USER}:{PASSWORD}@127.0.0.1:99999/CANARYhook",
        f"http://{USER}:{PASSWORD}@{'CANARYhost' * 9}/CANARYhook",
        f"redis://:{PASSWORD}@127.0.0.1:99999/0",
        f"redis://:{PASSWORD}@127.0.0.1/CANARYdatabase",
        f"gopher://{USER}:{PASSWORD}@127.0.0.1/",
    ],
)
async def test_a_sink_that_cannot_be_opened_is_named_without_its_url(tmp_path: Path, url: str) -> None:
    service = Receiver(tmp_path, {"RECEIVER_SINK_HOOK": url, "RECEIVER_LOG_LEVEL": "debug"})
    try:
        service.launch()
        assert await service.ended() == 2
    finally:
        service.discard()
        await service.http.aclose()
    assert "hook" in service.output().lower()
    assert_silent(service.output(), set())
