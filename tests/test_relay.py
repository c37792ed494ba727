"""One outbox entry on its way: what follows from each answer of a sink, and what is said of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver.asset_links import LinkMaker
from receiver.config.parsers import parse_route
from receiver.errors import Gone, Misconfigured, Permanent, Unavailable
from receiver.models import (
    EventType,
    Notification,
    OutboxState,
    OutboxWork,
    Outcome,
    Route,
    Settlement,
    Task,
    WorkFilter,
)
from receiver.options import StoreOptions
from receiver.ports import Sink
from receiver.relay import GRACE_SECONDS, Relay, SinkPolicy, decide
from receiver.sink_circuit import ITS_OWN, Diagnosis
from receiver.stores.sqlite import SqliteStore
from receiver.testing import MemorySink, TurnableClock
from tests.support.blank_record import lay_blank_record
from tests.support.factories import NOW, failed, later, recording, submission
from tests.support.messages import SOURCE, PlainLinks, outbox_work

# --- deciding -------------------------------------------------------------------------------------


def decided(
    failure: Exception | None,
    *,
    attempt: int = 1,
    give_up_at: datetime | None = None,
    diagnosis: Diagnosis = ITS_OWN,
) -> Settlement:
    return decide(
        outbox_work(attempt=attempt),
        failure,
        diagnosis,
        started_at=NOW,
        settled_at=later(2),
        give_up_at=give_up_at,
        chance=0.5,
    )


def test_without_a_failure_it_is_delivered() -> None:
    settlement = decided(None)
    assert (settlement.outcome, settlement.retry_at, settlement.detail) == (Outcome.DELIVERED, None, None)
    assert (settlement.started_at, settlement.settled_at) == (NOW, later(2))


def test_unavailable_is_tried_again_with_growing_waits() -> None:
    away = Unavailable("the consumer answered 500", outcome=Outcome.HTTP_ERROR)
    assert decided(away).retry_at == later(2 + 0.5)
    assert decided(away, attempt=2).retry_at == later(2 + 1)
    assert decided(away, attempt=3).retry_at == later(2 + 2)
    assert decided(away, attempt=1000).retry_at == later(2 + 1800)
    assert (decided(away).outcome, decided(away).detail) == (Outcome.HTTP_ERROR, str(away))


def test_the_wait_that_a_sink_asks_for_is_kept() -> None:
    busy = Unavailable("busy", outcome=Outcome.RATE_LIMITED, retry_after_seconds=300)
    assert decided(busy).retry_at == later(2 + 300)


def test_what_is_no_fault_of_the_entry_waits_as_long_as_is_found() -> None:
    away = Unavailable("away", retry_after_seconds=300)
    waits = decided(away, attempt=9, diagnosis=Diagnosis(uses_attempt=False, wait_seconds=8.0))
    assert (waits.retry_at, waits.uses_attempt, waits.is_probe) == (later(2 + 8), False, False)
    probe = Diagnosis(uses_attempt=False, is_probe=True)
    assert (decided(away, diagnosis=probe).retry_at, decided(away, diagnosis=probe).is_probe) == (
        later(2),
        True,
    )


def test_the_last_attempt_is_made_at_the_end_of_its_life() -> None:
    assert decided(Unavailable("away"), attempt=20, give_up_at=later(100)).retry_at == later(100)
    busy = Unavailable("busy", retry_after_seconds=300)
    assert decided(busy, attempt=20, give_up_at=later(100)).retry_at == later(2 + 300)


@pytest.mark.parametrize("diagnosis", [ITS_OWN, Diagnosis(uses_attempt=False)])
def test_a_failure_after_its_time_makes_a_dead_letter_with_the_reason(diagnosis: Diagnosis) -> None:
    settlement = decided(Unavailable("away"), give_up_at=later(2), diagnosis=diagnosis)
    assert settlement.uses_attempt
    assert (settlement.outcome, settlement.retry_at) == (Outcome.UNAVAILABLE, None)
    assert settlement.detail == "away"


def test_an_outcome_is_not_said_once_more_in_words() -> None:
    away = Unavailable("it could not be reached (connect_failed): no TLS", outcome=Outcome.CONNECT_FAILED)
    settlement = decided(away)
    assert (settlement.outcome, settlement.detail) == (
        Outcome.CONNECT_FAILED,
        "it could not be reached: no TLS",
    )


def test_permanent_makes_a_dead_letter_at_once() -> None:
    settlement = decided(Permanent("it will not take this message"))
    assert (settlement.outcome, settlement.retry_at) == (Outcome.REFUSED, None)


def test_gone_never_makes_a_dead_letter() -> None:
    for attempt in (1, 5, 500):
        settlement = decided(Gone("no more"), attempt=attempt)
        assert (settlement.outcome, settlement.retry_at) == (Outcome.GONE, later(2))


def test_a_sinks_own_bug_is_tried_again_and_told_without_what_it_said() -> None:
    settlement = decided(KeyError("a secret prompt"))
    assert (settlement.outcome, settlement.detail) == (Outcome.CRASHED, "KeyError")
    assert settlement.retry_at == later(2 + 0.5)
    assert decided(KeyError("a secret prompt"), give_up_at=later(2)).retry_at is None


def test_a_sink_that_does_not_return_is_a_timeout() -> None:
    assert decided(TimeoutError()).outcome is Outcome.TIMEOUT
    assert decided(TimeoutError()).retry_at is not None


# --- running --------------------------------------------------------------------------------------


class Sleeper(MemorySink):
    """A sink that keeps no deadline."""

    async def publish(self, notification: Notification) -> None:
        await asyncio.sleep(3600)


class Bench:
    """A store with one entry due at the sink ``main``, and a relay to run it."""

    def __init__(self, store: SqliteStore, clock: TurnableClock) -> None:
        self.store = store
        self.clock = clock
        self.sink = MemorySink()

    def relay(
        self, sinks: Mapping[str, Sink] | None = None, *, links: LinkMaker | None = None, **policy: Any
    ) -> Relay:
        return Relay(
            store=self.store,
            sinks=sinks or {"main": self.sink},
            policies={"main": SinkPolicy(**{"timeout_seconds": 10.0, "max_age_seconds": 86_400.0} | policy)},
            source=SOURCE,
            links=links or PlainLinks(),
            clock=self.clock,
        )

    async def add(self, task_id: str) -> None:
        await self.store.log_submission(submission(task_id))
        await self.store.record(recording(failed(task_id), received_at=self.clock.now()))

    async def lease(self) -> list[OutboxWork]:
        now = self.clock.now()
        return await self.store.lease_outbox("main", now, now + timedelta(seconds=60), 10)

    async def work(self) -> OutboxWork:
        (work,) = await self.lease()
        return work

    async def state(self, task_id: str = "t1") -> OutboxState:
        task = await self.store.get_task("vidgo", task_id)
        assert task is not None
        return task.notifications[0].state


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = TurnableClock(NOW)
    options = StoreOptions(data_dir=tmp_path, clock=clock, routes=(Route(sink="main"),))
    lay_blank_record(tmp_path)
    store = await SqliteStore.open("sqlite:receiver.db", options)
    bench = Bench(store, clock)
    await bench.add("t1")
    yield bench
    await store.aclose()


async def test_a_published_entry_is_delivered_and_not_due_again(bench: Bench) -> None:
    await bench.relay().run([await bench.work()])
    assert [message.subject for message in bench.sink.published] == ["vidgo/t1"]
    assert await bench.state() is OutboxState.DELIVERED
    bench.clock.turn(86_400)
    assert await bench.lease() == []


async def test_after_an_outage_the_entry_arrives_with_the_same_bytes(bench: Bench) -> None:
    relay = bench.relay()
    bench.sink.fail_with = Unavailable("away")
    for _ in range(3):
        await relay.run([await bench.work()])
        assert await bench.state() is OutboxState.PENDING
        bench.clock.turn(60)
    bench.sink.fail_with = None
    await relay.run([await bench.work()])
    assert await bench.state() is OutboxState.DELIVERED
    assert len(bench.sink.published) == 1


async def test_an_entry_whose_lease_was_lost_is_not_settled_by_the_late_one(bench: Bench) -> None:
    late = await bench.work()
    bench.clock.turn(61)
    second = await bench.work()
    relay = bench.relay()
    with capture_logs() as logs:
        bench.sink.fail_with = Permanent("never")
        await relay.run([late])
    assert logs[0]["settled"] is False
    assert await bench.state() is OutboxState.PENDING
    bench.sink.fail_with = None
    await relay.run([second])
    assert await bench.state() is OutboxState.DELIVERED


async def test_gone_stops_the_sink_says_so_once_and_loses_nothing(bench: Bench) -> None:
    await bench.add("t2")
    relay = bench.relay()
    bench.sink.fail_with = Gone("it wants no more notifications")
    with capture_logs() as logs:
        for work in await bench.lease():
            await relay.run([work])
    assert relay.stopped == {"main": "it wants no more notifications"}
    assert [line["event"] for line in logs].count("sink.stopped") == 1
    assert {await bench.state("t1"), await bench.state("t2")} == {OutboxState.PENDING}
    bench.sink.fail_with = None
    bench.clock.turn(3601)
    restarted = bench.relay()
    for work in await bench.lease():
        await restarted.run([work])
    assert len(bench.sink.published) == 2


async def test_a_stopped_sink_is_not_called_for_entries_leased_before(bench: Bench) -> None:
    relay = bench.relay()
    relay.stopped["main"] = "it wants no more notifications"
    await relay.run([await bench.work()])
    assert bench.sink.published == []
    assert await bench.state() is OutboxState.PENDING


async def test_a_sink_without_a_deadline_is_cut_off(bench: Bench) -> None:
    with capture_logs() as logs:
        # A tenth of a second, with the grace that the relay gives on top.
        await bench.relay({"main": Sleeper()}, timeout_seconds=0.1 - GRACE_SECONDS).run([await bench.work()])
    assert logs[0]["outcome"] == "timeout"
    assert await bench.state() is OutboxState.PENDING


async def test_a_cancelled_run_settles_nothing_and_the_lease_runs_out(bench: Bench) -> None:
    task = asyncio.create_task(bench.relay({"main": Sleeper()}).run([await bench.work()]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.clock.turn(61)
    assert (await bench.work()).attempt == 2


async def test_every_attempt_is_one_line_with_everything_in_it(bench: Bench) -> None:
    relay = bench.relay()
    bench.sink.fail_with = Unavailable("away", retry_after_seconds=30)
    work = await bench.work()
    with capture_logs() as logs:
        await relay.run([work])
    assert [line for line in logs if line["event"] != "sink.troubled"] == [
        {
            "event": "notification.settled",
            "log_level": "warning",
            "sink": "main",
            "event_id": work.event.id,
            "provider": "vidgo",
            "task_id": "t1",
            "outcome": "unavailable",
            "attempt": 1,
            "seconds": 0.0,
            "retry_at": "2026-11-21T10:00:30.000Z",
            "settled": True,
        }
    ]


@pytest.mark.parametrize(
    ("failure", "level"),
    [(None, "info"), (Unavailable("away"), "warning"), (Permanent("never"), "error")],
)
async def test_a_dead_letter_is_said_louder_than_a_retry(
    bench: Bench, failure: Exception | None, level: str
) -> None:
    bench.sink.fail_with = failure
    with capture_logs() as logs:
        await bench.relay().run([await bench.work()])
    assert [line["log_level"] for line in logs if line["event"] == "notification.settled"] == [level]


async def test_a_crash_is_logged_without_what_it_said(bench: Bench) -> None:
    bench.sink.fail_with = RuntimeError("the whole message with its prompt")
    with capture_logs() as logs:
        await bench.relay().run([await bench.work()])
    assert "prompt" not in str(logs)
    assert logs[0]["outcome"] == "crashed"


# --- while the sink is down -------------------------------------------------------------------------


async def look(relay: Relay, bench: Bench, *, room: int = 8) -> int:
    """What the loop does when something is due; how many publishes that was."""
    due_at = await relay.next_due_at("main")
    now = bench.clock.now()
    if due_at is None or due_at > now:
        return 0
    works = await relay.lease("main", now, now + timedelta(seconds=60), room)
    await asyncio.gather(*(relay.run(each) for each in works))
    return len(works)


async def work_for(relay: Relay, bench: Bench, seconds: float) -> int:
    """Look every second; how many publishes that was."""
    publishes = 0
    for _ in range(round(seconds)):
        publishes += await look(relay, bench)
        bench.clock.turn(1)
    return publishes


async def task_of(bench: Bench, task_id: str) -> Task:
    task = await bench.store.get_task("vidgo", task_id)
    assert task is not None
    return task


@pytest.mark.parametrize(
    "failure",
    [
        Unavailable("refused", outcome=Outcome.CONNECT_FAILED),
        Unavailable("the consumer answered 503"),
        Unavailable("the consumer answered 500", outcome=Outcome.HTTP_ERROR),
        Unavailable("busy", outcome=Outcome.RATE_LIMITED, retry_after_seconds=20),
        TimeoutError(),
        KeyError("a bug of the plug-in's"),
    ],
    ids=str,
)
async def test_an_outage_uses_up_no_attempts_and_makes_a_few_lines_of_history(
    bench: Bench, failure: Exception
) -> None:
    tasks = ["t1", *(f"more {number}" for number in range(60))]
    for task_id in tasks[1:]:
        await bench.add(task_id)
    relay = bench.relay()
    bench.sink.fail_with = failure

    tries = await work_for(relay, bench, 1800)

    kept = [await task_of(bench, task_id) for task_id in tasks]
    assert {(task.notifications[0].state, task.notifications[0].attempts) for task in kept} == {
        (OutboxState.PENDING, 0)
    }
    assert 1 <= sum(len(task.attempts) for task in kept) <= 10
    assert 40 < tries < 120
    bench.sink.fail_with = None
    await work_for(relay, bench, 60)
    kept = [await task_of(bench, task_id) for task_id in tasks]
    assert {(task.notifications[0].state, task.notifications[0].attempts) for task in kept} == {
        (OutboxState.DELIVERED, 1)
    }
    assert len(bench.sink.published) == len(tasks)


async def test_a_message_that_the_sink_refuses_is_no_outage(bench: Bench) -> None:
    for number in range(20):
        await bench.add(f"more {number}")
    relay = bench.relay()
    bench.sink.fail_with = Permanent("the consumer answered 422: it will not take this message")
    assert await look(relay, bench) == 8
    bench.sink.fail_with = None
    assert await look(relay, bench) == 8
    assert (relay.problem("main"), relay.is_down("main")) == (None, False)


class Choosy(MemorySink):
    """Takes all but one task's event, on which it chokes."""

    tries = 0

    async def publish(self, notification: Notification) -> None:
        if notification.subject == "vidgo/t1":
            self.tries += 1
            raise Unavailable("the consumer answered 500", outcome=Outcome.HTTP_ERROR)
        await super().publish(notification)


