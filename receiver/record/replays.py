"""Replays as durable jobs: what was asked for, how far it is, and what has come of it.

What a step does to other tables is in ``replay_steps``; what settles there is counted here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from receiver.models import EventType, Replay, ReplayState, ReplayWork, Route, Stage
from receiver.record.cursor import Cursor
from receiver.record.filters import newest_number
from receiver.record.leases import HELD
from receiver.record.rows import parameters, parameters_of, read_all, read_one

MOST_UNSETTLED = 1000  # pieces of one replay: beyond it the sinks, hosts and providers come first
PATIENCE = timedelta(seconds=0.25)  # until looking again whether they have

WITHDRAWN = "withdrawn"  # the outcome of a piece that was taken back

REPLAY_COLUMNS = """id, stage, filter, sinks, rate, state, requested_by, created_at, finished_at,
    matched, looked_at, queued, settled, results"""

FREE_REPLAYS = f"UPDATE replays SET lease = NULL, due_at = :now WHERE due_at IS NOT NULL AND {HELD}"  # noqa: S608

INSERT_REPLAY = """
INSERT INTO replays (id, stage, filter, sinks, rate, requested_by, created_at, matched, up_to, due_at)
VALUES (:id, :stage, :filter, :sinks, :rate, :requested_by, :created_at, :matched, :up_to, :created_at)
"""

ONE_REPLAY = f"SELECT {REPLAY_COLUMNS} FROM replays WHERE id = :id"  # noqa: S608
NEWEST_REPLAYS = f"SELECT {REPLAY_COLUMNS} FROM replays ORDER BY id DESC LIMIT :limit"  # noqa: S608

# The replays whose next step is due, a cancelled one's being to take back what it queued, and those that have
# ended and were not handed out since.
DUE_REPLAYS = f"""
SELECT {REPLAY_COLUMNS} FROM replays
WHERE state IN ('running', 'cancelled', 'done') AND due_at <= :now ORDER BY due_at LIMIT :limit
"""  # noqa: S608

# One that has ended is handed out once, for its end to be told.
LEASE_REPLAY = """
UPDATE replays SET lease = :lease, due_at = CASE state WHEN 'done' THEN NULL ELSE :until END WHERE id = :id
"""

# The next step has to wait for the pieces of those before it.
PUT_OFF = "UPDATE replays SET lease = NULL, due_at = :patience WHERE id = :id"

# How many notifications of a replay wait at one sink; counting stops at the limit.
WAITING_AT = """
SELECT count(*) FROM (
    SELECT 1 FROM outbox
    WHERE replay_id = :id AND replay_id <> '' AND sink = :sink AND state = 'pending' LIMIT :limit
) w
"""

IS_CANCELLED = "SELECT 1 FROM replays WHERE id = :id AND state = 'cancelled'"

IS_LEASED = "SELECT 1 FROM replays WHERE id = :id AND lease = :lease AND state = 'running'"

# One step is made. Without a time for the next there is nothing left to look at.
MOVE = """
UPDATE replays SET lease = NULL, due_at = :due_at, cursor = coalesce(:cursor, cursor),
    looked_at = looked_at + :looked_at, queued = queued + :queued
WHERE id = :id
"""

# Pieces have settled.
RESULTS = "SELECT results FROM replays WHERE id = :id"
COUNT_SETTLED = "UPDATE replays SET settled = settled + :pieces, results = :results WHERE id = :id"

# All was looked at and has settled. It falls due once more, for its end to be told.
FINISH = """
UPDATE replays SET state = 'done', finished_at = :now, due_at = :now
WHERE id = :id AND state IN ('running', 'paused') AND due_at IS NULL AND settled >= queued
"""

# Somebody has paused or resumed it. Where there is a next step, a resumed one makes it at once.
CHANGE = """
UPDATE replays SET state = :state, lease = NULL, due_at = CASE WHEN due_at IS NULL THEN NULL ELSE :now END
WHERE id = :id
"""
CANCEL = """
UPDATE replays SET state = 'cancelled', lease = NULL, due_at = NULL, finished_at = :now WHERE id = :id
"""

# Of a cancelled one there is more to take back, or nothing more.
WITHDRAW_ON = "UPDATE replays SET lease = :lease, due_at = :due_at WHERE id = :id"
IS_BEING_WITHDRAWN = "SELECT 1 FROM replays WHERE id = :id AND state = 'cancelled' AND due_at IS NOT NULL"
IS_WITHDRAWING = "SELECT 1 FROM replays WHERE id = :id AND lease = :lease AND state = 'cancelled'"


def free_leases(db: Cursor, now: datetime, holder: str) -> None:
    """What a holder who is gone was at goes on."""
    db.execute(FREE_REPLAYS, parameters(now=now, holder=holder))


def start(db: Cursor, replay: Replay) -> Replay:
    """Keep a new replay, or find it; see ``ports.ReplayStore.start_replay``."""
    known = get_replay(db, replay.id)
    if known is not None:
        return known
    db.execute(INSERT_REPLAY, parameters_of(replay, up_to=newest_number(db, replay.stage)))
    return replay


def lease_replays(
    db: Cursor,
    now: datetime,
    lease_until: datetime,
    lease: str,
    *,
    limit: int,
    ahead: Mapping[str, int],
    routes: Sequence[Route],
) -> list[ReplayWork]:
    """Take due replays; see ``ports.ReplayStore.lease_replays``."""
    values = parameters(now=now, limit=limit, lease=lease, until=lease_until, patience=now + PATIENCE)
    due = read_all(db.execute(DUE_REPLAYS, values), Replay)
    works = [
        ReplayWork(replay=replay, lease=lease)
        for replay in due
        if not _is_ahead(db, replay, routes, max(MOST_UNSETTLED, ahead.get(replay.id, 0)))
    ]
    taken = {work.replay.id for work in works}
    db.executemany(PUT_OFF, [{**values, "id": replay.id} for replay in due if replay.id not in taken])
    db.executemany(LEASE_REPLAY, [{**values, "id": replay_id} for replay_id in taken])
    return works


def _is_ahead(db: Cursor, replay: Replay, routes: Sequence[Route], most: int) -> bool:
    """Whether more than ``most`` of a replay has not settled that its next step has to wait.

    Of notifications, at every sink that may get any: one that is down must not hold up the others, not even
    those whose first one is still to come.
    """
    if replay.state is not ReplayState.RUNNING or replay.queued - replay.settled <= most:
        return False
    if replay.stage is not Stage.NOTIFY:
        return True
    for sink in [route.sink for route in routes if _may_get_any(replay, route)]:
        values = {"id": replay.id, "sink": sink, "limit": most + 1}
        (waiting,) = db.execute(WAITING_AT, values).fetchone()
        if waiting <= most:
            return False
    return True


def _may_get_any(replay: Replay, route: Route) -> bool:
    """Whether a sink is one of those named; or else may want anything that a replay's filter lets pass."""
    if replay.sinks:
        return route.sink in replay.sinks
    wanted = replay.filter
    types = {
        kind
        for kind in EventType
        if wanted.type in {None, kind} and wanted.state in {None, kind.removeprefix("task.")}
    }
    return (
        (not route.providers or wanted.provider is None or wanted.provider in route.providers)
        and (not route.owners or wanted.owner is None or wanted.owner in route.owners)
        and (not route.types or not types.isdisjoint(route.types))
    )


