"""The JSONL sink: the contract, and what is special to a file."""

import asyncio
import errno
import json
import os
import random
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx2
import pytest

from receiver.errors import Misconfigured, Unavailable
from receiver.models import Notification, Outcome
from receiver.options import PluginOptions
from receiver.ports import Sink
from receiver.sinks.jsonl import JsonlSink
from receiver.testing import sample_notification as notification
from receiver.testing.sinks import BatchSinkContract, OpenSink, failure
from tests.support.disk_faults import folders_that_cannot_be_synced

OF_OTHERS = (
    b'{\n  "secret": "of somebody",\n  "api_token": "as it is kept"\n}\n',
    b"<!doctype html>\n",
    b"[]\n",
    b"127.0.0.1 localhost\n",
    b"{}\n",
    b"\x89PNG\r\n\x1a\n" + bytes(100),
)
# Lines that were cut short, or that the disk has as zeros.
OF_A_CRASH = (
    b'{"specvers',
    bytes(10_000),
    b'"data":{}}\n{"id":"1"}\n{"i',
    b"\0" * 10_000 + b'{"id":"1"}\n',
    b'{"id":"1"}\n' + bytes(100),
)


class File:
    """A file as a host."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url

    def received(self) -> list[bytes]:
        text = self.path.read_bytes() if self.path.exists() else b""
        assert text == b"" or text.endswith(b"\n")
        return text.split(b"\n")[:-1]


class TestJsonlSink(BatchSinkContract):
    sink_class = JsonlSink

    @pytest.fixture
    def host(self, tmp_path: Path) -> File:
        return File(tmp_path / "deep" / "folder" / "events.jsonl", "jsonl:deep/folder/events.jsonl")

    async def test_an_absolute_path_is_taken_as_it_is(self, open_sink: OpenSink, tmp_path: Path) -> None:
        await open_sink(f"jsonl://{tmp_path}/else%3F.jsonl").publish(notification())
        await open_sink(f"jsonl:{tmp_path}/else%3F.jsonl").publish(notification())
        assert File(tmp_path / "else?.jsonl", "").received() == [notification().body] * 2

    async def test_a_ping_makes_nothing_and_finds_out_what_would_keep_lines_out(
        self, sink: Sink, host: File, tmp_path: Path
    ) -> None:
        await sink.ping()
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "deep").write_text("in the way")
        with pytest.raises(Unavailable):
            await sink.ping()

    async def test_a_link_in_the_data_folder_is_not_followed(
        self, sink: Sink, host: File, tmp_path: Path
    ) -> None:
        host.path.parent.mkdir(parents=True)
        host.path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Unavailable, match="it is a link, which is not followed"):
            await sink.publish(notification())
        with pytest.raises(Unavailable, match="it is a link, which is not followed"):
            await sink.ping()
        assert not (tmp_path / "elsewhere").exists()

    async def test_a_link_at_a_chosen_place_is_followed(self, open_sink: OpenSink, tmp_path: Path) -> None:
        (tmp_path / "events.jsonl").symlink_to(tmp_path / "elsewhere")
        await open_sink(f"jsonl://{tmp_path}/events.jsonl").publish(notification())
        assert File(tmp_path / "elsewhere", "").received() == [notification().body]

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

    async def test_a_line_that_came_too_late_for_its_reader_is_in_the_new_file(
        self, sink: Sink, host: File, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await sink.publish(notification("evt_1"))
        consumer = Consumer(host.path)
        before(monkeypatch, "write", consumer.take)  # opened by its name, and not written to yet
        await sink.publish(notification("evt_2"))
        assert consumer.lines == [notification("evt_1").body]
        assert host.received() == [notification("evt_2").body]

    async def test_a_batch_whose_file_is_renamed_before_it_is_settled_is_lost_by_no_reader(
        self, sink: JsonlSink, host: File, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await sink.publish(notification("evt_1"))
        consumer = Consumer(host.path)
        before(monkeypatch, "fsync", consumer.take)
        messages = [notification(f"evt_{n}") for n in range(2, 50)]
        assert await sink.publish_many(messages) == [None] * 48
        assert {message.body for message in messages} <= {*consumer.lines, *host.received()}

    async def test_a_batch_is_one_write_and_one_fsync(
        self, sink: JsonlSink, host: File, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await sink.publish(notification("evt_1"))
        calls: list[str] = []
        for name in ("write", "fsync"):
            before(monkeypatch, name, partial(calls.append, name), times=1000)
        await sink.publish_many([notification(f"evt_{n}") for n in range(200)])
        assert calls == ["write", "fsync"]

    @pytest.mark.parametrize("call", ["fsync", "close"])
    async def test_a_line_whose_file_is_renamed_before_it_is_settled_is_lost_by_no_reader(
        self, sink: Sink, host: File, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        await sink.publish(notification("evt_1"))
        consumer = Consumer(host.path)
        before(monkeypatch, call, consumer.take)
        await sink.publish(notification("evt_2"))
        assert notification("evt_2").body in consumer.lines + host.received()

    async def test_no_line_is_lost_to_a_reader_that_renames_all_the_time(
        self, sink: Sink, host: File
    ) -> None:
        await sink.publish(notification("evt_first"))
        consumer = Consumer(host.path)
        wanted = {"evt_first"}
        taking = threading.Thread(target=consumer.take_many_times)
        taking.start()
        while taking.is_alive():
            names = [f"evt_{len(wanted)}_{n}" for n in range(20)]
            sent = (sink.publish(notification(name)) for name in names)
            answers = await asyncio.gather(*sent, return_exceptions=True)
            wanted |= {name for name, answer in zip(names, answers, strict=True) if answer is None}
        await sink.publish(notification("evt_last"))
        consumer.take()
        assert wanted | {"evt_last"} <= {json.loads(line)["id"] for line in consumer.lines}

    async def test_a_file_that_is_renamed_at_every_try_is_unavailable(
        self, sink: Sink, host: File, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before(monkeypatch, "fsync", Consumer(host.path).take, times=1000)
        assert await failure(sink) is Outcome.STORAGE_FAILED

    async def test_the_name_of_a_new_file_lasts_though_it_has_the_number_of_one_that_is_gone(
        self, sink: Sink, host: File
    ) -> None:
        await sink.publish(notification("evt_1"))
        with folders_that_cannot_be_synced(errno.EINVAL) as tried:
            await sink.publish(notification("evt_2"))
            assert tried == []
            host.path.unlink()  # its number is free again
            await sink.publish(notification("evt_3"))
        assert tried == [str(host.path.parent)]

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

    @pytest.mark.parametrize("content", OF_OTHERS)
    async def test_a_file_of_others_is_not_written_to(
        self, open_sink: OpenSink, tmp_path: Path, content: bytes
    ) -> None:
        place = tmp_path / "theirs"
        sink = open_sink("jsonl:theirs")
        place.write_bytes(content)
        for use in (sink.ping(), sink.publish(notification())):
            with pytest.raises(Unavailable, match="give the sink a file of its own"):
                await use
        with pytest.raises(Misconfigured, match="theirs is not written to: it holds no lines of JSON"):
            open_sink("jsonl:theirs")
        assert place.read_bytes() == content

    async def test_a_database_is_not_written_to(self, open_sink: OpenSink, tmp_path: Path) -> None:
        place = tmp_path / "receiver.db"
        with closing(sqlite3.connect(place)) as connection:
            connection.execute("CREATE TABLE tasks (id TEXT)")
        with pytest.raises(Misconfigured, match="give the sink a file of its own"):
            open_sink("jsonl:receiver.db")

    @pytest.mark.parametrize("content", OF_A_CRASH)
    async def test_what_a_crash_left_of_lines_is_written_to(
        self, open_sink: OpenSink, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / "lines").write_bytes(content)
        await open_sink("jsonl:lines").publish(notification())
        assert (tmp_path / "lines").read_bytes().endswith(b"\n" + notification().body + b"\n")

    async def test_every_line_is_json(self, sink: Sink, host: File) -> None:
        await sink.publish(notification(metadata={"text": "\n\r\u2028"}))
        assert json.loads(host.received()[0])["data"]["metadata"] == {"text": "\n\r\u2028"}


class Consumer:
    """Reads as it is told to: renames the file away, reads it to its end, deletes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken = path.with_suffix(".taken")
        self.lines: list[bytes] = []

    def take(self) -> None:
        with suppress(FileNotFoundError):
            self.path.rename(self.taken)
            whole, _, _ = self.taken.read_bytes().rpartition(b"\n")  # a line without its end comes again
            self.lines += whole.split(b"\n") if whole else []
            self.taken.unlink()

    def take_many_times(self) -> None:
        moments = random.Random(7)
        for _ in range(200):
            time.sleep(moments.random() * 0.004)
            self.take()


