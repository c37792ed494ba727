import asyncio
import os
import struct
import zlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from receiver.asset_keys import MAX_PART_BYTES, asset_key
from receiver.backoff import Backoff
from receiver.blobs.local import LocalBlobs
from receiver.errors import Unavailable
from receiver.fetching import media
from receiver.fetching.client import GuardedClient
from receiver.fetching.download import DownloadLimits
from receiver.fetching.fetcher import RETRIED, AssetFetcher, AssetLimits, Fetcher
from receiver.models import (
    AssetState,
    AssetWork,
    EventType,
    Outcome,
    RemoteFile,
    Renewal,
    Stage,
    StoredFile,
    TaskState,
)
from receiver.options import StoreOptions
from receiver.stores.sqlite import SqliteStore
from receiver.testing import TurnableClock
from tests.contracts.replaying import replay, start_replay, step_replay
from tests.support.blank_record import lay_blank_record
from tests.support.factories import asset_work as work
from tests.support.factories import completed, no_bodies, recording, submission
from tests.support.media_host import Answer, MediaHost, picture, redirects, repeats, says, writes
from tests.support.waiting import until

LIMITS = AssetLimits(
    download=DownloadLimits(max_bytes=100_000, deadline_seconds=60),
    max_task_bytes=300_000,
    max_pixels=1_000_000,
    kinds=frozenset({media.IMAGE}),
)


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "assets")


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
def fetcher(client: GuardedClient, blobs: LocalBlobs, clock: TurnableClock) -> Fetcher:
    return Fetcher(
        client=client, blobs=blobs, clock=clock, staging=blobs.staging, limits=LIMITS, bodies=no_bodies
    )


def claims_to_be(width: int, height: int) -> bytes:
    """The beginning of a PNG of this size."""
    header = b"IHDR" + struct.pack(">II", width, height) + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header))


def left_behind(blobs: LocalBlobs) -> list[str]:
    return [path.name for path in blobs.staging.iterdir()] if blobs.staging.exists() else []


# --- fetching -------------------------------------------------------------------------------------


async def test_an_image_is_stored_under_its_key_with_its_facts(
    host: MediaHost, fetcher: Fetcher, blobs: LocalBlobs, clock: TurnableClock
) -> None:
    data = picture()
    # Neither the name nor the header is believed.
    url = host.put("/secret.html", says(200, data, "content-type: text/html"))
    settlement = await fetcher.fetch(work(url))
    assert settlement.outcome is Outcome.STORED
    assert (settlement.retry_at, settlement.detail, settlement.settled_at) == (None, None, clock.now())
    assert settlement.file == StoredFile(
        key="vidgo/t%2F1/0.png",
        media_type="image/png",
        bytes=len(data),
        width=64,
        height=48,
        sha256=sha256(data).hexdigest(),
    )
    assert (blobs.root / "vidgo/t%2F1/0.png").read_bytes() == data
    assert left_behind(blobs) == []


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (says(200, b"\x7fELF\2\1\1\0", "content-type: image/png"), Outcome.NOT_AN_IMAGE),
        (says(200, b"<svg xmlns='x'/>", "content-type: image/svg+xml"), Outcome.NOT_AN_IMAGE),
        (says(200, b"\xff\xfb" + b"x" * 99, "content-type: image/png"), Outcome.NOT_AN_IMAGE),
        (says(200, picture()[:-20]), Outcome.TRUNCATED),
        (says(200, picture(), length=len(picture()) - 20), Outcome.TRUNCATED),
        (says(200, picture(), length=len(picture()) + 20), Outcome.INTERRUPTED),
        (says(200), Outcome.TRUNCATED),
        (says(200, b"x" * 100_001), Outcome.TOO_LARGE),
        (repeats(b"x" * 10_000), Outcome.TOO_LARGE),
        (says(200, claims_to_be(60_000, 60_000)), Outcome.TOO_MANY_PIXELS),
        (says(403), Outcome.GONE),
        (says(404), Outcome.GONE),
        (says(429), Outcome.RATE_LIMITED),
        (says(500), Outcome.HTTP_ERROR),
        (says(400), Outcome.GONE),
        (says(401), Outcome.GONE),
        (says(451), Outcome.REFUSED),
        (redirects("http://169.254.169.254/"), Outcome.PRIVATE_ADDRESS),
        (redirects("/x"), Outcome.BAD_REDIRECT),
        (writes(b"nonsense\r\n\r\n"), Outcome.INTERRUPTED),
    ],
)
async def test_a_failure_is_an_outcome_and_stores_nothing(
    host: MediaHost, fetcher: Fetcher, blobs: LocalBlobs, answer: Answer, outcome: Outcome
) -> None:
    settlement = await fetcher.fetch(work(host.put("/x", answer)))
    assert settlement.outcome is outcome
    assert settlement.file is None
    assert settlement.detail
    assert "127.0.0.1" not in settlement.detail
    assert (settlement.retry_at is not None) == (outcome in RETRIED | {Outcome.GONE})
    assert left_behind(blobs) == []
    assert not (blobs.root / "vidgo").exists()


