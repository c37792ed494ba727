"""Whom to ask about what: polls, and callbacks held until the provider says the same.

A callback that ends its task leaves its poll where it is, so that accepting one costs nothing more. Whoever
meets the poll of a task that has ended drops it, and settles what was held: the lane that leases, an answer
that comes too late, or upkeep, which follows the deliveries and so meets every end once.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from receiver.models import Outcome, PollWork, Settlement
from receiver.record.cursor import Cursor
from receiver.record.leases import HELD
from receiver.record.replays import count_settled
from receiver.times import from_text, to_text

# Besides what a holder who is gone has leased, what is held is looked at anew, for there may be another key
# now, or another policy.
FREE_POLLS = f"""
UPDATE polls SET lease = NULL, due_at = :now WHERE ({HELD}) OR (held = 1 AND lease IS NULL)
"""  # noqa: S608

# Those of tasks that have ended meanwhile, which their holder would have dropped.
ALL_ENDED_POLLS = f"""
SELECT number, s.provider, s.task_id
FROM polls JOIN events USING (number) JOIN submissions s USING (number)
WHERE lease IS NULL OR {HELD}
"""  # noqa: S608

# Ask about a task, unless it has ended.
SCHEDULE = """
INSERT INTO polls (number, provider, due_at)
SELECT number, provider, ? FROM submissions
WHERE provider = ? AND task_id = ? AND number NOT IN (SELECT number FROM events)
ON CONFLICT (number) DO NOTHING
"""

# The first callback that waits makes the question due at once, and an answer on its way too old to use. The
# waits between questions start anew with it, for what it says should be true by now. Later ones, one of which
# may be the true one behind a lie, hurry it a little and a few times: whoever sends them must not decide how
# often the provider is asked.
HURRY_SECONDS = 2
HURRIED = 5  # questions, from which on their own waits count
HOLD = f"""
INSERT INTO polls (number, provider, due_at, held) VALUES (?1, ?2, ?3, 1)
ON CONFLICT (number) DO UPDATE SET held = 1, lease = NULL,
    due_at = iif(held = 0, excluded.due_at, min(due_at, ?4)), asked = iif(held = 0, 0, asked),
    outcome = iif(held = 0, NULL, outcome), detail = iif(held = 0, NULL, detail),
    asked_at = iif(held = 0, NULL, asked_at)
WHERE held = 0 OR (asked < {HURRIED} AND lease IS NULL AND due_at > ?4)
"""  # noqa: S608

# An answer that ends nothing yet: the question goes on as it was.
HOLD_ANSWER = "UPDATE polls SET held = 1 WHERE number = ?"

# The task has ended: what was held said the same, or something else. Without an end nothing changes.
SETTLE_HELD = """
UPDATE deliveries SET waiting = NULL, verdict =
    CASE json_extract(waiting, '$.fingerprint') WHEN e.fingerprint THEN 'accepted' ELSE 'conflict' END
FROM events e
WHERE provider = ? AND task_id = ? AND verdict = 'unconfirmed' AND e.number = deliveries.submission
"""

# The due polls of one provider, the oldest first, and whether their tasks have ended.
_DUE = """
SELECT p.number, s.id, s.task_id, s.model, coalesce(s.bound_at, s.created_at), p.asked + 1, p.held,
    p.replay_id, e.number IS NOT NULL
FROM polls p JOIN submissions s USING (number) LEFT JOIN events e USING (number)
WHERE p.provider = ? AND p.due_at <= ? AND p.held = {held} ORDER BY p.due_at LIMIT ?
"""
# A result that waits for the provider's word goes before all those that may be there.
DUE_HELD = _DUE.format(held=1)
DUE_OTHERS = _DUE.format(held=0)

LEASE_POLL = "UPDATE polls SET lease = ?, due_at = ?, asked = asked + 1 WHERE number = ?"

# A question has been answered, or not; the lease must still be ours.
SETTLE_POLL = """
UPDATE polls SET lease = NULL, outcome = ?, detail = ?, asked_at = ?, due_at = ?
WHERE number = (SELECT number FROM submissions WHERE id = ?) AND lease = ?
RETURNING number, number IN (SELECT number FROM events), replay_id
"""

# A replay wants one answer, whatever it is.
CLEAR_REPLAY = "UPDATE polls SET replay_id = NULL WHERE number = ?"

DROP_POLL = "DELETE FROM polls WHERE number = ? RETURNING held, replay_id"

# The next deliveries to follow: how many, and the last of them.
NEXT_DELIVERIES = """
SELECT count(*), max(number) FROM
    (SELECT number FROM deliveries WHERE number > (SELECT polls_to FROM retention) ORDER BY number LIMIT ?)
"""

# The polls of tasks that these ended. A leased one is left to its holder, who will meet the end, too.
ENDED_POLLS = """
SELECT p.number, d.provider, d.task_id FROM deliveries d JOIN polls p ON p.number = d.submission
WHERE d.number > (SELECT polls_to FROM retention) AND d.number <= ? AND d.verdict = 'accepted'
    AND p.lease IS NULL
