"""Order at a sink: notifications of one line, a task's or an owner's, are sent one after the other.

In a line it is the turn of the one with the lowest number among those that are pending. All others of it are
behind. Whoever looks for what is due parks those that it meets, so that it meets them no more, and a trigger
of the schema makes the next one due whenever one is pending no more, whatever became of it.
"""

from receiver.models import SinkOrder
from receiver.record.ids import hash63

# When a parked one is due; its turn comes before.
PARKED = "9999-12-31T23:59:59.999Z"

# Whether an entry ``o`` waits for another of its line.
IS_BEHIND = """
(o.line IS NOT NULL AND EXISTS (SELECT 1 FROM outbox b
    WHERE b.sink = o.sink AND b.line = o.line AND b.state = 'pending' AND b.number < o.number))
"""

PARK = f"UPDATE outbox SET due_at = '{PARKED}' WHERE number IN (SELECT value FROM json_each(:numbers))"  # noqa: S608


def line_of(order: SinkOrder, event: int, owner: str) -> int | None:
    """The line of an event at a sink with such an order; None where it has none.

    That of an owner is a hash: two who share one wait for each other, and that is all.
    """
    match order:
        case SinkOrder.TASK:
            return event
        case SinkOrder.OWNER:
            return hash63(owner)
    return None
