"""Acts that reach somebody else's machine are done once in a while, however often a button is pressed."""

from math import ceil

from receiver.clock import Clock
from receiver.web.pages.refusals import Refusal


class Pauses:
    """When each act was done last, in this process. The names of acts are few."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._done_at: dict[str, float] = {}

    def begin(self, act: str, seconds: float) -> None:
        """An act begins now. Raises Refusal (429) where it began less than so long ago."""
        now = self._clock.uptime().total_seconds()
        left = self._done_at.get(act, now - seconds) + seconds - now
        if left > 0:
            wait_seconds = ceil(left)
            detail = f"This was done a moment ago. It can be done again in {wait_seconds} s."
            raise Refusal(429, "A moment", detail, retry_after_seconds=wait_seconds)
        self._done_at[act] = now
