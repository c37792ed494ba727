"""RECEIVER_URL at a service that is no receiver: one line that says so, exit code 1, and no token sent."""

import asyncio
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import pytest

from receiver.cli import peer
from receiver.cli.client import Service
from receiver.errors import Unavailable
from tests.support.cli_callers import run
from tests.support.cli_stub import TOKEN, Answers, answering
from tests.support.sink_hosts import free_port
from tests.test_docs import COMMANDS

pytestmark = pytest.mark.usefixtures("plain_environment")

# What each command that asks the service needs to be typed with.
ASKING = {
    "show": "sub_1",
    "submissions add": "--provider vidgo --owner user-17",
    "submissions list": "",
    "submissions orders": "",
    "submissions resolve": "sub_1 --not-sent --yes",
    "submissions show": "sub_1",
    "submissions withdraw": "sub_1 --yes",
    "tasks list": "",
    "tasks show": "vidgo t1",
    "replay": "--stage notify --yes",
    "replays list": "",
    "replays show": "rpl_1",
    "replays follow": "rpl_1",
    "replays pause": "rpl_1",
    "replays resume": "rpl_1",
    "replays cancel": "rpl_1",
    "dead list": "",
    "dead requeue": "--yes",
    "dead move": "--sink a --to b --yes",
    "dead drop": "--sink a --yes",
    "sinks list": "",
    "sinks test": "app",
    "stats": "",
    "gateway tokens add": "ci",
    "gateway tokens list": "",
    "gateway tokens revoke": "ci --yes",
    "admin open": "",
    "admin sessions": "",
    "audit": "",
    "costs": "",
    "budgets list": "",
    "budgets set": "all month 5",
    "budgets remove": "all month --yes",
    "health": "",
    "tail": "",
    "listen": "--forward-to http://127.0.0.1:9/hook",
}
ALONE = {
    "demo", "serve", "work", "simulate", "callback-url", "backup", "migrate", "move", "doctor", "docs",
    "sinks secret", "consume", "providers list", "providers check",
    "gateway check", "gateway catalog",
}  # fmt: skip

Connection = socket.socket
Manners = Callable[[Connection], None]


def says(status: str, body: bytes, *lines: str) -> Manners:
    """A whole answer in HTTP."""
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "\r\n"))

    def answer(connection: Connection) -> None:
        connection.sendall(head.encode() + body)

    return answer


def speaks_no_http(connection: Connection) -> None:
    connection.sendall(b"220 smtp.example \x1b[2Jready\r\n")


def says_nothing(connection: Connection) -> None:
    """It hangs up."""


def never_ends(connection: Connection) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(100_000):
        connection.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")


def drips(head: bytes) -> Manners:
    def answer(connection: Connection) -> None:
        connection.sendall(head)
        for _ in range(1000):
            connection.sendall(b"x")
            time.sleep(0.02)

    return answer


def keeps_silent(connection: Connection) -> None:
    connection.settimeout(20)
    connection.recv(1)  # until the other side leaves


PROBLEM = b'{"type": "about:blank", "title": "No\\u001b[2J", "detail": "\\u009b31mHere.\\n"}'
MANNERS: Mapping[str, Manners] = {
    "HTML": says("200 OK", b"<html>\x1b[2JWelcome</html>"),
    "404": says("404 Not Found", b"<html>404</html>"),
    "401": says("401 Unauthorized", b'{"error": "who are you?"}', "WWW-Authenticate: Basic"),
    "500": says("500 Oops", b"Traceback\x1b[31m"),
    "502": says("502 Bad Gateway", b"<html>bad gateway</html>"),
    "a problem of its own": says("404 Not Found", PROBLEM, "Content-Type: application/problem+json"),
    "JSON": says("200 OK", b'{"status": "ok", "tasks": [{"id": 1}], "info": {"title": "x"}}'),
    "a list": says("200 OK", b"[]"),
    "nested JSON": says("200 OK", b'{"info": ' + b"[" * 100_000),
    "a redirect": says("302 Found", b"", "Location: http://127.0.0.1:1/elsewhere"),
    "204": says("204 No Content", b""),
    "broken gzip": says("200 OK", b"\x1f\x8bjunk", "Content-Encoding: gzip"),
    "no HTTP": speaks_no_http,
    "nothing": says_nothing,
    "no end": never_ends,
    "too much": says("200 OK", b" " * (2**20 + 1)),
}
SLOW: Mapping[str, Manners] = {
    "silence": keeps_silent,
    "a dripping head": drips(b"HTTP/1.1 200 OK\r\nX-Drip: "),
    "a dripping body": drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
}


