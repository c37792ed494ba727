"""Admins do things again, look at how far that is, and stop it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.models import ReplayState, Stage, TaskState
from receiver.runtime import Runtime
from receiver.web import dead_letters, replays
from tests.support.engines import on_both_engines
from tests.support.waiting import until
from tests.support.web_callers import ADMIN_TOKEN, PROVIDERS, LogLines, fail_task, log_task

NOTIFY: dict[str, Any] = {"filter": {}, "stage": "notify"}


@pytest.fixture
async def three(admin: httpx2.AsyncClient, runtime: Runtime) -> None:
    """Two tasks that failed and were told of, and one without an end."""
    await fail_task(admin, runtime, "t1", owner="user-1")
    await fail_task(admin, runtime, "t2", owner="user-2")
    await log_task(admin, "t3", owner="user-2")

    async def told() -> bool:
        stats = await runtime.store.count_stats()
        return stats.outbox.get("jsonl", {}).get("delivered") == 2

    await until(told)


async def ended(admin: httpx2.AsyncClient, replay_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        replay: dict[str, Any] = (await admin.get(f"/replays/{replay_id}")).json()
        return replay if replay["state"] == "done" else None

    return await until(look)


def events(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "data/events.jsonl").read_text().splitlines()]


# --- asking for one ---------------------------------------------------------------------------------


@on_both_engines
@pytest.mark.usefixtures("three")
async def test_events_are_sent_again_and_the_replay_says_how_that_went(
    admin: httpx2.AsyncClient, tmp_path: Path
) -> None:
    answer = await admin.post("/replays", json=NOTIFY)
    started = answer.json()
    assert answer.status_code == 202, answer.text
    assert (started["matched"], started["stage"], started["filter"]) == (2, "notify", {})
    assert started["state"] in {ReplayState.RUNNING, ReplayState.DONE}
    done = await ended(admin, started["id"])
    assert done["requested_by"] == "admin " + hashlib.sha256(ADMIN_TOKEN.encode()).hexdigest()[:8]
    assert [done[name] for name in ("looked_at", "queued", "settled")] == [2, 2, 2]
    assert done["results"] == {"delivered": 2}
    assert done["created_at"] <= done["finished_at"]
    first, again = events(tmp_path)[:2], events(tmp_path)[2:]
    assert {event["id"] for event in again} == {event["id"] for event in first}
    assert [event["replayid"] for event in again] == [started["id"]] * 2


@pytest.mark.usefixtures("three")
async def test_a_dry_run_counts_and_changes_nothing(admin: httpx2.AsyncClient) -> None:
    asked = {**NOTIFY, "filter": {"owner": "user-1"}, "rate": 5, "dry_run": True}
    answer = await admin.post("/replays", json=asked)
    assert answer.status_code == 200
    assert answer.json() == {
        "dry_run": True,
        "matched": 1,
        "stage": "notify",
        "filter": {"owner": "user-1"},
        "sinks": ["jsonl"],
        "rate": 5.0,
    }
    assert (await admin.get("/replays")).json() == {"replays": []}


async def test_a_filter_for_half_a_surrogate_pair_is_refused(admin: httpx2.AsyncClient) -> None:
    for path, stage in (("/replays", b'"stage": "notify", '), ("/dead-letters/requeue", b"")):
        body = b"{" + stage + b'"filter": {"owner": "\\ud83d"}, "dry_run": true}'
        answer = await admin.post(path, content=body)
        assert answer.status_code == 400
        assert "`filter` holds half a surrogate pair" in answer.json()["detail"]


@on_both_engines
@pytest.mark.usefixtures("three")
async def test_only_what_the_filter_lets_pass_is_matched(admin: httpx2.AsyncClient) -> None:
    cases: list[tuple[str, dict[str, Any], int]] = [
        ("notify", {"provider": "vidgo"}, 2),
        ("notify", {"provider": "apixo"}, 0),
        ("notify", {"owner": "user-2", "state": "failed", "type": "task.failed"}, 1),
        ("notify", {"state": "completed"}, 0),
        ("notify", {"task_ids": ["t1", "t2", "t3", "t4"]}, 2),
        ("notify", {"since": "2026-01-01T00:00:00+02:00", "until": "2999-01-01T00:00:00Z"}, 2),
        ("notify", {"since": "2999-01-01T00:00:00Z"}, 0),
        ("notify", {"logged_since": "2026-01-01T00:00:00Z", "logged_until": "2999-01-01T00:00:00Z"}, 2),
        ("notify", {"logged_until": "2026-01-01T00:00:00Z"}, 0),
        ("poll", {}, 1),
        ("poll", {"task_ids": ["t1"]}, 0),
        ("fetch", {}, 0),
        ("reprocess", {}, 0),
    ]
    for stage, clauses, matched in cases:
        answer = await admin.post("/replays", json={"stage": stage, "filter": clauses, "dry_run": True})
        assert answer.status_code == 200, answer.text
        assert answer.json()["matched"] == matched, (stage, clauses)


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({"filter": {"provider": "nobody"}}, PROVIDERS),
        ({"sinks": ["jsonl", "queue"]}, "jsonl"),
        ({"stage": "redo"}, ", ".join(Stage)),
        ({"filter": {"state": "done"}}, ", ".join(TaskState)),
        ({"filter": {"type": "completed"}}, "task.completed, task.partial, task.failed"),
    ],
)
async def test_an_unknown_name_is_refused_with_those_that_are_known(
    admin: httpx2.AsyncClient, change: dict[str, Any], known: str
) -> None:
    answer = await admin.post("/replays", json={**NOTIFY, **change})
    assert answer.status_code == 400
    assert f"must be one of: {known}." in answer.json()["detail"]
    assert (await admin.get("/replays")).json() == {"replays": []}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"stage": "notify"}, "filter"),
        ({"filter": {}}, "stage"),
        ({**NOTIFY, "rate": 0}, "rate"),
        ({**NOTIFY, "rate": 1e-12}, "rate"),
        ({**NOTIFY, "rate": "fast"}, "rate"),
        ({"filter": {}, "stage": "poll", "sinks": ["jsonl"]}, "sinks"),
        ({**NOTIFY, "filter": {"task_id": "t1"}}, "task_id"),
        ({**NOTIFY, "filter": {"task_ids": [""]}}, "task_ids"),
        ({**NOTIFY, "filter": {"task_ids": ["x"] * 1001}}, "task_ids"),
        ({**NOTIFY, "filter": {"since": "2026-01-01T00:00:00"}}, "since"),
        ({**NOTIFY, "filter": {"until": "9999-12-31T23:59:59-14:00"}}, "until"),
        ({**NOTIFY, "sink": "jsonl"}, "sink"),
        (None, "filter"),
    ],
)
async def test_what_is_wrong_in_a_request_is_named(
    admin: httpx2.AsyncClient, body: dict[str, Any] | None, named: str
) -> None:
    answer = await admin.post("/replays", json=body) if body else await admin.post("/replays")
    assert answer.status_code == 400
    assert named in answer.json()["detail"]


@pytest.mark.parametrize(
    ("stage", "clauses", "named"),
    [
        (
            "poll",
            {"type": "task.failed"},
            "the stage poll is only about tasks in state submitted, not failed",
        ),
        (
            "poll",
            {"state": "fetching"},
            "the stage poll is only about tasks in state submitted, not fetching",
        ),
        ("notify", {"state": "submitted"}, "only about tasks in state completed, partial, failed"),
        ("fetch", {"type": "task.completed"}, "only about tasks in state partial, failed, not completed"),
        ("notify", {"type": "task.failed", "state": "partial"}, "in state failed, not partial"),
        (
            "poll",
            {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
            "`since` must be before",
        ),
        (
            "notify",
            {"logged_since": "2026-01-02T00:00:00Z", "logged_until": "2026-01-01T00:00:00Z"},
            "`logged_since` must be before `logged_until`",
        ),
        ("poll", {"since": "2026-01-01T01:00:00+01:00", "until": "2026-01-01T00:00:00Z"}, "`since` must be"),
    ],
)
async def test_a_filter_that_can_match_nothing_is_refused(
    admin: httpx2.AsyncClient, stage: str, clauses: dict[str, Any], named: str
) -> None:
    answer = await admin.post("/replays", json={"stage": stage, "filter": clauses, "dry_run": True})
    assert answer.status_code == 400
    assert "othing can match" in answer.json()["detail"]
    assert named in answer.json()["detail"]


@pytest.mark.parametrize(
    ("stage", "clauses"),
    [
        ("poll", {"state": "submitted"}),
        ("reprocess", {"state": "fetching"}),
        ("fetch", {"type": "task.partial", "state": "partial"}),
    ],
)
async def test_a_filter_that_can_match_something_is_taken(
    admin: httpx2.AsyncClient, stage: str, clauses: dict[str, Any]
) -> None:
    asked = {"stage": stage, "filter": clauses, "dry_run": True, "rate": 0.001}
    assert (await admin.post("/replays", json=asked)).status_code == 200


# --- looking, pausing, ending -----------------------------------------------------------------------


@pytest.mark.usefixtures("three")
async def test_a_replay_is_paused_resumed_and_cancelled(admin: httpx2.AsyncClient) -> None:
    started = (await admin.post("/replays", json={**NOTIFY, "rate": 0.01})).json()
    one = f"/replays/{started['id']}"
    for verb, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        answer = await admin.post(f"{one}/{verb}")
        assert (answer.status_code, answer.json()["state"]) == (200, state), answer.text
        assert (await admin.get(one)).json()["state"] == state
    for verb in ("pause", "resume"):
        assert (await admin.post(f"{one}/{verb}")).status_code == 409


async def test_replays_are_listed_the_newest_first(admin: httpx2.AsyncClient) -> None:
    ids = [(await admin.post("/replays", json=NOTIFY)).json()["id"] for _ in range(3)]
    listed = (await admin.get("/replays")).json()["replays"]
    assert [replay["id"] for replay in listed] == ids[::-1]
    assert len((await admin.get("/replays?limit=2")).json()["replays"]) == 2
    assert (await admin.get("/replays?limit=0")).status_code == 400


async def test_an_unknown_replay_is_not_found(admin: httpx2.AsyncClient) -> None:
    assert (await admin.get("/replays/rpl_0")).status_code == 404
    for verb in ("pause", "resume", "cancel"):
        assert (await admin.post(f"/replays/rpl_0/{verb}")).status_code == 404


async def test_only_admins_may(backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient) -> None:
    doors = [*replays.ENDPOINTS, *dead_letters.ENDPOINTS]
    assert len(doors) == 10
    for door in doors:
        url = door.path.replace("{id}", "rpl_1")
        assert (await backend.request(door.method, url)).status_code == 403
        assert (await stranger.request(door.method, url)).status_code == 401


@pytest.mark.usefixtures("three")
async def test_the_log_says_who_did_what_and_names_no_owner(
    admin: httpx2.AsyncClient, log_lines: LogLines
) -> None:
    asked = {**NOTIFY, "filter": {"owner": "user-2", "task_ids": ["t1", "t2"]}, "rate": 0.01}
    started = (await admin.post("/replays", json=asked)).json()
    await admin.post("/replays", json={**asked, "dry_run": True})
    for verb in ("pause", "resume", "cancel"):
        await admin.post(f"/replays/{started['id']}/{verb}")
    lines = [line for line in log_lines if line["event"].startswith("replay.")]
    assert [line["event"] for line in lines] == [
        "replay.requested",
        "replay.paused",
        "replay.resumed",
        "replay.cancelled",
    ]
    assert {line["who"] for line in lines} == {started["requested_by"]}
    assert {line["replay_id"] for line in lines} == {started["id"]}
    assert lines[0]["clauses"] == ["owner", "task_ids"]
    assert (lines[0]["task_ids"], lines[0]["matched"]) == (2, 1)
    assert not any("user-2" in str(line) or ADMIN_TOKEN in str(line) for line in lines)
