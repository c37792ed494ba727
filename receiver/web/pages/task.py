"""The whole story of one task, and its files as large as the window."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response

from receiver.models import Asset, AssetState, Task
from receiver.runtime import Runtime
from receiver.timeline import timeline
from receiver.times import from_text
from receiver.web.assets import send_asset, streamed
from receiver.web.filters import unknown_task
from receiver.web.pages.raw import MOST_BODIES, MOST_BYTES, Drawn, draw
from receiver.web.pages.redaction import redact, redact_text
from receiver.web.pages.security import HEADERS
from receiver.web.pages.thumbs import KEPT, has_thumbnail
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.tasks import shown

MOST_ENTRIES = 100
MOST_SHOWN_BYTES = 20_000_000  # of an image on a page; larger ones are a link
SHOWN_TYPES = frozenset(f"image/{name}" for name in ("png", "jpeg", "webp", "gif", "avif"))


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the timeline."""

    at: datetime
    since: str  # its distance from the submission
    gap: float  # seconds since the entry before
    what: str
    how: str


class ShownFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file, and as what its image is shown: ``thumbs``, ``originals``, or not at all."""

    asset: Asset
    way: str


async def show(visit: Visit) -> Response:
    """One task."""
    provider, task_id = visit.request.path_params["provider"], visit.request.path_params["task_id"]
    task = await visit.runtime.store.pages.get_task(provider, task_id)
    if task is None:
        raise unknown_task(visit.runtime, provider)
    if place := visit.query.get("file"):
        return _show_file(visit, task, place)
    wants_raw = visit.is_admin and visit.query.get("callbacks") == "1"
    entries, left_out = story(visit.runtime, task, with_details=visit.is_admin)
    event = task.event
    return visit.page(
        "task.html",
        task=task,
        event=event,
        files=[_shown_file(visit, asset) for asset in event.assets] if event else [],
        first=entries[:1],
        entries=entries[1:],
        left_out=left_out,
        metadata=_as_json(task.submission.metadata) if visit.is_admin else "",
        message=redact_text(event.error_message or "") if event and visit.is_admin else "",
        left_out_before=task.left_out,
        raw=await visit.known(_raw(visit, task)) if wants_raw else None,
        wants_raw=wants_raw,
        once=visit.runtime.clock.new_id("act"),
    )


async def _raw(visit: Visit, task: Task) -> list[Drawn]:
    pages = visit.runtime.store.pages
    bodies = await pages.list_bodies(task.provider, task.task_id, MOST_BODIES, MOST_BYTES)
    return [draw(each) for each in bodies]


def story(runtime: Runtime, task: Task, *, with_details: bool) -> tuple[list[Entry], int]:
    """What happened, in order: the first and the newest, and how many are left out between them.

    Links in what others said are left out. ``with_details``: what they said, too.
    """
    document: dict[str, Any] = msgspec.to_builtins(shown(runtime, task, {}))
    entries: list[Entry] = []
    before: datetime | None = None
    for at, since, what, how in timeline(document, with_details=with_details):
        moment = from_text(at)
        gap = (moment - before).total_seconds() if before else 0.0
        entries.append(Entry(at=moment, since=since, gap=gap, what=what, how=redact_text(how)))
        before = moment
    left_out = max(len(entries) - MOST_ENTRIES - 1, 0)
    return [*entries[:1], *entries[1 + left_out :]], left_out


def _show_file(visit: Visit, task: Task, place: str) -> Response:
    """One image, and the way to those beside it."""
    files = [_shown_file(visit, asset) for asset in task.event.assets] if task.event else []
    files = [file for file in files if file.way]
    at = next((number for number, file in enumerate(files) if str(file.asset.index) == place), None)
    if at is None:
        raise unknown_task(visit.runtime, task.provider)
    return visit.page(
        "file.html",
        task=task,
        file=files[at],
        count=len(files),
        number_of_it=at + 1,
        before=files[at - 1].asset.index if at else None,
        after=files[at + 1].asset.index if at + 1 < len(files) else None,
    )


async def show_original(visit: Visit) -> Response:
    """A stored file as it is; the function behind ``/assets``, so that no signed link stands in a page."""
    runtime, request = visit.runtime, visit.request
    provider, task_id = request.path_params["provider"], request.path_params["task_id"]
    event = await runtime.store.pages.get_event(provider, task_id)
    if event is None:
        raise unknown_task(runtime, provider)
    shares = [f"file {provider}/{task_id}/{request.path_params['index']}", f"token {visit.caller}"]
    sent = await streamed(request, shares, lambda stream: send_asset(runtime, request, event, KEPT, stream))
    for name in ("cross-origin-opener-policy", "cross-origin-resource-policy", "x-robots-tag"):
        sent.headers[name] = HEADERS[name]
    return sent


def _shown_file(visit: Visit, asset: Asset) -> ShownFile:
    if has_thumbnail(visit, asset):
        return ShownFile(asset=asset, way="thumbs")
    return ShownFile(asset=asset, way="originals" if visit.is_admin and _is_plain(asset) else "")


def _is_plain(asset: Asset) -> bool:
    """Whether a browser may be shown the file itself."""
    is_stored = asset.state is AssetState.STORED and asset.media_type in SHOWN_TYPES
    return is_stored and (asset.bytes or 0) <= MOST_SHOWN_BYTES


def _as_json(metadata: Mapping[str, object]) -> str:
    """An order's metadata as an admin may read it; empty where there is none."""
    text = msgspec.json.format(msgspec.json.encode(redact(dict(metadata)))).decode()
    return text if metadata else ""


PAGES = (
    Page(path="/admin/tasks/{provider}/{task_id:path}", answer=show, access=Access.VIEWER),
    Page(
        path="/admin/originals/{index}/{provider}/{task_id:path}",
        answer=show_original,
        access=Access.ADMIN,
        is_file=True,
    ),
)
