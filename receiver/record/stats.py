"""How much there is of everything, how old the oldest is, and when the next falls due."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from receiver.models import NOT_SET, OutboxState, Stats
from receiver.record.cost_sums import sum_spent
from receiver.record.cursor import Cursor, snapshot
from receiver.record.rows import parameters
from receiver.times import from_text, from_text_if_any

# When the next one falls due; a leased one does so when its lease runs out.
NEXT_DUE: Mapping[str, str] = {
    "outbox": "SELECT min(due_at) FROM outbox WHERE state = 'pending' AND sink = :name",
    "polls": "SELECT min(due_at) FROM polls WHERE provider = :name",
    "held": "SELECT min(due_at) FROM polls WHERE provider = :name AND held = 1",
    "replays": """
        SELECT min(due_at) FROM replays
        WHERE due_at IS NOT NULL AND state IN ('running', 'cancelled', 'done')
    """,
}

MOST_MODELS = 200  # whose costs are told apart: each is four series of the metrics
UNBOUND_AGES = ("under_1h", "under_24h", "older")

# What only grows, by triggers of the schema.
KEPT_COUNTS = "SELECT kind, name, state, number FROM counts WHERE number <> 0"

# What they leave out: deliveries that were not followed yet, and what waits.
COUNT_NEW_DELIVERIES = """
SELECT verdict, count(*) FROM deliveries WHERE number > (SELECT polls_to FROM retention) GROUP BY verdict
"""
COUNT_UNENDED = (
    "SELECT count(*) - count(e.number), count(e.number) FROM unended LEFT JOIN events e USING (number)"
)
COUNT_UNFETCHED = "SELECT count(*) FROM assets WHERE state = 'pending'"
COUNT_UNDELIVERED = "SELECT sink, count(*), min(created_at) FROM outbox WHERE state = 'pending' GROUP BY sink"

COUNT_POLLS = """
SELECT provider, coalesce(outcome, 'never') AS last, count(*) FROM polls
WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.number = polls.number) GROUP BY provider, last
"""
OLDEST_UNDOWNLOADED = """
SELECT min(e.received_at) FROM events e WHERE e.number IN (SELECT event FROM assets WHERE state = 'pending')
"""

# Reservations without a task, by the hour and the day before now.
COUNT_UNBOUND = """
SELECT CASE WHEN created_at > :hour_ago THEN 'under_1h' WHEN created_at > :day_ago THEN 'under_24h'
    ELSE 'older' END AS age, count(*)
FROM submissions WHERE task_id IS NULL AND withdrawn_at IS NULL GROUP BY age
"""

# Orders through the gateway of which nobody knows whether their providers took them.
COUNT_UNKNOWN_ORDERS = """
SELECT CASE WHEN o.sent_at > :hour_ago THEN 'under_1h' WHEN o.sent_at > :day_ago THEN 'under_24h'
    ELSE 'older' END AS age, count(*)
FROM orders o JOIN submissions s USING (number)
WHERE o.state IN ('unknown', 'unresolved') AND o.state <> 'bound' AND s.task_id IS NULL GROUP BY age
"""

NEXT_DEADLINE = "SELECT min(deadline_at || '') FROM assets WHERE state = 'pending'"


def next_due_at(db: Cursor, kind: str, name: str) -> datetime | None:
    """When the next work of a kind, other than files, falls due; see ``ports.Store.next_due_at``."""
    (moment,) = db.execute(NEXT_DUE[kind], {"name": name}).fetchone()
    return from_text_if_any(moment)


def count_stats(db: Cursor, now: datetime, sinks: Collection[str]) -> Stats:
    """How much there is of everything, and how old the oldest is; only what waits is counted now.

    What waits for others than the ``sinks`` is counted apart, where any are named, and grows no older.
    """
    with snapshot(db):  # what is kept and what is counted now must be of one moment
        kept: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        for kind, name, state, number in db.execute(KEPT_COUNTS):
            kept[kind][name, state] = number
        deliveries = _by_state(kept["deliveries"])
        deliveries.update(dict(db.execute(COUNT_NEW_DELIVERIES).fetchall()))
        submitted, fetching = db.execute(COUNT_UNENDED).fetchone()
        ended = {name.removeprefix("task."): number for name, number in _by_state(kept["tasks"]).items()}
        (unfetched,) = db.execute(COUNT_UNFETCHED).fetchone()
        undelivered = db.execute(COUNT_UNDELIVERED).fetchall()
        waiting = {sink: number for sink, number, _ in undelivered}
        unset = waiting.keys() - sinks if sinks else frozenset[str]()
        outbox = kept["outbox"] + Counter(
            {
                (sink, NOT_SET if sink in unset else OutboxState.PENDING.value): n
                for sink, n in waiting.items()
            }
        )
        oldest = {sink: from_text(moment) for sink, _, moment in undelivered if sink not in unset}
        marks = parameters(hour_ago=now - timedelta(hours=1), day_ago=now - timedelta(days=1))
        return Stats(
            submissions=kept["submissions"]["", ""],
            tasks=_without_none({"submitted": submitted, "fetching": fetching, **ended}),
            deliveries=deliveries,
            assets=_without_none({"pending": unfetched, **_by_state(kept["assets"])}),
            linked=kept["linked"]["", ""],
            outbox=_by_name(outbox),
            unbound=(dict.fromkeys(UNBOUND_AGES, 0) | dict(db.execute(COUNT_UNBOUND, marks).fetchall())),
            unknown_orders=dict(db.execute(COUNT_UNKNOWN_ORDERS, marks).fetchall()),
            polls=_by_name({(provider, last): number for provider, last, number in db.execute(COUNT_POLLS)}),
            oldest_undelivered_at=min(oldest.values(), default=None),
            oldest_waiting_at=oldest,
            oldest_undownloaded_at=_only_moment(db, OLDEST_UNDOWNLOADED),
            next_deadline_at=_only_moment(db, NEXT_DEADLINE),
            costs=sum_spent(db, MOST_MODELS),
        )


def _by_state(counts: Mapping[tuple[str, str], int]) -> Counter[str]:
    return Counter({state: number for (_, state), number in counts.items()})


def _by_name(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    names: dict[str, dict[str, int]] = {}
    for (name, state), number in counts.items():
        names.setdefault(name, {})[state] = number
    return names


def _without_none(counts: Mapping[str, int]) -> dict[str, int]:
    """Only the states that there are any of."""
    return {state: number for state, number in counts.items() if number}


def _only_moment(db: Cursor, query: str) -> datetime | None:
    (moment,) = db.execute(query).fetchone()
    return from_text_if_any(moment)
