"""The command line sends its token to nobody but its receiver, and shows a peer's words as words."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_WR, create_connection, socket
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest

from receiver.challenge import is_proven, make_challenge
from receiver.config.credentials import ensure_credentials
from receiver.config.settings import load_settings
from tests.support.cli_callers import run
from tests.support.cli_stub import TOKEN, Answers, Stub, answering
from tests.support.sink_hosts import free_port
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN

pytestmark = pytest.mark.usefixtures("plain_environment")

COMMANDS = [
    ("stats",),
    ("tasks", "list"),
    ("submissions", "add", "--provider", "vidgo", "--owner", "user-17"),
    ("dead", "requeue", "--yes"),
    ("replays", "pause", "rpl_1"),
    ("sinks", "list"),
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("said", [{"status": "ok"}, {"status": "ok", "proof": "0" * 64}, b"hello", []])
def test_a_listener_that_does_not_know_the_token_is_not_sent_it(
    command: tuple[str, ...], said: object
) -> None:
    api = (200, {"info": {"title": "receiver"}})
    with answering({"GET /healthz": (200, said), "GET /openapi.json": api}) as listener:
        result = run(*command, RECEIVER_URL=listener.url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 1
    assert "does not prove that it knows the token" in result.stderr
    assert listener.tokens == {""}
    assert [asked.partition("?")[0] for asked in listener.asked] == ["GET /healthz", "GET /openapi.json"]


@pytest.mark.parametrize("scheme", ["HTTP", "Http"])
def test_a_scheme_in_capitals_spares_nobody_the_proof(scheme: str) -> None:
    with answering({"GET /healthz": (200, {"status": "ok"})}) as listener:
        url = listener.url.replace("http", scheme, 1)
        result = run("stats", RECEIVER_URL=url, RECEIVER_TOKEN=TOKEN)
        run("doctor", RECEIVER_URL=url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 1
    assert listener.tokens == {""}


def test_a_listener_that_lets_the_service_answer_in_its_stead_is_not_sent_the_token() -> None:
    doors: Answers = {
        "GET /readyz": (200, {"status": "ready", "parts": {"store": "ok"}}),
        "GET /stats": (403, {"title": "Not allowed"}),
    }
    with answering(doors) as service, relaying(service) as listener:
        environ = {"RECEIVER_URL": listener, "RECEIVER_TOKEN": TOKEN}
        result = run("stats", **environ)
        doubts = {each["name"]: each["detail"] for each in examined(**environ)}
        assert service.proofs == 2  # it was asked, and did prove it
        assert service.tokens == {""}
        run("stats", **environ, RECEIVER_ALLOW_PLAIN_HTTP="true")  # such as a tunnel of one's own
        assert service.tokens == {"", f"Bearer {TOKEN}"}
    assert result.exit_code == 1
    assert f"was reached at another place (127.0.0.1 {urlsplit(service.url).port})" in result.stderr
    assert "was reached at another place" in doubts["service token"]


@contextmanager
def relaying(service: Stub) -> Iterator[str]:
    """Another port, whose listener hands on all that it is sent, and all that is answered."""
    place = "127.0.0.1", urlsplit(service.url).port

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with create_connection(place) as far:
                back = Thread(target=hand_on, args=(far, self.request))
                back.start()
                hand_on(self.request, far)
                back.join()

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def hand_on(source: socket, target: socket) -> None:
    with suppress(OSError):  # either end may leave
        while part := source.recv(65_536):
            target.sendall(part)
        target.shutdown(SHUT_WR)


def test_the_peer_is_asked_anew_before_each_request() -> None:
    pages = [{"submissions": [], "next_cursor": "c2"}, {"submissions": [], "next_cursor": None}]
    with answering({"GET /submissions": [(200, page) for page in pages]}) as stub:
        run("submissions", "list", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert stub.proofs == 2


def test_doctor_sends_no_token_to_a_listener_that_does_not_know_it() -> None:
    settings = ensure_credentials(load_settings({}))
    ready = {"status": "ready", "parts": {"store": "ok"}}
    door = {"GET /readyz": (200, ready), "GET /sinks": (404, {}), "GET /callbacks/vidgo": (404, {})}
    with answering({**door, "GET /healthz": (200, {"status": "ok"})}) as listener:
        checks = {each["name"]: each for each in examined(RECEIVER_URL=listener.url)}
    assert listener.tokens == {""}
    assert checks["service token"]["state"] == "warn"
    assert "does not prove" in checks["service token"]["detail"]
    with answering(door, settings.admin_tokens) as stub:
        assert "service token" not in {each["name"] for each in examined(RECEIVER_URL=stub.url)}
    assert stub.tokens == {f"Bearer {settings.admin_tokens[0]}"}


def examined(**environ: str) -> list[dict[str, str]]:
    result = run("doctor", "--json", **{"PORT": str(free_port()), **environ})
    checks: list[dict[str, str]] = json.loads(result.stdout)["checks"]
    return checks


def test_plain_http_to_another_machine_is_refused() -> None:
    result = run("stats", RECEIVER_URL="http://192.0.2.7:8080", RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 2
    assert "set its https URL, or RECEIVER_ALLOW_PLAIN_HTTP=true" in result.stderr


def test_a_peers_words_move_no_cursor() -> None:
    problem = {"title": "Not\x1b[2J allowed", "detail": "Look\u009b31m\r here\u202e."}
    with answering({"GET /stats": (403, problem)}) as stub:
        result = run("stats", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 1
    assert result.stderr.removesuffix("\n").isprintable()
    assert "Not\\x1b[2J allowed" in result.stderr


@pytest.mark.parametrize("token", [API_TOKEN, ADMIN_TOKEN])
async def test_a_service_proves_that_it_knows_each_of_its_tokens(
    stranger: httpx2.AsyncClient, token: str
) -> None:
    challenge = make_challenge(token)
    answer = await stranger.get("/healthz", params=msgspec.structs.asdict(challenge))
    assert answer.status_code == 200
    assert is_proven(token, challenge, answer.json()["proof"], answer.json()["place"])


async def test_a_service_proves_nothing_to_strangers(stranger: httpx2.AsyncClient) -> None:
    challenge = make_challenge("Zz9-no-token-of-the-service")
    answer = await stranger.get("/healthz", params=msgspec.structs.asdict(challenge))
    assert answer.json() == {"status": "ok"}
