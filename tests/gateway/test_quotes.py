"""Rules and prices: every order whose price is known, and whatever a field may hold instead."""

import json
import time
from typing import Any

import pytest

from receiver.gateway.catalog import load_catalogs
from receiver.gateway.quotes import Quotes, quote_order
from receiver.gateway.splice import read_document
from receiver.models import Basis, GatewayCheck, Quote, RuleClass

CATALOGS = load_catalogs(None)
REFERENCE = ["https://media.example/a.png"]
OFFICIAL = "gpt-image-2-official"


def quoted(provider: str = "vidgo", model: str = "gpt-image-2", /, **fields: Any) -> Quote:
    """What the catalog says of an order with these fields, and a prompt where they have none."""
    wishes = {"prompt": "a lighthouse", **fields}
    body = {"model": model, **wishes} if provider == "reapi" else {"model": model, "input": wishes}
    document = read_document(json.dumps(body).encode())
    return quote_order(CATALOGS[provider], CATALOGS[provider].models[model], document.values)


def rules_of(quote: Quote) -> list[str]:
    return [f"{each.name} {each.rule_class.value}" for each in quote.broken]


# --- the worked orders --------------------------------------------------------------------------------

VIDGO, EDIT = ("vidgo", "gpt-image-2"), ("vidgo", "gpt-image-2-edit")
APIDOT, APIDOT_EDIT = ("apidot", "gpt-image-2"), ("apidot", "gpt-image-2-edit")
REAPI, REAPI_OFFICIAL = ("reapi", "gpt-image-2"), ("reapi", OFFICIAL)
EXACT, UPPER = "exact", "upper"

# what is ordered; tier, credits, millionths of a dollar, basis; the rules that it breaks
ORDERS: list[tuple[tuple[str, str], dict[str, Any], tuple[str | None, str | None, int, str], list[str]]] = [
    (VIDGO, {}, ("1K", "2", 10_000, EXACT), []),
    (
        VIDGO,
        {"quality": "high", "size": "auto", "resolution": "4K"},
        ("1K", "12", 60_000, EXACT),
        ["auto-is-1k S"],
    ),
    (VIDGO, {"quality": "high", "resolution": "2K"}, ("1K", "12", 60_000, EXACT), ["auto-is-1k S"]),
    (VIDGO, {"size": "1:1", "resolution": "4K"}, ("2K", "4", 20_000, EXACT), ["not-true-4k S"]),
    (VIDGO, {"size": "16:9", "resolution": "4K"}, ("4K", "8", 40_000, EXACT), []),
    (VIDGO, {"quality": "high", "size": "21:9", "resolution": "4K"}, ("4K", "48", 240_000, EXACT), []),
    (VIDGO, {"quality": "medium", "size": "4:5", "resolution": "2K"}, ("2K", "6", 30_000, EXACT), []),
    (VIDGO, {"quality": "medium", "size": "3840x1280", "resolution": "4K"}, ("4K", "12", 60_000, EXACT), []),
    (
        VIDGO,
        {"quality": "medium", "size": "3840x1280", "resolution": "2K"},
        ("4K", "12", 60_000, UPPER),
        ["3840-needs-4k H"],
    ),
    (VIDGO, {"size": "3840x1264", "resolution": "4K"}, ("4K", "8", 40_000, UPPER), ["custom-ratio H"]),
    (VIDGO, {"quality": "high", "size": "3840x2160", "resolution": "4K"}, ("4K", "48", 240_000, EXACT), []),
    (VIDGO, {"quality": "high", "size": "2160x3840", "resolution": "4K"}, ("4K", "48", 240_000, EXACT), []),
    (
        VIDGO,
        {"quality": "high", "size": "2880x2880", "resolution": "4K"},
        ("2K", "24", 120_000, EXACT),
        ["not-true-4k S"],
    ),
    (VIDGO, {"size": "1024x640", "resolution": "2K"}, ("2K", "4", 20_000, EXACT), []),
    (VIDGO, {"size": "1024x624", "resolution": "2K"}, ("2K", "4", 20_000, EXACT), ["custom-pixels H"]),
    (VIDGO, {"size": "2304x1536", "resolution": "1K"}, ("2K", "4", 20_000, EXACT), ["custom-needs-2k H"]),
    (VIDGO, {"size": "2304x1536"}, ("2K", "4", 20_000, EXACT), ["custom-needs-2k H"]),
    (VIDGO, {"size": "2304x1537", "resolution": "2K"}, ("2K", "4", 20_000, EXACT), ["custom-16 H"]),
    (VIDGO, {"size": "3856x2144", "resolution": "4K"}, ("4K", "8", 40_000, UPPER), ["custom-edge H"]),
    (
        EDIT,
        {"quality": "medium", "size": "1:1", "resolution": "1K", "image_urls": REFERENCE},
        ("1K", "3", 15_000, EXACT),
        [],
    ),
    (VIDGO, {"size": "1:1", "n": 1}, ("1K", "2", 10_000, EXACT), ["n H"]),
    (VIDGO, {"size": "9:16", "resolution": "4k"}, ("4K", "8", 40_000, EXACT), ["resolution D"]),
    (APIDOT, {"size": "1:1", "resolution": "1K"}, ("1K", "1", 5_000, EXACT), []),
    (
        APIDOT_EDIT,
        {"quality": "high", "size": "2304x2048", "resolution": "2K", "image_urls": REFERENCE},
        ("2K", "24", 120_000, EXACT),
        [],
    ),
    (APIDOT, {"size": "3:2", "resolution": "4K"}, ("2K", "2", 10_000, EXACT), ["not-true-4k S"]),
    (REAPI, {"size": "21:9", "resolution": "4k"}, ("4k", "20", 20_000, EXACT), []),
    (REAPI, {"size": "1:1", "resolution": "4k"}, ("4k", "20", 20_000, UPPER), ["4k-needs-wide H"]),
    (
        REAPI_OFFICIAL,
        {"quality": "low", "size": "1:1", "resolution": "1k", "n": 4},
        (None, "24", 24_000, EXACT),
        [],
    ),
    (
        REAPI_OFFICIAL,
        {"quality": "high", "size": "16:9", "resolution": "4k"},
        (None, "1467", 1_467_000, EXACT),
        [],
    ),
    (REAPI_OFFICIAL, {}, (None, "186", 186_000, UPPER), []),
    (
        ("apixo", "gpt-image-2"),
        {"aspect_ratio": "16:9", "resolution": "2k"},
        (None, None, 20_000, "floor"),
        [],
    ),
    (VIDGO, {"quality": "high", "size": "2304x1536", "resolution": "2K"}, ("2K", "24", 120_000, EXACT), []),
]


