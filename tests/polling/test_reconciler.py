"""Asking about tasks whose callback did not come, or has to be confirmed: a real record, real connections."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from receiver.blobs.local import LocalBlobs
from receiver.fetching import media
from receiver.fetching.client import GuardedClient
from receiver.fetching.download import DownloadLimits
from receiver.fetching.fetcher import AssetFetcher, AssetLimits, Fetcher
from receiver.ingest import Ingest
from receiver.models import (
    AssetState,
    AssetWork,
    Confirm,
    Event,
    EventType,
    Outcome,
    Poll,
    PollWork,
    Proof,
    RemoteFile,
    Route,
    Settlement,
    Stage,
    StatusRequest,
    Task,
    Verdict,
    Via,
)
from receiver.options import StoreOptions
from receiver.plugins import load_providers
from receiver.polling.reconciler import (
    MOST_ATTEMPTS_UNASKED,
    Reconciler,
    confirmation,
    rare_wait_seconds,
    told_in_parts,
    wait_seconds,
)
from receiver.polling.status_client import StatusClient
from receiver.providers.vidgo import Vidgo
from receiver.stores.sqlite import SqliteStore
from receiver.testing import TurnableClock, sample_callback
from receiver.tokens import Tokens
from tests.contracts.replaying import replay, start_replay, step_replay
from tests.support.blank_record import lay_blank_record
from tests.support.factories import NOW, completed, later, no_bodies, recording, submission
from tests.support.media_host import Answer, MediaHost, picture, says
from tests.support.status_host import asking, running, status_path, tells

FIRST = 300.0  # seconds until a task is asked about
LOST_AFTER = 86_400.0
WEEK = 7 * 86_400.0
LINK = "https://cdn.test/secret-link.png"
TOKENS = Tokens(["a-secret-of-enough-length"])
PICTURE = picture()
LIMITS = AssetLimits(
    download=DownloadLimits(max_bytes=1_000_000, deadline_seconds=5.0),
    max_task_bytes=10_000_000,
    max_pixels=1_000_000,
    kinds=frozenset({media.IMAGE}),
)


class World:
    """A receiver without loops: each step is the test's own."""

    def __init__(
        self, *, store: SqliteStore, status_client: StatusClient, host: MediaHost, clock: TurnableClock
    ) -> None:
        self.store, self.status_client, self.host, self.clock = store, status_client, host, clock
        self.woken: list[str] = []
        providers = load_providers()
        self.ingest = Ingest(
            store=store,
            providers=providers,
            tokens=TOKENS,
            allow_untokened=True,
            wake=self.woken.append,
        )
        self.reconciler = Reconciler(
            store=store,
            status_client=status_client,
            ingest=self.ingest,
            providers=providers,
            clock=clock,
            lost_after_seconds=LOST_AFTER,
        )

    def tell(self, answer: Answer, task_id: str = "t1", provider: str = "vidgo") -> None:
        """What the provider answers about a task from now on."""
        self.host.put(status_path(provider, task_id), answer)

    async def lease(self, provider: str = "vidgo", limit: int = 10) -> list[PollWork]:
        now = self.clock.now()
        return await self.reconciler.lease(provider, now, now + timedelta(seconds=40), limit)

    async def poll(self, provider: str = "vidgo") -> Settlement:
        """Wait until a task is due, and ask about it."""
        due_at = await self.reconciler.next_due_at(provider)
        assert due_at is not None
        self.clock.turn_to(max(due_at, self.clock.now()))
        (work,) = await self.lease(provider, 1)
        return await self.reconciler.run(work)

    async def call_back(self, task_id: str = "t1", *, files: list[str], token: str | None = None) -> None:
        admission = self.ingest.authorize("vidgo", token or TOKENS.for_provider("vidgo"))
        body = sample_callback("vidgo", task_id, files=files)
        await self.ingest.accept(admission, body=body, headers={}, received_at=self.clock.now())

    async def bring(self, document: object, token: str) -> None:
        """A callback of any kind."""
        body = msgspec.json.encode(document)
        admission = self.ingest.authorize("vidgo", token)
        await self.ingest.accept(admission, body=body, headers={}, received_at=self.clock.now())

    async def task(self, task_id: str = "t1", provider: str = "vidgo") -> Task:
        task = await self.store.get_task(provider, task_id)
        assert task is not None
        return task

    async def event(self, task_id: str = "t1") -> Event:
        event = (await self.task(task_id)).event
        assert event is not None
        return event

    async def waiting(self, task_id: str = "t1", provider: str = "vidgo") -> Poll:
        """The poll of a task that must not have ended."""
        task = await self.task(task_id, provider)
        assert task.event is None
        assert task.poll is not None
        return task.poll


@asynccontextmanager
async def opened(
    tmp_path: Path,
    host: MediaHost,
    *,
    key: str | None = "key",
    per_minute: int = 60,
    policy: Confirm = Confirm.WEAK,
) -> AsyncIterator[World]:
    clock = TurnableClock(NOW)
    async with asking(host, clock, key=key, per_minute=per_minute) as status_client:
        options = StoreOptions(
            data_dir=tmp_path,
            clock=clock,
            routes=[Route(sink="all")],
            first_poll_seconds=dict.fromkeys(load_providers(), FIRST),
            confirms=confirmation(policy, status_client),
            unpolled=dict.fromkeys(load_providers(), "no key is set") if key is None else {},
        )
        lay_blank_record(tmp_path)
        store = await SqliteStore.open("sqlite:receiver.db", options)
        try:
            yield World(store=store, status_client=status_client, host=host, clock=clock)
        finally:
            await store.aclose()


@pytest.fixture
async def world(tmp_path: Path, host: MediaHost) -> AsyncIterator[World]:
    """One task of Vidgo's that still runs, as far as we know."""
    async with opened(tmp_path, host) as world:
        await world.store.log_submission(submission("t1"))
        yield world


FINISHED = tells(sample_callback("vidgo", "t1", files=[LINK]))


# --- one question after the other -----------------------------------------------------------------------


async def test_a_task_whose_callback_never_came_ends_by_asking(world: World) -> None:
    world.tell(FINISHED)
    assert await world.reconciler.next_due_at("vidgo") == later(FIRST)

    settlement = await world.poll()

    assert (settlement.outcome, settlement.retry_at) == (Outcome.ANSWERED, None)
    event = await world.event()
    assert (event.via, [asset.state for asset in event.assets]) == (Via.POLL, [AssetState.PENDING])
    assert world.woken == ["assets"]
    assert await world.reconciler.next_due_at("vidgo") is None