async def test_a_message_that_the_sink_chokes_on_holds_up_no_other_and_is_tried_ever_more_rarely(
    bench: Bench,
) -> None:
    sink = Choosy()
    relay = bench.relay({"main": sink})
    for number in range(60):
        await bench.add(f"more {number}")
        for _ in range(60):
            await look(relay, bench)
            bench.clock.turn(1)
        assert len(sink.published) == number + 1
    assert relay.problem("main") is None
    assert sink.tries < 30  # in an hour
    assert (await task_of(bench, "t1")).notifications[0].attempts == sink.tries - 1


class Batches(MemorySink):
    """Takes batches of messages. ``ends`` says what becomes of one of them; what it raises, of them all."""

    def __init__(self, ends: Callable[[Notification], Exception | None] = lambda _: None) -> None:
        super().__init__()
        self.ends = ends
        self.sizes: list[int] = []

    async def publish(self, notification: Notification) -> None:
        (end,) = await self.publish_many([notification])
        if end is not None:
            raise end

    async def publish_many(self, notifications: Sequence[Notification]) -> Sequence[Exception | None]:
        self.sizes.append(len(notifications))
        await self.ping()
        ends = [self.ends(each) for each in notifications]
        self.published += [each for each, end in zip(notifications, ends, strict=True) if end is None]
        return ends


