"""What every blob store must do, wherever its bytes live.

A subclass calls itself ``Test…`` and has a fixture ``blobs`` with an empty store.
"""

import asyncio
import os
from pathlib import Path

import pytest

from receiver.ports import BlobStore, LinkingBlobs

KEYS = [
    "vidgo/task-1/0.png",
    "a/b/c/d.e",
    "x",
    "p/%2E%2E/0.png",
    "p/a%2Fb/0.png",
    f"p/{'a' * 200}/0.png",
    "p/a!b~c/0",
]


async def read(blobs: BlobStore, key: str, start: int = 0, length: int = 1 << 40) -> bytes:
    return b"".join([part async for part in blobs.open(key, start, length)])


class LinkingContract:
    """Inherited by one test class per blob store that links equal files."""

    async def test_a_linked_file_is_read_under_its_key_and_the_new_one_is_gone(
        self, blobs: BlobStore, tmp_path: Path
    ) -> None:
        assert isinstance(blobs, LinkingBlobs)
        first, again = _file(tmp_path, b"bytes"), _file(tmp_path, b"bytes")
        await blobs.put("p/t1/0.png", first, "image/png")
        key = await blobs.link("p/t1/0.png", "p/t2/1.png", again)
        assert key == ("p/t1/0.png" if blobs.root is None else "p/t2/1.png")
        assert await read(blobs, key) == await read(blobs, "p/t1/0.png") == b"bytes"
        assert not again.exists()

    @pytest.mark.parametrize("data", [b"longer bytes", b"", None])
    async def test_what_is_gone_or_another_file_is_not_linked_to(
        self, blobs: BlobStore, tmp_path: Path, data: bytes | None
    ) -> None:
        assert isinstance(blobs, LinkingBlobs)
        if data is not None:
            await blobs.put("p/t1/0.png", _file(tmp_path, data), "image/png")
        source = _file(tmp_path, b"bytes")
        assert await blobs.link("p/t1/0.png", "p/t2/0.png", source) is None
        assert source.read_bytes() == b"bytes"
        with pytest.raises(FileNotFoundError):
            await read(blobs, "p/t2/0.png")

    @pytest.mark.parametrize(("stored", "key"), [("../x", "p/t/0"), ("p/t/0", "../x")])
    async def test_no_key_of_a_link_climbs_out(
        self, blobs: BlobStore, tmp_path: Path, stored: str, key: str
    ) -> None:
        assert isinstance(blobs, LinkingBlobs)
        with pytest.raises(ValueError, match="key"):
            await blobs.link(stored, key, _file(tmp_path, b"bytes"))


def _file(folder: Path, data: bytes) -> Path:
    path = folder / f"source-{os.urandom(4).hex()}"
    path.write_bytes(data)
    return path


class BlobContract:
    """Inherited by one test class per blob store."""

    async def put(self, blobs: BlobStore, folder: Path, key: str, data: bytes) -> Path:
        source = _file(folder, data)
        await blobs.put(key, source, "image/png")
        return source

    @pytest.mark.parametrize("key", KEYS)
    async def test_what_was_put_is_read_back(self, blobs: BlobStore, tmp_path: Path, key: str) -> None:
        source = await self.put(blobs, tmp_path, key, b"bytes")
        assert await read(blobs, key) == b"bytes"
        assert not source.exists()

    async def test_an_empty_file_is_a_file(self, blobs: BlobStore, tmp_path: Path) -> None:
        await self.put(blobs, tmp_path, "p/t/0", b"")
        assert await read(blobs, "p/t/0") == b""

    async def test_a_large_file_comes_back_in_chunks(self, blobs: BlobStore, tmp_path: Path) -> None:
        data = os.urandom(3_000_001)
        await self.put(blobs, tmp_path, "p/t/0", data)
        chunks = [part async for part in blobs.open("p/t/0", 0, len(data))]
        assert b"".join(chunks) == data
        assert max(map(len, chunks)) <= 1 << 20

    @pytest.mark.parametrize(
        ("start", "length"), [(0, 1), (0, 10), (3, 4), (9, 1), (9, 100), (10, 5), (99, 5), (0, 0), (5, 0)]
    )
    async def test_a_part_is_read_as_asked(
        self, blobs: BlobStore, tmp_path: Path, start: int, length: int
    ) -> None:
        await self.put(blobs, tmp_path, "p/t/0", b"0123456789")
        assert await read(blobs, "p/t/0", start, length) == b"0123456789"[start : start + length]

    async def test_the_same_key_again_replaces(self, blobs: BlobStore, tmp_path: Path) -> None:
        await self.put(blobs, tmp_path, "p/t/0", b"old and long")
        await self.put(blobs, tmp_path, "p/t/0", b"new")
        assert await read(blobs, "p/t/0") == b"new"

    async def test_a_reader_sees_the_old_bytes_or_the_new_ones(
        self, blobs: BlobStore, tmp_path: Path
    ) -> None:
        old, new = b"o" * 2_000_000, b"n" * 2_000_000
        await self.put(blobs, tmp_path, "p/t/0", old)
        reading = blobs.open("p/t/0", 0, len(old))
        seen = await anext(reading)
        await self.put(blobs, tmp_path, "p/t/0", new)
        seen += b"".join([part async for part in reading])
        assert seen in (old, new)
        assert await read(blobs, "p/t/0") == new

    async def test_racing_writers_leave_one_whole_file(self, blobs: BlobStore, tmp_path: Path) -> None:
        versions = [bytes([number]) * 500_000 for number in range(8)]
        await asyncio.gather(*(self.put(blobs, tmp_path, "p/t/0", data) for data in versions))
        assert await read(blobs, "p/t/0") in versions

    async def test_many_keys_at_once_all_arrive(self, blobs: BlobStore, tmp_path: Path) -> None:
        keys = [f"p/t{number % 5}/{number}.png" for number in range(40)]
        await asyncio.gather(*(self.put(blobs, tmp_path, key, key.encode()) for key in keys))
        assert [await read(blobs, key) for key in keys] == [key.encode() for key in keys]

    async def test_what_was_never_put_is_not_found(self, blobs: BlobStore, tmp_path: Path) -> None:
        await self.put(blobs, tmp_path, "p/t/0", b"bytes")
        for key in ("p/t/1", "p/u/0", "q/t/0", "p/t", "p/t/0/x"):
            with pytest.raises(FileNotFoundError):
                await read(blobs, key)

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "p/../../x",
            "p/..",
            "p/./x",
            "p//x",
            "p/",
            "p/\0",
            "p\\..\\x",
            "p/…",
        ],
    )
    async def test_no_key_climbs_out(self, blobs: BlobStore, tmp_path: Path, key: str) -> None:
        with pytest.raises(ValueError, match="key"):
            await self.put(blobs, tmp_path, key, b"bytes")
        with pytest.raises(ValueError, match="key"):
            await read(blobs, key)

    async def test_a_ping_proves_it_works_and_leaves_nothing(self, blobs: BlobStore) -> None:
        await blobs.ping()
        await blobs.ping()
        with pytest.raises(FileNotFoundError):
            await read(blobs, "ping")

    @pytest.mark.parametrize("key", KEYS)
    async def test_where_files_are_on_this_machine_each_lies_under_its_key(
        self, blobs: BlobStore, tmp_path: Path, key: str
    ) -> None:
        await self.put(blobs, tmp_path, key, b"bytes")
        assert blobs.root is None or (blobs.root / key).read_bytes() == b"bytes"