@pytest.mark.parametrize(("of", "fields", "price", "rules"), ORDERS)
def test_trap_9_an_order_has_its_price_and_the_rules_that_it_breaks(
    of: tuple[str, str],
    fields: dict[str, Any],
    price: tuple[str | None, str | None, int, str],
    rules: list[str],
) -> None:
    quote = quoted(*of, **fields)
    assert rules_of(quote) == rules
    assert quote.price is not None
    found = quote.price
    assert (found.tier, found.credits, found.micros, found.basis.value) == price
    assert found.as_of == CATALOGS[of[0]].as_of.isoformat()
    assert type(found.micros) is int


@pytest.mark.parametrize(
    ("provider", "values", "images"),
    [
        ("vidgo", {"input": {"n": 3}}, 3),
        ("apixo", {"input": {"num_images": 4}}, 4),
        ("reapi", {"n": 2}, 2),
        ("vidgo", {"input": {}}, 1),
        ("vidgo", {"input": {"n": 0}}, 1),
        ("vidgo", {"input": {"n": 10**9}}, 100),
        ("vidgo", {"input": {"n": True}}, 1),
        ("vidgo", {"input": {"n": "3"}}, 1),
        ("somebody", {"n": 3}, 1),
    ],
)
def test_the_images_of_an_unknown_model_are_counted(
    provider: str, values: dict[str, object], images: int
) -> None:
    quotes = Quotes(load_catalogs(None), GatewayCheck.REFUSE)
    quote = quotes.of_unknown(provider, values)
    assert (quote.images, quote.price, quote.broken) == (images, None, ())


def test_an_unknown_model_is_neither_checked_nor_priced() -> None:
    quotes = Quotes(CATALOGS, GatewayCheck.STRICT)
    assert quotes.quote("vidgo", "seedream-5.0-lite", {"input": {"n": 3}}) is None
    assert quotes.quote("somebody", "gpt-image-2", {}) is None


def test_prices_beside_a_row_are_near_and_never_below_it() -> None:
    price = quoted("reapi", OFFICIAL, quality="high", size="3:2", resolution="1k").price
    assert price is not None
    assert (price.micros, price.basis) == (186_000, Basis.NEAR)
    price = quoted("reapi", OFFICIAL, quality="high", size="16:9", resolution="2k").price
    assert price is not None
    assert (price.micros, price.basis) == (1_467_000, Basis.NEAR)


