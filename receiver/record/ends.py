"""How an event ends, and whom that is told: one outbox entry for each sink that wants it."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from receiver.models import CostState, EventType, Route
from receiver.record import costs, rules
from receiver.record.cursor import Cursor
from receiver.record.lines import line_of
from receiver.record.outbox import INSERT_OUTBOX, SUPERSEDE
from receiver.record.rows import ByKeys, parameters, read_all
from receiver.times import to_text

# Events and how their files stand.
STANDING = ByKeys(
    """
    SELECT e.number AS event, e.type, e.announced, e.revision, s.provider, s.owner, s.has_charge,
        (SELECT count(*) FROM assets a WHERE a.event = e.number AND a.state = 'pending') AS pending,
        (SELECT count(*) FROM assets a WHERE a.event = e.number AND a.state = 'stored') AS stored,
        (SELECT count(*) FROM assets a WHERE a.event = e.number) AS total,
        (SELECT a.outcome FROM assets a WHERE a.event = e.number AND a.state = 'failed'
            ORDER BY a.position LIMIT 1) AS failure
    """,
    "events e CROSS JOIN submissions s ON s.number = e.number",
    ["e.number"],
)

# An event that had ended has more of its files than consumers were told of: it ends anew.
REOPEN = """
UPDATE events SET type = NULL, error_code = NULL, error_message = NULL, revision = revision + 1
WHERE number = :event AND type IS NOT NULL AND announced < :stored
"""

SET_ERROR = """
UPDATE events SET error_code = :code, error_message = :message WHERE number = :event AND type IS NULL
"""

END_EVENT = """
UPDATE events SET type = :type, ended_at = :ended_at, announced = :stored
WHERE number = :event AND type IS NULL
"""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How an event ends, and what says who wants to know."""

    event: int
    type: EventType
    ended_at: datetime
    stored: int = 0  # of its files
    provider: str
    owner: str
    revision: int = 1
    cost: CostState | None = None  # of its order, where that holds money


class _Standing(msgspec.Struct, frozen=True, kw_only=True):
    event: int
    type: EventType | None
    announced: int
    revision: int
    provider: str
    owner: str
    has_charge: int | None
    pending: int
    stored: int
    total: int
    failure: str | None  # of the first file that could not be had

    @property
    def has_more(self) -> bool:
        """Whether it has ended, with fewer files than there are now."""
        return self.type is not None and self.announced < self.stored


def end_if_last(db: Cursor, at: Mapping[int, datetime], routes: Sequence[Route]) -> None:
    """End events of which no file is pending any more, each at its time; once for all the files it has."""
    if not at:
        return
    found = read_all(db.execute(*STANDING.of([(event,) for event in at])), _Standing)
    by_event = {row.event: row for row in found}
    over = [
        row for event in at if not (row := by_event[event]).pending and (row.type is None or row.has_more)
    ]
    if reopened := [{"event": row.event, "stored": row.stored} for row in over if row.has_more]:
        db.executemany(REOPEN, reopened)
    if failed := [row for row in over if not row.stored]:
        said = [
            {"event": row.event, "code": row.failure, "message": rules.error_of_files(row.total)}
            for row in failed
        ]
        db.executemany(SET_ERROR, said)
    ends = [
        End(
            event=row.event,
            type=rules.end_of_files(row.stored, row.total),
            ended_at=at[row.event],
            stored=row.stored,
            provider=row.provider,
            owner=row.owner,
            revision=row.revision + row.has_more,
            cost=CostState.CHARGED if row.has_charge else None,  # whatever of it could be had here
        )
        for row in over
    ]
    if ends:
        end_all(db, ends, routes)


def end_all(db: Cursor, ends: Sequence[End], routes: Sequence[Route]) -> None:
    """Say how events ended, and address each to every sink that wants to know."""
    db.executemany(
        END_EVENT,
        [
            parameters(event=end.event, type=end.type, ended_at=end.ended_at, stored=end.stored)
            for end in ends
        ],
    )
    _address(db, ends, routes)
    costs.settle(db, [(end.event, end.cost, end.ended_at) for end in ends if end.cost is not None])
    for end in ends:
        if end.revision > 1:
            db.execute(SUPERSEDE, (end.event, to_text(end.ended_at)))


def _address(db: Cursor, ends: Sequence[End], routes: Sequence[Route]) -> None:
    entries = [
        (end.event, route.sink, end.revision, moment, moment, line_of(route.order, end.event, end.owner))
        for end in ends
        for moment in (to_text(end.ended_at),)
        for route in routes
        if route.wants(end.provider, end.type.value, end.owner)
    ]
    if entries:
        db.executemany(INSERT_OUTBOX, entries)
