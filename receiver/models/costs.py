"""What an order costs: as the catalog prices it before it leaves, and where its money stands afterwards."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

import msgspec


class RuleClass(StrEnum):
    """How sure it is that a provider refuses what breaks a rule."""

    HARD = "H"  # its own page says so
    SOFT = "S"  # it is taken, and drawn or billed otherwise than it reads
    DOUBT = "D"  # pages differ, or say nothing


class Basis(StrEnum):
    """What a price rests on."""

    EXACT = "exact"  # a row of the catalog
    UPPER = "upper"  # the dearest reading of an order that breaks a rule or leaves something open
    NEAR = "near"  # a row beside it, as the catalog has none of its own
    FLOOR = "floor"  # the provider's "from": it may be more
    REPORTED = "reported"  # the provider named its own charge
    ASSUMED = "assumed"  # there is no price: what a budget counts such an order as


class CostState(StrEnum):
    """Where the money of one order stands. The end of its task has the last word, whatever came before."""

    HELD = "held"
    CHARGED = "charged"  # the provider delivered
    RELEASED = "released"  # it refused or failed, or the order never left
    UNCERTAIN = "uncertain"  # nobody can know


class BrokenRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that an order breaks: never with a value of the order."""

    name: str
    rule_class: RuleClass
    message: str  # the field and its limit


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What one order is expected to cost, in millionths of a US dollar."""

    micros: int
    credits: str | None  # decimal, of the provider's own; None where it has none
    basis: Basis
    tier: str | None  # the resolution that it is billed by
    as_of: str  # the day of the catalog's row, as YYYY-MM-DD


class CreditPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What one of a provider's credits costs, in millionths of a US dollar, by its catalog of a day."""

    micros: Decimal
    as_of: str  # YYYY-MM-DD

    def charge(self, taken: str) -> Price:
        """The price of an order for which the provider says that it took so many, as a decimal number."""
        micros = (Decimal(taken) * self.micros).to_integral_value(ROUND_HALF_UP)
        return Price(micros=int(micros), credits=taken, basis=Basis.REPORTED, tier=None, as_of=self.as_of)


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalog says of one order."""

    price: Price | None  # None: its model has no price here
    images: int = 1  # how many it asks for
    broken: Sequence[BrokenRule] = ()