async def test_a_host_that_trickles_is_an_outcome_and_stores_nothing(
    client: GuardedClient, host: MediaHost, blobs: LocalBlobs, clock: TurnableClock
) -> None:
    short = msgspec.structs.replace(LIMITS.download, window_seconds=0.1)
    limits = msgspec.structs.replace(LIMITS, download=short)
    fetcher = Fetcher(
        client=client, blobs=blobs, clock=clock, staging=blobs.staging, limits=limits, bodies=no_bodies
    )
    settlement = await fetcher.fetch(work(host.put("/x", repeats(b"x", pause_seconds=0.02))))
    assert (settlement.outcome, settlement.file) == (Outcome.TOO_SLOW, None)
    assert settlement.retry_at is not None
    assert left_behind(blobs) == []


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("https://10.0.0.1/x", Outcome.PRIVATE_ADDRESS),
        ("ftp://127.0.0.1/x", Outcome.BAD_URL),
        ("", Outcome.BAD_URL),
        ("\ud800", Outcome.BAD_URL),
    ],
)
async def test_a_link_that_may_not_be_fetched_is_final(fetcher: Fetcher, url: str, outcome: Outcome) -> None:
    settlement = await fetcher.fetch(work(url))
    assert (settlement.outcome, settlement.retry_at) == (outcome, None)


async def test_a_provider_with_a_list_of_hosts_is_held_to_it(
    host: MediaHost, client: GuardedClient, blobs: LocalBlobs, clock: TurnableClock
) -> None:
    hosts = {"vidgo": ("storage.vidgo.ai",), "apixo": ("127.0.0.1",)}
    fetcher = Fetcher(
        client=client,
        blobs=blobs,
        clock=clock,
        staging=blobs.staging,
        limits=LIMITS,
        hosts=hosts,
        bodies=no_bodies,
    )
    url = host.put("/x", says(200, picture()))
    outcomes = {
        name: (await fetcher.fetch(work(url, provider=name))).outcome for name in ("vidgo", "apixo", "reapi")
    }
    assert outcomes == {
        "vidgo": Outcome.HOST_NOT_ALLOWED,
        "apixo": Outcome.STORED,
        "reapi": Outcome.STORED,
    }


async def test_a_declared_kind_that_is_not_stored_is_settled_without_a_request(
    host: MediaHost, fetcher: Fetcher
) -> None:
    url = host.put("/x", says(200, picture()))
    for kind in ("video", "audio", "model"):
        settlement = await fetcher.fetch(work(url, kind=kind))
        assert (settlement.outcome, settlement.retry_at) == (Outcome.NOT_AN_IMAGE, None)
    assert host.requests == []


async def test_an_unknown_kind_is_decided_by_the_bytes(host: MediaHost, fetcher: Fetcher) -> None:
    url = host.put("/x", says(200, picture()))
    assert (await fetcher.fetch(work(url, kind="unheard-of"))).outcome is Outcome.STORED


async def test_another_kind_is_stored_where_it_is_allowed(
    host: MediaHost, client: GuardedClient, blobs: LocalBlobs, clock: TurnableClock
) -> None:
    limits = msgspec.structs.replace(LIMITS, kinds=frozenset({media.IMAGE, media.AUDIO}))
    fetcher = Fetcher(
        client=client, blobs=blobs, clock=clock, staging=blobs.staging, limits=limits, bodies=no_bodies
    )
    url = host.put("/x", says(200, b"ID3\x04" + b"x" * 100))
    settlement = await fetcher.fetch(work(url, kind="audio"))
    assert settlement.file is not None
    assert settlement.file.key == "vidgo/t%2F1/0.mp3"
    assert settlement.file.width is None


async def test_fetching_again_replaces_the_same_file(
    host: MediaHost, fetcher: Fetcher, blobs: LocalBlobs
) -> None:
    url = host.put("/x", says(200, picture()))
    first, second = [(await fetcher.fetch(work(url, attempt=n))).file for n in (1, 2)]
    assert first == second
    assert [path.name for path in (blobs.root / "vidgo/t%2F1").iterdir()] == ["0.png"]


