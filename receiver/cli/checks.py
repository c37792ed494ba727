"""What doctor checks without asking anybody or opening anything: this machine and the settings."""

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec

import receiver
from receiver import plugins
from receiver.cli.callback_url import provider_url
from receiver.cli.reachability import REMEDY, obstacles
from receiver.cli.views import Outlook, ServiceSettings, View, told_differences
from receiver.config.credentials import (
    EXPOSED,
    GUESSABLE,
    credentials_path,
    ensure_credentials,
    open_to_others,
    read_credentials,
    were_exposed,
)
from receiver.config.settings import Settings, guessable_secrets
from receiver.errors import Misconfigured
from receiver.fetching.fetcher import reserved_bytes
from receiver.tokens import Tokens

CLOCK_SLACK_SECONDS = 120.0
MOST_NAMED = 5

OUT_OF_REACH = "is not looked at, nor what lies in it: it is on another machine, or out of this user's reach"
SAME_USER = "run `receiver doctor` as the user that runs the service"

# Two connections that write or checkpoint at the same instant can damage a file: fixed in 3.51.3.
WAL_RESET_BUG = ((3, 7, 0), (3, 51, 2))


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
    folder = _existing(data_dir)
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
    marks = (Path(receiver.__file__), _existing(data_dir), credentials_path(data_dir))
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


def check_new_folder(data_dir: Path) -> Check:
    """Whether the first start can make the data folder that is not there yet."""
    try:
        with tempfile.TemporaryFile(dir=_existing(data_dir)):
            pass
    except OSError as exc:
        return fail(
            "data folder",
            f"{data_dir} cannot be made: {exc.strerror}",
            "set RECEIVER_DATA_DIR to a folder in which this user may write",
        )
    return ok("data folder", f"made at the first start: {data_dir}; what lies in it was tried in another")


def size(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB" if number >= 2**30 else f"{number >> 20} MiB"


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder.resolve(), *folder.resolve().parents) if parent.is_dir())


# --- settings ---------------------------------------------------------------------------------------


def check_settings(outlook: Outlook, url: str) -> Iterator[Check]:
    """Whose settings the other checks go by, and how this shell's differ."""
    if outlook.told is None:
        yield ok("settings", f"understood; all goes by this shell's, as no service answers at {url}")
        return
    yield ok("settings", f"understood; where it says so, doctor goes by those of the service at {url}")
    if outlook.differences:
        yield warn(
            "settings differ",
            f"{told_differences(outlook.differences)}. Doctor goes by the service's",
            "start commands in the service's environment, or change what is wrong (and restart the service)",
        )


def check_untold(why: str) -> Check:
    """Warn that a service runs and did not tell its settings."""
    return warn(
        "settings",
        f"understood; all goes by this shell's, which may be others than the service's: {why}",
        "set RECEIVER_DATA_DIR to the service's data folder, or RECEIVER_TOKEN to an admin token of its own",
    )


def check_exposed(data_dir: Path) -> Iterator[Check]:
    """Whether others can read the credentials file now."""
    path = credentials_path(data_dir)
    try:
        if path.exists() and open_to_others(path):
            yield fail("secrets", f"{path} is open to others", f"chmod 600 {path}, and change what is in it")
    except OSError as exc:
        yield fail("secrets", f"{path}: {exc.strerror}", SAME_USER)


def check_secrets(settings: Settings, told: ServiceSettings | None) -> Iterator[Check]:
    """Whether secrets are missing, or others could once read them."""
    path = credentials_path(settings.data_dir)
    todo = "set RECEIVER_SECRET, RECEIVER_API_TOKENS and RECEIVER_ADMIN_TOKENS, or mend the file"
    try:
        if told:
            yield _kept("all are set", path, were_open=told.were_open)
        elif settings.embedded and read_credentials(settings.data_dir):
            yield _kept(f"in {path}, for its owner alone", path, were_open=were_exposed(settings))
        elif settings.embedded and not (settings.secrets and settings.api_tokens and settings.admin_tokens):
            yield ok("secrets", f"made in {path} at the first start")
        else:
            ensure_credentials(settings)
            yield ok("secrets", "given by the environment")
    except OSError as exc:
        yield fail("secrets", f"{path}: {exc.strerror}", SAME_USER)
    except Misconfigured as exc:
        yield fail("secrets", "; ".join(exc.problems), todo)


def _kept(how: str, path: Path, *, were_open: bool) -> Check:
    if were_open:
        return warn(
            "secrets", f"{path}: {EXPOSED}", "change them (see `receiver docs operating`, Changing secrets)"
        )
    return ok("secrets", how)


def check_guessable(settings: Settings, told: ServiceSettings | None) -> Iterator[Check]:
    """Secrets of the operator's that could be guessed."""
    if variables := told.guessable if told else guessable_secrets(settings):
        yield warn("secrets guessable", ", ".join(variables), GUESSABLE)


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


def check_public_url(settings: Settings) -> Iterator[Check]:
    """Whether providers could call the public URL; then the obstacles of single providers."""
    common = obstacles(settings.public_url)
    if common:
        yield warn("public url", f"{settings.public_url}: {'; '.join(common)}", REMEDY)
    else:
        yield ok("public url", settings.public_url)
    tokens = Tokens(settings.secrets or ("a stand-in of the same length",))
    for name, provider in plugins.load_providers().items():
        own = [each for each in obstacles(provider_url(settings, tokens, name)) if each not in common]
        if not provider.facts.pushes:
            yield ok(f"callbacks {name}", f"{provider.facts.title} sends none: its tasks are polled")
        elif own:
            yield warn(f"callbacks {name}", f"the callback URL: {'; '.join(own)}", REMEDY)
