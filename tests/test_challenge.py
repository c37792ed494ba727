"""A peer proves that it knows a token before it is sent one, and strangers learn nothing from it."""

import pytest

from receiver.challenge import Challenge, is_proven, make_challenge, prove

TOKEN, OTHER = "Rt5mQe94-the-token", "Yb7nLw20-another-one"


def test_who_knows_the_token_can_prove_it() -> None:
    challenge = make_challenge(TOKEN)
    assert is_proven(TOKEN, challenge, prove([OTHER, TOKEN], challenge))
    assert TOKEN not in f"{challenge} {prove([TOKEN], challenge)}"


def test_a_proof_is_good_for_one_challenge_only() -> None:
    first, second = make_challenge(TOKEN), make_challenge(TOKEN)
    assert first != second
    assert not is_proven(TOKEN, second, prove([TOKEN], first))


@pytest.mark.parametrize("proof", [None, "", "0" * 64, 7, ["x"], "\ud800", "é"])
def test_anything_else_proves_nothing(proof: object) -> None:
    assert not is_proven(TOKEN, make_challenge(TOKEN), proof)


@pytest.mark.parametrize("key", ["", "0" * 16, "é", "\ud800"])
def test_who_does_not_know_the_token_gets_nothing_to_try_guesses_on(key: str) -> None:
    assert prove([TOKEN, OTHER], Challenge(nonce="0" * 32, key=key)) is None
    assert prove([OTHER], make_challenge(TOKEN)) is None
