"""Asset files in a folder: each is fsynced under another name, then renamed to its own.

What waits for the disk does so in threads of its own: with the loop's, a disk that flushes for long would
keep others from being written, and people from reading.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from io import FileIO
from itertools import takewhile
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from receiver.asset_keys import INCOMING, key_parts
from receiver.errors import Misconfigured, Unavailable
from receiver.folders import open_own, sync_folder, try_folder
from receiver.models import Outcome
from receiver.options import PluginOptions
from receiver.threads import yielding_pool

DRAFTS = "tmp????????"  # the names that ``tempfile`` makes; what has another is somebody else's
CHUNK_BYTES = 256 * 1024
PUTS_AT_ONCE = 8  # more of them wait; those that wait for the disk together are flushed together
PART_BYTES = 64 * 1024  # of a file that is sent: a reader that takes nothing holds two of them

_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

# The errors of file systems without links, of those that allow a file no more of them (ext4: 65,000), and of
# what has gone meanwhile.
_CANNOT_LINK = frozenset(
    {
        errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EXDEV,
        errno.EMLINK, errno.ENOENT,
    }
)  # fmt: skip


class LocalBlobs:
    """A blob store on one disk. All blocking work runs in threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = root / INCOMING  # on the same file system: a file from here is moved, not copied
        self._puts = yielding_pool(PUTS_AT_ONCE, "blob-put")
        self._names = _Names()

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """``file:name`` is a folder in the data folder, ``file:///path`` any other."""
        place = urlsplit(url)
        if place.scheme != "file" or place.netloc or place.query or place.fragment:
            raise Misconfigured(f"{options.name}: write file:folder or file:///absolute/folder")
        root = options.data_dir / (unquote(place.path) or "assets")
        try:
            is_taken = root.exists() and not root.is_dir()
        except OSError as exc:
            raise Misconfigured(f"{options.name}: {root} cannot be reached: {exc.strerror}") from exc
        if is_taken:
            raise Misconfigured(f"{options.name}: there is something at {root}, and it is no folder")
        return cls(root)

    async def put(self, key: str, source: Path, media_type: str) -> None:  # noqa: ARG002 - stores that serve need it
        path = self._path(key)
        with _translated():
            await asyncio.get_running_loop().run_in_executor(self._puts, self._put, path, source)

    def _put(self, path: Path, source: Path) -> None:
        self._names.make_folder(path.parent)
        handle = open_own(source, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        try:
            source.replace(path)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            self.staging.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.staging)
            _lock(descriptor)  # a sweep leaves it alone as long as this process lives
            try:
                with source.open("rb") as original, os.fdopen(descriptor, "wb") as copy:
                    shutil.copyfileobj(original, copy, CHUNK_BYTES)
                    copy.flush()
                    os.fsync(copy.fileno())
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
            source.unlink()
        self._names.sync(path.parent)

    async def link(self, stored: str, key: str, source: Path) -> str | None:
        """See ``ports.LinkingBlobs``: a second name of the file, which goes when its last name does."""
        original, path = self._path(stored), self._path(key)
        with _translated():
            is_linked = await asyncio.get_running_loop().run_in_executor(
                self._puts, self._link, original, path, source
            )
        return key if is_linked else None

    def _link(self, original: Path, path: Path, source: Path) -> bool:
        # A file that was changed or damaged since must not spread; equal ones are few, so reading is cheap.
        if not _are_equal(original, source):
            return False
        self._names.make_folder(path.parent)
        try:
            try:
                os.link(original, path, follow_symlinks=False)
            except FileExistsError:  # of an attempt that was not settled
                self._replace_by_link(original, path)
        except OSError as exc:
            if exc.errno not in _CANNOT_LINK:
                raise
            return False
        self._names.sync(path.parent)
        source.unlink()
        return True

    def _replace_by_link(self, original: Path, path: Path) -> None:
        if original.samefile(path):
            return  # renaming one name of a file to another of it would leave both
        self.staging.mkdir(parents=True, exist_ok=True)
        name = self.staging / f"tmp{uuid4().hex[:8]}"  # a sweep removes it once this process is gone
        os.link(original, name, follow_symlinks=False)
        try:
            name.replace(path)
        except BaseException:
            name.unlink(missing_ok=True)
            raise

    async def open(self, key: str, start: int, length: int) -> AsyncIterator[bytes]:
        # One handle from first to last: a file that is replaced meanwhile is not mixed with its successor.
        path = self._path(key)
        with _translated(*_ABSENT), await asyncio.to_thread(_open, path) as file:
            file.seek(start)
            while length > 0 and (part := await asyncio.to_thread(file.read, min(length, PART_BYTES))):
                length -= len(part)
                yield part

    async def ping(self) -> None:
        with _translated():
            for folder in (self.root, self.staging):
                await asyncio.to_thread(try_folder, folder)

    async def sweep(self) -> int:
        with _translated():
            return await asyncio.to_thread(self._sweep)

    def _sweep(self) -> int:
        drafts = [path for path in self.staging.glob(DRAFTS) if path.is_file()]
        stale = [path for path in drafts if not _is_being_written(path)]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._puts.shutdown, cancel_futures=True)

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*key_parts(key))


