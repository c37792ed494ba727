"""One notification settled by itself, as a batch of one."""

from receiver.models import OutboxWork, Settlement
from receiver.ports import Store


async def settle_outbox(store: Store, work: OutboxWork, settlement: Settlement) -> bool:
    """Whether it was still ours. Raises what stood in the way."""
    (end,) = await store.settle_outbox_batch([(work, settlement)])
    if isinstance(end, Exception):
        raise end
    return end
