"""Callback tokens and link signatures: each proves one thing, and nothing else passes."""

import base64
import hmac
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.models import Proof
from receiver.tokens import MAC_CHARACTERS, SEALED_BYTES, Tokens

OLD, NEW = "an old secret of some length", "a new secret of some length"
TOKENS = Tokens([NEW])
SUBMISSION_TOKEN = TOKENS.for_submission("vidgo", "sub_1")
PROVIDER_TOKEN = TOKENS.for_provider("vidgo")


def test_a_submission_token_names_its_submission() -> None:
    claim = TOKENS.check("vidgo", SUBMISSION_TOKEN)
    assert claim is not None
    assert (claim.proof, claim.submission_id) == (Proof.SUBMISSION, "sub_1")


def test_a_provider_token_names_none() -> None:
    claim = TOKENS.check("vidgo", PROVIDER_TOKEN)
    assert claim is not None
    assert (claim.proof, claim.submission_id) == (Proof.PROVIDER, None)


@pytest.mark.parametrize("secret", ["a secret of some length", "long " * 20, "Ж🦊" * 4])
@pytest.mark.parametrize("task_id", ["t1", "Ж🦊", "\ud800", ""])
def test_a_mac_is_hmac_sha256_of_the_parts_with_their_lengths(secret: str, task_id: str) -> None:
    parts = [part.encode("utf-8", "surrogatepass") for part in ("asset", "vidgo", task_id, "2", "9")]
    message = b"".join(b"%d:%s" % (len(part), part) for part in parts)
    mac = hmac.digest(secret.encode(), message, "sha256")[:24]
    assert Tokens([secret]).sign_link("vidgo", task_id, 2, 9) == base64.urlsafe_b64encode(mac).decode()


def test_the_same_token_is_made_every_time() -> None:
    assert Tokens([NEW]).for_submission("vidgo", "sub_1") == SUBMISSION_TOKEN


@pytest.mark.parametrize("token", [SUBMISSION_TOKEN, PROVIDER_TOKEN])
def test_a_token_is_worth_nothing_at_another_provider(token: str) -> None:
    assert TOKENS.check("apidot", token) is None


def test_the_mac_of_one_kind_is_worth_nothing_in_another() -> None:
    submission_mac, provider_mac = SUBMISSION_TOKEN.rpartition(".")[2], PROVIDER_TOKEN.rpartition(".")[2]
    link = TOKENS.sign_link("vidgo", "sub_1", 0, 0)
    for mac in (provider_mac, link):
        assert TOKENS.check("vidgo", f"s.sub_1.{mac}") is None
    for mac in (submission_mac, link):
        assert TOKENS.check("vidgo", f"p.{mac}") is None
    assert not TOKENS.check_link("vidgo", "sub_1", 0, 0, submission_mac)


def test_the_mac_of_one_submission_is_worth_nothing_for_another() -> None:
    mac = SUBMISSION_TOKEN.rpartition(".")[2]
    assert TOKENS.check("vidgo", f"s.sub_2.{mac}") is None


def test_parts_cannot_be_moved_across_their_borders() -> None:
    assert TOKENS.sign_link("vidgo", "a", 1, 23) != TOKENS.sign_link("vidgo", "a", 12, 3)
    assert TOKENS.sign_link("vidgoa", "b", 1, 2) != TOKENS.sign_link("vidgo", "ab", 1, 2)


@pytest.mark.parametrize("token", [SUBMISSION_TOKEN, PROVIDER_TOKEN])
def test_every_truncation_and_every_changed_character_is_refused(token: str) -> None:
    for position in range(len(token)):
        assert TOKENS.check("vidgo", token[:position]) is None
        other = "A" if token[position] != "A" else "B"
        assert TOKENS.check("vidgo", token[:position] + other + token[position + 1 :]) is None
    for more in (token + "A", token + ".", token + "=", token + "\n", " " + token, token.upper()):
        assert TOKENS.check("vidgo", more) is None


def test_during_a_rotation_old_tokens_verify_and_new_ones_are_signed_anew() -> None:
    both = Tokens([NEW, OLD])
    assert both.check("vidgo", Tokens([OLD]).for_provider("vidgo")) is not None
    assert both.for_provider("vidgo") == PROVIDER_TOKEN
    assert both.check_link("vidgo", "t", 0, 9, Tokens([OLD]).sign_link("vidgo", "t", 0, 9))