@pytest.mark.parametrize("provider", ["apidot", "apixo", "reapi"])
async def test_the_other_providers_are_asked_alike(world: World, provider: str) -> None:
    await world.store.log_submission(submission("t2", provider=provider))
    world.tell(tells(sample_callback(provider, "t2", error="too dark")), "t2", provider)
    assert (await world.poll(provider)).outcome is Outcome.ANSWERED
    event = await world.store.get_event(provider, "t2")
    assert event is not None
    assert (event.type, event.error_message) == (EventType.FAILED, "too dark")


async def test_a_task_that_runs_is_asked_about_ever_more_rarely_and_nothing_else_happens(
    world: World,
) -> None:
    world.tell(tells(running()))
    waits = []
    for _ in range(6):
        settlement = await world.poll()
        assert settlement.outcome is Outcome.IN_PROGRESS
        assert settlement.retry_at is not None
        waits.append((settlement.retry_at - world.clock.now()).total_seconds())
    expected = [15 * 1.5**n for n in range(6)]
    assert waits == [pytest.approx(seconds, rel=0.11) for seconds in expected]
    task = await world.task()
    assert task.event is None
    assert task.deliveries == ()
    poll = await world.waiting()
    assert (poll.asked, poll.outcome) == (6, Outcome.IN_PROGRESS)
    assert settlement.retry_at is not None
    assert abs(poll.due_at - settlement.retry_at) < timedelta(milliseconds=1)


def test_waits_grow_to_a_quarter_of_an_hour_and_differ_by_a_tenth() -> None:
    assert [wait_seconds(n, 4, 0.5) for n in (1, 2, 3)] == [4, 6, 9]
    assert wait_seconds(50, 4, 0.5) == wait_seconds(10**6, 4, 0.5) == 900
    assert wait_seconds(1, 100, 0.0) == pytest.approx(90)
    assert wait_seconds(1, 100, 0.999) == pytest.approx(110, abs=0.1)


async def test_what_is_not_understood_is_kept_and_asked_about_again(world: World) -> None:
    other_task = sample_callback("vidgo", "t2", files=[LINK])
    for body in (b'{"code": 200, "data": {"task_id": "t1", "status": "melted"}}', b"<html>", other_task):
        world.tell(tells(body))
        settlement = await world.poll()
        assert settlement.outcome is Outcome.UNREADABLE
        assert settlement.retry_at is not None
    task = await world.task()
    assert task.event is None
    assert [(each.via, each.proof, each.verdict, each.note) for each in task.deliveries] == [
        (Via.POLL, Proof.POLL, Verdict.UNRECOGNISED, "unknown state"),
        (Via.POLL, Proof.POLL, Verdict.UNRECOGNISED, "the answer is not JSON"),
        (Via.POLL, Proof.POLL, Verdict.UNRECOGNISED, "the answer is about another task"),
    ]
    world.tell(FINISHED)
    await world.poll()
    assert (await world.event()).via is Via.POLL


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (tells(b"{}", status=404), Outcome.UNKNOWN_TASK),
        (tells(b"{}", status=400), Outcome.REFUSED),
        (tells(b"{}", status=401), Outcome.KEY_REFUSED),
        (tells(b"{}", status=402), Outcome.OUT_OF_CREDIT),
        (tells(b"{}", status=429), Outcome.RATE_LIMITED),
        (tells(b"{}", status=500), Outcome.HTTP_ERROR),
        (tells(b'{"code": 404, "message": "no"}'), Outcome.UNKNOWN_TASK),
    ],
)
async def test_no_error_of_the_provider_fails_a_task(world: World, answer: Answer, outcome: Outcome) -> None:
    world.tell(answer)
    for asked in (1, 2, 3):
        settlement = await world.poll()
        assert settlement.outcome is outcome
        poll = await world.waiting()
        assert (poll.asked, poll.outcome, poll.detail) == (asked, outcome, settlement.detail)
    assert (await world.task()).deliveries == ()
    world.tell(FINISHED)
    world.clock.turn_to(max(world.status_client.free_at("vidgo"), world.clock.now()))
    await world.poll()
    assert (await world.event()).received_at == world.clock.now()


async def test_a_providers_wish_is_kept_for_the_task_too(world: World) -> None:
    world.tell(tells(b"{}", "retry-after: 1000", status=429))
    settlement = await world.poll()
    assert settlement.retry_at == world.clock.now() + timedelta(seconds=1000)
    assert await world.reconciler.next_due_at("vidgo") == settlement.retry_at


async def test_a_task_without_the_model_that_its_provider_wants_is_asked_about_rarely(world: World) -> None:
    await world.store.log_submission(msgspec.structs.replace(submission("t2", provider="apixo"), model=None))
    settlement = await world.poll("apixo")
    assert settlement.outcome is Outcome.NO_MODEL
    assert settlement.retry_at == world.clock.now() + timedelta(hours=1)
    assert world.host.requests == []


async def test_one_line_tells_of_each_question_and_no_link(world: World) -> None:
    world.tell(tells(running()))
    with capture_logs() as lines:
        await world.poll()
        world.tell(FINISHED)
        await world.poll()
    assert [(line["event"], line["outcome"], line["attempt"], line["settled"]) for line in lines] == [
        ("poll.settled", "in_progress", 1, True),
        ("poll.settled", "answered", 2, True),
    ]
    assert lines[0]["retry_at"] is not None
    assert {"provider", "task_id", "seconds"} <= lines[0].keys()
    assert "secret-link" not in str(lines)


async def test_a_lost_lease_shows_in_the_line_and_changes_nothing(world: World) -> None:
    world.tell(tells(running()))
    world.clock.turn(FIRST)
    (work,) = await world.lease()
    with capture_logs() as lines:
        await world.reconciler.run(msgspec.structs.replace(work, lease="another"))
    assert [line["settled"] for line in lines] == [False]
    assert (await world.waiting()).outcome is None


# --- pace -----------------------------------------------------------------------------------------------


async def test_no_more_is_leased_than_the_pace_allows(tmp_path: Path, host: MediaHost) -> None:
    async with opened(tmp_path, host, per_minute=30) as world:
        for number in range(10):
            await world.store.log_submission(submission(f"t{number}"))
            world.tell(tells(running(f"t{number}")), f"t{number}")
        world.clock.turn(FIRST)
        assert len(await world.lease(limit=2)) == 2
        works = await world.lease()
        assert len(works) == 3
        await asyncio.gather(*(world.reconciler.run(work) for work in works))
        assert await world.lease() == []
        assert await world.reconciler.next_due_at("vidgo") == world.clock.now() + timedelta(seconds=2)


