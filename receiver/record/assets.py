"""Files: how a leased download ends, and what that means for its event.

A lease is a name on the row plus a ``due_at`` moved into the future. When it runs out the row is simply
due again, and the name, checked when the work is settled, keeps a late finisher from changing anything.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from receiver.links import host_hash, is_inline
from receiver.models import AssetWork, Outcome, Route, Settlement, StoredFile
from receiver.record.attempts import Try, keep_attempts
from receiver.record.contents import Content, remember
from receiver.record.cursor import Cursor
from receiver.record.ends import end_if_last
from receiver.record.leases import HELD
from receiver.record.replays import WITHDRAWN, count_settled, is_cancelled
from receiver.record.rows import ByKeys, Row, find_rows, parameters, parameters_of
from receiver.record.rules import LARGE_BYTES

FREE_ASSETS = f"UPDATE assets SET lease = NULL, due_at = :now WHERE state = 'pending' AND {HELD}"  # noqa: S608

LEASED_NOW = ByKeys(
    "SELECT s.provider, s.task_id, s.owner, a.position, a.event, a.lease, a.outcome, a.alike",
    "submissions s CROSS JOIN assets a ON a.event = s.number",
    ["s.provider", "s.task_id", "a.position"],
)

# One attempt has ended.
SETTLE_ASSET = """
UPDATE assets SET lease = NULL, attempts = attempts - :uncounted, state = :state, alike = :alike,
    outcome = :outcome, due_at = :due_at, settled_at = :settled_at, key = :key, media_type = :media_type,
    bytes = :bytes, width = :width, height = :height, sha256 = :sha256
WHERE event = :event AND position = :position
"""

# The provider was asked for an asset's link anew, whatever it said.
SPEND_RENEWAL = "UPDATE assets SET renewed = 1 WHERE event = :event AND position = :asked_for"

# It named another link than before: a new start for the event's other files that wait, each of which may
# still ask for itself. The one that asked has tried it already.
RENEW_ASSET = """
UPDATE assets SET host_hash = :host, deadline_at = :dies_at,
    due_at = CASE position WHEN :asked_for THEN due_at ELSE :now END,
    alike = CASE position WHEN :asked_for THEN alike ELSE 0 END
WHERE event = :event AND position = :position AND state = 'pending' AND lease IS NULL
    AND (renewed = 0 OR position = :asked_for)
    AND EXISTS (SELECT 1 FROM links l
        WHERE l.event = assets.event AND l.position = assets.position AND l.url <> :url)
"""
RENEW_LINK = "UPDATE links SET url = :url WHERE event = :event AND position = :position"

# The files in it are stored, all of them: of a large body the rest is kept as little as they are. The plus is
# for SQLite: by its task it is found at once.
LEAVE_OUT_FILES = f"""
UPDATE deliveries SET body = :left_out
WHERE provider = :provider AND task_id = :task_id AND +verdict = 'accepted' AND length(body) > {LARGE_BYTES}
    AND NOT EXISTS (SELECT 1 FROM assets a WHERE a.event = :event AND a.state <> 'stored')
"""  # noqa: S608

NO_FILE = dict.fromkeys(StoredFile.__struct_fields__)


def free_assets(db: Cursor, now: datetime, holder: str) -> None:
    """Files that a holder who is gone was working on are due again."""
    db.execute(FREE_ASSETS, parameters(now=now, holder=holder))


class _LeasedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    provider: str
    task_id: str
    owner: str
    position: int
    event: int
    lease: str | None
    outcome: str | None
    alike: int


class _Settled(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt whose lease is ours still, and what follows."""

    work: AssetWork
    settlement: Settlement
    row: _LeasedRow
    retry_at: datetime | None
    is_withdrawn: bool


