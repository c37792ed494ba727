#!/bin/sh
# A pair of keys that is given to obstore 0.12.1's S3Store by name does not stand alone: what is not given is
# taken from the environment, AWS_SESSION_TOKEN too. Where another program's token is set there, it goes out with
# every request and stands in every presigned link, signed with keys that it does not belong to: S3 refuses them
# all, and whoever gets a link gets the token. Keys from a credential_provider stand alone.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check obstore==0.12.1
AWS_SESSION_TOKEN=token-of-another-program "$folder/venv/bin/python" - <<'END'
from datetime import timedelta

import obstore
from obstore.store import S3Store

keys = {"access_key_id": "key", "secret_access_key": "secret"}
named = S3Store("bucket", region="eu-central-1", **keys)
provided = S3Store(
    "bucket",
    region="eu-central-1",
    credential_provider=lambda: {**keys, "token": None, "expires_at": None},
)
links = [obstore.sign(store, "GET", "a.png", timedelta(minutes=1)) for store in (named, provided)]
held = ["token-of-another-program" in link for link in links]
print("keys given by name: the link holds the token:", held[0])
print("keys from a provider: the link holds the token:", held[1])
assert held == [True, False], "it has changed"
END