async def test_after_an_outage_every_task_ends(tmp_path: Path, host: MediaHost) -> None:
    async with opened(tmp_path, host) as world:
        for number in range(20):
            await world.store.log_submission(submission(f"t{number}"))
        host.otherwise = tells(b"{}", status=503)
        for _ in range(10):
            assert (await world.poll()).outcome is Outcome.HTTP_ERROR
        for number in range(20):
            world.tell(tells(sample_callback("vidgo", f"t{number}", error="no")), f"t{number}")
        await poll_until(world, later(2 * 3600))
        assert (await world.store.count_stats()).tasks == {"failed": 20}


async def log_tasks(world: World, prefix: str, count: int, answer: Answer | None = None) -> None:
    """Tasks submitted now; without an answer of its own each will have ended."""
    for number in range(count):
        task_id = f"{prefix}{number}"
        logged = submission(task_id)
        now = world.clock.now()
        await world.store.log_submission(msgspec.structs.replace(logged, created_at=now, bound_at=now))
        ended = tells(sample_callback("vidgo", task_id, error="no"))
        world.tell(answer or ended, task_id)


@pytest.mark.parametrize("status", [400, 403])
async def test_tasks_that_a_provider_refuses_to_tell_about_hold_up_no_other(
    tmp_path: Path, host: MediaHost, status: int
) -> None:
    async with opened(tmp_path, host) as world:
        await log_tasks(world, "bad", 10, tells(b"{}", status=status))
        await poll_until(world, later(3600))
        await log_tasks(world, "good", 10)
        # Their time, the longest that a key is left alone, and theirs at the pace.
        await poll_until(world, later(3600 + FIRST + 900 + 60))
        assert (await world.store.count_stats()).tasks == {"submitted": 10, "failed": 10}


async def test_while_a_provider_cannot_be_asked_for_long_all_that_are_due_are_told_so_at_once(
    tmp_path: Path, host: MediaHost
) -> None:
    async with opened(tmp_path, host) as world:
        await log_tasks(world, "t", 20)
        host.put(status_path("vidgo", "t0"), tells(b"{}", "retry-after: 600", status=503))
        assert (await world.poll()).detail == "the provider answered (503)"
        over_at = world.clock.now() + timedelta(seconds=600)

        works = await world.lease(limit=100)
        with capture_logs() as lines:
            settlements = [await world.reconciler.run(work) for work in works]

        assert len(settlements) == 19
        assert {each.outcome for each in settlements} == {Outcome.HTTP_ERROR}
        assert all(each.retry_at and each.retry_at > over_at for each in settlements)
        assert len(host.requests) == 1
        assert {(line["asked"], line["log_level"]) for line in lines} == {(False, "debug")}
        # None of them again before the state may be over, and then one finds out.
        due_at = await world.reconciler.next_due_at("vidgo")
        assert due_at is not None
        assert due_at >= over_at
        world.clock.turn_to(due_at + timedelta(seconds=60))
        assert len(await world.lease()) == 1


async def test_of_those_who_were_sent_away_the_ones_asked_about_least_come_first(
    tmp_path: Path, host: MediaHost
) -> None:
    async with opened(tmp_path, host) as world:
        await log_tasks(world, "t", 3, tells(b"{}", "retry-after: 5000", status=503))
        await world.poll()
        new, old = await world.lease(limit=100)
        told = [await world.reconciler.run(work) for work in (new, msgspec.structs.replace(old, attempt=30))]
        waits = [(each.retry_at - world.clock.now()).total_seconds() for each in told if each.retry_at]
        assert waits == [pytest.approx(901, abs=1), pytest.approx(960, abs=10)]


async def test_what_a_replay_asks_settles_though_the_provider_is_away(world: World) -> None:
    world.host.otherwise = tells(b"{}", "retry-after: 3600", status=503)
    await world.poll()
    asked = len(world.host.requests)
    job = replay(Stage.POLL, created_at=world.clock.now())
    await start_replay(world.store, job)
    now = world.clock.now()
    (step,) = await world.store.lease_replays(now, now + timedelta(seconds=30), 1)
    await step_replay(world.store, step, 10, now, now)

    assert (await world.poll()).outcome is Outcome.HTTP_ERROR

    done = await world.store.get_replay(job.id)
    assert done is not None
    assert done.results == {"http_error": 1}
    assert world.clock.now() == now
    assert len(world.host.requests) == asked


# --- lost -----------------------------------------------------------------------------------------------


async def poll_until(world: World, moment: datetime, provider: str = "vidgo") -> Settlement:
    """Poll as long as questions fall due; the last one's settlement."""
    settlement = None
    while True:
        due_at = await world.reconciler.next_due_at(provider)
        if due_at is None or due_at > moment:
            assert settlement is not None
            return settlement
        settlement = await world.poll(provider)


async def test_a_task_without_an_end_is_given_up_in_time_and_said_to_be_lost(world: World) -> None:
    world.tell(tells(b"{}", status=404))

    last = await poll_until(world, later(2 * LOST_AFTER))

    event = await world.event()
    assert (event.type, event.error_code, event.via) == (EventType.FAILED, "lost", Via.POLL)
    assert event.ended_at == later(LOST_AFTER)
    (asked,) = [word for word in (event.error_message or "").split() if word.isdecimal() and word != "86400"]
    assert event.error_message == (
        f"no result within 86400 s and {asked} attempts to ask the provider,"
        " the last with the outcome unknown_task"
    )
    assert 2 * int(asked) == len(world.host.requests)  # at both of Vidgo's paths
    assert (last.outcome, last.detail, last.retry_at) == (Outcome.LOST, event.error_message, None)
    assert len(await world.store.lease_outbox("all", world.clock.now(), world.clock.now(), 10)) == 1


@pytest.mark.parametrize("answer", [tells(running()), tells(b"{}", status=400), tells(b"{}", status=500)])
async def test_it_is_lost_whatever_the_provider_says_as_long_as_it_is_no_end(
    world: World, answer: Answer
) -> None:
    world.tell(answer)
    world.clock.turn(LOST_AFTER)
    assert (await world.poll()).outcome is Outcome.LOST


async def test_a_clock_set_forward_loses_no_task_until_it_has_been_waited_for_as_long_again(
    world: World,
) -> None:
    world.tell(tells(running()))
    world.clock.leap(2 * LOST_AFTER)

    assert (await world.poll()).outcome is Outcome.IN_PROGRESS
    world.clock.turn(LOST_AFTER - 3600)
    assert (await world.poll()).outcome is Outcome.IN_PROGRESS
    world.clock.turn(3600)
    assert (await world.poll()).outcome is Outcome.LOST


