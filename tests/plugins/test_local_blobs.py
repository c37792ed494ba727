import asyncio
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.asset_keys import INCOMING
from receiver.blobs.local import PUTS_AT_ONCE, LocalBlobs
from receiver.errors import Misconfigured, Unavailable
from receiver.fetching.client import open_plain_client
from receiver.models import Outcome
from receiver.options import PluginOptions
from receiver.ports import BlobStore
from tests.contracts.blobs import BlobContract, LinkingContract, read
from tests.support.disk_faults import folders_that_cannot_be_synced


@pytest.fixture
def local(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "data" / "assets")


@pytest.fixture
def blobs(local: LocalBlobs) -> BlobStore:
    return local


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == Path("/tmp").stat().st_dev:
        pytest.skip("no second file system to write to")
    folder = shared / f"receiver-{os.getpid()}-{os.urandom(4).hex()}"
    folder.mkdir()
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


class TestLocalBlobs(LinkingContract, BlobContract):
    pass


async def built(url: str, folder: Path) -> LocalBlobs:
    async with open_plain_client() as http:
        return LocalBlobs.from_url(url, PluginOptions(name="RECEIVER_ASSETS_URL", data_dir=folder, http=http))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("file:", "assets"),
        ("file:pictures", "pictures"),
        ("file:a/b%20c", "a/b c"),
        ("file:///srv/assets", "/srv/assets"),
        ("file:/srv/assets", "/srv/assets"),
    ],
)
async def test_a_url_names_a_folder_and_touches_nothing(tmp_path: Path, url: str, place: str) -> None:
    assert (await built(url, tmp_path)).root == tmp_path / place
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["file://host/share", "file:x?y=1", "file:x#y", "s3://bucket"])
async def test_a_url_that_names_no_folder_is_said_to_be_wrong(tmp_path: Path, url: str) -> None:
    with pytest.raises(Misconfigured, match="RECEIVER_ASSETS_URL"):
        await built(url, tmp_path)


async def test_what_is_there_and_no_folder_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "pictures").write_text("not a folder")
    with pytest.raises(Misconfigured, match=r"RECEIVER_ASSETS_URL: .*pictures, and it is no folder"):
        await built("file:pictures", tmp_path)


async def test_a_file_from_another_file_system_is_copied_and_gone(local: LocalBlobs, elsewhere: Path) -> None:
    source = elsewhere / "source"
    data = os.urandom(1_000_000)
    source.write_bytes(data)
    await local.put("p/t/0", source, "image/png")
    assert await read(local, "p/t/0") == data
    assert not source.exists()
    assert list(local.staging.iterdir()) == []


async def test_a_file_from_the_staging_folder_is_moved_not_copied(local: LocalBlobs) -> None:
    local.staging.mkdir(parents=True)
    source = local.staging / "tmp_1"
    source.write_bytes(b"bytes")
    inode = source.stat().st_ino
    await local.put("p/t/0", source, "image/png")
    assert (local.root / "p/t/0").stat().st_ino == inode


async def test_a_ping_makes_nothing_and_finds_out_what_would_keep_files_out(
    local: LocalBlobs, tmp_path: Path
) -> None:
    await local.ping()
    assert list(tmp_path.iterdir()) == []
    local.root.parent.write_text("in the way")
    with pytest.raises(Unavailable):
        await local.ping()


async def test_a_link_in_the_place_of_a_file_is_not_followed(local: LocalBlobs, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"bytes")
    (local.root / "p/t").mkdir(parents=True)
    (local.root / "p/t/0").symlink_to(tmp_path / "secret")
    with pytest.raises(Unavailable, match="it is a link, which is not followed"):
        await read(local, "p/t/0")


async def test_a_sweep_leaves_alone_what_another_process_is_writing(local: LocalBlobs) -> None:
    local.staging.mkdir(parents=True)
    with (local.staging / "tmp12345678").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert await local.sweep() == 0
        assert (local.staging / "tmp12345678").exists()
    assert await local.sweep() == 1


async def test_the_staging_folder_is_no_place_for_a_key(local: LocalBlobs) -> None:
    with pytest.raises(ValueError, match="key"):
        await anext(local.open(f"{INCOMING}/tmp_1", 0, 1))


async def test_a_sweep_takes_what_was_left_half_written_and_nothing_else(
    local: LocalBlobs, tmp_path: Path
) -> None:
    assert await local.sweep() == 0
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    await local.put("p/t/0", source, "image/png")
    local.staging.mkdir()
    (local.staging / "tmp12345678").write_bytes(b"half")
    (local.staging / "precious").write_bytes(b"another's")

    assert await local.sweep() == 1

    assert [path.name for path in local.staging.iterdir()] == ["precious"]
    assert await read(local, "p/t/0") == b"bytes"


