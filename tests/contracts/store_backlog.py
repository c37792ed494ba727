"""What every store must count of what waits, and of what was given up."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from receiver.models import Backlog, Counted, Outcome, ReplayState, Stage
from receiver.ports import Store
from receiver.record import backlog
from tests.contracts.replaying import replay, start_replay
from tests.contracts.store import OpenStore
from tests.support.factories import (
    answer,
    completed,
    failed,
    later,
    recording,
    settlement,
    submission,
    unclear,
)
from tests.support.settling import settle_outbox

HOUR, DAY = 3600.0, 86_400.0


async def look(store: Store, at: float = 0.0) -> Backlog:
    return await store.count_backlog(later(at), later(at - DAY), ["vidgo", "apixo"])


def counted(count: int, first: float) -> Counted:
    return Counted(count=count, first_at=later(first))


class BacklogContract:
    """Subclasses give an ``open_store`` fixture, as of ``StoreContract``."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        store = await open_store()
        yield store
        await store.aclose()

    async def test_in_a_new_record_nothing_waits(self, store: Store) -> None:
        found = msgspec.structs.replace(await look(store), wal_bytes=None)
        assert found == Backlog(open_tasks={"vidgo": Counted(), "apixo": Counted()})

    async def test_files_wait_since_their_task_ended_until_their_links_die(self, store: Store) -> None:
        for number, links in enumerate((HOUR, 3 * HOUR)):
            await store.log_submission(submission(f"t{number}"))
            ended = recording(
                completed(f"t{number}", files=2), received_at=later(number), links_die_at=later(links)
            )
            await store.record(ended)

        found = await look(store, 10)

        assert found.unfetched == counted(4, 0)
        assert found.dying == counted(2, HOUR)
        assert found.newest_delivery_at == later(1)

    async def test_events_wait_by_sink_since_they_were_queued_and_are_dead_for_a_day(
        self, store: Store
    ) -> None:
        for number in range(3):
            await store.log_submission(submission(f"t{number}"))
            await store.record(recording(failed(f"t{number}"), received_at=later(number)))
        (work, *_) = await store.lease_outbox("all", later(5), later(60), 1)
        await settle_outbox(store, work, settlement(Outcome.REFUSED, at=later(6)))

        found = await look(store, 10)

        assert found.unsent == {"all": counted(2, 1), "failures": counted(3, 0)}
        assert found.dead == {"all": counted(1, 6)}
        assert (await look(store, DAY + 7)).dead == {}

    async def test_what_nobody_can_tie_to_a_task_is_counted(self, store: Store) -> None:
        await store.log_submission(submission(None))
        await store.record(recording(failed("early")))
        await store.record(recording(unclear("odd"), received_at=later(3)))

        found = await look(store, DAY + 1)

        assert found.unbound == counted(1, 0)
        assert (await look(store, DAY)).unbound.count == 0
        assert found.early == 1
        assert found.unrecognised == counted(1, 3)
        assert found.oldest_body_at == later(0)

    async def test_a_lost_task_is_told_for_a_day_and_a_failed_one_is_not(self, store: Store) -> None:
        for task_id in ("lost", "failed"):
            await store.log_submission(submission(task_id))
        await store.record(recording(failed("failed")))
        lost = msgspec.structs.replace(failed("lost"), error_code=Outcome.LOST.value)
        await store.record(answer(lost, received_at=later(DAY + 5)))

        assert (await look(store, DAY + 10)).lost == counted(1, DAY + 5)
        assert (await look(store, 2 * DAY + 6)).lost.count == 0

    async def test_open_tasks_are_counted_by_provider_with_the_next_question(self, store: Store) -> None:
        for number in range(2):
            await store.log_submission(submission(f"t{number}"))
        due_at = await store.next_due_at("polls", "vidgo")

        assert (await look(store)).open_tasks == {
            "vidgo": Counted(count=2, first_at=due_at),
            "apixo": Counted(),
        }

    async def test_replays_are_paused_or_their_step_is_long_due(self, store: Store) -> None:
        paused = await start_replay(store, replay(Stage.NOTIFY, created_at=later(100)))
        await start_replay(store, replay(Stage.NOTIFY, created_at=later(200)))
        await store.change_replay(paused.id, ReplayState.PAUSED, later(300))

        assert (await look(store, 300)).paused == counted(1, 100)
        assert (await look(store, 300)).stalled.count == 0
        assert (await look(store, 900)).stalled == counted(1, 200)

    async def test_counting_stops_at_one_more_than_is_told(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backlog, "MOST_COUNTED", 2)
        for number in range(5):
            await store.log_submission(submission(None))
            await store.log_submission(submission(f"t{number}"))
            await store.record(recording(completed(f"t{number}")))

        found = await look(store, DAY + 1)

        assert (found.unbound.count, found.unfetched.count, found.dying.count) == (3, 3, 3)