# --- what a field may hold instead --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "rule"),
    [
        ("3840X1280", "custom-form"),
        ("\uff13\uff18\uff14\uff10x\uff11\uff12\uff18\uff10", "custom-form"),  # full-width digits
        ("0x0", "custom-form"),
        ("-16x16", "custom-form"),
        ("01024x1024", "custom-form"),
        ("1024 x 1024", "custom-form"),
        ("1024x1024\n", "custom-form"),
        ("1" * 31 + "x16", "custom-form"),
        ("99999999999999999999x16", "custom-edge"),
        ("7:3", "size"),
        ("AUTO", "size"),
        ("WIDTHxHEIGHT", "size"),
        ("", "size"),
        (" " * 5000 + "x", "size"),
        (5, "type"),
        (["1:1"], "type"),
        (True, "type"),
    ],
)
def test_trap_9_a_size_of_another_form_breaks_a_rule_and_is_priced_by_the_dearest_reading(
    size: Any, rule: str
) -> None:
    quote = quoted(size=size, resolution="4K")
    assert f"{rule} H" in rules_of(quote)
    assert quote.price is not None
    assert (quote.price.micros, quote.price.basis) == (40_000, Basis.UPPER)


def test_trap_9_null_is_what_is_left_out_and_doubtful() -> None:
    quote = quoted(size=None, image_urls=None)
    assert rules_of(quote) == ["type D", "type D"]
    assert quote.price == quoted().price


@pytest.mark.parametrize(
    ("fields", "micros"),
    [
        ({"quality": "ultra"}, 60_000),
        ({"quality": 3}, 60_000),
        ({"size": "16:9", "resolution": "8K"}, 40_000),
        ({"size": "16:9", "resolution": 4}, 40_000),
        ({"n": 3}, 30_000),
        ({"n": "3"}, 10_000),
        ({"n": 10**30}, 1_000_000),
        ({"n": -1}, 10_000),
        ({"n": 1.0}, 10_000),
    ],
)
def test_a_broken_order_is_priced_by_its_dearest_reading(fields: dict[str, Any], micros: int) -> None:
    quote = quoted(**fields)
    assert any(each.rule_class is RuleClass.HARD for each in quote.broken)
    assert quote.price is not None
    assert quote.price.micros == micros