def test_after_a_rotation_old_tokens_are_refused() -> None:
    assert TOKENS.check("vidgo", Tokens([OLD]).for_provider("vidgo")) is None
    assert not TOKENS.check_link("vidgo", "t", 0, 9, Tokens([OLD]).sign_link("vidgo", "t", 0, 9))


def test_only_what_is_equally_long_is_compared_and_with_every_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return real(left, right)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    both = Tokens([NEW, OLD])
    for token in (PROVIDER_TOKEN, SUBMISSION_TOKEN, "p." + "A" * MAC_CHARACTERS):
        both.check("vidgo", token)
    assert compared == [(MAC_CHARACTERS, MAC_CHARACTERS)] * 6  # the first secret's match stops nothing
    for mac in ("", "A", "A" * (MAC_CHARACTERS + 1), "\u00e9" * MAC_CHARACTERS):
        assert both.check("vidgo", f"p.{mac}") is None
        assert not both.check_link("vidgo", "t", 0, 0, mac)
    assert len(compared) == 6


def test_a_token_fits_in_a_callback_url_many_times_over() -> None:
    assert len(TOKENS.for_submission("vidgo", "sub_" + "0" * 26)) < 100
    for token in (SUBMISSION_TOKEN, PROVIDER_TOKEN):
        assert token.replace("-", "").replace("_", "").replace(".", "").isalnum()  # no encoding needed


def test_a_link_signature_covers_everything_in_the_link() -> None:
    signature = TOKENS.sign_link("vidgo", "task/1", 2, 1_800_000_000)
    assert TOKENS.check_link("vidgo", "task/1", 2, 1_800_000_000, signature)
    assert not TOKENS.check_link("apixo", "task/1", 2, 1_800_000_000, signature)
    assert not TOKENS.check_link("vidgo", "task/2", 2, 1_800_000_000, signature)
    assert not TOKENS.check_link("vidgo", "task/1", 3, 1_800_000_000, signature)
    assert not TOKENS.check_link("vidgo", "task/1", 2, 1_800_000_001, signature)


@given(position=st.integers(0, 10**18 - 1))
def test_a_cursor_is_opened_as_it_was_sealed_and_looks_like_any_other(position: int) -> None:
    sealed = TOKENS.seal_cursor("tasks", f"at_{position}")
    assert TOKENS.open_cursor("tasks", sealed) == f"at_{position}"
    assert len(sealed) == 2 * MAC_CHARACTERS
    assert sealed.replace("-", "").replace("_", "").isalnum()  # no encoding needed


def test_cursors_of_neighbours_have_nothing_in_common() -> None:
    bits = [
        int.from_bytes(base64.urlsafe_b64decode(TOKENS.seal_cursor("tasks", f"at_{number}")), "big")
        for number in range(100, 164)
    ]
    differing = [(one ^ other).bit_count() for one, other in itertools.combinations(bits, 2)]
    # Of 384 bits of chance half differ, give or take 10: this is seven times as much.
    assert min(differing) > 122
    assert max(differing) < 262


def test_a_cursor_is_worth_nothing_in_another_list_or_under_another_secret() -> None:
    sealed = TOKENS.seal_cursor("tasks", "at_12")
    assert TOKENS.open_cursor("attempts", sealed) is None
    assert Tokens([OLD]).open_cursor("tasks", sealed) is None
    assert Tokens([OLD, NEW]).open_cursor("tasks", sealed) == "at_12"
    for position in range(len(sealed)):
        assert TOKENS.open_cursor("tasks", sealed[:position]) is None
        other = "A" if sealed[position] != "A" else "B"
        assert TOKENS.open_cursor("tasks", sealed[:position] + other + sealed[position + 1 :]) is None


def test_a_cursor_that_would_be_longer_than_others_is_not_sealed() -> None:
    assert TOKENS.open_cursor("tasks", TOKENS.seal_cursor("tasks", "a" * SEALED_BYTES)) == "a" * SEALED_BYTES
    with pytest.raises(ValueError, match="24 bytes"):
        TOKENS.seal_cursor("tasks", "a" * (SEALED_BYTES + 1))


@given(provider=st.text(), token=st.text(st.characters(exclude_categories=())))
@example("vidgo", "s.\udc80.x")
@example("vidgo", "s.sub_1.é\udfff")
@example("\ud800", "p.x")
@example("vidgo", "s..")
@example("vidgo", "p.")
@example("vidgo", "." * 100_000)
def test_no_text_raises_and_none_is_taken(provider: str, token: str) -> None:
    assert TOKENS.check(provider, token) is None
    assert not TOKENS.check_link(provider, token, 0, 0, token)
    assert TOKENS.open_cursor(provider, token) is None
