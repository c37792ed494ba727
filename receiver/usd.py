"""Money as people write it, and as it is counted: US dollars, and whole millionths of them."""

import re
from decimal import Decimal

MICROS = 1_000_000  # in a dollar
MOST_DOLLARS = 1_000_000_000

_AMOUNT = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,6})?")


def to_usd(micros: int) -> str:
    """The decimal of a sum, with two places at least and no more than it needs: ``5.00``, ``0.0005``."""
    sign = "-" if micros < 0 else ""
    dollars, rest = divmod(abs(micros), MICROS)
    return f"{sign}{dollars}.{f'{rest:06d}'.rstrip('0').ljust(2, '0')}"


def from_usd(text: str) -> int:
    """The millionths of an amount. Raises ValueError for what is none, or is finer than they are."""
    if not _AMOUNT.fullmatch(text) or Decimal(text) > MOST_DOLLARS:
        raise ValueError(f"{text!r} is no amount in US dollars, such as 5.00 or 0.05")
    return int(Decimal(text) * MICROS)
