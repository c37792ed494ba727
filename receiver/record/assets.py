"""Files: how a leased download ends, and what that means for its event.

A lease is a name on the row plus a ``due_at`` moved into the future. When it runs out the row is simply
due again, and the name, checked when the work is settled, keeps a late finisher from changing anything.
"""

from collections.abc import Sequence
from datetime import datetime

from receiver.links import host_hash
from receiver.models import AssetWork, Outcome, Route, Settlement, StoredFile
from receiver.record.attempts import keep_attempt
from receiver.record.cursor import Cursor
from receiver.record.ends import end_if_last
from receiver.record.leases import HELD
from receiver.record.replays import WITHDRAWN, count_settled, is_cancelled
from receiver.record.rows import parameters, parameters_of

FREE_ASSETS = f"UPDATE assets SET lease = NULL, due_at = :now WHERE state = 'pending' AND {HELD}"  # noqa: S608

# One attempt has ended; the lease must still be ours.
SETTLE_ASSET = """
UPDATE assets SET lease = NULL, attempts = attempts - :uncounted, state = :state,
    alike = CASE WHEN outcome IS :outcome THEN alike ELSE 0 END + 1, outcome = :outcome, due_at = :due_at,
    settled_at = :settled_at, key = :key, media_type = :media_type, bytes = :bytes, width = :width,
    height = :height, sha256 = :sha256
WHERE event = (SELECT number FROM submissions WHERE provider = :provider AND task_id = :task_id)
    AND position = :position AND lease = :lease
RETURNING event
"""

# The provider was asked for an asset's link anew, whatever it said.
SPEND_RENEWAL = "UPDATE assets SET renewed = 1 WHERE event = :event AND position = :asked_for"

# It named another link than before: a new start for the event's other files that wait, each of which may
# still ask for itself. The one that asked has tried it already.
RENEW_LINK = """
UPDATE assets SET url = :url, host_hash = :host, deadline_at = :dies_at,
    due_at = CASE position WHEN :asked_for THEN due_at ELSE :now END,
    alike = CASE position WHEN :asked_for THEN alike ELSE 0 END
WHERE event = :event AND position = :position AND state = 'pending' AND lease IS NULL AND url <> :url
    AND (renewed = 0 OR position = :asked_for)
"""

NO_FILE = dict.fromkeys(StoredFile.__struct_fields__)


def free_assets(db: Cursor, now: datetime, holder: str) -> None:
    """Files that a holder who is gone was working on are due again."""
    db.execute(FREE_ASSETS, parameters(now=now, holder=holder))


def settle_asset(db: Cursor, work: AssetWork, settlement: Settlement, routes: Sequence[Route]) -> bool:
    """Record how a download ended, and the event with its last one; see ``ports.Store.settle_asset``."""
    file, again = settlement.file, settlement.retry_at
    # What was on its way when its replay was cancelled ends with this attempt.
    is_withdrawn = again is not None and is_cancelled(db, work.replay_id)
    if is_withdrawn:
        again = None
    state = "stored" if file else "pending" if again else "failed"
    is_ours = again is not None and settlement.outcome is Outcome.STORAGE_FAILED  # and no fault of the link's
    values = parameters(
        provider=work.provider,
        task_id=work.task_id,
        position=work.index,
        lease=work.lease,
        uncounted=is_ours,
        state=state,
        outcome=settlement.outcome,
        due_at=again or settlement.settled_at,
        settled_at=None if again else settlement.settled_at,
    )
    facts = parameters_of(file) if file else NO_FILE
    settled = db.execute(SETTLE_ASSET, values | facts).fetchone()
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


def _renew(db: Cursor, event: int, asked_for: int, settlement: Settlement, dies_at: datetime) -> None:
    """Give the files that wait the links of the provider's new answer: perhaps none, perhaps the old ones."""
    shared = parameters(event=event, asked_for=asked_for, dies_at=dies_at, now=settlement.settled_at)
    db.execute(SPEND_RENEWAL, shared)
    for position, url in settlement.links.items():
        db.execute(RENEW_LINK, {**shared, "position": position, "url": url, "host": host_hash(url)})