async def test_every_new_name_is_made_durable(
    local: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append("source" if stat.S_ISREG(os.fstat(handle).st_mode) else str(path.relative_to(tmp_path)))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    await local.put("p/t/0", source, "image/png")
    # The bytes, before they have their name; new folders in their parents, from the outermost; and the name.
    assert synced == ["source", ".", "data", "data/assets", "data/assets/p", "data/assets/p/t"]
    synced.clear()
    source.write_bytes(b"more")
    await local.put("p/t/1", source, "image/png")
    assert synced == ["source", "data/assets/p", "data/assets/p/t"]


async def test_files_that_come_together_share_the_flush_of_their_folder(
    local: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none returns before a flush that began after its own folder was there."""
    durable: set[str] = set()
    flushes = 0
    real = os.fsync

    def fsync(handle: int) -> None:
        nonlocal flushes
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path == local.root / "p":
            there = {each.name for each in path.iterdir()}
            time.sleep(0.02)
            durable.update(there)
            flushes += 1
        real(handle)

    async def put(number: int) -> None:
        source = tmp_path / f"source-{number}"
        source.write_bytes(b"bytes")
        await local.put(f"p/t{number}/0", source, "image/png")
        assert f"t{number}" in durable

    (local.root / "p").mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", fsync)
    await asyncio.gather(*(put(number) for number in range(2 * PUTS_AT_ONCE)))
    assert flushes < PUTS_AT_ONCE


async def test_a_folder_whose_sync_failed_is_synced_by_the_next(local: LocalBlobs, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"bytes")
    with folders_that_cannot_be_synced(errno.EIO), pytest.raises(Unavailable):
        await local.put("p/t/0", tmp_path / "one", "image/png")
    with folders_that_cannot_be_synced(errno.EINVAL) as tried:
        await local.put("p/t/1", tmp_path / "two", "image/png")
    parents = [local.root.parent.parent, local.root.parent, local.root, local.root / "p", local.root / "p/t"]
    assert tried == [str(each) for each in parents]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF])
async def test_a_file_is_stored_where_no_folder_can_be_synced(
    local: LocalBlobs, tmp_path: Path, number: int
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    with folders_that_cannot_be_synced(number) as tried:
        await local.put("p/t/0", source, "image/png")
        await local.ping()
    assert await read(local, "p/t/0") == b"bytes"
    assert str(local.root / "p" / "t") in tried


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
async def test_a_folder_whose_sync_fails_is_unavailable(
    local: LocalBlobs, tmp_path: Path, number: int
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    with folders_that_cannot_be_synced(number), pytest.raises(Unavailable) as caught:
        await local.put("p/t/0", source, "image/png")
    assert caught.value.outcome is Outcome.STORAGE_FAILED


@pytest.mark.parametrize("error", [28, 5, 30])  # ENOSPC, EIO, EROFS
async def test_a_disk_that_refuses_is_unavailable(
    local: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", fsync)
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    with pytest.raises(Unavailable) as caught:
        await local.put("p/t/0", source, "image/png")
    assert caught.value.outcome is Outcome.STORAGE_FAILED
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(Unavailable):
        await local.ping()


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    local = LocalBlobs(tmp_path / "file" / "assets")
    with pytest.raises(Unavailable):
        await local.ping()
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    with pytest.raises(Unavailable):
        await local.put("p/t/0", source, "image/png")


async def test_a_source_that_vanished_is_unavailable(local: LocalBlobs, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await local.put("p/t/0", tmp_path / "missing", "image/png")
    assert not (local.root / "p/t/0").exists()


@pytest.mark.parametrize("error", [errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EXDEV])
async def test_where_a_file_can_have_no_more_names_it_is_stored_again(
    local: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, "no")

    first, again = tmp_path / "first", tmp_path / "again"
    for path in (first, again):
        path.write_bytes(b"bytes")
    await local.put("p/t1/0.png", first, "image/png")
    monkeypatch.setattr(os, "link", refuse)
    assert await local.link("p/t1/0.png", "p/t2/0.png", again) is None
    assert again.exists()


async def test_a_link_in_a_files_place_is_not_linked_to(local: LocalBlobs, tmp_path: Path) -> None:
    first, again, elsewhere = tmp_path / "first", tmp_path / "again", tmp_path / "elsewhere"
    for path in (first, again, elsewhere):
        path.write_bytes(b"bytes")
    await local.put("p/t1/0.png", first, "image/png")
    (local.root / "p/t1/0.png").unlink()
    (local.root / "p/t1/0.png").symlink_to(elsewhere)
    assert await local.link("p/t1/0.png", "p/t2/0.png", again) is None
