#!/bin/sh
# cloudevents 2.2.0 still ships the API of its first version, cloudevents.v1.http, and its new one,
# cloudevents.core. The HTTP binding of CloudEvents 1.0 (3.1.3.2) has attribute values percent-encoded in
# binary mode. The new API encodes and decodes them. The old one does neither: a consumer reads
# "vidgo/%E2%82%AC" as the subject, and to_binary writes a header that is not ASCII, which HTTP clients refuse.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check cloudevents==2.2.0
"$folder/venv/bin/python" -W ignore - <<'END'
from cloudevents.core.bindings.http import HTTPMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1 import http as old

attributes = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0", "subject": "vidgo/\u20ac"}
encoded = "vidgo/%E2%82%AC"
headers = {f"ce-{name}": value for name, value in attributes.items()} | {"ce-subject": encoded}

read_new = from_binary(HTTPMessage(headers=headers, body=b"{}"), JSONFormat()).get_subject()
read_old = old.from_http(headers, b"{}")["subject"]
written_new = to_binary(CloudEvent(attributes, {}), JSONFormat()).headers["ce-subject"]
written_old = old.to_binary(old.CloudEvent(attributes, {}))[0]["ce-subject"]
print(f"new API reads {read_new!a}, writes {written_new!a}")
print(f"old API reads {read_old!a}, writes {written_old!a}")
assert (read_new, written_new) == ("vidgo/\u20ac", encoded)
assert (read_old, written_old) == (encoded, "vidgo/\u20ac"), "it has changed"
END
