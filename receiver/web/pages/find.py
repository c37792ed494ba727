"""Find anything by its id, or the beginning of it; of a pasted URL the id is used and the rest is dropped."""

import re
from urllib.parse import unquote, urlsplit

import msgspec
from starlette.responses import Response

from receiver.models import Submission, TaskFilter, TaskKey, TaskReference
from receiver.urls import path_part
from receiver.web.pages.refusals import Refusal
from receiver.web.pages.visits import Access, Page, Visit

MOST_FOUND = 20
MOST_CHARACTERS = 8_192

# What our own ids begin with, and the clause of a filter that finds by it.
_BY_ID = {
    "sub_": "submission_id",
    "evt_": "event_id",
    "dlv_": "delivery_id",
    "out_": "notification_id",
}
_ASSET = re.compile(r"/assets/(?P<provider>[^/]+)/(?P<task_id>.+)/[0-9]{1,6}/?")
_CALLBACK = re.compile(r"/callbacks/[^/]+/s\.(?P<id>sub_[\w-]+)\.")
_KEY = re.compile(r"(?P<provider>[\w-]+)/(?P<task_id>[^/]+)/[0-9]{1,6}\.[a-z0-9]{1,8}")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What an id led to."""

    tasks: tuple[TaskKey, ...] = ()
    reservation: Submission | None = None
    replay: str | None = None
    owner: str | None = None


async def find(visit: Visit) -> Response:
    """Lead on to the only thing found, or list what there is."""
    typed = (visit.form if visit.request.method == "POST" else visit.query).get("q")[:MOST_CHARACTERS]
    if "://" in typed and visit.request.method != "POST":
        detail = "An address with a token in it would stay in the browser's history. Use the box on a page."
        raise Refusal(400, "Not by an address", detail)
    wanted = id_in(typed) if "://" in typed else typed
    found = await _look(visit, wanted) if wanted else Found()
    if place := _only_place(found):
        return visit.redirect(place)
    is_empty = not found.tasks and found.reservation is None
    shown = "" if "://" in typed else wanted
    return visit.page("found.html", 404 if is_empty else 200, wanted=shown, found=found, is_empty=is_empty)


def id_in(url: str) -> str:
    """The id in a callback's or a file's URL of ours, and nothing else of it; empty where there is none."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    if match := _CALLBACK.search(path):
        return match["id"]
    if match := _ASSET.search(path):
        return f"{unquote(match['provider'])}/{unquote(match['task_id'])}"
    return ""


async def _look(visit: Visit, wanted: str) -> Found:
    pages = visit.runtime.store.pages
    if wanted.startswith("rpl_"):
        return Found(replay=wanted if await pages.get_replay(wanted) else None)
    if clause := _BY_ID.get(wanted[:4]):
        tasks = await _tasks(visit, TaskReference(**{clause: wanted}))
        if not tasks and clause == "submission_id":
            return Found(reservation=await pages.get_submission(wanted))
        return Found(tasks=tasks)
    return await _look_by_words_of_others(visit, wanted)


async def _look_by_words_of_others(visit: Visit, wanted: str) -> Found:
    """A provider's id of a task, in any of its forms, or its beginning; else an owner."""
    pages = visit.runtime.store.pages
    for provider, task_id in _named(wanted):
        if await pages.get_task(provider, task_id) is not None:
            return Found(tasks=(TaskKey(provider=provider, task_id=task_id),))
    if tasks := await _tasks(visit, TaskReference(task_id=wanted)):
        return Found(tasks=tasks)
    if beginning := await pages.find_tasks(wanted, MOST_FOUND):
        return Found(tasks=tuple(beginning))
    page = await pages.list_tasks(TaskFilter(owner=wanted), 1, None)
    return Found(owner=wanted if page.tasks else None)


async def _tasks(visit: Visit, reference: TaskReference) -> tuple[TaskKey, ...]:
    page = await visit.runtime.store.pages.list_tasks(TaskFilter(reference=reference), MOST_FOUND, None)
    return tuple(TaskKey(provider=each.provider, task_id=each.task_id) for each in page.tasks)


def _named(wanted: str) -> list[tuple[str, str]]:
    """The task that ``provider/task_id`` names, or a file's key."""
    named = []
    if match := _KEY.fullmatch(wanted):
        named.append((match["provider"], unquote(match["task_id"])))
    provider, slash, task_id = wanted.partition("/")
    return [*named, (provider, task_id)] if slash and provider and task_id else named


def _only_place(found: Found) -> str | None:
    if len(found.tasks) == 1:
        (task,) = found.tasks
        return f"/admin/tasks/{path_part(task.provider)}/{path_part(task.task_id)}"
    if found.replay:
        return f"/admin/replays/{path_part(found.replay)}"
    if found.reservation:
        return f"/admin/submissions/{path_part(found.reservation.id)}"
    return f"/admin/tasks?owner={path_part(found.owner)}" if found.owner else None


PAGES = (
    Page(path="/admin/find", answer=find, access=Access.VIEWER),
    Page(path="/admin/find", answer=find, access=Access.VIEWER, method="POST", is_own=True),
)