UNREAD = {"code": 200, "data": {"task_id": "t1", "status": "melted"}}


async def test_what_is_not_understood_waits_to_be_and_can_be_read_once_it_is(world: World) -> None:
    world.tell(tells(UNREAD))
    last = await poll_until(world, later(2 * LOST_AFTER))
    assert last.outcome is Outcome.UNREADABLE
    task = await world.task()
    assert task.event is None
    assert task.waiting_on is not None
    assert task.waiting_on.endswith("last: unreadable; it gave an answer that is not understood")
    world.tell(FINISHED)
    await world.poll()
    assert (await world.event()).error_code is None


async def test_one_word_that_is_not_understood_makes_no_task_immune(world: World) -> None:
    world.tell(tells(UNREAD))
    assert (await world.poll()).outcome is Outcome.UNREADABLE
    world.tell(tells(running()))
    await poll_until(world, later(LOST_AFTER))
    assert (await world.event()).error_code == "lost"


async def test_a_leaked_url_keeps_no_task_open(world: World) -> None:
    for token in (TOKENS.for_provider("vidgo"), TOKENS.for_submission("vidgo", "sub_of_another_task")):
        await world.bring(UNREAD, token)
    world.tell(tells(b"{}", status=404))
    await poll_until(world, later(LOST_AFTER))
    assert (await world.event()).error_code == "lost"


async def test_a_callback_to_the_tasks_own_url_that_is_not_understood_waits_a_week_to_be(
    world: World,
) -> None:
    await world.bring(UNREAD, TOKENS.for_submission("vidgo", (await world.task()).submission.id))
    world.tell(tells(b"{}", status=404))
    await poll_until(world, later(WEEK - 1))
    task = await world.task()
    assert task.event is None
    assert task.waiting_on is not None
    assert task.waiting_on.endswith("last: unknown_task; it gave an answer that is not understood")

    await poll_until(world, later(WEEK))

    event = await world.event()
    assert (event.error_code, event.ended_at) == ("lost", later(WEEK))
    assert event.error_message is not None
    assert event.error_message.startswith("no result within 604800 s")
    assert event.error_message.endswith("; something came that is not understood")


class Crashing(Vidgo):
    """An adapter that cannot even ask."""

    def status_request(self, task_id: str, model: str | None) -> StatusRequest:
        raise RuntimeError(task_id)


@pytest.mark.parametrize("case", ["unreadable", "crashed", "no model"])
async def test_what_only_a_release_or_a_model_mends_ends_after_a_week_and_is_asked_about_ever_more_rarely(
    world: World, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    provider = "vidgo"
    world.tell(tells(UNREAD))
    if case == "crashed":
        monkeypatch.setattr(Vidgo, "status_request", Crashing.status_request)
    elif case == "no model":
        provider = "apixo"
        await world.store.log_submission(
            msgspec.structs.replace(submission("t1", provider="apixo"), model=None)
        )

    asked: list[datetime] = []
    while due_at := await world.store.next_due_at("polls", provider):
        world.clock.turn_to(max(due_at, world.clock.now()))
        asked.append(world.clock.now())
        (work,) = await world.lease(provider, 1)
        await world.reconciler.run(work)

    event = await world.store.get_event(provider, "t1")
    assert event is not None
    assert (event.error_code, event.ended_at) == ("lost", later(WEEK))
    waits = [second - first for first, second in pairwise(asked)]
    assert max(waits) > timedelta(hours=20)
    assert sum(moment > later(LOST_AFTER) for moment in asked) <= 12
    assert len(asked) <= 45


async def test_many_tasks_that_cannot_be_understood_leave_a_provider_its_rate(
    tmp_path: Path, host: MediaHost
) -> None:
    async with opened(tmp_path, host, per_minute=1) as world:
        for number in range(15):  # each every quarter of an hour would be all that a minute allows
            await world.store.log_submission(submission(f"t{number}", provider="apixo"))
        host.otherwise = tells({"code": 200, "data": {"state": "melted"}})
        await poll_until(world, later(LOST_AFTER), "apixo")
        before = len(host.requests)
        await poll_until(world, later(2 * LOST_AFTER), "apixo")
        assert len(host.requests) - before <= 15 * 5  # of 1440 that a day has


def test_rare_waits_grow_with_the_age_up_to_a_day() -> None:
    hours = [rare_wait_seconds(50, 15, age * 3600, 0.5) / 3600 for age in (0.1, 1, 4, 24, 96, 1000)]
    assert hours == [0.25, 0.25, 1, 6, 24, 24]
    assert rare_wait_seconds(1, 15, 10**6, 0.5) == 15  # at first it may be a moment's mistake


async def test_tasks_of_a_provider_that_stays_away_are_all_lost_in_time(
    tmp_path: Path, host: MediaHost
) -> None:
    async with opened(tmp_path, host) as world:
        await log_tasks(world, "t", 4, tells(b"{}", "retry-after: 7200", status=503))
        await poll_until(world, later(LOST_AFTER + 60))
        assert (await world.store.count_stats()).tasks == {"failed": 4}


async def test_a_short_trouble_loses_no_task_that_nobody_asked_about(tmp_path: Path, host: MediaHost) -> None:
    async with opened(tmp_path, host) as world:
        await log_tasks(world, "t", 12)
        world.clock.turn(2 * LOST_AFTER)  # the service was down for as long
        world.tell(tells(b"{}", "retry-after: 900", status=503), "t0")
        assert (await world.poll()).outcome is Outcome.LOST  # it was asked about
        for work in await world.lease(limit=100):
            assert (await world.reconciler.run(work)).outcome is Outcome.HTTP_ERROR
        await poll_until(world, world.clock.now() + timedelta(hours=1))
        events = [await world.event(f"t{number}") for number in range(12)]
        assert [event.error_code for event in events] == ["lost", *[None] * 11]


async def test_an_end_that_is_told_at_the_last_moment_counts(world: World) -> None:
    world.tell(FINISHED)
    world.clock.turn(10 * LOST_AFTER)
    assert (await world.poll()).outcome is Outcome.ANSWERED
    assert (await world.event()).error_code is None


@pytest.mark.parametrize("status", [401, 402])
async def test_what_the_operator_can_mend_loses_no_task(world: World, status: int) -> None:
    world.tell(tells(b"{}", status=status))
    last = await poll_until(world, later(2 * LOST_AFTER))
    assert last.retry_at is not None
    assert (await world.waiting()).outcome in {Outcome.KEY_REFUSED, Outcome.OUT_OF_CREDIT}
    world.tell(FINISHED)
    await world.poll()
    assert (await world.event()).error_code is None


async def test_a_key_that_is_refused_for_a_wish_of_days_is_tried_soon_after_a_restart(world: World) -> None:
    world.tell(tells(b"{}", "retry-after: 999999999", status=401))
    for _ in range(20):
        settlement = await world.poll()
        assert settlement.retry_at is not None
        assert settlement.retry_at - world.clock.now() < timedelta(seconds=1000)
    assert len(world.host.requests) == 1  # the provider itself is left alone for a day


async def test_a_key_that_was_refused_while_another_answer_came_loses_a_task(world: World) -> None:
    await log_tasks(world, "other", 1)

    async def refuse(writer: asyncio.StreamWriter) -> None:
        await world.status_client.ask("vidgo", "other0", None)
        await tells(b"{}", status=403)(writer)

    world.tell(refuse)
    world.clock.turn(LOST_AFTER)
    (work,) = [work for work in await world.lease() if work.task_id == "t1"]
    assert (await world.reconciler.run(work)).outcome is Outcome.LOST


async def test_a_task_that_cannot_be_asked_about_is_not_lost(world: World) -> None:
    await world.store.log_submission(msgspec.structs.replace(submission("t2", provider="apixo"), model=None))
    await poll_until(world, later(2 * LOST_AFTER), "apixo")
    assert (await world.waiting("t2", "apixo")).outcome is Outcome.NO_MODEL


@pytest.mark.parametrize("strong", [True, False])
async def test_a_callback_that_comes_while_we_ask_saves_its_task(world: World, *, strong: bool) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        logged = (await world.task()).submission
        token = TOKENS.for_submission("vidgo", logged.id) if strong else None
        await world.call_back(files=[LINK], token=token)
        await tells(running())(writer)

    world.tell(answer)
    world.clock.turn(LOST_AFTER)
    assert (await world.poll()).outcome is Outcome.IN_PROGRESS
    if not strong:  # it has to be confirmed, and that is asked at once
        assert (await world.waiting()).due_at == world.clock.now()
        world.tell(FINISHED)
        await world.poll()
    event = await world.event()
    assert (event.error_code, len(event.assets)) == (None, 1)


# --- confirmation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "key", "confirmed"),
    [
        (Confirm.WEAK, "key", {Proof.PROVIDER, Proof.NONE}),
        (Confirm.WEAK, None, set()),
        (Confirm.ALWAYS, "key", {Proof.SUBMISSION, Proof.SIGNATURE, Proof.PROVIDER, Proof.NONE}),
        (Confirm.ALWAYS, None, {Proof.SUBMISSION, Proof.SIGNATURE, Proof.PROVIDER, Proof.NONE}),
        (Confirm.NEVER, "key", set()),
    ],
)
async def test_the_policy_says_which_proof_is_enough(
    host: MediaHost, policy: Confirm, key: str | None, confirmed: set[Proof]
) -> None:
    async with asking(host, TurnableClock(NOW), key=key) as status_client:
        confirms = confirmation(policy, status_client)
        assert {proof for proof in Proof if proof is not Proof.POLL and confirms("vidgo", proof)} == confirmed


