"""Orders: reserved before they are sent, ended once, and read with their task for its status.

That an order is bound is said by its submission, whoever bound it: an answer, a callback, a person.
"""

from datetime import datetime

import msgspec

from receiver.models import (
    CostState,
    NewOrder,
    Order,
    OrderEnd,
    OrderFilter,
    OrderPage,
    OrderState,
    RelayWork,
    TaskStanding,
    Verdict,
    Via,
)
from receiver.options import StoreOptions
from receiver.record import costs
from receiver.record.cursor import Cursor
from receiver.record.filters import Search, find_newest
from receiver.record.leases import HELD
from receiver.record.recording import Batch
from receiver.record.rows import (
    fetch_all,
    fetch_one,
    parameters,
    parameters_of,
    read_one,
    to_value,
    to_values,
)
from receiver.record.rules import SubmissionRow
from receiver.record.submissions import WITHDRAW, insert_submission
from receiver.record.views import get_event, list_links, submission_of_task
from receiver.record.windows import Walk, cursor_at, number_below

INSERT_ORDER = """
INSERT INTO orders (number, state, credential, upstream_key, guard, digest, callback_url, sent_at, lease,
    due_at, relay_due_at)
VALUES (:number, 'sending', :credential, :upstream_key, :guard, :digest, :callback_url, :sent_at, :lease,
    :due_at, :relay_due_at)
"""

_STATE = "CASE WHEN s.task_id IS NOT NULL THEN 'bound' ELSE o.state END"
_COLUMNS = f"""
s.id AS submission_id, s.provider, s.owner, s.model, {_STATE} AS state, s.task_id, o.said_task_id,
o.credential, o.upstream_key, o.digest, o.sent_at, o.settled_at, o.outcome, o.status, o.media_type, o.answer,
c.state AS cost_state, c.micros, c.credits, c.basis, c.as_of
"""
_WITH_COSTS = "JOIN submissions s USING (number) LEFT JOIN charges c ON c.number = o.number"
_SELECT = f"SELECT {_COLUMNS} FROM orders o {_WITH_COSTS}"  # noqa: S608
OF_GUARD = f"{_SELECT} WHERE o.guard = :guard"
OF_SUBMISSION = f"{_SELECT} WHERE s.id = :id"
TO_SETTLE = f"SELECT o.number, {_COLUMNS} FROM orders o {_WITH_COSTS} WHERE s.id = :id"  # noqa: S608
# The newest first, by the numbers of the index of those that are not bound, or of all.
ALL = Walk(table="orders o NOT INDEXED", number="o.number")
NOT_BOUND = Walk(
    table="orders o INDEXED BY orders_state",
    number="o.number",
    only="o.state = :state AND o.state <> 'bound'",
)

FREE_GUARD = "UPDATE orders SET guard = NULL WHERE guard = :guard"

END = """
UPDATE orders SET state = :state, said_task_id = :task_id, outcome = :outcome, status = :status,
    media_type = :media_type, answer = :answer, settled_at = :now, lease = NULL, due_at = NULL,
    guard = CASE WHEN :frees_guard = 1 OR (:frees_unkeyed = 1 AND guard >= 'body' AND guard < 'bodz')
        THEN NULL ELSE guard END,
    relay_due_at = CASE WHEN :frees_guard = 1 THEN NULL ELSE relay_due_at END
WHERE number = :number
"""

# Those whose sender is gone, and those that nobody will tell of any more.
GIVE_UP_SENDING = f"""
UPDATE orders SET state = 'unknown', outcome = :outcome, settled_at = :now, lease = NULL, due_at = NULL
WHERE state = 'sending' AND {HELD}
"""  # noqa: S608
OVERDUE = """
SELECT number FROM orders WHERE state = 'sending' AND state <> 'bound' AND due_at < :now
ORDER BY number LIMIT :limit
"""
LOST = """
SELECT o.number FROM orders o JOIN submissions s USING (number)
WHERE o.state = 'unknown' AND o.state <> 'bound' AND o.sent_at < :lost_before AND s.task_id IS NULL
ORDER BY o.number LIMIT :limit
"""
FOUND = """
SELECT o.number FROM orders o JOIN submissions s USING (number)
WHERE o.state IN ('unknown', 'unresolved') AND o.state <> 'bound' AND s.task_id IS NOT NULL
ORDER BY o.number LIMIT :limit
"""
TO_BOUND = "UPDATE orders SET state = 'bound' WHERE number = :number"
TO_UNKNOWN = """
UPDATE orders SET state = 'unknown', outcome = 'interrupted', settled_at = :now, lease = NULL, due_at = NULL
WHERE number = :number
"""
TO_UNRESOLVED = "UPDATE orders SET state = 'unresolved', settled_at = :now WHERE number = :number"

