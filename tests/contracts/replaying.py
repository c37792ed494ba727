"""Tasks that have ended and replays of them: what the contracts of replays start from."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import msgspec

from receiver.clock import Clock
from receiver.models import (
    OutboxWork,
    Outcome,
    Replay,
    ReplayWork,
    Stage,
    Task,
    WorkFilter,
    new_replay,
)
from receiver.ports import Store
from tests.support.factories import completed, failed, later, recording, settlement, stored, submission
from tests.support.settling import settle_outbox

EVERYTHING = WorkFilter()
ASKED_AT = later(100)
LINK_LIFE_SECONDS = {"vidgo": 7200.0}


def replay(
    stage: Stage,
    wanted: WorkFilter = EVERYTHING,
    *,
    sinks: tuple[str, ...] = (),
    rate: float | None = None,
    requested_by: str = "admin",
    created_at: datetime = ASKED_AT,
) -> Replay:
    """A new one."""
    return new_replay(
        id=Clock().new_id("rpl"),
        stage=stage,
        filter=wanted,
        sinks=sinks,
        rate=rate,
        requested_by=requested_by,
        created_at=created_at,
    )


async def end_task(
    store: Store, task_id: str, *, at: float = 0, provider: str = "vidgo", owner: str = "ann"
) -> None:
    """A failed task, of which both sinks know."""
    await store.log_submission(submission(task_id, provider=provider, owner=owner))
    await store.record(recording(failed(task_id), provider=provider, received_at=later(at)))
    for sink in ("all", "failures"):
        await publish(store, sink, at=at)


async def end_with_files(store: Store, task_id: str, *outcomes: Outcome, at: float = 0) -> None:
    """A task whose files ended so; told to the sinks."""
    await store.log_submission(submission(task_id))
    await store.record(recording(completed(task_id, files=len(outcomes)), received_at=later(at)))
    for work in await store.lease_assets(later(at), later(at + 60), 100):
        outcome = outcomes[work.index]
        is_stored = outcome is Outcome.STORED
        await store.settle_asset(
            work, stored(work, at=later(at)) if is_stored else settlement(outcome, at=later(at))
        )
    await publish(store, "all", at=at)
    await publish(store, "failures", at=at)


async def publish(
    store: Store, sink: str, *, at: float, outcome: Outcome = Outcome.DELIVERED, limit: int = 100
) -> list[OutboxWork]:
    """Settle what is due for a sink; what that was."""
    works = await store.lease_outbox(sink, later(at), later(at + 60), limit)
    settled = await asyncio.gather(
        *(settle_outbox(store, work, settlement(outcome, at=later(at))) for work in works)
    )
    assert all(settled)
    return works


async def lease(store: Store, at: float) -> ReplayWork:
    (work,) = await store.lease_replays(later(at), later(at + 60), 10)
    return work


async def make_step(store: Store, at: float, *, limit: int = 100) -> None:
    """One step of the only replay; the next is due at once."""
    assert await step_replay(store, await lease(store, at), limit, later(at), later(at))


async def start_replay(store: Store, asked: Replay) -> Replay:
    """Count and start, as the door does."""
    matched = await store.count_matches(asked.stage, asked.filter, asked.created_at)
    started = msgspec.structs.replace(asked, matched=matched)
    await store.start_replay(started)
    return started


async def step_replay(store: Store, work: ReplayWork, limit: int, now: datetime, next_at: datetime) -> bool:
    """Look and step, as the loop does."""
    return await store.step_replay(work, await store.find_matches(work, limit), now, next_at)


class Requeued(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead letters are due again, and behind which others are looked for."""

    count: int
    cursor: str | None


async def requeue_dead(
    store: Store,
    wanted: WorkFilter,
    sinks: Sequence[str],
    now: datetime,
    limit: int,
    *,
    after: str | None = None,
) -> Requeued:
    """Look and revive, as the door does."""
    found = await store.find_dead(wanted, sinks, limit, after=after)
    return Requeued(count=await store.revive_dead(found.keys, now), cursor=found.cursor)


async def get(store: Store, replay_id: str) -> Replay:
    found = await store.get_replay(replay_id)
    assert found is not None
    return found


async def task_of(store: Store, task_id: str) -> Task:
    task = await store.get_task("vidgo", task_id)
    assert task is not None
    return task