async def add_many(bench: Bench, count: int) -> list[str]:
    tasks = [f"more {number}" for number in range(count)]
    await asyncio.gather(*map(bench.add, tasks))
    return ["t1", *tasks]


async def test_what_is_due_goes_to_a_sink_that_takes_batches_in_one_and_is_settled_each(bench: Bench) -> None:
    tasks = await add_many(bench, 40)
    sink = Batches()
    relay = bench.relay({"main": sink})
    with capture_logs() as logs:
        assert await look(relay, bench, room=2) == 1
    assert sink.sizes == [41]
    assert {await bench.state(task_id) for task_id in tasks} == {OutboxState.DELIVERED}
    (lines,) = [line["each"] for line in logs if line["event"] == "notification.settled"]
    settled = [line["task_id"] for line in lines]
    assert sorted(settled) == sorted(tasks)


async def test_a_batch_that_is_full_may_have_left_more_that_is_due(bench: Bench) -> None:
    await add_many(bench, 2)
    relay = bench.relay({"main": Batches(lambda _: Unavailable("cut", outcome=Outcome.INTERRUPTED))})

    async def lease() -> bool:
        now = bench.clock.now()
        leased = await relay.lease("main", now, now + timedelta(seconds=60), 2)
        has_more = relay.has_more("main", leased)
        await asyncio.gather(*(relay.run(each) for each in leased))
        return has_more

    assert not await lease()  # all three
    bench.clock.turn(60)
    assert await lease()  # one, as nothing of the batch before it was taken


