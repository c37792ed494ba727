"""A runtime on a folder of its own, its app for three kinds of callers, and a server around it;
a host of files and what fetches them; for commands, an environment in which only a test's own settings count.
"""

import os
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from itertools import groupby, islice
from pathlib import Path

import httpx2
import pytest
import structlog
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from receiver import commit_probe
from receiver.config.settings import Settings, load_settings
from receiver.fetching.client import GuardedClient
from receiver.health import examination, look
from receiver.plugins import names
from receiver.record import readers
from receiver.runtime import Runtime, open_runtime
from receiver.web import assets, callbacks, dead_letters, endpoints, replays, sessions, sinks
from receiver.web import plans as planning
from receiver.web.app import build_app
from receiver.web.connections import Patience
from receiver.web.pages import door, login, plans
from receiver.web.pages import replays as replay_pages
from receiver.web.pages import sessions as session_pages
from tests.support.blank_record import lay_blank_record
from tests.support.loopback import serving
from tests.support.media_host import MediaHost, media_host
from tests.support.postgres import ScratchRecord, scratch_record
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, LogLines, caller

pytest.register_assert_rewrite("receiver.testing.sinks")

# Real processes, storms, every damage that a request can have; then each plug-in, command and file format.
OUTER_FOLDERS = frozenset({"bench", "e2e", "hostile"})
UNHURRIED_FOLDERS = OUTER_FOLDERS | {"cli", "fetching", "plugins", "simulator"}
OWN_PREFIXES = ("RECEIVER_", *(f"{name.upper()}_" for name in names("providers")))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where a part alone is wanted, the folders that have nothing of it are not even imported."""
    left_out = {"quick": UNHURRIED_FOLDERS, "inner": OUTER_FOLDERS}.get(config.option.markexpr, frozenset())
    is_left_out = collection_path.parent == Path(__file__).parent and collection_path.name in left_out
    return True if is_left_out else None  # None: as others say


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what belongs to the quick check and to the inner part, by folder; and say in which order."""
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0]
        if item.get_closest_marker("slow") is None and folder not in OUTER_FOLDERS:
            item.add_marker("inner")
            if folder not in UNHURRIED_FOLDERS:
                item.add_marker("quick")
    worker: dict[str, int] = getattr(config, "workerinput", {})  # of pytest-xdist
    items[:] = dealt(items, worker.get("workercount", 1))


def dealt(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """What takes long is dealt like cards, real services first; the rest fills up the hands.

    pytest-xdist gives each worker its part of the list, and who is through takes from the end of another's.
    So all begin with what takes long and end with what is soon done: else one would still be at the longest
    when the others have nothing left. Tests of a module stay together, as they share what it has started.
    """
    groups = [[*group] for _, group in groupby(items, lambda item: (item.path, _is_inner(item)))]
    long = [group for group in groups if not _is_inner(group[0])]
    long.sort(key=lambda group: group[0].path.parent.name != "e2e")
    short = iter([item for item in items if _is_inner(item)])
    order: list[pytest.Item] = []
    for worker in range(workers):
        hand = [item for group in long[worker::workers] for item in group]
        part = (len(items) - len(order)) // (workers - worker)
        order += [*hand, *islice(short, max(0, part - len(hand)))]
    return [*order, *short]


def _is_inner(item: pytest.Item) -> bool:
    return item.get_closest_marker("inner") is not None


@pytest.fixture(autouse=True, scope="session")
def busy_machine() -> Iterator[None]:
    """Whatever people wait for has time here; what is done when there is none is a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "PAGE_SECONDS", 30.0)
        patch.setattr(readers, "MOST_SECONDS", 60.0)
        patch.setattr(planning, "COUNT_SECONDS", 30.0)
        patch.setattr(examination, "LIMIT_SECONDS", 30.0)
        patch.setattr(look, "PATIENCE_SECONDS", 30.0)
        patch.setattr(commit_probe, "PATIENCE_SECONDS", 30.0)
        yield


@pytest.fixture
def environment() -> dict[str, str]:
    """What a test module may override: variables beside the usual ones."""
    return {}


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """Where a test's runtime keeps its record: see ``tests.support.engines.on_both_engines``."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest) -> dict[str, str]:
    if engine == "sqlite":
        return {}
    record: ScratchRecord = request.getfixturevalue("postgres_record")
    return {"RECEIVER_DATABASE_URL": record.url}


@pytest.fixture
def web_settings(tmp_path: Path, database_url: dict[str, str], environment: dict[str, str]) -> Settings:
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
            **database_url,
            **environment,
        }
    )


@pytest.fixture
async def runtime(web_settings: Settings, engine: str) -> AsyncIterator[Runtime]:
    if engine == "sqlite":
        lay_blank_record(web_settings.data_dir)
    async with open_runtime(web_settings) as opened:
        yield opened


@pytest.fixture
def no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops look at nothing unasked: what is done was woken, however long a busy machine takes."""
    monkeypatch.setattr("receiver.worker.FALLBACK_SECONDS", 3600.0)


@pytest.fixture
def app(runtime: Runtime) -> ASGIApp:
    return build_app(runtime)


@pytest.fixture
def patience() -> Patience:
    """What a test may override: how long the server waits for others."""
    return Patience()


@pytest.fixture
async def port(app: ASGIApp, patience: Patience) -> AsyncIterator[int]:
    async with serving(app, patience=patience) as free_port:
        yield free_port


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogLines]:
    """What the doors log, whatever other tests did to the pipeline that their loggers remember."""
    structlog.reset_defaults()
    pages = (door, login, plans, replay_pages, session_pages)
    for module in (assets, callbacks, dead_letters, endpoints, replays, sessions, sinks, *pages):
        monkeypatch.setattr(module, "log", structlog.get_logger())
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


@pytest.fixture(scope="session")
def migrated_record() -> Iterator[ScratchRecord]:
    with scratch_record() as record:
        yield record


@pytest.fixture
def postgres_record(migrated_record: ScratchRecord) -> ScratchRecord:
    """An empty record on PostgreSQL."""
    migrated_record.empty()
    return migrated_record


@pytest.fixture
async def host() -> AsyncIterator[MediaHost]:
    """A host of files on loopback, each answer told by the test."""
    async with media_host() as host:
        yield host


@pytest.fixture
async def client() -> AsyncIterator[GuardedClient]:
    """What fetches files, and may dial loopback for once."""
    client = GuardedClient(opened=(ip_network("127.0.0.0/8"),))
    yield client
    await client.aclose()


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of the machine's own settings, and a folder to make things in."""
    for name in list(os.environ):
        if name.startswith(OWN_PREFIXES) or name in {"PORT", "DYNO", "DATABASE_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
