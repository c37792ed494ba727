"""Makes checks inside a running service: at once, each within its time, whatever one of them meets."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec
import structlog

from receiver import threads
from receiver.health.checks import Check, fail
from receiver.health.one_look import OneLook

LIMIT_SECONDS = 2.0  # for each check; a disk or a record that hangs keeps nobody longer
KEPT_SECONDS = 3.0  # what was found is told again so long, however often it is asked for

Look = Callable[[], Awaitable[Iterable[Check]]]

log = structlog.get_logger()


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at under one name; ``checks`` is None where that took too long to be known now."""

    name: str
    checks: list[Check] | None


class Examination:
    """Looks at parts by their names. One that hangs is waited for again, and never begun twice."""

    def __init__(self) -> None:
        self._looking: defaultdict[str, OneLook[list[Check]]] = defaultdict(OneLook)
        self._found: dict[str, tuple[float, Part]] = {}

    async def examine(self, looks: Mapping[str, Look]) -> list[Part]:
        """All of them at once, in this order."""
        return await asyncio.gather(*(self._within_limit(name, look) for name, look in looks.items()))

    async def _within_limit(self, name: str, look: Look) -> Part:
        at, found = self._found.get(name, (0.0, None))
        if found is not None and time.monotonic() - at < KEPT_SECONDS:
            return found
        try:
            checks = await self._looking[name].within(LIMIT_SECONDS, lambda: _looked(name, look))
        except TimeoutError:
            return Part(name=name, checks=None)
        part = Part(name=name, checks=checks)
        self._found[name] = time.monotonic(), part
        return part


async def _looked(name: str, look: Look) -> list[Check]:
    try:
        return [*await look()]
    except Exception as exc:  # one check that fails hides no other
        log.exception("doctor.check_failed", check=name)
        said = f"could not be looked at ({type(exc).__name__})"
        return [fail(name, said, "look at the service's log for doctor.check_failed")]


def beside(check: Callable[[], Iterable[Check]]) -> Look:
    """A check that may block, in a thread of its own: no work and no stop waits for one that hangs."""

    async def look() -> list[Check]:
        return await threads.beside(lambda: [*check()], "doctor")

    return look
