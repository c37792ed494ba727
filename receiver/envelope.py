"""The CloudEvents 1.0 message that consumers see: the same bytes for every sink and every retry.

Structured JSON mode, ``application/cloudevents+json``. Fields are only ever added. Consumers and gateways
drop a message whose ``id`` they have seen, so each revision has its own; ``subject`` names the task.
"""

from collections.abc import Mapping
from datetime import datetime

from receiver.escapes import encode_harmless
from receiver.models import Asset, AssetState, Event, MessageFormat, Notification, OutboxWork, SinkTest
from receiver.times import to_text

CONTENT_TYPE = "application/cloudevents+json"


def render(work: OutboxWork, *, source: str, links: Mapping[int, str]) -> Notification:
    """The message for one outbox entry; the same bytes for the same ``links`` of its files, by index."""
    event = work.event
    if event.type is None or event.ended_at is None:
        raise ValueError(f"event {event.id} has not ended")
    subject = f"{event.provider}/{event.task_id}"
    id_ = message_id(work)
    message: dict[str, object] = {
        "specversion": "1.0",
        "id": id_,
        "source": source,
        "type": event.type.value,
        "subject": subject,
        "time": to_text(event.ended_at),
        "datacontenttype": "application/json",
        "revision": work.revision,
    }
    traceparent = event.submission.traceparent
    if traceparent:
        message["traceparent"] = traceparent
    if work.replay_id:
        message["replayid"] = work.replay_id
    message["data"] = _data(event, links)
    return Notification(
        event_id=id_,
        dedupe_key=f"{event.id}:{work.revision}:{work.replay_id or ''}",
        type=event.type,
        subject=subject,
        body=encode_harmless(message),
        traceparent=traceparent,
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


def _data(event: Event, links: Mapping[int, str]) -> dict[str, object]:
    submission = event.submission
    failed = event.error_code is not None or event.error_message is not None
    return {
        "provider": event.provider,
        "task_id": event.task_id,
        "submission_id": submission.id,
        "owner": submission.owner,
        "model": submission.model,
        "metadata": submission.metadata,
        "submitted_at": to_text(submission.created_at),
        "received_at": to_text(event.received_at),
        "via": event.via.value,
        "assets": [_asset(asset, links) for asset in event.assets],
        "error": {"code": event.error_code, "message": event.error_message} if failed else None,
    }


def _asset(asset: Asset, links: Mapping[int, str]) -> dict[str, object]:
    if asset.state is not AssetState.STORED:
        # One that is tried again was failed when the event ended, and is until it is had.
        return {"index": asset.index, "state": AssetState.FAILED.value, "outcome": asset.outcome}
    return {
        "index": asset.index,
        "state": asset.state.value,
        "key": asset.key,
        "url": links[asset.index],
        "media_type": asset.media_type,
        "bytes": asset.bytes,
        "width": asset.width,
        "height": asset.height,
        "sha256": asset.sha256,
    }