async def test_one_message_of_a_batch_that_is_not_taken_is_its_own_fault(bench: Bench) -> None:
    def choke(notification: Notification) -> Exception | None:
        bench.clock.turn(0.001)
        is_first = notification.subject == "vidgo/t1"
        return Unavailable("it answered 500", outcome=Outcome.HTTP_ERROR) if is_first else None

    tasks = await add_many(bench, 20)
    relay = bench.relay({"main": Batches(choke)})
    await look(relay, bench)
    assert not relay.is_down("main")
    assert {await bench.state(task_id) for task_id in tasks[1:]} == {OutboxState.DELIVERED}
    (first,) = (await task_of(bench, "t1")).notifications
    assert (first.state, first.attempts, first.outcome) == (OutboxState.PENDING, 1, Outcome.HTTP_ERROR)


async def test_of_a_batch_that_is_refused_for_good_each_is_a_dead_letter(bench: Bench) -> None:
    tasks = await add_many(bench, 20)
    relay = bench.relay({"main": Batches(lambda _: Permanent("it takes no such message"))})
    await look(relay, bench)
    assert {await bench.state(task_id) for task_id in tasks} == {OutboxState.DEAD}
    assert not relay.is_down("main")


@pytest.mark.parametrize("failure", [ConnectionResetError(), Unavailable("cut", outcome=Outcome.INTERRUPTED)])
async def test_a_message_that_spoils_its_whole_batch_is_soon_alone_and_all_others_arrive(
    bench: Bench, failure: Exception
) -> None:
    def choke(notification: Notification) -> None:
        if notification.subject == "vidgo/more 17":
            raise failure

    tasks = await add_many(bench, 60)
    sink = Batches(choke)
    relay = bench.relay({"main": sink})
    await work_for(relay, bench, 120)
    states = {task_id: await bench.state(task_id) for task_id in tasks}
    assert {task_id for task_id, state in states.items() if state is OutboxState.PENDING} == {"more 17"}
    assert len(sink.published) == 60


