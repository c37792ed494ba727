"""Where a delivery is filed, what of it is kept, and how many may be."""

from receiver.errors import Unavailable
from receiver.models import Recording, Verdict, Via
from receiver.options import StoreOptions
from receiver.record import events
from receiver.record.cursor import Cursor
from receiver.times import to_text

Place = tuple[str, str, str]  # provider, task and claim: see ``place_of``

_INSERT_OR = """
INSERT INTO deliveries (provider, task_id, claim, digest, submission, via, proof, verdict,
    provider_state, note, waiting, received_at, last_seen_at, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (provider, task_id, claim, digest) DO"""

# The usual way of an end. RETURNING fills a table of its own for the one number: a tenth of all that the
# record does.
INSERT_DELIVERY = f"{_INSERT_OR} NOTHING"

# A repeat raises a counter. Only a verdict that was open is replaced: the others are history.
UPSERT_DELIVERY = f"""{_INSERT_OR} UPDATE SET
    seen = seen + 1,
    last_seen_at = excluded.last_seen_at,
    submission = coalesce(submission, excluded.submission),
    waiting = excluded.waiting,
    verdict = CASE WHEN verdict IN ('early', 'unowned', 'unrecognised', 'unconfirmed', 'refused')
        THEN excluded.verdict ELSE verdict END
RETURNING seen
"""

# What a body that came before turned out to be, and whether it is still kept.
KNOWN_DELIVERY = """
SELECT verdict, typeof(body) FROM deliveries WHERE provider = ? AND task_id = ? AND claim = ? AND digest = ?
"""

# Only its key was left, and now it counts again: retention, which goes by numbers, must come to it once more.
RENEW_DELIVERY = """
UPDATE deliveries SET number = (SELECT max(number) + 1 FROM deliveries), received_at = ?, body = ?
WHERE provider = ? AND task_id = ? AND claim = ? AND digest = ?
    AND (verdict = 'unowned' OR typeof(body) = 'null')
"""

# How many deliveries of a verdict are kept that nobody owns, whenever they came.
COUNT_OWNERLESS = "SELECT kept FROM ownerless WHERE verdict = ?"

# How many of these are large. Left to itself SQLite would look at them all.
MOST_LARGE = 100
LARGE_BYTES = 65_536  # as the index says it
COUNT_LARGE = f"""
SELECT count(*) FROM (SELECT 1 FROM deliveries INDEXED BY deliveries_large
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') AND length(body) > {LARGE_BYTES}
        AND verdict = ? LIMIT ?)
"""  # noqa: S608

# What one token may pile up on one task, of each verdict for itself: so no amount of progress crowds out a
# result, or what may be one. Ends that wait are fewer: they are looked at together when their wait is over.
MOST_BODIES = 100
MOST_WAITING = 20

# How many there are; counting stops at the limit. The plus is for SQLite: it has indexes for some verdicts,
# and would plan anew for each.
COUNT_ALIKE = """
SELECT count(*) FROM (SELECT 1 FROM deliveries
    WHERE provider = ? AND task_id = ? AND claim = ? AND +verdict = ? AND (typeof(waiting) = 'text') = ?
    LIMIT ?)
"""

COUNT_ON_NEWEST = """
UPDATE deliveries SET seen = seen + 1, last_seen_at = ? WHERE number =
    (SELECT max(number) FROM deliveries WHERE provider = ? AND task_id = ? AND claim = ? AND +verdict = ?)
"""

# Verdicts of what may still count: it is kept, or its sender is told to come again. Of all others one more
# says nothing new.
STILL_OPEN = frozenset({Verdict.EARLY, Verdict.UNCONFIRMED, Verdict.UNRECOGNISED})
_JUDGED_ANEW = frozenset({Verdict.UNCONFIRMED, Verdict.UNRECOGNISED, Verdict.REFUSED})


def place_of(recording: Recording, task_id: str | None) -> Place:
    """Under what a delivery is filed; with its digest, the key that makes a repeat a repeat."""
    claim = "poll" if recording.via is Via.POLL else recording.submission_id or ""
    return recording.provider, task_id or "", claim


