"""What an order costs by its provider's catalog. Pure, and in whole millionths of a dollar.

An order that breaks a rule, or leaves something open, may be read in several ways: it is priced by the
dearest of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from receiver.gateway.catalog import BilledBy, Catalog, ModelEntry, PriceRow
from receiver.gateway.rules import EDGE_OF_4K, is_wide
from receiver.gateway.wishes import MOST_IMAGES, SizeForm, Wishes
from receiver.models import Basis, BrokenRule, CreditPrice, Price
from receiver.usd import MICROS

_ALL_TIERS = frozenset({0, 1, 2})
_FIRST, _SECOND, _LAST = 0, 1, 2


def price_of(
    catalog: Catalog, model: ModelEntry, wishes: Wishes, broken: Sequence[BrokenRule]
) -> Price | None:
    """The price of an order that breaks these rules; None where its model has none here."""
    if not model.rows:
        return None
    readings = [*_readings(catalog, model, wishes, broken)]
    counts = image_counts(model, wishes)
    row, basis = max(readings, key=lambda reading: reading[0].micros)
    if model.is_floor:
        basis = Basis.FLOOR
    elif len(readings) > 1 or len(counts) > 1:
        basis = Basis.UPPER
    images = max(counts)
    return Price(
        micros=row.micros * images,
        credits=None if row.credits is None else _decimal(row.credits * images),
        basis=basis,
        tier=None if row.tier is None or model.billed_by is BilledBy.ROW else catalog.tiers[row.tier],
        as_of=catalog.as_of.isoformat(),
    )


def credit_prices(catalogs: Mapping[str, Catalog]) -> dict[str, CreditPrice]:
    """What a credit costs, of the providers that have some."""
    return {
        name: CreditPrice(micros=each.credit_usd * MICROS, as_of=each.as_of.isoformat())
        for name, each in catalogs.items()
        if each.credit_usd is not None
    }


def image_counts(model: ModelEntry, wishes: Wishes) -> set[int]:
    """How many images an order may be read as one for."""
    rule = model.rules.get("n")
    most = 1 if rule is None or rule.most is None else rule.most
    if wishes.images is None:
        return {1}
    if not isinstance(wishes.images, int):
        return {1, most}
    wanted = max(1, min(wishes.images, MOST_IMAGES))
    return {wanted} if wanted <= most else {1, wanted}


def _readings(
    catalog: Catalog, model: ModelEntry, wishes: Wishes, broken: Sequence[BrokenRule]
) -> Iterator[tuple[PriceRow, Basis]]:
    """The row that each reading of an order is billed by."""
    if model.is_floor:
        yield model.rows[0], Basis.FLOOR
        return
    if model.billed_by is BilledBy.SIZE:
        tiers = _tiers_by_size(catalog, wishes, broken)
    else:
        tiers = _tiers_by_resolution(wishes, broken)
    for quality in _qualities(model, wishes):
        for tier in tiers:
            yield _row(model, wishes, quality, tier)


def _qualities(model: ModelEntry, wishes: Wishes) -> Sequence[str | None]:
    """Those that an order may mean: all that have a price, where it names none of them."""
    priced = tuple(dict.fromkeys(row.quality for row in model.rows))
    rule = model.rules.get("quality")
    wanted = wishes.quality if wishes.quality is not None or rule is None else rule.default
    return (wanted,) if wanted in priced else priced


def _row(model: ModelEntry, wishes: Wishes, quality: str | None, tier: int) -> tuple[PriceRow, Basis]:
    """The row for a quality and a tier, or else the one beside it: of a larger tier rather than a smaller."""
    rows = [row for row in model.rows if row.quality == quality]
    for row in rows:
        if row.tier in {None, tier} and row.size in {None, wishes.size}:
            return row, Basis.EXACT
    large = [row for row in rows if row.tier is None or row.tier >= tier]
    return min(large or rows, key=lambda row: (abs((row.tier or 0) - tier), -row.micros)), Basis.NEAR


def _tiers_by_resolution(wishes: Wishes, broken: Sequence[BrokenRule]) -> frozenset[int]:
    if wishes.resolution is None:
        return frozenset({_FIRST})
    if wishes.tier is None:
        return _ALL_TIERS
    if any(each.name == "4k-needs-wide" for each in broken):
        return frozenset({_SECOND, _LAST})
    return frozenset({wishes.tier})


def _tiers_by_size(catalog: Catalog, wishes: Wishes, broken: Sequence[BrokenRule]) -> frozenset[int]:
    if wishes.resolution is None:
        asked: frozenset[int] = frozenset({_FIRST})
    else:
        asked = _ALL_TIERS if wishes.tier is None else frozenset({wishes.tier})
    match wishes.size_form:
        case SizeForm.NONE:
            return frozenset({_FIRST})
        case SizeForm.PRESET:
            return asked if is_wide(catalog, wishes) else frozenset(min(tier, _SECOND) for tier in asked)
        case SizeForm.PIXELS:
            return _tiers_of_pixels(wishes, asked, broken)
        case SizeForm.LIKE_PIXELS:
            return _ALL_TIERS
        case SizeForm.OTHER:  # it may be taken for none, or for any preset
            return asked | {_FIRST}


def _tiers_of_pixels(wishes: Wishes, asked: frozenset[int], broken: Sequence[BrokenRule]) -> frozenset[int]:
    """The second tier; the last one for an edge of 3840, or what may be meant for it."""
    longest, _ = wishes.pixels or (0, 0)
    if longest < EDGE_OF_4K:
        return frozenset({_SECOND})
    is_broken = any(each.name.startswith(("custom-", "3840-")) for each in broken)
    is_plain = longest == EDGE_OF_4K and asked == {_LAST} and not is_broken
    return frozenset({_LAST}) if is_plain else frozenset({_SECOND, _LAST})


def _decimal(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