async def test_a_batch_for_a_sink_that_is_away_is_one_outage_and_one_probe_at_a_time(bench: Bench) -> None:
    tasks = await add_many(bench, 60)
    sink = Batches()
    sink.fail_with = Unavailable("nobody listens", outcome=Outcome.CONNECT_FAILED)
    relay = bench.relay({"main": sink})
    with capture_logs() as logs:
        await work_for(relay, bench, 60)
        assert sink.sizes == [61, 1, 1, 1, 1, 1]
        sink.fail_with = None
        await work_for(relay, bench, 60)
    changes = [line["event"] for line in logs if line["event"].startswith("sink.")]
    assert changes == ["sink.troubled", "sink.recovered"]
    assert sorted(message.subject for message in sink.published) == sorted(f"vidgo/{each}" for each in tasks)
    assert {(await task_of(bench, each)).notifications[0].attempts for each in tasks} == {1}


async def test_gone_in_a_batch_stops_the_sink_and_loses_nothing(bench: Bench) -> None:
    tasks = await add_many(bench, 5)
    relay = bench.relay({"main": Batches(lambda _: Gone("it wants no more"))})
    await look(relay, bench)
    assert relay.stopped == {"main": "it wants no more"}
    assert {await bench.state(task_id) for task_id in tasks} == {OutboxState.PENDING}


