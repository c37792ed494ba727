"""Whose files are fetched next: what every store must do for a fair share of the places."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest

from receiver.models import AssetWork, FetchLoad, FetchShare, Outcome, RemoteFile, Report
from receiver.ports import Store
from tests.contracts.store import OpenStore
from tests.support.factories import completed, later, recording, renewed, settlement, stored, submission


class SharesContract:
    """Subclasses give an ``open_store`` fixture, as of ``StoreContract``."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        store = await open_store()
        yield store
        await store.aclose()

    async def test_every_provider_has_its_turn_whosever_links_die_first(self, store: Store) -> None:
        await add(store, "vidgo", "one", *range(10))
        await add(store, "apixo", "two", *range(1000, 1010))
        await add(store, "reapi", "three", 5000)

        works = await store.lease_assets(later(1), later(60), 6)

        assert [work.provider for work in works] == ["vidgo", "apixo", "reapi", "vidgo", "apixo", "vidgo"]

    async def test_every_host_of_a_provider_has_its_turn(self, store: Store) -> None:
        await add(store, "vidgo", "one", *range(10))
        await add(store, "vidgo", "two", *range(1000, 1010))

        works = await store.lease_assets(later(1), later(60), 5)

        assert [host_of(work) for work in works] == ["one", "two", "one", "two", "one"]

    async def test_in_its_share_the_link_that_dies_first_goes_first(self, store: Store) -> None:
        await add(store, "vidgo", "one", 9, 1, 3)
        await add(store, "vidgo", "two", 8, 2)
        await add(store, "apixo", "three", 7, 4)

        works = await store.lease_assets(later(1), later(60), 10)

        by_host: dict[str, list[int]] = {}
        for work in works:
            by_host.setdefault(host_of(work), []).append(dies_in(work))
        assert by_host == {"one": [1, 3, 9], "two": [2, 8], "three": [4, 7]}

    async def test_what_is_under_way_counts(self, store: Store) -> None:
        for provider, host in (("vidgo", "one"), ("vidgo", "two"), ("apixo", "three")):
            await add(store, provider, host, *range(8))
        first = await store.lease_assets(later(1), later(60), 3)
        hashes = {host_of(work): work.host_hash for work in first}

        busy = FetchLoad(running={("vidgo", hashes["one"]): 3, ("vidgo", hashes["two"]): 1})
        works = await store.lease_assets(later(1), later(60), 7, load=busy)

        assert [host_of(work) for work in works] == [*["three"] * 4, "two", "three", "two"]
        late = FetchLoad(recent=[("apixo", hashes["three"]), ("vidgo", hashes["two"])])
        works = await store.lease_assets(later(1), later(60), 2, load=late)
        assert [host_of(work) for work in works] == ["three", "one"]

    async def test_nobody_has_more_places_than_he_may_and_what_is_held_back_is_not_due(
        self, store: Store
    ) -> None:
        await add(store, "vidgo", "one", *range(9))
        await add(store, "vidgo", "two", *range(9))
        load = FetchLoad(most_of_provider=5, most_of_host=3)

        works = await store.lease_assets(later(1), later(60), 9, load=load)

        assert [host_of(work) for work in works] == ["one", "two", "one", "two", "one"]
        full = msgspec.structs.replace(load, running=shares_of(works))
        assert await store.lease_assets(later(1), later(60), 9, load=full) == []
        assert await store.next_due_at("assets", load=full) is None
        assert await store.next_due_at("assets") is not None
        await add(store, "apixo", "three", 99)
        assert await store.next_due_at("assets", load=full) is not None
        assert [host_of(work) for work in await store.lease_assets(later(1), later(60), 9, load=full)] == [
            "three"
        ]
        one_is_full = msgspec.structs.replace(load, running=shares_of(works[:1], times=3))
        rest = await store.lease_assets(later(1), later(60), 9, load=one_is_full)
        assert [host_of(work) for work in rest] == ["two", "two"]

    async def test_a_retry_that_is_held_back_is_not_due_and_one_of_another_host_is(
        self, store: Store
    ) -> None:
        await add(store, "vidgo", "one", 100, 101)
        await add(store, "vidgo", "two", 1000)
        works = await store.lease_assets(later(1), later(60), 3)
        for work in works:
            wait = 20 if host_of(work) == "one" else 30
            await store.settle_asset(work, settlement(Outcome.TIMEOUT, retry_at=later(wait)))
        (one,) = {work.host_hash for work in works if host_of(work) == "one"}

        load = FetchLoad(running={("vidgo", one): 2}, most_of_host=2)

        assert await store.next_due_at("assets") == later(20)
        assert await store.next_due_at("assets", load=load) == later(30)
        assert await store.lease_assets(later(25), later(60), 9, load=load) == []
        assert [host_of(work) for work in await store.lease_assets(later(30), later(60), 9, load=load)] == [
            "two"
        ]

    @pytest.mark.parametrize(
        ("places", "of_provider", "of_host"), [(1, 1, 1), (2, 2, 1), (3, 3, 2), (4, 3, 2), (8, 7, 6)]
    )
    @pytest.mark.parametrize("hanging", [("vidgo", "dead"), ("apixo", "dead")])
    async def test_whoever_hangs_starves_nobody_and_is_not_starved(
        self, store: Store, places: int, of_provider: int, of_host: int, hanging: tuple[str, str]
    ) -> None:
        """A file of the dead host holds its place for nine looks; others are done before the next."""
        await add(store, *hanging, *range(60))
        await add(store, "vidgo", "good", *range(1000, 1040))
        await add(store, "reapi", "fine", *range(2000, 2040))
        begun: Counter[str] = Counter()
        held: list[tuple[int, AssetWork]] = []
        recent: list[FetchShare] = []
        for now in range(1, 900):
            for _, work in [each for each in held if each[0] == now]:
                await store.settle_asset(work, settlement(Outcome.TIMEOUT, retry_at=later(now)))
            held = [each for each in held if each[0] > now]
            load = FetchLoad(
                running=shares_of([work for _, work in held]),
                recent=recent,
                most_of_provider=of_provider,
                most_of_host=of_host,
            )
            room = places - len(held)
            if not room:
                continue
            works = await store.lease_assets(
                later(now), later(now + 60), room, retries_first=now % 4 == 0, load=load
            )
            for work in works:
                begun[host_of(work)] += 1
                recent.append((work.provider, work.host_hash))
                if host_of(work) == "dead":
                    held.append((now + 10, work))
                else:
                    await store.settle_asset(work, settlement(Outcome.GONE))
            if now == 100:
                assert min(begun.values()) >= 7, begun
            if begun["good"] == begun["fine"] == 40:
                break
            if places > 1:
                assert works, "somebody waits, and a place is left to him"
        assert (begun["good"], begun["fine"]) == (40, 40)

    async def test_hosts_that_are_not_proven_leave_a_place_to_those_that_are(self, store: Store) -> None:
        """As many of them as there may ever be, each with a link of the same callback."""
        await add(store, "vidgo", "good", 9000)
        (good,) = await store.lease_assets(later(1), later(60), 1)
        await store.settle_asset(good, stored(good))
        await store.log_submission(submission("many"))
        links = [RemoteFile(url=f"https://dead-{number}.test/x.png", kind="image") for number in range(90)]
        report = msgspec.structs.replace(completed("many", files=0), files=tuple(links))
        await store.record(recording(report, links_die_at=later(100)))
        proven = ("vidgo", good.host_hash)
        load = FetchLoad(proven=[proven], most_of_unproven=6, most_of_unproven_host=5, most_of_provider=7)

        works = await store.lease_assets(later(1), later(60), 8, load=load)

        assert len(works) == 6
        full = msgspec.structs.replace(load, running=shares_of(works))
        for number in range(10):  # each look begins with another host
            assert await store.next_due_at("assets", load=full) is None
            await add(store, "vidgo", "good", 9001 + number)
            assert await store.next_due_at("assets", load=full) is not None
            (work,) = await store.lease_assets(later(1), later(60), 8, load=full)
            assert host_of(work) == "good"
            await store.settle_asset(work, stored(work))
        await add(store, "apixo", "new", 1)
        (work,) = await store.lease_assets(later(1), later(60), 8, load=full)
        assert work.provider == "apixo"

    async def test_one_host_that_is_not_proven_leaves_a_place_to_another_such(self, store: Store) -> None:
        await add(store, "vidgo", "one", *range(9))
        load = FetchLoad(most_of_unproven=6, most_of_unproven_host=5, most_of_provider=7)
        works = await store.lease_assets(later(1), later(60), 8, load=load)
        assert len(works) == 5
        await add(store, "vidgo", "two", *range(9))
        full = msgspec.structs.replace(load, running=shares_of(works))
        assert [host_of(work) for work in await store.lease_assets(later(1), later(60), 8, load=full)] == [
            "two"
        ]

    async def test_a_renewed_link_to_another_host_is_of_that_hosts_share(self, store: Store) -> None:
        await add(store, "vidgo", "one", 1, 2)
        first, second = await store.lease_assets(later(1), later(60), 2)
        await store.settle_asset(second, settlement(Outcome.TIMEOUT, retry_at=later(9)))
        await store.settle_asset(first, renewed("https://two.test/0.png", retry_at=later(9)))

        works = await store.lease_assets(later(9), later(60), 2)

        assert {host_of(work) for work in works} == {"one", "two"}
        assert len({work.host_hash for work in works}) == 2


async def add(store: Store, provider: str, host: str, *dies: int) -> None:
    """Tasks of one file each, at a host, whose links die in so many seconds."""
    tasks = {f"{host}-{seconds}": seconds for seconds in dies}
    await asyncio.gather(*(store.log_submission(submission(task, provider=provider)) for task in tasks))
    await asyncio.gather(
        *(
            store.record(recording(one_file(task, host), provider=provider, links_die_at=later(seconds)))
            for task, seconds in tasks.items()
        )
    )


def one_file(task_id: str, host: str) -> Report:
    file = RemoteFile(url=f"https://{host}.test/{task_id}.png", kind="image")
    return msgspec.structs.replace(completed(task_id, files=0), files=(file,))


def host_of(work: AssetWork) -> str:
    return work.url.removeprefix("https://").partition(".")[0]


def dies_in(work: AssetWork) -> int:
    return round((work.deadline_at - later(0)).total_seconds())


def shares_of(works: list[AssetWork], *, times: int = 1) -> dict[tuple[str, int], int]:
    counts = Counter((work.provider, work.host_hash) for work in works)
    return {share: count * times for share, count in counts.items()}
