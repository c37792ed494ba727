"""Time, ids and randomness: asked of a clock that is handed in, so that tests can turn it."""

import base64
import os
import random
import time
from datetime import UTC, datetime

# From the standard library's base 32 to Crockford's letters: no I, L, O or U, so that an id survives being
# read aloud. Both are in the order of the digits, so encoded ids sort like the numbers they stand for.
_CROCKFORD = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUV", b"0123456789abcdefghjkmnpqrstvwxyz")


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
        number = int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10)
        return f"{prefix}_{base64.b32hexencode(number)[:26].translate(_CROCKFORD).decode()}"