async def test_cancelling_leaves_nothing_behind(
    host: MediaHost, client: GuardedClient, clock: TurnableClock, blobs: LocalBlobs
) -> None:
    large = AssetLimits(
        download=DownloadLimits(max_bytes=10_000_000, deadline_seconds=20),
        max_task_bytes=10_000_000,
        max_pixels=1_000_000,
        kinds=frozenset({media.IMAGE}),
    )
    fetcher = Fetcher(
        client=client, blobs=blobs, clock=clock, staging=blobs.staging, limits=large, bodies=no_bodies
    )
    begun = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 5000000\r\n\r\n" + b"x" * 1_000_000)
        begun.set()
        await asyncio.sleep(30)

    task = asyncio.create_task(fetcher.fetch(work(host.put("/x", answer))))
    await begun.wait()
    await until(lambda: left_behind(blobs))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left_behind(blobs) == []


async def test_a_file_that_may_be_another_process_s_by_now_is_left_alone(
    host: MediaHost, fetcher: Fetcher, blobs: LocalBlobs, clock: TurnableClock
) -> None:
    ours = work(host.put("/x", says(200, picture())))
    assert (await fetcher.fetch(ours)).outcome is Outcome.STORED

    async def freeze(writer: asyncio.StreamWriter) -> None:
        clock.turn(1.5)
        await says(200, picture(size=(48, 48)))(writer)

    host.put("/x", freeze)
    late = msgspec.structs.replace(ours, void_at=clock.uptime() + timedelta(seconds=1))
    settlement = await fetcher.fetch(late)
    assert (settlement.outcome, settlement.file) == (Outcome.TIMEOUT, None)
    assert (blobs.root / "vidgo/t%2F1/0.png").read_bytes() == picture()
    assert left_behind(blobs) == []


# --- retries --------------------------------------------------------------------------------------


async def retry_of(fetcher: Fetcher, work: AssetWork) -> tuple[Outcome, datetime | None]:
    settlement = await fetcher.fetch(work)
    return settlement.outcome, settlement.retry_at


async def test_a_retry_waits_longer_each_time(
    host: MediaHost, fetcher: Fetcher, clock: TurnableClock
) -> None:
    url = host.put("/x", says(500))
    waits = []
    for attempt in range(1, 12):
        _, retry_at = await retry_of(fetcher, work(url, attempt=attempt))
        assert retry_at is not None
        waits.append((retry_at - clock.now()).total_seconds())
    assert all(0 <= wait <= 2**n for n, wait in enumerate(waits))
    assert max(waits) > 60


async def test_the_wish_of_the_host_is_obeyed(
    host: MediaHost, fetcher: Fetcher, clock: TurnableClock
) -> None:
    for status in (429, 503):
        _, retry_at = await retry_of(fetcher, work(host.put("/x", says(status, b"", "retry-after: 3600"))))
        assert retry_at == clock.now() + timedelta(hours=1)


@pytest.mark.parametrize(
    ("answer", "outcome", "alike"),
    [
        (says(429, b"", "retry-after: 100"), Outcome.RATE_LIMITED, 0),
        (says(503, b"", "retry-after: 86400"), Outcome.HTTP_ERROR, 0),
        (says(404), Outcome.GONE, 2),
    ],
)
async def test_a_wait_beyond_the_deadline_is_cut_short_for_a_last_try(
    host: MediaHost, fetcher: Fetcher, clock: TurnableClock, answer: Answer, outcome: Outcome, alike: int
) -> None:
    last_try = work(host.put("/x", answer), last=outcome, alike=alike, deadline_seconds=99)
    assert await retry_of(fetcher, last_try) == (outcome, last_try.deadline_at)
    clock.turn(seconds=99)
    again = msgspec.structs.replace(last_try, attempt=2)
    assert await retry_of(fetcher, again) == (outcome, None)


async def test_a_growing_wait_that_crosses_the_deadline_is_cut_short_too(
    host: MediaHost, fetcher: Fetcher
) -> None:
    url = host.put("/x", says(500))
    for attempt in range(1, 30):
        each = work(url, attempt=attempt, deadline_seconds=0.001)
        _, retry_at = await retry_of(fetcher, each)
        assert retry_at is not None
        assert retry_at <= each.deadline_at


async def test_a_wait_that_ends_before_the_deadline_is_kept(
    host: MediaHost, fetcher: Fetcher, clock: TurnableClock
) -> None:
    url = host.put("/x", says(429, b"", "retry-after: 100"))
    _, retry_at = await retry_of(fetcher, work(url, deadline_seconds=101))
    assert retry_at == clock.now() + timedelta(seconds=100)


