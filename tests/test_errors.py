"""What exceptions tell of what led to them."""

import socket
import ssl

import pytest

from receiver.errors import causes, tls_words, wire_outcome, with_words
from receiver.models import Outcome


def wrapped(inner: Exception, *, named: bool) -> Exception:
    """What a driver makes of an exception: another one, raised ``from`` it or merely after it."""
    outer = RuntimeError("the driver's own")
    if named:
        outer.__cause__ = inner
    else:
        outer.__context__ = inner
    return outer


@pytest.mark.parametrize("named", [True, False])
def test_an_exception_is_followed_by_what_led_to_it(*, named: bool) -> None:
    inner = OSError("the wire")
    outer = wrapped(inner, named=named)
    assert list(causes(outer)) == [outer, inner]
    assert list(causes(None)) == []


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("inner", "outcome"),
    [
        (ssl.SSLCertVerificationError(1, "expired"), Outcome.TLS_FAILED),
        (ssl.SSLEOFError(8, "closed"), Outcome.TLS_FAILED),
        (socket.gaierror(-2, "unknown"), Outcome.DNS_FAILED),
        (ConnectionRefusedError(111, "refused"), None),
        (TimeoutError(), None),
        (ValueError(), None),
    ],
)
def test_tls_and_names_that_fail_are_known_however_a_driver_wraps_them(
    inner: Exception, outcome: Outcome | None, *, named: bool
) -> None:
    assert wire_outcome(inner) is outcome
    assert wire_outcome(wrapped(wrapped(inner, named=named), named=named)) is outcome


def verification_error(words: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "secret")
    error.verify_message = words
    return error


def tls_error(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError(1, "secret")
    error.reason = reason  # type: ignore[assignment]
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (verification_error("Missing Authority Key Identifier"), "Missing Authority Key Identifier"),
        (
            verification_error("Hostname mismatch, certificate is not valid for 'files.example.com'."),
            "Hostname mismatch, certificate is not valid for it",
        ),
        (
            verification_error("IP address mismatch, certificate is not valid for '93.184.215.14'."),
            "IP address mismatch, certificate is not valid for it",
        ),
        (
            verification_error("\u201cfiles.example.com\u201d certificate is not trusted"),
            "it certificate is not trusted",
        ),
        (tls_error("WRONG_VERSION_NUMBER"), "wrong version number"),
        (tls_error(None), ""),
        (OSError(5, "secret"), ""),
    ],
)
def test_why_tls_failed_is_told_in_openssls_words_and_without_the_host(error: Exception, words: str) -> None:
    assert tls_words(error) == words
    assert tls_words(wrapped(error, named=False)) == words
    assert tls_words(RuntimeError(error)) == words


def test_what_is_not_known_is_not_said() -> None:
    assert with_words("the connection failed", "") == "the connection failed"
    assert (
        with_words("the connection failed", "wrong version number")
        == "the connection failed: wrong version number"
    )


def test_an_exception_that_led_to_itself_is_looked_at_once() -> None:
    first, second = OSError("first"), OSError("second")
    first.__cause__, second.__context__ = second, first
    assert list(causes(first)) == [first, second]
    assert wire_outcome(first) is None
