"""How what is leased ends: assets, events, outbox entries; and which entries are leased.

A lease is a name on the row plus a ``due_at`` moved into the future. When it runs out the row is simply
due again, and the name, checked when the work is settled, keeps a late finisher from changing anything.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from receiver.links import host_hash
from receiver.models import AssetWork, EventType, OutboxWork, Outcome, Route, Settlement
from receiver.stores.sqlite.replaying import WITHDRAWN, count_settled, is_being_withdrawn, is_cancelled
from receiver.stores.sqlite.revisions import as_announced
from receiver.stores.sqlite.viewing import event_of
from receiver.times import from_text, to_text

# After a start nobody holds a lease: the process that held them is gone.
FREE_ASSETS = "UPDATE assets SET lease = NULL, due_at = ? WHERE state = 'pending' AND lease IS NOT NULL"
FREE_OUTBOX = "UPDATE outbox SET lease = NULL, due_at = ? WHERE state = 'pending' AND lease IS NOT NULL"

# One attempt has ended; the lease must still be ours.
SETTLE_ASSET = """
UPDATE assets SET lease = NULL, attempts = attempts - ?1, state = ?2,
    alike = iif(outcome IS ?3, alike, 0) + 1, outcome = ?3, due_at = ?4, settled_at = ?5,
    key = ?6, media_type = ?7, bytes = ?8, width = ?9, height = ?10, sha256 = ?11
WHERE event = (SELECT number FROM submissions WHERE provider = ?12 AND task_id = ?13)
    AND position = ?14 AND lease = ?15
RETURNING event
"""

# The provider was asked for an asset's link anew, whatever it said.
SPEND_RENEWAL = "UPDATE assets SET renewed = 1 WHERE event = ? AND position = ?"

# It named another link than before: a new start for the event's other files that wait, each of which may
# still ask for itself. The one that asked has tried it already.
RENEW_LINK = """
UPDATE assets SET url = ?1, host_hash = ?7, deadline_at = ?2, due_at = iif(position = ?6, due_at, ?3),
    alike = iif(position = ?6, alike, 0)
WHERE event = ?4 AND position = ?5 AND state = 'pending' AND lease IS NULL AND url <> ?1
    AND (renewed = 0 OR position = ?6)
"""

# How an event's assets stand: pending, stored, in all.
COUNT_ASSETS = """
SELECT coalesce(sum(state = 'pending'), 0), coalesce(sum(state = 'stored'), 0), count(*)
FROM assets WHERE event = ?
"""

FIRST_FAILURE = """
SELECT outcome FROM assets WHERE event = ? AND state = 'failed' ORDER BY position LIMIT 1
"""

# An event that had ended has more of its files than consumers were told of: it ends anew.
REOPEN = """
UPDATE events SET type = NULL, error_code = NULL, error_message = NULL, revision = revision + 1
WHERE number = ? AND type IS NOT NULL AND announced < ?
"""

SET_ERROR = "UPDATE events SET error_code = ?, error_message = ? WHERE number = ? AND type IS NULL"

END_EVENT = "UPDATE events SET type = ?, ended_at = ?, announced = ? WHERE number = ? AND type IS NULL"

EVENT_ADDRESS = """
SELECT provider, owner, revision FROM events JOIN submissions USING (number) WHERE number = ?
"""

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

# The last attempt at a target ended so, too: they are one row, lest what is refused for long fills the disk.
REPEAT_ATTEMPT = """
UPDATE attempts SET times = times + 1, attempt = ?1, last_started_at = ?2, seconds = ?3, detail = ?4
WHERE outcome = ?5 AND number =
    (SELECT max(number) FROM attempts WHERE event = ?6 AND target = ?7 AND entry IS ?8)
"""
INSERT_ATTEMPT = """
INSERT INTO attempts (attempt, started_at, seconds, detail, outcome, event, target, entry)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def free_leases(db: sqlite3.Cursor, now: datetime) -> None:
    """The files and notifications that an earlier process was working on are due again."""
    moment = (to_text(now),)
    db.execute(FREE_ASSETS, moment)
    db.execute(FREE_OUTBOX, moment)


