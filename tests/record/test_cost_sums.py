"""Sums of costs that are read off what is kept of them come to what adding up every row does."""

import itertools
import random
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import psycopg
import pytest

from receiver.models import CostBy, CostFilter, CostState, CostSum, NewOrder, OrderEnd, OrderState
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.record import stats
from receiver.stores.postgres.schema import MIGRATIONS
from receiver.stores.sqlite.migrations import migrate
from receiver.testing import TurnableClock
from tests.record.test_costs import UNPRICED, order, quote
from tests.support.engines import ENGINES, Place, place_on
from tests.support.factories import NOW
from tests.support.postgres import scratch_database
from tests.support.recount import ADDED_UP, COST_TOTALS, check_costs

OPTIONS = StoreOptions(data_dir=Path(), clock=TurnableClock())
MOST = 10_000
ORDER = (CostBy.DAY, CostBy.OWNER, CostBy.PROVIDER, CostBy.MODEL, CostBy.TOKEN)
COUNTED = ("orders", "images", "unpriced", *(state.value for state in CostState))
SUBSETS = [some for size in range(6) for some in itertools.combinations(CostBy, size)]

ROWS = """
INSERT INTO cost_sums (day, owner, provider, model, token, orders, images, unpriced, held, charged, released,
    uncertain, as_of)
VALUES ('2026-10-31', 'ann', 'vidgo', 'a', '', 2, 2, 0, 5, 6, 0, 1, '2026-09-01'),
    ('2026-11-01', 'ann', 'vidgo', 'a', '', 1, 4, 1, 0, 0, 0, 0, NULL),
    ('2026-11-01', 'bob', 'vidgo', 'a', 'ci', 1, 1, 0, 7, 0, 0, 0, '2026-08-01')
"""


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    place: Place = place_on(request.param, request)
    store = await place.open(OPTIONS)
    yield store
    await store.aclose()
    with closing(place.connect()) as db:
        check_costs(db)


async def spend(store: Store) -> None:
    """Orders of a quarter, some of them ended."""
    dice = random.Random(15)
    for number in range(120):
        new = order(
            number,
            dice.choice([quote(dice.randrange(1, 100), images=dice.randrange(1, 4)), UNPRICED]),
            owner=dice.choice(["ann", "bob", "cid"]),
            provider=dice.choice(["vidgo", "reapi"]),
            token=dice.choice([None, "ci"]),
            at=NOW - timedelta(days=dice.choice([0, 1, 19, 20, 21, 40, 51, 52, 80])),
        )
        await store.reserve_order(new)
        if dice.random() < 0.4:
            await store.settle_order(f"sub_{number}", OrderEnd(state=OrderState.REFUSED), NOW)


def added_up(rows: list[CostSum], wanted: CostFilter, by: tuple[CostBy, ...]) -> list[tuple[object, ...]]:
    """The same as the record is asked for, row by row."""
    sums: defaultdict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * len(COUNTED))
    oldest: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    if not by:
        assert sums[()]  # one of all, though there be none
    for row in rows:
        day = row.day or ""
        is_wanted = all(
            getattr(wanted, name) in {None, getattr(row, name)}
            for name in ("owner", "provider", "model", "token")
        )
        if is_wanted and (wanted.since or "") <= day < (wanted.until or "~"):
            key = tuple(getattr(row, name) for name in ORDER if name in by)
            sums[key] = [before + getattr(row, name) for before, name in zip(sums[key], COUNTED, strict=True)]
            oldest[key] += [row.as_of] if row.as_of else []
    return [(*key, *sums[key], min(oldest[key], default=None)) for key in sorted(sums)]


async def test_every_sum_is_what_its_rows_come_to(store: Store) -> None:
    await spend(store)
    rows = await store.sum_costs(CostFilter(), ORDER, MOST)
    assert len(rows) > 60
    days: tuple[dict[str, str], ...] = (
        {},
        {"since": "2026-11-01"},
        {"since": "2026-10-02", "until": "2026-11-21"},
        {"since": "2026-11-02", "until": "2026-11-20"},
        {"until": "2026-10-13"},
        {"since": "2026-02-31", "until": "2026-12-01"},  # a form of a day, and none
        {"since": "9999-12-02"},
    )
    others: tuple[dict[str, str], ...] = (
        {},
        {"owner": "ann"},
        {"token": "ci"},
        {"provider": "reapi"},
        {"model": "x"},
    )
    for of_days, of_others, by in itertools.product(days, others, SUBSETS):
        wanted = CostFilter(**of_days, **of_others)
        found = await store.sum_costs(wanted, by, MOST)
        names = [name.value for name in ORDER if name in by]
        shown = [tuple(getattr(each, name) for name in (*names, *COUNTED, "as_of")) for each in found]
        assert shown == added_up(rows, wanted, by), (wanted, by)
        for most in (1, 7):
            assert not by or await store.sum_costs(wanted, by, most) == found[:most], (wanted, by)


async def test_models_beyond_those_that_most_was_ordered_of_have_one_name_in_the_metrics(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "MOST_MODELS", 1)
    for number, model in enumerate(("usual", "usual", "rare", "rarer")):
        new = order(number, quote(10**number))
        await store.reserve_order(_of_model(new, model))
    await store.reserve_order(_of_model(order(9, UNPRICED), "free"))
    counted = await store.count_stats()
    assert [(each.model, each.held) for each in counted.costs] == [("other", 1100), ("usual", 11)]


def test_totals_of_a_sqlite_record_from_before_them_are_made(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    migrate(path)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "DROP TRIGGER cost_sums_added; DROP TRIGGER cost_sums_moved; DROP TABLE cost_totals;"
            "DELETE FROM _sqlite_migrations WHERE name = 'm033_cost_totals'"
        )
        db.execute(ROWS)
        db.commit()
    assert migrate(path) == ["m033_cost_totals"]
    with closing(sqlite3.connect(path)) as db:
        assert _kept(db) == sorted(db.execute(ADDED_UP).fetchall(), key=str)
        assert len(_kept(db)) == 10


@pytest.fixture
def database() -> Iterator[psycopg.Connection]:
    with scratch_database() as url, psycopg.connect(url, autocommit=True) as db:
        yield db


def test_totals_of_a_postgresql_record_from_before_them_are_made(database: psycopg.Connection) -> None:
    for name, script, _ in MIGRATIONS:
        if name == "0.4.0 cost totals":
            database.execute(ROWS.encode())
        database.execute(script.encode())
    assert _kept(database) == sorted(database.execute(ADDED_UP.encode()).fetchall(), key=str)
    assert len(_kept(database)) == 10


def _kept(db: sqlite3.Connection | psycopg.Connection) -> list[tuple[object, ...]]:
    return sorted(db.execute(COST_TOTALS).fetchall(), key=str)


def _of_model(new: NewOrder, model: str) -> NewOrder:
    return msgspec.structs.replace(new, submission=msgspec.structs.replace(new.submission, model=model))
