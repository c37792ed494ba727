"""What a provider's catalog holds: where its fields are, which rules hold for a model, and its prices."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum

import msgspec

from receiver.models import Place, RuleClass


class BilledBy(StrEnum):
    """What an order's price goes by, besides its quality."""

    SIZE = "size"  # no size is the first tier, one's own pixels the second; only what is wide has the last
    RESOLUTION = "resolution"  # the resolution as asked
    ROW = "row"  # size and resolution as a row has them


class Refunds(StrEnum):
    """Whether a provider's pages say what a failed task costs."""

    STATED = "stated"  # nothing
    ASSUMED = "assumed"  # they do not say: nothing, as it is taken


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order has what rules and prices look at; None where it has no such field."""

    prompt: Place
    size: Place | None = None
    resolution: Place | None = None
    quality: Place | None = None
    references: Place | None = None
    images: Place | None = None  # how many are wanted
    mode: Place | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a model's: its name says what is looked at, the rest is its limits."""

    name: str
    rule_class: RuleClass
    one_of: tuple[str, ...] = ()
    default: str | None = None  # what an order without the field means
    least: int | None = None
    most: int | None = None
    mode: str | None = None  # it holds in this one only


class PriceRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one image costs; what is None is all the same to it."""

    quality: str | None = None
    size: str | None = None
    tier: int | None = None  # its place among the catalog's tiers
    micros: int
    credits: Decimal | None  # None: the provider's prices are in dollars


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model: its rules in their order, and its rows of prices."""

    name: str
    rules: Mapping[str, Rule]
    billed_by: BilledBy
    rows: tuple[PriceRow, ...] = ()  # none: it is checked, and has no price here
    is_floor: bool = False  # its one row is the provider's "from"


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's models as its pages had them on a day."""

    provider: str
    as_of: date
    source: tuple[str, ...]
    tiers: tuple[str, str, str]
    wide: tuple[str, ...]  # the sizes that the last tier is drawn in
    refunds: Refunds
    fields: Fields
    models: Mapping[str, ModelEntry]
    credit_usd: Decimal | None = None  # what one of its credits costs; None: its prices are in dollars
    file: str  # where it stands; empty where it is this release's own
