"""`receiver serve` as a child process that dies at a named place of its code."""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.armed import Fault
from tests.e2e.forked import Request, parent
from tests.e2e.service import Receiver


class FaultyReceiver(Receiver):
    """A receiver that has ``fault`` in the lives that begin while it is set."""

    fault: Fault | None = None

    def launch(self) -> None:
        request = Request(environment=self.environment, output=str(self._output), fault=self.fault)
        self._process = parent().begin(request)

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
