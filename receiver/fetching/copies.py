"""Files whose bytes their owner has already: found before they are stored, and linked instead."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from receiver.errors import Unavailable
from receiver.models import AssetWork, StoredFile
from receiver.ports import LinkingBlobs

# Equal files that come at once wait for the first one. Behind one that takes longer they are stored, too.
LONGEST_WAIT_SECONDS = 10.0

FindCopy = Callable[[str, str], Awaitable[str | None]]  # see ``ports.Store.find_copy``

_Content = tuple[str, str]  # an owner and a SHA-256


class Copies:
    """Links files to equal ones of the same owner; in this process one of them has its turn at a time."""

    def __init__(self, find: FindCopy, blobs: LinkingBlobs) -> None:
        self._find = find
        self._blobs = blobs
        self._firsts: dict[_Content, asyncio.Event] = {}  # whose turn it is: set when that is over
        self._turns: dict[tuple[str, str, int], _Content] = {}  # by file

    async def link(
        self, work: AssetWork, file: StoredFile, source: Path, check: Callable[[], None]
    ) -> StoredFile | None:
        """The file as it is linked, ``source`` being gone; None where it is to be stored.

        Equal ones wait until the turn ends, by when this one is on record. After that and before anything is
        linked ``check`` is called, which may raise. Raises Unavailable.
        """
        self._end_turn(work)
        content = work.owner, file.sha256
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                while (first := self._firsts.get(content)) is not None:
                    await first.wait()
        except TimeoutError:
            return None
        self._firsts[content] = asyncio.Event()
        self._turns[_file(work)] = content
        try:
            stored = await self._find(*content)
        except Unavailable:  # of the record, which is asked again when this ends
            return None
        check()
        key = await self._blobs.link(stored, file.key, source) if stored else None
        return msgspec.structs.replace(file, key=key) if key else None

    @contextmanager
    def turn(self, work: AssetWork) -> Iterator[None]:
        """Whatever turn the file has in the block ends with it."""
        try:
            yield
        finally:
            self._end_turn(work)

    def _end_turn(self, work: AssetWork) -> None:
        content = self._turns.pop(_file(work), None)
        if content is not None:
            self._firsts.pop(content).set()


def _file(work: AssetWork) -> tuple[str, str, int]:
    return work.provider, work.task_id, work.index