# Callers' own URLs whose tasks have ended.
DUE_RELAYS = """
SELECT o.number, s.id AS submission_id, s.provider, s.task_id, o.callback_url, e.ended_at,
    o.relay_attempts + 1 AS attempt
FROM orders o JOIN submissions s USING (number) JOIN events e ON e.number = o.number
WHERE o.relay_due_at IS NOT NULL AND o.relay_due_at <= :now AND e.ended_at IS NOT NULL
ORDER BY o.relay_due_at, o.number LIMIT :limit
"""
LEASE_RELAY = """
UPDATE orders SET relay_due_at = :lease_until, relay_attempts = relay_attempts + 1 WHERE number = :number
"""
SETTLE_RELAY = """
UPDATE orders SET relay_due_at = :retry_at, relay_outcome = :outcome
WHERE number = (SELECT number FROM submissions WHERE id = :id)
"""
DROP_ANSWER = "UPDATE orders SET answer = NULL WHERE number = :number"

# What ended the task goes before what was said of it last.
LAST_WORD = """
SELECT body, via, verdict FROM deliveries
WHERE provider = :provider AND task_id = :task_id AND body IS NOT NULL AND verdict IN ('accepted', 'progress')
ORDER BY CASE verdict WHEN 'accepted' THEN 0 ELSE 1 END, last_seen_at DESC, number DESC LIMIT 1
"""


def reserve_order(db: Cursor, new: NewOrder, lease: str) -> tuple[Order, bool]:
    """Keep an order as being sent, unless its guard has another; see ``ports.OrderStore.reserve_order``."""
    known = None
    if new.guard is not None:
        known = read_one(db.execute(OF_GUARD, {"guard": new.guard}), Order)
        if known is not None and known.sent_at >= new.guard_since:
            return known, False
    allowed = costs.allow(db, new)
    if known is not None:
        db.execute(FREE_GUARD, {"guard": new.guard})
    submission = new.submission
    number = insert_submission(db, submission, has_charge=True)
    cost = costs.hold(db, number, new, allowed)
    db.execute(
        INSERT_ORDER,
        parameters(
            number=number,
            credential=new.credential,
            upstream_key=new.upstream_key,
            guard=new.guard,
            digest=new.digest,
            callback_url=new.callback_url,
            sent_at=submission.created_at,
            lease=lease,
            due_at=new.lease_until,
            relay_due_at=submission.created_at if new.relays else None,
        ),
    )
    order = Order(
        submission_id=submission.id,
        provider=submission.provider,
        owner=submission.owner,
        model=submission.model,
        state=OrderState.SENDING,
        task_id=None,
        said_task_id=None,
        credential=new.credential,
        upstream_key=new.upstream_key,
        digest=new.digest,
        sent_at=submission.created_at,
        settled_at=None,
        outcome=None,
        status=None,
        media_type=None,
        answer=None,
        cost_state=cost.state,
        micros=cost.micros,
        credits=cost.credits,
        basis=cost.basis,
        as_of=cost.as_of,
        exceeded=tuple((each.scope, each.period) for each in allowed.exceeded),
    )
    return order, True


def settle_order(
    db: Cursor, submission_id: str, end: OrderEnd, now: datetime, options: StoreOptions
) -> tuple[Order, bool]:
    """Keep how sending ended, and bind or withdraw; see ``ports.OrderStore.settle_order``."""
    row = fetch_one(db.execute(TO_SETTLE, {"id": submission_id}))
    assert row is not None, "it was reserved"  # noqa: S101
    number, order = row["number"], to_value(row, Order)
    is_nothing = end.state in {OrderState.REFUSED, OrderState.UNSENT}
    is_taken = has_found = False
    if order.task_id is None and is_nothing:
        _withdraw(db, number, submission_id, now)
    elif order.task_id is None and end.state is OrderState.BOUND and end.task_id is not None:
        is_taken, has_found = _bind(db, number, order, end.task_id, now, options)
    db.execute(
        END,
        parameters(
            state=end.state,
            task_id=end.task_id,
            outcome=end.outcome,
            status=end.status,
            media_type=end.media_type,
            answer=end.answer,
            now=now,
            number=number,
            frees_guard=int(is_nothing),
            # Whoever got the answer and sends the same without a key means another order.
            frees_unkeyed=int(end.is_heard and end.state is OrderState.BOUND),
        ),
    )
    if not is_taken:
        settled = get_order(db, submission_id)
        assert settled is not None, "it is there still"  # noqa: S101
        return settled, False
    settled = msgspec.structs.replace(
        order,
        state=OrderState.BOUND,
        task_id=end.task_id,
        said_task_id=end.task_id,
        outcome=end.outcome,
        status=end.status,
        media_type=end.media_type,
        answer=end.answer,
        settled_at=now,
    )
    return settled, has_found


