"""How often one provider may be asked; pure. Moments are of ``Clock.uptime``, which never goes back.

It counts what this process asks, as a question must not wait for a commit to be allowed; what others ask is
counted afterwards (see ``turns``).
"""

from datetime import timedelta


class TokenBucket:
    """So many questions a minute, evenly, and a tenth of them at once.

    ``paid_at`` is when all that was asked so far will have been paid for at this pace.
    """

    def __init__(self, per_minute: float, now: timedelta) -> None:
        self.gap = timedelta(minutes=1) / per_minute
        self._at_once = max(1, int(per_minute // 10))
        self._paid_at = now

    def room(self, now: timedelta) -> int:
        """How many questions may be asked now."""
        return max(0, (now + self._at_once * self.gap - max(self._paid_at, now)) // self.gap)

    def free_at(self) -> timedelta:
        """From when on there is room for one; in the past where there is."""
        return self._paid_at - (self._at_once - 1) * self.gap

    def take(self, now: timedelta) -> None:
        """Count a question, whether there was room for it or not."""
        self._paid_at = max(self._paid_at, now) + self.gap


class OutOfTurn:
    """Questions that do not wait for their turn, as those for new links, and the line of those to come again.

    They have half of the pace for themselves, whatever waits in turn. Whoever asks them counts them in the
    bucket of all, too, so what they use the others go without: neither can starve the other, and the sum
    keeps to the pace.
    """

    def __init__(self, per_minute: float, now: timedelta) -> None:
        self._bucket = TokenBucket(per_minute / 2, now)
        self._line_ends_at = now

    @property
    def gap(self) -> timedelta:
        """From one to the next."""
        return self._bucket.gap

    def ask(self, now: timedelta, open_at: timedelta) -> timedelta | None:
        """Ask for one question, of a provider that can be asked from ``open_at`` on.

        None: it may be asked now, and is counted. Else when to come again: another time for each, so that
        not all come at once.
        """
        if now >= open_at and self._bucket.room(now):
            self._bucket.take(now)
            return None
        end = self._line_ends_at + self._bucket.gap
        self._line_ends_at = max(end, self._bucket.free_at(), open_at, now)
        return self._line_ends_at
