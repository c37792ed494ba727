"""Charges: what an order costs is held when it is reserved, and settled by its end; sums of it are kept.

A sum is of one day, owner, provider, model and token: the day, in UTC, is the one of the reservation,
whenever the order ends.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from receiver.models import (
    Basis,
    Cost,
    CostState,
    NewOrder,
    Price,
    Quote,
)
from receiver.record import budgets
from receiver.record.budgets import Allowed, Ordered
from receiver.record.cursor import Cursor
from receiver.record.rows import ByKeys, Row, fetch_all, parameters, read_all, to_value

NO_QUOTE = Quote(price=None)  # nobody looked for a price

INSERT = """
INSERT INTO charges (number, provider, owner, model, token, images, micros, credits, basis, as_of, state,
    held_at)
VALUES (:number, :provider, :owner, :model, :token, :images, :micros, :credits, :basis, :as_of, 'held',
    :held_at)
"""
ADD_TO_SUMS = """
INSERT INTO cost_sums (day, owner, provider, model, token, orders, images, unpriced, held, charged, released,
    uncertain, as_of)
VALUES (:day, :owner, :provider, :model, :token, 1, :images, :unpriced, :micros, 0, 0, 0, :as_of)
ON CONFLICT (day, owner, provider, model, token) DO UPDATE SET
    orders = cost_sums.orders + 1, images = cost_sums.images + excluded.images,
    unpriced = cost_sums.unpriced + excluded.unpriced, held = cost_sums.held + excluded.held,
    as_of = CASE WHEN excluded.as_of IS NULL OR cost_sums.as_of < excluded.as_of
        THEN cost_sums.as_of ELSE excluded.as_of END
"""

CHARGES = ByKeys(
    "SELECT c.number, c.provider, c.owner, c.model, c.token, c.micros, c.as_of, c.state, c.held_at",
    "charges c",
    ["c.number"],
)
SETTLE = "UPDATE charges SET state = :state, settled_at = :now WHERE number = :number"
MOVE_SUMS = """
UPDATE cost_sums SET held = held + :held, charged = charged + :charged, released = released + :released,
    uncertain = uncertain + :uncertain
WHERE day = :day AND owner = :owner AND provider = :provider AND model = :model AND token = :token
"""

# What its provider says that an order cost, in place of what it was expected to.
CORRECT = """
UPDATE charges SET micros = :micros, credits = :credits, basis = :basis, as_of = coalesce(as_of, :as_of)
WHERE number = :number
"""
PRICE_SUMS = """
UPDATE cost_sums SET unpriced = unpriced - 1,
    as_of = CASE WHEN as_of < :as_of THEN as_of ELSE :as_of END
