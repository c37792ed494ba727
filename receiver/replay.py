"""One step of a leased replay: queue matching work again, or read kept deliveries again."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import structlog

from receiver.clock import Clock
from receiver.errors import Rejected
from receiver.ingest import fingerprint, links_die_at, read_callback, read_report
from receiver.models import (
    EventType,
    KeptDelivery,
    Recording,
    Replay,
    ReplayState,
    ReplayWork,
    Stage,
    TaskState,
    Via,
)
from receiver.ports import Provider, Store
from receiver.step_pace import StepPace

log = structlog.get_logger()

MOST_AT_ONCE = 100  # matches in one step: callbacks wait behind it for milliseconds only
# Events to be sent again in one step, which takes one row for each sink: as many as are queued in this time.
FIRST_EVENTS, MOST_EVENTS_AT_ONCE = 200, 500
EVENTS_PACE = StepPace(step_seconds=0.01, least=MOST_AT_ONCE, most=MOST_EVENTS_AT_ONCE)
# Sinks that take much are given so much in advance: else they would wait for the next step. What is new waits
# behind it.
AHEAD_SECONDS = 0.5
RATED_SECONDS = 0.25  # how long it is counted what sinks take, before that is believed
MOST_BODIES_AT_ONCE = 10  # kept deliveries in one step: all of them are in memory, and each may be large
BREATH_SECONDS = 0.02  # between two steps, in which the callbacks go first
WITHDRAW_LEASE = timedelta(seconds=30)  # from one transaction to the next: far longer than any takes
STRIDE_SECONDS = 0.5  # the least between two steps of a slow replay, so that it writes seldom

# Whom the pieces of a stage are for; an empty name is everybody.
WOKEN = {Stage.NOTIFY: "sink", Stage.FETCH: "assets", Stage.POLL: "poll", Stage.REPROCESS: ""}

# The tasks that a stage is about, by their state; a kept delivery may be of any, or of none.
_STATES = {
    Stage.NOTIFY: frozenset({TaskState.COMPLETED, TaskState.PARTIAL, TaskState.FAILED}),
    Stage.FETCH: frozenset({TaskState.PARTIAL, TaskState.FAILED}),
    Stage.REPROCESS: frozenset(TaskState),
    Stage.POLL: frozenset({TaskState.SUBMITTED}),
}


class Replayer:
    """Makes the steps of replays. ``wake`` is told which loops may have work now.

    ``in_parts`` are the providers whose callbacks have a part of a result, as for ``Ingest``.
    """

    def __init__(
        self,
        *,
        store: Store,
        providers: Mapping[str, Provider],
        clock: Clock,
        wake: Callable[[str], None],
        in_parts: Collection[str] = (),
    ) -> None:
        self._store = store
        self._providers = providers
        self._clock = clock
        self._wake = wake
        self._in_parts = in_parts
        self._paces: dict[str, Pace] = {}

    async def lease(self, now: datetime, until: datetime, limit: int) -> list[ReplayWork]:
        """Take replays whose next step is due, for so many calls of ``run``."""
        ahead = {replay_id: pace.most_unsettled for replay_id, pace in self._paces.items()}
        return await self._store.lease_replays(now, until, limit, ahead=ahead)

    async def run(self, work: ReplayWork) -> None:
        """Make one step of a replay, or log its end.

        Raises Unavailable when the store cannot make it: the lease runs out and the same step is made again,
        as it is after a cancellation.
        """
        replay = work.replay
        if replay.state is not ReplayState.RUNNING:
            self._paces.pop(replay.id, None)
        if replay.state is ReplayState.DONE:
            ended_at = replay.finished_at or replay.created_at
            log.info(
                "replay.done",
                replay_id=replay.id,
                stage=replay.stage.value,
                matched=replay.matched,
                looked_at=replay.looked_at,
                queued=replay.queued,
                settled=replay.settled,
                results=dict(replay.results),
                seconds=round((ended_at - replay.created_at).total_seconds(), 3),
            )
            return
        if replay.state is ReplayState.CANCELLED:
            # Take back all that it queued and nobody holds, with pauses for callbacks.
            is_more = True
            while is_more:
                before, now = self._clock.uptime(), self._clock.now()
                is_more = await self._store.withdraw_pieces(work, now, now + WITHDRAW_LEASE)
                await asyncio.sleep((self._clock.uptime() - before).total_seconds())
            return
        began = self._clock.uptime()
        pace = self._paces.setdefault(replay.id, Pace(replay.settled, began))
        pace.count(replay.settled, began)
        limit, wait_seconds = plan_step(replay, pace.events_at_once)
        now = self._clock.now()
        next_at = now + timedelta(seconds=wait_seconds)
        if replay.stage is Stage.REPROCESS:
            kept = await self._store.list_kept(work, limit)
            read = await read_again(self._providers, kept, self._in_parts)
            moved = await self._store.reprocess(work, read, now, next_at)
        else:
            matches = await self._store.find_matches(work, limit)
            began = self._clock.uptime()
            moved = await self._store.step_replay(work, matches, now, next_at)
            pace.step_took(self._clock.uptime() - began)
        if moved:
            self._wake(WOKEN[replay.stage])


class Pace:
    """How fast a replay may go on, by how long its steps take and how much of it settles."""

    def __init__(self, settled: int, now: timedelta) -> None:
        self.events_at_once = FIRST_EVENTS
        self.most_unsettled = 0  # what its sinks take in ``AHEAD_SECONDS``
        self._settled, self._since = settled, now

    def count(self, settled: int, now: timedelta) -> None:
        """So many of its pieces have settled by now."""
        seconds = (now - self._since).total_seconds()
        if seconds >= RATED_SECONDS:
            self.most_unsettled = int((settled - self._settled) / seconds * AHEAD_SECONDS)
            self._settled, self._since = settled, now

    def step_took(self, time: timedelta) -> None:
        """A step was queued, and callbacks waited so long behind it at most."""
        self.events_at_once = EVENTS_PACE.next_rows(self.events_at_once, time.total_seconds())


async def read_again(
    providers: Mapping[str, Provider], found: Sequence[KeptDelivery], in_parts: Collection[str]
) -> list[KeptDelivery]:
    """Kept deliveries as today's adapters read them, and as they would be filed if they came today."""
    read = []
    for kept in found:
        name, again = kept.recording.provider, kept.recording
        if (provider := providers.get(name)) is not None:
            again = _understood(provider, again, is_part=name in in_parts)
        read.append(msgspec.structs.replace(kept, recording=again))
        await asyncio.sleep(0)  # a body may be large, and callbacks wait for the same loop
    return read