async def test_work_past_its_deadline_gets_one_try(host: MediaHost, fetcher: Fetcher) -> None:
    url = host.put("/x", says(500))
    assert await retry_of(fetcher, work(url, attempt=5, deadline_seconds=-1)) == (Outcome.HTTP_ERROR, None)
    host.put("/x", says(200, picture()))
    assert await retry_of(fetcher, work(url, attempt=6, deadline_seconds=-1)) == (Outcome.STORED, None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_missing_file_is_asked_for_again_over_minutes_before_it_is_given_up(
    host: MediaHost, fetcher: Fetcher, clock: TurnableClock, status: int
) -> None:
    url = host.put("/x", says(status))
    for alike, seconds in enumerate((5, 60, 600)):
        outcome, retry_at = await retry_of(fetcher, work(url, attempt=9, last=Outcome.GONE, alike=alike))
        assert outcome is Outcome.GONE
        assert retry_at is not None
        assert retry_at >= clock.now() + timedelta(seconds=seconds)
    for alike in (3, 4, 40):
        gone = work(url, attempt=9, last=Outcome.GONE, alike=alike)
        assert await retry_of(fetcher, gone) == (Outcome.GONE, None)


PAGES = [
    b"<!doctype html><title>Your image is being made</title>",
    b'\xef\xbb\xbf\r\n<?xml version="1.0" encoding="utf-8"?><Error><Code>NotReady</Code></Error>',
    b'{"error": {"message": "not ready yet", "status": 425}}',
    "noch nicht verfügbar\n".encode(),
    b" ",
]


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_in_place_of_a_file_has_the_waits_of_a_missing_one(
    host: MediaHost, fetcher: Fetcher, clock: TurnableClock, page: bytes
) -> None:
    url = host.put("/x", says(200, page, "content-type: image/png"))
    for alike, seconds in enumerate((5, 60, 600)):
        each = work(url, attempt=1 + alike, last=Outcome.NOT_AN_IMAGE, alike=alike)
        settlement = await fetcher.fetch(each)
        assert (settlement.outcome, settlement.link_may_be_dead) == (Outcome.NOT_AN_IMAGE, True)
        assert settlement.retry_at is not None
        assert settlement.retry_at >= clock.now() + timedelta(seconds=seconds)
    last = work(url, attempt=4, last=Outcome.NOT_AN_IMAGE, alike=3)
    assert await retry_of(fetcher, last) == (Outcome.NOT_AN_IMAGE, None)
    host.put("/x", says(200, picture()))
    assert await retry_of(fetcher, last) == (Outcome.STORED, None)


@pytest.mark.parametrize("status", [200, 201, 203])
async def test_a_whole_image_is_stored_with_any_success_that_may_bring_one(
    host: MediaHost, fetcher: Fetcher, status: int
) -> None:
    settlement = await fetcher.fetch(work(host.put("/x", says(status, picture()))))
    assert settlement.outcome is Outcome.STORED


@pytest.mark.parametrize("status", [202, 204, 205, 206])
async def test_a_success_that_brings_none_or_a_part_is_tried_again(
    host: MediaHost, fetcher: Fetcher, clock: TurnableClock, status: int
) -> None:
    body = b"" if status in (204, 205) else picture()
    url = host.put("/x", says(status, body, "content-range: bytes 0-9/10", "retry-after: 30"))
    outcome, retry_at = await retry_of(fetcher, work(url))
    assert outcome is Outcome.HTTP_ERROR
    assert retry_at is not None
    assert (retry_at >= clock.now() + timedelta(seconds=30)) == (status == 202)


async def test_what_went_wrong_before_does_not_make_a_missing_file_a_lost_one(
    host: MediaHost, fetcher: Fetcher
) -> None:
    url = host.put("/x", says(404))
    outcome, retry_at = await retry_of(fetcher, work(url, attempt=20, last=Outcome.TIMEOUT, alike=19))
    assert outcome is Outcome.GONE
    assert retry_at is not None


async def test_attempts_come_to_an_end(
    host: MediaHost, client: GuardedClient, blobs: LocalBlobs, clock: TurnableClock
) -> None:
    fetcher = Fetcher(
        client=client,
        blobs=blobs,
        clock=clock,
        staging=blobs.staging,
        limits=LIMITS,
        backoff=Backoff(max_attempts=4),
        bodies=no_bodies,
    )
    url = host.put("/x", says(500))
    assert (await retry_of(fetcher, work(url, attempt=3)))[1] is not None
    assert (await retry_of(fetcher, work(url, attempt=4)))[1] is None


class TestStorageThatFails:
    """The root of the blob store is a file, so nothing can be put."""

    @pytest.fixture
    def fetcher(self, client: GuardedClient, clock: TurnableClock, tmp_path: Path) -> Fetcher:
        (tmp_path / "file").write_bytes(b"")
        return Fetcher(
            client=client,
            blobs=LocalBlobs(tmp_path / "file"),
            clock=clock,
            staging=tmp_path / "staging",
            limits=LIMITS,
            backoff=Backoff(max_attempts=4),
            bodies=no_bodies,
        )

    async def test_it_uses_up_no_attempts(
        self, host: MediaHost, fetcher: Fetcher, clock: TurnableClock, tmp_path: Path
    ) -> None:
        url = host.put("/x", says(200, picture()))
        for attempt in (1, 4, 40, 4000):
            outcome, retry_at = await retry_of(fetcher, work(url, attempt=attempt))
            assert outcome is Outcome.STORAGE_FAILED
            assert retry_at is not None
            assert timedelta(seconds=15) <= retry_at - clock.now() <= timedelta(seconds=45)
        assert list((tmp_path / "staging").iterdir()) == []

    async def test_the_last_try_comes_at_the_deadline(
        self, host: MediaHost, fetcher: Fetcher, clock: TurnableClock
    ) -> None:
        url = host.put("/x", says(200, picture()))
        _, retry_at = await retry_of(fetcher, work(url, attempt=40, deadline_seconds=0.001))
        assert retry_at is not None
        assert retry_at <= clock.now() + timedelta(seconds=0.001)
        assert await retry_of(fetcher, work(url, deadline_seconds=0)) == (Outcome.STORAGE_FAILED, None)

    async def test_no_place_for_downloads_is_the_same(
        self, host: MediaHost, client: GuardedClient, clock: TurnableClock, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        fetcher = Fetcher(
            client=client,
            blobs=LocalBlobs(tmp_path / "x"),
            clock=clock,
            staging=tmp_path / "file" / "staging",
            limits=LIMITS,
            bodies=no_bodies,
        )
        assert (await fetcher.fetch(work(host.put("/x", says(200))))).outcome is Outcome.STORAGE_FAILED
        assert host.requests == []


async def test_a_bug_of_ours_is_an_outcome_that_tells_no_secret(
    client: GuardedClient, blobs: LocalBlobs, clock: TurnableClock
) -> None:
    # A kind that is no text: what a bug elsewhere might hand over.
    fetcher = Fetcher(
        client=client, blobs=blobs, clock=clock, staging=blobs.staging, limits=LIMITS, bodies=no_bodies
    )
    broken = msgspec.structs.replace(work("x"), kind=[])
    settlement = await fetcher.fetch(broken)
    assert settlement.outcome is Outcome.CRASHED
    assert settlement.retry_at is not None
    assert settlement.detail is not None
    assert settlement.detail.startswith("TypeError in fetcher.py, line ")
    again = msgspec.structs.replace(broken, attempt=3, last=Outcome.CRASHED, alike=2)
    assert (await fetcher.fetch(again)).retry_at is None


# --- all files of a task --------------------------------------------------------------------------


LARGE = picture(size=(170, 170), compress_level=0)  # about 87,000 bytes: three of them may be


async def test_a_file_is_not_asked_for_where_its_task_has_all_that_it_may(
    host: MediaHost, fetcher: Fetcher
) -> None:
    url = host.put("/x", says(200, LARGE))
    settlement = await fetcher.fetch(work(url, stored_bytes=300_000))
    assert (settlement.outcome, settlement.retry_at) == (Outcome.TASK_TOO_LARGE, None)
    assert settlement.detail == "its task's files have more than 300000 bytes together"
    assert host.requests == []


@pytest.mark.parametrize(("stored_bytes", "outcome"), [(0, Outcome.STORED), (1, Outcome.TASK_TOO_LARGE)])
async def test_a_task_may_have_so_many_bytes_and_not_one_more(
    client: GuardedClient, blobs: LocalBlobs, host: MediaHost, stored_bytes: int, outcome: Outcome
) -> None:
    limits = msgspec.structs.replace(LIMITS, max_task_bytes=len(LARGE))
    fetcher = Fetcher(
        client=client,
        blobs=blobs,
        clock=TurnableClock(),
        staging=blobs.staging,
        limits=limits,
        bodies=no_bodies,
    )
    url = host.put("/x", says(200, LARGE))
    assert (await fetcher.fetch(work(url, stored_bytes=stored_bytes))).outcome is outcome
    assert left_behind(blobs) == []


async def test_files_that_come_at_the_same_time_take_no_more_than_they_may_together(
    host: MediaHost, fetcher: Fetcher, store: SqliteStore, clock: TurnableClock, blobs: LocalBlobs
) -> None:
    half, rest = LARGE[:50_000], LARGE[50_000:]
    asked, may_go_on = list[bool](), asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + half)
        asked.append(True)
        await may_go_on.wait()
        writer.write(rest)

    assets = AssetFetcher(store=store, fetcher=fetcher, renew=ask_nobody)
    works = await leased(store, clock, *(host.put(f"/{number}", slow) for number in range(5)))
    running = [asyncio.create_task(assets.run(each)) for each in works]
    await until(lambda: len(asked) == 5)
    may_go_on.set()
    outcomes = sorted([(await each).outcome for each in running])
    assert outcomes == [Outcome.STORED] * 3 + [Outcome.TASK_TOO_LARGE] * 2
    event = await store.get_event("vidgo", "t1")
    assert event is not None
    assert (event.type, sum(asset.bytes or 0 for asset in event.assets)) == (
        EventType.PARTIAL,
        3 * len(LARGE),
    )
    assert len([path for path in blobs.root.rglob("*.png") if path.is_file()]) == 3


async def test_what_a_file_took_is_given_back_where_it_fails(
    host: MediaHost, fetcher: Fetcher, store: SqliteStore, clock: TurnableClock
) -> None:
    torn = says(200, LARGE[:-20_000])
    urls = [host.put(f"/{number}", torn if number < 4 else says(200, LARGE)) for number in range(7)]
    works = await leased(store, clock, *urls)
    assets = AssetFetcher(store=store, fetcher=fetcher, renew=ask_nobody)
    with fetcher.quotas.hold(works[0]):  # as if another file of the task were under way all the time
        outcomes = [(await assets.run(each)).outcome for each in works]
    assert outcomes == [Outcome.TRUNCATED] * 4 + [Outcome.STORED] * 3


async def test_what_is_on_record_counts_for_a_file_that_comes_later(
    host: MediaHost, fetcher: Fetcher, store: SqliteStore, clock: TurnableClock
) -> None:
    urls = [host.put(f"/{number}", says(200, LARGE)) for number in range(3)]
    later = host.put("/3", says(500))
    assets = AssetFetcher(store=store, fetcher=fetcher, renew=ask_nobody)
    for each in await leased(store, clock, *urls, later):
        await assets.run(each)
    host.put("/3", says(200, LARGE))
    clock.turn(3600)
    (again,) = await store.lease_assets(clock.now(), clock.now() + timedelta(minutes=10), 10)
    assert again.stored_bytes == 3 * len(LARGE)
    assert (await assets.run(again)).outcome is Outcome.TASK_TOO_LARGE


async def test_a_fetch_replay_stays_within_what_its_task_may_have(
    host: MediaHost, fetcher: Fetcher, store: SqliteStore, clock: TurnableClock, blobs: LocalBlobs
) -> None:
    paths = [f"/{number}" for number in range(5)]
    urls = [host.put(path, says(200, LARGE if path < "/2" else b"\0\0")) for path in paths]
    assets = AssetFetcher(store=store, fetcher=fetcher, renew=ask_nobody)
    for each in await leased(store, clock, *urls):
        await assets.run(each)
    for path in paths:
        host.put(path, says(200, LARGE))

    first = await asyncio.gather(*map(assets.run, await leased_again(store, clock)))
    second = await asyncio.gather(*map(assets.run, await leased_again(store, clock)))

    assert sorted(each.outcome for each in first) == [Outcome.STORED] + [Outcome.TASK_TOO_LARGE] * 2
    assert [each.outcome for each in second] == [Outcome.TASK_TOO_LARGE] * 2
    event = await store.get_event("vidgo", "t1")
    assert event is not None
    assert sum(asset.bytes or 0 for asset in event.assets) == 3 * len(LARGE) <= LIMITS.max_task_bytes
    assert len([path for path in blobs.root.rglob("*.png") if path.is_file()]) == 3


async def leased_again(store: SqliteStore, clock: TurnableClock) -> list[AssetWork]:
    """The files that a fetch replay brings back, ready to be run."""
    clock.turn(60)
    now = clock.now()
    await start_replay(store, replay(Stage.FETCH, created_at=now))
    for step in await store.lease_replays(now, now + timedelta(seconds=30), 10):
        await step_replay(store, step, 10, now, now)
    return await store.lease_assets(now, now + timedelta(minutes=10), 10)


# --- settling -------------------------------------------------------------------------------------


@pytest.fixture
async def store(tmp_path: Path, clock: TurnableClock) -> AsyncIterator[SqliteStore]:
    lay_blank_record(tmp_path)
    store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=tmp_path, clock=clock))
    yield store
    await store.aclose()


