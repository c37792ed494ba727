"""What a replay does to the other tables: a step, and taking back what a cancelled one has queued.

What matches is looked for on a reading connection, for that may take long. What follows from it is written
together with the move of the cursor in one short transaction, after a second look at those few rows: a
crash repeats nothing and skips nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from receiver.errors import Rejected
from receiver.models import (
    AuditEntry,
    KeptDelivery,
    Matches,
    PollWork,
    Proof,
    Recording,
    Replay,
    ReplayState,
    ReplayWork,
    Report,
    ReportState,
    Stage,
    Verdict,
    Via,
)
from receiver.options import StoreOptions, why_not_asked
from receiver.problem_types import ProblemType
from receiver.record import polls, replays, rules
from receiver.record.audit import note
from receiver.record.cursor import Cursor, change_each
from receiver.record.ends import end_if_last
from receiver.record.filters import json_list, next_matches, still_matching
from receiver.record.recording import Batch
from receiver.record.replays import WITHDRAWN
from receiver.record.revisions import keep_revision
from receiver.record.rows import Row, fetch_all, parameters, to_value
from receiver.record.views import event_of
from receiver.times import to_text

# The same event, sink and revision once in each replay: the key sees to that.
QUEUE_NOTIFICATION = """
INSERT INTO outbox (event, sink, revision, replay_id, due_at, created_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (event, sink, revision, replay_id) DO NOTHING
"""

# A file that could not be had gets all its attempts again, and its link may be asked for anew. With the
# deadline that is long over it would go before files whose links still live, and be tried only once.
QUEUE_ASSETS = """
UPDATE assets SET state = 'pending', attempts = 0, alike = 0, renewed = 0, lease = NULL, settled_at = NULL,
    due_at = ?, deadline_at = ?, replay_id = ?
WHERE event = ? AND state = 'failed'
"""

# Asked now, or in the question that is on its way; and once for all replays: the first one counts the answer.
QUEUE_POLL = """
INSERT INTO polls (number, provider, due_at, replay_id)
SELECT number, provider, ?, ? FROM submissions WHERE number = ?
ON CONFLICT (number) DO UPDATE SET replay_id = excluded.replay_id,
    due_at = CASE WHEN polls.lease IS NULL THEN min(polls.due_at, excluded.due_at) ELSE polls.due_at END
WHERE polls.replay_id IS NULL
    OR polls.replay_id NOT IN (SELECT id FROM replays WHERE state IN ('running', 'paused'))
"""

# What nobody holds of a replay's pieces is taken back, so many at once. Dead letters that people have sent
# after all were asked for, and counted, by themselves.
# The first conditions are the words of its index.
WITHDRAW_NOTIFICATIONS = """
DELETE FROM outbox WHERE number IN (SELECT number FROM outbox
    WHERE replay_id = :replay_id AND replay_id <> '' AND state = 'pending' AND revived = 0
        AND (lease IS NULL OR due_at <= :now) LIMIT :most)
"""
# Nobody would ever send these.
WITHDRAW_UNSENDABLE = """
DELETE FROM outbox
WHERE replay_id <> '' AND state = 'pending' AND revived = 0
    AND sink NOT IN (SELECT value FROM json_each(:sinks))
RETURNING replay_id
"""
WITHDRAW_ASSETS = """
UPDATE assets SET state = 'failed', replay_id = NULL, lease = NULL, settled_at = :now
WHERE (event, position) IN (SELECT event, position FROM assets
    WHERE state = 'pending' AND replay_id = :replay_id AND (lease IS NULL OR due_at <= :now) LIMIT :most)
RETURNING event
"""
QUEUED_POLLS = "SELECT number, replay_id, provider FROM polls WHERE replay_id IS NOT NULL"
POLLS_OF_REPLAY = """
SELECT number, provider FROM polls
WHERE replay_id = :replay_id AND (lease IS NULL OR due_at <= :now) LIMIT :most
"""
# A question is put off by its provider's usual time: when it was due without the replay is gone.
WITHDRAW_POLL = """
UPDATE polls SET replay_id = NULL, lease = NULL,
    due_at = CASE held WHEN 0 THEN coalesce(?, due_at) ELSE due_at END
WHERE number = ?
"""

KEPT_COLUMNS = """
d.provider, d.via, d.proof, d.claim, d.digest, d.received_at, d.body, d.task_id, d.note
"""

# What is held of a task, in the order it came. The plus is for SQLite: by its task it is found at once.
HELD_OF_TASK = f"""
SELECT d.number AS place, {KEPT_COLUMNS} FROM deliveries d
WHERE provider = :provider AND task_id = :task_id AND +verdict = 'unconfirmed' AND body IS NOT NULL
ORDER BY number
"""  # noqa: S608

MOST_WITHDRAWN = 500  # pieces in one transaction: callbacks wait behind it for milliseconds only

# Of tasks whose provider cannot be asked.
UNPOLLED = "unpolled"

# What a link's life is taken for where nothing is said of it.
LINK_LIFE_SECONDS = 86_400.0


def find_matches(db: Cursor, work: ReplayWork, limit: int) -> Matches:
    """What the next step is about; see ``ports.ReplayStore.find_matches``."""
    rows, reached = next_matches(db, work, limit)
    return Matches(
        keys=tuple(str(row["place"]) for row in rows), next_key=None if reached is None else str(reached)
    )


def step(
    db: Cursor,
    work: ReplayWork,
    matches: Matches,
    *,
    now: datetime,
    next_at: datetime,
    options: StoreOptions,
) -> bool:
    """Queue what the matches that were found need; see ``ports.ReplayStore.step_replay``."""
    if not replays.is_leased(db, work):
        return False
    replay, found = work.replay, [int(key) for key in matches.keys]
    results: Mapping[str, int] = {}
    match replay.stage:
        case Stage.NOTIFY:
            moment = to_text(now)
            entries = [
                (row["number"], sink, row["revision"], replay.id, moment, moment)
                for row in still_matching(
                    db, replay, "e.number, e.revision, s.provider, e.type, s.owner", found
                )
                for sink in _sinks(replay, options, row["provider"], row["type"], row["owner"])
            ]
            queued = change_each(db, QUEUE_NOTIFICATION, entries)
        case Stage.FETCH:
            values = []
            for row in still_matching(db, replay, "e.number, s.provider", found):
                event = row["number"]
                keep_revision(db, event, event_of(db, event))
                life = timedelta(seconds=options.link_life_seconds.get(row["provider"], LINK_LIFE_SECONDS))
                values.append((to_text(now), to_text(now + life), replay.id, event))
            queued = change_each(db, QUEUE_ASSETS, values)
        case _:
            tasks = still_matching(db, replay, "s.number, s.provider", found)
            askable = [row["number"] for row in tasks if not why_not_asked(options, row["provider"])]
            queued = change_each(db, QUEUE_POLL, [(to_text(now), replay.id, number) for number in askable])
            left_out = len(tasks) - len(askable)
            queued, results = queued + left_out, {UNPOLLED: left_out} if left_out else {}
    next_number = None if matches.next_key is None else int(matches.next_key)
    made = replays.Step(looked_at=len(found), queued=queued, results=results, next_number=next_number)
    replays.move(db, replay.id, made, now=now, next_at=next_at)
    return True


def _sinks(replay: Replay, options: StoreOptions, provider: str, event_type: str, owner: str) -> list[str]:
    """Those that were named, or else those that want the event; never one that is not set any more."""
    return [
        route.sink
        for route in options.routes
        if (route.sink in replay.sinks if replay.sinks else route.wants(provider, event_type, owner))
    ]


def list_kept(db: Cursor, work: ReplayWork, limit: int, low: int) -> tuple[list[KeptDelivery], int | None]:
    """The next deliveries to be read again from ``low`` on, and where to go on, if anywhere."""
    rows, reached = next_matches(db, work, limit, KEPT_COLUMNS, low=low)
    return [_kept(row) for row in rows], reached


def _kept(row: Row) -> KeptDelivery:
    came = to_value(
        row,
        Recording,
        submission_id=row["claim"] or None if row["via"] == Via.CALLBACK else None,
        fingerprint="",
        report=Report(task_id=row["task_id"] or None, state=ReportState.UNCLEAR, note=row["note"]),
        links_die_at=row["received_at"],
    )
    return KeptDelivery(number=row["place"], recording=came)


def reprocess(
    db: Cursor,
    work: ReplayWork,
    read: Sequence[KeptDelivery],
    *,
    now: datetime,
    next_at: datetime,
    options: StoreOptions,
) -> bool:
    """Do what follows from deliveries that were read again; see ``ports.ReplayStore.reprocess``."""
    if not replays.is_leased(db, work):
        return False
    unread = Verdict.UNRECOGNISED
    batch = Batch(db, options)
    results = Counter(_apply_again(batch, kept, unread, now).value for kept in read)
    batch.write()
    made = replays.Step(
        looked_at=len(read),
        queued=len(read),
        results=results,
        next_number=read[-1].number + 1 if read else None,
    )
    replays.move(db, work.replay.id, made, now=now, next_at=next_at)
    return True


def list_held(db: Cursor, work: PollWork, options: StoreOptions) -> list[KeptDelivery]:
    """What is held of a task though its proof is enough; see ``ports.Store.list_held``."""
    rows = fetch_all(db.execute(HELD_OF_TASK, {"provider": work.provider, "task_id": work.task_id}))
    return [_kept(row) for row in rows if not options.confirms(work.provider, Proof(row["proof"]))]


def judge_held(db: Cursor, read: Sequence[KeptDelivery], now: datetime, options: StoreOptions) -> bool:
    """Judge what is held as if it came now; see ``ports.Store.judge_held``."""
    batch = Batch(db, options)
    verdicts = {_apply_again(batch, kept, Verdict.UNCONFIRMED, now) for kept in read}
    batch.write()
    return Verdict.ACCEPTED in verdicts


def _apply_again(batch: Batch, kept: KeptDelivery, expected: Verdict, now: datetime) -> Verdict:
    """What a delivery turns out to be, now that it is understood, or has waited, or still is what it was."""
    row = batch.deliveries.by_number(kept.number)
    if row.verdict is not expected:  # meanwhile a repeat was understood, its time ran out, or its task ended
        return row.verdict
    again = kept.recording
    if again.report.state is ReportState.UNCLEAR:
        return expected
    claim = batch.claim_submission(again)
    row = batch.deliveries.by_number(kept.number)  # binding its task may have given it an owner
    owner, task_id = claim.submission, claim.task_id
    filed_under = task_id or row.task_id
    moves = filed_under != row.task_id
    if moves and batch.deliveries.find((row.provider, filed_under, row.claim), row.digest) is not None:
        result, filed_under = Verdict.DUPLICATE, row.task_id  # the same body came again, and was filed there
    elif claim.is_refused:
        result = Verdict.REFUSED
    else:
        result, owner = batch.apply(again, claim.proof, now)
    read = replace(
        row,
        task_id=filed_under,
        verdict=result,
        submission=owner or row.submission,
        waiting=rules.waiting(again, result),
    )
    batch.deliveries.reread(row, read, again)
    batch.tell_polls(result, owner, again.provider, task_id, now)  # others may have been held
    return result


def change_replay(
    db: Cursor,
    replay_id: str,
    state: ReplayState,
    now: datetime,
    options: StoreOptions,
    audit: AuditEntry | None = None,
) -> Replay:
    """Pause, resume or cancel; see ``ports.ReplayStore.change_replay``."""
    replay = replays.get_replay(db, replay_id)
    if replay is None:
        raise Rejected(ProblemType.UNKNOWN_REPLAY, "No replay has this id.")
    if replay.state in {ReplayState.DONE, ReplayState.CANCELLED}:
        raise Rejected(ProblemType.REPLAY_ENDED, f"This replay is {replay.state.value} already.")
    if state is ReplayState.CANCELLED:
        replays.cancel(db, replay_id, now)
        withdrawn = _withdraw(db, replay_id, now, options)
        if withdrawn:  # and the rest, if any, by and by
            replays.withdraw_on(db, replay_id, withdrawn, due_at=now if withdrawn == MOST_WITHDRAWN else None)
    elif state is not replay.state:
        replays.change(db, replay_id, state, now)
    if audit is not None and state is not replay.state:
        note(db, audit)
    changed = replays.get_replay(db, replay_id)
    assert changed is not None, "replays are never deleted"  # noqa: S101
    return changed


def withdraw_pieces(
    db: Cursor, work: ReplayWork, now: datetime, lease_until: datetime, options: StoreOptions
) -> bool:
    """Take back more of what a cancelled replay queued; see ``ports.ReplayStore.withdraw_pieces``."""
    if not replays.is_withdrawing(db, work):
        return False
    withdrawn = _withdraw(db, work.replay.id, now, options)
    is_more = withdrawn == MOST_WITHDRAWN
    replays.withdraw_on(
        db, work.replay.id, withdrawn, due_at=lease_until if is_more else None, lease=work.lease
    )
    return is_more


def _withdraw(db: Cursor, replay_id: str, now: datetime, options: StoreOptions) -> int:
    """Take back ``MOST_WITHDRAWN`` pieces that nobody holds; how many there were, if fewer."""
    values = parameters(replay_id=replay_id, now=now, most=MOST_WITHDRAWN)
    withdrawn = db.execute(WITHDRAW_NOTIFICATIONS, values).rowcount
    values["most"] -= withdrawn
    polls = db.execute(POLLS_OF_REPLAY, values).fetchall()
    due = {
        provider: to_text(now + timedelta(seconds=options.first_poll_seconds[provider]))
        for provider in {provider for _, provider in polls}
        if provider in options.first_poll_seconds
    }
    db.executemany(WITHDRAW_POLL, [(due.get(provider), number) for number, provider in polls])
    withdrawn += len(polls)
    values["most"] -= len(polls)
    assets = db.execute(WITHDRAW_ASSETS, values).fetchall()
    # What came of an event's other files may be more than was told.
    end_if_last(db, {event: now for (event,) in assets}, options.routes)
    return withdrawn + len(assets)


def withdraw_hopeless(db: Cursor, now: datetime, options: StoreOptions) -> None:
    """Take back what replays have queued and nobody does any more, lest they never end.

    That is what is for sinks that are not set, and for providers that cannot be asked.
    """
    sinks = {"sinks": json_list([route.sink for route in options.routes])}
    withdrawn = Counter(replay_id for (replay_id,) in db.execute(WITHDRAW_UNSENDABLE, sinks).fetchall())
    for replay_id, pieces in withdrawn.items():
        replays.count_settled(db, replay_id, WITHDRAWN, now, pieces=pieces)
    queued = db.execute(QUEUED_POLLS).fetchall()
    unasked = [
        (number, replay_id) for number, replay_id, provider in queued if why_not_asked(options, provider)
    ]
    for number, replay_id in unasked:
        db.execute(polls.CLEAR_REPLAY, (number,))
        replays.count_settled(db, replay_id, UNPOLLED, now)
