#!/bin/sh
# redis-py 8.1.0 gives every connection a socket timeout of 5 s and ten retries, unless it is told otherwise. A read
# that blocks for longer by its own argument (XREAD or XREADGROUP with block=, BLPOP with timeout=) is given up
# and sent anew every 5 s on a stream where nothing comes, and ends after a minute with TimeoutError instead of
# nothing. A reader in a loop dies in the first quiet minute, and with XREADGROUP an entry may go to a read that
# was given up. Block for less than 5 s, or give socket_timeout=None. Needs redis-server (Debian's); takes 80 s.
set -eu
folder=$(mktemp -d)
redis-server --port 0 --unixsocket "$folder/redis.sock" --save "" --dir "$folder" > "$folder/log" 2>&1 &
server=$!
trap 'kill "$server"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check redis==8.1.0
"$folder/venv/bin/python" - "$folder/redis.sock" <<'END'
import sys
import time

import redis


def waited(seconds, **options):
    client = redis.Redis(unix_socket_path=sys.argv[1], **options)
    started = time.monotonic()
    try:
        ended = repr(client.xread({"quiet": "$"}, block=seconds * 1000))
    except redis.TimeoutError:
        ended = "TimeoutError"
    return ended, round(time.monotonic() - started)


asked = {"as it comes": waited(8), "without a timeout": waited(8, socket_timeout=None)}
print(asked)
ended, seconds = asked["as it comes"]
assert ended == "TimeoutError", "it has changed"
assert 50 < seconds < 75, "it has changed"
assert asked["without a timeout"][1] == 8
END