async def ask_nobody(work: AssetWork) -> Renewal | None:
    """Where no provider can be asked for a new link."""
    return None


async def leased(store: SqliteStore, clock: TurnableClock, *urls: str) -> list[AssetWork]:
    await store.log_submission(submission())
    files = tuple(RemoteFile(url=url, kind="image") for url in urls)
    report = msgspec.structs.replace(completed(files=0), files=files)
    now = clock.now()
    await store.record(recording(report, received_at=now, links_die_at=now + timedelta(days=1)))
    return await store.lease_assets(now, now + timedelta(minutes=10), 10)


async def test_an_events_assets_are_settled_and_told_in_one_line_each(
    host: MediaHost, fetcher: Fetcher, store: SqliteStore, clock: TurnableClock
) -> None:
    good, bad = host.put("/secret-good", says(200, picture())), host.put("/secret-bad", says(200, b"\0\0"))
    with structlog.testing.capture_logs() as lines:
        for each in await leased(store, clock, good, bad):
            await AssetFetcher(store=store, fetcher=fetcher, renew=ask_nobody).run(each)

    event = await store.get_event("vidgo", "t1")
    assert event is not None
    assert event.type is EventType.PARTIAL
    assert [asset.state for asset in event.assets] == [AssetState.STORED, AssetState.FAILED]
    assert [asset.outcome for asset in event.assets] == [Outcome.STORED, Outcome.NOT_AN_IMAGE]
    assert [(line["event"], line["outcome"], line["settled"]) for line in lines] == [
        ("asset.settled", "stored", True),
        ("asset.settled", "not_an_image", True),
    ]
    assert lines[0]["bytes"] == len(picture())
    assert {"provider", "task_id", "index", "attempt", "seconds", "retry_at"} <= lines[0].keys()
    assert "secret" not in str(lines)
    assert "127.0.0.1" not in str(lines)