def settle_assets(
    db: Cursor,
    ended: Sequence[tuple[AssetWork, Settlement]],
    routes: Sequence[Route],
    *,
    link_copies: bool = False,
) -> list[bool]:
    """Record how downloads ended, and events with their last ones; see ``ports.Store.settle_asset``.

    With ``link_copies`` what is in the files is kept for ``contents.find_copy``.
    """
    keys = [(work.provider, work.task_id, work.index) for work, _ in ended]
    rows = find_rows(db.execute(*LEASED_NOW.of(keys)), _LeasedRow)
    leased = {(row.provider, row.task_id, row.position): row for row in rows}
    ours: list[bool] = []
    settled: list[_Settled] = []
    for key, (work, settlement) in zip(keys, ended, strict=True):
        row = leased.get(key)
        ours.append(row is not None and row.lease == work.lease)
        if row is not None and ours[-1]:
            del leased[key]  # whoever says so again has it no more
            # What was on its way when its replay was cancelled ends with this attempt.
            is_withdrawn = settlement.retry_at is not None and is_cancelled(db, work.replay_id)
            again = None if is_withdrawn else settlement.retry_at
            settled.append(
                _Settled(work=work, settlement=settlement, row=row, retry_at=again, is_withdrawn=is_withdrawn)
            )
    if settled:
        _settle(db, settled, routes)
        if link_copies:
            remember(db, _own_files(settled))
    return ours


def _own_files(settled: Sequence[_Settled]) -> Iterator[Content]:
    """What is stored now and was not linked to what was there."""
    for each in settled:
        file, row = each.settlement.file, each.row
        if file is not None and each.settlement.outcome is Outcome.STORED:
            yield Content(event=row.event, position=row.position, owner=row.owner, sha256=file.sha256)


def _settle(db: Cursor, settled: Sequence[_Settled], routes: Sequence[Route]) -> None:
    db.executemany(SETTLE_ASSET, [_values(each) for each in settled])
    keep_attempts(
        db,
        [
            Try(
                event=each.row.event,
                target=f"asset {each.work.index}",
                entry=None,
                attempt=each.work.attempt,
                settlement=each.settlement,
            )
            for each in settled
        ],
    )
    for each in settled:
        if each.settlement.links_die_at is not None:
            _renew(db, each.row.event, each.work.index, each.settlement, each.settlement.links_die_at)
    over = [each for each in settled if each.retry_at is None]
    end_if_last(db, {each.row.event: each.settlement.settled_at for each in over}, routes)
    for each in over:
        if each.settlement.file is not None and is_inline(each.work.url):
            _leave_out_files(db, each)
        if each.work.replay_id is not None:
            outcome = WITHDRAWN if each.is_withdrawn else each.settlement.outcome.value
            count_settled(db, each.work.replay_id, outcome, each.settlement.settled_at)


def _leave_out_files(db: Cursor, settled: _Settled) -> None:
    """Ours stands in for a body that is kept no longer than its files needed it."""
    work = settled.work
    left_out = msgspec.json.encode({"task_id": work.task_id, "left_out": "its files, which are stored"})
    values = parameters(provider=work.provider, task_id=work.task_id, event=settled.row.event)
    db.execute(LEAVE_OUT_FILES, {**values, "left_out": left_out})


def _values(settled: _Settled) -> Row:
    row, settlement, again = settled.row, settled.settlement, settled.retry_at
    file = settlement.file
    is_ours = again is not None and settlement.outcome is Outcome.STORAGE_FAILED  # and no fault of the link's
    values = parameters(
        event=row.event,
        position=row.position,
        uncounted=is_ours,
        state="stored" if file else "pending" if again else "failed",
        alike=row.alike + 1 if row.outcome == settlement.outcome else 1,
        outcome=settlement.outcome,
        due_at=again or settlement.settled_at,
        settled_at=None if again else settlement.settled_at,
    )
    return values | (parameters_of(file) if file else NO_FILE)


def _renew(db: Cursor, event: int, asked_for: int, settlement: Settlement, dies_at: datetime) -> None:
    """Give the files that wait the links of the provider's new answer: perhaps none, perhaps the old ones."""
    shared = parameters(event=event, asked_for=asked_for, dies_at=dies_at, now=settlement.settled_at)
    db.execute(SPEND_RENEWAL, shared)
    for position, url in settlement.links.items():
        renewed = {**shared, "position": position, "url": url, "host": host_hash(url)}
        if db.execute(RENEW_ASSET, renewed).rowcount:
            db.execute(RENEW_LINK, {name: renewed[name] for name in ("url", "event", "position")})