@pytest.mark.parametrize("policy", Confirm)
@pytest.mark.parametrize("key", [None, "key"])
async def test_what_is_told_in_parts_is_asked_for_as_a_whole_whatever_proves_it(
    host: MediaHost, policy: Confirm, key: str | None
) -> None:
    async with asking(host, TurnableClock(NOW), key=key) as status_client:
        in_parts = told_in_parts(load_providers(), status_client)
        assert in_parts == (frozenset({"runware", "openai"}) if key else frozenset())
        if key:
            assert confirmation(policy, status_client, in_parts)("runware", Proof.SUBMISSION)


async def test_nothing_is_fetched_before_the_provider_has_confirmed_it(world: World) -> None:
    await world.call_back(files=["https://evil.test/1.png"])
    assert await world.store.lease_assets(world.clock.now(), world.clock.now(), 10) == []
    assert world.woken == ["assets", "poll vidgo"]

    world.tell(FINISHED)
    await world.poll()

    assert world.clock.now() == NOW  # asked at once
    assert [work.url for work in await world.store.lease_assets(NOW, NOW, 10)] == [LINK]
    verdicts = [each.verdict for each in (await world.task()).deliveries]
    assert verdicts == [Verdict.CONFLICT, Verdict.ACCEPTED]


async def test_a_true_callback_and_its_confirmation_agree(world: World) -> None:
    await world.call_back(files=[f"{LINK}?signature=1"])
    world.tell(tells(sample_callback("vidgo", "t1", files=[f"{LINK}?signature=2"])))
    await world.poll()
    verdicts = [each.verdict for each in (await world.task()).deliveries]
    assert verdicts == [Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert [work.url for work in await world.store.lease_assets(NOW, NOW, 10)] == [f"{LINK}?signature=2"]


async def test_a_forged_end_of_a_task_that_runs_changes_nothing_until_it_is_lost(world: World) -> None:
    world.tell(tells(running()))
    await world.call_back(files=["https://evil.test/1.png"])
    await poll_until(world, later(LOST_AFTER))
    event = await world.event()
    assert event.error_code == "lost"
    assert event.error_message is not None
    assert event.error_message.endswith("in_progress; a callback came, which it did not confirm")
    assert [each.verdict for each in (await world.task()).deliveries] == [Verdict.CONFLICT, Verdict.ACCEPTED]


async def test_without_a_key_a_weak_callback_is_trusted(tmp_path: Path, host: MediaHost) -> None:
    async with opened(tmp_path, host, key=None) as world:
        await world.store.log_submission(submission("t1"))
        await world.call_back(files=[LINK])
        assert (await world.event()).via is Via.CALLBACK


async def test_always_holds_every_callback_even_without_a_key(tmp_path: Path, host: MediaHost) -> None:
    async with opened(tmp_path, host, key=None, policy=Confirm.ALWAYS) as world:
        logged, _ = await world.store.log_submission(submission("t1"))
        await world.call_back(files=[LINK], token=TOKENS.for_submission("vidgo", logged.id))
        assert (await world.task()).event is None


# --- what is held while the provider cannot be asked, or need not be ------------------------------------


async def test_what_waits_for_confirmation_counts_once_the_key_is_taken_away(
    tmp_path: Path, host: MediaHost
) -> None:
    async with opened(tmp_path, host) as world:
        await world.store.log_submission(submission("t1"))
        await world.call_back(files=[LINK])
        assert (await world.task()).event is None

    async with opened(tmp_path, host, key=None) as world:
        await world.reconciler.judge_unasked()

        task = await world.task()
        assert task.event is not None
        assert (task.event.via, len(task.event.assets)) == (Via.CALLBACK, 1)
        assert [each.verdict for each in task.deliveries] == [Verdict.ACCEPTED]
        assert world.woken == ["assets", "sink"]
        assert await world.store.next_due_at("polls", "vidgo") is None
    assert host.requests == []


async def test_of_several_that_wait_the_first_counts_once_the_key_is_taken_away(
    tmp_path: Path, host: MediaHost
) -> None:
    async with opened(tmp_path, host) as world:
        await world.store.log_submission(submission("t1"))
        await world.call_back(files=[LINK])
        await world.call_back(files=["https://cdn.test/other.png"])
    async with opened(tmp_path, host, key=None) as world:
        await world.reconciler.judge_unasked()
        verdicts = [each.verdict for each in (await world.task()).deliveries]
        assert verdicts == [Verdict.ACCEPTED, Verdict.CONFLICT]


async def test_what_always_has_to_be_confirmed_stays_visible_without_a_key_and_says_why(
    tmp_path: Path, host: MediaHost
) -> None:
    async with opened(tmp_path, host, policy=Confirm.ALWAYS) as world:
        await world.store.log_submission(submission("t1"))
        await world.call_back(files=[LINK])
    async with opened(tmp_path, host, key=None, policy=Confirm.ALWAYS) as world:
        for _ in range(3):
            await world.reconciler.judge_unasked()
            world.clock.turn(3600)

        task = await world.task()
        assert task.waiting_on == "the provider's confirmation; it cannot be asked: no key is set"
        stats = await world.store.count_stats()
        assert (stats.deliveries, stats.polls) == ({"unconfirmed": 1}, {"vidgo": {"key_refused": 1}})
        assert await world.store.next_due_at("polls", "vidgo") == later(
            86_400
        )  # nothing changes before a restart
    async with opened(tmp_path, host, policy=Confirm.ALWAYS) as world:
        world.tell(FINISHED)
        await world.poll()
        assert world.clock.now() == NOW  # asked at once
        assert (await world.event()).via is Via.POLL


@pytest.mark.parametrize("policy", [Confirm.WEAK, Confirm.NEVER])
async def test_what_need_not_be_confirmed_any_more_counts_without_a_question(
    tmp_path: Path, host: MediaHost, policy: Confirm
) -> None:
    async with opened(tmp_path, host, policy=Confirm.ALWAYS) as world:
        logged, _ = await world.store.log_submission(submission("t1"))
        world.tell(tells(b"{}", status=401))  # for long
        await world.call_back(files=[LINK], token=TOKENS.for_submission("vidgo", logged.id))
        await world.poll()
        asked = len(host.requests)
    async with opened(tmp_path, host, policy=policy) as world:
        assert (await world.poll()).detail == "a callback that was held counts now"
        assert (await world.event()).via is Via.CALLBACK
    assert len(host.requests) == asked


# --- a success whose files are not named yet ------------------------------------------------------------


async def test_the_files_that_come_a_moment_after_the_success_are_fetched(world: World) -> None:
    logged = (await world.task()).submission
    world.tell(tells(sample_callback("vidgo", "t1", files=[])))
    await world.call_back(files=[], token=TOKENS.for_submission("vidgo", logged.id))

    first = await world.poll()
    world.tell(FINISHED)
    second = await world.poll()

    assert (first.outcome, second.outcome) == (Outcome.NO_FILES, Outcome.ANSWERED)
    assert first.retry_at is not None
    assert first.retry_at - NOW < timedelta(seconds=30)
    assert [work.url for work in await world.store.lease_assets(later(60), later(60), 10)] == [LINK]


async def test_several_answers_without_files_in_ten_minutes_are_the_end(world: World) -> None:
    world.tell(tells(sample_callback("vidgo", "t1", files=[])))

    last = await poll_until(world, later(86_400))

    event = await world.event()
    assert (event.type, event.error_code, event.via) == (EventType.FAILED, "no_files", Via.POLL)
    assert last.retry_at is None
    assert later(FIRST + 600) <= world.clock.now() <= later(FIRST + 670)
    assert 10 <= len(host_paths(world)) <= 20


def host_paths(world: World) -> list[str]:
    return [head.split(" ")[1] for head in world.host.requests]


async def test_a_success_at_the_last_moment_is_waited_for_and_not_lost(world: World) -> None:
    world.tell(tells(sample_callback("vidgo", "t1", files=[])))
    world.clock.turn(LOST_AFTER)
    assert (await world.poll()).outcome is Outcome.NO_FILES
    world.tell(FINISHED)
    await world.poll()
    assert (await world.event()).error_code is None


@pytest.mark.parametrize("files", [[], [LINK]])
async def test_without_a_key_files_are_waited_for_ten_minutes(
    tmp_path: Path, host: MediaHost, files: list[str]
) -> None:
    async with opened(tmp_path, host, key=None) as world:
        await world.store.log_submission(submission("t1"))
        await world.call_back(files=[])
        await world.reconciler.judge_unasked()
        task = await world.task()
        assert task.event is None
        assert task.waiting_on == (
            "the files: the provider reported success and named none; it cannot be asked: no key is set"
        )
        if files:
            await world.call_back(files=files)
        for _ in range(11):
            world.clock.turn(60)
            await world.reconciler.judge_unasked()
        event = await world.event()
        assert (event.error_code, len(event.assets)) == ((None, 1) if files else ("no_files", 0))


# --- links asked for anew -------------------------------------------------------------------------------


class Depot:
    """Fetches the files of one world."""

    def __init__(self, world: World, client: GuardedClient, folder: Path) -> None:
        self.world = world
        blobs = LocalBlobs(folder / "assets")
        fetcher = Fetcher(
            client=client,
            blobs=blobs,
            clock=world.clock,
            staging=blobs.staging,
            limits=LIMITS,
            bodies=no_bodies,
        )
        self.assets = AssetFetcher(store=world.store, fetcher=fetcher, renew=world.reconciler.renew)

    async def add(self, *links: str, task_id: str = "t1", kind: str = "image") -> None:
        """A task with these files, by a callback."""
        now = self.world.clock.now()
        await self.world.store.log_submission(submission(task_id))
        files = tuple(RemoteFile(url=link, kind=kind) for link in links)
        report = msgspec.structs.replace(completed(task_id, files=0), files=files)
        dies_at = now + timedelta(days=1)
        await self.world.store.record(recording(report, received_at=now, links_die_at=dies_at))

    async def lease(self) -> list[AssetWork]:
        now = self.world.clock.now()
        return await self.world.store.lease_assets(now, now + timedelta(minutes=1), 100)

    async def fetch(self) -> list[Settlement]:
        """Fetch what is due, one after the other."""
        return [await self.assets.run(work) for work in await self.lease()]

    async def states(self, task_id: str = "t1") -> list[AssetState]:
        return [asset.state for asset in (await self.world.event(task_id)).assets]


@pytest.fixture
async def depot(world: World, tmp_path: Path) -> AsyncIterator[Depot]:
    client = GuardedClient(opened=(ip_network("127.0.0.0/8"),))
    yield Depot(world, client, tmp_path)
    await client.aclose()


def gone(host: MediaHost, name: str = "file", status: int = 403) -> str:
    return host.put(f"/{name}?old", says(status))


def there(host: MediaHost, name: str = "file", content: bytes = PICTURE) -> str:
    return host.put(f"/{name}?new", says(200, content))


def questions(host: MediaHost) -> int:
    return sum(head.startswith(f"GET {status_path('vidgo', 't')}") for head in host.requests)


async def test_a_dead_link_is_asked_for_anew_and_its_file_stored(depot: Depot, host: MediaHost) -> None:
    await depot.add(gone(host))
    depot.world.tell(tells(sample_callback("vidgo", "t1", files=[there(host)])))

    (only,) = await depot.fetch()

    assert (only.outcome, only.detail) == (Outcome.STORED, "link renewed")
    assert (await depot.world.event()).type is EventType.COMPLETED
    assert [delivery.via for delivery in (await depot.world.task()).deliveries] == [Via.CALLBACK]


async def test_one_answer_serves_all_files_of_the_task_that_wait(depot: Depot, host: MediaHost) -> None:
    await depot.add(gone(host, "0"), gone(host, "1"), gone(host, "2"))
    new = [there(host, f"{number}") for number in range(3)]
    depot.world.tell(tells(sample_callback("vidgo", "t1", files=new)))
    now = depot.world.clock.now()
    (work,) = await depot.world.store.lease_assets(now, now + timedelta(minutes=1), 1)
    await depot.assets.run(work)
    await depot.fetch()
    assert await depot.states() == [AssetState.STORED] * 3
    assert questions(host) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_link_that_its_host_calls_dead_in_any_words_is_asked_for_anew(
    depot: Depot, host: MediaHost, status: int
) -> None:
    await depot.add(gone(host, status=status))
    depot.world.tell(tells(sample_callback("vidgo", "t1", files=[there(host)])))
    (only,) = await depot.fetch()
    assert (only.outcome, only.detail) == (Outcome.STORED, "link renewed")


async def test_a_page_in_place_of_a_file_is_asked_for_anew_for_its_link_may_be_dead(
    depot: Depot, host: MediaHost
) -> None:
    await depot.add(host.put("/file?old", says(200, b"<html>This link has expired</html>")))
    depot.world.tell(tells(sample_callback("vidgo", "t1", files=[there(host)])))
    (only,) = await depot.fetch()
    assert (only.outcome, only.detail) == (Outcome.STORED, "link renewed")


async def test_what_a_host_refuses_for_other_reasons_is_asked_for_anew_once_and_then_given_up(
    depot: Depot, host: MediaHost
) -> None:
    await depot.add(gone(host, "a", 451), gone(host, "b", 416))
    new = [there(host, "a"), host.put("/b?new", says(416))]
    depot.world.tell(tells(sample_callback("vidgo", "t1", files=new)))
    assert [settlement.outcome for settlement in await depot.fetch()] == [Outcome.STORED, Outcome.REFUSED]
    assert await depot.states() == [AssetState.STORED, AssetState.FAILED]
    assert questions(host) == 2


@pytest.mark.parametrize("status", [400, 401])
async def test_a_fetch_replay_asks_anew_for_a_link_that_died_for_good(
    depot: Depot, host: MediaHost, status: int
) -> None:
    await depot.add(gone(host, status=status))
    assert await stored_names(depot, host) == [None]
    assert (await depot.world.event()).error_code == "gone"
    await fetch_again(depot.world)
    assert await stored_names(depot, host, there(host, content=CONTENTS["a"])) == ["a"]
    assert questions(host) == 2


async def fetch_again(world: World) -> None:
    """A replay that downloads what is missing, up to its end."""
    now = world.clock.now()
    await start_replay(world.store, replay(Stage.FETCH, created_at=now))
    (step,) = await world.store.lease_replays(now, now + timedelta(seconds=30), 1)
    await step_replay(world.store, step, 10, now, now)


async def stored_names(depot: Depot, host: MediaHost, *links: str) -> list[str | None]:
    """Whose bytes each file of a task has, when the provider names these files now."""
    depot.world.tell(tells(sample_callback("vidgo", "t1", files=list(links))))
    while due_at := await depot.world.store.next_due_at("assets"):
        depot.world.clock.turn_to(max(due_at, depot.world.clock.now()))
        await depot.fetch()
    names = {hashlib.sha256(content).hexdigest(): name for name, content in CONTENTS.items()}
    return [names.get(asset.sha256 or "") for asset in (await depot.world.event()).assets]


# Of each file other bytes, under its own name.
CONTENTS = {name: picture(size=(8, 8 + number)) for number, name in enumerate("abc")}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (["b", "a"], ["a", "b"]),  # in another order
        (["c", "b", "a"], ["a", "b"]),  # longer
        (["a"], ["a", None]),  # shorter
        (["b"], [None, "b"]),
        (["c", "b"], [None, "b"]),  # under other names
        (["c"], [None, None]),
        ([], [None, None]),
    ],
)
async def test_a_renewed_link_is_known_by_its_name_wherever_it_stands(
    depot: Depot, host: MediaHost, given: list[str], stored: list[str | None]
) -> None:
    await depot.add(gone(host, "a"), gone(host, "b"))
    links = [there(host, name, CONTENTS[name]) for name in given]

    assert await stored_names(depot, host, *links) == stored

    event = await depot.world.event()
    wanted = {0: EventType.FAILED, 1: EventType.PARTIAL, 2: EventType.COMPLETED}
    assert event.type is wanted[sum(map(bool, stored))]
    assert {asset.outcome for asset in event.assets} <= {Outcome.STORED, Outcome.GONE}


