"""Which ``traceparent`` is usable is decided as W3C Trace Context has it."""

import pytest

from receiver.traceparent import read_traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize("header", [GOOD, f"00-{TRACE}-{PARENT}-00", f"00-{TRACE}-{PARENT}-03"])
def test_a_usable_one_is_kept_as_it_is(header: str) -> None:
    assert read_traceparent([header]) == header
    assert read_traceparent([f" {header}\t"]) == header


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        GOOD.upper(),
        GOOD.replace("-", "_"),
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}a-{PARENT}-01",
        f"00-{TRACE[:-1]}g-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-0x",
        f"{GOOD}-more",
        f"{GOOD}-",
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-\u0660\u0661",
    ],
)
def test_a_broken_one_counts_as_none(header: str) -> None:
    assert read_traceparent([header]) is None


def test_without_one_or_with_two_there_is_none() -> None:
    assert read_traceparent([]) is None
    assert read_traceparent([GOOD, GOOD]) is None


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (f"01-{TRACE}-{PARENT}-01", "01"),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", "01"),
        (f"cc-{TRACE}-{PARENT}-fe-", "00"),
    ],
)
def test_a_later_version_is_read_as_far_as_it_is_understood(header: str, flags: str) -> None:
    assert read_traceparent([header]) == f"00-{TRACE}-{PARENT}-{flags}"


@pytest.mark.parametrize("header", [f"cc-{TRACE}-{PARENT}-01.what", f"cc-{TRACE}-{PARENT}-010"])
def test_a_later_version_has_its_further_fields_behind_a_dash(header: str) -> None:
    assert read_traceparent([header]) is None