class Stranger(socketserver.ThreadingTCPServer):
    """Answers every request in its own manner; knows all that it was sent."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self.heard: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Conversation)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Conversation(socketserver.BaseRequestHandler):
    server: Stranger

    def handle(self) -> None:
        with suppress(OSError):  # the other side has heard enough
            self.server.heard.append(self.request.recv(65_536))
            self.server.manners(self.request)


@contextmanager
def stranger(manners: Manners) -> Iterator[Stranger]:
    with Stranger(manners) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def check_told(url: str, *command: str) -> None:
    """That one line says what is the matter and what to do."""
    result = run(*command, RECEIVER_URL=url, RECEIVER_TOKEN=TOKEN)
    assert (result.exit_code, result.stdout) == (1, ""), command
    (line,) = result.stderr.splitlines()
    assert line.isprintable()
    assert line.startswith(f"receiver: what answers at {url} is no receiver"), line
    assert line.endswith("set RECEIVER_URL, or PORT, to where your receiver is"), line


def test_every_command_is_known_to_ask_the_service_or_not() -> None:
    assert {f"receiver {name}" for name in {*ASKING, *ALONE}} == set(COMMANDS)


@pytest.mark.parametrize("name", ASKING)
def test_every_command_says_that_what_answers_is_no_receiver(name: str) -> None:
    for manners in ("404", "JSON", "no HTTP"):
        with stranger(MANNERS[manners]) as server:
            check_told(server.url, *name.split(), *ASKING[name].split())


@pytest.mark.parametrize("manners", MANNERS)
def test_whatever_a_stranger_answers_one_line_says_what_to_do(manners: str) -> None:
    with stranger(MANNERS[manners]) as server:
        for name in ("tasks show", "submissions add", "submissions withdraw"):
            check_told(server.url, *name.split(), *ASKING[name].split())
    assert not any(TOKEN.encode() in heard for heard in server.heard)


@pytest.mark.parametrize("manners", SLOW)
def test_who_takes_long_is_not_waited_for(manners: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "PROOF_SECONDS", 0.5)
    with stranger(SLOW[manners]) as server:
        began = time.monotonic()
        check_told(server.url, "stats")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("manners", ["HTML", "404", "JSON", "no HTTP", "nothing", "no end"])
def test_doctor_says_that_what_answers_is_no_receiver(manners: str) -> None:
    with stranger(MANNERS[manners]) as server:
        result = run("doctor", RECEIVER_URL=server.url, PORT=str(free_port()), COLUMNS="200")
    assert result.exit_code == 1
    assert f"what answers at {server.url}" in result.stdout
    assert "is no receiver" in result.stdout


# --- by https, where a certificate says who it is, and a service of another release need not prove it ---


def ask(url: str) -> object:
    """What a service says that has proved by its certificate whose it is."""
    with asyncio.Runner() as runner:
        client = peer.open_client(url)
        try:
            return Service(client, runner, TOKEN, asks_for_proof=False).get("/stats").document
        finally:
            runner.run(client.aclose())


@pytest.mark.parametrize("manners", ["HTML", "404", "a problem of its own", "JSON", "a redirect"])
def test_a_stranger_with_a_good_certificate_is_no_receiver_and_gets_no_token(manners: str) -> None:
    with stranger(MANNERS[manners]) as server, pytest.raises(Unavailable, match="is no receiver"):
        ask(server.url)
    assert not any(TOKEN.encode() in heard for heard in server.heard)


def test_a_service_of_an_earlier_release_is_known_by_its_api() -> None:
    earlier: Answers = {
        "GET /healthz": (200, {"status": "ok"}),
        "GET /openapi.json": (200, {"info": {"title": "receiver", "version": "0.3.0"}}),
        "GET /stats": (200, {"submissions": 7}),
    }
    with answering(earlier) as stub:
        assert ask(stub.url) == {"submissions": 7}
        result = run("stats", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 1
    assert "does not prove that it knows the token" in result.stderr
    assert "restart it if it is of a release before 0.4.0" in result.stderr