def _understood(provider: Provider, came: Recording, *, is_part: bool) -> Recording:
    """The recording with today's meaning; unchanged where it is still not understood."""
    try:
        read = read_report if came.via is Via.POLL else read_callback
        report = read(provider, came.body)
    except Rejected:  # not even JSON
        return came
    if came.via is Via.POLL and report.task_id != came.report.task_id:
        return came  # an answer about another task is no answer
    return msgspec.structs.replace(
        came,
        report=report,
        fingerprint=fingerprint(report, with_files=not is_part),
        links_die_at=links_die_at(provider, came.received_at),
    )


def plan_step(replay: Replay, events_at_once: int) -> tuple[int, float]:
    """How many matches to look at now, and the seconds until the next step; pure.

    Over time this is the replay's ``rate``; without one, steps are as fast as their work is settled.
    """
    most = {Stage.REPROCESS: MOST_BODIES_AT_ONCE, Stage.NOTIFY: events_at_once}.get(
        replay.stage, MOST_AT_ONCE
    )
    if replay.rate is None:
        return most, BREATH_SECONDS
    limit = min(most, max(1, int(replay.rate * STRIDE_SECONDS)))
    return limit, limit / replay.rate


def check_can_match(stage: Stage, state: TaskState | None, kind: EventType | None) -> None:
    """Raises ValueError where a filter asks a stage for tasks in a state that the stage never handles."""
    told = TaskState(kind.removeprefix("task.")) if kind else None
    if state and told and state is not told:
        raise ValueError(f"nothing can match: {kind} is the end of tasks in state {told}, not {state}")
    wanted = state or told
    if wanted and wanted not in _STATES[stage]:
        states = ", ".join(each for each in TaskState if each in _STATES[stage])
        raise ValueError(
            f"nothing can match: the stage {stage} is only about tasks in state {states}, not {wanted}"
        )