async def test_a_file_that_could_be_had_keeps_its_bytes_when_another_is_renewed(
    depot: Depot, host: MediaHost
) -> None:
    await depot.add(gone(host, "a"), host.put("/b?old", says(200, CONTENTS["b"])))
    links = [there(host, name, CONTENTS[name]) for name in "ba"]
    assert await stored_names(depot, host, *links) == ["a", "b"]
    assert (await depot.world.event()).type is EventType.COMPLETED


async def test_a_file_that_is_named_twice_is_renewed_in_its_order(depot: Depot, host: MediaHost) -> None:
    twice = [host.put(f"/a?signature={number}", says(403)) for number in (1, 2)]
    await depot.add(gone(host, "b"), *twice)
    new = [host.put(f"/a?signature={number}", says(200, CONTENTS["a"])) for number in (3, 4)]
    links = [new[0], there(host, "b", CONTENTS["b"]), new[1]]
    assert await stored_names(depot, host, *links) == ["b", "a", "a"]
    asked = [head.split(" ")[1] for head in host.requests]
    assert [path for path in asked if path in {"/a?signature=3", "/a?signature=4"}] == [
        "/a?signature=3",
        "/a?signature=4",
    ]


async def test_files_that_only_their_queries_name_are_known_by_these(depot: Depot, host: MediaHost) -> None:
    def link(name: str, signed: int, answer: Answer) -> str:
        return host.put(f"/get?file={name}&signed={signed}", answer)

    await depot.add(*(link(name, 1, says(403)) for name in "ab"))
    links = [link(name, 2, says(200, CONTENTS[name])) for name in "ba"]
    assert await stored_names(depot, host, *links) == ["a", "b"]


