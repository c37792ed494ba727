"""From a stored image to its thumbnail: which may have one, who waits for it, and what was refused."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog

from receiver.errors import Rejected, Unavailable
from receiver.models import Asset, AssetState
from receiver.ports import BlobStore
from receiver.problem_types import ProblemType
from receiver.thumbnails.cache import ThumbnailCache, is_whole
from receiver.thumbnails.process import DrawingProcess, Job, ProcessDied, pillow_folder
from receiver.thumbnails.wire import MOST_FILE_BYTES, MOST_PIXELS, Answer

# The longest edge in pixels, and the bytes that quality is lowered for.
EDGES: Mapping[int, int] = {320: 24_000, 1280: 240_000}
TYPES = frozenset(f"image/{name}" for name in ("jpeg", "png", "webp", "gif", "avif"))

MOST_WAITING = 64
IDLE_SECONDS = 60.0
REFUSED_SECONDS = 600.0  # before a file over which the process died is tried once more
MOST_REFUSED = 1_000

_REASONS = {
    Answer.TOO_MANY_PIXELS: f"it has more than {MOST_PIXELS:,} pixels",
    Answer.NOT_READABLE: "its pixels cannot be read",
    Answer.TOO_MUCH_MEMORY: "it needs too much memory",
}

log = structlog.get_logger()


class _Wanted:
    """One image that is being made, and for how many."""

    def __init__(self, task: "asyncio.Task[bytes]") -> None:
        self.task = task
        self.waiting = 0


class Thumbnailer:
    """Makes thumbnails, one at a time, each once for all that want it, and keeps them."""

    def __init__(self, blobs: BlobStore, cache: ThumbnailCache) -> None:
        pillow = pillow_folder()
        self.is_installed = pillow is not None  # what decodes images
        self._blobs = blobs
        self._cache = cache
        self._process = DrawingProcess(pillow)
        self._turn = asyncio.Lock()
        self._wanted: dict[str, _Wanted] = {}
        self._begun: str | None = None  # the name of what is being drawn
        self._refused: OrderedDict[str, tuple[str, float]] = OrderedDict()  # by hash: why, and until when
        self._resting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that draws, while there is one."""
        return self._process.pid

    def can_draw(self, asset: Asset) -> bool:
        """Whether a file may have a thumbnail, by what is on record of it."""
        return self._obstacle(asset) is None

    async def get(self, asset: Asset, edge: int) -> bytes:
        """The WebP image of a stored file, no side longer than ``edge``, one of ``EDGES``.

        Raises Rejected where it can have none or is missing, Unavailable where too many wait or its bytes
        cannot be had now.
        """
        reason = self._obstacle(asset) or self._why_refused(asset)
        if reason is not None:
            raise Rejected(ProblemType.NO_THUMBNAIL, f"This file has no thumbnail: {reason}.")
        name = f"{asset.sha256}-{edge}.webp"
        return await self._cache.get(name) or await self._shared(name, asset, edge)

    async def aclose(self) -> None:
        """Make no more, and end the process."""
        await _cancelled(*(wanted.task for wanted in self._wanted.values()))
        if self._resting:
            await _cancelled(self._resting)
        await self._process.end(at_once=True)

    def _obstacle(self, asset: Asset) -> str | None:
        if not self.is_installed:
            return "this service draws none, as the thumbnails extra is not installed"
        if asset.state is not AssetState.STORED or asset.key is None:
            return f"it is {asset.state}"
        if asset.media_type not in TYPES:
            return f"it is {asset.media_type or 'of no known type'}, which is not drawn"
        if (asset.bytes or 0) > MOST_FILE_BYTES:
            return f"it has more than {MOST_FILE_BYTES >> 20} MiB"
        if (asset.width or 0) * (asset.height or 0) > MOST_PIXELS:
            return _REASONS[Answer.TOO_MANY_PIXELS]
        return None

    def _why_refused(self, asset: Asset) -> str | None:
        reason, until = self._refused.get(asset.sha256 or "", (None, 0.0))
        return reason if until > asyncio.get_running_loop().time() else None

    async def _shared(self, name: str, asset: Asset, edge: int) -> bytes:
        """What one task makes for all that ask for it; it is given up when nobody waits any more."""
        wanted = self._wanted.get(name)
        if wanted is None:
            if len(self._wanted) > MOST_WAITING:  # and one is being drawn
                raise Unavailable("too many images wait to be drawn", retry_after_seconds=1)
            wanted = self._wanted[name] = _Wanted(asyncio.create_task(self._make(name, asset, edge)))
            wanted.task.add_done_callback(partial(self._forget, name))
        wanted.waiting += 1
        try:
            return await asyncio.shield(wanted.task)
        finally:
            wanted.waiting -= 1
            if not wanted.waiting and self._begun != name:
                self._forget(name, wanted.task)
                wanted.task.cancel()

    def _forget(self, name: str, task: "asyncio.Task[bytes]") -> None:
        if name in self._wanted and self._wanted[name].task is task:
            del self._wanted[name]
        if task.done() and not task.cancelled():
            task.exception()  # it has been told to whoever waited, if anybody did

    async def _make(self, name: str, asset: Asset, edge: int) -> bytes:
        async with self._turn:
            self._begun = name
            if self._resting:
                self._resting.cancel()
            try:
                image = await self._draw(asset, edge)
            finally:
                self._begun = None
                self._resting = asyncio.create_task(self._rest())
        await self._cache.put(name, image)
        return image

    async def _draw(self, asset: Asset, edge: int) -> bytes:
        """The image. A process that dies over a file gets it once more: something else may have ended it."""
        try:
            try:
                answer, image = await self._ask(asset, edge)
            except ProcessDied:
                answer, image = await self._ask(asset, edge)
        except ProcessDied as exc:
            raise self._refuse(asset, f"drawing it failed twice, as {exc}") from exc
        except FileNotFoundError as exc:
            log.error("asset.missing", key=asset.key)  # noqa: TRY400 - where it was missed says nothing
            gone = "The file was stored once and is not there any more."
            raise Rejected(ProblemType.FILE_MISSING, gone) from exc
        if answer is not Answer.DRAWN or not is_whole(image):
            raise self._refuse(asset, _REASONS.get(answer, "what was drawn is no image"))
        return image

    async def _ask(self, asset: Asset, edge: int) -> tuple[Answer, bytes]:
        job = Job(edge=edge, most_bytes=EDGES[edge], file_bytes=asset.bytes or 0)
        return await self._process.draw(job, self._blobs.open(asset.key or "", 0, job.file_bytes))

    def _refuse(self, asset: Asset, reason: str) -> Rejected:
        """Remember for a while that it cannot be drawn; what is said of it."""
        log.warning("thumbnail.refused", key=asset.key, reason=reason)
        until = asyncio.get_running_loop().time() + REFUSED_SECONDS
        self._refused[asset.sha256 or ""] = reason, until
        if len(self._refused) > MOST_REFUSED:
            self._refused.popitem(last=False)
        return Rejected(ProblemType.NO_THUMBNAIL, f"This file has no thumbnail: {reason}.")

    async def _rest(self) -> None:
        """End the process when nobody has wanted anything for a while."""
        await asyncio.sleep(IDLE_SECONDS)
        async with self._turn:
            await self._process.end()


async def _cancelled(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
