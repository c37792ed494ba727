"""What doctor looks at: each check looks at one thing and says what it found."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx2
import msgspec

import receiver
from receiver import plugins
from receiver.cli.callback_url import provider_url, warnings
from receiver.clock import Clock
from receiver.credentials import credentials_path, ensure_credentials, open_to_others, read_credentials
from receiver.errors import Misconfigured, ReceiverError
from receiver.network import open_plain_client
from receiver.ports import PartOptions, StoreOptions
from receiver.settings import Settings
from receiver.tokens import Tokens

LITTLE_ROOM_BYTES = 2**30
NO_ROOM_BYTES = 100 * 2**20
CLOCK_SLACK_SECONDS = 120.0
READY_TIMEOUT_SECONDS = 10.0

# Two connections that write or checkpoint at the same instant can damage a file: fixed in 3.51.3.
WAL_RESET_BUG = ((3, 7, 0), (3, 51, 2))


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    state: State
    detail: str


def ok(name: str, detail: str) -> Check:
    return Check(name=name, state=State.OK, detail=detail)


def warn(name: str, detail: str) -> Check:
    return Check(name=name, state=State.WARN, detail=detail)


def fail(name: str, detail: str) -> Check:
    return Check(name=name, state=State.FAIL, detail=detail)


# --- this machine -----------------------------------------------------------------------------------


def check_disk(data_dir: Path) -> Check:
    """Room for files and for the record."""
    folder = _existing(data_dir)
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free at {folder}"
    if free < NO_ROOM_BYTES:
        return fail("disk", text)
    return warn("disk", text) if free < LITTLE_ROOM_BYTES else ok("disk", text)


def check_clock(data_dir: Path, now: datetime) -> Check:
    """A clock that is behind our own files has jumped: leases and deadlines would be off."""
    marks = (Path(receiver.__file__), _existing(data_dir), credentials_path(data_dir))
    newest = max(path.stat().st_mtime for path in marks if path.exists())
    behind = newest - now.timestamp()
    if behind > CLOCK_SLACK_SECONDS:
        return fail("clock", f"{behind:.0f} s behind files of ours")
    return ok("clock", now.strftime("%Y-%m-%d %H:%M:%S UTC"))


def check_sqlite(version: tuple[int, ...]) -> Check:
    """SQLite as this Python has it."""
    text = ".".join(str(number) for number in version)
    if WAL_RESET_BUG[0] <= version <= WAL_RESET_BUG[1]:
        text += (
            "; it has the WAL-reset bug (fixed in 3.51.3): the service has one writer and is safe,"
            " but let nothing else write to or checkpoint its file"
        )
    return ok("sqlite", text)


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.is_dir())


# --- settings ---------------------------------------------------------------------------------------


def check_secrets(settings: Settings) -> Check:
    """The credentials file and its rights, and secrets that must be given and are not."""
    path = credentials_path(settings.data_dir)
    try:
        if path.exists() and open_to_others(path):
            return fail("secrets", f"{path} is open to others: chmod 600 it, and change what is in it")
        if settings.embedded and read_credentials(settings.data_dir):
            return ok("secrets", f"in {path}, for its owner alone")
        if settings.embedded and not (settings.secrets and settings.api_tokens and settings.admin_tokens):
            return ok("secrets", f"made in {path} at the first start")
        ensure_credentials(settings)
    except OSError as exc:
        return fail("secrets", f"{path}: {exc.strerror}")
    except Misconfigured as exc:
        return fail("secrets", "; ".join(exc.problems))
    return ok("secrets", "given by the environment")


def check_public_url(settings: Settings) -> Iterator[Check]:
    """Whether each provider would call us."""
    tokens = Tokens(settings.secrets or ("a stand-in of the same length",))
    for name, provider in plugins.load_providers().items():
        found = warnings(provider_url(settings, tokens, name), provider.facts)
        if found and provider.facts.pushes:
            yield warn(f"callbacks {name}", found[0])
        else:
            yield ok(f"callbacks {name}", found[0] if found else settings.public_url)


# --- parts, by a real round trip --------------------------------------------------------------------


async def check_service(settings: Settings) -> list[Check] | None:
    """What the running service says of itself; None where none runs."""
    try:
        async with httpx2.AsyncClient(timeout=READY_TIMEOUT_SECONDS, trust_env=False) as client:
            response = await client.get(f"{settings.url}/readyz")
    except httpx2.ConnectError:
        return None
    except httpx2.HTTPError as exc:
        return [fail("service", f"{settings.url} does not answer ({type(exc).__name__})")]
    try:
        parts = msgspec.json.decode(response.content, type=_Readiness).parts
    except ValueError:
        return [fail("service", f"what answers at {settings.url} is no receiver: check RECEIVER_URL")]
    whole = ok if response.status_code == 200 else fail
    return [
        whole("service", f"running at {settings.url}"),
        *((ok if state in _GOOD else fail)(f"service {name}", state) for name, state in parts.items()),
    ]


class _Readiness(msgspec.Struct):
    parts: dict[str, str]


_GOOD = frozenset({"ok", "running"})


async def check_store(settings: Settings) -> Check:
    """Opens the record, as a start does, and commits."""

    async def commit() -> None:
        store_class = plugins.load("stores", settings.database_scheme)
        options = StoreOptions(data_dir=settings.data_dir, clock=Clock())
        store = await store_class.open(settings.database_url, options)
        try:
            await store.ping()
        finally:
            await store.aclose()

    return await _tried("database", commit, f"{settings.database_scheme}: a commit works")


async def check_parts(settings: Settings) -> AsyncIterator[Check]:
    """The asset store and every sink, by their own pings; nothing is published."""
    async with open_plain_client() as http:
        options = PartOptions(name=settings.assets_scheme, data_dir=settings.data_dir, http=http)
        yield await _pinged("assets", "blobs", settings.assets_url, options)
        for sink in settings.sinks:
            options = PartOptions(
                name=sink.name,
                data_dir=settings.data_dir,
                http=http,
                secret=sink.secret,
                timeout_seconds=sink.timeout_seconds,
            )
            yield await _pinged(f"sink {sink.name}", "sinks", sink.url, options)


async def _pinged(name: str, kind: plugins.Kind, url: str, options: PartOptions) -> Check:
    scheme = url.partition(":")[0]

    async def ping() -> None:
        part: Any = plugins.load(kind, scheme).from_url(url, options)
        try:
            await part.ping()
        finally:
            await part.aclose()

    return await _tried(name, ping, f"{scheme}: answers")


async def _tried(name: str, attempt: Callable[[], Awaitable[None]], good: str) -> Check:
    try:
        await attempt()
    except ReceiverError as exc:
        return fail(name, "; ".join(str(exc).splitlines()))
    return ok(name, good)
