"""One leased asset: downloaded, inspected, stored, settled; a dead link is renewed once."""

import asyncio
import hashlib
import shutil
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import msgspec
import structlog

from receiver import media
from receiver.backoff import Backoff
from receiver.clock import Clock
from receiver.download import Downloaded, DownloadLimits, download
from receiver.errors import FetchFailed, Unavailable
from receiver.leased import AssetWork, Settlement, StoredFile
from receiver.media import MediaInfo
from receiver.network import GuardedClient
from receiver.ports import BlobStore, Store
from receiver.times import to_text
from receiver.words import Outcome

log = structlog.get_logger()

MAX_PART_BYTES = 200  # of a key; file systems take 255

# Of the disk, this part at most is left to the record, which is often on the same one: images can come
# later, but a callback that cannot be recorded is turned away.
RESERVED_PART = 20
MOST_RESERVED_BYTES = 1 << 30

# Worth another try while the link lives. All other failures would only happen again.
RETRIED = frozenset(
    {
        Outcome.DNS_FAILED,
        Outcome.CONNECT_FAILED,
        Outcome.TLS_FAILED,
        Outcome.TIMEOUT,
        Outcome.TOO_SLOW,
        Outcome.INTERRUPTED,
        Outcome.RATE_LIMITED,
        Outcome.HTTP_ERROR,
        Outcome.GONE,
        Outcome.TRUNCATED,
        Outcome.UNAVAILABLE,
        Outcome.STORAGE_FAILED,
        Outcome.CRASHED,
    }
)
# A disk that is full stays so for a while. The wait cannot grow: such a try does not count as an attempt.
STORAGE_WAIT_SECONDS = 30.0
# Right after a task's end a file may not have reached every corner of a CDN yet, and a corner may remember
# for minutes that it had none. After these waits, by attempt, it is there, or the link is dead.
GONE_WAITS_SECONDS = (5.0, 60.0, 600.0)
# A bug of ours does not go away by waiting either.
FEW_ATTEMPTS = {Outcome.GONE: len(GONE_WAITS_SECONDS) + 1, Outcome.CRASHED: 3}


class AssetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored, and how large it may be. ``kinds`` are words from ``media.KINDS``."""

    download: DownloadLimits
    max_pixels: int
    kinds: frozenset[str]


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """What asking a provider for an asset's link anew came to, as of ``at``.

    Without ``links_die_at`` it could not be asked now, and ``retry_at`` is when to come again.
    """

    at: datetime
    detail: str
    retry_at: datetime | None = None
    links: tuple[str, ...] = ()  # of all the task's files, as the provider names them now
    links_die_at: datetime | None = None


Renew = Callable[[AssetWork], Awaitable[Renewal | None]]  # None: the provider cannot be asked at all


class Assets:
    """Settles leased assets, and says in one line of the log how each attempt ended.

    ``renew`` asks the provider for the links anew, once for each file whose link is dead. ``disk_trouble``
    is why our own disk took no file last, if it did not.
    """

    def __init__(self, *, store: Store, fetcher: "Fetcher", renew: Renew) -> None:
        self._store = store
        self._fetcher = fetcher
        self._renew = renew
        self._running: set[tuple[str, str, int]] = set()
        self.disk_trouble: str | None = None

    async def run(self, work: AssetWork) -> Settlement:
        """Fetch one asset, settle it, and say how that ended.

        Raises nothing about the link or what is behind it. Raises Unavailable when the store cannot
        settle, or an attempt whose lease ran out is still at it; then the lease runs out, and the file is
        fetched again. So it is when the caller is cancelled.
        """
        file = work.provider, work.task_id, work.index
        if file in self._running:
            # Two at once could leave the bytes of one under the facts of the other.
            raise Unavailable("an earlier attempt at this file is still running")
        self._running.add(file)
        try:
            return await self._run(work)
        finally:
            self._running.discard(file)

    async def _run(self, work: AssetWork) -> Settlement:
        settlement = await self._fetcher.fetch(work)
        if settlement.outcome is Outcome.GONE and not work.renewed:
            settlement = await self._fetch_anew(work, settlement)
        is_ours = settlement.outcome is Outcome.STORAGE_FAILED
        self.disk_trouble = f"{settlement.outcome}: {settlement.detail}" if is_ours else None
        settled = False
        try:
            settled = await self._store.settle_asset(work, settlement)
        finally:
            _log(work, settlement, settled=settled)
        return settlement

    async def _fetch_anew(self, work: AssetWork, gone: Settlement) -> Settlement:
        """The same attempt goes on with a fresh link, at once: it may live no longer than the first."""
        renewal = await self._renew(work)
        if renewal is None:
            return gone
        if work.index >= len(renewal.links) or renewal.links[work.index] == work.url:
            return _with_renewal(gone, renewal)
        fresh = msgspec.structs.replace(
            work,
            url=renewal.links[work.index],
            deadline_at=renewal.links_die_at or work.deadline_at,
        )
        settlement = await self._fetcher.fetch(fresh)
        return _with_renewal(msgspec.structs.replace(settlement, started_at=gone.started_at), renewal)


def _with_renewal(settlement: Settlement, renewal: Renewal) -> Settlement:
    """How an attempt on a dead link ended, with what the provider said when asked for another."""
    return msgspec.structs.replace(
        settlement,
        settled_at=max(settlement.settled_at, renewal.at),
        retry_at=renewal.retry_at or settlement.retry_at,
        detail="; ".join(filter(None, (settlement.detail, renewal.detail))),
        links=renewal.links,
        links_die_at=renewal.links_die_at,
    )


def _log(work: AssetWork, settlement: Settlement, *, settled: bool) -> None:
    file, retry_at = settlement.file, settlement.retry_at
    write = log.info if file else log.warning
    write(
        "asset.settled",
        provider=work.provider,
        task_id=work.task_id,
        index=work.index,
        outcome=settlement.outcome.value,
        detail=settlement.detail,
        attempt=work.attempt,
        bytes=file.bytes if file else None,
        seconds=round((settlement.settled_at - settlement.started_at).total_seconds(), 3),
        retry_at=to_text(retry_at) if retry_at else None,
        # False: the lease was lost to somebody else, or the store is away. It will be fetched again.
        settled=settled,
    )


class Fetcher:
    """Gets files and stores them; knows nothing of the record.

    ``hosts`` lists, by provider, the only hosts its links may name; a provider without an entry may name
    any public one. ``staging`` holds what is being downloaded, best on the blob store's file system.
    """

    def __init__(
        self,
        *,
        client: GuardedClient,
        blobs: BlobStore,
        clock: Clock,
        staging: Path,
        limits: AssetLimits,
        backoff: Backoff | None = None,
        hosts: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._client = client
        self._blobs = blobs
        self._clock = clock
        self._staging = staging
        self._limits = limits
        self._backoff = backoff or Backoff()
        self._hosts = hosts or {}

    async def fetch(self, work: AssetWork) -> Settlement:
        """One attempt, also when the deadline has passed, since a link's life is often a guess.

        Every failure is an outcome; a retry is planned only where one can help, the last at the deadline.
        """
        started_at = self._clock.now()
        file, failure = None, None
        try:
            file = await self._fetch(work)
        except (FetchFailed, Unavailable) as exc:
            failure = exc
        except Exception as exc:  # noqa: BLE001 - bytes that find a bug of ours must not go round for ever
            failure = FetchFailed(Outcome.CRASHED, _whereabouts(exc))
        settled_at = self._clock.now()
        return Settlement(
            outcome=failure.outcome if failure else Outcome.STORED,
            started_at=started_at,
            settled_at=settled_at,
            retry_at=self._retry_at(work, failure, settled_at) if failure else None,
            detail=str(failure) if failure else None,
            file=file,
        )

    async def _fetch(self, work: AssetWork) -> StoredFile:
        if work.kind in media.KINDS - self._limits.kinds:
            raise FetchFailed(Outcome.NOT_AN_IMAGE, f"the provider calls it {work.kind}, which is not stored")
        path = await asyncio.to_thread(self._new_path)
        try:
            return await self._fetch_to(path, work)
        finally:
            path.unlink(missing_ok=True)

    def _new_path(self) -> Path:
        try:
            self._staging.mkdir(parents=True, exist_ok=True)
            disk = shutil.disk_usage(self._staging)
        except OSError as exc:
            detail = f"no folder for downloads: {exc.strerror}"
            raise FetchFailed(Outcome.STORAGE_FAILED, detail) from exc
        reserve = min(disk.total // RESERVED_PART, MOST_RESERVED_BYTES)
        if disk.free < reserve:
            detail = f"{disk.free >> 20} MiB are free, and the last {reserve >> 20} are kept for the record"
            raise FetchFailed(Outcome.STORAGE_FAILED, detail)
        return self._staging / self._clock.new_id("tmp")

    async def _fetch_to(self, path: Path, work: AssetWork) -> StoredFile:
        limits = self._limits
        got = await download(
            self._client,
            work.url,
            path,
            limits.download,
            clock=self._clock,
            hosts=self._hosts.get(work.provider, ()),
        )
        info = await asyncio.to_thread(
            media.inspect, path, allowed_kinds=limits.kinds, max_pixels=limits.max_pixels
        )
        key = asset_key(work.provider, work.task_id, work.index, info.extension)
        await self._blobs.put(key, path, info.media_type)
        return _stored_file(key, got, info)

    def _retry_at(
        self, work: AssetWork, failure: FetchFailed | Unavailable, now: datetime
    ) -> datetime | None:
        if now >= work.deadline_at:
            return None
        if failure.outcome is Outcome.STORAGE_FAILED:
            return self._retry_storage_at(work, now)
        if failure.outcome not in RETRIED or work.attempt >= FEW_ATTEMPTS.get(failure.outcome, sys.maxsize):
            return None
        is_gone = failure.outcome is Outcome.GONE
        wait = GONE_WAITS_SECONDS[work.attempt - 1] if is_gone else failure.retry_after_seconds
        retry_at = self._backoff.next_at(work.attempt, now, self._clock.random(), at_least_seconds=wait)
        # A wait beyond the deadline is cut short: a last try may save the file, giving up saves nothing.
        return min(retry_at, work.deadline_at) if retry_at else None

    def _retry_storage_at(self, work: AssetWork, now: datetime) -> datetime:
        # A full disk is ours to mend, not the link's fault: it uses up no attempts, and the last try
        # comes at the deadline itself.
        wait = STORAGE_WAIT_SECONDS * (0.5 + self._clock.random())  # not all at once
        return min(now + timedelta(seconds=wait), work.deadline_at)


def _whereabouts(error: Exception) -> str:
    # Type and place, but not its text: that may be the link it choked on.
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"


def _stored_file(key: str, got: Downloaded, info: MediaInfo) -> StoredFile:
    return StoredFile(
        key=key,
        media_type=info.media_type,
        bytes=got.bytes,
        width=info.width,
        height=info.height,
        sha256=got.sha256,
    )


def asset_key(provider: str, task_id: str, index: int, extension: str) -> str:
    """``provider/task_id/index.ext``. Different ids give different keys, and none climbs out."""
    return f"{_key_part(provider)}/{_key_part(task_id)}/{index}.{extension}"


def _key_part(text: str) -> str:
    encoded = quote(text, safe="", errors="surrogatepass")
    if not encoded.strip("."):
        encoded = encoded.replace(".", "%2E")
    if encoded and len(encoded) <= MAX_PART_BYTES:
        return encoded
    # "!" never comes out of the encoding, so no short id equals a shortened one.
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{encoded[:100]}!{digest}"
