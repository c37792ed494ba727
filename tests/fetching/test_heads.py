import h11
import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.fetching.heads import MAX_HEAD_BYTES, TidyStream, tidy_head

OK = b"HTTP/1.1 200 OK\r\n"
DECIDING = {b"content-length", b"transfer-encoding", b"content-encoding", b"location"}

# Lines that are no HTTP and say nothing that we go by.
IDLE = [
    b"X-Frame-Options : DENY",
    b"X-Frame-Options\t: DENY",
    b"X Powered By: PHP",
    b"HTTP/1.1 200 OK",
    b"a line without a colon",
    b": a value without a name",
    b":",
    b"X-Gr\xc3\xbc\xc3\x9fe: hallo",
    b"X-Note: form\x0cfeed",
    b"X(comment): y",
    b'"Quoted": y',
    b"Permissions-Policy : geolocation=()",
    b"Access-Control-Expose-Headers : Content-Length, Location",
    b"Content-Location : /elsewhere",
    b"X-Bad : a\r\n  and its second line",
    b" a line that continues nothing",
]
# Lines that are no HTTP and could be taken for what decides.
TELLING = [
    b"Content-Length : 5",
    b"Content-Length\t: 5",
    b" Content-Length: 5",
    b"Content Length: 5",
    b"Content_Length : 5",
    b"Content-Length=5",
    b"content-length",
    b": Content-Length: 5",
    b"\xefContent-Length: 5",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\xa0: chunked",
    b"Content-Encoding : gzip",
    b"Location : /y",
    b"Location /y",
    b"Content-Length: 5\x0c",
    b"X-Bad : a\r\n Content-Length: 5",
    b"X-Bad : a\0",
    b"X-Bad: a\rContent-Length: 5",
    b"X-Bad : a\r\r",
]


def fields_of(head: bytes) -> list[tuple[bytes, bytes]] | None:
    """What the parser makes of a head; None where it refuses."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.receive_data(head)
    try:
        answer = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(answer, h11.Response)
    return list(answer.headers)


@pytest.mark.parametrize("line", IDLE)
def test_a_malformed_line_that_decides_nothing_is_passed_over(line: bytes) -> None:
    for head in (
        OK + line + b"\r\nContent-Length: 5\r\n\r\n",
        OK + b"Content-Length: 5\r\n" + line.replace(b" a line", b"a line") + b"\r\n\r\n",
        OK.replace(b"\r", b"") + line.replace(b"\r", b"") + b"\nContent-Length: 5\n\n",
    ):
        assert fields_of(head) is None
        assert fields_of(tidy_head(head)) == [(b"content-length", b"5")]


@pytest.mark.parametrize("line", TELLING)
def test_a_malformed_line_that_could_decide_is_left_for_the_parser_to_refuse(line: bytes) -> None:
    for end in (b"\r\n", b"\n"):
        head = OK + line + end + b"X: y" + end + end
        assert tidy_head(head) == head
        assert fields_of(head) is None


@pytest.mark.parametrize(
    "head",
    [
        OK + b"\r\n",
        b"HTTP/1.1 200\n\n",
        OK + b"A: b\r\n c\r\n\td\r\nEmpty:\r\nTabs:\t x \t\r\nX!#$%&'*+-.^_`|~: \x01\x7f\xff\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",  # refused, and not by us
    ],
)
def test_a_well_formed_head_is_left_as_it_is(head: bytes) -> None:
    assert tidy_head(head) == head


LINES = st.one_of(
    st.sampled_from([*IDLE, *TELLING, b"A: b", b" c", b"Content-Length: 5", b"Content-Encoding: gzip"]),
    st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")),
)


@given(st.lists(LINES, max_size=6), st.sampled_from([b"\r\n", b"\n"]))
def test_what_decides_is_neither_hidden_nor_made_by_what_is_passed_over(
    lines: list[bytes], end: bytes
) -> None:
    head = OK + b"".join(line + end for line in lines if line.strip(b"\r")) + end
    before, after = fields_of(head), fields_of(tidy_head(head))
    if before is not None:  # it was well-formed
        assert after == before
    elif after is not None:
        told = {line.lower().partition(b":")[0] for line in lines if b":" in line}
        assert {name for name, _ in after} <= told
        assert told & DECIDING <= {name for name, _ in after}


# --- the stream -----------------------------------------------------------------------------------


class Pieces(httpcore2.AsyncNetworkStream):
    """A connection on which these pieces come, one by one."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        pass


async def read_all(stream: TidyStream) -> bytes:
    parts = []
    while part := await stream.read(65_536):
        parts.append(part)
    return b"".join(parts)


BAD = b"X-Bad : y\r\n"
BODY = b"body " + BAD + b"\r\n\r\n" + BAD


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_heads_are_tidied_and_bodies_are_not_however_they_come(size: int) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\n" + BAD + b"Link: x\r\n\r\n" + b"HTTP/1.1 100\n\n"
    whole = interim + OK + BAD + b"Length: 5\r\n\r\n" + BODY
    stream = TidyStream(Pieces(*(whole[n : n + size] for n in range(0, len(whole), size))))
    await stream.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await read_all(stream) == interim.replace(BAD, b"") + OK + b"Length: 5\r\n\r\n" + BODY


async def test_each_answer_on_a_connection_has_its_head() -> None:
    stream = TidyStream(Pieces(OK + BAD + b"\r\n" + BODY, BODY, OK + BAD + b"\r\n" + BODY))
    await stream.write(b"one")
    assert [await stream.read(65_536) for _ in range(3)] == [OK + b"\r\n", BODY, BODY]
    await stream.write(b"two")
    assert [await stream.read(65_536) for _ in range(2)] == [OK + b"\r\n", BODY]


@pytest.mark.parametrize(
    "whole", [b"", OK + BAD, b"\r\n" + OK + BAD + b"\r\n", b"\x16\x03\x01" + BAD + b"\r\n\r\n"]
)
async def test_what_is_no_whole_head_comes_as_it_is(whole: bytes) -> None:
    assert await read_all(TidyStream(Pieces(whole))) == whole


@pytest.mark.parametrize("piece", [b"X: y\r\n", b"HTTP/1.1 100 X\r\n\r\n"])
async def test_heads_without_end_are_given_up(piece: bytes) -> None:
    host = Pieces(b"HTTP/1.1 100 X\r\n", *[piece * 100] * 1000)
    with pytest.raises(httpcore2.RemoteProtocolError, match="headers without end"):
        await read_all(TidyStream(host))
    assert len(host.pieces) >= 1000 - MAX_HEAD_BYTES // (100 * len(piece)) - 2
