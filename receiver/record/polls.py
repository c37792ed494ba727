"""Polls: which tasks are due to be asked about, and callbacks held until the provider says the same.

A callback that ends its task leaves its poll where it is, so that accepting one costs nothing more. Whoever
meets the poll of a task that has ended drops it, and settles what was held: the loop that leases, an answer
that comes too late, or upkeep, which follows the deliveries and so meets every end once.
"""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import Outcome, PollWork, Settlement
from receiver.record.cursor import Cursor
from receiver.record.deliveries import Deliveries
from receiver.record.leases import HELD
from receiver.record.replays import count_settled
from receiver.record.rows import (
    Row,
    fetch_all,
    fetch_one,
    parameters,
    parameters_of,
    read_one,
    to_values,
)
from receiver.record.rules import PollRow
from receiver.record.tasks import Submissions
from receiver.times import to_text

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

_COLUMNS = "number, provider, due_at, lease, asked, outcome, detail, asked_at, held, replay_id"
ONE_POLL = f"SELECT {_COLUMNS} FROM polls WHERE number = :number"  # noqa: S608
PUT_POLL = f"""
INSERT INTO polls ({_COLUMNS})
VALUES (:number, :provider, :due_at, :lease, :asked, :outcome, :detail, :asked_at, :held, :replay_id)
ON CONFLICT (number) DO UPDATE SET due_at = excluded.due_at, lease = excluded.lease, asked = excluded.asked,
    outcome = excluded.outcome, detail = excluded.detail, asked_at = excluded.asked_at, held = excluded.held
"""  # noqa: S608
DELETE_POLL = "DELETE FROM polls WHERE number = :number"

# The due polls of one provider, the oldest first, and whether their tasks have ended.
_DUE = """
SELECT p.number AS number, s.id AS submission_id, s.provider AS provider, s.task_id AS task_id,
    s.model AS model, coalesce(s.bound_at, s.created_at) AS submitted_at, p.asked + 1 AS attempt,
    p.held AS held, p.replay_id AS replay_id, o.upstream_key AS upstream_key,
    e.number IS NOT NULL AS has_ended
FROM polls p JOIN submissions s USING (number) LEFT JOIN events e USING (number)
    LEFT JOIN orders o USING (number)
WHERE p.provider = :provider AND p.due_at <= :now AND p.held = {held} ORDER BY p.due_at LIMIT :most
"""
# A result that waits for the provider's word goes before all those that may be there.
DUE_HELD = _DUE.format(held=1)
DUE_OTHERS = _DUE.format(held=0)

LEASE_POLL = """
UPDATE polls SET lease = :lease, due_at = :lease_until, asked = asked + 1 WHERE number = :number
"""

# A question has been answered, or not; the lease must still be ours.
SETTLE_POLL = """
UPDATE polls SET lease = NULL, outcome = :outcome, detail = :detail, asked_at = :settled_at, due_at = :due_at
WHERE number = (SELECT number FROM submissions WHERE id = :submission_id) AND lease = :lease
RETURNING number, EXISTS (SELECT 1 FROM events e WHERE e.number = polls.number) AS has_ended, replay_id
"""

# A replay wants one answer, whatever it is.
CLEAR_REPLAY = "UPDATE polls SET replay_id = NULL WHERE number = ?"

DROP_POLLS = """
DELETE FROM polls WHERE number IN (SELECT value FROM json_each(:numbers)) RETURNING number, held, replay_id
"""

# The next deliveries to follow: how many, and the last of them.
NEXT_DELIVERIES = """
SELECT count(*), max(number) FROM
    (SELECT number FROM deliveries WHERE number > (SELECT polls_to FROM retention) ORDER BY number LIMIT ?) d
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
ON CONFLICT (kind, name, state) DO UPDATE SET number = counts.number + excluded.number
"""

MARK_FOLLOWED = "UPDATE retention SET polls_to = ?"

Task = tuple[int, str, str]  # the number of its submission, its provider and its id

# The most polls of ended tasks that one lease drops: callbacks wait behind it.
MOST_DROPPED = 500
LEAST_SPARE = 8  # of polls that are read beside those that are wanted, at first


