"""Whoever develops a consumer sees events as they happen, and has them sent to it."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.e2e.service import ADMIN_TOKEN, Receiver, receiver
from tests.support.sink_hosts import HttpServer
from tests.support.waiting import until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATIENCE_SECONDS = 60.0


def _with_ctrl_c() -> None:
    """What a shell has started in the background ignores it, and so would all children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """One of the commands that run until Ctrl-C."""

    def __init__(self, folder: Path, service: Receiver, *arguments: str) -> None:
        self._output = folder / "command.log"
        self._errors = folder / "command-errors.log"
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "receiver", *arguments],
                env=service.environment | {"RECEIVER_URL": service.url, "RECEIVER_TOKEN": ADMIN_TOKEN},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                preexec_fn=_with_ctrl_c,  # noqa: PLW1509 - one call, and no thread of ours holds a lock
            )

    def lines(self) -> list[str]:
        return self._output.read_text().splitlines()

    def errors(self) -> str:
        return self._errors.read_text()

    async def of(self, number: int) -> list[str]:
        async def are_there() -> list[str] | None:
            assert self._process.poll() is None, self.errors()
            return self.lines() if len(self.lines()) >= number else None

        return await until(are_there, PATIENCE_SECONDS)

    async def interrupt(self) -> int:
        self._process.send_signal(signal.SIGINT)
        return await asyncio.to_thread(self._process.wait, PATIENCE_SECONDS)

    def discard(self) -> None:
        self._process.kill()
        self._process.wait()


async def told_alike(followed: Sequence[bytes], told: Sequence[bytes]) -> bool:
    """Whether a sink has been told the same bytes by now."""
    return list(followed) == list(told)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Receiver]:
    async with receiver(tmp_path) as service:
        await service.finish("before")
        yield service


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[HttpServer]:
    server = HttpServer(tmp_path)
    server.start()
    yield server
    server.stop()


async def test_events_are_shown_as_they_happen_until_ctrl_c(service: Receiver, tmp_path: Path) -> None:
    command = Command(tmp_path, service, "tail", "--last", "1")
    try:
        (first,) = await command.of(1)
        assert re.search(r"Z  failed     vidgo/before  user-17  error$", first)
        await service.finish("t1")
        assert "vidgo/t1" in (await command.of(2))[1]

        await service.stop()
        await service.start()
        await service.finish("t2")
        assert "vidgo/t2" in (await command.of(3))[2]

        assert await command.interrupt() == 0
        assert len(command.lines()) == 3
    finally:
        command.discard()


async def test_json_is_what_sinks_get_and_a_filter_leaves_the_rest_out(
    service: Receiver, tmp_path: Path
) -> None:
    await service.finish("other", provider="apixo")
    command = Command(
        tmp_path, service, "tail", "--json", "--last", "9", "--provider", "vidgo", "--state", "failed"
    )
    try:
        await command.of(1)
        await service.finish("t1")
        lines = await command.of(2)
        followed = [line.encode() for line in lines]
        await until(lambda: told_alike(followed, [each for each in service.lines() if b"vidgo" in each]))
    finally:
        command.discard()


async def test_a_consumer_gets_them_signed_and_its_answers_are_shown(
    service: Receiver, consumer: HttpServer, tmp_path: Path
) -> None:
    command = Command(
        tmp_path, service, "listen", "--forward-to", consumer.url, "--secret", SECRET, "-n", "1"
    )
    try:
        (first,) = await command.of(1)
        assert re.search(r"vidgo/before  user-17  error  delivered in \d\.\d{3} s$", first)
        await service.finish("t1")
        await command.of(2)
        for request in consumer.requests():
            Webhook(SECRET).verify(request["body"].decode(), request["headers"])
        await until(lambda: told_alike(consumer.received(), service.lines()), PATIENCE_SECONDS)
        assert await command.interrupt() == 0
    finally:
        command.discard()


async def test_one_that_does_not_like_them_is_told_of_and_sent_the_next_one(
    service: Receiver, consumer: HttpServer, tmp_path: Path
) -> None:
    url = f"{consumer.root}/status/401"
    command = Command(tmp_path, service, "listen", "--forward-to", url, "-n", "1")
    try:
        (first,) = await command.of(1)
        assert first.endswith("refused: the consumer answered 401")
        await service.finish("t1")
        await command.of(2)
        (secret,) = re.findall(r"Signed with (whsec_\S+): give it", command.errors())
        for request in consumer.requests():
            Webhook(secret).verify(request["body"].decode(), request["headers"])
        assert len(consumer.received()) == 2
    finally:
        command.discard()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("listen", "--forward-to", "http://app.example/hook"), "another machine by http"),
        (("listen", "--forward-to", "localhost:3000"), "must be an http(s) URL"),
        (("listen", "--forward-to", "http://127.0.0.1:9/", "--secret", "short"), "SECRET must be whsec_"),
        (("tail", "--type", "task.failed", "--state", "failed"), "give one of them"),
    ],
)
async def test_what_cannot_be_is_said_before_anything_is_sent(
    service: Receiver, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    command = Command(tmp_path, service, *arguments)
    try:
        assert await asyncio.to_thread(command._process.wait, PATIENCE_SECONDS) == 2
        assert words in " ".join(command.errors().split())
    finally:
        command.discard()
