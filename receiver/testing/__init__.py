"""For your own tests: a clock to turn, a sink in memory, callbacks as providers send them, and messages.

clock = TurnableClock()
clock.turn(3600)
sink = MemorySink()
sink.fail_with = Unavailable("away")
body = sample_callback("vidgo", "task-1", files=["https://media.example/0.png"])
message = sample_notification("evt_1")

What every sink must do is in ``receiver.testing.sinks``, which needs pytest and pytest-asyncio. To a test run
that names this module in ``pytest_plugins`` it gives the fixtures of ``receiver.testing.fixtures``. (Nothing
here asserts: PYTEST_DONT_REWRITE.)
"""

import itertools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec

from receiver.clock import Clock
from receiver.envelope import render
from receiver.models import (
    AnnouncedAsset,
    Announcement,
    AssetState,
    EventType,
    Notification,
    OutboxWork,
    Outcome,
    Via,
)
from receiver.options import PluginOptions
from receiver.times import to_text

pytest_plugins = ("receiver.testing.fixtures",)  # which pytest alone reads

# Counted over all clocks of the process: a test that makes a second clock for a second run on the same
# store must not get the ids of the first.
_ids = itertools.count(1)


class TurnableClock(Clock):
    """A clock that stands still until it is turned. Ids are unique and sort by age; jitter follows a seed."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, seed: int = 0) -> None:
        self._now = start
        self._uptime = timedelta()
        self._random = random.Random(seed)

    def now(self) -> datetime:
        return self._now

    def uptime(self) -> timedelta:
        return self._uptime

    def turn(self, seconds: float) -> None:
        """Move the hands; backwards, too, and then ``uptime`` stands still."""
        self.turn_to(self._now + timedelta(seconds=seconds))

    def turn_to(self, moment: datetime) -> None:
        """Set the hands; ``moment`` is aware."""
        self._uptime += max(moment - self._now, timedelta())
        self._now = moment.astimezone(UTC)

    def leap(self, seconds: float) -> None:
        """Set the wall clock forward, or let the machine sleep: ``uptime`` stands still."""
        self._now += timedelta(seconds=seconds)

    def random(self) -> float:
        return self._random.random()

    def new_id(self, prefix: str) -> str:
        """As long as a real id, and made of the same characters: hexadecimal time, then a count."""
        milliseconds = int(self._now.timestamp() * 1000)
        return f"{prefix}_{milliseconds:012x}{next(_ids):020x}"


class MemorySink:
    """A sink that keeps what it gets in ``published``, repeats and all; raises ``fail_with`` while set."""

    def __init__(self) -> None:
        self.published: list[Notification] = []
        self.fail_with: Exception | None = None
        self.closed = False

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:  # noqa: ARG003 - the port's signature
        return cls()

    async def publish(self, notification: Notification) -> None:
        await self.ping()
        self.published.append(notification)

    async def ping(self) -> None:
        if self.fail_with is not None:
            raise self.fail_with

    async def aclose(self) -> None:
        self.closed = True


def sample_notification(
    event_id: str = "evt_1",
    *,
    metadata: Mapping[str, object] | None = None,
    revision: int = 1,
    traceparent: str | None = None,
) -> Notification:
    """A message of one completed task, its own for each event and revision; equal ones are equal."""
    moment = datetime(2026, 11, 21, 10, tzinfo=UTC)
    file = AnnouncedAsset(
        index=0,
        state=AssetState.STORED,
        outcome=Outcome.STORED,
        key="vidgo/t1/0.png",
        media_type="image/png",
        bytes=1234,
        width=64,
        height=48,
        sha256="ab" * 32,
    )
    event = Announcement(
        id=event_id,
        provider="vidgo",
        task_id="t1",
        submission_id="sub_1",
        owner="user-17",
        model="gpt-image-2",
        metadata=msgspec.json.encode(metadata or {}).decode(),
        submitted_at=to_text(moment),
        received_at=to_text(moment + timedelta(minutes=1)),
        via=Via.CALLBACK,
        type=EventType.COMPLETED,
        ended_at=to_text(moment + timedelta(minutes=2)),
        error_code=None,
        error_message=None,
        traceparent=traceparent,
        assets=(file,),
    )
    work = OutboxWork(
        id="out_1.1.sample",
        number=1,
        sink="sample",
        attempt=1,
        created_at=moment + timedelta(minutes=2),
        revision=revision,
        replay_id=None,
        event=event,
        lease="a-lease",
    )
    source = "https://receiver.example"
    return render(work, source=source, links={0: f"{source}/assets/vidgo/t1/0?expires=1763719320"})


def sample_callback(
    provider: str,
    task_id: str,
    *,
    files: Sequence[str] = ("https://media.example/0.png",),
    error: str | None = None,
) -> bytes:
    """The body by which a provider says that a task is done, or with ``error`` that it failed.

    Shaped as each provider documents it, unsigned; of one that sends no callbacks as its status answer, and
    so is a failure of Ideogram's. Black Forest Labs, Midjourney and Runblob have one file, the
    first, Luma two at most, and OpenAI none. Raises ValueError for a provider it has no sample of.
    """
    if provider not in _SAMPLES:
        raise ValueError(f"no sample for {provider!r}; there are {', '.join(_SAMPLES)}")
    return json.dumps(_SAMPLES[provider](task_id, list(files), error)).encode()


def _unified(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    data = {
        "task_id": task_id,
        "status": "failed" if error else "finished",
        "files": [] if error else [{"file_url": url, "file_type": "image"} for url in files],
        "created_time": "2026-01-01T00:00:00",
        "progress": 0 if error else 100,
        "error_message": error,
    }
    return {"code": 200, "data": data}


def _apixo(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    times: dict[str, Any] = {"createTime": 1767225600000, "completeTime": 1767225612500}
    if error:
        end: dict[str, Any] = {"state": "failed", "failCode": "GENERATION_FAILED", "failMsg": error}
    else:
        # JSON within JSON: that is how it comes.
        end = {"state": "success", "resultJson": json.dumps({"resultUrls": files}), "costTime": 12500}
    return {"code": 200, "message": "success", "data": {"taskId": task_id, **end, **times}}


def _reapi(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    if error:
        return {"id": task_id, "status": "failed", "output": None, "error": {"code": 80006, "message": error}}
    return {
        "id": task_id,
        "model": "gpt-image-2",
        "status": "completed",
        "created_at": 1767225600,
        "output": {"image_urls": files},
        "error": None,
    }


def _replicate(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    end = {"status": "failed", "output": None} if error else {"status": "succeeded", "output": files}
    return {"id": task_id, "version": "5c7d5dc6", "input": {"prompt": "a cat"}, "error": error, **end}


def _fal(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    ids = {"request_id": task_id, "gateway_request_id": task_id}
    if error:
        return {**ids, "status": "ERROR", "error": error, "payload": None}
    images = [{"url": url, "content_type": "image/png"} for url in files]
    return {**ids, "status": "OK", "payload": {"images": images, "seed": 7}}


def _kie(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    if error:
        return {"code": 400, "msg": error, "data": {"taskId": task_id, "info": None}}
    return {"code": 200, "msg": "success", "data": {"taskId": task_id, "info": {"result_urls": files}}}


def _wavespeed(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    task = {"id": task_id, "model": "wavespeed-ai/flux-dev", "error": error or ""}
    return {**task, "status": "failed" if error else "completed", "outputs": [] if error else files}


def _bfl(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    if error:
        return {"id": task_id, "status": "Error", "error": "generation_failed", "message": error}
    return {"id": task_id, "status": "Ready", "result": {"sample": files[0] if files else None}}


def _ideogram(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    created = "2026-01-01T00:00:00Z"
    if error:  # as its status answer has it
        return {"generation_id": task_id, "status": "failed", "created": created, "failure_reason": error}
    images = [{"url": url, "is_image_safe": True} for url in files]
    return {"generation_id": task_id, "created": created, "data": images}


def _piapi(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    said = {"code": 10000 if error else 0, "message": error or "", "raw_message": ""}
    output = {} if error else {"image_urls": files}
    task = {"task_id": task_id, "model": "flux", "status": "failed" if error else "completed"}
    return {"timestamp": 1767225600, "data": {**task, "output": output, "error": said}}


def _luma(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    assets = None if error or not files else dict(zip(("video", "image"), files, strict=False))
    state = "failed" if error else "completed"
    return {"id": task_id, "state": state, "failure_reason": error, "assets": assets}


def _leonardo(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    images = [{"id": url, "generationId": task_id, "url": url} for url in files]
    task: dict[str, Any] = {"id": task_id, "status": "COMPLETE", "images": images}
    if error:
        task |= {"status": "FAILED", "images": [], "error": error}
    return {"type": "image_generation.complete", "object": "generation", "data": {"object": task}}


def _evolink(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    if error:
        return {"id": task_id, "status": "failed", "error": {"message": error}}
    return {"id": task_id, "status": "completed", "results": files}


def _apimart(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    if error:
        task: dict[str, Any] = {"id": task_id, "status": "failed", "error": {"message": error}}
    else:
        images = [{"url": [url], "expires_at": 1767312000} for url in files]
        task = {"id": task_id, "status": "completed", "result": {"images": images}}
    return {"code": 200, "data": task}


def _runway(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    if error:
        return {"id": task_id, "status": "FAILED", "failure": error, "failureCode": "INTERNAL"}
    return {"id": task_id, "status": "SUCCEEDED", "output": files}


def _runware(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    item = {"taskType": "imageInference", "taskUUID": task_id}
    if error:
        said = {"code": "providerError", "message": error}
        return {"data": [{**item, "status": "error"}], "errors": [said]}
    return {"data": [{**item, "imageURL": url, "cost": 0.0013} for url in files] or [item]}


def _openai(task_id: str, _files: list[str], error: str | None) -> dict[str, Any]:
    task: dict[str, Any] = {"id": task_id}
    if error:  # which only its status answer has
        task["error"] = {"code": "server_error", "message": error}
    kind = "response.failed" if error else "response.completed"
    return {"id": "evt_1", "object": "event", "type": kind, "data": task}


def _kling(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    state = {"task_status": "failed" if error else "succeed", "task_status_msg": error or ""}
    images = [] if error else [{"index": index, "url": url} for index, url in enumerate(files)]
    return {"task_id": task_id, **state, "created_at": 1767225600000, "task_result": {"images": images}}


def _midjourney(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    state = "FAILURE" if error else "SUCCESS"
    image = "" if error or not files else files[0]
    task = {"id": task_id, "action": "IMAGINE", "status": state, "progress": "100%"}
    return {**task, "imageUrl": image, "failReason": error or ""}


def _runblob(task_id: str, files: list[str], error: str | None) -> dict[str, Any]:
    image = None if error or not files else files[0]
    state = "failed" if error else "completed"
    return {"task_uuid": task_id, "status": state, "result_image_url": image, "message": error}


_SAMPLES: Mapping[str, Callable[[str, list[str], str | None], dict[str, Any]]] = {
    "vidgo": _unified,
    "apidot": _unified,
    "apixo": _apixo,
    "reapi": _reapi,
    "replicate": _replicate,
    "fal": _fal,
    "kie": _kie,
    "wavespeed": _wavespeed,
    "bfl": _bfl,
    "ideogram": _ideogram,
    "piapi": _piapi,
    "leonardo": _leonardo,
    "luma": _luma,
    "evolink": _evolink,
    "apimart": _apimart,
    "runway": _runway,
    "runware": _runware,
    "openai": _openai,
    "kling": _kling,
    "midjourney": _midjourney,
    "runblob": _runblob,
}
