"""Each provider's scheme against implementations that nobody here wrote, in both directions.

Standard Webhooks by its reference library and by OpenAI's client (Svix's only calls the former), HMAC and
Ed25519 by ``cryptography``. Each signature is checked with keys that are being replaced, after every
alteration, at every age, and by all other schemes.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import standardwebhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from openai import InvalidWebhookSignatureError, OpenAI

from receiver.models import SigningKeys
from receiver.plugins import load
from receiver.signing.ed25519 import public_key
from receiver.testing import sample_callback
from tests.support import signatures
from tests.support.signatures import MOMENT, OLD_SECRET, SECRET, SIGNED_AT, callback, forgeries

SEED, OLD_SEED, NOBODYS_SEED = b"\x07" * 32, b"\x08" * 32, b"\x09" * 32
NOBODYS_SECRET = "whsec_" + base64.b64encode(b"a secret that nobody has").decode()

Sign = Callable[[bytes, str], Mapping[str, str]]  # from a body and a secret, or the seed of a key in hex


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """How one provider signs, by foreign code."""

    provider: str
    sign: Sign
    by_key: bool = False
    covers_body: bool = True
    has_time: bool = True

    @property
    def body(self) -> bytes:
        return sample_callback(self.provider, "t-1")

    def keys(self, *given: str) -> SigningKeys:
        if not self.by_key:
            return SigningKeys(secrets=given)
        fits = [public_key(_private(each).public_key().public_bytes_raw()) for each in given]
        return SigningKeys(fits=lambda signature, message: any(each(signature, message) for each in fits))

    @property
    def new_old_and_nobodys(self) -> tuple[str, str, str]:
        if self.by_key:
            return SEED.hex(), OLD_SEED.hex(), NOBODYS_SEED.hex()
        return SECRET, OLD_SECRET, NOBODYS_SECRET

    def passes(
        self, headers: Mapping[str, str], *keys: str, body: bytes | None = None, age: float = 0
    ) -> bool:
        """Whether the provider's adapter takes a request, so many seconds after it was signed."""
        sent = callback(headers, self.body if body is None else body, SIGNED_AT + timedelta(seconds=age))
        taken: bool = load("providers", self.provider)().verify(sent, self.keys(*keys))
        return taken


def _private(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))


def _hmac(key: bytes, message: bytes) -> bytes:
    made = hmac.HMAC(key, hashes.SHA256())
    made.update(message)
    return made.finalize()


def _three(signature: str) -> Mapping[str, str]:
    return {"webhook-id": "msg_1", "webhook-timestamp": MOMENT, "webhook-signature": signature}


def _reference(body: bytes, secret: str) -> Mapping[str, str]:
    return _three(standardwebhooks.Webhook(secret).sign("msg_1", SIGNED_AT, body.decode()))


