"""The long run of `tests.bench.missed`, cut short: with everything that goes wrong at once, each task ends as
it really did.
"""

from pathlib import Path

from tests.bench.missed import run

TASKS = 400


async def test_every_task_ends_as_it_did_at_its_provider_whatever_happens_to_callbacks_and_links(
    tmp_path: Path,
) -> None:
    assert await run(tmp_path, tasks=TASKS) == []


async def test_every_task_ends_as_it_did_though_the_receiver_is_killed_every_few_seconds(
    tmp_path: Path,
) -> None:
    assert await run(tmp_path, tasks=TASKS, kills=True) == []