async def test_a_sink_that_does_not_say_of_each_message_what_became_of_it_loses_none(bench: Bench) -> None:
    class Silent(Batches):
        async def publish_many(self, notifications: Sequence[Notification]) -> Sequence[Exception | None]:
            return (await super().publish_many(notifications))[1:]

    tasks = await add_many(bench, 5)
    await look(bench.relay({"main": Silent()}), bench)
    assert {await bench.state(task_id) for task_id in tasks} == {OutboxState.PENDING}
    assert (await task_of(bench, "t1")).notifications[0].outcome is Outcome.CRASHED


async def test_a_batch_that_does_not_end_is_cut_off(bench: Bench) -> None:
    class Hanging(Batches):
        async def publish_many(self, notifications: Sequence[Notification]) -> Sequence[Exception | None]:
            await asyncio.sleep(3600)
            return []

    tasks = await add_many(bench, 5)
    await look(bench.relay({"main": Hanging()}, timeout_seconds=0.1 - GRACE_SECONDS), bench)
    outcomes = {(await task_of(bench, task_id)).notifications[0].outcome for task_id in tasks}
    assert outcomes == {Outcome.TIMEOUT}


async def test_links_that_are_not_signed_in_time_hold_a_batch_up_no_longer_than_one(bench: Bench) -> None:
    """Else its leases would run out, and what it holds would be sent by somebody else as well."""

    class Hanging(PlainLinks):
        async def links(self, provider: str, task_id: str, *rest: Any) -> Mapping[int, str]:
            if task_id != "t1":
                await asyncio.sleep(3600)
            return await super().links(provider, task_id, *rest)

    tasks = await add_many(bench, 20)
    sink = Batches()
    async with asyncio.timeout(5):
        await look(bench.relay({"main": sink}, links=Hanging(), timeout_seconds=0.2 - GRACE_SECONDS), bench)

    assert [message.subject for message in sink.published] == ["vidgo/t1"]
    assert await bench.state("t1") is OutboxState.DELIVERED
    for task_id in tasks[1:]:
        (waiting,) = (await task_of(bench, task_id)).notifications
        assert (waiting.state, waiting.outcome) == (OutboxState.PENDING, Outcome.TIMEOUT)
        assert "links" in (waiting.detail or "")


async def test_while_a_sink_is_down_it_is_said_why_and_when_it_is_tried_again(bench: Bench) -> None:
    relay = bench.relay()
    assert (relay.problem("main"), relay.is_down("main")) == (None, False)
    bench.sink.fail_with = Unavailable("nobody listens", outcome=Outcome.CONNECT_FAILED)
    with capture_logs() as logs:
        await look(relay, bench)
        assert relay.problem("main") == "connect_failed: nobody listens, tried again in 1 s"
        assert relay.is_down("main")
        bench.clock.turn(1)
        assert relay.problem("main") == "connect_failed: nobody listens, tried again when an event is due"
        bench.sink.fail_with = None
        await look(relay, bench)
    assert (relay.problem("main"), relay.is_down("main")) == (None, False)
    changes = [line for line in logs if line["event"].startswith("sink.")]
    assert changes == [
        {
            "event": "sink.troubled",
            "log_level": "warning",
            "sink": "main",
            "outcome": "connect_failed",
            "detail": "nobody listens",
        },
        {"event": "sink.recovered", "log_level": "info", "sink": "main", "outcome": "connect_failed"},
    ]