class _Names:
    """Makes folders, and makes new names last. For threads.

    One fsync of a folder is for all that wait for one when it begins. Who finds a folder that another thread,
    or a process that was killed, has just made sees to it that this one's own name lasts, too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # never held during an fsync
        self._young: set[Path] = set()  # folders of ours whose names may not last yet
        self._flushes: dict[Path, _Flushes] = {}

    def make_folder(self, folder: Path) -> None:
        with self._lock:
            try:
                folder.mkdir()  # as a rule: the task is new, and its provider is not
                missing = [folder]
            except FileExistsError:
                return
            except FileNotFoundError:
                missing = list(takewhile(lambda place: not place.exists(), (folder, *folder.parents)))
                folder.mkdir(parents=True, exist_ok=True)
            self._young.update(missing)

    def sync(self, folder: Path) -> None:
        """Make the names in a folder last, its own, and those of young folders above it."""
        with self._lock:
            young = [place for place in folder.parents if place in self._young]
        for place in (*reversed(young), folder):
            self._sync(place.parent)
            with self._lock:
                self._young.discard(place)
        sync_folder(folder)

    def _sync(self, folder: Path) -> None:
        with self._lock:
            flushes = self._flushes.setdefault(folder, _Flushes())
            flushes.users += 1
            wanted = flushes.begun + 1  # one that is under way may have missed what was just named
        try:
            with flushes.turn:
                if flushes.done < wanted:
                    with self._lock:
                        flushes.begun += 1
                    sync_folder(folder)
                    flushes.done = flushes.begun
        finally:
            with self._lock:
                flushes.users -= 1
                if not flushes.users:
                    del self._flushes[folder]


class _Flushes:
    """The fsyncs of one folder, numbered from 1, one at a time."""

    def __init__(self) -> None:
        self.users = 0
        self.begun = 0
        self.done = 0
        self.turn = threading.Lock()


@contextlib.contextmanager
def _translated(*absent: type[OSError]) -> Iterator[None]:
    try:
        yield
    except absent as exc:
        raise FileNotFoundError(errno.ENOENT, "no such asset") from exc
    except OSError as exc:
        raise Unavailable(f"the disk refused: {exc.strerror}", outcome=Outcome.STORAGE_FAILED) from exc


def _are_equal(stored: Path, source: Path) -> bool:
    """Whether there is such a file, and the same is in both."""
    try:
        with _open(stored) as one, _open(source) as other:
            facts = os.fstat(one.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_size != os.fstat(other.fileno()).st_size:
                return False
            while part := one.read(CHUNK_BYTES):
                if part != other.read(len(part)):
                    return False
    except OSError:
        return False  # if it is the new one, putting it says so
    return True


def _open(path: Path) -> FileIO:
    return open(path, "rb", buffering=0, opener=open_own)


def _lock(handle: int) -> bool:
    """Whether nobody else has a file locked; then it is ours. Where there are no locks, nobody has."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_being_written(path: Path) -> bool:
    try:
        handle = open_own(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)