async def test_a_lost_lease_shows_in_the_line(
    host: MediaHost, fetcher: Fetcher, store: SqliteStore, clock: TurnableClock
) -> None:
    (each,) = await leased(store, clock, host.put("/x", says(200, picture())))
    with structlog.testing.capture_logs() as lines:
        await AssetFetcher(store=store, fetcher=fetcher, renew=ask_nobody).run(
            msgspec.structs.replace(each, lease="another")
        )
    assert [line["settled"] for line in lines] == [False]


async def test_a_file_that_is_still_being_fetched_is_not_fetched_a_second_time_beside_it(
    host: MediaHost, fetcher: Fetcher, store: SqliteStore, clock: TurnableClock, blobs: LocalBlobs
) -> None:
    first_bytes, second_bytes = picture(size=(8, 8)), picture(size=(9, 9))
    is_asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        is_asked.set()
        await may_go_on.wait()
        await says(200, first_bytes)(writer)

    url = host.put("/x", slow)
    (first,) = await leased(store, clock, url)
    assets = AssetFetcher(store=store, fetcher=fetcher, renew=ask_nobody)
    running = asyncio.create_task(assets.run(first))
    await is_asked.wait()
    clock.turn(3600)  # as after a sleep: the lease has run out, but not the attempt
    now = clock.now()
    (second,) = await store.lease_assets(now, now + timedelta(minutes=10), 10)
    host.put("/x", says(200, second_bytes))

    with pytest.raises(Unavailable, match="still running"):
        await assets.run(second)
    may_go_on.set()
    await running
    event = await store.get_event("vidgo", "t1")
    assert event is not None
    assert event.assets[0].key is not None
    stored = (blobs.root / event.assets[0].key).read_bytes()
    assert sha256(stored).hexdigest() == event.assets[0].sha256 == sha256(first_bytes).hexdigest()


