import errno
import os
from pathlib import Path

import pytest

from receiver.folders import make_folder, sync_folder, take_folder
from tests.support.disk_faults import folders_that_cannot_be_synced

CANNOT = [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF]
UNFINISHED = f"tmp_{'0' * 32}"  # the name of a download on its way
FAILED = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS]


@pytest.mark.parametrize("number", CANNOT)
def test_a_folder_that_cannot_be_synced_has_nothing_to_sync(tmp_path: Path, number: int) -> None:
    with folders_that_cannot_be_synced(number) as tried:
        sync_folder(tmp_path)
        make_folder(tmp_path / "a" / "b")
    assert tried == [str(tmp_path), str(tmp_path), str(tmp_path / "a")]
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("number", FAILED)
def test_a_folder_whose_sync_fails_is_an_error(tmp_path: Path, number: int) -> None:
    with folders_that_cannot_be_synced(number), pytest.raises(OSError) as caught:
        sync_folder(tmp_path)
    assert caught.value.errno == number


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    with folders_that_cannot_be_synced(errno.EIO) as tried:
        make_folder(tmp_path)
    assert tried == []


def test_what_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "missing")


def test_whoever_takes_a_folder_finds_it_empty_and_has_it_for_itself(tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    (tmp_path / f"incoming/{UNFINISHED}").write_bytes(b"half")
    folder, handle = take_folder(tmp_path, "incoming")
    (folder / "mine").touch()
    other, another = take_folder(tmp_path, "incoming")
    try:
        assert (folder.name, other.name) == ("incoming", "incoming.2")
        assert [path.name for path in folder.iterdir()] == ["mine"]
    finally:
        os.close(handle)
        os.close(another)


def test_a_folder_whose_holder_is_gone_is_taken_and_emptied(tmp_path: Path) -> None:
    folder, handle = take_folder(tmp_path, "incoming")
    (folder / UNFINISHED).touch()
    os.close(handle)  # as the system does it for a process that was killed
    again, handle = take_folder(tmp_path, "incoming")
    os.close(handle)
    assert (again, list(again.iterdir())) == (folder, [])


def test_what_others_have_in_a_folder_of_that_name_stays(tmp_path: Path) -> None:
    theirs = [tmp_path / "incoming" / name for name in ("record.db", f"{UNFINISHED}.d/a.pdf", "tmp_1", ".a")]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious")
    (tmp_path / "incoming" / UNFINISHED).symlink_to(theirs[0])
    folder, handle = take_folder(tmp_path, "incoming")
    os.close(handle)
    assert [path.read_bytes() for path in (*theirs, folder / UNFINISHED)] == [b"precious"] * 5


def test_a_link_in_the_place_of_a_folder_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    (tmp_path / "incoming").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        take_folder(tmp_path, "incoming")
    assert (tmp_path / "precious/file").exists()
