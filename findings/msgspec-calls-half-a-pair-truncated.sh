#!/bin/sh
# A JSON text may hold the escape of half a surrogate pair (RFC 8259, 8.2), as JavaScript writes it for a
# string that was cut inside an emoji. msgspec 0.22.0 refuses a document with the first half and says that the
# input was truncated, though it is whole; of the second half alone it says what is the matter. Whoever takes
# "truncated" for "more is to come" waits for ever. json reads both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check msgspec==0.22.0
"$folder/venv/bin/python" - <<'END'
import json

import msgspec


def said(document):
    try:
        return msgspec.json.decode(document)
    except msgspec.DecodeError as error:
        return str(error)


first, second = said(b'{"prompt": "a \\ud83d b"}'), said(b'{"prompt": "a \\udc00 b"}')
print("first half:", first)
print("second half:", second)
assert json.loads(b'{"prompt": "a \\ud83d b"}') == {"prompt": "a \ud83d b"}
assert first == "Input data was truncated", "it has changed"
assert "surrogate" in second, "it has changed"
END
