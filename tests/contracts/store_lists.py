"""Lists, counts and steps over what was recorded: what every store must show, page by page."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from receiver.models import Outcome, Stage, SubmissionFilter, TaskFilter, TaskState, WorkFilter
from receiver.ports import Store
from receiver.record import windows
from tests.contracts.replaying import end_task, get, publish, replay, requeue_dead, start_replay, step_replay
from tests.contracts.store import OpenStore
from tests.support.factories import completed, failed, later, recording, submission, unclear

OpenWith = Callable[[tuple[str, ...]], Awaitable[Store]]

# Alike to whoever compares as people do, or takes one for a pattern.
ALIKE = (
    *("ann", "Ann", "ANN", "ann ", "a%n", "a_n", "a\\n"),
    *("\u00e4nn", "a\u0308nn", "\uff41nn", "ann\0", "ann\U0010ffff"),
)


class ListsContract:
    """Subclasses give ``open_store``, as of ``StoreContract``, and ``open_with``: some keys of metadata."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        store = await open_store()
        yield store
        await store.aclose()

    @pytest.fixture
    def in_small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One look covers two rows."""
        monkeypatch.setattr(windows, "LOOK_SECONDS", 0)
        monkeypatch.setattr(windows, "FIRST_WINDOW", 2)

    @pytest.mark.usefixtures("in_small_parts")
    @pytest.mark.parametrize(
        ("wanted", "numbers"),
        [
            ({}, range(11, -1, -1)),
            ({"owner": "ann"}, (9, 6, 3, 0)),
            ({"owner": "ann", "state": TaskState.FAILED}, (6,)),
            ({"owner": "nobody"}, ()),
            ({"provider": "apixo"}, (11, 7, 3)),
            ({"provider": "apixo", "owner": "ann"}, (3,)),
            ({"state": TaskState.SUBMITTED}, (11, 10, 8, 7, 5, 4, 3, 0)),
            ({"state": TaskState.SUBMITTED, "provider": "apixo"}, (11, 7, 3)),
            ({"state": TaskState.FETCHING}, (9, 2)),
            ({"state": TaskState.FAILED}, (6, 1)),
            ({"state": TaskState.FAILED, "provider": "apixo"}, ()),
            ({"state": TaskState.COMPLETED}, ()),
            ({"since": later(3600.0 * 5), "until": later(3600.0 * 8)}, (7, 6, 5)),
            ({"until": later(3600.0 * 2), "state": TaskState.SUBMITTED}, (0,)),
            ({"since": later(3600.0 * 99)}, ()),
            ({"until": later(-3600.0 * 99)}, ()),
        ],
    )
    async def test_pages_that_are_cut_short_lead_on_until_every_task_was_shown_once(
        self, store: Store, wanted: dict[str, Any], numbers: range | tuple[int, ...]
    ) -> None:
        await some_tasks(store)

        found = await pages(store, **wanted)

        assert list(itertools.chain(*found)) == [f"t{number}" for number in numbers]

    @pytest.mark.usefixtures("in_small_parts")
    @pytest.mark.parametrize("bound", [None, True, False])
    async def test_submissions_are_shown_in_pages_too(self, store: Store, bound: bool | None) -> None:
        await some_tasks(store)
        for number in range(3):
            row = submission(None, id_=f"sub_{number}", owner="ann")
            await store.log_submission(msgspec.structs.replace(row, created_at=later(3600.0 * (20 + number))))
        seen: list[str] = []
        cursor = None
        while True:
            wanted = SubmissionFilter(provider="vidgo", owner="ann", bound=bound)
            page = await store.list_submissions(wanted, 2, cursor)
            seen += [row.task_id or row.id for row in page.submissions]
            if (cursor := page.next_cursor) is None:
                break
        unbound, mine = ["sub_2", "sub_1", "sub_0"], ["t9", "t6", "t0"]
        assert seen == {None: unbound + mine, True: mine, False: unbound}[bound]

    @pytest.mark.usefixtures("in_small_parts")
    async def test_a_clock_that_was_set_back_a_little_hides_no_task_from_its_time(self, store: Store) -> None:
        for name, at in (("a", 0.0), ("b", 1800.0), ("c", -600.0), ("d", 60.0)):
            await store.log_submission(msgspec.structs.replace(submission(name), created_at=later(at)))
        assert list(itertools.chain(*await pages(store, since=later(0)))) == ["d", "b", "a"]
        assert list(itertools.chain(*await pages(store, until=later(60)))) == ["c", "a"]

    @pytest.mark.usefixtures("in_small_parts")
    async def test_counting_in_parts_counts_everything_once(self, store: Store) -> None:
        for number in range(7):
            await store.log_submission(submission(f"t{number}", owner="ann" if number % 2 else "bob"))
            await store.record(recording(failed(f"t{number}")))
        await publish(store, "all", at=1, outcome=Outcome.REFUSED)

        some = WorkFilter(task_ids=("t1", "t6", "t9"))
        assert await store.count_matches(Stage.NOTIFY, WorkFilter(), later(10**6)) == 7
        assert await store.count_matches(Stage.NOTIFY, WorkFilter(owner="ann"), later(10**6)) == 3
        assert await store.count_matches(Stage.NOTIFY, some, later(10**6)) == 2
        assert await store.count_dead(WorkFilter(owner="bob"), ["all"]) == 4
        assert (await requeue_dead(store, WorkFilter(task_ids=("t5",)), ["all"], later(9), 10)).count == 1
        asked = replay(Stage.NOTIFY, WorkFilter(owner="ann"))
        assert (await start_replay(store, asked)).matched == 3

    @pytest.mark.usefixtures("in_small_parts")
    async def test_a_replay_whose_steps_are_cut_short_looks_at_every_match_once(self, store: Store) -> None:
        for number in range(9):
            await end_task(store, f"t{number}", owner="ann" if number in {0, 7, 8} else "bob")
        started = await start_replay(store, replay(Stage.NOTIFY, WorkFilter(owner="ann", provider="vidgo")))
        everything = await start_replay(store, replay(Stage.NOTIFY))

        while works := await store.lease_replays(later(200), later(260), 10):
            for work in works:
                assert await step_replay(store, work, 100, later(200), later(200))

        assert (await get(store, started.id)).looked_at == 3
        assert (await get(store, everything.id)).looked_at == 9
        sent = await publish(store, "all", at=201)
        assert sorted(work.event.task_id for work in sent if work.replay_id == started.id) == [
            "t0",
            "t7",
            "t8",
        ]
        assert len(sent) == 3 + 9

    @pytest.mark.usefixtures("in_small_parts")
    async def test_kept_deliveries_are_read_again_however_many_that_do_not_match_come_before(
        self, store: Store
    ) -> None:
        for number in range(7):
            owner = "ann" if number == 6 else "bob"
            await store.log_submission(submission(f"t{number}", owner=owner))
            await store.record(recording(unclear(f"t{number}")))
        started = await start_replay(store, replay(Stage.REPROCESS, WorkFilter(owner="ann")))
        (work,) = await store.lease_replays(later(200), later(260), 10)

        (kept,) = await store.list_kept(work, 10)

        assert (started.matched, kept.recording.report.task_id) == (1, "t6")

    async def test_text_is_compared_by_its_characters(self, store: Store) -> None:
        for number, owner in enumerate(ALIKE):
            await store.log_submission(submission(f"t{number}", owner=owner))
            await store.log_submission(submission(owner, owner="all of them"))

        for number, owner in enumerate(ALIKE):
            assert await pages(store, owner=owner) == [[f"t{number}"]], owner
            task = await store.get_task("vidgo", owner)
            assert task is not None
            assert task.task_id == owner
            wanted = WorkFilter(task_ids=(owner,))
            await store.record(recording(failed(owner)))
            assert await store.count_matches(Stage.NOTIFY, wanted, later(10**6)) == 1

    async def test_a_task_is_found_by_its_metadata(self, open_with: OpenWith) -> None:
        given = {
            "text": {"order_id": "A-7", "user": "ann"},
            "number": {"order_id": 7},
            "true": {"order_id": True},
            "null": {"order_id": None},
            "object": {"order_id": {"a": 1}},
            "none": {"other": "A-7"},
            "again": {"order_id": "A-7", "user": "bob"},
        }
        store = await open_with(("order_id", "user"))
        for task_id, metadata_ in given.items():
            owner = "bob" if task_id == "again" else "ann"
            row = submission(task_id, owner=owner)
            await store.log_submission(msgspec.structs.replace(row, metadata=metadata_))

        async def found(owner: str | None = None, **wanted: str) -> list[str]:
            page = await store.list_tasks(TaskFilter(metadata=wanted, owner=owner), 10, None)
            return [task.task_id for task in page.tasks]

        assert await found(order_id="A-7") == ["again", "text"]
        assert await found(order_id="A-7", user="ann") == ["text"]
        assert await found(order_id="A-7", owner="bob") == ["again"]
        assert await found(order_id="7") == ["number"]
        assert await found(order_id="true") == ["true"]
        for missing in ("1", "null", "None", "", '{"a":1}', "' OR 1"):
            assert await found(order_id=missing) == []
        await store.aclose()

    async def test_a_value_of_metadata_is_compared_to_its_end_and_a_number_to_its_last_digit(
        self, open_with: OpenWith
    ) -> None:
        long = "x" * 5000
        values = [long, long + "y", long[:256], long[:255], 10**30, 10**30 + 1, 2**63, *ALIKE]
        values.remove("ann\0")  # SQLite reads a string in JSON as far as a NUL
        store = await open_with(("key",))
        for number, value in enumerate(values):
            row = msgspec.structs.replace(submission(f"t{number}"), metadata={"key": value})
            await store.log_submission(row)

        for number, value in enumerate(values):
            assert await pages(store, metadata={"key": str(value)}) == [[f"t{number}"]], str(value)[-9:]
        await store.aclose()


async def pages(store: Store, **wanted: object) -> list[list[str]]:
    found, cursor = [], None
    while True:
        page = await store.list_tasks(TaskFilter(**wanted), 2, cursor)  # type: ignore[arg-type]
        found.append([task.task_id for task in page.tasks])
        if (cursor := page.next_cursor) is None:
            return found


async def some_tasks(store: Store) -> None:
    """Twelve tasks of two owners at two providers: submitted, fetching, failed."""
    for number in range(12):
        provider = "apixo" if number % 4 == 3 else "vidgo"
        row = submission(f"t{number}", owner="ann" if number % 3 == 0 else "bob", provider=provider)
        await store.log_submission(msgspec.structs.replace(row, created_at=later(3600.0 * number)))
    for number in (1, 6):
        await store.record(recording(failed(f"t{number}")))
    for number in (2, 9):
        await store.record(recording(completed(f"t{number}")))