async def test_a_fetch_replay_knows_renewed_links_by_their_names_too(depot: Depot, host: MediaHost) -> None:
    await depot.add(gone(host, "a"), gone(host, "b"))
    assert await stored_names(depot, host) == [None, None]
    links = [there(host, name, CONTENTS[name]) for name in "ba"]
    await fetch_again(depot.world)
    assert await stored_names(depot, host, *links) == ["a", "b"]


async def test_an_answer_that_lists_the_files_in_another_order_confirms_a_callback(world: World) -> None:
    one, other = "https://cdn.test/1.png", "https://cdn.test/2.png"
    await world.call_back(files=[one, other])
    world.tell(tells(sample_callback("vidgo", "t1", files=[other, one])))
    await world.poll()
    assert [each.verdict for each in (await world.task()).deliveries] == [Verdict.ACCEPTED, Verdict.ACCEPTED]


async def test_a_link_that_died_long_ago_gets_a_new_deadline(depot: Depot, host: MediaHost) -> None:
    await depot.add(gone(host))
    new = host.put("/file?busy", says(500))
    depot.world.tell(tells(sample_callback("vidgo", "t1", files=[new])))
    depot.world.clock.turn(10 * 86_400)
    (only,) = await depot.fetch()
    assert only.retry_at is not None
    depot.world.clock.turn_to(only.retry_at)
    assert [work.deadline_at for work in await depot.lease()] == [later(11 * 86_400)]