def before(
    monkeypatch: pytest.MonkeyPatch, name: str, happens: Callable[[], None], *, times: int = 1
) -> None:
    """Have something happen just before a system call of the sink's thread, so many times."""
    real, left = getattr(os, name), [times]

    def call(*args: object) -> object:
        if threading.current_thread().name == "jsonl-sink" and left[0] > 0:
            left[0] -= 1
            happens()
        return real(*args)

    monkeypatch.setattr(os, name, call)


# --- what is no file --------------------------------------------------------------------------------


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "events"
    os.mkfifo(path)
    return path


@asynccontextmanager
async def piped(path: Path, timeout_seconds: float = 10.0) -> AsyncIterator[JsonlSink]:
    sink = JsonlSink(path, timeout_seconds=timeout_seconds)
    try:
        yield sink
    finally:
        await sink.aclose()


def reader_of(fifo: Path) -> int:
    return os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)


def drained(reader: int) -> bytes:
    """What is in a pipe now."""
    parts = []
    with suppress(BlockingIOError):
        while part := os.read(reader, 1 << 20):
            parts.append(part)
    return b"".join(parts)


async def test_a_fifo_gets_each_line_once_and_is_open_in_between(fifo: Path) -> None:
    reader = reader_of(fifo)
    async with piped(fifo) as sink:
        await sink.ping()
        for number in range(3):
            await sink.publish(notification(f"evt_{number}"))
            assert drained(reader) == notification(f"evt_{number}").body + b"\n"  # and no end behind it
            with pytest.raises(BlockingIOError):
                os.read(reader, 1)
    os.close(reader)


