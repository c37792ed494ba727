"""What every store must do so that consumers can go by an event's id: one for each task and revision.

The sink ``all`` wants everything, ``failures`` only tasks that failed.
"""

import json
from typing import Any

import pytest

from receiver.models import EventType, Notification, OutboxWork, Outcome, Recording, Stage, WorkFilter
from receiver.ports import Store
from tests.contracts.replaying import publish, replay, requeue_dead, start_replay, step_replay, task_of
from tests.support.factories import (
    answer,
    completed,
    failed,
    later,
    recording,
    settlement,
    stored,
    submission,
)
from tests.support.messages import rendered
from tests.support.settling import settle_outbox

ENDS = {
    "a callback": recording(completed("t1")),
    "a failure": recording(failed("t1")),
    "a reservation's own callback": recording(completed("t1"), submission_id="sub_7"),
    "an answer": answer(completed("t1")),
}


def message(work: OutboxWork) -> Notification:
    return rendered(work)


def said(work: OutboxWork) -> dict[str, Any]:
    """The message without what may differ between a retry and a replay."""
    document: dict[str, Any] = json.loads(message(work).body)
    document.pop("replayid", None)
    for asset in document["data"]["assets"]:
        asset.pop("url", None)
    return document


async def event_id(store: Store) -> str:
    event = (await task_of(store, "t1")).event
    assert event is not None
    return event.id


async def settle_files(store: Store, *outcomes: Outcome, at: float) -> None:
    """One file after the other, as they are leased."""
    works = await store.lease_assets(later(at), later(at + 60), 100)
    for work, outcome in zip(works, outcomes, strict=True):
        done = stored(work, at=later(at)) if outcome is Outcome.STORED else settlement(outcome, at=later(at))
        assert await store.settle_asset(work, done)


async def end_untold(store: Store, *outcomes: Outcome) -> None:
    """A task whose files ended so, of which no sink was told yet."""
    await store.log_submission(submission("t1", id_="sub_7"))
    await store.record(recording(completed("t1", files=len(outcomes))))
    await settle_files(store, *outcomes, at=1)


async def again(store: Store, stage: Stage, at: float, *sinks: str) -> None:
    """A replay of everything, with all its steps."""
    started = await start_replay(store, replay(stage, sinks=sinks, created_at=later(at)))
    works = await store.lease_replays(later(at), later(at + 60), 10)  # and such as have just ended
    (work,) = [work for work in works if work.replay.id == started.id]
    assert await step_replay(store, work, 10, later(at), later(at))


async def lease_one(store: Store, sink: str, at: float) -> OutboxWork:
    (work,) = await store.lease_outbox(sink, later(at), later(at + 60), 10)
    return work


async def end_anew(store: Store, *outcomes: Outcome, at: float) -> None:
    """Files that could not be had are fetched again, and end so."""
    await again(store, Stage.FETCH, at)
    await settle_files(store, *outcomes, at=at)


