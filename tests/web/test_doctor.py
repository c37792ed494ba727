"""The page of `receiver doctor`'s checks: for admins, without secrets, and there in time whatever hangs."""

import asyncio
import threading
from html import unescape
from pathlib import Path

import httpx2
import pytest
from starlette.types import ASGIApp

from receiver.health import checks, examination
from receiver.health.checks import Check, ok
from receiver.health.examination import Examination, beside
from receiver.runtime import Runtime
from tests.support.page_callers import OURS, VIEWER_TOKEN, browser, log_in
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN

CANARY = "CANARYinaurl"


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        "RECEIVER_VIEWER_TOKENS": VIEWER_TOKEN,
        "RECEIVER_PUBLIC_URL": "http://localhost:8000",
        "RECEIVER_SINK_APP": f"http://user:{CANARY}@127.0.0.1:9/{CANARY}?key={CANARY}",
        "VIDGO_API_KEY": CANARY,
    }


async def test_an_admin_sees_what_was_found_and_what_to_do_without_a_secret(
    person: httpx2.AsyncClient, runtime: Runtime
) -> None:
    runtime.settings.data_dir.chmod(0o755)
    page = unescape((await person.get("/admin/doctor")).text)
    for words in (
        "a commit works",
        "free at",
        "VIDGO_API_KEY is set",
        "sink app",
        "receiver doctor",
        "SQLite",
    ):
        assert words.lower() in page.lower(), words
    assert "chmod -R go=" in page
    assert "http://localhost:8000: " in page
    assert "it is not https" in page
    for secret in (CANARY, ADMIN_TOKEN, API_TOKEN, VIEWER_TOKEN):
        assert secret not in page


async def test_it_is_for_admins_alone(app: ASGIApp) -> None:
    async with browser(app) as viewer:
        await log_in(viewer, VIEWER_TOKEN)
        viewer.headers.update(OURS)
        assert (await viewer.get("/admin/doctor")).status_code == 403
        assert "/admin/doctor" not in (await viewer.get("/admin/")).text


async def test_a_check_that_hangs_is_not_known_and_one_that_raises_has_failed(
    person: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on = threading.Event()
    begun = []

    def hang(_folder: Path) -> Check:
        begun.append(1)
        going_on.wait(30)
        return ok("disk", "there again")

    def broken(*_: object) -> Check:
        raise OSError(CANARY)

    monkeypatch.setattr(examination, "LIMIT_SECONDS", 0.3)
    monkeypatch.setattr(checks, "check_disk", hang)
    monkeypatch.setattr(checks, "check_clock", broken)
    try:
        async with asyncio.timeout(10):
            pages = [(await person.get("/admin/doctor")).text for _ in range(2)]
    finally:
        going_on.set()
    for page in pages:
        assert "Not known now: disk" in page
        assert "Retry" in page
        assert "could not be looked at (OSError)" in page
        assert "a commit works" in page
    assert begun == [1]


async def test_what_was_just_found_is_told_again_however_often_it_is_asked_for() -> None:
    begun = []

    def check() -> list[Check]:
        begun.append(1)
        return [ok("disk", "there")]

    looks = {"disk": beside(check)}
    examined = Examination()
    for _ in range(3):
        assert [part.checks for part in await examined.examine(looks)] == [[ok("disk", "there")]]
    assert begun == [1]


async def test_what_hung_is_known_once_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()
    looks = {"disk": beside(lambda: [ok("disk", "there") for _ in range(1) if going_on.wait(30)])}
    monkeypatch.setattr(examination, "LIMIT_SECONDS", 0.05)
    examined = Examination()
    assert [part.checks for part in await examined.examine(looks)] == [None]
    going_on.set()
    monkeypatch.setattr(examination, "LIMIT_SECONDS", 5.0)
    assert [part.checks for part in await examined.examine(looks)] == [[ok("disk", "there")]]