def settle_asset(
    db: sqlite3.Cursor, work: AssetWork, settlement: Settlement, routes: Sequence[Route]
) -> bool:
    """Record how a download ended, and the event with its last one; see ``ports.Store.settle_asset``."""
    file, again = settlement.file, settlement.retry_at
    # What was on its way when its replay was cancelled ends with this attempt.
    is_withdrawn = again is not None and is_cancelled(db, work.replay_id)
    if is_withdrawn:
        again = None
    state = "stored" if file else "pending" if again else "failed"
    is_ours = again is not None and settlement.outcome is Outcome.STORAGE_FAILED  # and no fault of the link's
    moment = to_text(settlement.settled_at)
    facts = (
        (file.key, file.media_type, file.bytes, file.width, file.height, file.sha256) if file else (None,) * 6
    )
    values = (
        is_ours, state, settlement.outcome.value, to_text(again) if again else moment,
        None if again else moment, *facts, work.provider, work.task_id, work.index, work.lease,
    )  # fmt: skip
    settled = db.execute(SETTLE_ASSET, values).fetchone()
    if settled is None:
        return False
    (event,) = settled
    _keep_attempt(db, settlement, work.attempt, event, f"asset {work.index}", None)
    if settlement.links_die_at is not None:
        _renew(db, event, work.index, settlement, settlement.links_die_at)
    if not again:
        end_if_last(db, event, settlement.settled_at, routes)
        if work.replay_id is not None:
            outcome = WITHDRAWN if is_withdrawn else settlement.outcome.value
            count_settled(db, work.replay_id, outcome, settlement.settled_at)
    return True


def _renew(
    db: sqlite3.Cursor, event: int, status_client: int, settlement: Settlement, dies_at: datetime
) -> None:
    """Give the files that wait the links of the provider's new answer: perhaps none, perhaps the old ones."""
    db.execute(SPEND_RENEWAL, (event, status_client))
    dies, due = to_text(dies_at), to_text(settlement.settled_at)
    for position, url in settlement.links.items():
        db.execute(RENEW_LINK, (url, dies, due, event, position, status_client, host_hash(url)))


def end_if_last(db: sqlite3.Cursor, event: int, now: datetime, routes: Sequence[Route]) -> None:
    pending, stored, total = db.execute(COUNT_ASSETS, (event,)).fetchone()
    if pending:
        return
    db.execute(REOPEN, (event, stored))
    if stored == total:
        event_type = EventType.COMPLETED
    elif stored:
        event_type = EventType.PARTIAL
    else:
        event_type = EventType.FAILED
        (outcome,) = db.execute(FIRST_FAILURE, (event,)).fetchone()
        message = "the file could not be had" if total == 1 else f"none of {total} files could be had"
        db.execute(SET_ERROR, (outcome, message, event))
    end_event(db, event, event_type, now, routes, stored=stored)


def end_event(
    db: sqlite3.Cursor,
    event: int,
    event_type: EventType,
    now: datetime,
    routes: Sequence[Route],
    *,
    stored: int = 0,
) -> None:
    """Say how the event ended, and address it to every sink that wants to know; once for all it has."""
    moment = to_text(now)
    if db.execute(END_EVENT, (event_type.value, moment, stored, event)).rowcount == 0:
        return
    provider, owner, revision = db.execute(EVENT_ADDRESS, (event,)).fetchone()
    entries = [
        (event, route.sink, revision, moment, moment)
        for route in routes
        if route.wants(provider, event_type.value, owner)
    ]
    db.executemany(INSERT_OUTBOX, entries)
    if revision > 1:
        db.execute(SUPERSEDE, (event, moment))


def lease_outbox(
    db: sqlite3.Cursor,
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


def settle_outbox(db: sqlite3.Cursor, work: OutboxWork, settlement: Settlement) -> bool:
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
    _keep_attempt(db, settlement, work.attempt, event, f"sink {work.sink}", number)
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
    db: sqlite3.Cursor, sink: str, created_before: datetime, settlement: Settlement, limit: int
) -> int:
    """Make dead letters of what has waited too long; see ``ports.Store.give_up_outbox``."""
    outcome, moment = settlement.outcome.value, to_text(settlement.settled_at)
    values = (outcome, settlement.detail, moment, sink, to_text(created_before), limit)
    given_up = db.execute(GIVE_UP_OUTBOX, values).fetchall()
    replays = Counter(replay_id for replay_id, is_revived in given_up if replay_id and not is_revived)
    for replay_id, pieces in replays.items():
        count_settled(db, replay_id, outcome, settlement.settled_at, pieces=pieces)
    return len(given_up)


def _keep_attempt(
    db: sqlite3.Cursor, settlement: Settlement, attempt: int, event: int, target: str, entry: int | None
) -> None:
    """Add an attempt to the history, or to the one before it, where that ended alike."""
    seconds = (settlement.settled_at - settlement.started_at).total_seconds()
    values = (
        attempt, to_text(settlement.started_at), seconds, settlement.detail, settlement.outcome.value,
        event, target, entry,
    )  # fmt: skip
    if db.execute(REPEAT_ATTEMPT, values).rowcount == 0 and not settlement.is_probe:
        db.execute(INSERT_ATTEMPT, values)