@pytest.mark.parametrize("case", ["same", "fewer", "unknown", "unreadable"])
async def test_without_another_link_the_usual_waits_go_on_and_nobody_asks_twice(
    depot: Depot, host: MediaHost, case: str
) -> None:
    old = gone(host)
    await depot.add(gone(host, "other"), old)
    answers = {
        "same": tells(sample_callback("vidgo", "t1", files=[gone(host, "other"), old])),
        "fewer": tells(sample_callback("vidgo", "t1", files=[gone(host, "other")])),
        "unknown": tells(b"{}", status=404),
        "unreadable": tells(b"?"),
    }
    depot.world.tell(answers[case])
    for _ in range(4):
        for settlement in await depot.fetch():
            assert settlement.outcome is Outcome.GONE
        depot.world.clock.turn(2000)
    assert await depot.states() == [AssetState.FAILED] * 2
    assert questions(host) == 2
    assert (await depot.world.event()).error_code == "gone"


async def test_a_provider_that_cannot_be_asked_now_is_asked_later(depot: Depot, host: MediaHost) -> None:
    await depot.add(gone(host))
    for status in (429, 500, 401):
        depot.world.tell(tells(b"{}", status=status))
        (settlement,) = await depot.fetch()
        assert settlement.detail is not None
        assert settlement.detail.startswith("the host answered 403; a new link could not be asked for: ")
        assert settlement.retry_at is not None
        assert settlement.retry_at > depot.world.clock.now()
        depot.world.clock.turn_to(settlement.retry_at)
    depot.world.tell(tells(sample_callback("vidgo", "t1", files=[there(host)])))
    await depot.fetch()
    await depot.fetch()
    assert await depot.states() == [AssetState.STORED]


async def test_without_a_key_a_dead_link_stays_dead(tmp_path: Path, host: MediaHost) -> None:
    client = GuardedClient(opened=(ip_network("127.0.0.0/8"),))
    async with opened(tmp_path, host, key=None) as world:
        depot = Depot(world, client, tmp_path)
        await depot.add(gone(host))
        (settlement,) = await depot.fetch()
        assert settlement.detail == "the host answered 403"
    await client.aclose()


async def test_many_dead_links_keep_to_the_pace_and_are_all_renewed(depot: Depot, host: MediaHost) -> None:
    for number in range(20):
        task_id = f"t{number}"
        await depot.add(gone(host, task_id), task_id=task_id)
        depot.world.tell(tells(sample_callback("vidgo", task_id, files=[there(host, task_id)])), task_id)
    rounds = 0
    while due_at := await depot.world.store.next_due_at("assets"):
        depot.world.clock.turn_to(max(due_at, depot.world.clock.now()))
        await depot.fetch()
        rounds += 1
    assert (await depot.world.store.count_stats()).assets == {"stored": 20}
    assert questions(host) == 20
    # Three at once, then one every two seconds: half of sixty a minute.
    assert later(30) <= depot.world.clock.now() <= later(40)


async def test_a_provider_that_can_never_be_asked_does_not_keep_an_event_open(
    depot: Depot, host: MediaHost
) -> None:
    depot.world.tell(tells(b"{}", status=401))
    await depot.add(gone(host))
    attempts = 0
    while due_at := await depot.world.store.next_due_at("assets"):
        depot.world.clock.turn_to(max(due_at, depot.world.clock.now()))
        attempts += len(await depot.fetch())
    assert attempts == MOST_ATTEMPTS_UNASKED + 1
    assert (await depot.world.event()).type is EventType.FAILED