@pytest.mark.parametrize("character", ["x", "\U0001f30a", "e\u0301"])
def test_trap_9_a_prompt_is_measured_in_code_points(character: str) -> None:
    fitting = character * (4000 // len(character))
    assert rules_of(quoted(prompt=fitting)) == []
    assert rules_of(quoted(prompt=fitting + "x")) == ["prompt-long H"]


@pytest.mark.parametrize("prompt", ["", " \t\n", "\u2003", None, ...])
def test_trap_9_a_blank_prompt_is_none(prompt: Any) -> None:
    quote = quoted(prompt=prompt) if prompt is not ... else _without_prompt()
    assert "prompt-missing H" in rules_of(quote)


def _without_prompt() -> Quote:
    return quote_order(CATALOGS["vidgo"], CATALOGS["vidgo"].models["gpt-image-2"], {"input": {}})


def test_trap_9_half_a_surrogate_pair_is_a_character() -> None:
    document = read_document(b'{"model": "gpt-image-2", "input": {"prompt": "\\ud83c", "size": "\\udc00"}}')
    quote = quote_order(CATALOGS["vidgo"], CATALOGS["vidgo"].models["gpt-image-2"], document.values)
    assert rules_of(quote) == ["size H"]


@pytest.mark.parametrize("values", [{}, {"input": None}, {"input": "x"}, {"input": []}])
def test_an_order_without_its_fields_is_told_once_what_it_lacks(values: dict[str, Any]) -> None:
    quote = quote_order(CATALOGS["vidgo"], CATALOGS["vidgo"].models["gpt-image-2"], values)
    assert "prompt-missing H" in rules_of(quote)
    assert len([each for each in quote.broken if each.name == "type"]) <= 1
    assert quote.price is not None
    assert quote.price.micros == 10_000


@pytest.mark.parametrize(
    ("of", "fields", "rules"),
    [
        (EDIT, {}, ["refs-missing H"]),
        (EDIT, {"image_urls": []}, ["refs-missing H"]),
        (VIDGO, {"image_urls": REFERENCE}, ["refs-not-taken H"]),
        (VIDGO, {"image_urls": []}, ["refs-not-taken D"]),
        (EDIT, {"image_urls": REFERENCE * 16}, []),
        (EDIT, {"image_urls": REFERENCE * 17}, ["refs-many D"]),
        (EDIT, {"image_urls": ["data:image/png;base64,AAAA"]}, ["refs-url D"]),
        (EDIT, {"image_urls": "https://media.example/a.png"}, ["type H"]),
        (EDIT, {"image_urls": [1]}, ["type H"]),
        (APIDOT, {"prompt": "x" * 4001}, ["prompt-long D"]),
        (APIDOT, {"size": "1024x624", "resolution": "2K"}, ["custom-pixels D"]),
        (("apixo", "gpt-image-2"), {"aspect_ratio": "1024x1024"}, ["size H"]),
        (("apixo", "gpt-image-2"), {"resolution": "2K", "aspect_ratio": "1:1"}, ["resolution D"]),
        (("apixo", "gpt-image-2"), {"mode": "image-to-image"}, ["refs-missing H"]),
        (("apixo", "gpt-image-2"), {"mode": "text-to-image", "image_urls": REFERENCE}, ["refs-not-taken D"]),
        (("apixo", "gpt-image-2"), {"num_images": 2}, ["n D"]),
        (("apixo", "gpt-image-2"), {"prompt": "x" * 20_001}, ["prompt-long H"]),
        (("apixo", "gpt-image-2"), {"quality": "ultra"}, []),
        (REAPI, {"quality": "low"}, ["quality D"]),
        (REAPI, {"prompt": " "}, ["prompt-missing S"]),
        (REAPI, {"size": "7:3"}, ["size D"]),
        (REAPI, {"n": 2}, ["n H"]),
        (REAPI, {"n": 1}, []),
        (REAPI_OFFICIAL, {"n": 5}, ["n H"]),
        (REAPI_OFFICIAL, {"size": "1024x1536"}, []),
        (REAPI_OFFICIAL, {"size": "1024X1536"}, ["custom-form H"]),
        (REAPI_OFFICIAL, {"quality": "best"}, ["quality H"]),
        (REAPI_OFFICIAL, {"resolution": "2k"}, ["auto-is-1k D"]),
    ],
)
def test_each_provider_has_rules_of_its_own(
    of: tuple[str, str], fields: dict[str, Any], rules: list[str]
) -> None:
    assert rules_of(quoted(*of, **fields)) == rules


def test_a_message_names_the_field_and_the_limit_and_nothing_of_the_order() -> None:
    quote = quoted(
        prompt="SECRET" * 1000, size="SECRETxSECRET", quality="SECRET", image_urls=["data:SECRET"], n=7
    )
    assert len(quote.broken) >= 5
    said = " ".join(each.message for each in quote.broken)
    assert "SECRET" not in said
    assert "`input.prompt` has more than 4,000 characters" in said


def test_a_message_says_what_would_be_right() -> None:
    (size,) = quoted(size="7:3").broken
    assert size.message.endswith("16:9, 9:16, 21:9, or WIDTHxHEIGHT")
    (wide,) = quoted("reapi", size="1:1", resolution="4k").broken
    assert wide.message == "4k needs `size` to be one of 16:9, 9:16, 2:1, 1:2, 21:9, 9:21"


@pytest.mark.parametrize(
    ("check", "refused"),
    [
        (GatewayCheck.OFF, []),
        (GatewayCheck.WARN, []),
        (GatewayCheck.REFUSE, ["n"]),
        (GatewayCheck.STRICT, ["auto-is-1k", "n"]),
    ],
)
def test_what_is_refused_goes_by_the_class(check: GatewayCheck, refused: list[str]) -> None:
    quotes = Quotes(CATALOGS, check)
    order = {"input": {"prompt": "x", "resolution": "2k", "n": 1}}
    quote = quotes.quote("vidgo", "gpt-image-2", order)
    assert quote is not None
    assert [each.name for each in quotes.refused(quote)] == refused
    assert quote.price is not None  # whatever is checked


def test_a_quote_takes_no_time_to_speak_of() -> None:
    order = {"input": {"prompt": "x" * 4000, "size": "3840x1280", "resolution": "2K", "quality": "medium"}}
    quotes = Quotes(CATALOGS, GatewayCheck.WARN)
    started = time.process_time()
    for _ in range(200):
        quotes.quote("vidgo", "gpt-image-2", order)
    assert time.process_time() - started < 0.2  # a millisecond each, ten times what the benchmark allows