async def test_after_a_day_of_failures_all_that_is_a_day_old_is_a_dead_letter_with_the_reason(
    bench: Bench,
) -> None:
    relay = bench.relay()
    bench.sink.fail_with = Unavailable("nobody listens", outcome=Outcome.CONNECT_FAILED)
    old = ["t1", *(f"more {number}" for number in range(20))]
    for task_id in old[1:]:
        await bench.add(task_id)
    await work_for(relay, bench, 60)
    bench.clock.turn(86_400 - 60 - 1)
    await bench.add("young")
    with capture_logs() as logs:
        await work_for(relay, bench, 40)

    assert {await bench.state(task_id) for task_id in old} == {OutboxState.DEAD}
    assert await bench.state("young") is OutboxState.PENDING
    letters = (await bench.store.list_dead(WorkFilter(), "main", 100, None)).dead_letters
    assert {(letter.outcome, letter.detail) for letter in letters} == {
        (Outcome.CONNECT_FAILED, "nobody listens")
    }
    (line,) = [line for line in logs if line["event"] == "notifications.given_up"]
    assert (line["sink"], line["outcome"], line["count"]) == ("main", "connect_failed", 20)


async def test_an_old_entry_is_not_given_up_for_a_sink_that_failed_just_now(bench: Bench) -> None:
    bench.clock.turn(2 * 86_400)  # the process was down
    relay = bench.relay()
    bench.sink.fail_with = Unavailable("nobody listens yet", outcome=Outcome.CONNECT_FAILED)
    await work_for(relay, bench, 3000)
    assert await bench.state() is OutboxState.PENDING
    await work_for(relay, bench, 700)
    assert await bench.state() is OutboxState.DEAD


async def test_an_entry_that_the_sink_chokes_on_while_it_takes_others_ends_by_its_age(bench: Bench) -> None:
    relay = bench.relay({"main": Choosy()}, max_age_seconds=3600.0)
    for number in range(62):
        await bench.add(f"more {number}")
        await work_for(relay, bench, 60)
        if number == 58:
            assert await bench.state() is OutboxState.PENDING
    assert await bench.state() is OutboxState.DEAD


async def test_a_leap_of_the_clock_gives_up_nothing(bench: Bench) -> None:
    relay = bench.relay()
    bench.sink.fail_with = Unavailable("nobody listens", outcome=Outcome.CONNECT_FAILED)
    await work_for(relay, bench, 7200)
    bench.clock.leap(2 * 86_400)
    await work_for(relay, bench, 120)
    assert await bench.state() is OutboxState.PENDING


# --- what a relay is built from -------------------------------------------------------------------


def test_a_filter_chooses_by_provider_type_and_owner() -> None:
    wanted = parse_route("main", "provider=vidgo,apixo type=task.completed")
    assert wanted.wants("vidgo", EventType.COMPLETED, "anybody")
    assert not wanted.wants("reapi", EventType.COMPLETED, "anybody")
    assert not wanted.wants("vidgo", EventType.FAILED, "anybody")
    assert parse_route("main", "owner=user-17").owners == {"user-17"}
    assert parse_route("main", "  provider=vidgo provider=reapi ").providers == {"vidgo", "reapi"}


def test_an_empty_filter_wants_everything() -> None:
    assert parse_route("main", "") == Route(sink="main")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model=gpt", "has 'model'; write KEY=VALUE,VALUE with the keys provider, type, owner"),
        ("vidgo", "has 'vidgo'; write"),
        ("provider=", "has no value after 'provider'"),
        ("provider", "has no value after 'provider'"),
        ("provider=vidgo,", "has no value after 'provider', or an empty one"),
        ("type=completed", "has the unknown type 'completed'; known are task.completed, task.partial"),
        ("provider=vidgoo", "has the unknown provider 'vidgoo'; known are vidgo, apixo"),
    ],
)
def test_a_wrong_filter_is_refused_naming_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_route("main", text, providers=["vidgo", "apixo"])
    assert caught.value.problems[0].startswith(f"RECEIVER_SINK_MAIN_FILTER {problem}")


def test_every_problem_of_a_filter_is_told_at_once() -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_route("main", "model=gpt type=done owner=")
    assert len(caught.value.problems) == 3
