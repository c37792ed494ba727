"""Which secrets could be found by trying: words, sequences and repetitions, and no random ones."""

import random

import pytest

from receiver.config.guessing import is_guessable


@pytest.mark.parametrize(
    "secret",
    [
        "aaaaaaaaaaaaaaaa",
        "1234567890123456",
        "0123456789abcdef",
        "ABCDEFGHIJKLMNOP",
        "zyxwvutsrqponmlk",
        "qwertyuiopasdfgh",
        "abcabcabcabcabcabcabc",
        "changemechangeme",
        "my-secret-password",
        "Password-Password-1",
        "receiver-webhook-secret",
        "secret-admin-token-123",
        "2026202620262026",
        "correct-horse-battery-staple",
    ],
)
def test_words_sequences_and_repetitions_can_be_guessed(secret: str) -> None:
    assert is_guessable(secret)


@pytest.mark.parametrize(
    ("letters", "length"),
    [("0123456789abcdef", 16), ("0123456789abcdef", 64), ("abcdefghijklmnopqrstuvwxyz", 20)],
)
def test_what_is_random_cannot(letters: str, length: int) -> None:
    chance = random.Random(7)
    assert not any(is_guessable("".join(chance.choices(letters, k=length))) for _ in range(500))
