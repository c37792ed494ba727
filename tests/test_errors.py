"""What exceptions tell of what led to them."""

import socket
import ssl

import pytest

from receiver.errors import causes, wire_outcome
from receiver.words import Outcome


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
