"""What the catalogs say of an order: the rules that it breaks, and its price."""

from collections.abc import Mapping

from receiver.gateway.catalog import Catalog, ModelEntry
from receiver.gateway.prices import image_counts, price_of
from receiver.gateway.rules import broken_rules
from receiver.gateway.splice import value_at
from receiver.gateway.wishes import MOST_IMAGES, read_wishes
from receiver.models import BrokenRule, GatewayCheck, Place, Quote, RuleClass

MOST_KEPT_CHARACTERS = 40  # no word of a provider's is longer

_REFUSED: Mapping[GatewayCheck, frozenset[RuleClass]] = {
    GatewayCheck.OFF: frozenset(),
    GatewayCheck.WARN: frozenset(),
    GatewayCheck.REFUSE: frozenset({RuleClass.HARD}),
    GatewayCheck.STRICT: frozenset({RuleClass.HARD, RuleClass.SOFT}),
}


class Quotes:
    """Quotes orders by the catalogs of their providers."""

    def __init__(self, catalogs: Mapping[str, Catalog], check: GatewayCheck) -> None:
        self._catalogs = catalogs
        self._check = check

    def quote(self, provider: str, model: str, values: Mapping[str, object]) -> Quote | None:
        """What is known of an order; None where the catalogs do not know its model."""
        catalog = self._catalogs.get(provider)
        entry = catalog.models.get(model) if catalog is not None else None
        if catalog is None or entry is None:
            return None
        quote = quote_order(catalog, entry, values)
        if self._check is GatewayCheck.OFF:
            return Quote(price=quote.price, images=quote.images)
        return quote

    def of_unknown(self, provider: str, values: Mapping[str, object]) -> Quote:
        """What is known of an order from a model that no catalog has: how many images it asks for."""
        catalog = self._catalogs.get(provider)
        place = catalog.fields.images if catalog is not None else None
        wanted = value_at(values, place) if place else None
        if not isinstance(wanted, int) or isinstance(wanted, bool):
            return Quote(price=None)
        return Quote(price=None, images=max(1, min(wanted, MOST_IMAGES)))

    def priced_fields(self, provider: str, values: Mapping[str, object]) -> dict[str, object] | None:
        """Of an order, only what its price goes by, where it stands; None where there is nothing of it."""
        catalog = self._catalogs.get(provider)
        if catalog is None:
            return None
        fields = catalog.fields
        kept: dict[str, object] = {}
        for place in (fields.size, fields.resolution, fields.quality, fields.images, fields.mode):
            value = value_at(values, place) if place else None
            if isinstance(value, int) or (isinstance(value, str) and len(value) <= MOST_KEPT_CHARACTERS):
                _put(kept, place or (), value)
        return kept or None

    def refused(self, quote: Quote) -> list[BrokenRule]:
        """Of the rules that an order breaks, those for which it is not sent."""
        return [each for each in quote.broken if each.rule_class in _REFUSED[self._check]]


def _put(document: dict[str, object], place: Place, value: object) -> None:
    *outer, last = place
    for name in outer:
        inner = document.setdefault(name, {})
        if not isinstance(inner, dict):  # a catalog has one field in another
            return
        document = inner
    document[last] = value


def quote_order(catalog: Catalog, model: ModelEntry, values: Mapping[str, object]) -> Quote:
    """The rules that a decoded order breaks, and what it costs."""
    wishes = read_wishes(catalog, model, values)
    broken = broken_rules(catalog, model, wishes)
    return Quote(
        price=price_of(catalog, model, wishes, broken),
        images=max(image_counts(model, wishes)),
        broken=tuple(broken),
    )
