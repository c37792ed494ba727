"""Replays as durable jobs: what was asked for, how far it is, and what has come of it.

What a step does to other tables is in ``stepping``; what settles there is counted here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from receiver.models import EventType, Replay, ReplayState, ReplayWork, Route, Stage, WorkFilter
from receiver.record.cursor import Cursor
from receiver.times import from_text, from_text_if_any, to_text

MOST_UNSETTLED = 1000  # pieces of one replay: beyond it the sinks, hosts and providers come first
PATIENCE = timedelta(seconds=1)  # until looking again whether they have

WITHDRAWN = "withdrawn"  # the outcome of a piece that was taken back

REPLAY_COLUMNS = """id, stage, filter, sinks, rate, state, requested_by, created_at, finished_at,
    matched, looked_at, queued, settled, results"""

# After a start nobody holds a lease: the process that held them is gone.
FREE_REPLAYS = "UPDATE replays SET lease = NULL, due_at = ? WHERE due_at IS NOT NULL AND lease IS NOT NULL"

INSERT_REPLAY = """
INSERT INTO replays (id, stage, filter, sinks, rate, requested_by, created_at, matched, up_to, due_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

ONE_REPLAY = f"SELECT {REPLAY_COLUMNS} FROM replays WHERE id = ?"  # noqa: S608
NEWEST_REPLAYS = f"SELECT {REPLAY_COLUMNS} FROM replays ORDER BY id DESC LIMIT ?"  # noqa: S608

# The replays whose next step is due, a cancelled one's being to take back what it queued, and those that have
# ended and were not handed out since.
DUE_REPLAYS = f"""
SELECT {REPLAY_COLUMNS} FROM replays
WHERE state IN ('running', 'cancelled', 'done') AND due_at <= ? ORDER BY due_at LIMIT ?
"""  # noqa: S608

# One that has ended is handed out once, for its end to be told.
LEASE_REPLAY = """
UPDATE replays SET lease = ?, due_at = CASE state WHEN 'done' THEN NULL ELSE ? END WHERE id = ?
"""

# The next step has to wait for the pieces of those before it.
PUT_OFF = "UPDATE replays SET lease = NULL, due_at = ? WHERE id = ?"

# How many notifications of a replay wait at one sink; counting stops at the limit.
WAITING_AT = """
SELECT count(*) FROM (
    SELECT 1 FROM outbox WHERE replay_id = ? AND replay_id <> '' AND sink = ? AND state = 'pending' LIMIT ?
)
"""

IS_CANCELLED = "SELECT 1 FROM replays WHERE id = ? AND state = 'cancelled'"

IS_LEASED = "SELECT 1 FROM replays WHERE id = ? AND lease = ? AND state = 'running'"

# One step is made. Without a time for the next there is nothing left to look at.
MOVE = """
UPDATE replays SET lease = NULL, due_at = ?, cursor = coalesce(?, cursor), looked_at = looked_at + ?,
    queued = queued + ?
WHERE id = ?
"""

# Pieces have settled.
COUNT_SETTLED = """
UPDATE replays SET settled = settled + ?1,
    results = json_set(results, '$.' || ?2, coalesce(json_extract(results, '$.' || ?2), 0) + ?1)
WHERE id = ?3
"""

# All was looked at and has settled. It falls due once more, for its end to be told.
FINISH = """
UPDATE replays SET state = 'done', finished_at = ?1, due_at = ?1
WHERE id = ?2 AND state IN ('running', 'paused') AND due_at IS NULL AND settled >= queued
"""

# Somebody has paused or resumed it. Where there is a next step, a resumed one makes it at once.
CHANGE = """
UPDATE replays SET state = ?1, lease = NULL, due_at = CASE WHEN due_at IS NULL THEN NULL ELSE ?2 END
WHERE id = ?3
"""
CANCEL = "UPDATE replays SET state = 'cancelled', lease = NULL, due_at = NULL, finished_at = ? WHERE id = ?"

# Of a cancelled one there is more to take back, or nothing more.
WITHDRAW_ON = "UPDATE replays SET lease = ?, due_at = ? WHERE id = ?"
IS_BEING_WITHDRAWN = "SELECT 1 FROM replays WHERE id = ? AND state = 'cancelled' AND due_at IS NOT NULL"
IS_WITHDRAWING = "SELECT 1 FROM replays WHERE id = ? AND lease = ? AND state = 'cancelled'"


def free_leases(db: Cursor, now: datetime) -> None:
    """What an earlier process was at goes on."""
    db.execute(FREE_REPLAYS, (to_text(now),))


def start(db: Cursor, replay: Replay, matched: int, up_to: int) -> Replay:
    """Keep a new replay that was measured; see ``ports.Store.start_replay``."""
    moment = to_text(replay.created_at)
    values = (
        replay.id, replay.stage.value, _json(replay.filter), _json(replay.sinks), replay.rate,
        replay.requested_by, moment, matched, up_to, moment,
    )  # fmt: skip
    db.execute(INSERT_REPLAY, values)
    return msgspec.structs.replace(replay, matched=matched)


def lease_replays(
    db: Cursor,
    now: datetime,
    lease_until: datetime,
    lease: str,
    limit: int,
    routes: Sequence[Route],
) -> list[ReplayWork]:
    """Take due replays; see ``ports.Store.lease_replays``."""
    due = [_replay(row) for row in db.execute(DUE_REPLAYS, (to_text(now), limit)).fetchall()]
    works = [ReplayWork(replay=replay, lease=lease) for replay in due if not _is_ahead(db, replay, routes)]
    taken = {work.replay.id for work in works}
    patience, until = to_text(now + PATIENCE), to_text(lease_until)
    db.executemany(PUT_OFF, [(patience, replay.id) for replay in due if replay.id not in taken])
    db.executemany(LEASE_REPLAY, [(lease, until, replay_id) for replay_id in taken])
    return works


def _is_ahead(db: Cursor, replay: Replay, routes: Sequence[Route]) -> bool:
    """Whether so much of a replay has not settled that its next step has to wait.

    Of notifications, at every sink that may get any: one that is down must not hold up the others, not even
    those whose first one is still to come.
    """
    if replay.state is not ReplayState.RUNNING or replay.queued - replay.settled <= MOST_UNSETTLED:
        return False
    if replay.stage is not Stage.NOTIFY:
        return True
    sinks = [route.sink for route in routes if _may_get_any(replay, route)]
    return all(_waiting_at(db, replay, sink) > MOST_UNSETTLED for sink in sinks)


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


def _waiting_at(db: Cursor, replay: Replay, sink: str) -> int:
    (waiting,) = db.execute(WAITING_AT, (replay.id, sink, MOST_UNSETTLED + 1)).fetchone()
    return int(waiting)


def is_leased(db: Cursor, work: ReplayWork) -> bool:
    """Whether nobody paused or ended the replay, or took it over, since this step was leased."""
    return db.execute(IS_LEASED, (work.replay.id, work.lease)).fetchone() is not None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a step of a replay came to."""

    looked_at: int  # matches
    queued: int  # pieces
    results: Mapping[str, int] = {}  # of those that have settled already, by outcome
    next_number: int | None  # where the next one begins; None: there is nothing left to look at


def move(db: Cursor, replay_id: str, step: Step, *, now: datetime, next_at: datetime) -> None:
    """A step is made."""
    cursor, due_at = None, None
    if step.next_number is not None:
        cursor, due_at = step.next_number - 1, to_text(next_at)
    db.execute(MOVE, (due_at, cursor, step.looked_at, step.queued, replay_id))
    add_results(db, replay_id, step.results)
    _finish(db, replay_id, now)


def is_cancelled(db: Cursor, replay_id: str | None) -> bool:
    """Whether a piece belongs to a replay that was ended before its time."""
    return replay_id is not None and db.execute(IS_CANCELLED, (replay_id,)).fetchone() is not None


def is_being_withdrawn(db: Cursor, replay_id: str) -> bool:
    """Whether what a cancelled replay queued is just being taken back: then none of it is handed out."""
    return db.execute(IS_BEING_WITHDRAWN, (replay_id,)).fetchone() is not None


def count_settled(db: Cursor, replay_id: str, outcome: str, now: datetime, *, pieces: int = 1) -> None:
    """Pieces that a replay queued have ended, each for the only time; the last one ends the replay."""
    add_results(db, replay_id, {outcome: pieces})
    _finish(db, replay_id, now)


def add_results(db: Cursor, replay_id: str, results: Mapping[str, int]) -> None:
    """So many more pieces have settled, by outcome."""
    db.executemany(COUNT_SETTLED, [(number, outcome, replay_id) for outcome, number in results.items()])


def _finish(db: Cursor, replay_id: str, now: datetime) -> None:
    db.execute(FINISH, (to_text(now), replay_id))


def change(db: Cursor, replay_id: str, state: ReplayState, now: datetime) -> None:
    """Pause or resume. The step that is being made, if any, will find its lease gone and change nothing."""
    db.execute(CHANGE, (state.value, to_text(now), replay_id))


def cancel(db: Cursor, replay_id: str, now: datetime) -> None:
    """End a replay before its time."""
    db.execute(CANCEL, (to_text(now), replay_id))


def withdraw_on(
    db: Cursor, replay_id: str, withdrawn: int, *, due_at: datetime | None, lease: str | None = None
) -> None:
    """Count what was taken back of a cancelled replay, and when to take back more, if there is more."""
    add_results(db, replay_id, {WITHDRAWN: withdrawn} if withdrawn else {})
    db.execute(WITHDRAW_ON, (lease if due_at else None, to_text(due_at) if due_at else None, replay_id))


def is_withdrawing(db: Cursor, work: ReplayWork) -> bool:
    """Whether a cancelled replay is still this one's to take back."""
    return db.execute(IS_WITHDRAWING, (work.replay.id, work.lease)).fetchone() is not None


def get_replay(db: Cursor, replay_id: str) -> Replay | None:
    row = db.execute(ONE_REPLAY, (replay_id,)).fetchone()
    return _replay(row) if row else None


def list_replays(db: Cursor, limit: int) -> list[Replay]:
    return [_replay(row) for row in db.execute(NEWEST_REPLAYS, (limit,))]


def _replay(row: tuple[Any, ...]) -> Replay:
    return Replay(
        id=row[0],
        stage=Stage(row[1]),
        filter=msgspec.json.decode(row[2], type=WorkFilter),
        sinks=msgspec.json.decode(row[3], type=tuple[str, ...]),
        rate=row[4],
        state=ReplayState(row[5]),
        requested_by=row[6],
        created_at=from_text(row[7]),
        finished_at=from_text_if_any(row[8]),
        matched=row[9],
        looked_at=row[10],
        queued=row[11],
        settled=row[12],
        results=msgspec.json.decode(row[13], type=dict[str, int]),
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
