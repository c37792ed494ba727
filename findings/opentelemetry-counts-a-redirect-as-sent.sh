#!/bin/sh
# opentelemetry-exporter-otlp-proto-http 1.45.2 follows no redirect, takes any status from 200 to 399 for success and
# logs nothing. So where the collector's address answers with 301, 302, 307 or 308, as a proxy does that moves http to
# https or adds a slash, every span is lost, and the exporter says SUCCESS: name the final address.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check opentelemetry-exporter-otlp-proto-http==1.45.2 \
  opentelemetry-sdk==1.45.2
"$folder/venv/bin/python" - <<'END'
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

results, requests, lines = [], [], []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        requests.append(f"POST {self.path}")
        self.send_response(self.server.status)
        self.send_header("location", "/moved/v1/traces")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


class Telling(OTLPSpanExporter):
    def export(self, spans):
        results.append(super().export(spans))
        return results[-1]


class Keeping(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())


logging.getLogger("opentelemetry").addHandler(Keeping())
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Telling(f"http://127.0.0.1:{server.server_port}/v1/traces")))
for server.status in (301, 302, 307, 308):
    requests.clear()
    with provider.get_tracer("finding").start_as_current_span("lost"):
        pass
    print(f"{server.status}: {results[-1].name}; {', then '.join(requests)}; {len(lines)} lines logged")
    told = (results[-1], requests, lines)
    assert told == (SpanExportResult.SUCCESS, ["POST /v1/traces"], []), "it has changed"
END
