"""`receiver serve` as a child process that dies at a named place of its code."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from tests.e2e.armed import Fault
from tests.e2e.service import Receiver
from tests.support.places import ROOT


class FaultyReceiver(Receiver):
    """A receiver that has ``fault`` in the lives that begin while it is set."""

    fault: Fault | None = None

    def launch(self) -> None:
        if self.fault is None:
            super().launch()
            return
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.armed", msgspec.json.encode(self.fault).decode()],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    async def died(self) -> None:
        """Wait until it came to the place. The next life has no fault."""
        assert await self.ended(30.0) == -signal.SIGKILL, self.output()
        self.fault = None


@asynccontextmanager
async def faulty_receiver(
    folder: Path, fault: Fault | None = None, settings: Mapping[str, str] | None = None
) -> AsyncIterator[FaultyReceiver]:
    """A service that is not started yet; nothing of it runs on afterwards."""
    service = FaultyReceiver(folder, settings or {})
    service.fault = fault
    try:
        async with service.http:
            yield service
    finally:
        service.discard()