@pytest.mark.parametrize(
    ("status", "renewed", "asks"),
    [
        *((status, False, True) for status in (400, 401, 403, 404, 410, 416, 419, 451, 498)),
        *((status, True, False) for status in (400, 404, 451)),
        *((status, False, False) for status in (200, 402, 408, 409, 429, 500)),
    ],
)
async def test_a_new_link_is_asked_for_once_and_only_where_the_old_one_is_dead(
    host: MediaHost,
    fetcher: Fetcher,
    store: SqliteStore,
    clock: TurnableClock,
    status: int,
    renewed: bool,
    asks: bool,
) -> None:
    asked = []

    async def renew(work: AssetWork) -> Renewal | None:
        asked.append(work)
        return None

    (each,) = await leased(store, clock, host.put("/x", says(status, picture())))
    each = msgspec.structs.replace(each, renewed=renewed)
    await AssetFetcher(store=store, fetcher=fetcher, renew=renew).run(each)
    assert asked == [each] * asks


async def test_a_dead_link_is_renewed_and_fetched_in_the_same_attempt_which_says_so(
    host: MediaHost, fetcher: Fetcher, store: SqliteStore, clock: TurnableClock
) -> None:
    new = host.put("/new", says(200, picture()))

    async def renew(work: AssetWork) -> Renewal | None:
        now = clock.now()
        dies_at = now + timedelta(hours=1)
        return Renewal(at=now, detail="link renewed", links={0: new}, links_die_at=dies_at)

    assets = AssetFetcher(store=store, fetcher=fetcher, renew=renew)
    (each,) = await leased(store, clock, host.put("/old", says(404)))
    assert (await assets.run(each)).outcome is Outcome.STORED
    task = await store.get_task("vidgo", "t1")
    assert task is not None
    assert task.state is TaskState.COMPLETED
    assert [(attempt.outcome, attempt.detail) for attempt in task.attempts] == [
        (Outcome.STORED, "link renewed")
    ]