async def test_a_fifo_that_nobody_reads_is_unavailable_until_somebody_does(fifo: Path) -> None:
    async with piped(fifo) as sink:
        for attempt in (sink.ping, lambda: sink.publish(notification("evt_1"))):
            with pytest.raises(Unavailable, match="events: nobody reads it") as caught:
                await attempt()
            assert caught.value.outcome is Outcome.CONNECT_FAILED
        for name in ("evt_1", "evt_2"):  # each reader leaves after its line
            reader = reader_of(fifo)
            await sink.publish(notification(name))
            assert drained(reader) == notification(name).body + b"\n"
            os.close(reader)
            assert await failure(sink) is Outcome.CONNECT_FAILED


async def test_a_reader_that_takes_nothing_is_a_timeout_and_gets_whole_lines_afterwards(fifo: Path) -> None:
    reader = reader_of(fifo)
    large = notification("evt_large", metadata={"text": "x" * 200_000})
    async with piped(fifo, timeout_seconds=0.3) as sink:
        assert await failure(sink, large) is Outcome.TIMEOUT
        torn = drained(reader)
        assert 0 < len(torn) < len(large.body)
        await until_published(sink, notification("evt_small"))
    rest = drained(reader)
    assert torn == large.body[: len(torn)]
    # What had begun stays cut short, or its end came meanwhile; either way the next line is one of its own.
    assert rest.endswith(b"\n" + notification("evt_small").body + b"\n")
    os.close(reader)


async def test_of_a_batch_that_a_slow_reader_takes_in_part_only_the_rest_is_sent_again(fifo: Path) -> None:
    reader = reader_of(fifo)
    messages = [notification(f"evt_{number}", metadata={"text": "x" * 1000}) for number in range(40)]
    got = b""
    async with piped(fifo, timeout_seconds=1.0) as sink:
        left = messages
        while left:
            ends = await sink.publish_many(left)
            assert {end.outcome for end in ends if end is not None} <= {Outcome.TIMEOUT}
            left = [message for message, end in zip(left, ends, strict=True) if end is not None]
            got += drained(reader)
    lines = got.split(b"\n")
    whole = [line for line in lines if line in {message.body for message in messages}]
    assert whole == [message.body for message in messages]
    torn = [line for line in lines if line and line not in whole]
    assert all(any(message.body.startswith(line) for message in messages) for line in torn)
    os.close(reader)