class Polls:
    """The polls that a batch has read, with its changes; ``write`` saves them."""

    def __init__(self, db: Cursor) -> None:
        self._db = db
        self._known: dict[int, PollRow | None] = {}
        self._read: dict[int, PollRow | None] = {}

    def find(self, number: int) -> PollRow | None:
        """The question about a submission's task."""
        if number not in self._known:
            poll = read_one(self._db.execute(ONE_POLL, {"number": number}), PollRow)
            self._known[number] = self._read[number] = poll
        return self._known[number]

    def put(self, poll: PollRow) -> None:
        """Change this poll, or add it."""
        self.find(poll.number)
        self._known[poll.number] = poll

    def drop(self, number: int) -> None:
        """Drop this poll."""
        self.find(number)
        self._known[number] = None

    def write(self) -> None:
        changed = [poll for number, poll in self._known.items() if poll is not self._read[number] and poll]
        if changed:
            self._db.executemany(PUT_POLL, [parameters_of(poll) for poll in changed])
        dropped = [number for number, poll in self._known.items() if poll is None and self._read[number]]
        if dropped:
            self._db.executemany(DELETE_POLL, [parameters(number=number) for number in dropped])


def free_leases(db: Cursor, now: datetime, holder: str) -> None:
    """What a holder who is gone was asking is due again, unless the answer has come."""
    drop(db, db.execute(ALL_ENDED_POLLS, {"holder": holder}).fetchall(), now)
    db.execute(FREE_POLLS, {"now": to_text(now), "holder": holder})


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
    due: list[Row] = []
    for query in (DUE_HELD,) if held_only else (DUE_HELD, DUE_OTHERS):
        due += _first_open(db, query, provider, now, limit - len(due))
    leased = [parameters(lease=lease, lease_until=lease_until, number=row["number"]) for row in due]
    db.executemany(LEASE_POLL, leased)
    return to_values(due, PollWork, lease=lease)


def _first_open(db: Cursor, query: str, provider: str, now: datetime, limit: int) -> list[Row]:
    """The first due polls of tasks without an end; those of others before them are dropped.

    Others are few as a rule, so little more is read than is wanted: a server sends all that it is asked for.
    """
    open_: list[Row] = []
    most, dropped = limit + LEAST_SPARE, 0
    while len(open_) < limit and dropped < MOST_DROPPED:
        rows = fetch_all(db.execute(query, parameters(provider=provider, now=now, most=most)))
        places = [place for place, row in enumerate(rows) if not row["has_ended"]][:limit]
        open_ = [rows[place] for place in places]
        before = rows[: places[-1]] if len(places) == limit else rows
        ended = [(row["number"], provider, row["task_id"]) for row in before if row["has_ended"]]
        drop(db, ended, now)
        dropped += len(ended)
        if len(rows) < most:
            break
        most = limit + MOST_DROPPED
    return open_


def settle_poll(db: Cursor, work: PollWork, settlement: Settlement) -> bool:
    """Record how a question ended; see ``ports.Store.settle_poll``."""
    again = settlement.retry_at
    values = parameters(
        outcome=settlement.outcome,
        detail=settlement.detail,
        settled_at=settlement.settled_at,
        due_at=again or settlement.settled_at,
        submission_id=work.submission_id,
        lease=work.lease,
    )
    settled = fetch_one(db.execute(SETTLE_POLL, values))
    if settled is None:
        return False
    number, replay_id = settled["number"], settled["replay_id"]
    if replay_id is not None:
        db.execute(CLEAR_REPLAY, (number,))
        count_settled(db, replay_id, settlement.outcome.value, settlement.settled_at)
    if again is None or settled["has_ended"]:
        drop(db, [(number, work.provider, work.task_id)], settlement.settled_at)
    return True


def drop(db: Cursor, tasks: Sequence[Task], now: datetime) -> None:
    """Drop the polls of tasks, and settle what waited for answers: ``Batch`` does so for what it read."""
    named = {number: (provider, task_id) for number, provider, task_id in tasks}
    dropped = db.execute(DROP_POLLS, parameters(numbers=[*named])).fetchall() if named else []
    for number, held, replay_id in dropped:
        if held:
            owner = Submissions(db).of_task(*named[number])
            assert owner is not None, "what nobody owns is not asked about"  # noqa: S101
            deliveries = Deliveries(db)
            deliveries.settle_held(owner)
            deliveries.write()
        if replay_id is not None:
            count_settled(db, replay_id, Outcome.ANSWERED.value, now)  # by a callback, before it was asked


def follow_deliveries(db: Cursor, now: datetime, limit: int) -> int:
    """Follow deliveries to the polls of the tasks they ended; see ``ports.Store.follow_deliveries``."""
    count, last = db.execute(NEXT_DELIVERIES, (limit,)).fetchone()
    if count:
        ended = db.execute(ENDED_POLLS, (last,)).fetchall()
        db.execute(COUNT_FOLLOWED, (last,))
        db.execute(MARK_FOLLOWED, (last,))
        drop(db, ended, now)  # what this changes of counted ones is counted
    return int(count)
