"""Small pictures of stored files: for whoever may have the file, on the pages for viewers, too."""

import io
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import pytest
from PIL import Image
from starlette.types import ASGIApp

from receiver.config.settings import Settings
from receiver.runtime import Runtime
from receiver.thumbnails.thumbnailer import EDGES
from receiver.web.app import build_app
from receiver.web.pages.tasks import TILES
from tests.support import filled_pages
from tests.support.engines import on_both_engines
from tests.support.filled_pages import DONE, HOSTILE_TASK, fill
from tests.support.page_callers import OURS, VIEWER_TOKEN, browser, log_in
from tests.support.web_callers import ADMIN_TOKEN, caller

pytestmark = pytest.mark.slow  # starts the process that draws

BOUND_TOKEN = "a-backend-of-somebody"
PATH = f"/assets/vidgo/{DONE}/0"
PAGE = f"/admin/tasks/vidgo/{DONE}"


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        **filled_pages.ENVIRONMENT,
        "RECEIVER_VIEWER_TOKENS": VIEWER_TOKEN,
        "RECEIVER_API_TOKENS": f"a-backend-of-the-tests,somebody:{BOUND_TOKEN}@user-9",
    }


@pytest.fixture(autouse=True)
async def filled(runtime: Runtime, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    await fill(runtime, backend, admin)


def size(answer: httpx2.Response) -> tuple[int, int]:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp"), answer.text
    return Image.open(io.BytesIO(answer.content)).size


def link(runtime: Runtime, seconds: float = 600) -> str:
    expires = int(datetime.now(UTC).timestamp() + seconds)
    signature = runtime.tokens.sign_link("vidgo", DONE, 0, expires)
    return f"{PATH}?expires={expires}&signature={signature}"


@on_both_engines
async def test_a_backend_gets_a_file_smaller_by_its_width(
    backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    whole = await backend.get(PATH)
    small = await backend.get(f"{PATH}?width=320")
    assert size(small) == (229, 320)  # of 300 by 420
    assert size(await backend.get(f"{PATH}?width=1280")) == (300, 420)
    assert small.headers["cache-control"] == "no-store"
    assert small.headers["x-content-type-options"] == "nosniff"
    assert small.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert small.headers["etag"] == whole.headers["etag"][:-1] + '-320"'
    assert small.headers["content-disposition"].endswith('-0-320.webp"')
    tag = {"if-none-match": small.headers["etag"]}
    assert (await backend.get(f"{PATH}?width=320", headers=tag)).status_code == 304
    assert (await backend.get(f"{PATH}?width=1280", headers=tag)).status_code == 200
    assert runtime.thumbnails.pid is not None


async def test_whoever_may_not_have_the_file_may_not_have_it_smaller(
    stranger: httpx2.AsyncClient, app: ASGIApp, runtime: Runtime
) -> None:
    assert (await stranger.get(f"{PATH}?width=320")).status_code == 401
    assert (await stranger.get(f"{link(runtime)}x&width=320")).status_code == 403
    assert (await stranger.get(f"{link(runtime, -5)}&width=320")).status_code == 403
    answer = await stranger.get(f"{link(runtime)}&width=320")
    assert size(answer) == (229, 320)
    assert answer.headers["cache-control"].startswith("private, max-age=")
    async with caller(app, BOUND_TOKEN) as somebody:
        assert (await somebody.get(f"{PATH}?width=320")).status_code == 404
        assert size(await somebody.get("/assets/vidgo/task-partial-1/0?width=320")) == (229, 320)


@pytest.mark.parametrize("width", ["321", "0", "-320", "320.5", "x", "99999999999999999999"])
async def test_a_width_that_there_is_not_is_refused_with_those_that_there_are(
    backend: httpx2.AsyncClient, width: str
) -> None:
    answer = await backend.get(f"{PATH}?width={width}")
    assert answer.status_code == 400
    assert answer.json()["type"].endswith(":bad-query")
    assert "320" in answer.json()["detail"]


async def test_what_is_not_stored_has_none(backend: httpx2.AsyncClient) -> None:
    answer = await backend.get("/assets/vidgo/task-partial-1/1?width=320")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:receiver:problem:file-not-stored")
    assert (await backend.get(f"/assets/vidgo/{DONE}/7?width=320")).status_code == 404


async def test_without_pillow_a_backend_is_told_what_to_install(
    backend: httpx2.AsyncClient, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.thumbnails, "is_installed", False)
    answer = await backend.get(f"{PATH}?width=320")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:receiver:problem:no-thumbnail")
    assert "thumbnails extra" in answer.json()["detail"]


@on_both_engines
async def test_a_grid_shows_the_first_picture_of_each_task(viewer: httpx2.AsyncClient) -> None:
    page = (await viewer.get("/admin/tasks?view=grid")).text
    tasks = (DONE, "task-partial-1", HOSTILE_TASK)
    for place in (f"/admin/thumbs/320/0/vidgo/{quote(each, safe='')}" for each in tasks):
        assert f'src="{place}"' in page
        answer = await viewer.get(place)
        assert size(answer) == (229, 320)
        assert answer.headers["cache-control"] == "private, max-age=3600"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert page.count("<img") == len(tasks) == page.count('loading="lazy"')
    assert '<span class="tile">failed without a code</span>' in page  # of the one that failed, why
    assert "not here yet" in page


def test_a_whole_grid_is_no_more_than_a_phone_takes() -> None:
    assert TILES * EDGES[320] < 1_200_000  # bytes of its pictures


async def test_a_viewer_sees_an_image_large_and_the_way_to_those_beside_it(
    viewer: httpx2.AsyncClient,
) -> None:
    page = (await viewer.get(PAGE)).text
    assert f"/admin/thumbs/1280/1/vidgo/{DONE} 1280w" in page
    first = (await viewer.get(f"{PAGE}?file=0")).text
    last = (await viewer.get(f"{PAGE}?file=1")).text
    assert f'rel="next" href="{PAGE}?file=1"' in first
    assert f'rel="prev" href="{PAGE}?file=0"' in last
    assert ('rel="prev"' in first, 'rel="next"' in last) == (False, False)
    assert "/admin/originals/" not in page + first + last  # these are for admins
    large = await viewer.get(f"/admin/thumbs/1280/1/vidgo/{DONE}")
    assert size(large) == (640, 360)
    assert (await viewer.get(f"{PAGE}?file=7")).status_code == 404


@pytest.mark.parametrize("place", ["321/0", "1280/7", "x/0", "320/x"])
async def test_what_there_is_no_picture_of_is_not_found(viewer: httpx2.AsyncClient, place: str) -> None:
    answer = await viewer.get(f"/admin/thumbs/{place}/vidgo/{DONE}")
    assert answer.status_code == 404
    assert answer.headers["cache-control"] == "no-store"


async def test_strangers_and_backends_get_none(
    stranger: httpx2.AsyncClient, backend: httpx2.AsyncClient
) -> None:
    for client in (stranger, backend):
        answer = await client.get(f"/admin/thumbs/320/0/vidgo/{DONE}", headers=OURS)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/admin/login")


async def test_viewers_see_none_where_the_settings_say_so(runtime: Runtime, web_settings: Settings) -> None:
    hidden = changed(runtime, web_settings, viewer_images=False)
    place = f"/admin/thumbs/320/0/vidgo/{DONE}"
    async with browser(build_app(hidden)) as person:
        await log_in(person, VIEWER_TOKEN)
        assert (await person.get(place, headers=OURS)).status_code == 403
        for page in (PAGE, "/admin/tasks?view=grid"):
            assert "<img" not in (await person.get(page, headers=OURS)).text
        assert (await person.get(f"{PAGE}?file=0", headers=OURS)).status_code == 404
    async with browser(build_app(hidden)) as person:
        await log_in(person, ADMIN_TOKEN)
        assert size(await person.get(place, headers=OURS)) == (229, 320)


async def test_without_pillow_a_tile_says_what_its_file_is_and_an_admin_sees_the_file_itself(
    person: httpx2.AsyncClient,
    viewer: httpx2.AsyncClient,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime.thumbnails, "is_installed", False)
    page = (await viewer.get("/admin/tasks?view=grid")).text
    assert "<img" not in page
    assert "PNG" in page
    assert f'src="/admin/originals/0/vidgo/{DONE}"' in (await person.get(PAGE)).text


def changed(runtime: Runtime, settings: Settings, **more: Any) -> Runtime:
    return msgspec.structs.replace(runtime, settings=msgspec.structs.replace(settings, **more))
