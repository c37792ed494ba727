"""Equal files of one owner are stored once: whoever comes first, whatever is deleted or killed."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.blobs.local import LocalBlobs
from receiver.errors import FetchFailed
from receiver.fetching.client import GuardedClient
from receiver.fetching.copies import Copies
from receiver.fetching.fetcher import AssetFetcher, Fetcher
from receiver.folders import sync_folder
from receiver.models import AssetWork, Outcome, RemoteFile, StoredFile
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.testing import TurnableClock
from tests.contracts.blobs import read
from tests.fetching.test_fetcher import LIMITS, ask_nobody
from tests.support.engines import on_both_engines, place_on
from tests.support.factories import asset_work, completed, recording, submission
from tests.support.media_host import MediaHost, picture, says

SAME = picture()


class Depot:
    """A record, a folder of files, and what fetches into them."""

    def __init__(self, store: Store, blobs: LocalBlobs, client: GuardedClient, host: MediaHost) -> None:
        self.store = store
        self.blobs = blobs
        self.clock = TurnableClock()
        self._host = host
        self.fetchers = [self._fetcher(client) for _ in range(2)]

    def _fetcher(self, client: GuardedClient) -> AssetFetcher:
        """As a process has one."""
        fetcher = Fetcher(
            client=client,
            blobs=self.blobs,
            clock=self.clock,
            staging=self.blobs.staging,
            limits=LIMITS,
            bodies=self.store.list_end_bodies,
            copies=Copies(self.store.find_copy, self.blobs),
        )
        return AssetFetcher(store=self.store, fetcher=fetcher, renew=ask_nobody)

    async def leased(self, task_id: str, *files: bytes, owner: str = "ann") -> list[AssetWork]:
        """The files of a task that has just ended."""
        await self.store.log_submission(submission(task_id, owner=owner))
        links = [self._host.put(f"/{task_id}-{number}", says(200, data)) for number, data in enumerate(files)]
        report = msgspec.structs.replace(
            completed(task_id, files=0), files=tuple(RemoteFile(url=link, kind="image") for link in links)
        )
        now = self.clock.now()
        await self.store.record(recording(report, received_at=now, links_die_at=now + timedelta(days=1)))
        return await self.store.lease_assets(now, now + timedelta(minutes=10), 10)

    async def fetch(self, task_id: str, *files: bytes, owner: str = "ann") -> list[Outcome]:
        works = await self.leased(task_id, *files, owner=owner)
        settled = await asyncio.gather(*(self.fetchers[0].run(work) for work in works))
        return [settlement.outcome for settlement in settled]

    def place(self, task_id: str, index: int = 0) -> Path:
        return self.blobs.root / f"vidgo/{task_id}/{index}.png"


@pytest.fixture
async def depot(
    engine: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    client: GuardedClient,
    host: MediaHost,
) -> AsyncIterator[Depot]:
    options = StoreOptions(data_dir=tmp_path, clock=TurnableClock(), link_copies=True)
    store = await place_on(engine, request).open(options)
    blobs = LocalBlobs(tmp_path / "assets")
    yield Depot(store, blobs, client, host)
    await blobs.aclose()
    await store.aclose()


@on_both_engines
async def test_an_equal_file_of_the_same_owner_takes_no_room_and_has_its_own_name(depot: Depot) -> None:
    assert await depot.fetch("t1", SAME) == [Outcome.STORED]
    assert await depot.fetch("t2", picture(size=(9, 9)), SAME) == [Outcome.STORED, Outcome.LINKED]

    assert depot.place("t1").samefile(depot.place("t2", 1))
    event = await depot.store.get_event("vidgo", "t2")
    assert event is not None
    assert event.assets[1].key == "vidgo/t2/1.png"
    assert event.assets[1].sha256 == sha256(SAME).hexdigest()
    stats = await depot.store.count_stats()
    assert (stats.assets, stats.linked) == ({"stored": 3}, 1)
    assert not any(depot.blobs.staging.iterdir())


@on_both_engines
async def test_another_owners_equal_file_is_its_own(depot: Depot) -> None:
    await depot.fetch("t1", SAME, owner="ann")
    assert await depot.fetch("t2", SAME, owner="bob") == [Outcome.STORED]
    assert not depot.place("t1").samefile(depot.place("t2"))
    assert await depot.fetch("t3", SAME, owner="bob") == [Outcome.LINKED]
    assert depot.place("t3").samefile(depot.place("t2"))


@on_both_engines
async def test_equal_files_at_once_wait_for_the_first(depot: Depot) -> None:
    outcomes = await depot.fetch("t1", *[SAME] * 6)
    assert sorted(outcomes) == [Outcome.LINKED] * 5 + [Outcome.STORED]
    assert {depot.place("t1", index).stat().st_ino for index in range(6)} == {depot.place("t1").stat().st_ino}
    assert (depot.place("t1").stat().st_nlink, (await depot.store.count_stats()).linked) == (6, 5)


@on_both_engines
async def test_two_processes_with_equal_files_at_once_have_both(depot: Depot) -> None:
    one, other = await depot.leased("t1", SAME, SAME)
    await asyncio.gather(depot.fetchers[0].run(one), depot.fetchers[1].run(other))
    assert [depot.place("t1", index).read_bytes() for index in range(2)] == [SAME, SAME]
    assert await depot.fetch("t2", SAME) == [Outcome.LINKED]


@on_both_engines
@pytest.mark.parametrize("harm", ["deleted", "damaged", "cut short"])
async def test_what_became_of_the_first_harms_no_other(depot: Depot, harm: str) -> None:
    await depot.fetch("t1", SAME)
    await depot.fetch("t2", SAME)
    depot.place("t1").unlink()
    assert depot.place("t2").read_bytes() == SAME

    if harm != "deleted":
        kept = SAME[:-1] if harm == "cut short" else b"x" * len(SAME)
        depot.place("t1").write_bytes(kept)
    assert await depot.fetch("t3", SAME) == [Outcome.STORED]
    assert depot.place("t3").read_bytes() == SAME
    # The newest is linked to from now on.
    assert await depot.fetch("t4", SAME) == [Outcome.LINKED]
    assert depot.place("t4").samefile(depot.place("t3"))


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("has_leftover", [False, True])
@pytest.mark.parametrize("kill_at", range(7))
async def test_a_kill_between_any_two_steps_of_linking_leaves_what_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int, *, has_leftover: bool
) -> None:
    blobs = LocalBlobs(tmp_path / "assets")
    first, source = tmp_path / "first", tmp_path / "source"
    first.write_bytes(SAME)
    source.write_bytes(SAME)
    await blobs.put("vidgo/t1/0.png", first, "image/png")
    if has_leftover:  # of an attempt that was not settled
        leftover = tmp_path / "leftover"
        leftover.write_bytes(b"other bytes")
        await blobs.put("vidgo/t2/0.png", leftover, "image/png")
    left = [kill_at]

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return call(*args, **kwargs)

        return step

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", dying(os.link))
        patched.setattr("receiver.blobs.local.sync_folder", dying(sync_folder))
        patched.setattr(Path, "mkdir", dying(Path.mkdir))
        patched.setattr(Path, "replace", dying(Path.replace))
        with suppress(Killed):
            blobs._link(blobs._path("vidgo/t1/0.png"), blobs._path("vidgo/t2/0.png"), source)
    await blobs.aclose()

    again = LocalBlobs(tmp_path / "assets")
    await again.sweep()
    if not source.exists():  # it was done; else it is fetched again
        assert (await read(again, "vidgo/t2/0.png")) == SAME
        source.write_bytes(SAME)
    assert await again.link("vidgo/t1/0.png", "vidgo/t2/0.png", source) == "vidgo/t2/0.png"
    assert [await read(again, f"vidgo/{task}/0.png") for task in ("t1", "t2")] == [SAME, SAME]
    assert (again.root / "vidgo/t1/0.png").samefile(again.root / "vidgo/t2/0.png")
    assert not source.exists()
    assert not again.staging.exists() or not any(again.staging.iterdir())
    await again.aclose()


async def test_who_waits_too_long_for_an_equal_file_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.fetching.copies.LONGEST_WAIT_SECONDS", 0.01)

    async def found_nowhere(owner: str, digest: str) -> str | None:
        return None

    blobs = LocalBlobs(tmp_path / "assets")
    copies = Copies(found_nowhere, blobs)
    first, second = asset_work("https://a.test/0"), asset_work("https://a.test/0", task_id="t2")
    file = StoredFile(key="k", media_type="image/png", bytes=1, width=1, height=1, sha256="ab")
    with copies.turn(first):
        assert await copies.link(first, file, tmp_path, lambda: None) is None
        with copies.turn(second):
            assert await copies.link(second, file, tmp_path, lambda: None) is None
    assert not copies._firsts
    assert not copies._turns
    await blobs.aclose()


async def test_what_has_become_anothers_to_fetch_while_it_waited_is_not_linked(tmp_path: Path) -> None:
    async def found(owner: str, digest: str) -> str | None:
        return "vidgo/t1/0.png"

    def is_lost() -> None:
        raise FetchFailed(Outcome.TIMEOUT, "it took longer than it was this process's to fetch")

    blobs = LocalBlobs(tmp_path / "assets")
    first, source = tmp_path / "first", tmp_path / "source"
    for path in (first, source):
        path.write_bytes(SAME)
    await blobs.put("vidgo/t1/0.png", first, "image/png")
    copies, work = Copies(found, blobs), asset_work("https://a.test/0", task_id="t2")
    file = StoredFile(key="vidgo/t2/0.png", media_type="image/png", bytes=1, width=1, height=1, sha256="ab")
    with copies.turn(work), pytest.raises(FetchFailed):
        await copies.link(work, file, source, is_lost)
    assert source.exists()
    with pytest.raises(FileNotFoundError):
        await read(blobs, "vidgo/t2/0.png")
    await blobs.aclose()
