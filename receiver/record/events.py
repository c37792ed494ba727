"""The one event of a task: what its first end brings, with its files or the word of how it ended."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec.structs import astuple

from receiver.links import host_hash
from receiver.models import Recording, Route
from receiver.record import rules
from receiver.record.cursor import Cursor
from receiver.record.ends import End, end_all
from receiver.record.rows import insert_into
from receiver.record.rules import SubmissionRow
from receiver.times import to_text


class _NewEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    number: int
    id: str
    via: str
    fingerprint: str
    received_at: str
    error_code: str | None
    error_message: str | None


class _NewAsset(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    event: int
    position: int
    provider: str
    url: str
    host_hash: int
    kind: str
    due_at: str
    deadline_at: str


# The first terminal state of a task wins: the key would refuse another.
INSERT_EVENT = insert_into("events", _NewEvent)
INSERT_ASSET = insert_into("assets", _NewAsset)


class Events:
    """The events and files that a batch adds; ``write`` saves them."""

    def __init__(self, db: Cursor, routes: Sequence[Route]) -> None:
        self._db = db
        self._routes = routes
        self._events: list[_NewEvent] = []
        self._assets: list[_NewAsset] = []
        self._ends: list[End] = []

    def add(self, recording: Recording, owner: SubmissionRow, now: datetime) -> None:
        """Bring the end of a task that has none; without files it ends ``now``."""
        report, received_at = recording.report, to_text(recording.received_at)
        code, message = rules.error_of(report)
        event = _NewEvent(
            number=owner.number,
            # Named after its submission: when an end comes again that a restored backup knows nothing of,
            # consumers see that it is the same.
            id=f"evt_{owner.id[4:]}",
            via=str(recording.via),
            fingerprint=recording.fingerprint,
            received_at=received_at,
            error_code=code,
            error_message=message,
        )
        self._events.append(event)
        told = rules.end_of(report)
        if told is not None:
            end = End(event=owner.number, type=told, ended_at=now, provider=owner.provider, owner=owner.owner)
            self._ends.append(end)
            return
        deadline_at = to_text(recording.links_die_at)
        for position, file in enumerate(report.files):
            asset = _NewAsset(
                event=owner.number,
                position=position,
                provider=owner.provider,
                url=file.url,
                host_hash=host_hash(file.url),
                kind=file.kind,
                due_at=received_at,
                deadline_at=deadline_at,
            )
            self._assets.append(asset)

    def write(self) -> None:
        if self._events:
            self._db.executemany(INSERT_EVENT, map(astuple, self._events))
        if self._assets:
            self._db.executemany(INSERT_ASSET, map(astuple, self._assets))
        if self._ends:
            end_all(self._db, self._ends, self._routes)
