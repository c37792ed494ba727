"""Notifications: what a sink is due, how a leased one ends, and what is given up.

A lease is a name on the row plus a ``due_at`` moved into the future. When it runs out the row is simply
due again, and the name, checked when the work is settled, keeps a late finisher from changing anything.
"""

from collections import Counter
from datetime import datetime

from receiver.models import OutboxWork, Outcome, Settlement
from receiver.record.attempts import keep_attempt
from receiver.record.cursor import Cursor
from receiver.record.replays import WITHDRAWN, count_settled, is_being_withdrawn, is_cancelled
from receiver.record.revisions import as_announced
from receiver.record.views import event_of
from receiver.times import from_text, to_text

FREE_OUTBOX = "UPDATE outbox SET lease = NULL, due_at = ? WHERE state = 'pending' AND lease IS NOT NULL"


INSERT_OUTBOX = """
INSERT INTO outbox (event, sink, revision, due_at, created_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (event, sink, revision, replay_id) DO NOTHING
"""

# Whether a sink is told a newer revision of an event than an entry ``o`` of it. A filter may keep that from
# it: then the older one is all that it hears. What people replay is sent, whatever came of the event since.
_NEWER = """
(o.replay_id = '' AND EXISTS (SELECT 1 FROM outbox n
    WHERE n.event = o.event AND n.sink = o.sink AND n.revision > o.revision AND n.replay_id = ''))
"""

# What nobody holds, and a sink was not told yet of an event, before the newer revision that it is told now.
SUPERSEDE = f"""
DELETE FROM outbox AS o
WHERE event = ? AND state <> 'delivered' AND (lease IS NULL OR due_at <= ?) AND {_NEWER}
"""  # noqa: S608

# The due entries of one sink, in order of age, with what their revisions said where that was kept. A newer
# one may have come while an older was held by somebody who died, or was a dead letter.
DUE_OUTBOX = f"""
SELECT number, event, attempts + 1, created_at, revision, replay_id, {_NEWER},
    (SELECT content FROM revisions r WHERE r.event = o.event AND r.revision = o.revision)
FROM outbox o WHERE state = 'pending' AND sink = ? AND due_at <= ? ORDER BY due_at {{order}} LIMIT ?
"""  # noqa: S608
OLDEST_OUTBOX, NEWEST_OUTBOX = DUE_OUTBOX.format(order="ASC"), DUE_OUTBOX.format(order="DESC")

LEASE_OUTBOX = "UPDATE outbox SET lease = ?, due_at = ?, attempts = attempts + 1 WHERE number = ?"

SETTLE_OUTBOX = """
UPDATE outbox SET lease = NULL, attempts = attempts - ?, state = ?, outcome = ?, detail = ?, due_at = ?,
    settled_at = ?
WHERE number = ? AND lease = ? RETURNING event, revived
"""

IS_SUPERSEDED = f"SELECT 1 FROM outbox o WHERE number = ? AND {_NEWER}"  # noqa: S608

# What has waited too long at a sink that is down, among those that waited longest.
GIVE_UP_OUTBOX = """
UPDATE outbox SET state = 'dead', lease = NULL, outcome = ?1, detail = ?2, due_at = ?3, settled_at = ?3
WHERE number IN (SELECT number FROM
    (SELECT number, created_at FROM outbox WHERE state = 'pending' AND sink = ?4 AND due_at <= ?3
    ORDER BY due_at LIMIT ?6)
    WHERE created_at <= ?5)
RETURNING replay_id, revived
"""

DROP_OUTBOX = "DELETE FROM outbox WHERE number = ?"


def free_outbox(db: Cursor, now: datetime) -> None:
    """Notifications that an earlier process was sending are due again."""
    db.execute(FREE_OUTBOX, (to_text(now),))


def lease_outbox(
    db: Cursor,
    sink: str,
    now: datetime,
    lease_until: datetime,
    lease: str,
    *,
    limit: int,
    newest_first: bool,
) -> list[OutboxWork]:
    """Take due entries of one sink with all they carry; see ``ports.Store.lease_outbox``."""
    due = db.execute(NEWEST_OUTBOX if newest_first else OLDEST_OUTBOX, (sink, to_text(now), limit)).fetchall()
    withdrawing = {name for name in {row[5] for row in due} if name and is_being_withdrawn(db, name)}
    rows = [row for row in due if not row[6] and row[5] not in withdrawing]
    db.executemany(DROP_OUTBOX, [(row[0],) for row in due if row[6]])
    until = to_text(lease_until)
    db.executemany(LEASE_OUTBOX, [(lease, until, row[0]) for row in rows])
    return [
        OutboxWork(
            id=f"out_{row[0]}",
            sink=sink,
            attempt=row[2],
            created_at=from_text(row[3]),
            revision=row[4],
            replay_id=row[5] or None,
            event=as_announced(event_of(db, row[1]), row[4], row[7]),
            lease=lease,
        )
        for row in rows
    ]


def settle_outbox(db: Cursor, work: OutboxWork, settlement: Settlement) -> bool:
    """Record how a publish ended; see ``ports.Store.settle_outbox``."""
    again = settlement.retry_at
    delivered = settlement.outcome is Outcome.DELIVERED
    state = "delivered" if delivered else "pending" if again else "dead"
    moment, number = to_text(settlement.settled_at), int(work.id.removeprefix("out_"))
    values = (
        not settlement.uses_attempt, state, settlement.outcome.value, settlement.detail,
        to_text(again) if again else moment, None if again else moment, number, work.lease,
    )  # fmt: skip
    settled = db.execute(SETTLE_OUTBOX, values).fetchone()
    if settled is None:
        return False
    event, is_revived = settled
    keep_attempt(db, settlement, work.attempt, event, f"sink {work.sink}", number)
    counted = None if is_revived else work.replay_id  # a revived one was counted when it was given up
    outcome = settlement.outcome.value
    if not delivered and db.execute(IS_SUPERSEDED, (number,)).fetchone():
        db.execute(DROP_OUTBOX, (number,))
    elif state == "pending":
        if not is_cancelled(db, counted):
            return True
        db.execute(DROP_OUTBOX, (number,))
        outcome = WITHDRAWN
    if counted is not None:
        count_settled(db, counted, outcome, settlement.settled_at)
    return True


def give_up_outbox(
    db: Cursor, sink: str, created_before: datetime, settlement: Settlement, limit: int
) -> int:
    """Make dead letters of what has waited too long; see ``ports.Store.give_up_outbox``."""
    outcome, moment = settlement.outcome.value, to_text(settlement.settled_at)
    values = (outcome, settlement.detail, moment, sink, to_text(created_before), limit)
    given_up = db.execute(GIVE_UP_OUTBOX, values).fetchall()
    replays = Counter(replay_id for replay_id, is_revived in given_up if replay_id and not is_revived)
    for replay_id, pieces in replays.items():
        count_settled(db, replay_id, outcome, settlement.settled_at, pieces=pieces)
    return len(given_up)