class RevisionsContract:
    """Part of ``ReplaysContract``, which brings the ``store``."""

    # --- the id ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
    async def test_an_event_is_named_after_its_submission_however_its_task_ends(
        self, store: Store, end: Recording
    ) -> None:
        await store.log_submission(submission(None if end.submission_id else "t1", id_="sub_7"))

        await store.record(end)

        assert await event_id(store) == "evt_7"

    async def test_the_event_of_an_early_callback_is_named_after_the_submission_that_it_waited_for(
        self, store: Store
    ) -> None:
        await store.record(recording(failed("t1")))
        await store.log_submission(submission(None, id_="sub_7"))

        await store.bind_submission("sub_7", "t1", later(1))

        assert await event_id(store) == "evt_7"

    async def test_each_revision_has_an_id_and_the_task_keeps_its_subject(self, store: Store) -> None:
        await end_untold(store, Outcome.GONE, Outcome.TIMEOUT, Outcome.GONE)
        works = await publish(store, "all", at=2)
        await end_anew(store, Outcome.GONE, Outcome.STORED, Outcome.GONE, at=100)
        works += await publish(store, "all", at=102)
        await end_anew(store, Outcome.STORED, Outcome.STORED, at=200)
        works += await publish(store, "all", at=202)

        documents = [said(work) for work in works]
        assert [(each["id"], each["revision"], each["type"]) for each in documents] == [
            ("evt_7", 1, "task.failed"),
            ("evt_7.2", 2, "task.partial"),
            ("evt_7.3", 3, "task.completed"),
        ]
        assert {each["subject"] for each in documents} == {"vidgo/t1"}

    # --- what is said ---------------------------------------------------------------------------------

    async def test_a_retry_says_what_was_announced_while_files_are_fetched_again(self, store: Store) -> None:
        await end_untold(store, Outcome.GONE, Outcome.GONE)
        first = await lease_one(store, "all", at=2)
        await settle_outbox(store, first, settlement(Outcome.TIMEOUT, at=later(2), retry_at=later(3)))
        await again(store, Stage.FETCH, 100)
        one, other = await store.lease_assets(later(101), later(160), 10)
        await store.settle_asset(one, stored(one, at=later(102)))
        await store.settle_asset(other, settlement(Outcome.TIMEOUT, at=later(102), retry_at=later(9000)))

        retry = await lease_one(store, "all", at=103)

        assert message(retry) == message(first)
        assert said(retry)["type"] == "task.failed"
        assert [asset["outcome"] for asset in said(retry)["data"]["assets"]] == ["gone", "gone"]

    @pytest.mark.parametrize(
        "outcomes", [(), (Outcome.TIMEOUT, Outcome.TOO_LARGE)], ids=["on their way", "in vain"]
    )
    async def test_a_replay_says_what_was_announced_of_files_that_were_fetched_again(
        self, store: Store, outcomes: tuple[Outcome, ...]
    ) -> None:
        await end_untold(store, Outcome.GONE, Outcome.STORED, Outcome.GONE)
        (first,) = await publish(store, "all", at=2)
        await again(store, Stage.FETCH, 100)
        if outcomes:
            await settle_files(store, *outcomes, at=101)

        await again(store, Stage.NOTIFY, 200)

        (replayed,) = await publish(store, "all", at=201)
        assert said(replayed) == said(first)

    async def test_a_replay_sends_the_newest_revision_as_it_was_announced(self, store: Store) -> None:
        await end_untold(store, Outcome.GONE, Outcome.GONE)
        await publish(store, "all", at=2)
        await end_anew(store, Outcome.GONE, Outcome.STORED, at=100)
        (second,) = await publish(store, "all", at=102)
        await end_anew(store, Outcome.TIMEOUT, at=200)

        await again(store, Stage.NOTIFY, 300)

        (replayed,) = await publish(store, "all", at=301)
        assert said(replayed) == said(second)
        assert (said(second)["id"], said(second)["type"]) == ("evt_7.2", "task.partial")

    async def test_what_people_replayed_of_an_older_revision_is_sent_as_it_was_announced(
        self, store: Store
    ) -> None:
        await end_untold(store, Outcome.GONE)
        (first,) = await publish(store, "all", at=2)
        await again(store, Stage.NOTIFY, 100)
        await end_anew(store, Outcome.STORED, at=200)

        works = await publish(store, "all", at=300)

        assert [said(work)["id"] for work in works] == ["evt_7", "evt_7.2"]
        assert said(works[0]) == said(first)

    # --- whom it is said to ---------------------------------------------------------------------------

    async def test_a_sink_that_does_not_want_the_newer_revision_is_still_told_the_older(
        self, store: Store
    ) -> None:
        await end_untold(store, Outcome.GONE)

        await end_anew(store, Outcome.STORED, at=100)

        assert [work.event.type for work in await publish(store, "all", at=102)] == [EventType.COMPLETED]
        (failure,) = await publish(store, "failures", at=102)
        assert (said(failure)["id"], said(failure)["type"]) == ("evt_7", "task.failed")
        assert said(failure)["data"]["error"]["code"] == "gone"
        assert said(failure)["data"]["assets"] == [{"index": 0, "state": "failed", "outcome": "gone"}]

    async def test_an_older_revision_under_way_is_tried_again_where_the_newer_is_not_wanted(
        self, store: Store
    ) -> None:
        await end_untold(store, Outcome.GONE)
        unwanted, wanted = [await lease_one(store, sink, at=2) for sink in ("all", "failures")]
        await end_anew(store, Outcome.STORED, at=30)

        for work in (unwanted, wanted):
            failure = settlement(Outcome.TIMEOUT, at=later(31), retry_at=later(40))
            assert await settle_outbox(store, work, failure)

        assert [work.revision for work in await publish(store, "all", at=50)] == [2]
        assert [message(work) for work in await publish(store, "failures", at=50)] == [message(wanted)]

    async def test_an_older_revision_under_way_is_no_dead_letter_where_the_newer_is_told(
        self, store: Store
    ) -> None:
        await end_untold(store, Outcome.GONE)
        unwanted, wanted = [await lease_one(store, sink, at=2) for sink in ("all", "failures")]
        await end_anew(store, Outcome.STORED, at=30)

        for work in (unwanted, wanted):
            assert await settle_outbox(store, work, settlement(Outcome.REFUSED, at=later(31)))

        page = await store.list_dead(WorkFilter(), None, 10, None)
        assert [(letter.sink, letter.revision) for letter in page.dead_letters] == [("failures", 1)]

    async def test_an_older_revision_whose_holder_died_is_not_sent_after_the_newer(
        self, store: Store
    ) -> None:
        await end_untold(store, Outcome.GONE)
        for sink in ("all", "failures"):
            await lease_one(store, sink, at=2)
        await end_anew(store, Outcome.STORED, at=30)

        assert [work.revision for work in await publish(store, "all", at=100)] == [2]
        assert [work.revision for work in await publish(store, "failures", at=100)] == [1]
        assert (await store.count_stats()).outbox == {"all": {"delivered": 1}, "failures": {"delivered": 1}}

    async def test_dead_letters_of_an_older_revision_stay_only_where_the_newer_is_not_told(
        self, store: Store
    ) -> None:
        await end_untold(store, Outcome.GONE)
        for sink in ("all", "failures"):
            await publish(store, sink, at=2, outcome=Outcome.REFUSED)

        await end_anew(store, Outcome.STORED, at=100)

        page = await store.list_dead(WorkFilter(), None, 10, None)
        assert [(letter.sink, letter.revision) for letter in page.dead_letters] == [("failures", 1)]
        assert (await requeue_dead(store, WorkFilter(), (), later(200), 10)).count == 1
        (sent,) = await publish(store, "failures", at=200)
        assert (said(sent)["id"], said(sent)["type"]) == ("evt_7", "task.failed")
        assert [work.revision for work in await publish(store, "all", at=200)] == [2]

    async def test_a_requeued_dead_letter_gets_all_its_tries_where_the_newer_is_not_wanted(
        self, store: Store
    ) -> None:
        await end_untold(store, Outcome.GONE)
        await publish(store, "failures", at=2, outcome=Outcome.REFUSED)
        await end_anew(store, Outcome.STORED, at=100)
        await requeue_dead(store, WorkFilter(), (), later(200), 10)
        work = await lease_one(store, "failures", at=200)

        await settle_outbox(store, work, settlement(Outcome.TIMEOUT, at=later(201), retry_at=later(210)))

        assert [work.revision for work in await publish(store, "failures", at=300)] == [1]
