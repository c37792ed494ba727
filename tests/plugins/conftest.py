"""What every test of a record is followed by."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.recount import check_counts, is_record


@pytest.fixture(autouse=True)
def counted_right(tmp_path: Path) -> Iterator[None]:
    """Whatever a test did to its record, the counts are right when it ends."""
    yield
    path = tmp_path / "receiver.db"
    if path.is_file() and is_record(path):
        check_counts(path)