def _standard(body: bytes, secret: str) -> Mapping[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = _hmac(key, b"msg_1.%b.%b" % (MOMENT.encode(), body))
    return _three(f"v1,{base64.b64encode(made).decode()}")


def _wavespeed(body: bytes, secret: str) -> Mapping[str, str]:
    key = secret.removeprefix("whsec_").encode()
    return _three(f"v3,{_hmac(key, b'msg_1.%b.%b' % (MOMENT.encode(), body)).hex()}")


def _bfl(body: bytes, secret: str) -> Mapping[str, str]:
    return {"x-bfl-signature": f"sha256={_hmac(secret.encode(), body).hex()}"}


def _kie(_: bytes, secret: str) -> Mapping[str, str]:
    made = _hmac(secret.encode(), f"t-1.{MOMENT}".encode())
    return {"x-webhook-timestamp": MOMENT, "x-webhook-signature": base64.b64encode(made).decode()}


def _by_key(prefix: str, subject: str) -> Sign:
    def sign(body: bytes, seed: str) -> Mapping[str, str]:
        lines = {f"{prefix}{subject}": "t-1", f"{prefix}user-id": "user-1", f"{prefix}timestamp": MOMENT}
        message = "\n".join((*lines.values(), hashlib.sha256(body).hexdigest())).encode()
        return lines | {f"{prefix}signature": _private(seed).sign(message).hex()}

    return sign


def _piapi(_: bytes, secret: str) -> Mapping[str, str]:
    return {"x-webhook-secret": secret}


def _leonardo(_: bytes, secret: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {secret}"}


SCHEMES = {
    "replicate": Scheme(provider="replicate", sign=_reference),
    "replicate by hand": Scheme(provider="replicate", sign=_standard),
    "openai": Scheme(provider="openai", sign=_reference),
    "openai by hand": Scheme(provider="openai", sign=_standard),
    "wavespeed": Scheme(provider="wavespeed", sign=_wavespeed),
    "bfl": Scheme(provider="bfl", sign=_bfl, has_time=False),
    "kie": Scheme(provider="kie", sign=_kie, covers_body=False),
    "fal": Scheme(provider="fal", sign=_by_key("x-fal-webhook-", "request-id"), by_key=True),
    "ideogram": Scheme(
        provider="ideogram", sign=_by_key("x-ideogram-webhook-", "generation-id"), by_key=True
    ),
    "piapi": Scheme(provider="piapi", sign=_piapi, covers_body=False, has_time=False),
    "leonardo": Scheme(provider="leonardo", sign=_leonardo, covers_body=False, has_time=False),
}
every_scheme = pytest.mark.parametrize("name", SCHEMES)


@every_scheme
def test_while_keys_are_replaced_what_either_signed_passes_and_nothing_else(name: str) -> None:
    scheme = SCHEMES[name]
    new, old, nobodys = scheme.new_old_and_nobodys
    for key in (new, old):
        headers = scheme.sign(scheme.body, key)
        assert scheme.passes(headers, new, old)
        assert scheme.passes(headers, old, new)
    assert not scheme.passes(scheme.sign(scheme.body, old), new)
    assert not scheme.passes(scheme.sign(scheme.body, nobodys), new, old)
    assert not scheme.passes(scheme.sign(scheme.body, new))


@every_scheme
def test_every_altered_byte_of_the_body_counts_where_it_is_signed(name: str) -> None:
    scheme = SCHEMES[name]
    new, old, _ = scheme.new_old_and_nobodys
    headers, body = scheme.sign(scheme.body, new), scheme.body
    assert load("providers", scheme.provider)().facts.signs_body is scheme.covers_body
    if not scheme.covers_body:
        assert scheme.passes(headers, new, old, body=body.replace(b"}", b"} ", 1))
        return
    altered = {body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :] for at in range(len(body))}
    for other in (*altered, body[:-1], body + b"\n", b"", body * 2):
        assert not scheme.passes(headers, new, old, body=other)


@every_scheme
def test_every_altered_header_counts(name: str) -> None:
    scheme = SCHEMES[name]
    new, old, _ = scheme.new_old_and_nobodys
    adapter, keys = load("providers", scheme.provider)(), scheme.keys(new, old)
    right = scheme.sign(scheme.body, new)
    for forged in forgeries(right, scheme.body, covers_body=scheme.covers_body, has_time=scheme.has_time):
        assert not adapter.verify(forged, keys), dict(forged.headers)


@every_scheme
def test_what_is_too_old_or_of_the_future_fails_where_the_time_is_signed(name: str) -> None:
    scheme = SCHEMES[name]
    new, _, _ = scheme.new_old_and_nobodys
    headers = scheme.sign(scheme.body, new)
    for age in (-300, 0, 300):
        assert scheme.passes(headers, new, age=age)
    for age in (-86_400 * 400, -301, 301, 86_400 * 400):
        assert scheme.passes(headers, new, age=age) is not scheme.has_time


@pytest.mark.parametrize("signer", SCHEMES)
@every_scheme
def test_no_provider_takes_what_another_one_signed(name: str, signer: str) -> None:
    """Replicate, OpenAI and WaveSpeed have the same headers; the first two share a scheme, too."""
    checker, other = SCHEMES[name], SCHEMES[signer]
    if {checker.provider, other.provider} <= {"replicate", "openai"} or checker.provider == other.provider:
        return
    body = checker.body
    headers = other.sign(body, other.new_old_and_nobodys[0])
    assert not checker.passes(headers, checker.new_old_and_nobodys[0], body=body)


def test_what_we_make_of_standard_webhooks_passes_there() -> None:
    body = b'{"id": "a", "prompt": "\xc3\xbcn\xc3\xaf"}'
    moment = str(int(datetime.now(UTC).timestamp()))
    right = dict(signatures.standard(body, SECRET, moment))
    wrongs = [dict(signatures.wavespeed(body)), right | {"webhook-id": "msg_2"}]
    reference, client = standardwebhooks.Webhook(SECRET), OpenAI(api_key="none", webhook_secret=SECRET)
    reference.verify(body.decode(), right)
    client.webhooks.verify_signature(body, right)
    for wrong in wrongs:
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            reference.verify(body.decode(), wrong)
        with pytest.raises((InvalidWebhookSignatureError, ValueError)):
            client.webhooks.verify_signature(body, wrong)


def test_what_we_make_of_ed25519_passes_there() -> None:
    body = sample_callback("fal", "t-1")
    headers = signatures.by_key("x-fal-webhook-", "request-id", body)
    *lines, signature = headers.values()
    message = "\n".join((*lines, hashlib.sha256(body).hexdigest())).encode()
    public = Ed25519PublicKey.from_public_bytes(bytes(signatures.KEY.verify_key))
    public.verify(bytes.fromhex(signature), message)
    with pytest.raises(InvalidSignature):
        public.verify(bytes.fromhex(signature), message + b"\n")


@pytest.mark.parametrize(
    ("provider", "headers"),
    [
        (
            "wavespeed",
            {
                "webhook-id": "msg_1",
                "webhook-timestamp": MOMENT,
                "webhook-signature": "v3,94b5d72172d188e1bff37067dbf09b0c0812674dc365baa4706ffe1736f766f6",
            },
        ),
        (
            "bfl",
            {"x-bfl-signature": "sha256=594e466a7ee2daff3d48b4000013078d5dcc371416eb1e6bf733c49787beb3d9"},
        ),
    ],
)
def test_answers_that_were_worked_out_elsewhere_are_known(provider: str, headers: Mapping[str, str]) -> None:
    """Of the secret ``example-secret``, by ``openssl dgst -sha256 -hmac``."""
    known = callback(headers, b'{"test": 2432232314}')
    assert load("providers", provider)().verify(known, SigningKeys(secrets=("example-secret",)))
