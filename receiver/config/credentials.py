"""Secrets made at the first start of the embedded default, kept in the data folder for its owner alone."""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import structlog

from receiver.config.parsers import MIN_SECRET_CHARACTERS
from receiver.config.settings import Settings, guessable_secrets, shared_secrets
from receiver.errors import Misconfigured
from receiver.folders import open_own_file, sync_folder

FILE_NAME = "credentials.json"
EXPOSED = "others could once read it, so they may know the secrets in it"
GUESSABLE = "it could be found by trying: set random ones, for example of `openssl rand -hex 32`"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# What file systems say that know no hard links: exFAT, SMB, many of FUSE, Android's.
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}
)


log = structlog.get_logger()


class Credentials(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The secrets of a service."""

    secret: str
    api_token: str
    admin_token: str
    were_open: bool = False  # others could read them once; kept until they are changed

    def __repr__(self) -> str:
        return "Credentials(...)"  # so that no log and no traceback shows them


def credentials_path(data_dir: Path) -> Path:
    return data_dir / FILE_NAME


def ensure_credentials(settings: Settings) -> Settings:
    """The settings with every secret filled in; secrets from the environment are left as they are.

    Secrets are generated only beside an embedded database, where one process is all there is. Raises
    Misconfigured naming what is missing otherwise, or what is wrong with the file.
    """
    given = {
        "RECEIVER_SECRET": settings.secrets,
        "RECEIVER_API_TOKENS": settings.api_tokens,
        "RECEIVER_ADMIN_TOKENS": settings.admin_tokens,
    }
    missing = [name for name, values in given.items() if not values]
    if not missing:
        return settings
    if not settings.embedded:
        raise Misconfigured(*(f"{name} must be set: it is generated only with SQLite" for name in missing))
    made = read_credentials(settings.data_dir) or _create(settings.data_dir)
    filled = msgspec.structs.replace(
        settings,
        secrets=settings.secrets or (made.secret,),
        api_tokens=settings.api_tokens or (made.api_token,),
        admin_tokens=settings.admin_tokens or (made.admin_token,),
    )
    if problems := shared_secrets(filled):
        raise Misconfigured(*problems)
    return filled


def tell_weaknesses(settings: Settings) -> None:
    """Log weaknesses of the secrets in use that must not keep the service from starting."""
    if were_exposed(settings):
        path = credentials_path(settings.data_dir)
        log.warning("credentials.were_open", path=str(path), consequence=f"{EXPOSED}: change them")
    if variables := guessable_secrets(settings):
        log.warning("secrets.guessable", variables=variables, consequence=GUESSABLE)


def were_exposed(settings: Settings) -> bool:
    """Whether others could once read something of the credentials file that is in use."""
    try:
        kept = read_credentials(settings.data_dir)
    except Misconfigured:  # where it is needed, that was told before
        return False
    if kept is None or not kept.were_open:
        return False
    given = (settings.secrets, settings.api_tokens, settings.admin_tokens)
    made = (kept.secret, kept.api_token, kept.admin_token)
    return any(not values or value in values for values, value in zip(given, made, strict=True))


def read_credentials(data_dir: Path) -> Credentials | None:
    """What an earlier start made, if any did; never creates.

    Takes away others' rights to the file, and notes in it that they had any. Raises Misconfigured for a
    file that is damaged, or open to others and not ours to close.
    """
    path = credentials_path(data_dir)
    try:
        text, was_open = _read_closed(path)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Misconfigured(f"{path} cannot be read: {exc.strerror}") from exc
    try:
        credentials = msgspec.json.decode(text, type=Credentials)
    except (ValueError, RecursionError) as exc:
        raise Misconfigured(_damaged(path)) from exc
    secrets_in_it = (credentials.secret, credentials.api_token, credentials.admin_token)
    if any(len(value) < MIN_SECRET_CHARACTERS for value in secrets_in_it):
        raise Misconfigured(_damaged(path))
    if was_open:
        credentials = msgspec.structs.replace(credentials, were_open=True)
        # On a full disk it is told this once only.
        with suppress(OSError), _drafted(path, credentials) as draft:
            draft.replace(path)
    return credentials


def open_to_others(path: Path) -> bool:
    """Whether anybody but the owner has rights to a file. Raises OSError."""
    return bool(path.lstat().st_mode & _OTHERS) and not path.is_symlink()


def _create(data_dir: Path) -> Credentials:
    """Make and keep new credentials, or take those of whoever was quicker."""
    path = credentials_path(data_dir)
    new = Credentials(
        secret=secrets.token_urlsafe(32),
        api_token=secrets.token_urlsafe(32),
        admin_token=secrets.token_urlsafe(32),
    )
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A whole draft is linked to its name: of parallel first starts exactly one wins.
        with _drafted(path, new) as draft:
            try:
                os.link(draft, path)
            except OSError as exc:
                if exc.errno not in _NO_LINKS:
                    raise
                _rename_if_first(draft, path)
    except FileExistsError:
        return read_credentials(data_dir) or _create(data_dir)
    except OSError as exc:
        raise Misconfigured(f"{path} cannot be written: {exc.strerror}; check RECEIVER_DATA_DIR") from exc
    return new


@contextmanager
def _drafted(path: Path, credentials: Credentials) -> Iterator[Path]:
    """Write them to a draft beside ``path``, for the block to name; the name is synced. Raises OSError."""
    draft = path.with_name(f".{FILE_NAME}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(credentials)) + b"\n")
            file.flush()
            os.fsync(descriptor)
        yield draft
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def _rename_if_first(draft: Path, path: Path) -> None:
    """Rename the draft unless the name is taken, under a lock on the folder that ends with the process."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Where nothing can be locked either, two first starts at once are not told apart.
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        if path.exists():
            raise FileExistsError
        draft.rename(path)
    finally:
        os.close(folder)


def _read_closed(path: Path) -> tuple[bytes, bool]:
    """What is in the file, and whether others had rights to it, which they lose. Raises OSError."""
    descriptor = open_own_file(path)
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        was_open = bool(info.st_mode & _OTHERS)
        if was_open:
            problem = f"{path} can be read by others: chmod 600 it as its owner"
            # Only as its owner, and under its only name: root must not be led to change a file of its own.
            if info.st_uid != os.geteuid() or info.st_nlink != 1:
                raise Misconfigured(problem)
            try:
                os.fchmod(descriptor, 0o600)
            except OSError as exc:
                raise Misconfigured(problem) from exc
        return file.read(), was_open


def _damaged(path: Path) -> str:
    return (
        f"{path} is damaged: restore it, or delete it to get new secrets"
        " (callback URLs and asset links given out so far stop working)"
    )
