"""A runtime on a folder of its own, its app for three kinds of callers, and a server around it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
import structlog
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from receiver.config.settings import Settings, load_settings
from receiver.runtime import Runtime, open_runtime
from receiver.web import assets, callbacks, dead_letters, endpoints, replays, sinks
from receiver.web.app import build_app
from tests.loopback import serving
from tests.web_callers import ADMIN_TOKEN, API_TOKEN, LogLines, caller


@pytest.fixture
def environment() -> dict[str, str]:
    """What a test module may override: variables beside the usual ones."""
    return {}


@pytest.fixture
def web_settings(tmp_path: Path, environment: dict[str, str]) -> Settings:
    return load_settings(
        {
            "RECEIVER_DATA_DIR": str(tmp_path / "data"),
            "RECEIVER_SECRET": "a-secret-for-tests-only",
            "RECEIVER_API_TOKENS": API_TOKEN,
            "RECEIVER_ADMIN_TOKENS": ADMIN_TOKEN,
            "RECEIVER_PUBLIC_URL": "https://receiver.test",
            "RECEIVER_METRICS_PRIVATE": "false",
            "RECEIVER_MAX_BODY_BYTES": "131072",
            "RECEIVER_BODY_TIMEOUT_SECONDS": "1",
            **environment,
        }
    )


@pytest.fixture
async def runtime(web_settings: Settings) -> AsyncIterator[Runtime]:
    async with open_runtime(web_settings) as opened:
        yield opened


@pytest.fixture
def app(runtime: Runtime) -> ASGIApp:
    return build_app(runtime)


@pytest.fixture
async def port(app: ASGIApp) -> AsyncIterator[int]:
    async with serving(app) as free_port:
        yield free_port


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogLines]:
    """What the doors log, whatever other tests did to the pipeline that their loggers remember."""
    structlog.reset_defaults()
    for door in (assets, callbacks, dead_letters, endpoints, replays, sinks):
        monkeypatch.setattr(door, "log", structlog.get_logger())
    with capture_logs() as lines:
        yield lines


@pytest.fixture
async def stranger(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with caller(app) as client:
        yield client


@pytest.fixture
async def backend(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with caller(app, API_TOKEN) as client:
        yield client


@pytest.fixture
async def admin(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with caller(app, ADMIN_TOKEN) as client:
        yield client
