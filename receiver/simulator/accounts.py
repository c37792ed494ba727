"""The balance of each provider's account."""

from collections import defaultdict


class Accounts:
    """One balance for each provider, in its own unit; all begin with the same amount."""

    def __init__(self, to_begin_with: float) -> None:
        self._left: defaultdict[str, float] = defaultdict(lambda: to_begin_with)

    def left(self, provider: str) -> float:
        return self._left[provider]

    def take(self, provider: str, price: float) -> bool:
        """Take ``price`` if the balance covers it; returns whether it did."""
        if price > self._left[provider]:
            return False
        self._add(provider, -price)
        return True

    def give_back(self, provider: str, price: float) -> None:
        """Return what a failed task had cost."""
        self._add(provider, price)

    def _add(self, provider: str, amount: float) -> None:
        self._left[provider] = round(self._left[provider] + amount, 4)
