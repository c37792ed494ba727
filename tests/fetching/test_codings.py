import gzip
import random
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import FetchFailed
from receiver.fetching.codings import MOST_MEMBERS, PIECE_BYTES, Unpacker, coding_of
from receiver.models import Outcome

BODY = random.Random(7).randbytes(1000) + b"\0" * 3 * PIECE_BYTES + b"the end"


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


PACKED = {
    "gzip": ("gzip", gzip.compress(BODY)),
    "gzip in members": ("gzip", b"".join(gzip.compress(part) for part in (BODY[:7], b"", BODY[7:]))),
    "gzip and a tail": ("gzip", gzip.compress(BODY) + b"\0\0tail\x1f\x8b"),
    "zlib": ("deflate", zlib.compress(BODY)),
    "zlib and a tail": ("deflate", zlib.compress(BODY) + b"tail"),
    "deflate without a wrapper": ("deflate", raw_deflate(BODY)),
    "what is not packed": ("gzip", BODY),
    "what begins as gzip for one byte": ("gzip", b"\x1f" + BODY),
}


def unpacked(coding: str, *parts: bytes) -> bytes:
    unpacker = Unpacker(coding)
    pieces = [piece for part in parts for piece in unpacker.feed(part)]
    assert all(0 < len(piece) <= max(PIECE_BYTES, *map(len, parts)) for piece in pieces)
    return b"".join(pieces) + unpacker.finish()


@pytest.mark.parametrize(
    "label", ["gzip", "GZip", "x-gzip", " gzip ", "identity, gzip", "gzip;q=1", "base64,gzip"]
)
def test_gzip_is_known_by_all_its_names(label: str) -> None:
    assert coding_of(label) == "gzip"


@pytest.mark.parametrize(
    "label",
    [
        *("", ",", "identity", "base64", "UTF-8", "binary", "none", "aws-chunked", "utf-8, binary"),
        *("x", "gzipped", "br0", "image/png", "\udcff"),
    ],
)
def test_what_is_no_coding_says_nothing(label: str) -> None:
    assert coding_of(label) is None


@pytest.mark.parametrize(
    "label", ["br", "zstd", "compress", "dcb", "DCZ", "identity, br", "gzip, gzip", "gzip,br"]
)
def test_a_coding_that_is_not_unpacked_is_refused_in_words(label: str) -> None:
    with pytest.raises(FetchFailed, match="the body is packed") as caught:
        coding_of(label)
    assert caught.value.outcome is Outcome.NOT_AN_IMAGE


@pytest.mark.parametrize("name", PACKED)
def test_a_body_is_unpacked_however_it_was_packed_and_cut(name: str) -> None:
    coding, packed = PACKED[name]
    body = b"\x1f" + BODY if name == "what begins as gzip for one byte" else BODY
    for size in (1, 2, 3, 1000, len(packed)):
        parts = [packed[start : start + size] for start in range(0, len(packed), size)]
        assert unpacked(coding, *parts[:2000], b"".join(parts[2000:])) == body


def test_next_to_nothing_is_handed_on_as_it_is() -> None:
    assert unpacked("gzip", b"") == b""
    assert unpacked("gzip", b"\x1f") == b"\x1f"
    assert unpacked("deflate", b"x") == b"x"


@pytest.mark.parametrize("name", ["gzip", "zlib", "deflate without a wrapper"])
def test_packed_data_that_ends_early_is_truncated(name: str) -> None:
    coding, packed = PACKED[name]
    for length in (2, 20, len(packed) - 1):
        with pytest.raises(FetchFailed, match="ends before") as caught:
            unpacked(coding, packed[:length])
        assert caught.value.outcome is Outcome.TRUNCATED


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_packed_data_that_is_damaged_is_refused(coding: str) -> None:
    packed = bytearray(gzip.compress(BODY) if coding == "gzip" else zlib.compress(BODY))
    packed[-6 if coding == "gzip" else -2] ^= 1  # of the checksum
    with pytest.raises(FetchFailed, match="though it says so") as caught:
        unpacked(coding, bytes(packed))
    assert caught.value.outcome is Outcome.NOT_AN_IMAGE


def test_a_bomb_is_handed_out_in_small_pieces() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    tracemalloc.start()
    try:
        assert sum(len(piece) for piece in Unpacker("gzip").feed(bomb)) == 50_000_000
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_no_end_of_empty_parts_is_unpacked() -> None:
    part = gzip.compress(b"")
    few = [part * 100] * (MOST_MEMBERS // 100)

    assert unpacked("gzip", *few) == b""
    with pytest.raises(FetchFailed, match="more than 10000 parts") as caught:
        unpacked("gzip", *few, part)
    assert caught.value.outcome is Outcome.TOO_LARGE


@given(st.sampled_from(["gzip", "deflate"]), st.lists(st.binary(max_size=300), max_size=5), st.booleans())
def test_no_bytes_make_it_fail_in_another_way(coding: str, parts: list[bytes], starts_well: bool) -> None:
    start = [b"\x1f\x8b\x08\0\0\0\0\0\0\xff" if coding == "gzip" else b"\x78\x9c"] if starts_well else []
    with suppress(FetchFailed):
        unpacked(coding, *start, *parts, b"")
