"""What an event said in each revision, kept from the moment at which its files begin to say something else.

Most events say one thing for ever, and their own rows are enough. Only a replay of downloads changes the
files of an event that has ended; before it does, what was announced is kept, for every retry and replay of
that revision says it again.
"""

from datetime import datetime

import msgspec

from receiver.models import AnnouncedAsset, Announcement, Event, EventType
from receiver.record.cursor import Cursor
from receiver.record.rows import parameters
from receiver.times import to_text

# Where it is kept already, the rows have changed since.
KEEP_REVISION = """
INSERT INTO revisions (event, revision, content) VALUES (:event, :revision, :content)
ON CONFLICT (event, revision) DO NOTHING
"""


class KeptRevision(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision says of its task: all that may change after it was told."""

    type: EventType
    ended_at: datetime
    error_code: str | None
    error_message: str | None
    assets: tuple[AnnouncedAsset, ...]


def keep_revision(db: Cursor, number: int, event: Event) -> None:
    """Keep what an event that has ended says now; the files of one that is kept already may have changed."""
    content = msgspec.convert(event, KeptRevision, from_attributes=True)
    db.execute(KEEP_REVISION, parameters(event=number, revision=event.revision, content=content))


def as_announced(event: Announcement, content: str | None) -> Announcement:
    """The event as a revision told it; without kept ``content`` its rows still say so."""
    if content is None:
        return event
    said = msgspec.json.decode(content, type=KeptRevision)
    return msgspec.structs.replace(
        event,
        type=said.type,
        ended_at=to_text(said.ended_at),
        error_code=said.error_code,
        error_message=said.error_message,
        assets=said.assets,
    )
