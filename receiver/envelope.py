"""The CloudEvents 1.0 message that consumers see: the same bytes for every sink and every retry.

Structured JSON mode, ``application/cloudevents+json``. Fields are only ever added. Consumers and gateways
drop a message whose ``id`` they have seen, so each revision has its own; ``subject`` names the task.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from receiver.escapes import encode_harmless
from receiver.models import (
    AnnouncedAsset,
    Announcement,
    AssetState,
    Cost,
    MessageFormat,
    Notification,
    OutboxWork,
    SinkTest,
)
from receiver.times import to_text
from receiver.usd import to_usd

CONTENT_TYPE = "application/cloudevents+json"


class _Message(msgspec.Struct, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    revision: int
    traceparent: str | msgspec.UnsetType
    replayid: str | msgspec.UnsetType
    data: "_Data"


class _Data(msgspec.Struct, gc=False):
    provider: str
    task_id: str
    submission_id: str
    owner: str
    model: str | None
    metadata: msgspec.Raw
    submitted_at: str
    received_at: str
    via: str
    assets: "list[_StoredAsset | _FailedAsset]"
    error: "_Error | None"
    cost: "_Cost | msgspec.UnsetType"


class _StoredAsset(msgspec.Struct, gc=False):
    index: int
    state: str
    key: str | None
    url: str
    media_type: str | None
    bytes: int | None
    width: int | None
    height: int | None
    sha256: str | None


class _FailedAsset(msgspec.Struct, gc=False):
    index: int
    state: str
    outcome: str | None


class _Cost(msgspec.Struct, gc=False):
    usd: str | None
    credits: str | None
    state: str
    basis: str | None
    as_of: str | None


class _Error(msgspec.Struct, gc=False):
    code: str | None
    message: str | None


def render(work: OutboxWork, *, source: str, links: Mapping[int, str]) -> Notification:
    """The message for one outbox entry; the same bytes for the same ``links`` of its files, by index."""
    event = work.event
    if event.type is None or event.ended_at is None:
        raise ValueError(f"event {event.id} has not ended")
    subject = f"{event.provider}/{event.task_id}"
    id_ = message_id(work)
    message = _Message(
        "1.0",
        id_,
        source,
        event.type,
        subject,
        event.ended_at,
        "application/json",
        work.revision,
        event.traceparent or msgspec.UNSET,
        work.replay_id or msgspec.UNSET,
        _data(event, links),
    )
    return Notification(
        event_id=id_,
        dedupe_key=f"{event.id}:{work.revision}:{work.replay_id or ''}",
        type=event.type,
        subject=subject,
        body=encode_harmless(message),
        traceparent=event.traceparent,
    )


def render_test(id_: str, sink: str, *, source: str, now: datetime) -> Notification:
    """A message without a task; it has every field of an event, so that consumers can read it as one."""
    subject = f"sinks/{sink}"
    empty = ("provider", "task_id", "submission_id", "owner", "model", "submitted_at", "received_at", "via")
    message = {
        "specversion": "1.0",
        "id": id_,
        "source": source,
        "type": SinkTest.TEST.value,
        "subject": subject,
        "time": to_text(now),
        "datacontenttype": "application/json",
        "revision": 1,
        "data": dict.fromkeys(empty) | {"metadata": {}, "assets": [], "error": None},
    }
    return Notification(
        event_id=id_, dedupe_key=id_, type=SinkTest.TEST, subject=subject, body=encode_harmless(message)
    )


def content_type(message_format: MessageFormat) -> str:
    """What a message is said to be whose body is the whole event."""
    return "application/json" if message_format is MessageFormat.JSON else CONTENT_TYPE


def message_id(work: OutboxWork) -> str:
    """The id by which consumers drop repeats: the event's, from revision 2 on ``<event id>.<revision>``."""
    return work.event.id if work.revision == 1 else f"{work.event.id}.{work.revision}"


def _data(event: Announcement, links: Mapping[int, str]) -> _Data:
    code, text = event.error_code, event.error_message
    return _Data(
        event.provider,
        event.task_id,
        event.submission_id,
        event.owner,
        event.model,
        msgspec.Raw(event.metadata),
        event.submitted_at,
        event.received_at,
        event.via,
        [_asset(asset, links) for asset in event.assets],
        None if code is None and text is None else _Error(code, text),
        msgspec.UNSET if event.cost is None else _cost(event.cost),
    )


def _cost(cost: Cost) -> _Cost:
    usd = None if cost.micros is None else to_usd(cost.micros)
    return _Cost(usd, cost.credits, cost.state, cost.basis, cost.as_of)


def _asset(asset: AnnouncedAsset, links: Mapping[int, str]) -> _StoredAsset | _FailedAsset:
    if asset.state is not AssetState.STORED:
        # One that is tried again was failed when the event ended, and is until it is had.
        return _FailedAsset(asset.index, AssetState.FAILED, asset.outcome)
    return _StoredAsset(
        asset.index,
        asset.state,
        asset.key,
        links[asset.index],
        asset.media_type,
        asset.bytes,
        asset.width,
        asset.height,
        asset.sha256,
    )
