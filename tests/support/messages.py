"""Ended events, outbox work and rendered messages, with defaults for what a test is not about."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import jsonschema
import msgspec
from cloudevents.core.formats.json import JSONFormat

from receiver.envelope import render
from receiver.models import (
    AnnouncedAsset,
    Announcement,
    Asset,
    AssetState,
    Event,
    EventType,
    Notification,
    OutboxWork,
    Outcome,
    Submission,
    Via,
)
from receiver.times import to_text
from tests.support.factories import NOW, submission

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SOURCE = "https://receiver.example"

# What CloudEvents 1.0 asks of structured JSON. The package that reads them makes up an id where there is
# none, so the schema has to be the strict one.
SCHEMA = {
    "type": "object",
    "required": ["id", "source", "specversion", "type"],
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
        "specversion": {"const": "1.0"},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
        "datacontenttype": {"const": "application/json"},
        "data": {"type": "object"},
    },
    "propertyNames": {"pattern": "^[a-z0-9]{1,20}$"},
    "additionalProperties": {"type": ["string", "integer", "boolean"]},
}


def cloud_event(body: bytes) -> Any:
    """The message as the CloudEvents package reads it, once the schema has nothing against it."""
    jsonschema.validate(json.loads(body), SCHEMA)
    return JSONFormat().read(None, body)


class PlainLinks:
    """Links that tell what they were made of."""

    async def links(
        self, provider: str, task_id: str, assets: Sequence[Asset | AnnouncedAsset], made_at: datetime
    ) -> Mapping[int, str]:
        return _links(provider, task_id, assets, made_at)


def rendered(work: OutboxWork) -> Notification:
    """The message for an entry, with such links."""
    event = work.event
    links = _links(event.provider, event.task_id, event.assets, work.created_at)
    return render(work, source=SOURCE, links=links)


def _links(
    provider: str, task_id: str, assets: Sequence[Asset | AnnouncedAsset], made_at: datetime
) -> dict[int, str]:
    root = f"{SOURCE}/assets/{provider}/{task_id}"
    return {asset.index: f"{root}/{asset.index}?expires={int(made_at.timestamp())}" for asset in assets}


def stored_asset(index: int = 0) -> Asset:
    return Asset(
        index=index,
        state=AssetState.STORED,
        kind="image",
        outcome=Outcome.STORED,
        attempts=1,
        deadline_at=NOW + timedelta(days=1),
        key=f"vidgo/t1/{index}.png",
        media_type="image/png",
        bytes=1234,
        width=64,
        height=48,
        sha256="ab" * 32,
        settled_at=NOW,
    )


def failed_asset(index: int = 0, outcome: Outcome = Outcome.GONE) -> Asset:
    return Asset(
        index=index,
        state=AssetState.FAILED,
        kind="image",
        outcome=outcome,
        attempts=3,
        deadline_at=NOW + timedelta(days=1),
        key=None,
        media_type=None,
        bytes=None,
        width=None,
        height=None,
        sha256=None,
        settled_at=NOW,
    )


def event(
    id_: str = "evt_1",
    *,
    type_: EventType | None = EventType.COMPLETED,
    task_id: str = "t1",
    assets: tuple[Asset, ...] = (stored_asset(),),
    error_code: str | None = None,
    error_message: str | None = None,
    from_submission: Submission | None = None,
) -> Event:
    return Event(
        id=id_,
        provider="vidgo",
        task_id=task_id,
        submission=from_submission or submission(task_id, id_="sub_1"),
        via=Via.CALLBACK,
        received_at=NOW + timedelta(minutes=1),
        type=type_,
        ended_at=NOW + timedelta(minutes=2) if type_ else None,
        revision=1,
        error_code=error_code,
        error_message=error_message,
        assets=assets,
    )


def outbox_work(
    of: Event | None = None,
    *,
    sink: str = "memory",
    attempt: int = 1,
    revision: int = 1,
    replay_id: str | None = None,
) -> OutboxWork:
    return OutboxWork(
        id="out_1.1.memory",
        number=1,
        sink=sink,
        attempt=attempt,
        created_at=NOW + timedelta(minutes=2),
        revision=revision,
        replay_id=replay_id,
        event=announced(of or event()),
        lease="lease-1",
    )


def announced(of: Event) -> Announcement:
    """An event as a store hands it out to be sent."""
    submission = of.submission
    return Announcement(
        id=of.id,
        provider=of.provider,
        task_id=of.task_id,
        submission_id=submission.id,
        owner=submission.owner,
        model=submission.model,
        metadata=msgspec.json.encode(submission.metadata).decode(),
        submitted_at=to_text(submission.created_at),
        received_at=to_text(of.received_at),
        via=of.via,
        type=of.type,
        ended_at=to_text(of.ended_at) if of.ended_at else None,
        error_code=of.error_code,
        error_message=of.error_message,
        traceparent=submission.traceparent,
        assets=msgspec.convert(of.assets, tuple[AnnouncedAsset, ...], from_attributes=True),
    )
