"""Rules and prices beside the simulator's own, which share nothing with them but the pages they are from."""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import pytest

from receiver.gateway.catalog import load_catalogs
from receiver.gateway.quotes import quote_order
from receiver.models import Basis, Quote, RuleClass
from receiver.simulator import gpt_image
from receiver.simulator.model import Refusal

CATALOGS = load_catalogs(None)
SIZES = (
    None, "auto", "1:1", "16:9", "21:9", "2:1", "3840x2160", "3840x1264", "3856x2144", "2304x1536",
    "2304x1537", "2880x2880", "1024x624", "5000x16", "1024X1024", "7",
)  # fmt: skip
RESOLUTIONS = (None, "1K", "2K", "4K", "4k", "8K")
QUALITIES = (None, "low", "high", "auto", "best")
COUNTS = (None, 1, 3)

Bill = Callable[[Mapping[str, object]], float]
SELLERS: Mapping[tuple[str, str], Bill] = {
    ("vidgo", "gpt-image-2"): gpt_image.price_at_vidgo,
    ("apidot", "gpt-image-2"): gpt_image.price_at_apidot,
    ("apixo", "gpt-image-2"): gpt_image.price_at_apixo,
    ("reapi", "gpt-image-2"): lambda wanted: gpt_image.price_at_reapi(wanted, is_official=False),
    ("reapi", "gpt-image-2-official"): lambda wanted: gpt_image.price_at_reapi(wanted, is_official=True),
}


def orders(provider: str) -> Iterator[dict[str, Any]]:
    names = ("aspect_ratio" if provider == "apixo" else "size", "resolution", "quality", "n")
    for values in product(SIZES, RESOLUTIONS, QUALITIES, COUNTS):
        chosen = zip(names, values, strict=True)
        yield {"prompt": "a lighthouse", **{name: value for name, value in chosen if value is not None}}


def quoted(provider: str, model: str, wanted: Mapping[str, object]) -> Quote:
    catalog = CATALOGS[provider]
    values = wanted if provider == "reapi" else {"input": wanted}
    return quote_order(catalog, catalog.models[model], values)


@pytest.mark.parametrize("of", SELLERS, ids="/".join)
def test_what_breaks_no_hard_rule_is_billed_as_we_price_it(of: tuple[str, str]) -> None:
    provider, model = of
    compared = 0
    for wanted in orders(provider):
        quote = quoted(provider, model, wanted)
        if any(each.rule_class is RuleClass.HARD for each in quote.broken):
            continue
        try:
            billed = SELLERS[of](wanted) * gpt_image.MICROS_PER_UNIT[provider]
        except Refusal:
            assert quote.broken, wanted  # it is named at least
            continue
        assert quote.price is not None
        if quote.price.basis in {Basis.EXACT, Basis.FLOOR}:
            assert quote.price.micros == round(billed), wanted
        else:  # no page says what it costs
            assert quote.price.micros >= round(billed), wanted
        compared += 1
    assert compared > 50
