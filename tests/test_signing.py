"""The parts of signatures, against implementations that nobody here wrote, and against forgers."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from nacl.signing import SigningKey
from standardwebhooks import Webhook

from receiver.models import Callback, SigningKeys
from receiver.signing import (
    MOST_CLAIMS,
    base64_bytes,
    hex_bytes,
    hmac_fits,
    is_fresh,
    is_signed_by_key,
    is_standard,
    listed,
    secret_fits,
    whsec_key,
)
from receiver.signing.ed25519 import public_key

# The known answer that every library of Standard Webhooks has in its tests.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
SIGNED_AT = datetime.fromtimestamp(1614265330, UTC)
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
KNOWN = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": SIGNATURE,
}
ANOTHER = "whsec_bm90IHRoZSByaWdodCBvbmUgYXQgYWxs"


def callback(headers: dict[str, str], body: bytes = BODY, at: datetime = SIGNED_AT) -> Callback:
    return Callback(provider="p", token=None, body=body, headers=headers, received_at=at)


def passes(*secrets: str, body: bytes = BODY, at: datetime = SIGNED_AT, **changed: str | None) -> bool:
    headers = KNOWN | {name.replace("_", "-"): value for name, value in changed.items()}
    return is_standard(
        callback({name: value for name, value in headers.items() if value is not None}, body, at),
        SigningKeys(secrets=secrets or (SECRET,)),
    )


# --- Standard Webhooks ----------------------------------------------------------------------------


def test_the_known_answer_passes() -> None:
    assert passes()


@pytest.mark.parametrize("form", [SECRET, SECRET.removeprefix("whsec_")])
def test_a_secret_counts_with_its_prefix_and_without(form: str) -> None:
    assert passes(form)


def test_padding_may_be_missing_from_a_secret() -> None:
    padded = "whsec_" + base64.b64encode(b"a key of 25 bytes, padded").decode()
    assert padded.endswith("==")
    assert whsec_key(padded) == whsec_key(padded.rstrip("=")) == b"a key of 25 bytes, padded"


@pytest.mark.parametrize("secrets", [(SECRET, ANOTHER), (ANOTHER, SECRET)])
def test_while_secrets_are_replaced_either_fits(secrets: tuple[str, ...]) -> None:
    assert passes(*secrets)
    assert not passes(ANOTHER)


@pytest.mark.parametrize("secret", ["whsec_", "", "whsec_!!!!", "whsec_ä", "whsec_AAAAA"])
def test_a_broken_secret_fits_nothing(secret: str) -> None:
    assert not passes(secret)


def test_one_right_signature_in_a_list_is_enough() -> None:
    wrong = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    assert passes(webhook_signature=f"{wrong} v2,Ceo5qEr07ixe2NLpvHk3FH9bwy {wrong} {SIGNATURE}")
    assert not passes(webhook_signature=f"{wrong} {wrong}")


def test_a_list_is_looked_through_only_so_far() -> None:
    wrong = " ".join(["v1,AAAA"] * MOST_CLAIMS)
    assert passes(webhook_signature=" ".join(["v1,AAAA"] * (MOST_CLAIMS - 1)) + " " + SIGNATURE)
    assert not passes(webhook_signature=f"{wrong} {SIGNATURE}")


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "v1,",
        "v1",
        ",",
        SIGNATURE[:-2] + "A=",
        SIGNATURE.rstrip("="),
        SIGNATURE.replace("v1", "v2"),
        SIGNATURE.replace("v1,", "v1a,"),
        SIGNATURE.removeprefix("v1,"),
        SIGNATURE + "\n",
        SIGNATURE.replace("/", "\u2044/"),  # Python's own decoder drops what is not base64
        SIGNATURE.replace("g0", "g\x000"),
        "v1," + "A" * 43 + "=",
        "v1,\u00e9\u00e9",
        "v1," + base64.b64encode(hashlib.sha512(b"").digest()).decode(),
    ],
)
def test_an_altered_or_malformed_signature_fails(signature: str | None) -> None:
    assert not passes(webhook_signature=signature)


@pytest.mark.parametrize(
    "moment", [None, "", "soon", "1614265330.0", "-1", "+1614265330", " 1614265330", "1" * 400, "١٦١٤٢٦٥٣٣٠"]
)
def test_a_time_that_is_none_fails(moment: str | None) -> None:
    assert not passes(webhook_timestamp=moment)


def test_what_is_older_or_newer_than_five_minutes_fails() -> None:
    for seconds in (0, 300, -300):
        assert passes(at=SIGNED_AT + timedelta(seconds=seconds)), seconds
    for seconds in (301, -301, 86_400, -86_400):
        assert not passes(at=SIGNED_AT + timedelta(seconds=seconds)), seconds


def test_every_byte_of_body_and_headers_counts() -> None:
    assert not passes(body=BODY + b" ")
    assert not passes(body=BODY.replace(b"4", b"5", 1))
    assert not passes(webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJeK")
    assert not passes(webhook_id=None)
    assert not passes(webhook_timestamp="1614265331")
    # What one header loses to the next is another message, though the joined text is the same.
    assert not passes(webhook_id=KNOWN["webhook-id"] + ".1614265330", webhook_timestamp="")


def test_what_another_implementation_signs_passes_and_the_other_way_round() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    body = '{"id": "a", "prompt": "ünï"}'
    signature = Webhook(SECRET).sign("msg_1", now, body)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    assert is_standard(callback(headers, body.encode(), now), SigningKeys(secrets=(SECRET,)))

    key = whsec_key(SECRET)
    assert key is not None
    made = hmac.digest(key, f"msg_1.{headers['webhook-timestamp']}.{body}".encode(), "sha256")
    ours = headers | {"webhook-signature": f"v1,{base64.b64encode(made).decode()}"}
    assert Webhook(SECRET).verify(body, ours) == {"id": "a", "prompt": "ünï"}


# --- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00" * 31,
        "00" * 33,
        "0x" + "00" * 31,
        "00 " * 21 + "0",
        "zz" * 32,
        "\u0660\u0660" * 32,
        "00" * 32 + "\n",
    ],
)
def test_hex_that_is_none_is_nothing(text: str) -> None:
    assert hex_bytes(text) is None


def test_hex_counts_in_either_case() -> None:
    assert hex_bytes("AB" * 32) == hex_bytes("ab" * 32) == b"\xab" * 32


def test_base64_is_read_strictly() -> None:
    text = base64.b64encode(b"x" * 32).decode()
    assert base64_bytes(text) == b"x" * 32
    for wrong in (
        text + "=",
        text.rstrip("="),
        f" {text}",
        text[:4] + "\n" + text[4:],
        text.replace("=", ""),
    ):
        assert base64_bytes(wrong) is None, wrong


def test_without_a_key_or_a_claim_nothing_fits() -> None:
    right = hmac.digest(b"k", b"m", "sha256")
    assert hmac_fits([b"k"], b"m", [right])
    assert not hmac_fits([], b"m", [right])
    assert not hmac_fits([b"k"], b"m", [])
    assert not hmac_fits([b"k"], b"m", [right[:16]])


def test_a_secret_in_clear_is_compared_whole() -> None:
    assert secret_fits(["old-secret", "new-secret"], "new-secret")
    for wrong in ("", "new-secre", "new-secret ", "NEW-SECRET", "\ud800", "ä" * 5):
        assert not secret_fits(["old-secret", "new-secret"], wrong)
    assert not secret_fits([], "")


def test_the_window_is_for_whoever_asks_to_choose() -> None:
    late = callback(KNOWN, at=SIGNED_AT + timedelta(seconds=900))
    assert is_fresh(late, "webhook-timestamp", 1000)
    assert not is_fresh(late, "webhook-timestamp")


def test_only_entries_of_the_version_are_read() -> None:
    assert listed("v3,aa v1,bb  v3,cc", "v3,", lambda text: text.encode()) == [b"aa", b"cc"]


# --- Ed25519 --------------------------------------------------------------------------------------

KEY = SigningKey(b"\x01" * 32)
LINES = {"x-p-task-id": "t1", "x-p-user-id": "u1", "x-p-timestamp": "1614265330"}


def signed(body: bytes = BODY, key: SigningKey = KEY, lines: dict[str, str] = LINES) -> dict[str, str]:
    message = "\n".join((*lines.values(), hashlib.sha256(body).hexdigest()))
    return lines | {"x-p-signature": key.sign(message.encode()).signature.hex()}


def fits_key(headers: dict[str, str], body: bytes = BODY, at: datetime = SIGNED_AT) -> bool:
    keys = SigningKeys(fits=public_key(bytes(KEY.verify_key)))
    return is_signed_by_key(callback(headers, body, at), keys, "x-p-", "task-id")


def test_what_the_private_key_signed_passes() -> None:
    assert fits_key(signed())


def test_what_another_key_signed_or_anybody_altered_fails() -> None:
    assert not fits_key(signed(key=SigningKey(b"\x02" * 32)))
    assert not fits_key(signed(), BODY + b" ")
    for name, value in LINES.items():
        assert not fits_key(signed() | {name: value + "1"})
        assert not fits_key({other: text for other, text in signed().items() if other != name})
    for signature in ("", "00", "00" * 64, signed()["x-p-signature"] + "00", "zz" * 64):
        assert not fits_key(signed() | {"x-p-signature": signature})
    for seconds in (301, -301):
        assert not fits_key(signed(), at=SIGNED_AT + timedelta(seconds=seconds))


@pytest.mark.parametrize("raw", [bytes(32), b"\x01" + bytes(31)])
def test_a_key_of_small_order_fits_nothing(raw: bytes) -> None:
    # For such keys some libraries take signatures that anybody can make (all zeroes, or the key twice).
    fits = public_key(raw)
    for signature in (bytes(64), raw + bytes(32), b"\x01" + bytes(63)):
        assert not fits(signature, b"anything")


def test_the_first_vector_of_the_standard_fits() -> None:
    # RFC 8032, section 7.1, test 2: one byte.
    raw = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert public_key(raw)(signature, b"\x72")
    assert not public_key(raw)(signature, b"\x73")
