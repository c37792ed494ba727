"""Several processes on one PostgreSQL record: some answer requests, some work."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.e2e.service import Receiver
from tests.support.waiting import until

# Files are leased for seconds, not for a minute.
PROGRAM = (
    "-c",
    "import receiver.loops; receiver.loops.LEASE_GRACE_SECONDS = 0.5; from receiver.cli import main; main()",
)
START_SECONDS = 90.0  # four interpreters on two cores


class Fleet:
    """Doors and workers in one data folder, and a look at their database."""

    def __init__(self, folder: Path, settings: Mapping[str, str], database: str) -> None:
        self._folder = folder
        self._settings = {**settings, "RECEIVER_DATABASE_URL": database}
        self._database = database
        self.members: list[Receiver] = []

    def add(self, *command: str) -> Receiver:
        """One more process, to be started."""
        member = Receiver(self._folder, self._settings, command)
        member.program = PROGRAM
        self.members.append(member)
        return member

    async def start(self, *members: Receiver) -> None:
        for member in members:
            member.launch()
        for member in members:
            await until(member.is_ready, START_SECONDS)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in the environment of the first process."""
        return subprocess.run(
            [sys.executable, "-m", "receiver", *command],
            env=self.members[0].environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def holder(self, lane: str) -> str | None:
        """The name of the process that has a lane now."""
        rows = self.rows("SELECT holder FROM receiver.lanes WHERE name = %s AND until > now()", lane)
        return rows[0][0] if rows else None

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._database, autocommit=True) as connection:
            return connection.execute(query.encode(), values).fetchall()


def lines(member: Receiver, event: str) -> list[dict[str, Any]]:
    """The lines of a process's log that tell of one thing."""
    found = (json.loads(line) for line in member.output().splitlines() if line.startswith("{"))
    return [line for line in found if line["event"] == event]


@asynccontextmanager
async def fleet(
    folder: Path, settings: Mapping[str, str], database: str, *commands: Sequence[str]
) -> AsyncIterator[tuple[Fleet, list[Receiver]]]:
    """Processes that are ready; nothing of them runs on afterwards."""
    whole = Fleet(folder, settings, database)
    for command in commands:
        whole.add(*command)
    try:
        await whole.start(*whole.members)
        yield whole, list(whole.members)
    finally:
        for member in whole.members:
            await asyncio.to_thread(member.discard)
            await member.http.aclose()
