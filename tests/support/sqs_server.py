"""Moto's SQS on a port, with a journal: what it has answered 200 to is there again after a SIGKILL.

Moto itself keeps nothing. The journal is written before the answer, as the fsync of a server that keeps its
messages would be.
"""

import base64
import json
import logging
from pathlib import Path

from flask import Response, request
from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

KEPT = ("AmazonSQS.CreateQueue", "AmazonSQS.SendMessage")
HEADERS = ("X-Amz-Target", "Content-Type", "Authorization")
REPLAYED = {"X-Replayed": "1"}


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    # It writes head and body of an answer apart, and the second would wait for the first one's ACK.
    disable_nagle_algorithm = True


def serve(port: int, journal: Path) -> None:
    """Serve until killed."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    journal.touch()
    app = create_backend_app("sqs")
    app.before_request(lambda: request.get_data() and None)  # while it can be read
    app.after_request(lambda answer: kept(answer, journal))
    client = app.test_client()
    for line in journal.read_text().splitlines():
        asked = json.loads(line)
        client.post("/", data=base64.b64decode(asked["body"]), headers=asked["headers"] | REPLAYED)
    run_simple("127.0.0.1", port, app, threaded=True, request_handler=Handler)


def kept(answer: Response, journal: Path) -> Response:
    is_kept = request.headers.get("X-Amz-Target") in KEPT and not REPLAYED.keys() & set(
        request.headers.keys()
    )
    if answer.status_code == 200 and is_kept:
        headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
        body = base64.b64encode(request.get_data()).decode()
        with journal.open("a") as lines:
            lines.write(json.dumps({"headers": headers, "body": body}) + "\n")
    return answer
