"""One leased asset: download, inspect, store and settle it; renew a dead link once."""

import asyncio
import shutil
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import structlog

from receiver.asset_keys import asset_key
from receiver.backoff import Backoff
from receiver.clock import Clock
from receiver.errors import FetchFailed, NoFileYet, Unavailable
from receiver.fetching import media
from receiver.fetching.client import GuardedClient
from receiver.fetching.copies import Copies
from receiver.fetching.download import Downloaded, DownloadLimits, DownloadThreads, Take, download
from receiver.fetching.inline import Bodies, unpack
from receiver.fetching.quota import Quotas
from receiver.links import is_inline
from receiver.models import AssetWork, Outcome, Renewal, Settlement, StoredFile
from receiver.ports import BlobStore, Store
from receiver.times import to_text

log = structlog.get_logger()

# Of the disk, this part at most is left to the record, which is often on the same one: images can come
# later, but a callback that cannot be recorded is turned away.
RESERVED_PART = 20
MOST_RESERVED_BYTES = 1 << 30

# Worth another try while the link lives. Of all others, only what is missing may come, in a while.
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
        Outcome.TRUNCATED,
        Outcome.UNAVAILABLE,
        Outcome.STORAGE_FAILED,
        Outcome.CRASHED,
    }
)
# Of a file that stands in a kept body, which stays as it is, only what has nothing to do with that.
UNPACKED_AGAIN = frozenset({Outcome.TIMEOUT, Outcome.UNAVAILABLE, Outcome.CRASHED})
LOOK_EVERY = timedelta(seconds=1)  # at the disk: what a second brings, the reserve has room for
# A disk that is full stays so for a while. The wait cannot grow: such a try does not count as an attempt.
STORAGE_WAIT_SECONDS = 30.0
# Right after a task's end a file may not have reached every corner of a CDN yet, and a corner may remember
# for minutes that it had none; some hosts show a page until it is there. After these waits, one after the
# other, it is there, or the link is dead.
GONE_WAITS_SECONDS = (5.0, 60.0, 600.0)
# A bug of ours does not go away by waiting either. Only attempts in a row that ended alike are counted.
MOST_CRASHES = 3


class AssetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored, and how large it may be. ``kinds`` are words from ``media.KINDS``."""

    download: DownloadLimits
    max_task_bytes: int  # of all files of a task together
    max_pixels: int
    kinds: frozenset[str]


Renew = Callable[[AssetWork], Awaitable[Renewal | None]]  # None: the provider cannot be asked at all


class AssetFetcher:
    """Settles leased assets, and logs in one line how each attempt ended.

    ``renew`` asks the provider for the links anew, once for each file whose link is dead.
    """

    def __init__(self, *, store: Store, fetcher: "Fetcher", renew: Renew) -> None:
        self._store = store
        self._fetcher = fetcher
        self._renew = renew
        self._running: dict[tuple[str, str, int], AssetWork] = {}

    async def run(self, work: AssetWork) -> Settlement:
        """Fetch one asset, settle it, and return how that ended.

        Raises nothing about the link or what is behind it. Raises Unavailable when the store cannot
        settle: the lease runs out and the file is fetched again, as it is after a cancellation. Raises
        Unavailable, too, while an earlier attempt whose lease ran out is still running: that one goes on
        under the new lease, since two at once could leave the bytes of one under the facts of the other.
        """
        file = work.provider, work.task_id, work.index
        if file in self._running:
            self._running[file] = work
            raise Unavailable(
                "an earlier attempt at this file is still running, and goes on under this lease"
            )
        self._running[file] = work
        try:
            with self._fetcher.quotas.hold(work), self._fetcher.turn(work):  # until it is settled
                settlement = await self._fetcher.fetch(work)
                if settlement.link_may_be_dead and not work.renewed:
                    settlement = await self._fetch_anew(work, settlement)
                settled = False
                try:
                    settled = await self._store.settle_asset(self._running[file], settlement)
                finally:
                    _log(work, settlement, settled=settled)
                return settlement
        finally:
            del self._running[file]

    def disk_problem(self) -> str | None:
        """Why our own disk takes no files, if it does not."""
        return self._fetcher.disk_problem()

    async def _fetch_anew(self, work: AssetWork, gone: Settlement) -> Settlement:
        """Go on with a fresh link in the same attempt, at once: it may live no longer than the first."""
        renewal = await self._renew(work)
        if renewal is None:
            return gone
        link = renewal.links.get(work.index, work.url)
        if link == work.url:
            return _with_renewal(gone, renewal)
        dies_at = renewal.links_die_at or work.deadline_at
        fresh = msgspec.structs.replace(work, url=link, deadline_at=dies_at)
        settlement = await self._fetcher.fetch(fresh)
        return _with_renewal(msgspec.structs.replace(settlement, started_at=gone.started_at), renewal)


def _with_renewal(settlement: Settlement, renewal: Renewal) -> Settlement:
    """The settlement of an attempt on a dead link, with the provider's answer about another link."""
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
    any public one. ``staging`` holds what is being downloaded, best on the blob store's file system. Without
    ``copies`` every file is stored, whatever is there already.
    ``bodies`` gives what files are unpacked from that came without a link.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each a thing of its own
        self,
        *,
        client: GuardedClient,
        blobs: BlobStore,
        clock: Clock,
        staging: Path,
        limits: AssetLimits,
        bodies: Bodies,
        backoff: Backoff | None = None,
        hosts: Mapping[str, tuple[str, ...]] | None = None,
        copies: Copies | None = None,
    ) -> None:
        self._client = client
        self._blobs = blobs
        self._clock = clock
        self._staging = staging
        self._limits = limits
        self._bodies = bodies
        self._unpacking = asyncio.Lock()  # one body at a time is in memory: it may be large
        self.quotas = Quotas(limits.max_task_bytes)
        self._backoff = backoff or Backoff()
        self._hosts = hosts or {}
        self._copies = copies
        self._threads = DownloadThreads()
        self._look = partial(media.inspect, allowed_kinds=limits.kinds, max_pixels=limits.max_pixels)
        self._room_seen_at: timedelta | None = None  # in uptime
        self._disk_trouble: tuple[str, timedelta] | None = None  # what it was, and when in uptime

    def turn(self, work: AssetWork) -> AbstractContextManager[None]:
        """A block by whose end a file is settled: what is equal to it waits until then."""
        return nullcontext() if self._copies is None else self._copies.turn(work)

    def disk_problem(self) -> str | None:
        """Why our own disk takes no files, if it did not when it was last tried, a moment ago."""
        if self._disk_trouble is None:
            return None
        text, met_at = self._disk_trouble
        is_news = self._clock.uptime() - met_at < timedelta(seconds=2 * STORAGE_WAIT_SECONDS)
        return text if is_news else None

    async def fetch(self, work: AssetWork) -> Settlement:
        """One attempt, also when the deadline has passed, since a link's life is often a guess.

        Every failure is an outcome; a retry is planned only where one can help, the last at the deadline.
        """
        started_at = self._clock.now()
        file, failure, good = None, None, Outcome.STORED
        try:
            file, good = await self._fetch(work)
        except (FetchFailed, Unavailable) as exc:
            failure = exc
        except Exception as exc:  # noqa: BLE001 - bytes that find a bug of ours must not go round for ever
            # Type and place, but not its text: that may be the link it choked on.
            last = traceback.extract_tb(exc.__traceback__)[-1]
            where = f"{type(exc).__name__} in {Path(last.filename).name}, line {last.lineno}"
            failure = FetchFailed(Outcome.CRASHED, where)
        settled_at = self._clock.now()
        if failure is None:
            self._disk_trouble = None
        elif failure.outcome is Outcome.STORAGE_FAILED:
            self._disk_trouble = f"{failure.outcome}: {failure}", self._clock.uptime()
        return Settlement(
            outcome=failure.outcome if failure else good,
            started_at=started_at,
            settled_at=settled_at,
            retry_at=self._retry_at(work, failure, settled_at) if failure else None,
            detail=str(failure) if failure else None,
            file=file,
            # A host may have words of its own for a link that died: any refusal may mean that.
            link_may_be_dead=failure is not None
            and (_is_missing(failure) or failure.outcome is Outcome.REFUSED)
            and not is_inline(work.url),
        )

    async def _fetch(self, work: AssetWork) -> tuple[StoredFile, Outcome]:
        if work.kind in media.KINDS - self._limits.kinds:
            raise FetchFailed(Outcome.NOT_AN_IMAGE, f"the provider calls it {work.kind}, which is not stored")
        with self.quotas.share(work) as share:
            await self._look_at_disk()
            path = self._staging / self._clock.new_id("tmp")
            try:
                got, info = await (self._unpack if is_inline(work.url) else self._download)(
                    work, path, share.take
                )
                file = StoredFile(
                    key=asset_key(work.provider, work.task_id, work.index, info.extension),
                    media_type=info.media_type,
                    bytes=got.bytes,
                    width=info.width,
                    height=info.height,
                    sha256=got.sha256,
                )
                return await self._keep(work, file, path)
            except BaseException:  # else the blob store has taken it
                path.unlink(missing_ok=True)
                raise

    async def _download(self, work: AssetWork, path: Path, take: Take) -> tuple[Downloaded, media.MediaInfo]:
        return await download(
            self._client,
            work.url,
            path,
            self._limits.download,
            clock=self._clock,
            take=take,
            look=self._look,
            threads=self._threads,
            hosts=self._hosts.get(work.provider, ()),
        )

    async def _unpack(self, work: AssetWork, path: Path, take: Take) -> tuple[Downloaded, media.MediaInfo]:
        async with self._unpacking:
            return await unpack(
                await self._bodies(work.provider, work.task_id),
                work.url,
                path,
                self._limits.download,
                take=take,
                look=self._look,
                threads=self._threads,
            )

    async def _keep(self, work: AssetWork, file: StoredFile, source: Path) -> tuple[StoredFile, Outcome]:
        """Link a file to an equal one, or store it; under which key it is then."""
        if self._copies is not None:
            check = partial(self._check_still_ours, work)
            linked = await self._copies.link(work, file, source, check)
            if linked is not None:
                return linked, Outcome.LINKED
        self._check_still_ours(work)
        await self._blobs.put(file.key, source, file.media_type)
        return file, Outcome.STORED

    def _check_still_ours(self, work: AssetWork) -> None:
        if work.void_at is not None and self._clock.uptime() >= work.void_at:
            raise FetchFailed(Outcome.TIMEOUT, "it took longer than it was this process's to fetch")

    async def _look_at_disk(self) -> None:
        """Raises FetchFailed where there is no room. Files that begin within a second share one look."""
        now = self._clock.uptime()
        if self._room_seen_at is not None and now - self._room_seen_at < LOOK_EVERY:
            return
        self._room_seen_at = None
        await asyncio.to_thread(self._check_disk)
        self._room_seen_at = now

    def _check_disk(self) -> None:
        try:
            self._staging.mkdir(parents=True, exist_ok=True)
            disk = shutil.disk_usage(self._staging)
        except OSError as exc:
            detail = f"no folder for downloads: {exc.strerror}"
            raise FetchFailed(Outcome.STORAGE_FAILED, detail) from exc
        reserve = reserved_bytes(disk.total)
        if disk.free < reserve:
            detail = f"{disk.free >> 20} MiB are free, and the last {reserve >> 20} are kept for the record"
            raise FetchFailed(Outcome.STORAGE_FAILED, detail)

    def _retry_at(
        self, work: AssetWork, failure: FetchFailed | Unavailable, now: datetime
    ) -> datetime | None:
        if now >= work.deadline_at:
            return None
        if failure.outcome is Outcome.STORAGE_FAILED:
            # A full disk is ours to mend, not the link's fault: it uses up no attempts, and the last try
            # comes at the deadline itself.
            wait_seconds = STORAGE_WAIT_SECONDS * (0.5 + self._clock.random())  # not all at once
            return min(now + timedelta(seconds=wait_seconds), work.deadline_at)
        # How many attempts in a row may end alike before the file is given up.
        if is_inline(work.url) and failure.outcome not in UNPACKED_AGAIN:
            most_alike = 1
        elif _is_missing(failure):
            most_alike = len(GONE_WAITS_SECONDS) + 1
        elif failure.outcome is Outcome.CRASHED:
            most_alike = MOST_CRASHES
        else:
            most_alike = sys.maxsize if failure.outcome in RETRIED else 1
        alike = 1 + (work.alike if work.last is failure.outcome else 0)
        if alike >= most_alike:
            return None
        wait = GONE_WAITS_SECONDS[alike - 1] if _is_missing(failure) else failure.retry_after_seconds
        retry_at = self._backoff.next_at(work.attempt, now, self._clock.random(), at_least_seconds=wait)
        # A wait beyond the deadline is cut short: a last try may save the file, giving up saves nothing.
        return min(retry_at, work.deadline_at) if retry_at else None


def _is_missing(failure: FetchFailed | Unavailable) -> bool:
    return failure.outcome is Outcome.GONE or isinstance(failure, NoFileYet)


def reserved_bytes(disk_bytes: int) -> int:
    """The bytes of such a disk that are kept for the record: with fewer free, nothing is downloaded."""
    return min(disk_bytes // RESERVED_PART, MOST_RESERVED_BYTES)
