"""SIGKILL between every two steps from POST to sink: what was answered for ends, whole and once.

Each row of the tables names a place in the code, and what a kill there may cost: a file that is fetched
again, or a notification that is sent again under the same id, is the one that was in flight, and no other.
"""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from receiver.testing import sample_callback
from tests.e2e.aftermath import burst, recorded, stored_files, temporary_files
from tests.e2e.armed import Fault
from tests.e2e.faulty import FaultyReceiver, faulty_receiver
from tests.e2e.service import ADMIN_TOKEN, bearer, consumer
from tests.support.media_host import MediaHost, media_host, picture, says
from tests.support.sink_hosts import SharedRedis
from tests.support.status_host import status_path, tells
from tests.support.waiting import until

# More than is held in memory before it is written, so that half a download is half a file.
PICTURE = picture(size=(800, 600))
SMALL = picture()

ACCEPT = "receiver.web.callbacks:CallbackDoor._accept"
RECORDED = "receiver.stores.sqlite:SqliteStore.record"
WRITTEN = (
    "receiver.record.recording:record_all"  # in its transaction: no other commit comes between it and its own
)
STORE = "receiver.stores.sqlite:SqliteStore"
SOON_SECONDS = 60.0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a kill at a place comes to. ``answered`` None: the answer may have been sent or not."""

    fault: Fault
    answered: bool | None = True
    on_record: bool = True
    fetched: int = 1
    told: int = 1
    asked: int = 0


def fault(when: str, place: str, *, count: int = 1, once: str | None = None) -> Fault:
    return msgspec.convert({"place": place, "when": when, "count": count, "once": once}, Fault)


def rows(table: dict[str, Cost]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("cost", table.values(), ids=table.keys())


DOOR = {
    "before the body is read": Cost(
        fault=fault("before", "receiver.web.limits:BodyReader.hold", once=ACCEPT),
        answered=False,
        on_record=False,
    ),
    "after it is read": Cost(
        fault=fault("before", "receiver.ingest:Ingest.accept"), answered=False, on_record=False
    ),
    "before the transaction": Cost(fault=fault("before", RECORDED), answered=False, on_record=False),
    "in the transaction, nothing written": Cost(
        fault=fault("before", WRITTEN), answered=False, on_record=False
    ),
    "in the transaction, half written": Cost(
        fault=fault("before", "receiver.record.deliveries:_insert"), answered=False, on_record=False
    ),
    "in the transaction, all written": Cost(fault=fault("after", WRITTEN), answered=False, on_record=False),
    "after the commit": Cost(
        fault=fault("before", "receiver.record.writer:Writer._resolve", once=WRITTEN), answered=False
    ),
    "before the wake-up": Cost(
        fault=fault("before", "receiver.worker:Worker.wake", once=WRITTEN), answered=False
    ),
    "before the answer": Cost(fault=fault("before", "receiver.web.callbacks:_acknowledge"), answered=False),
    "after the answer": Cost(
        fault=fault("before", "receiver.web.callbacks:CallbackDoor._note"), answered=None
    ),
}

FILES = {
    "before the lease": Cost(fault=fault("before", f"{STORE}.lease_assets")),
    "in the lease's transaction": Cost(fault=fault("after", "receiver.record.asset_leases:lease_assets")),
    "after the lease": Cost(fault=fault("before", "receiver.fetching.fetcher:download")),
    "half-way through the download": Cost(
        fault=fault("halfway", "receiver.fetching.download:Spool._append"), fetched=2
    ),
    "after the download": Cost(fault=fault("before", "receiver.fetching.media:inspect"), fetched=2),
    "before it is made durable": Cost(
        fault=fault("before", "receiver.blobs.local:LocalBlobs._put"), fetched=2
    ),
    "before the rename": Cost(
        fault=fault("before", "pathlib:Path.replace", once="receiver.blobs.local:LocalBlobs.put"), fetched=2
    ),
    "after the rename": Cost(
        fault=fault("after", "pathlib:Path.replace", once="receiver.blobs.local:LocalBlobs.put"), fetched=2
    ),
    "before it is settled": Cost(fault=fault("before", f"{STORE}.settle_asset"), fetched=2),
    "half settled": Cost(fault=fault("before", "receiver.record.ends:end_all"), fetched=2),
    "settled, but not committed": Cost(
        fault=fault("after", "receiver.record.assets:settle_assets"), fetched=2
    ),
    "after it is settled": Cost(fault=fault("after", f"{STORE}.settle_asset")),
}

SENDS = {
    "before the lease": Cost(fault=fault("before", f"{STORE}.lease_outbox")),
    "in the lease's transaction": Cost(fault=fault("after", "receiver.record.outbox:lease_outbox")),
    "after the lease": Cost(fault=fault("before", "receiver.relay:render")),
    "half a line written": Cost(fault=fault("halfway", "receiver.sinks.jsonl:_write")),
    "after it is sent": Cost(fault=fault("after", "receiver.sinks.jsonl:JsonlSink.publish"), told=2),
    "before it is settled": Cost(fault=fault("before", f"{STORE}.settle_outbox_batch"), told=2),
    "settled, but not committed": Cost(fault=fault("after", "receiver.record.outbox:settle_entries"), told=2),
    "after it is settled": Cost(fault=fault("after", f"{STORE}.settle_outbox_batch")),
}


@rows(DOOR)
async def test_a_callback_that_a_kill_met_at_the_door_is_lost_only_if_nobody_was_told_otherwise(
    tmp_path: Path, cost: Cost
) -> None:
    async with media_host() as host, faulty_receiver(tmp_path, cost.fault) as service:
        await service.start()
        answer = await one_task(service, host)
        assert cost.answered is None or answer == (200 if cost.answered else None)
        assert recorded(service) == ({"t1"} if cost.on_record else set())

        await service.start()
        if answer is None:  # so its provider tries again
            assert await service.call_back("t1", host.url("/t1.png")) == (
                "duplicate" if cost.on_record else "accepted"
            )
        await assert_done(service, host, cost)


@rows(FILES)
async def test_a_file_is_fetched_again_only_if_a_kill_met_it_between_asking_and_settling(
    tmp_path: Path, cost: Cost
) -> None:
    async with media_host() as host, faulty_receiver(tmp_path, cost.fault) as service:
        await service.start()
        assert await one_task(service, host) == 200
        assert set(stored_files(service)) <= {PICTURE}  # whole, or not there
        await service.start()
        await assert_done(service, host, cost)


async def test_half_a_download_lies_where_nobody_looks_and_goes_with_the_next_start(tmp_path: Path) -> None:
    cost = FILES["half-way through the download"]
    async with media_host() as host, faulty_receiver(tmp_path, cost.fault) as service:
        await service.start()
        await one_task(service, host)
        (left,) = temporary_files(service)
        assert 0 < left.stat().st_size < len(PICTURE)
        assert stored_files(service) == []
        await service.start()
        assert not left.exists()
        await assert_done(service, host, cost)


@rows(SENDS)
async def test_a_notification_is_sent_again_only_if_a_kill_met_it_between_sending_and_settling(
    tmp_path: Path, cost: Cost
) -> None:
    async with media_host() as host, faulty_receiver(tmp_path, cost.fault) as service:
        await service.start()
        assert await one_task(service, host) == 200
        await service.start()
        await assert_done(service, host, cost)


@pytest.mark.parametrize(
    ("place", "told"),
    [("before receiver.relay:render", 1), ("after receiver.sinks.http:HttpSink.publish", 2)],
)
async def test_a_consumer_by_http_is_told_again_under_the_same_id(
    tmp_path: Path, place: str, told: int
) -> None:
    async with consumer() as hook:
        await hook.start()
        settings = {"RECEIVER_SINK_HOOK": hook.url}
        async with faulty_receiver(tmp_path, fault(*place.split()), settings) as service:
            await killed_while_telling(service)
            await until(lambda: len(hook.bodies) == told)
            assert len({ids(body) for body in hook.bodies}) == 1
            await at_rest(service)
            assert len(hook.bodies) == told


@pytest.mark.parametrize(
    "place",
    [
        "before receiver.relay:render",
        "after receiver.sinks.redis:RedisSink.publish",
        f"after {STORE}.settle_outbox_batch",
    ],
)
async def test_a_redis_stream_is_told_once_wherever_the_kill_was(tmp_path: Path, place: str) -> None:
    stream = SharedRedis()
    try:
        settings = {"RECEIVER_SINK_STREAM": stream.url}
        async with faulty_receiver(tmp_path, fault(*place.split()), settings) as service:
            await killed_while_telling(service)
            await at_rest(service)
            assert len(stream.received()) == 1
    finally:
        stream.close()


async def killed_while_telling(service: FaultyReceiver) -> None:
    await service.start()
    await service.finish("t1")
    await service.died()
    await service.start()


@pytest.mark.parametrize(
    "place",
    [
        "after receiver.record.recording:Batch.judge",
        "before receiver.record.deliveries:_insert",
        "before receiver.web.callbacks:_acknowledge",
    ],
)
async def test_a_kill_inside_a_group_commit_takes_no_200_back(tmp_path: Path, place: str) -> None:
    settings = {"RECEIVER_EARLY_LIMIT": "100000"}
    async with faulty_receiver(tmp_path, fault(*place.split(), count=150), settings) as service:
        await service.start()
        acknowledged, refusals = await burst(service, service.died, after=1)
        on_record = recorded(service)
        assert refusals == []
        assert 0 < len(acknowledged) < 150
        assert acknowledged - on_record == set()
        await service.start()
        for task_id in list(on_record - acknowledged)[:3]:  # committed, and its sender never heard so
            await service.call_back(task_id)
        await service.stop()
    assert acknowledged - recorded(service) == set()


@pytest.mark.parametrize(
    ("place", "status"),
    [
        ("after receiver.record.submissions:log_submission", 201),
        (f"after {STORE}.log_submission", 200),
    ],
)
async def test_a_submission_that_a_kill_left_unanswered_is_sent_again_and_logged_once(
    tmp_path: Path, place: str, status: int
) -> None:
    async with faulty_receiver(tmp_path, fault(*place.split())) as service:
        await service.start()
        with pytest.raises(httpx2.TransportError):
            await service.submit("t1")
        await service.died()
        await service.start()
        wanted = {"provider": "vidgo", "owner": "user-17", "task_id": "t1"}
        answer = await service.http.post("/submissions", json=wanted, headers=bearer(ADMIN_TOKEN))
        assert answer.status_code == status
        assert query(service, "SELECT count(*) FROM submissions") == [(1,)]


POLLS = {
    "before the lease": Cost(fault=fault("before", "receiver.polling.reconciler:Reconciler.lease"), asked=1),
    "before it asks": Cost(fault=fault("before", "receiver.polling.status_client:StatusClient.ask"), asked=1),
    "after the answer": Cost(
        fault=fault("after", "receiver.polling.status_client:StatusClient.ask"), asked=2
    ),
    "recorded, but not committed": Cost(fault=fault("after", WRITTEN), asked=2),
    "after it is recorded": Cost(fault=fault("after", "receiver.ingest:Ingest.accept_answer"), asked=1),
    "settled, but not committed": Cost(fault=fault("after", "receiver.record.polls:settle_poll"), asked=1),
    "after it is settled": Cost(fault=fault("after", f"{STORE}.settle_poll"), asked=1),
}

HELD = {
    "before it asks": Cost(fault=fault("before", "receiver.polling.status_client:StatusClient.ask"), asked=1),
    "after the answer": Cost(
        fault=fault("after", "receiver.polling.status_client:StatusClient.ask"), asked=2
    ),
    "recorded, but not committed": Cost(
        fault=fault("after", WRITTEN, once="receiver.ingest:Ingest.accept_answer"), asked=2
    ),
    "after it is recorded": Cost(fault=fault("after", "receiver.ingest:Ingest.accept_answer"), asked=1),
    "after it is settled": Cost(fault=fault("after", f"{STORE}.settle_poll"), asked=1),
}

RENEWALS = {
    "before it asks": Cost(fault=fault("before", "receiver.polling.reconciler:Reconciler.renew"), asked=1),
    "after the answer": Cost(fault=fault("after", "receiver.polling.reconciler:Reconciler.renew"), asked=2),
    "after the fresh link is fetched": Cost(
        fault=fault("after", "receiver.fetching.fetcher:Fetcher.fetch", count=2), fetched=2, asked=2
    ),
    "settled, but not committed": Cost(
        fault=fault("after", "receiver.record.assets:_renew"), fetched=2, asked=2
    ),
    "after it is settled": Cost(fault=fault("after", f"{STORE}.settle_asset"), asked=1),
}


@rows(POLLS)
async def test_a_poll_that_a_kill_cut_short_ends_the_task_once(tmp_path: Path, cost: Cost) -> None:
    async with played_provider(tmp_path, cost.fault, first_poll_seconds=0.2) as (host, service):
        await service.start()
        await service.submit("t1")
        await service.died()
        await service.start()
        await assert_done(service, host, cost)
        assert (await service.task("t1"))["via"] == "poll"


@rows(HELD)
async def test_a_callback_that_waits_for_confirmation_still_does_after_a_kill(
    tmp_path: Path, cost: Cost
) -> None:
    async with played_provider(tmp_path, cost.fault) as (host, service):
        await service.start()
        assert await one_task(service, host) == 200
        await service.start()
        await assert_done(service, host, cost)
        verdicts = query(service, "SELECT via, verdict FROM deliveries ORDER BY via")
        assert verdicts == [("callback", "accepted"), ("poll", "accepted")]


@rows(RENEWALS)
async def test_a_dead_link_that_a_kill_met_is_renewed_after_it(tmp_path: Path, cost: Cost) -> None:
    settings = {"RECEIVER_CONFIRM": "never"}
    async with played_provider(tmp_path, cost.fault, settings=settings) as (host, service):
        await service.start()
        await service.submit("t1")
        assert await answer_to(service, "t1", host.put("/t1.png?dead", says(403))) == 200
        await service.died()
        await service.start()
        await assert_done(service, host, cost)


@asynccontextmanager
async def played_provider(
    folder: Path, killed: Fault, *, first_poll_seconds: float = 300.0, settings: dict[str, str] | None = None
) -> AsyncIterator[tuple[MediaHost, FaultyReceiver]]:
    """A provider that says of ``t1`` that it is done, and a service that may ask it."""
    async with media_host() as host:
        host.put("/t1.png", says(200, PICTURE))
        finished = sample_callback("vidgo", "t1", files=[host.url("/t1.png")])
        host.put(status_path("vidgo", "t1"), tells(finished))
        asking = {
            "VIDGO_API_KEY": "any",
            "VIDGO_BASE_URL": host.url(""),
            "VIDGO_FIRST_POLL_SECONDS": f"{first_poll_seconds:g}",
            "VIDGO_POLLS_PER_MINUTE": "6000",
        }
        async with faulty_receiver(folder, killed, asking | (settings or {})) as service:
            yield host, service


MANY, OF_A_STEP = 12, 4
TASKS = [f"t{number:02}" for number in range(MANY)]
STEP = "receiver.record.replay_steps:step"
AT_THE_SECOND_STEP = {
    "not committed": fault("after", STEP, count=2),
    "committed": fault("after", f"{STORE}.step_replay", count=2),
}


@pytest.mark.parametrize(
    "killed",
    [*AT_THE_SECOND_STEP.values(), fault("after", "receiver.sinks.jsonl:JsonlSink.publish_many")],
    ids=[*AT_THE_SECOND_STEP, "while it sends"],
)
async def test_a_replay_of_notifications_goes_on_where_a_kill_met_it(tmp_path: Path, killed: Fault) -> None:
    async with faulty_receiver(tmp_path) as service:
        await service.start()
        await asyncio.gather(*(service.finish(task_id) for task_id in TASKS))
        await until(lambda: service.told() == TASKS)
        await service.stop()

        replay = await replayed(service, killed, {"stage": "notify"})
        assert replay["results"] == {"delivered": MANY}
        await at_rest(service)
        ids_of = {event["subject"]: event["id"] for event in service.events()[:MANY]}
        again = service.events()[MANY:]
        assert {event["replayid"] for event in again} == {replay["id"]}
        assert all(event["id"] == ids_of[event["subject"]] for event in again)
        doubles = Counter(event["subject"] for event in again)
        assert doubles.keys() == ids_of.keys()
        # Only the batch that was being sent when it died may come twice.
        assert set(doubles.values()) <= {1, 2}
        assert "publish" in killed.place or len(again) - MANY <= OF_A_STEP


@pytest.mark.parametrize(
    "killed",
    [*AT_THE_SECOND_STEP.values(), fault("before", f"{STORE}.settle_asset", count=3)],
    ids=[*AT_THE_SECOND_STEP, "while it downloads"],
)
async def test_a_replay_of_downloads_goes_on_where_a_kill_met_it(tmp_path: Path, killed: Fault) -> None:
    # All files are equal: linked, they would be had one after the other, each told while the next is fetched.
    settings = {"RECEIVER_ASSET_LINK_COPIES": "false"}
    async with media_host() as host, faulty_receiver(tmp_path, settings=settings) as service:
        host.otherwise = says(451)
        await service.start()
        for task_id in TASKS:
            await service.finish(task_id, host.url(f"/{task_id}.png"))
        await until(lambda: service.told() == TASKS)
        await service.stop()

        host.otherwise = says(200, SMALL)
        host.requests.clear()
        replay = await replayed(service, killed, {"stage": "fetch"})
        assert replay["results"] == {"stored": MANY}
        await at_rest(service)
        assert stored_files(service) == [SMALL] * MANY
        assert temporary_files(service) == []
        again = told_once(service)[MANY:]
        assert [(event["type"], event["revision"]) for event in again] == [("task.completed", 2)] * MANY
        # Only what was being fetched when it died is fetched twice, of the first step's files or of all.
        assert len(host.requests) - MANY <= 8


@pytest.mark.parametrize(
    "killed",
    [
        fault("after", "receiver.record.replay_steps:reprocess", count=2),
        fault("after", f"{STORE}.reprocess", count=2),
    ],
    ids=["not committed", "committed"],
)
async def test_a_replay_of_kept_deliveries_goes_on_where_a_kill_met_it(tmp_path: Path, killed: Fault) -> None:
    yesterday = fault("emptied", "receiver.unified:_STATES")
    async with faulty_receiver(tmp_path, yesterday) as service:
        await service.start()
        for task_id in TASKS:
            await service.submit(task_id)
            assert await service.call_back(task_id) == "unrecognised"
        await service.stop()

        replay = await replayed(service, killed, {"stage": "reprocess"})
        assert replay["results"] == {"accepted": MANY}
        await at_rest(service)
        assert sorted(event["data"]["task_id"] for event in told_once(service)) == TASKS


@pytest.mark.parametrize(
    "killed",
    [
        *AT_THE_SECOND_STEP.values(),
        fault("after", "receiver.polling.status_client:StatusClient.ask", count=3),
    ],
    ids=[*AT_THE_SECOND_STEP, "while it asks"],
)
async def test_a_replay_of_polls_goes_on_where_a_kill_met_it(tmp_path: Path, killed: Fault) -> None:
    async with played_provider(tmp_path, killed, first_poll_seconds=86_400) as (host, service):
        for task_id in TASKS:
            host.put(status_path("vidgo", task_id), tells(sample_callback("vidgo", task_id, error="nsfw")))
        service.fault = None
        await service.start()
        for task_id in TASKS:
            await service.submit(task_id)
        await service.stop()

        replay = await replayed(service, killed, {"stage": "poll"})
        assert replay["settled"] == MANY
        await at_rest(service)
        assert sorted(event["data"]["task_id"] for event in told_once(service)) == TASKS
        assert len(host.requests) - MANY <= (4 if "ask" in killed.place else 0)


async def test_a_replay_that_nobody_was_told_of_is_in_the_list_and_runs_all_the_same(tmp_path: Path) -> None:
    async with faulty_receiver(tmp_path) as service:
        await service.start()
        await service.finish("t1")
        await until(lambda: service.told() == ["t1"])
        await service.stop()
        replay = await replayed(service, fault("after", f"{STORE}.start_replay"), {"stage": "notify"})
        assert replay["results"] == {"delivered": 1}
        assert service.told() == ["t1", "t1"]


def told_once(service: FaultyReceiver) -> list[dict[str, Any]]:
    """What its sink was told. What the first step has led to may have been told and not noted at the kill."""
    lines = whole_lines(service)
    told = [*dict.fromkeys(lines)]
    assert len(lines) - len(told) <= OF_A_STEP
    return [json.loads(line) for line in told]


async def replayed(service: FaultyReceiver, killed: Fault, wanted: dict[str, Any]) -> dict[str, Any]:
    """A replay in steps of four, killed and ended in the next life; every match is counted once."""
    service.fault = killed
    await service.start()
    try:
        answer = await service.http.post(
            "/replays", json={"filter": {}, "rate": 8, **wanted}, headers=bearer(ADMIN_TOKEN)
        )
        assert answer.status_code == 202
    except httpx2.TransportError:
        assert "start_replay" in killed.place
    await service.died()
    await service.start()

    replay: dict[str, Any] = {}

    async def is_done() -> bool:
        answer = await service.http.get("/replays", headers=bearer(ADMIN_TOKEN))
        (row,) = answer.json()["replays"]
        replay.update(row)
        return row["state"] == "done"  # type: ignore[no-any-return]

    await until(is_done, SOON_SECONDS)
    counts = {replay[name] for name in ("matched", "looked_at", "queued", "settled")}
    assert len(counts) == 1, replay
    return replay


@pytest.mark.parametrize(
    "killed",
    [
        fault("after", "receiver.record.deliveries:expire_early"),
        fault("after", "receiver.record.polls:follow_deliveries"),
        fault("after", "receiver.record.retention:purge"),
        fault("after", f"{STORE}.purge"),
    ],
    ids=["while it expires", "while it forgets polls", "purged, but not committed", "after the purge"],
)
async def test_upkeep_that_a_kill_cut_short_is_done_by_the_next_start(tmp_path: Path, killed: Fault) -> None:
    async with faulty_receiver(tmp_path) as service:
        await service.start()
        await service.finish("t1")
        assert await service.call_back("stranger") == "early"
        await until(lambda: service.told() == ["t1"])
        await service.stop()
        with closing(sqlite3.connect(service.data / "receiver.db")) as connection:
            connection.execute("UPDATE deliveries SET received_at = '2020' || substr(received_at, 5)")
            connection.commit()

        service.fault = killed
        service.launch()
        await service.died()
        await service.start()
        left = "SELECT count(*) FROM deliveries WHERE body IS NOT NULL OR verdict = 'early'"
        await until(lambda: query(service, left) == [(0,)])
        assert await service.call_back("t1") == "duplicate"
        await at_rest(service)
        assert service.told() == ["t1"]


@pytest.mark.parametrize(
    "place",
    [
        "before receiver.folders:empty_folder",
        "after receiver.folders:empty_folder",
        "after receiver.record.store:free_leases",
        "before receiver.worker:Worker.start",
    ],
)
async def test_a_start_that_a_kill_cut_short_costs_nothing(tmp_path: Path, place: str) -> None:
    cost = FILES["half-way through the download"]
    async with media_host() as host, faulty_receiver(tmp_path, cost.fault) as service:
        await service.start()
        assert await one_task(service, host) == 200
        service.fault = fault(*place.split())
        service.launch()
        await service.died()
        await service.start()
        await assert_done(service, host, cost)


async def one_task(service: FaultyReceiver, host: MediaHost) -> int | None:
    """A task with one file, and the kill that it leads to; the status its provider saw, if any."""
    host.put("/t1.png", says(200, PICTURE))
    await service.submit("t1")
    status = await answer_to(service, "t1", host.url("/t1.png"))
    await service.died()
    return status


async def answer_to(service: FaultyReceiver, task_id: str, *files: str) -> int | None:
    """What the provider sees of the answer to its callback: the status, or None."""
    body = sample_callback("vidgo", task_id, files=files)
    try:
        return (await service.http.post(service.callback_path(), content=body)).status_code
    except httpx2.TransportError:
        return None


async def assert_done(service: FaultyReceiver, host: MediaHost, cost: Cost) -> None:
    """The task has ended, its file is whole, its sink was told, and nothing happened too often."""
    await at_rest(service)
    task = await service.task("t1")
    assert task["state"] == "completed"
    assert stored_files(service) == [PICTURE]
    assert temporary_files(service) == []
    assert [ids(line) for line in whole_lines(service)] == [(task["event_id"], "t1")] * cost.told
    asked = Counter(head.split(" ")[1] for head in host.requests)
    assert (asked["/t1.png"], asked[status_path("vidgo", "t1")]) == (cost.fetched, cost.asked)


def whole_lines(service: FaultyReceiver) -> list[bytes]:
    """The lines of the sink's file that a consumer can read: a kill may leave one that it cannot."""
    return [line for line in service.lines() if line.endswith(b"}")]


def ids(message: bytes) -> tuple[str, str]:
    event = json.loads(message)
    return event["id"], event["data"]["task_id"]


async def at_rest(service: FaultyReceiver) -> None:
    """Wait until nothing is pending anywhere, then check the file itself."""
    pending = """
    SELECT (SELECT count(*) FROM assets WHERE state = 'pending')
        + (SELECT count(*) FROM outbox WHERE state = 'pending')
        + (SELECT count(*) FROM deliveries WHERE verdict = 'unconfirmed')
        + (SELECT count(*) FROM replays WHERE state = 'running')
        + (SELECT count(*) FROM submissions WHERE number NOT IN (SELECT number FROM events))
    """
    await until(lambda: query(service, pending) == [(0,)], SOON_SECONDS)
    assert query(service, "PRAGMA integrity_check") == [("ok",)]
    assert query(service, "PRAGMA foreign_key_check") == []


def query(service: FaultyReceiver, sql: str) -> Sequence[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{service.data}/receiver.db?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()
