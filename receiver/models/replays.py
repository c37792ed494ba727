"""What admins do again: replays, dead letters, and the filter that picks what they apply to."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from receiver.models.states import EventType, Outcome, ReplayState, Stage, TaskState
from receiver.models.tasks import Recording


class WorkFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay or a requeue applies to; unset fields let everything pass.

    ``since`` and ``until`` compare with when the task was submitted (``poll``), its result came
    (``fetch``, ``reprocess``) or its event ended (``notify``, dead letters); ``logged_since`` and
    ``logged_until`` with when the task was logged, as the times of lists do, whatever is done. A delivery of
    no task was never logged, so neither lets it pass.
    """

    provider: str | None = None
    owner: str | None = None
    state: TaskState | None = None
    type: EventType | None = None
    since: datetime | None = None
    until: datetime | None = None
    logged_since: datetime | None = None
    logged_until: datetime | None = None
    task_ids: tuple[str, ...] = ()


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A durable job that does a stage again for everything that matched when it was asked for.

    It looks at one match after the other, and queues what there is to do: notifications, files, polls.
    ``results`` counts by outcome what has settled. It is done when all is looked at and settled.
    """

    id: str
    stage: Stage
    filter: WorkFilter
    sinks: tuple[str, ...]  # for notify; empty: every sink that wants the event
    rate: float | None  # matches a second; None: as fast as they settle
    state: ReplayState
    requested_by: str
    created_at: datetime
    finished_at: datetime | None
    matched: int
    looked_at: int
    queued: int
    settled: int
    results: Mapping[str, int]


def new_replay(
    *,
    id: str,  # noqa: A002 - the field's name
    stage: Stage,
    filter: WorkFilter,  # noqa: A002 - the field's name
    sinks: tuple[str, ...],
    rate: float | None,
    requested_by: str,
    created_at: datetime,
) -> Replay:
    """One as it is before its first step; the store counts what it matches."""
    return Replay(
        id=id,
        stage=stage,
        filter=filter,
        sinks=sinks,
        rate=rate,
        state=ReplayState.RUNNING,
        requested_by=requested_by,
        created_at=created_at,
        finished_at=None,
        matched=0,
        looked_at=0,
        queued=0,
        settled=0,
        results={},
    )


class ReplayWork(msgspec.Struct, frozen=True, kw_only=True):
    """A replay whose next step is due; ``lease`` must still be on its row when the step is made."""

    replay: Replay
    lease: str


class Matches(msgspec.Struct, frozen=True, kw_only=True):
    """What a step of a replay is about. The keys are the store's own: they are handed back as they came."""

    keys: tuple[str, ...]
    next_key: str | None  # where the step after it begins; None: there is nothing left to look at


class KeptDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A raw delivery that was not understood when it came."""

    number: int
    recording: Recording  # as it came; its report is still to be read again


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A notification that was given up."""

    id: str
    sink: str
    event_id: str
    provider: str
    task_id: str
    owner: str
    type: EventType
    revision: int
    replay_id: str | None
    attempts: int
    outcome: Outcome
    detail: str | None  # of the last attempt
    created_at: datetime
    settled_at: datetime


class TallyPart(msgspec.Struct, frozen=True, kw_only=True):
    """How many of one provider, state and sink; of what is for no certain sink, or no task, without these."""

    provider: str
    state: str | None
    sink: str | None
    count: int


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How much a plan is about. Where it is not whole, it is that much at least."""

    parts: tuple[TallyPart, ...]
    is_whole: bool

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)


class FoundDead(msgspec.Struct, frozen=True, kw_only=True):
    """Some dead letters, and where the next ones are looked for, if there may be more.

    The keys are the store's own: they are handed back as they came.
    """

    keys: tuple[str, ...]
    cursor: str | None


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How many entries another sink got, and how many it had already, which are gone."""

    moved: int
    had: int


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, newest first, and where the next part begins."""

    dead_letters: tuple[DeadLetter, ...]
    next_cursor: str | None