def _bind(
    db: Cursor, number: int, order: Order, task_id: str, now: datetime, options: StoreOptions
) -> tuple[bool, bool]:
    """Tie the submission to the task that the answer named, unless that is another's already.

    Whether it has the task now, and whether something had come for that.
    """
    batch = Batch(db, options)
    if batch.submissions.of_task(order.provider, task_id) is not None:
        _withdraw(db, number, order.submission_id, now)
        return False, False
    row = SubmissionRow(
        number=number,
        id=order.submission_id,
        provider=order.provider,
        owner=order.owner,
        task_id=None,
        has_charge=None if order.cost_state is None else 1,
    )
    batch.submissions.bind(row, task_id, now)
    has_found = batch.match_early(row.provider, task_id)
    batch.schedule(row.provider, task_id, now)
    batch.write()
    return True, has_found


def _withdraw(db: Cursor, number: int, submission_id: str, now: datetime) -> None:
    """Wait for no task of an order: it has none, or one that is paid for by another order."""
    db.execute(WITHDRAW, parameters(now=now, id=submission_id))
    costs.settle(db, [(number, CostState.RELEASED, now)])


def get_order(db: Cursor, submission_id: str) -> Order | None:
    return read_one(db.execute(OF_SUBMISSION, {"id": submission_id}), Order)


def list_orders(db: Cursor, wanted: OrderFilter, limit: int, cursor: str | None) -> OrderPage:
    """A page of orders, by as few rows as their states allow; see ``ports.OrderStore.list_orders``."""
    rows, reached = find_newest(
        db, order_search(wanted), _COLUMNS, limit, high=number_below(cursor) - 1, low=0
    )
    orders = to_values(rows, Order)
    return OrderPage(orders=tuple(orders), next_cursor=cursor_at(None if reached is None else reached + 1))


def order_search(wanted: OrderFilter) -> Search:
    """The shortest way to the orders that are wanted."""
    walk = ALL if wanted.state in {None, OrderState.BOUND} else NOT_BOUND
    clauses = {
        "provider": "s.provider = :provider",
        "owner": "s.owner = :owner",
        "state": f"{_STATE} = :state",
        "since": "o.sent_at >= :since",
        "until": "o.sent_at < :until",
    }
    given = {name: value for name, value in parameters_of(wanted).items() if value is not None}
    conditions = [walk.only, *(clauses[name] for name in given)]
    source = f"FROM {walk.table} {_WITH_COSTS} WHERE {' AND '.join(conditions)}"
    return Search(walk=walk, source=source, values=given)


def lease_relays(db: Cursor, now: datetime, lease_until: datetime, limit: int) -> list[RelayWork]:
    """Take callers' URLs that are due; see ``ports.OrderStore.lease_relays``."""
    rows = fetch_all(db.execute(DUE_RELAYS, parameters(now=now, limit=limit)))
    db.executemany(LEASE_RELAY, [parameters(lease_until=lease_until, number=row["number"]) for row in rows])
    return to_values(rows, RelayWork)


def settle_relay(db: Cursor, submission_id: str, outcome: str, retry_at: datetime | None) -> None:
    """Keep how telling a caller's URL ended."""
    db.execute(SETTLE_RELAY, parameters(retry_at=retry_at, outcome=outcome, id=submission_id))


def sweep_orders(db: Cursor, now: datetime, lost_before: datetime, limit: int) -> int:
    """Give up those that nobody can still be sending, and those unknown for too long; how many."""
    values = parameters(now=now, lost_before=lost_before, limit=limit)
    most = 0
    for found, change in ((OVERDUE, TO_UNKNOWN), (LOST, TO_UNRESOLVED), (FOUND, TO_BOUND)):
        numbers = [number for (number,) in db.execute(found, values).fetchall()]
        db.executemany(change, [parameters(now=now, number=number) for number in numbers])
        if change is TO_UNRESOLVED:
            costs.settle(db, [(number, CostState.UNCERTAIN, now) for number in numbers])
        most = max(most, len(numbers))
    return most


def free_orders(db: Cursor, now: datetime, holder: str) -> None:
    """What a holder who is gone was sending may have arrived: it is unknown, and never sent again."""
    db.execute(GIVE_UP_SENDING, parameters(now=now, holder=holder, outcome="crashed"))


def get_standing(db: Cursor, provider: str, task_id: str) -> TaskStanding | None:
    """What a status document is made of; see ``ports.OrderStore.get_standing``."""
    submission = submission_of_task(db, provider, task_id)
    if submission is None:
        return None
    said = fetch_one(db.execute(LAST_WORD, {"provider": provider, "task_id": task_id}))
    return TaskStanding(
        submission=submission,
        order=get_order(db, submission.id),
        event=get_event(db, provider, task_id),
        links=list_links(db, provider, task_id),
        document=bytes(said["body"]) if said else None,
        is_end=bool(said and said["verdict"] == Verdict.ACCEPTED),
        is_answer=bool(said and said["via"] == Via.POLL),
    )
