#!/bin/sh
# uvicorn 0.54.0 sends the names of an answer's headers as the app wrote them with http="h11", and in lower
# case with http="httptools". Names are case-insensitive, but not to every client of a webhook: which spelling
# they see depends on whether httptools is installed, as http="auto" then takes it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check uvicorn==0.54.0 h11==0.16.0 httptools==0.9.0
"$folder/venv/bin/python" - <<'END'
import socket
import threading

import uvicorn


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": [(b"Retry-After", b"5")]})
    await send({"type": "http.response.body", "body": b""})


def name_sent_by(http):
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=http, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    with socket.create_connection(listener.getsockname(), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = client.makefile("rb").read().decode()
    server.should_exit = True
    thread.join(10)
    return next(line.partition(":")[0] for line in answer.splitlines() if line.lower().startswith("retry"))


names = {http: name_sent_by(http) for http in ("h11", "httptools")}
print(names)
assert names == {"h11": "Retry-After", "httptools": "retry-after"}, "it has changed"
END
