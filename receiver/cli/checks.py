"""What doctor looks at: each check looks at one thing and says what it found."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx2
import msgspec

import receiver
from receiver import plugins
from receiver.asking import Answer, Asker
from receiver.cli.callback_url import provider_url, warnings
from receiver.cli.keys import bottleneck, consequence
from receiver.clock import Clock
from receiver.credentials import credentials_path, ensure_credentials, open_to_others, read_credentials
from receiver.errors import Misconfigured, ReceiverError
from receiver.fields import key_variable
from receiver.network import open_plain_client
from receiver.ports import PartOptions, Provider, StoreOptions
from receiver.settings import Settings
from receiver.tokens import Tokens
from receiver.words import Outcome

LITTLE_ROOM_BYTES = 2**30
NO_ROOM_BYTES = 100 * 2**20
CLOCK_SLACK_SECONDS = 120.0
READY_TIMEOUT_SECONDS = 10.0
ASK_TIMEOUT_SECONDS = 10.0
RECORD_SECONDS = 30.0

# What every provider is asked about: no task has this id; some want to know the model, too.
NO_TASK_ID = "receiver-doctor"
NO_TASKS_MODEL = "gpt-image-2"

_KEY_WORKS = frozenset({Outcome.UNKNOWN_TASK, Outcome.IN_PROGRESS, Outcome.ANSWERED})
# It is there, and that is all that can be said: an odd id, a busy hour or a wrong base URL all look so.
_NOT_SURE = frozenset(
    {
        Outcome.REFUSED,
        Outcome.UNREADABLE,
        Outcome.RATE_LIMITED,
        Outcome.HTTP_ERROR,
        Outcome.NO_MODEL,
    }
)

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


# --- providers, by a real question ------------------------------------------------------------------


async def check_keys(settings: Settings) -> list[Check]:
    """What each provider answers to our key, all asked at once, and which confirm slowly.

    Nobody is asked without a key.
    """
    providers = plugins.load_providers()
    async with open_plain_client() as http:
        asker = Asker(
            providers=providers,
            accesses=settings.providers,
            http=http,
            clock=Clock(),
            timeout_seconds=ASK_TIMEOUT_SECONDS,
        )

        async def ask(name: str) -> Check:
            if settings.providers[name].api_key is None:
                without = consequence(settings.confirm, providers[name].facts)
                return warn(f"asking {name}", f"no {key_variable(name)}: {without}")
            return _judged(name, await asker.ask(name, NO_TASK_ID, NO_TASKS_MODEL))

        asked = await asyncio.gather(*(ask(name) for name in providers))
    return [*asked, *_slow(settings, providers)]


def _slow(settings: Settings, providers: Mapping[str, Provider]) -> Iterator[Check]:
    for name, provider in providers.items():
        access = settings.providers[name]
        limit = bottleneck(settings.confirm, provider.facts, access.polls_per_minute)
        if access.api_key is not None and limit:
            yield warn(f"confirming {name}", limit)


def _judged(name: str, answer: Answer) -> Check:
    detail = f"{answer.outcome}: {answer.detail}" if answer.detail else answer.outcome.value
    if answer.outcome in _KEY_WORKS:
        return ok(f"asking {name}", f"{key_variable(name)} works ({detail})")
    return (warn if answer.outcome in _NOT_SURE else fail)(f"asking {name}", detail)


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
        *(_heard(name, state) for name, state in parts.items()),
    ]


def _heard(name: str, state: str) -> Check:
    said = ok if state in {"ok", "running"} else warn if state.startswith("running, but ") else fail
    return said(f"service {name}", state)


class _Readiness(msgspec.Struct):
    parts: dict[str, str]


async def check_record(settings: Settings) -> Check:
    """Every page of the database, whoever has it open; but not for longer than a person waits."""
    store_class = plugins.load("stores", settings.database_scheme)
    if not hasattr(store_class, "examine"):
        return ok("record", f"{settings.database_scheme} looks after itself")
    path = store_class.file_of(settings.database_url, settings.data_dir)
    if not path.exists():
        return ok("record", "made at the first start")
    try:
        is_done = await asyncio.to_thread(store_class.examine, path, RECORD_SECONDS)
    except ReceiverError as exc:
        return fail("record", "; ".join(str(exc).splitlines()))
    if is_done:
        return ok("record", "every page is sound")
    return ok("record", "too large to look at every page now; `receiver backup` does")


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
