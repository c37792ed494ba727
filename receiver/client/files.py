"""A file on its way: written beside, checked, and renamed when it is whole."""

import hashlib
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from receiver.client.errors import DownloadFailed
from receiver.client.events import Asset


class FileBeside:
    """What a reader of ``path`` never sees half of; left by an error, nothing of it stays."""

    def __init__(self, path: Path, asset: Asset) -> None:
        self._path = path
        self._asset = asset
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        self._file = self._part.open("xb")
        self._hash = hashlib.sha256()
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """Raises DownloadFailed once more came than the file has."""
        self._bytes += len(chunk)
        if self._asset.bytes is not None and self._bytes > self._asset.bytes:
            raise DownloadFailed(f"file {self._asset.index} is longer than {self._asset.bytes:,} bytes")
        self._hash.update(chunk)
        self._file.write(chunk)

    def keep(self) -> None:
        """Give it its name. Raises DownloadFailed where it is not the file that was stored."""
        if self._asset.sha256 is not None and self._hash.hexdigest() != self._asset.sha256:
            words = (
                f"file {self._asset.index} came with {self._bytes:,} bytes and another SHA-256 than stored"
            )
            raise DownloadFailed(words)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)
