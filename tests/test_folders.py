import errno
from pathlib import Path

import pytest

from receiver.folders import make_folder, sync_folder
from tests.support.disk_faults import folders_that_cannot_be_synced

CANNOT = [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF]
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
