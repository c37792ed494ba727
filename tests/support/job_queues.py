"""Task queues in Redis: jobs that no worker has read yet, and workers as the manual starts them."""

import base64
import os
import re
import shlex
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from redis import Redis

from tests.support.manual import section
from tests.support.missing import missing
from tests.support.sink_hosts import RedisServer

_CATCH = """
import functools
print = functools.partial(print, file=open({path!r}, "a"), flush=True)
"""
_MODULES = {"rq": "rq.cli"}  # by the command, where they differ


class Job(msgspec.Struct, frozen=True):
    """What lies in a queue: the job's id, its task, and the bytes of its one argument."""

    id: str
    task: str
    argument: bytes


class _CeleryBody(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    args: tuple[msgspec.Raw]
    kwargs: dict[str, Any]
    embed: dict[str, None]


def celery_jobs(client: "Redis", key: str) -> list[Job]:
    found: Any = client.lrange(key, 0, -1)
    return [_celery_job(msgspec.json.decode(message)) for message in reversed(found)]


def _celery_job(message: dict[str, Any]) -> Job:
    argument = celery_argument(base64.b64decode(message["body"]))
    return Job(message["headers"]["id"], message["headers"]["task"], argument)


def celery_argument(body: bytes) -> bytes:
    decoded = msgspec.json.decode(body, type=_CeleryBody)
    assert decoded.kwargs == {}
    return bytes(decoded.args[0])


class _RqCall(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    function: str
    instance: None
    args: tuple[msgspec.Raw]
    kwargs: dict[str, Any]


def rq_jobs(client: "Redis", key: str) -> list[Job]:
    found: Any = client.lrange(key, 0, -1)
    return [_rq_job(id_.decode(), client.hget(f"rq:job:{id_.decode()}", "data")) for id_ in found]


def _rq_job(id_: str, data: Any) -> Job:
    call = msgspec.json.decode(zlib.decompress(data), type=_RqCall)
    assert call.kwargs == {}
    return Job(id_, call.function, bytes(call.args[0]))


class _DramatiqMessage(msgspec.Struct):
    message_id: str
    actor_name: str
    args: tuple[msgspec.Raw]
    kwargs: dict[str, Any]


def dramatiq_jobs(client: "Redis", key: str) -> list[Job]:
    ids: Any = client.lrange(key, 0, -1)
    found: Any = [client.hget(f"{key}.msgs", id_) for id_ in ids]
    messages = [msgspec.json.decode(message, type=_DramatiqMessage) for message in found]
    return [Job(each.message_id, each.actor_name, bytes(each.args[0])) for each in messages]


class _TaskiqMessage(msgspec.Struct):
    task_id: str
    task_name: str
    args: tuple[msgspec.Raw]
    kwargs: dict[str, Any]


def taskiq_jobs(client: "Redis", key: str) -> list[Job]:
    entries: Any = client.xrange(key)
    messages = [msgspec.json.decode(fields[b"data"], type=_TaskiqMessage) for _, fields in entries]
    return [Job(each.task_id, each.task_name, bytes(each.args[0])) for each in messages]


class _ArqJob(msgspec.Struct):
    f: str
    a: tuple[msgspec.Raw]
    k: dict[str, Any]


def arq_jobs(client: "Redis", key: str) -> list[Job]:
    ids: Any = client.zrange(key, 0, -1)
    found: Any = [client.get(b"arq:job:" + id_) for id_ in ids]
    jobs = [msgspec.json.decode(job, type=_ArqJob) for job in found]
    return [Job(id_.decode(), job.f, bytes(job.a[0])) for id_, job in zip(ids, jobs, strict=True)]


def install_arq(folder: Path) -> Path:
    """arq in a folder of its own: it asks for a redis before 6, but works with later ones."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(folder),
        "arq==0.28.0",
    ]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        missing("arq 0.28.0 cannot be installed")
    return folder


def sink_of(told: str) -> tuple[str, str]:
    """The URL and the task of the sink that a section of the manual sets up."""
    (url,) = re.findall(r"^RECEIVER_SINK_\w+='(.*)'$", told, re.MULTILINE)
    return url, dict(parse_qsl(url.partition("?")[2]))["task"]


class QueueServer(RedisServer):
    """A redis-server with one queue; ``heading`` is where the manual tells of it."""

    def __init__(self, folder: Path, heading: str, jobs: Callable[["Redis", str], list[Job]]) -> None:
        super().__init__(folder)
        self.told = self.on_this_port(section("jobs", heading))
        self.url, self.task = sink_of(self.told)
        self._jobs = jobs

    def on_this_port(self, text: str) -> str:
        return text.replace("127.0.0.1:6379", f"127.0.0.1:{self.port}")

    def jobs(self, key: str) -> list[Job]:
        with self.client() as client:
            return self._jobs(client, key)


class Worker:
    """A worker with the manual's ``tasks.py``, whose ``print`` writes to a file; begun as the manual says."""

    def __init__(self, told: str, folder: Path, *arguments: str, path: Path | None = None) -> None:
        self._printed = folder / "printed"
        (tasks,) = re.findall(r"^```python\n(.*?)^```$", told, re.DOTALL | re.MULTILINE)
        catch = _CATCH.format(path=str(self._printed))
        (folder / "tasks.py").write_text(catch + tasks)
        command = re.findall(r"^```sh\n(.*?)^```$", told, re.DOTALL | re.MULTILINE)[-1]
        program, *given = shlex.split(command)
        self._log = (folder / "worker.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULES.get(program, program), *given, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, (folder, path))))},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def printed(self) -> list[str]:
        return self._printed.read_text().splitlines() if self._printed.exists() else []

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def end(self) -> None:
        """Let it acknowledge what it has done, and go."""
        self._process.terminate()
        self._process.wait(20)

    def stop(self) -> None:
        """Kill it where it still runs."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._log.close()
