"""What each provider's customer has left."""

from collections import defaultdict


class Accounts:
    """One account at each provider, with the same to begin with, each in its provider's own unit."""

    def __init__(self, to_begin_with: float) -> None:
        self._left: defaultdict[str, float] = defaultdict(lambda: to_begin_with)

    def left(self, provider: str) -> float:
        return self._left[provider]

    def take(self, provider: str, price: float) -> bool:
        """Whether there was enough, and then it is taken."""
        if price > self._left[provider]:
            return False
        self._add(provider, -price)
        return True

    def give_back(self, provider: str, price: float) -> None:
        """For a task that failed."""
        self._add(provider, price)

    def _add(self, provider: str, amount: float) -> None:
        self._left[provider] = round(self._left[provider] + amount, 4)