async def test_a_new_link_that_is_dead_too_has_the_usual_waits_before_it(
    host: MediaHost, fetcher: Fetcher, store: SqliteStore, clock: TurnableClock
) -> None:
    new = host.put("/new", says(404))

    async def renew(work: AssetWork) -> Renewal | None:
        now = clock.now()
        dies_at = now + timedelta(hours=1)
        return Renewal(at=now, detail="link renewed", links={0: new}, links_die_at=dies_at)

    assets = AssetFetcher(store=store, fetcher=fetcher, renew=renew)
    (each,) = await leased(store, clock, host.put("/old", says(404)))
    settlement = await assets.run(each)
    assert settlement.outcome is Outcome.GONE
    assert settlement.retry_at is not None
    assert settlement.retry_at >= clock.now() + timedelta(seconds=5)
    clock.turn(60)
    (again,) = await store.lease_assets(clock.now(), clock.now() + timedelta(minutes=1), 10)
    assert (again.url, again.renewed, again.attempt) == (new, True, 2)


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task_id", "part"),
    [
        ("task-unified-1757165031-uyujaw3d", "task-unified-1757165031-uyujaw3d"),
        ("a/b", "a%2Fb"),
        ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("...", "%2E%2E%2E"),
        ("%2e%2e", "%252e%252e"),
        ("a\0b\r\n", "a%00b%0D%0A"),
        ("图", "%E5%9B%BE"),
        ("\ud800", "%ED%A0%80"),
        ("a!b", "a%21b"),
        ("C:\\x", "C%3A%5Cx"),
    ],
)
def test_a_task_id_is_one_part_of_a_key(task_id: str, part: str) -> None:
    assert asset_key("vidgo", task_id, 3, "webp") == f"vidgo/{part}/3.webp"


@given(st.text(), st.text())
def test_different_ids_have_different_keys_and_none_climbs_out(one: str, other: str) -> None:
    keys = {asset_key("p", task_id, 0, "png") for task_id in (one, other)}
    assert len(keys) == len({one, other})
    for key in keys:
        _, part, _ = key.split("/")
        assert part.strip(".")
        assert part.isascii()
        assert len(part) <= MAX_PART_BYTES


def test_a_long_id_is_shortened_without_meeting_another() -> None:
    long = os.urandom(100).hex() * 10
    keys = {asset_key("p", task_id, 0, "png") for task_id in (long, long + "x", "图" * 500, "图" * 501, "")}
    parts = [key.split("/")[1] for key in keys]
    assert len(keys) == 5
    assert all(len(part) <= MAX_PART_BYTES for part in parts)
    # What a shortened id looks like cannot be had by naming a task so.
    for part in parts:
        assert asset_key("p", part, 0, "png") not in keys


async def test_every_key_is_one_that_the_local_store_takes(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    for task_id in ("", ".", "..", "a/b", "x" * 1000, "\0", "图" * 100, ".incoming"):
        for provider in ("vidgo", "..", ""):
            with pytest.raises(FileNotFoundError):  # which is what it says of a good key
                await anext(blobs.open(asset_key(provider, task_id, 0, "png"), 0, 1))
