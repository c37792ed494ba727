"""Links, addresses and files that nobody thought of; Python's view of addresses is a second opinion."""

import asyncio
import string
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from receiver.errors import FetchFailed
from receiver.fetching import media
from receiver.fetching.addresses import Standing, Target, check_url, is_literal, judge
from receiver.fetching.client import GuardedClient
from receiver.models import Outcome
from tests.hostile.corpus import NO_TRUST, urls
from tests.hostile.images import LIES, POLYGLOTS
from tests.support.fake_world import FakeWorld
from tests.support.image_bytes import animated
from tests.support.media_host import picture

NAT64 = ip_network("64:ff9b::/96")
GUARDS_OWN = {Outcome.BAD_URL, Outcome.PRIVATE_ADDRESS}
SPECIAL = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "172.16.0.1", "100.64.0.1", "0.0.0.0"]


def embedded(address: IPv4Address) -> st.SearchStrategy[str]:
    """The ways in which IPv6 holds an IPv4 address, and those in which resolvers read one."""
    number, parts = int(address), str(address).split(".")
    low = f"{number >> 16:x}:{number & 0xFFFF:x}"
    return st.sampled_from(
        [
            *(f"[{form}{low}]" for form in ("::", "::ffff:", "::ffff:0:", "64:ff9b::", "64:ff9b:1::")),
            *(f"[{form}{address}]" for form in ("::", "::ffff:", "64:ff9b::", "2a00:1450::5efe:")),
            *(f"[2002:{low}::1]", f"[2001:0:{low}::]", f"[fe80::5efe:{low}]", f"[2a00::200:5efe:{low}]"),
            *(str(number), f"{number:#x}", f"0{number:o}", f"00{number:o}"),
            *(".".join(hex(int(part)) for part in parts), ".".join(f"0{int(part):o}" for part in parts)),
            *(f"{parts[0]}.{number & 0xFFFFFF}", f"{parts[0]}.{parts[1]}.{number & 0xFFFF}"),
            *(f"{address}.", f"{address}..", f"{address}%00", f"{address}\u3002", f"[{address}]"),
            str(address),
        ]
    )


ADDRESSES = st.one_of(st.sampled_from(SPECIAL).map(IPv4Address), st.integers(0, 2**32 - 1).map(IPv4Address))
LABELS = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=12)
HOSTS = st.one_of(
    ADDRESSES.flatmap(embedded),
    st.integers(0, 2**128 - 1).map(lambda number: f"[{IPv6Address(number)}]"),
    st.integers(2**125, 2**126 - 1).map(lambda number: f"[{IPv6Address(number)}]"),
    st.lists(LABELS, min_size=1, max_size=4).map(".".join),
    st.text(max_size=20),
)
URLS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["https", "http", "HTTPS", "ftp", "file", "", "https\t"]),
        st.sampled_from(["://", ":/", ":", "//", ":\\\\", ":///"]),
        st.sampled_from(["", "", "", "user@", "example.com@", "127.0.0.1:80@", "@", "a\\@"]),
        HOSTS,
        st.sampled_from(["", "", ":443", ":80", ":0", ":", ":443@", ":99999", ":\u0664"]),
        st.one_of(st.just(""), st.text(max_size=20).map(lambda text: f"/{text}"), st.text(max_size=5)),
    ),
)
CORPUS = [line.url for line in urls() if len(line.url) < 1000]


def contradiction(address: str) -> str | None:
    """Why Python would not call an address public; None where it agrees that it is."""
    ip = ip_address(address)
    if ip.version == 6 and ip in NAT64 and "%" not in address:
        return contradiction(str(IPv4Address(int(ip) & 0xFFFF_FFFF)))
    embedded_ones = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())] if isinstance(ip, IPv6Address) else []
    for one in (ip, *(found for found in embedded_ones if found is not None)):
        for kind in ("private", "loopback", "link_local", "multicast", "reserved", "unspecified"):
            if getattr(one, f"is_{kind}"):
                return f"{one} is {kind}"
    if isinstance(ip, IPv6Address) and ip.is_site_local:
        return "site-local"
    return None if ip.is_global else "not global"


def passes(url: str) -> Target | None:
    """What the guard makes of a link; whatever it raises but its own failures, the test fails."""
    try:
        return check_url(url)
    except FetchFailed as exc:
        if exc.outcome not in GUARDS_OWN:
            raise
        return None