def keep(db: Cursor, recording: Recording, verdict: Verdict, place: Place, owner: int | None) -> int:
    """File a delivery; how often this body has come."""
    report, moment = recording.report, to_text(recording.received_at)
    values = (
        *place, recording.digest,
        owner, recording.via.value, recording.proof.value, verdict.value,
        report.provider_state, report.note, events.waiting(recording, verdict),
        moment, moment, recording.body,
    )  # fmt: skip
    if verdict is Verdict.ACCEPTED and db.execute(INSERT_DELIVERY, values).rowcount == 1:
        return 1
    (seen,) = db.execute(UPSERT_DELIVERY, values).fetchone()
    return int(seen)


def is_held(db: Cursor, recording: Recording, place: Place) -> bool:
    """Whether the same body waits already."""
    known = db.execute(KNOWN_DELIVERY, (*place, recording.digest)).fetchone()
    return known is not None and known[0] == Verdict.UNCONFIRMED


def renew(db: Cursor, recording: Recording, place: Place) -> None:
    values = (to_text(recording.received_at), recording.body, *place, recording.digest)
    db.execute(RENEW_DELIVERY, values)


def is_kept(
    db: Cursor,
    recording: Recording,
    verdict: Verdict,
    place: Place,
    owner: int | None,
    options: StoreOptions,
) -> bool:
    """Whether a delivery that ended nothing has a row or gets one; else it is counted on another one's.

    Raises Unavailable where it would have to be kept and is too much. Nothing was written then: if its token
    has just bound a submission, it is the first that the token brings about that task.
    """
    known = db.execute(KNOWN_DELIVERY, (*place, recording.digest)).fetchone()
    if known is not None and not _is_spent(*known):
        return True
    if owner is None:
        _refuse_beyond_limits(db, recording, verdict, options)
    _, task_id, _ = place
    # Only an unowned one has lost its place among its like. What names no task lies in one place, whoever
    # sent it, and is bounded already.
    is_one_more = known is None or known[0] == Verdict.UNOWNED
    if is_one_more and (owner is not None or task_id) and _is_too_much(db, recording, verdict, place):
        return False
    if known is not None:
        renew(db, recording, place)
    return True


def _is_spent(verdict: str, body: str) -> bool:
    """Whether nothing but the key is left of a delivery that is judged anew. Early ones keep their place."""
    # (Before there was a rule for it, unowned ones kept their bodies.)
    return verdict == Verdict.UNOWNED or (body == "null" and verdict in _JUDGED_ANEW)


def _refuse_beyond_limits(db: Cursor, recording: Recording, verdict: Verdict, options: StoreOptions) -> None:
    # Each verdict for itself: what nobody understands stays until retention, and must not keep out what is
    # only early.
    (ownerless,) = db.execute(COUNT_OWNERLESS, (verdict.value,)).fetchone()
    if ownerless >= options.early_limit:
        raise Unavailable(
            f"{options.early_limit} {verdict} deliveries have no submission already", retry_after_seconds=60.0
        )
    if len(recording.body) <= LARGE_BYTES:
        return
    (large,) = db.execute(COUNT_LARGE, (verdict.value, MOST_LARGE)).fetchone()
    if large >= MOST_LARGE:
        raise Unavailable(
            f"{MOST_LARGE} large {verdict} deliveries have no submission already", retry_after_seconds=60.0
        )


def _is_too_much(db: Cursor, recording: Recording, verdict: Verdict, place: Place) -> bool:
    """Whether one token brought one task so many such bodies that a new one is only counted."""
    waits = events.waiting(recording, verdict) is not None
    most = MOST_WAITING if waits else MOST_BODIES
    (bodies,) = db.execute(COUNT_ALIKE, (*place, verdict.value, waits, most)).fetchone()
    if bodies < most:
        return False
    # An answer to a question of ours is not owed an answer, and the question will be asked again.
    if verdict in STILL_OPEN and recording.via is not Via.POLL:
        raise Unavailable(
            f"{most} other callbacks of this kind about the task wait already", retry_after_seconds=60.0
        )
    db.execute(COUNT_ON_NEWEST, (to_text(recording.received_at), *place, verdict.value))
    return True