"""

# They are counted now; before, they were counted one by one (see the trigger "deliveries_judged").
COUNT_FOLLOWED = """
INSERT INTO counts
SELECT 'deliveries', '', verdict, count(*) FROM deliveries
WHERE number > (SELECT polls_to FROM retention) AND number <= ? GROUP BY verdict
ON CONFLICT (kind, name, state) DO UPDATE SET number = number + excluded.number
"""

MARK_FOLLOWED = "UPDATE retention SET polls_to = ?"

# The most polls of ended tasks that one lease drops: callbacks wait behind it.
MOST_DROPPED = 500


def free_leases(db: Cursor, now: datetime, holder: str) -> None:
    """What a holder who is gone was asking is due again, unless the answer has come."""
    for number, provider, task_id in db.execute(ALL_ENDED_POLLS, {"holder": holder}).fetchall():
        drop(db, number, provider, task_id, now)
    db.execute(FREE_POLLS, {"now": to_text(now), "holder": holder})


def schedule(
    db: Cursor, provider: str, task_id: str, since: datetime, first_seconds: Mapping[str, float]
) -> None:
    """Ask about a task its provider's usual time after ``since``; never where none is given."""
    if provider in first_seconds:
        due_at = since + timedelta(seconds=first_seconds[provider])
        db.execute(SCHEDULE, (to_text(due_at), provider, task_id))


def hold(db: Cursor, submission: int, provider: str, now: datetime) -> None:
    """Let a callback wait for the provider's own word, and ask for that now."""
    soon = now + timedelta(seconds=HURRY_SECONDS)
    db.execute(HOLD, (submission, provider, to_text(now), to_text(soon)))


def hold_answer(db: Cursor, submission: int) -> None:
    """Let an answer of the provider's wait for its next one."""
    db.execute(HOLD_ANSWER, (submission,))


def settle_held(db: Cursor, provider: str, task_id: str) -> None:
    """Say of callbacks that waited whether the event of their task bears them out."""
    db.execute(SETTLE_HELD, (provider, task_id))


def lease_polls(
    db: Cursor,
    provider: str,
    now: datetime,
    lease_until: datetime,
    lease: str,
    *,
    limit: int,
    held_only: bool,
) -> list[PollWork]:
    """Take due polls of one provider; see ``ports.Store.lease_polls``."""
    works: list[tuple[Any, ...]] = []
    for query in (DUE_HELD,) if held_only else (DUE_HELD, DUE_OTHERS):
        works += _drop_ended(db, query, provider, now, limit - len(works))
    until = to_text(lease_until)
    db.executemany(LEASE_POLL, [(lease, until, row[0]) for row in works])
    return [_work(provider, row, lease) for row in works]


def _drop_ended(db: Cursor, query: str, provider: str, now: datetime, limit: int) -> list[tuple[Any, ...]]:
    """The first ``limit`` due polls of tasks without an end; those of others before them are dropped."""
    open_: list[tuple[Any, ...]] = []
    ended: list[tuple[Any, ...]] = []
    for *row, has_ended in db.execute(query, (provider, to_text(now), limit + MOST_DROPPED)):
        if has_ended:
            ended.append(tuple(row))
        elif len(open_) < limit:
            open_.append(tuple(row))
        else:
            break
    for row in ended:
        drop(db, row[0], provider, row[2], now)
    return open_


def _work(provider: str, row: tuple[Any, ...], lease: str) -> PollWork:
    return PollWork(
        submission_id=row[1],
        provider=provider,
        task_id=row[2],
        model=row[3],
        submitted_at=from_text(row[4]),
        attempt=row[5],
        held=bool(row[6]),
        replay_id=row[7],
        lease=lease,
    )


def settle_poll(db: Cursor, work: PollWork, settlement: Settlement) -> bool:
    """Record how a question ended; see ``ports.Store.settle_poll``."""
    again = settlement.retry_at
    values = (
        settlement.outcome.value, settlement.detail, to_text(settlement.settled_at),
        to_text(again or settlement.settled_at), work.submission_id, work.lease,
    )  # fmt: skip
    settled = db.execute(SETTLE_POLL, values).fetchone()
    if settled is None:
        return False
    number, has_ended, replay_id = settled
    if replay_id is not None:
        db.execute(CLEAR_REPLAY, (number,))
        count_settled(db, replay_id, settlement.outcome.value, settlement.settled_at)
    if again is None or has_ended:
        drop(db, number, work.provider, work.task_id, settlement.settled_at)
    return True


def drop(db: Cursor, number: int, provider: str, task_id: str, now: datetime) -> None:
    """Ask no more about a task, and settle what waited for the answer."""
    held, replay_id = db.execute(DROP_POLL, (number,)).fetchone() or (0, None)
    if held:
        settle_held(db, provider, task_id)
    if replay_id is not None:
        count_settled(db, replay_id, Outcome.ANSWERED.value, now)  # by a callback, before it was asked


def forget_polls(db: Cursor, now: datetime, limit: int) -> int:
    """Follow deliveries to the polls of the tasks they ended; see ``ports.Store.forget_polls``."""
    count, last = db.execute(NEXT_DELIVERIES, (limit,)).fetchone()
    if count:
        ended = db.execute(ENDED_POLLS, (last,)).fetchall()
        db.execute(COUNT_FOLLOWED, (last,))
        db.execute(MARK_FOLLOWED, (last,))
        for number, provider, task_id in ended:  # what this changes of counted ones is counted
            drop(db, number, provider, task_id, now)
    return int(count)
