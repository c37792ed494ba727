"""Files: how a leased download ends, and what that means for its event.

A lease is a name on the row plus a ``due_at`` moved into the future. When it runs out the row is simply
due again, and the name, checked when the work is settled, keeps a late finisher from changing anything.
"""

from collections.abc import Sequence
from datetime import datetime

from receiver.links import host_hash
from receiver.models import AssetWork, Outcome, Route, Settlement
from receiver.record.attempts import keep_attempt
from receiver.record.cursor import Cursor
from receiver.record.ends import end_if_last
from receiver.record.replays import WITHDRAWN, count_settled, is_cancelled
from receiver.times import to_text

# After a start nobody holds a lease: the process that held them is gone.
FREE_ASSETS = "UPDATE assets SET lease = NULL, due_at = ? WHERE state = 'pending' AND lease IS NOT NULL"

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


def free_assets(db: Cursor, now: datetime) -> None:
    """Files that an earlier process was working on are due again."""
    db.execute(FREE_ASSETS, (to_text(now),))


def settle_asset(db: Cursor, work: AssetWork, settlement: Settlement, routes: Sequence[Route]) -> bool:
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
    keep_attempt(db, settlement, work.attempt, event, f"asset {work.index}", None)
    if settlement.links_die_at is not None:
        _renew(db, event, work.index, settlement, settlement.links_die_at)
    if not again:
        end_if_last(db, event, settlement.settled_at, routes)
        if work.replay_id is not None:
            outcome = WITHDRAWN if is_withdrawn else settlement.outcome.value
            count_settled(db, work.replay_id, outcome, settlement.settled_at)
    return True


def _renew(db: Cursor, event: int, status_client: int, settlement: Settlement, dies_at: datetime) -> None:
    """Give the files that wait the links of the provider's new answer: perhaps none, perhaps the old ones."""
    db.execute(SPEND_RENEWAL, (event, status_client))
    dies, due = to_text(dies_at), to_text(settlement.settled_at)
    for position, url in settlement.links.items():
        db.execute(RENEW_LINK, (url, dies, due, event, position, status_client, host_hash(url)))
