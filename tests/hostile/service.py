"""`receiver serve` as a child process that hostile tests share, and what can be seen of it from outside."""

import asyncio
import json
import os
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from receiver.tokens import Tokens
from tests.e2e.service import END_SECONDS, READY_SECONDS, SECRET, Receiver
from tests.support.waiting import wait_until

MAX_BODY_BYTES = 2**21  # the setting's default

REST_SECONDS = 3.0  # longer than a connection lingers
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Target:
    """A running service."""

    def __init__(self, process: Receiver) -> None:
        self.receiver = process
        self.port = process.port
        self.path = process.callback_path("vidgo")

    # --- what it costs --------------------------------------------------------------------------------

    def resident_bytes(self) -> int:
        return int(self._proc("statm").split()[1]) * _PAGE_BYTES

    def most_resident_bytes(self) -> int:
        """The most it has ever held."""
        line = next(each for each in self._proc("status").splitlines() if each.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.receiver.pid}/fd").iterdir()))

    async def descriptors_at_rest(self) -> int:
        """How many it has once the connections of earlier tests, which may linger, are closed."""
        count, since = self.descriptors(), time.monotonic()
        while time.monotonic() < since + REST_SECONDS:
            await asyncio.sleep(0.1)
            if (now := self.descriptors()) != count:
                count, since = now, time.monotonic()
        return count

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.receiver.pid}/{name}").read_text()

    # --- what it did ----------------------------------------------------------------------------------

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read beside it, as its users can."""
        with closing(sqlite3.connect(self.receiver.data / "receiver.db")) as connection:
            return connection.execute(sql, values).fetchall()

    def tasks(self) -> set[str]:
        """Every task that a recorded delivery names."""
        return {row[0] for row in self.rows("SELECT DISTINCT task_id FROM deliveries")}

    def verdicts(self) -> Counter[str]:
        return Counter(dict(self.rows("SELECT verdict, count(*) FROM deliveries GROUP BY verdict")))

    def lines(self) -> list[dict[str, Any]]:
        """Its log; whatever is no line of JSON fails here."""
        time.sleep(0.2)  # it writes its lines within a tenth of a second
        return [json.loads(line) for line in self.receiver.output().splitlines() if line.startswith("{")]

    def faults(self) -> list[dict[str, Any]]:
        """What a log must never hold, whatever is sent."""
        assert "Traceback" not in self.receiver.output()
        return [line for line in self.lines() if line["level"] in {"error", "critical"}]


@contextmanager
def running(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Target]:
    """A service that is ready, for tests that do not share a loop."""
    process = Receiver(folder, {"RECEIVER_LOG_FORMAT": "json", **(settings or {})})
    process.launch()
    try:
        _wait(f"{process.url}/readyz", process)
        yield Target(process)
        process.signal(signal.SIGTERM)
        process.process.wait(END_SECONDS)
    finally:
        process.discard()


def _wait(url: str, process: Receiver) -> None:
    def answers() -> bool:
        assert process.process.poll() is None, process.output()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    wait_until(answers, READY_SECONDS)


def token(provider: str = "vidgo") -> str:
    return Tokens([SECRET]).for_provider(provider)
