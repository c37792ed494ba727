"""A real loopback HTTP server with canned answers, for what the command line asks of the service."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from receiver.challenge import Challenge, place_of, prove

TOKEN = "a-token-for-the-command-line"

Answer = tuple[int, object]  # status, document; bytes go out as they are
# From "GET /path" to its answer, or to one after the other, of which the last stays.
Answers = Mapping[str, Answer | list[Answer]]


class Stub:
    """Where it listens and what it was asked."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.asked: list[str] = []
        self.bodies: list[object] = []
        self.tokens: set[str] = set()
        self.proofs = 0  # how often it had to show that it is the service


@contextmanager
def answering(answers: Answers, knows: Sequence[str] = (TOKEN,)) -> Iterator[Stub]:
    """A stub that answers so, and proves like a service that it ``knows`` these tokens."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/healthz?") and "GET /healthz" not in answers:
                self._prove()
            else:
                self._answer()

        def _prove(self) -> None:
            assert "Authorization" not in self.headers
            asked = parse_qs(urlsplit(self.path).query)
            place = place_of(self.connection.getsockname())
            proof = prove(knows, Challenge(nonce=asked["nonce"][0], key=asked["key"][0]), place)
            stub.proofs += 1
            self._send(200, {"status": "ok", "proof": proof, "place": place})

        def do_POST(self) -> None:
            stub.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer()

        def _answer(self) -> None:
            stub.asked.append(f"{self.command} {self.path}")
            stub.tokens.add(self.headers.get("Authorization", ""))
            status, document = self._next(f"{self.command} {self.path.partition('?')[0]}")
            self._send(status, document)

        def _send(self, status: int, document: object) -> None:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _next(self, request: str) -> Answer:
            answer = answers.get(request, (404, {}))
            if isinstance(answer, tuple):
                return answer
            times = sum(asked.partition("?")[0] == request for asked in stub.asked)
            return answer[min(times, len(answer)) - 1]

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stub = Stub(server.server_port)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
