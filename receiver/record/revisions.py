"""What an event said in each revision, kept from the moment at which its files begin to say something else.

Most events say one thing for ever, and their own rows are enough. Only a replay of downloads changes the
files of an event that has ended; before it does, what was announced is kept, for every retry and replay of
that revision says it again.
"""

from datetime import datetime

import msgspec

from receiver.models import AssetState, Event, EventType, Outcome
from receiver.record.cursor import Cursor
from receiver.record.rows import parameters

# Where it is kept already, the rows have changed since.
KEEP_REVISION = """
INSERT INTO revisions (event, revision, content) VALUES (:event, :revision, :content)
ON CONFLICT (event, revision) DO NOTHING
"""


class AnnouncedAsset(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision says of one file."""

    index: int
    state: AssetState
    outcome: Outcome | None
    key: str | None
    media_type: str | None
    bytes: int | None
    width: int | None
    height: int | None
    sha256: str | None


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision says of its task: all that may change after it was told."""

    type: EventType
    ended_at: datetime
    error_code: str | None
    error_message: str | None
    assets: tuple[AnnouncedAsset, ...]


def keep_revision(db: Cursor, number: int, event: Event) -> None:
    """Keep what an event that has ended says now; the files of one that is kept already may have changed."""
    content = msgspec.convert(event, Announcement, from_attributes=True)
    db.execute(KEEP_REVISION, parameters(event=number, revision=event.revision, content=content))


def as_announced(event: Event, revision: int, content: str | None) -> Event:
    """The event as a revision told it; without kept ``content`` its rows still say so."""
    if content is None:
        return event
    said = msgspec.json.decode(content, type=Announcement)
    told = {asset.index: asset for asset in said.assets}
    return msgspec.structs.replace(
        event,
        revision=revision,
        type=said.type,
        ended_at=said.ended_at,
        error_code=said.error_code,
        error_message=said.error_message,
        assets=tuple(
            msgspec.structs.replace(asset, **msgspec.structs.asdict(told[asset.index]))
            for asset in event.assets
        ),
    )