def is_leased(db: Cursor, work: ReplayWork) -> bool:
    """Whether nobody paused or ended the replay, or took it over, since this step was leased."""
    return db.execute(IS_LEASED, {"id": work.replay.id, "lease": work.lease}).fetchone() is not None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a step of a replay came to."""

    looked_at: int  # matches
    queued: int  # pieces
    results: Mapping[str, int] = {}  # of those that have settled already, by outcome
    next_number: int | None  # where the next one begins; None: there is nothing left to look at


def move(db: Cursor, replay_id: str, step: Step, *, now: datetime, next_at: datetime) -> None:
    """A step is made."""
    is_last = step.next_number is None
    values = parameters(
        id=replay_id,
        due_at=None if is_last else next_at,
        cursor=None if step.next_number is None else step.next_number - 1,
        looked_at=step.looked_at,
        queued=step.queued,
    )
    db.execute(MOVE, values)
    add_results(db, replay_id, step.results)
    _finish(db, replay_id, now)


def is_cancelled(db: Cursor, replay_id: str | None) -> bool:
    """Whether a piece belongs to a replay that was ended before its time."""
    return replay_id is not None and db.execute(IS_CANCELLED, {"id": replay_id}).fetchone() is not None


def is_being_withdrawn(db: Cursor, replay_id: str) -> bool:
    """Whether what a cancelled replay queued is just being taken back: then none of it is handed out."""
    return db.execute(IS_BEING_WITHDRAWN, {"id": replay_id}).fetchone() is not None


def count_settled(db: Cursor, replay_id: str, outcome: str, now: datetime, *, pieces: int = 1) -> None:
    """Pieces that a replay queued have ended, each for the only time; the last one ends the replay."""
    add_results(db, replay_id, {outcome: pieces})
    _finish(db, replay_id, now)


def add_results(db: Cursor, replay_id: str, results: Mapping[str, int]) -> None:
    """So many more pieces have settled, by outcome."""
    row = db.execute(RESULTS, {"id": replay_id}).fetchone() if results else None
    if row is None:
        return
    counted = Counter(msgspec.json.decode(row[0], type=dict[str, int])) + Counter(results)
    pieces = sum(results.values())
    db.execute(COUNT_SETTLED, parameters(id=replay_id, pieces=pieces, results=counted))


def _finish(db: Cursor, replay_id: str, now: datetime) -> None:
    db.execute(FINISH, parameters(id=replay_id, now=now))


def change(db: Cursor, replay_id: str, state: ReplayState, now: datetime) -> None:
    """Pause or resume. The step that is being made, if any, will find its lease gone and change nothing."""
    db.execute(CHANGE, parameters(id=replay_id, state=state, now=now))


def cancel(db: Cursor, replay_id: str, now: datetime) -> None:
    """End a replay before its time."""
    db.execute(CANCEL, parameters(id=replay_id, now=now))


def withdraw_on(
    db: Cursor, replay_id: str, withdrawn: int, *, due_at: datetime | None, lease: str | None = None
) -> None:
    """Count what was taken back of a cancelled replay, and when to take back more, if there is more."""
    add_results(db, replay_id, {WITHDRAWN: withdrawn} if withdrawn else {})
    db.execute(WITHDRAW_ON, parameters(id=replay_id, lease=lease if due_at else None, due_at=due_at))


def is_withdrawing(db: Cursor, work: ReplayWork) -> bool:
    """Whether a cancelled replay is still this one's to take back."""
    return db.execute(IS_WITHDRAWING, {"id": work.replay.id, "lease": work.lease}).fetchone() is not None


def get_replay(db: Cursor, replay_id: str) -> Replay | None:
    return read_one(db.execute(ONE_REPLAY, {"id": replay_id}), Replay)


def list_replays(db: Cursor, limit: int) -> list[Replay]:
    return read_all(db.execute(NEWEST_REPLAYS, {"limit": limit}), Replay)
