"""Lives of the service that are forked from one process that has imported it: most of a start is that.

    python -m tests.e2e.forked FD

The process at the other end of the socket ``FD`` sends requests, one JSON document a line, and is told of
each life's process id, and of its end. What a life does from its first line on is what `python -m receiver`
does; it has its own environment, output and signals, and dies as any process does.
"""

import atexit
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache

import msgspec

from tests.e2e.armed import Fault, arm
from tests.support.places import ROOT


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A life to be begun."""

    environment: Mapping[str, str]
    output: str  # the file that it writes to
    command: Sequence[str] = ("serve",)
    fault: Fault | None = None


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Said of a life: its process id, and once it has ended its exit code, as ``subprocess`` counts."""

    pid: int
    returncode: int | None = None


class Life:
    """A process as ``subprocess.Popen`` has it, as far as tests ask for it."""

    def __init__(self, parent: "Parent", pid: int) -> None:
        self._parent = parent
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        if self.returncode is None:
            self._parent.listen(0.0)
            self.returncode = self._parent.ends.get(self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit code; subprocess.TimeoutExpired where it has not ended in time."""
        until = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("receiver serve", timeout)
            self._parent.listen(min(0.05, timeout))
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(9)


class Parent:
    """The process that forks, from outside; it ends with this one."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.forked", str(theirs.fileno())],
            cwd=ROOT,
            env=os.environ | {"PYTHONWARNINGS": "default"},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._socket = ours
        self._unread = b""
        self._begun: list[int] = []
        self.ends: dict[int, int] = {}
        atexit.register(self._end)

    def begin(self, request: Request) -> Life:
        self._socket.sendall(msgspec.json.encode(request) + b"\n")
        while not self._begun:
            assert self._process.poll() is None, "the process that forks has ended"
            self.listen(1.0)
        return Life(self, self._begun.pop())

    def listen(self, seconds: float) -> None:
        """Take in what is said, waiting so long for it."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return
        *lines, self._unread = (self._unread + self._socket.recv(65_536)).split(b"\n")
        for said in (msgspec.json.decode(line, type=End) for line in lines):
            if said.returncode is None:
                self._begun.append(said.pid)
            else:
                self.ends[said.pid] = said.returncode

    def _end(self) -> None:
        self._socket.close()
        self._process.wait(5)


@cache
def parent() -> Parent:
    """One for all lives that this process begins: there are hundreds."""
    return Parent()


def next_life(requests: socket.socket) -> Request:
    """Fork for each request. Returns in every child, with its own; exits where nobody asks any more."""
    unread, lives = b"", dict[int, int]()  # lives by the descriptor that tells of their end
    asked = requests.fileno()
    while True:
        ready, _, _ = select.select([asked, *lives], [], [])
        for handle in ready:
            if handle != asked:
                _, status = os.waitpid(pid := lives.pop(handle), 0)
                os.close(handle)
                end = End(pid=pid, returncode=os.waitstatus_to_exitcode(status))
                requests.sendall(msgspec.json.encode(end) + b"\n")
                continue
            if not (piece := requests.recv(65_536)):
                sys.exit()
            *lines, unread = (unread + piece).split(b"\n")
            for line in lines:
                pid = os.fork()
                if not pid:
                    for other in lives:
                        os.close(other)
                    return msgspec.json.decode(line, type=Request)
                lives[os.pidfd_open(pid)] = pid
                requests.sendall(msgspec.json.encode(End(pid=pid)) + b"\n")


def live(request: Request) -> None:
    """Become the service that is asked for."""
    output = os.open(request.output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(request.environment)
    random.seed()
    if request.fault is not None:
        arm(request.fault)
    main([*request.command], prog_name="receiver")


if __name__ == "__main__":
    # All that a start imports, plug-ins included.
    import receiver.providers.apidot
    import receiver.providers.apixo
    import receiver.providers.reapi
    import receiver.providers.vidgo
    import receiver.sinks.http
    import receiver.sinks.jsonl
    import receiver.sinks.redis
    import receiver.stores.postgres
    import receiver.stores.sqlite
    import receiver.web.app  # noqa: F401
    from receiver.cli import main

    with socket.socket(fileno=int(sys.argv[1])) as requests:
        request = next_life(requests)
    live(request)
