#!/bin/sh
# `time` is an optional attribute of a CloudEvent. cloudevents 2.2.0 gives an event that has none the moment at
# which it is read, in its older API (cloudevents.v1) and in its new one (cloudevents.core): two readers of one
# document see two times, and whoever hands the event on tells a time that its producer never told.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check cloudevents==2.2.0
"$folder/venv/bin/python" -W ignore - <<'END'
import json

from cloudevents.core.formats.json import JSONFormat
from cloudevents.v1.http import from_json, to_json

document = '{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {}}'
old = [json.loads(to_json(from_json(document)))["time"] for _ in range(2)]
new = [JSONFormat().read(None, document).get_time() for _ in range(2)]
print("old API:", *old)
print("new API:", *new)
assert old[0] != old[1], "it has changed"
assert None not in new, "it has changed"
assert new[0] != new[1], "it has changed"
END