async def until_published(sink: Sink, message: Notification) -> None:
    while True:
        with suppress(Unavailable):
            return await sink.publish(message)


async def test_lines_go_to_a_terminal_and_to_nowhere() -> None:
    ours, terminal = os.openpty()
    async with piped(Path(os.ttyname(terminal))) as sink:
        await sink.publish(notification())
        assert os.read(ours, 1 << 16).replace(b"\r\n", b"\n") == notification().body + b"\n"
    async with piped(Path("/dev/null")) as sink:
        await sink.ping()
        await sink.publish(notification())
    async with piped(Path("/dev/full")) as sink:
        assert await failure(sink) is Outcome.STORAGE_FAILED
    os.close(ours)
    os.close(terminal)


PUBLISH_TWICE = """
import asyncio, sys
from functools import partial
from pathlib import Path
from receiver.errors import Unavailable
from receiver.sinks.jsonl import JsonlSink
from receiver.testing import sample_notification as notification

async def main():
    sink = JsonlSink(Path("/dev/stdout"), timeout_seconds=10)
    try:
        await sink.ping()
        await sink.publish(notification("evt_1"))
        await sink.publish(notification("evt_2"))
    except Unavailable as exc:
        sys.exit(str(exc))
    await sink.aclose()

asyncio.run(main())
"""
BOTH = notification("evt_1").body + b"\n" + notification("evt_2").body + b"\n"


def published(stdout: int) -> str:
    """Publish two lines to the standard output of a process; what it complains of."""
    command = [sys.executable, "-c", PUBLISH_TWICE]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False
    )
    return done.stderr.decode().strip()


def test_standard_output_gets_each_line_once_whatever_it_is(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    assert published(writer) == ""
    os.close(writer)
    assert os.read(reader, 1 << 20) == BOTH
    os.close(reader)
    ours, theirs = socket.socketpair()  # as under systemd
    with ours, theirs:
        assert published(theirs.fileno()) == ""
        assert ours.recv(1 << 20) == BOTH
    with (tmp_path / "out").open("wb") as file:
        file.write(b"a line of a log\n")
        file.flush()
        assert published(file.fileno()) == ""
    assert (tmp_path / "out").read_bytes() == b"a line of a log\n" + BOTH


def test_standard_output_that_nobody_reads_is_said_to_be_so() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert published(writer) == "stdout: nobody reads it"
    os.close(writer)


async def test_a_local_socket_is_not_written_to(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        async with piped(tmp_path / "socket") as sink:
            assert await failure(sink) is Outcome.CONNECT_FAILED


# --- what is no URL, and what hangs -----------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["jsonl:", "jsonl://", "jsonl://host/file", "jsonl:file?x=1", "jsonl:file#x", "jsonl:a%00b"]
)
async def test_a_url_that_names_no_file_is_refused(url: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        options = PluginOptions(name="mine", data_dir=tmp_path, http=client)
        with pytest.raises(Misconfigured, match="sink mine: write jsonl:FILE"):
            JsonlSink.from_url(url, options)


EXIT_WHILE_THE_DISK_HANGS = """
import asyncio, os, sys, threading
from functools import partial
from pathlib import Path
from receiver.errors import Unavailable
from receiver.sinks.jsonl import JsonlSink
from receiver.testing import sample_notification as notification

async def main():
    sink = JsonlSink(Path(sys.argv[1]), timeout_seconds=0.2)
    for _ in range(2):
        try:
            await sink.publish(notification())
        except Unavailable as exc:
            print(exc.outcome)
    await sink.aclose()

os.fsync = lambda file: threading.Event().wait()
asyncio.run(main())
"""


def test_a_disk_that_hangs_does_not_hold_up_exit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", EXIT_WHILE_THE_DISK_HANGS, str(tmp_path / "events.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("timeout\ntimeout\n", "")


async def test_the_thread_ends_with_the_sink(tmp_path: Path) -> None:
    before = threads()
    sink = JsonlSink(tmp_path / "events.jsonl", timeout_seconds=10)
    await sink.publish(notification())
    (thread,) = threads() - before
    assert thread.daemon
    await sink.aclose()
    thread.join(60)
    assert not thread.is_alive()


def threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "jsonl-sink"}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process can grow beyond ``size`` bytes: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
