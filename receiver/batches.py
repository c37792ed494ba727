"""A batch for a sink to which each message goes by itself: many are under way at once, in their order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from receiver.errors import Unavailable
from receiver.models import Notification, Outcome

AT_ONCE = 64  # more do not go faster


async def publish_each(
    publish: Callable[[Notification], Awaitable[None]], notifications: Sequence[Notification], seconds: float
) -> list[Exception | None]:
    """What became of each, as ``ports.BatchSink`` has it, all of them in the time that one publish has.

    The first goes alone: it connects, where that has to be done. They are begun in their order, so a sink
    that writes what it is given before it waits for anything else keeps it.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + seconds
    late = Unavailable("it was not answered in time", outcome=Outcome.TIMEOUT)
    ends: list[Exception | None] = [None] * len(notifications)

    async def end(place: int) -> None:
        if loop.time() >= give_up_at:
            ends[place] = late
            return
        try:
            async with asyncio.timeout_at(give_up_at):
                await publish(notifications[place])
        except TimeoutError:
            ends[place] = late
        except Exception as exc:  # noqa: BLE001 - it is for whoever reads what became of each
            ends[place] = exc

    waiting = iter(range(len(notifications)))

    async def keep_on() -> None:
        for place in waiting:
            await end(place)

    await end(next(waiting))
    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(notifications) - 1)):
            group.create_task(keep_on())
    return ends
