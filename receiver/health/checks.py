"""What was looked at, what it came to and what to do; and the checks that a running service can make, too."""

import importlib
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

import msgspec

import receiver
from receiver.config.credentials import EXPOSED, GUESSABLE, credentials_path, open_to_others
from receiver.config.fields import key_variable
from receiver.config.settings import Settings
from receiver.errors import Misconfigured
from receiver.fetching.fetcher import reserved_bytes
from receiver.health.keys import consequence
from receiver.health.reachability import REMEDY, obstacles
from receiver.models import ProviderFacts
from receiver.thumbnails.process import pillow_folder

CLOCK_SLACK_SECONDS = 120.0
MOST_NAMED = 5
MOST_CATALOG_DAYS = 90

PUBLIC_URL = "public url"  # the name of its check
SAME_USER = "run `receiver doctor` as the user that runs the service"

# Two connections that write or checkpoint at the same instant can damage a file: fixed in 3.51.3.
WAL_RESET_BUG = ((3, 7, 0), (3, 51, 2))


class View(StrEnum):
    """Whose settings a check went by."""

    SHELL = "shell"
    SERVICE = "service"


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at. ``todo`` is what to do about it; only a good check has none.

    ``view`` says whose settings it went by.
    """

    name: str
    state: State
    detail: str
    todo: str | None = None
    view: View = View.SHELL


def ok(name: str, detail: str) -> Check:
    return Check(name=name, state=State.OK, detail=detail)


def warn(name: str, detail: str, todo: str) -> Check:
    return Check(name=name, state=State.WARN, detail=detail, todo=todo)


def fail(name: str, detail: str, todo: str) -> Check:
    return Check(name=name, state=State.FAIL, detail=detail, todo=todo)


# --- this machine -----------------------------------------------------------------------------------


def check_disk(data_dir: Path) -> Check:
    """Whether there is room for files and for the record; it warns before downloads stop."""
    folder = existing(data_dir)
    disk = shutil.disk_usage(folder)
    reserved = reserved_bytes(disk.total)
    text = f"{size(disk.free)} free at {folder}"
    if disk.free >= 2 * reserved:
        return ok("disk", text)
    todo = "make room, or set RECEIVER_DATA_DIR to a folder on a larger disk"
    callbacks = "callbacks get 503 once it is full"
    if disk.free >= reserved:
        return warn("disk", f"{text}: downloads stop below {size(reserved)}, and {callbacks}", todo)
    stopped = f"downloads have stopped, as they do below {size(reserved)}, and {callbacks}"
    return fail("disk", f"{text}: {stopped}", todo)


def check_clock(data_dir: Path, now: datetime) -> Check:
    """Fail for a clock that is behind our own files: leases and deadlines would be off."""
    marks = (Path(receiver.__file__), existing(data_dir), credentials_path(data_dir))
    written = [0.0]
    for path in marks:
        with suppress(OSError):  # not there, or not ours to look at, which others say
            written.append(path.stat().st_mtime)
    behind = max(written) - now.timestamp()
    if behind > CLOCK_SLACK_SECONDS:
        return fail(
            "clock",
            f"{behind:.0f} s behind files of ours",
            "set this machine's clock, and keep it set by NTP: leases and deadlines go by it",
        )
    return ok("clock", now.strftime("%Y-%m-%d %H:%M:%S UTC"))


def check_sqlite(version: tuple[int, ...]) -> Check:
    """The SQLite of this Python."""
    text = ".".join(str(number) for number in version)
    if WAL_RESET_BUG[0] <= version <= WAL_RESET_BUG[1]:
        text += (
            "; it has the WAL-reset bug (fixed in 3.51.3): the service has one writer and is safe,"
            " but let nothing else write to or checkpoint its file"
        )
    return ok("sqlite", text)


def check_rights(data_dir: Path) -> Iterator[Check]:
    """Whether everybody on this machine may look into the data folder."""
    try:
        mode = stat.S_IMODE(data_dir.stat().st_mode)
    except OSError:  # not there, or not ours to look at, which others say
        return
    if mode & stat.S_IRWXO:
        yield warn(
            "rights",
            f"{data_dir} is open to everybody on this machine ({mode:o}), and so may be what is in it",
            f"chmod -R go= {data_dir}",
        )


def check_owner(data_dir: Path) -> Iterator[Check]:
    """Files in the data folder that belong to another user, such as root, and may be of no use."""
    try:
        owner = data_dir.stat().st_uid
        others = [path.name for path in sorted(data_dir.iterdir()) if path.lstat().st_uid != owner]
    except OSError:  # not there, or not ours to look at, which others say
        return
    if others:
        said = f"not of the user to whom {data_dir} belongs: {', '.join(others[:MOST_NAMED])}"
        yield warn("owner", said, f"chown -R --reference={data_dir} {data_dir}")


def check_thumbnails() -> Check:
    """Whether images can be drawn small. Nothing is."""
    if pillow_folder() is None:
        lacking = "none: Pillow is not installed (pip install 'callback-receiver[thumbnails]'), so the pages"
        return ok("thumbnails", f"{lacking} show files without pictures")
    return ok("thumbnails", f"are made by Pillow {version('pillow')}")


def size(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB" if number >= 2**30 else f"{number >> 20} MiB"


def existing(folder: Path) -> Path:
    return next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.is_dir())


# --- settings ---------------------------------------------------------------------------------------


def check_exposed(data_dir: Path) -> Iterator[Check]:
    """Whether others can read the credentials file now."""
    path = credentials_path(data_dir)
    try:
        if path.exists() and open_to_others(path):
            yield fail("secrets", f"{path} is open to others", f"chmod 600 {path}, and change what is in it")
    except OSError as exc:
        yield fail("secrets", f"{path}: {exc.strerror}", SAME_USER)


def check_kept(how: str, path: Path, *, were_open: bool) -> Check:
    """How the credentials are kept, and whether others could once read them."""
    if were_open:
        return warn(
            "secrets", f"{path}: {EXPOSED}", "change them (see `receiver docs operating`, Changing secrets)"
        )
    return ok("secrets", how)


def check_guessable(variables: Iterable[str]) -> Iterator[Check]:
    """Secrets of the operator's that could be guessed, by their variables."""
    if variables:
        yield warn("secrets guessable", ", ".join(variables), GUESSABLE)


