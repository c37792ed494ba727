"""The balance of each account: of a key at a provider."""

from collections import defaultdict

from receiver.simulator.model import Account

# https://github.com/APIDotAI/gpt-image-2-api : it deducts for what was made alone, though it looks first
# whether the balance would cover it. The others take at once, and give back for failures.
DEDUCTS_AT_THE_END = frozenset({"apidot"})


class Accounts:
    """One balance for each account, in its provider's unit; all begin with the same amount."""

    def __init__(self, to_begin_with: float) -> None:
        self._left: defaultdict[Account, float] = defaultdict(lambda: to_begin_with)
        self._set_aside: defaultdict[Account, float] = defaultdict(float)

    def shown(self, account: Account) -> float:
        """What the provider says is left."""
        aside = 0.0 if account.provider in DEDUCTS_AT_THE_END else self._set_aside[account]
        return round(self._left[account] - aside, 4)

    def set_aside(self, account: Account, price: float) -> bool:
        """Keep ``price`` for a task that begins, if the balance covers it; returns whether it did."""
        if price > round(self._left[account] - self._set_aside[account], 4):
            return False
        self._set_aside[account] = round(self._set_aside[account] + price, 4)
        return True

    def settle(self, account: Account, price: float, *, is_billed: bool) -> None:
        """A task has ended: it is billed, or cost nothing."""
        self._set_aside[account] = round(self._set_aside[account] - price, 4)
        if is_billed:
            self._left[account] = round(self._left[account] - price, 4)
