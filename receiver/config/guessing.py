"""An estimate of how hard a secret is to guess; random secrets are far above the limit."""

import math
import re

ENOUGH_BITS = 48.0  # even 16 random hexadecimal digits, by chance with some in a row, have more
_PATTERN_BITS = 7.0  # for a word, a sequence or a repetition: which one, and how long
_LEAST_PATTERN = 3

# What people type when they are asked for a secret; and from right to left.
_SEQUENCES = (
    "abcdefghijklmnopqrstuvwxyz 0123456789 01234567890 qwertyuiop asdfghjkl zxcvbnm qwertzuiop 1qaz2wsx3edc"
)
_WORDS = (
    "password passwort passwd secret token admin administrator receiver changeme change-me letmein"
    " welcome default example sample test testing demo dummy webhook callback hook signing production"
    " staging development local localhost key apikey user root master super very long please"
    " this that your mine insert here replace value string random strong"
    " secure private public"
    " service backend server client hello world monkey dragon iloveyou football"
    " baseball sunshine princess correct horse battery staple"
)
_KNOWN = f"{_SEQUENCES} {_SEQUENCES[::-1]} {_WORDS}"
_CLASSES = (
    (r"[0-9]", 10),
    (r"[a-f]", 6),
    (r"[g-z]", 20),
    (r"[A-F]", 6),
    (r"[G-Z]", 20),
    (r"[^0-9A-Za-z]", 16),
)


def is_guessable(secret: str) -> bool:
    """Whether so few words, sequences and repetitions make it up that somebody could try them all."""
    letters = sum(size for pattern, size in _CLASSES if re.search(pattern, secret))
    bits, position = 0.0, 0
    lower = secret.lower()
    while position < len(secret):
        length = 1  # of what is known, or a repetition
        for end in range(position + _LEAST_PATTERN, len(lower) + 1):
            part = lower[position:end]
            if part not in _KNOWN and lower.find(part, 0, end - 1) == -1:
                break
            length = end - position
        bits += _PATTERN_BITS if length > 1 else math.log2(max(letters, 2))
        position += length
    return bits < ENOUGH_BITS