@settings(max_examples=500, deadline=None)
@given(st.one_of(URLS, st.text(), st.sampled_from(CORPUS)), st.data())
def test_no_link_gets_by_that_python_would_call_private(url: str, data: st.DataObject) -> None:
    if data.draw(st.booleans()) and url:  # and one letter of it another one
        place = data.draw(st.integers(0, len(url) - 1))
        url = url[:place] + data.draw(st.characters()) + url[place + 1 :]
    target = passes(url)
    if target is None:
        return
    assert (target.scheme, target.port) == ("https", 443)
    assert check_url(target.url) == target
    assert not set(target.host + target.path) & set("\r\n\t\0 \\")
    if is_literal(target.host):
        assert contradiction(target.host) is None
    else:
        assert target.host.isascii()
        assert not target.host.split(".")[-1].isdigit()


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number))),
        st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
        st.integers(2**125, 2**126 - 1).map(lambda number: str(IPv6Address(number))),
        ADDRESSES.flatmap(embedded).map(lambda host: host.strip("[]")),
        st.text(max_size=40),
    )
)
@example("fe80::1%eth0")
@example("2606:4700:4700::1111%eth0")
@example("")
def test_no_address_is_public_that_python_would_call_private(address: str) -> None:
    if judge(address) is Standing.PUBLIC:
        assert contradiction(address) is None
        assert "%" not in address


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(ADDRESSES.map(str), st.integers(2**125, 2**126 - 1).map(IPv6Address).map(str)), max_size=6
    )
)
def test_nothing_is_dialled_unless_every_answer_is_public(answers: list[str]) -> None:
    async def dialled() -> list[str]:
        world = FakeWorld({}, otherwise=answers)
        world.dead = set(answers)
        client = GuardedClient(resolve=world.resolve, dial=world.dial, tls=NO_TRUST)
        with pytest.raises(FetchFailed):
            async with client.get(client.check("https://files.example.com/x")):
                pass
        await client.aclose()
        return world.dialled

    tried = asyncio.run(dialled())
    public = all(contradiction(answer) is None for answer in answers)
    assert public or tried == [], answers
    assert tried == list(dict.fromkeys(answers))[: len(tried)]


FILES = [
    *(picture(name, (16, 12)) for name in ("PNG", "JPEG", "WEBP", "GIF", "AVIF")),
    *(animated(name) for name in ("PNG", "WEBP", "GIF", "AVIF")),
    *(case.make() for name, case in (LIES | POLYGLOTS).items() if "000" not in name and "packed" not in name),
]
ENDS = {None, Outcome.NOT_AN_IMAGE, Outcome.TRUNCATED, Outcome.TOO_MANY_PIXELS}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.sampled_from(FILES).map(bytearray),
    changes=st.lists(
        st.tuples(
            st.floats(0, 1),
            st.one_of(
                st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff"])
            ),
            st.sampled_from(["put", "insert", "drop", "repeat"]),
        ),
        max_size=6,
    ),
)
def test_no_file_makes_the_inspection_fail_in_another_way(
    tmp_path: Path, data: bytearray, changes: list[tuple[float, bytes, str]]
) -> None:
    data = bytearray(data)
    for place, piece, how in changes:
        start = int(place * min(len(data), 400))
        end = start + (0 if how == "insert" else len(piece))
        data[start:end] = {"put": piece, "insert": piece, "drop": b"", "repeat": data[start:end] * 3}[how]
    path = tmp_path / "file"
    path.write_bytes(data)
    outcome = None
    try:
        info = media.inspect(path, allowed_kinds=media.KINDS, max_pixels=1_000_000)
    except FetchFailed as exc:
        outcome = exc.outcome
    else:
        assert info.media_type.startswith("image/") is (info.width is not None)
        assert (info.width or 1) * (info.height or 1) <= 1_000_000
    assert outcome in ENDS


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\x40\0\0\0WEBP", b"\0\0\0\x14ftypavif"]
    ),
    st.binary(max_size=300),
)
def test_no_bytes_behind_a_magic_number_fail_in_another_way(
    tmp_path: Path, magic: bytes, rest: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(magic + rest)
    with pytest.raises(FetchFailed) as caught:
        media.inspect(path, allowed_kinds=frozenset({media.IMAGE}), max_pixels=1_000_000)
    assert caught.value.outcome in ENDS
