"""One look at everything: the facts of this process, of others on its record, of the record and the disk."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from receiver.clock import Clock
from receiver.config.fields import key_variable
from receiver.errors import Unavailable
from receiver.fetching.fetcher import reserved_bytes
from receiver.health.facts import Disk, Facts, Limits, ProviderSeen, SinkSeen
from receiver.health.lines import HealthReport, rule_of
from receiver.health.one_look import OneLook
from receiver.health.rules import RULES, is_known, judge
from receiver.health.watch import Watch
from receiver.lanes import NOWHERE
from receiver.loops import sink_lane
from receiver.models import Backlog, Outcome, SinkState, poll_lane
from receiver.polling.circuit import PROVIDER_FAILURES, is_ours
from receiver.polling.status_client import StatusClient
from receiver.ports import Provider
from receiver.relay import Relay
from receiver.threads import beside
from receiver.worker import RUNNING

PATIENCE_SECONDS = 1.0  # for the record and the disk: what takes longer is not known now


class HealthLook:
    """Looks at everything that is open, and judges what it found.

    ``states`` are the loops of this process, ``elsewhere`` those that others run, by their names; ``backlog``
    counts what waits, and may raise Unavailable.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each a part of what it looks at
        self,
        *,
        clock: Clock,
        limits: Limits,
        watch: Watch,
        check_store: Callable[[], Awaitable[str]],
        backlog: Callable[[], Awaitable[Backlog]],
        states: Callable[[], Mapping[str, str]],
        elsewhere: Callable[[], Mapping[str, str]],
        relay: Relay,
        status_client: StatusClient,
        providers: Mapping[str, Provider],
        sinks: Iterable[str],
        data_dir: Path,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._watch = watch
        self._check_store = check_store
        self._backlog = backlog
        self._states = states
        self._elsewhere = elsewhere
        self._relay = relay
        self._status_client = status_client
        self._providers = providers
        self._sinks = tuple(sinks)
        self._data_dir = data_dir
        self._disk_look: OneLook[Disk | None] = OneLook()
        self._told_since: Mapping[str, datetime] = {}  # lanes of others that are not well
        self._lines_since: Mapping[str, datetime] = {}

    async def look(self) -> HealthReport:
        """All that is wrong now. What cannot be read in time is left out, and named as not known."""
        facts = await self._facts()
        known = frozenset(rule.name for rule in RULES if is_known(rule, facts))
        lines = judge(facts, self._lines_since)
        unseen = (key for key in self._lines_since if rule_of(key) not in known)
        self._lines_since = _noticed(self._lines_since, [*(line.key for line in lines), *unseen], facts.now)
        return HealthReport(
            as_of=facts.now,
            lines=tuple(lines),
            looked_at=tuple(rule.name for rule in RULES if rule.name in known),
            unknown=tuple(rule.name for rule in RULES if rule.name not in known),
            last_delivery_at=facts.backlog.newest_delivery_at if facts.backlog else None,
        )

    async def _facts(self) -> Facts:
        found, backlog, (disk, is_disk_known) = await asyncio.gather(
            self._check_store(), self._counted(), self._disk_seen()
        )
        now, elsewhere = self._clock.now(), self._elsewhere()
        told = {name for name, state in elsewhere.items() if state not in {RUNNING, NOWHERE}}
        self._told_since = _noticed(self._told_since, told, now)
        return Facts(
            now=now,
            limits=self._limits,
            store_problem=None if found == "ok" else found,
            loops={**self._states(), **elsewhere},
            crashes=dict(self._watch.crashes),
            disk=disk,
            is_disk_known=is_disk_known,
            sinks={name: self.sink(name) for name in self._sinks},
            providers={name: self.provider(name) for name in self._providers},
            unauthorised=self._watch.unauthorised,
            refused=self._watch.refused,
            clock_move=self._watch.clock_move,
            backlog=backlog,
        )

    async def _counted(self) -> Backlog | None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._backlog()
        except (TimeoutError, Unavailable):
            return None

    async def _disk_seen(self) -> tuple[Disk | None, bool]:
        """The disk, and whether it answered in time."""

        def look() -> Coroutine[Any, Any, Disk | None]:
            return beside(lambda: _disk(self._data_dir), "disk")

        try:
            return await self._disk_look.within(PATIENCE_SECONDS, look), True
        except TimeoutError:
            return None, False

    def sink(self, name: str) -> SinkSeen:
        """How a sink takes events, here or where another process sends to it."""
        lane, now = sink_lane(name), self._clock.now()
        told = self._elsewhere().get(lane, RUNNING)
        if told == NOWHERE:  # a line of its loop says so
            return SinkSeen(state=SinkState.OK)
        if told != RUNNING:
            return SinkSeen(
                state=sink_state_told(told), outcome=_outcome_told(told), since=self._told_since.get(lane)
            )
        last, failing = self._relay.answers.get(name), self._relay.failing_for(name)
        return SinkSeen(
            state=self._relay.state(name),
            outcome=last.outcome if last else None,
            since=now - failing if failing else None,
        )

    def provider(self, name: str) -> ProviderSeen:
        """Whether a provider can be asked, here or where another process does it."""
        facts, lane, client = self._providers[name].facts, poll_lane(name), self._status_client
        told, now = self._elsewhere().get(lane, RUNNING), self._clock.now()
        outcome, since = None, None
        if told not in {RUNNING, NOWHERE}:
            outcome, since = _outcome_told(told), self._told_since.get(lane)
        elif problem := client.problem(name):
            outcome = _outcome_told(problem)
            since = now - (client.lasting(name, PROVIDER_FAILURES) or timedelta())
        return ProviderSeen(
            title=facts.title,
            pushes=facts.pushes,
            key_variable=key_variable(name),
            has_key=client.can_ask(name),
            outcome=outcome,
            is_ours=outcome is not None and outcome in PROVIDER_FAILURES and is_ours(outcome),
            since=since,
            called_at=self._watch.called_at(name),
            usual_gap=self._watch.usual_gap(name),
        )


def sink_state_told(told: str) -> SinkState:
    """How a sink is to which another process sends, by what that says of it."""
    if told.startswith("stopped"):
        return SinkState.STOPPED
    return SinkState.FAILING if told.startswith(RUNNING) else SinkState.DOWN


def _outcome_told(told: str) -> Outcome | None:
    """The outcome that words for people begin with; the rest of them may quote somebody else."""
    word = told.removeprefix(f"{RUNNING}, but ").removeprefix("stopped: ").partition(":")[0]
    return Outcome(word) if word in set(Outcome) else None


def _noticed(before: Mapping[str, datetime], keys: Iterable[str], now: datetime) -> dict[str, datetime]:
    """Since when each of these was there at every look."""
    return {key: before.get(key, now) for key in keys}


def _disk(folder: Path) -> Disk | None:
    """None where there is no such folder, as for a process that only answers requests."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return None
    return Disk(free_bytes=disk.free, floor_bytes=reserved_bytes(disk.total))
