#!/bin/sh
# botocore 1.44.8 reports no error when SQS's SendMessage is answered with status 200 by something that is no SQS:
# a page of HTML, as a proxy or a wrong endpoint_url answers, and an empty object give a result without a MessageId.
# SQS itself always names one, so whoever sends must look for it, or takes a message for stored that nobody has.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check botocore==1.44.8
"$folder/venv/bin/python" - <<'END'
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import botocore.session

ANSWERS = {"a page": (b"<html><body>Welcome</body></html>", "text/html"), "an empty object": (b"{}", "application/json")}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body, kind = self.server.answer
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = botocore.session.Session().create_client(
    "sqs",
    endpoint_url=f"http://127.0.0.1:{server.server_port}",
    region_name="eu-west-1",
    aws_access_key_id="any",
    aws_secret_access_key="any",
)
for name, answer in ANSWERS.items():
    server.answer = answer
    result = client.send_message(QueueUrl="https://sqs.eu-west-1.amazonaws.com/1/images", MessageBody="{}")
    status = result["ResponseMetadata"]["HTTPStatusCode"]
    print(f"{name}: no error, status {status}, MessageId {result.get('MessageId')}")
    assert (status, result.get("MessageId")) == (200, None), "it has changed"
END
