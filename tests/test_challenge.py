"""A peer proves that it knows a token before it is sent one, and strangers learn nothing from it."""

import pytest

from receiver.challenge import Challenge, is_proven, make_challenge, place_of, prove

HERE, THERE = "127.0.0.1 8080", "127.0.0.1 9000"
TOKEN, OTHER = "Rt5mQe94-the-token", "Yb7nLw20-another-one"


def test_who_knows_the_token_can_prove_it() -> None:
    challenge = make_challenge(TOKEN)
    assert is_proven(TOKEN, challenge, prove([OTHER, TOKEN], challenge, HERE), HERE)
    assert TOKEN not in f"{challenge} {prove([TOKEN], challenge, HERE)}"


def test_a_proof_is_good_for_one_challenge_only() -> None:
    first, second = make_challenge(TOKEN), make_challenge(TOKEN)
    assert first != second
    assert not is_proven(TOKEN, second, prove([TOKEN], first, HERE), HERE)


@pytest.mark.parametrize("proof", [None, "", "0" * 64, 7, ["x"], "\ud800", "é"])
def test_anything_else_proves_nothing(proof: object) -> None:
    assert not is_proven(TOKEN, make_challenge(TOKEN), proof, HERE)


@pytest.mark.parametrize("key", ["", "0" * 16, "é", "\ud800"])
def test_who_does_not_know_the_token_gets_nothing_to_try_guesses_on(key: str) -> None:
    assert prove([TOKEN, OTHER], Challenge(nonce="0" * 32, key=key), HERE) is None
    assert prove([OTHER], make_challenge(TOKEN), HERE) is None


def test_a_proof_is_good_for_the_place_only_at_which_it_was_given() -> None:
    challenge = make_challenge(TOKEN)
    assert not is_proven(TOKEN, challenge, prove([TOKEN], challenge, THERE), HERE)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (("127.0.0.1", 8080), ("127.0.0.1", 8080)),
        (("::ffff:127.0.0.1", 8080, 0, 0), ("127.0.0.1", 8080)),  # a listener for both families
        (("::1", 8080), ("0:0:0:0:0:0:0:1", 8080, 0, 0)),
    ],
)
def test_both_ends_write_a_place_alike(ours: tuple[object, ...], theirs: tuple[object, ...]) -> None:
    assert place_of(ours) == place_of(theirs)
    assert place_of(ours) not in {place_of(("::1", 9000)), place_of(("127.0.0.1", 9000)), place_of(None)}
