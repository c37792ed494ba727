"""The JSONL sink: the contract, and what is special to a file."""

import asyncio
import errno
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from receiver.errors import Misconfigured, Unavailable
from receiver.options import PartOptions
from receiver.ports import Sink
from receiver.sinks.jsonl import JsonlSink
from receiver.words import Outcome
from tests.contracts.sink import OpenSink, SinkContract, failure
from tests.disk_faults import folders_that_cannot_be_synced
from tests.messages import notification


class File:
    """A file as a host."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url

    def received(self) -> list[bytes]:
        text = self.path.read_bytes() if self.path.exists() else b""
        assert text == b"" or text.endswith(b"\n")
        return text.split(b"\n")[:-1]


class TestJsonlSink(SinkContract):
    sink_class = JsonlSink

    @pytest.fixture
    def host(self, tmp_path: Path) -> File:
        return File(tmp_path / "deep" / "folder" / "events.jsonl", "jsonl:deep/folder/events.jsonl")

    async def test_an_absolute_path_is_taken_as_it_is(self, open_sink: OpenSink, tmp_path: Path) -> None:
        await open_sink(f"jsonl://{tmp_path}/else%3F.jsonl").publish(notification())
        await open_sink(f"jsonl:{tmp_path}/else%3F.jsonl").publish(notification())
        assert File(tmp_path / "else?.jsonl", "").received() == [notification().body] * 2

    async def test_a_line_that_a_crash_cut_short_spoils_no_other(self, sink: Sink, host: File) -> None:
        await sink.publish(notification("evt_1"))
        with host.path.open("ab") as file:
            file.write(notification("evt_2").body[:50])
        await sink.publish(notification("evt_3"))
        first, torn, third = host.received()
        assert (first, third) == (notification("evt_1").body, notification("evt_3").body)
        assert torn == notification("evt_2").body[:50]

    async def test_a_file_that_was_renamed_away_is_begun_anew(self, sink: Sink, host: File) -> None:
        await sink.publish(notification("evt_1"))
        host.path.rename(host.path.with_suffix(".old"))
        await sink.publish(notification("evt_2"))
        assert host.received() == [notification("evt_2").body]

    async def test_a_folder_that_was_deleted_is_made_again(self, sink: Sink, host: File) -> None:
        await sink.publish(notification("evt_1"))
        host.path.unlink()
        host.path.parent.rmdir()
        await sink.publish(notification("evt_2"))
        assert host.received() == [notification("evt_2").body]

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
    async def test_a_line_is_written_once_where_no_folder_can_be_synced(
        self, sink: Sink, host: File, number: int
    ) -> None:
        with folders_that_cannot_be_synced(number) as tried:
            await sink.publish(notification())
            await sink.ping()
        assert host.received() == [notification().body]
        assert str(host.path.parent) in tried

    async def test_a_folder_whose_sync_fails_is_unavailable(self, sink: Sink) -> None:
        with folders_that_cannot_be_synced(errno.EIO):
            assert await failure(sink) is Outcome.STORAGE_FAILED

    async def test_strangers_may_not_read_the_file(self, sink: Sink, host: File) -> None:
        await sink.publish(notification())
        assert host.path.stat().st_mode & 0o007 == 0

    async def test_a_full_disk_is_unavailable_and_used_again_when_there_is_room(
        self, sink: Sink, host: File
    ) -> None:
        await sink.publish(notification("evt_small"))
        large = notification("evt_large", metadata={"text": "x" * 50_000})
        with largest_file(20_000):
            assert await failure(sink, large) is Outcome.STORAGE_FAILED
            assert await failure(sink, large) is Outcome.STORAGE_FAILED
        await sink.publish(large)
        lines = host.received()
        assert (lines[0], lines[-1]) == (notification("evt_small").body, large.body)
        assert large.body.startswith(lines[1])  # what there was room for

    async def test_what_waits_with_a_line_that_fails_fails_too(self, sink: Sink, host: File) -> None:
        messages = [notification(f"evt_{n}", metadata={"text": "x" * 9_000}) for n in range(10)]
        with largest_file(20_000):
            answers = await asyncio.gather(*map(sink.publish, messages), return_exceptions=True)
        taken = [message for message, answer in zip(messages, answers, strict=True) if answer is None]
        assert len(taken) < len(messages)
        assert {message.body for message in taken} <= set(host.path.read_bytes().split(b"\n"))

    async def test_a_folder_in_the_place_of_the_file_is_unavailable(self, sink: Sink, host: File) -> None:
        host.path.mkdir(parents=True)
        assert await failure(sink) is Outcome.STORAGE_FAILED
        with pytest.raises(Unavailable, match="cannot be written: Is a directory"):
            await sink.ping()

    async def test_every_line_is_json(self, sink: Sink, host: File) -> None:
        await sink.publish(notification(metadata={"text": "\n\r\u2028"}))
        assert json.loads(host.received()[0])["data"]["metadata"] == {"text": "\n\r\u2028"}


@pytest.mark.parametrize(
    "url", ["jsonl:", "jsonl://", "jsonl://host/file", "jsonl:file?x=1", "jsonl:file#x", "jsonl:a%00b"]
)
async def test_a_url_that_names_no_file_is_refused(url: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        options = PartOptions(name="mine", data_dir=tmp_path, http=client)
        with pytest.raises(Misconfigured, match="sink mine: write jsonl:FILE"):
            JsonlSink.from_url(url, options)


# A pipe that nobody reads takes some bytes and then lets its writer hang, as a dead disk does.
EXIT_WHILE_THE_DISK_HANGS = """
import asyncio, sys
from pathlib import Path
from receiver.errors import Unavailable
from receiver.sinks.jsonl import JsonlSink
from tests.messages import notification

async def main():
    sink = JsonlSink(Path(sys.argv[1]), timeout_seconds=0.2)
    for _ in range(2):
        try:
            await sink.publish(notification(metadata={"text": "x" * 2_000_000}))
        except Unavailable as exc:
            print(exc.outcome)
    await sink.aclose()

asyncio.run(main())
"""


def test_a_disk_that_hangs_does_not_hold_up_exit(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events.jsonl")
    command = [sys.executable, "-c", EXIT_WHILE_THE_DISK_HANGS, str(tmp_path / "events.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("timeout\ntimeout\n", "")


async def test_the_thread_ends_with_the_sink(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    sink = JsonlSink(tmp_path / "events.jsonl", timeout_seconds=10)
    await sink.publish(notification())
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    await sink.aclose()
    thread.join(5)
    assert not thread.is_alive()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process can grow beyond ``size`` bytes: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