WHERE day = :day AND owner = :owner AND provider = :provider AND model = :model AND token = :token
"""

COSTS = ByKeys("SELECT c.number, c.micros, c.credits, c.state, c.basis, c.as_of", "charges c", ["c.number"])
COST_OF_SUBMISSION = """
SELECT micros, credits, state, basis, as_of FROM charges
WHERE number = (SELECT number FROM submissions WHERE id = :id)
"""

_NOTHING = dict.fromkeys((state.value for state in CostState), 0)
_COUNTING = frozenset({CostState.HELD, CostState.CHARGED, CostState.UNCERTAIN})


class _Charge(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    provider: str
    owner: str
    model: str
    token: str
    micros: int | None
    as_of: str | None  # None: nobody knew a price
    state: CostState
    held_at: datetime

    @property
    def ordered(self) -> Ordered:
        return Ordered(
            owner=self.owner, token=self.token or None, provider=self.provider, held_at=self.held_at
        )

    @property
    def sums(self) -> Row:
        """The key of the sums that it is part of."""
        return {
            "day": self.held_at.date().isoformat(),
            "owner": self.owner,
            "provider": self.provider,
            "model": self.model,
            "token": self.token,
        }


def allow(db: Cursor, new: NewOrder) -> Allowed:
    """Check an order against its budgets, before anything is written. Raises OverBudget."""
    submission = new.submission
    ordered = Ordered(
        owner=submission.owner,
        token=new.token,
        provider=submission.provider,
        held_at=submission.created_at,
    )
    return budgets.allow(db, ordered, new.quote or NO_QUOTE)


def hold(db: Cursor, number: int, new: NewOrder, allowed: Allowed) -> Cost:
    """Hold what an order may cost, in its own transaction."""
    submission, quote, micros = new.submission, new.quote or NO_QUOTE, allowed.micros
    price = quote.price
    basis = price.basis if price is not None else None if micros is None else Basis.ASSUMED
    cost = Cost(
        micros=micros,
        credits=price.credits if price else None,
        state=CostState.HELD,
        basis=basis,
        as_of=price.as_of if price else None,
    )
    values = parameters(
        number=number,
        provider=submission.provider,
        owner=submission.owner,
        model=submission.model or "",
        token=new.token or "",
        images=quote.images,
        micros=micros,
        credits=cost.credits,
        basis=basis,
        as_of=cost.as_of,
        held_at=submission.created_at,
    )
    db.execute(INSERT, values)
    sums = {"day": submission.created_at.date().isoformat(), "unpriced": int(price is None)}
    names = ("owner", "provider", "model", "token", "images", "as_of")
    db.execute(ADD_TO_SUMS, {**sums, "micros": micros or 0, **{name: values[name] for name in names}})
    if micros and allowed.budgets:
        budgets.count(db, allowed.budgets, micros, submission.created_at)
    return cost


def settle(db: Cursor, ended: Sequence[tuple[int, CostState, datetime]]) -> None:
    """Say where the money of these orders stands from then on; of what has no charge nothing is said."""
    if not ended:
        return
    found = read_all(db.execute(*CHARGES.of([(number,) for number, _, _ in ended])), _Charge)
    charges = {charge.number: charge for charge in found}  # the last may be found twice: see ByKeys
    changes = [
        (charge, state, at)
        for number, state, at in ended
        if (charge := charges.get(number)) is not None and charge.state is not state
    ]
    db.executemany(SETTLE, [parameters(state=state, now=at, number=row.number) for row, state, at in changes])
    priced = [(charge, charge.micros, state) for charge, state, _ in changes if charge.micros]
    db.executemany(MOVE_SUMS, [charge.sums | _moved(charge.state, to, sum_) for charge, sum_, to in priced])
    for charge, micros, state in priced:
        if (counts := state in _COUNTING) is not (charge.state in _COUNTING):
            budgets.change(db, charge.ordered, micros if counts else -micros)


def correct(db: Cursor, said: Sequence[tuple[int, Price, datetime]]) -> None:
    """Let orders cost what their providers say that they took, wherever their money stands."""
    found = read_all(db.execute(*CHARGES.of([(number,) for number, *_ in said])), _Charge)
    charges = {charge.number: charge for charge in found}
    for number, price, now in said:
        if (charge := charges.get(number)) is None:
            continue
        more = price.micros - (charge.micros or 0)
        changes = parameters(
            micros=price.micros, credits=price.credits, basis=price.basis, as_of=price.as_of, number=number
        )
        db.execute(CORRECT, changes)
        db.execute(MOVE_SUMS, charge.sums | _NOTHING | {charge.state.value: more})
        if charge.as_of is None:
            db.execute(PRICE_SUMS, charge.sums | {"as_of": price.as_of})
        if more and charge.state in _COUNTING:
            budgets.correct(db, charge.ordered, more, now)


def _moved(before: CostState, after: CostState, micros: int) -> Row:
    change = {**_NOTHING}
    change[before.value] -= micros
    change[after.value] += micros
    return change


def costs_of(db: Cursor, numbers: Sequence[int]) -> Mapping[int, Cost]:
    """What the orders of these submissions cost, of which there is at least one."""
    rows = fetch_all(db.execute(*COSTS.of([(number,) for number in numbers])))
    return {row["number"]: to_value(row, Cost) for row in rows}


def cost_of(db: Cursor, submission_id: str) -> Cost | None:
    """What the order of a submission costs; None where it went through no gateway, or before prices."""
    rows = read_all(db.execute(COST_OF_SUBMISSION, {"id": submission_id}), Cost)
    return rows[0] if rows else None
