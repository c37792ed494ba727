"""Time, ids and randomness: asked of a clock that is handed in, so that tests can turn it."""

import os
import random
import time
from datetime import UTC, datetime

# Crockford's alphabet: no I, L, O or U, so an id survives being read aloud.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Clock:
    """The real world. ``receiver.testing`` has one whose hands can be moved."""

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        return datetime.now(UTC)

    def random(self) -> float:
        """A number in [0, 1), for jitter; not for secrets."""
        return random.random()

    def new_id(self, prefix: str) -> str:
        """``prefix_`` and 26 characters: 48 bits of time, so ids sort by age, and 80 random bits."""
        number = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10))
        return f"{prefix}_{_encode(number, 26)}"


def _encode(number: int, length: int) -> str:
    return "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in range(length - 1, -1, -1))
