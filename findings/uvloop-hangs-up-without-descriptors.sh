#!/bin/sh
# When a process has no file descriptor left, asyncio's own loop leaves new connections in the listener's queue,
# logs why, and accepts them once there is room. uvloop 0.23.0 (libuv) accepts and closes them at once, and
# tells nobody: a sender sees a connection that is made and then ended, and the server's log shows nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check uvloop==0.23.0
cat > "$folder/server.py" <<'END'
import asyncio
import resource
import sys

resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=64)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(60)


if sys.argv[1] == "uvloop":
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
END
cat > "$folder/client.py" <<'END'
import socket
import subprocess
import sys


def hung_up_on(loop, folder):
    """Of 40 connections, how many the server ended; and what it said."""
    command = [sys.executable, f"{folder}/server.py", loop]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline())
        clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(40)]
        ended = 0
        for client in clients:
            client.settimeout(0.2)
            try:
                ended += client.recv(1) == b""
            except ConnectionError:
                ended += 1
            except TimeoutError:
                pass
        server.kill()
        return ended, server.stderr.read()


ended, said = hung_up_on("uvloop", sys.argv[1])
waiting, told = hung_up_on("asyncio", sys.argv[1])
print(f"uvloop ended {ended} of 40, and said {said!r}")
print(f"asyncio ended {waiting} of 40, and said {told.splitlines()[0] if told else ''!r}")
assert ended > 0, "it has changed"
assert said == "", "it has changed"
assert waiting == 0
assert "out of system resource" in told
END
"$folder/venv/bin/python" "$folder/client.py" "$folder"
