"""What is in stored files: where an owner has one with the same bytes already."""

from collections.abc import Iterable

import msgspec

from receiver.record.cursor import Cursor
from receiver.record.ids import hash63
from receiver.record.rows import find_row

# The newest is the one to link to: whatever keeps files for a time only keeps it longest.
REMEMBER = """
INSERT INTO contents (digest, event, position) VALUES (?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET event = excluded.event, position = excluded.position
"""

FIND_COPY = """
SELECT s.owner, a.sha256, a.key
FROM contents c CROSS JOIN assets a ON a.event = c.event AND a.position = c.position
    CROSS JOIN submissions s ON s.number = c.event
WHERE c.digest = :digest AND a.state = 'stored'
"""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file, whose it is and what is in it."""

    event: int
    position: int
    owner: str
    sha256: str


class _Found(msgspec.Struct, frozen=True, array_like=True, gc=False):
    owner: str
    sha256: str
    key: str


def remember(db: Cursor, contents: Iterable[Content]) -> None:
    """Keep where these are. Of equal ones in a call the last one counts, as it does from call to call."""
    rows = {_digest(each.owner, each.sha256): (each.event, each.position) for each in contents}
    if rows:
        db.executemany(REMEMBER, [(digest, *place) for digest, place in rows.items()])


def find_copy(db: Cursor, owner: str, sha256: str) -> str | None:
    """The key of a stored file; see ``ports.Store.find_copy``."""
    found = find_row(db.execute(FIND_COPY, {"digest": _digest(owner, sha256)}), _Found)
    # Two may have one digest, as it is short: then only one of them is found.
    return found.key if found is not None and (found.owner, found.sha256) == (owner, sha256) else None


def _digest(owner: str, sha256: str) -> int:
    return hash63(f"{sha256} {owner}")