def check_public_url(settings: Settings) -> Check:
    """Whether providers could call the public URL."""
    common = obstacles(settings.public_url)
    if common:
        return warn(PUBLIC_URL, f"{settings.public_url}: {'; '.join(common)}", REMEDY)
    return ok(PUBLIC_URL, settings.public_url)


def check_catalogs(settings: Settings, now: datetime) -> Iterator[Check]:
    """Whether the rules and prices that the gateway goes by are of these days."""
    if not settings.gateway:
        return
    module = importlib.import_module("receiver.gateway.catalog")  # where there is a gateway only
    try:
        catalogs = module.load_catalogs(settings.gateway_catalog)
    except Misconfigured as exc:
        yield from (fail("catalogs", each, "correct it, and restart the service") for each in exc.problems)
        return
    older = module.older_catalogs(catalogs)
    yield from (warn("catalogs", each, module.OLDER_TODO) for each in older)
    aged = [
        f"{name} ({catalog.as_of})"
        for name, catalog in catalogs.items()
        if (now.date() - catalog.as_of).days > MOST_CATALOG_DAYS
    ]
    if aged:
        yield warn(
            "catalogs",
            f"rules and prices are older than {MOST_CATALOG_DAYS} days: {', '.join(aged)}",
            "update the receiver, or compare them with the providers' pages and set RECEIVER_GATEWAY_CATALOG",
        )
    elif not older:
        oldest = min(catalog.as_of for catalog in catalogs.values())
        yield ok("catalogs", f"rules and prices of {', '.join(catalogs)} are of {oldest} or later")


def check_unasked(settings: Settings, without_key: Mapping[str, ProviderFacts]) -> Iterator[Check]:
    """Those without a key together, for nobody uses all of them."""
    for some, pushes in (("others", True), ("silent ones", False)):
        names = [name for name, facts in without_key.items() if facts.pushes == pushes]
        if names:
            variables = ", ".join(map(key_variable, names))
            facts = without_key[names[0]]
            follows = consequence(settings.confirm, facts.title, pushes=facts.pushes)
            if not pushes and len(names) > 1:
                follows = "they send no callbacks, so their tasks never end"
            todo = "set the key of each one that you use"
            yield warn(f"asking {some}", f"no {variables}: {follows}", todo)
