"""What every store must tell of what was queued for sinks: each message once, in order, behind a cursor."""

from collections.abc import AsyncIterator

import pytest

from receiver.errors import Rejected
from receiver.models import AnnouncedPage, EventType, Outcome, Route, Stage
from receiver.ports import Store
from receiver.problem_types import ProblemType
from tests.contracts.replaying import (
    end_task,
    end_with_files,
    make_step,
    replay,
    start_replay,
)
from tests.contracts.store import OpenStore
from tests.support.factories import failed, later, recording, submission

EVERYTHING = Route(sink="")


async def told(
    store: Store, cursor: str | None, wanted: Route = EVERYTHING, limit: int = 50, *, last: int = 0
) -> tuple[list[str], str]:
    page: AnnouncedPage = await store.list_announced(cursor, wanted, limit, last=last)
    return [work.event.task_id for work in page.works], page.cursor


class AnnouncedContract:
    """Subclasses give an ``open_store`` fixture, as of ``StoreContract``."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        store = await open_store()
        yield store
        await store.aclose()

    async def test_from_now_on_each_event_comes_once_however_many_sinks_want_it(self, store: Store) -> None:
        await end_task(store, "before")
        found, cursor = await told(store, None)
        assert found == []

        await end_task(store, "t1")
        await end_task(store, "t2")

        found, cursor = await told(store, cursor)
        assert found == ["t1", "t2"]
        assert await told(store, cursor) == ([], cursor)

    async def test_pages_lead_on_until_all_was_told(self, store: Store) -> None:
        _, cursor = await told(store, None)
        for number in range(5):
            await end_task(store, f"t{number}")
        found: list[str] = []
        for _ in range(10):
            page, cursor = await told(store, cursor, limit=1)
            found += page
        assert found == [f"t{number}" for number in range(5)]

    async def test_it_may_begin_with_the_last_that_there_were(self, store: Store) -> None:
        for number in range(3):
            await end_task(store, f"t{number}")
        assert (await told(store, None, last=2))[0] == ["t2"]  # two sinks each
        assert (await told(store, None, last=100))[0] == ["t0", "t1", "t2"]

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            (Route(sink="", owners=frozenset({"bob"})), ["t1"]),
            (Route(sink="", providers=frozenset({"apixo"})), ["t2"]),
            (Route(sink="", types=frozenset({EventType.COMPLETED})), ["t3"]),
        ],
    )
    async def test_what_is_not_wanted_is_passed_over(
        self, store: Store, wanted: Route, found: list[str]
    ) -> None:
        _, cursor = await told(store, None)
        await end_task(store, "t0")
        await end_task(store, "t1", owner="bob")
        await end_task(store, "t2", provider="apixo")
        await end_with_files(store, "t3", Outcome.STORED)
        assert (await told(store, cursor, wanted))[0] == found

    async def test_a_replay_comes_again_and_says_which(self, store: Store) -> None:
        await end_task(store, "t1")
        _, cursor = await told(store, None)
        asked = await start_replay(store, replay(Stage.NOTIFY))
        await make_step(store, 101)

        (work,) = (await store.list_announced(cursor, EVERYTHING, 50)).works
        assert (work.event.task_id, work.replay_id) == ("t1", asked.id)

    async def test_it_says_all_that_a_sink_is_told(self, store: Store) -> None:
        _, cursor = await told(store, None)
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        (announced,) = (await store.list_announced(cursor, EVERYTHING, 50)).works
        (leased,) = await store.lease_outbox("all", later(1), later(60), 10)
        assert announced.event == leased.event
        assert (announced.revision, announced.created_at) == (leased.revision, leased.created_at)

    async def test_a_cursor_of_somebody_else_is_refused(self, store: Store) -> None:
        with pytest.raises(Rejected) as refused:
            await told(store, "elsewhere")
        assert refused.value.kind is ProblemType.BAD_CURSOR
