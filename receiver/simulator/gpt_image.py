"""gpt-image-2 as four providers sell it: what each refuses by its own page, and what it bills.

The service has rules and prices, too. These here are read from the same pages and share nothing with them:
what both have is right, or wrong twice over. What a page leaves open is taken, and billed by its dearest row.
"""

import re
from collections.abc import Collection, Mapping

from receiver.simulator.requests import invalid, read_count

# What one unit of the balance is worth, in millionths of a US dollar, where the pages say it.
MICROS_PER_UNIT: Mapping[str, int] = {"vidgo": 5000, "apidot": 5000, "apixo": 1_000_000, "reapi": 1000}

_TIERS = ("1K", "2K", "4K")
_PIXELS = re.compile("([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")
_LIKE_PIXELS = re.compile(r"\s*[-+]?[0-9]+\s*[xX*]\s*[-+]?[0-9]+\s*")

# https://docs.vidgo.ai/api-manual/image-series/gpt-image-2 and https://github.com/APIDotAI/gpt-image-2-api :
# credits at 1K, 2K and 4K; low is the default.
_VIDGO = {"low": (2.0, 4.0, 8.0), "medium": (3.0, 6.0, 12.0), "high": (12.0, 24.0, 48.0)}
_APIDOT = _VIDGO | {"low": (1.0, 2.0, 4.0)}
_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "16:9", "9:16", "21:9")
_TRUE_4K = ("16:9", "9:16", "21:9")  # the other ratios are drawn and billed as 2K

# https://apixo.ai/docs/models/gpt-image-2 : US dollars, "from".
_APIXO = 0.02
_APIXO_RATIOS = ("auto", "1:1", "4:3", "3:4", "16:9", "9:16")

# https://reapi.ai/docs/gpt-image-2 : credits; the official one's are for each image. Of its larger sizes the
# page has one price, high at 4K; and none of auto, its default.
_REAPI = (7.0, 14.0, 20.0)
_OFFICIAL = {"low": 6.0, "medium": 47.0, "high": 186.0, "auto": 186.0}
_OFFICIAL_HIGH_LARGE = 1467.0
_WIDE = ("16:9", "9:16", "2:1", "1:2", "21:9", "9:21")  # what 4K takes
_NARROW = ("auto", "1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4")  # and does not; other words are open


def price_at_vidgo(wanted: Mapping[str, object]) -> float:
    """Credits for one image. Raises Refusal."""
    _check_length(wanted, 4000)
    return _price_by_tier(wanted, _VIDGO, has_bounds=True)


def price_at_apidot(wanted: Mapping[str, object]) -> float:
    """Credits for one image. Its page does not bound sizes in pixels, nor prompts. Raises Refusal."""
    return _price_by_tier(wanted, _APIDOT, has_bounds=False)


def price_at_apixo(wanted: Mapping[str, object]) -> float:
    """US dollars for one image. Raises Refusal."""
    _check_length(wanted, 20_000)
    _word(wanted, "aspect_ratio", _APIXO_RATIOS)
    _resolution(wanted)
    return _APIXO


def price_at_reapi(wanted: Mapping[str, object], *, is_official: bool) -> float:
    """Credits for all images of an order. Raises Refusal."""
    _check_length(wanted, 4000)
    size, tier = _word(wanted, "size", ()) or "auto", _resolution(wanted) or "1K"
    if is_official and _LIKE_PIXELS.fullmatch(size) and not _PIXELS.fullmatch(size):
        raise invalid("a size in pixels is WIDTHxHEIGHT")
    if tier == "4K" and size in _NARROW:
        raise invalid(f"resolution 4k takes size {', '.join(_WIDE)}")
    if not is_official:
        _word(wanted, "quality", ())  # it has none, and takes any
        return _REAPI[_TIERS.index(tier)]
    quality = _word(wanted, "quality", _OFFICIAL) or "auto"
    price = _OFFICIAL_HIGH_LARGE if tier != "1K" and quality in {"auto", "high"} else _OFFICIAL[quality]
    return price * read_count(wanted, "n", most=4)


def _price_by_tier(
    wanted: Mapping[str, object], prices: Mapping[str, tuple[float, ...]], *, has_bounds: bool
) -> float:
    quality = _word(wanted, "quality", prices) or "low"
    asked, size = _resolution(wanted), _word(wanted, "size", ()) or "auto"
    if size == "auto":
        tier = "1K"
    elif size in _RATIOS:
        tier = "2K" if asked == "4K" and size not in _TRUE_4K else asked or "1K"
    else:
        tier = _tier_of_pixels(size, asked, has_bounds=has_bounds)
    return prices[quality][_TIERS.index(tier)]


def _tier_of_pixels(size: str, asked: str | None, *, has_bounds: bool) -> str:
    found = _PIXELS.fullmatch(size)
    if found is None:
        raise invalid(f"size must be auto, {', '.join(_RATIOS)} or WIDTHxHEIGHT")
    if asked in {None, "1K"}:
        raise invalid("a size in pixels takes resolution 2K or 4K")
    short, long = sorted(map(int, found.groups()))
    if has_bounds:
        if short % 16 or long % 16:
            raise invalid("both edges must be multiples of 16")
        if long > 3840:
            raise invalid("no edge may be longer than 3840")
        if long > 3 * short:
            raise invalid("the ratio of the edges may be 3:1 at most")
        if not 655_360 <= short * long <= 8_294_400:
            raise invalid("a size must have 655,360 to 8,294,400 pixels")
        if long == 3840 and asked != "4K":
            raise invalid("an edge of 3840 takes resolution 4K")
    return "4K" if long >= 3840 else "2K"


def _check_length(wanted: Mapping[str, object], most: int) -> None:
    """Raise Refusal for a longer prompt; Python counts code points, as the pages do."""
    prompt = wanted.get("prompt")
    if isinstance(prompt, str) and len(prompt) > most:
        raise invalid(f"prompt may have {most} characters at most")


def _resolution(wanted: Mapping[str, object]) -> str | None:
    """1K, 2K or 4K; public clients write it small where the page has it large, and the other way round."""
    asked = _word(wanted, "resolution", ())
    if asked is not None and (asked := asked.upper()) not in _TIERS:
        raise invalid("resolution must be 1K, 2K or 4K")
    return asked


def _word(wanted: Mapping[str, object], key: str, words: Collection[str]) -> str | None:
    """A text, one of ``words`` if there are any; None if nobody said. Raises Refusal."""
    value = wanted.get(key)
    if value is not None and (not isinstance(value, str) or (words and value not in words)):
        raise invalid(f"{key} must be " + (", ".join(words) or "a text"))
    return value
