from ipaddress import IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import FetchFailed
from receiver.fetching.addresses import Standing, Target, check_url, destination, judge
from receiver.models import MAX_URL_LENGTH, Outcome

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def outcome_of(url: str, *, opened: bool = False, hosts: tuple[str, ...] = ()) -> Outcome | None:
    try:
        check_url(url, opened=LOOPBACK if opened else (), hosts=hosts)
    except FetchFailed as exc:
        return exc.outcome
    return None


@pytest.mark.parametrize(
    "address",
    [
        # this host, private, shared, loopback, link-local, each with its borders
        *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255"),
        *("127.0.0.1", "127.255.255.255", "169.254.0.1", "169.254.255.255"),
        *("172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"),
        # metadata and platform services
        *("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("fd00:ec2::254", "fdaa::3"),
        # assignments, documentation, benchmarks, multicast, reserved
        *("192.0.0.9", "192.0.0.255", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1"),
        *("192.175.48.1", "198.18.0.0", "198.19.255.255", "198.51.100.1", "203.0.113.255"),
        *("224.0.0.0", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        # IPv6 that is not global unicast
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "5f00::1", "100::1"),
        *("1fff:ffff::1", "4000::1"),
        # IPv4 in IPv6 clothes, around private and public addresses alike
        *("::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "::ffff:0:127.0.0.1", "::ffff:8.8.8.8"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b::6464:64c8", "64:ff9b::"),
        *("64:ff9b::8.8.8.8%eth0", "64:ff9b:0:0:0:1:808:808", "64:ff9b:1::1", "64:ff9b:1::808:808"),
        *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1", "2001:0:7f00:1::1"),
        *("fe80::5efe:7f00:1", "::5efe:7f00:1", "2a00:1450::5efe:7f00:1", "2a00:1450::200:5efe:808:808"),
        # assignments and documentation within global unicast
        *("2001::1", "2001:1ff:ffff::1", "2001:db8::1", "2620:4f:8000::1", "3fff::1", "3fff:fff::1"),
        # a zone, which no public address has
        "2606:4700:4700::1111%eth0",
        # not addresses
        *("", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "1.2.3.4.5", "::1::"),
    ],
)
def test_a_special_address_is_refused(address: str) -> None:
    assert judge(address) is Standing.REFUSED


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
        *("126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0"),
        *("172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0"),
        *("198.17.255.255", "198.20.0.0", "223.255.255.255"),
        *("2000::1", "2001:200::1", "2606:4700:4700::1111", "2a00:1450:4001:800::200e", "3ffe:ffff::1"),
        "2003::1",
        # NAT64 around public addresses
        *("64:ff9b::808:808", "64:ff9b::1.1.1.1", "64:ff9b::9.255.255.255", "64:ff9b::dfff:ffff"),
    ],
)
def test_an_address_just_outside_the_special_ranges_is_public(address: str) -> None:
    assert judge(address) is Standing.PUBLIC


def test_an_opened_network_opens_its_addresses_and_no_others() -> None:
    opened = (ip_network("10.1.0.0/16"),)
    assert judge("10.1.2.3", opened) is Standing.OPENED
    assert judge("10.2.0.1", opened) is Standing.REFUSED
    assert judge("::ffff:10.1.2.3", opened) is Standing.REFUSED
    assert judge("8.8.8.8", opened) is Standing.PUBLIC


def test_what_a_translator_reaches_is_judged_by_its_ipv4_address() -> None:
    cdn, loopback = ip_network("8.8.8.0/24"), ip_network("127.0.0.0/8")
    assert judge("64:ff9b::8.8.8.8") is Standing.PUBLIC
    assert judge("64:ff9b::8.8.8.8", (cdn,)) is Standing.OPENED
    assert judge("64:ff9b::127.0.0.1", (loopback,)) is Standing.REFUSED  # not this machine's own loopback
    assert judge("64:ff9b::10.0.0.1", (ip_network("64:ff9b::/96"),)) is Standing.OPENED  # opened by name
    assert destination("64:ff9b::8.8.8.8") == "8.8.8.8"
    assert destination("2606:4700::1111") == "2606:4700::1111"


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("https://127.0.0.1/", Outcome.PRIVATE_ADDRESS),
        ("http://127.0.0.1/", Outcome.PRIVATE_ADDRESS),
        ("https://169.254.169.254/latest/meta-data/", Outcome.PRIVATE_ADDRESS),
        ("https://0.0.0.0/", Outcome.PRIVATE_ADDRESS),
        *((f"https://[{address}]/", Outcome.PRIVATE_ADDRESS) for address in ("::", "::1", "0:0:0:0:0:0:0:1")),
        ("https://[::ffff:127.0.0.1]/", Outcome.PRIVATE_ADDRESS),
        ("https://[64:ff9b::7f00:1]:443/", Outcome.PRIVATE_ADDRESS),
        # odd forms of addresses
        *((f"https://{host}/", Outcome.BAD_URL) for host in ("127.1", "2130706433", "0x7f000001", "0x7f.1")),
        *(
            (f"https://{host}/", Outcome.BAD_URL)
            for host in ("0177.0.0.1", "127.0.0.1.", "0", "1.2.3.0x", "1.2.3.256")
        ),
        *(
            (f"https://{host}/", Outcome.BAD_URL)
            for host in ("127。0。0。1", "①②⑦.⓪.⓪.①", "ⓛocalhost", "exam­ple.com")
        ),
        *(
            (f"https://[{host}]/", Outcome.BAD_URL)
            for host in ("fe80::1%25eth0", "::1::", "127.0.0.1", "v1.x", "")
        ),
        # names of internal networks
        *(
            (f"https://{host}/", Outcome.PRIVATE_ADDRESS)
            for host in ("localhost", "LOCALHOST", "ip6-localhost", "minio")
        ),
        *(
            (f"https://{host}/", Outcome.PRIVATE_ADDRESS)
            for host in ("metadata.google.internal", "metadata.goog", "_api.internal", "printer.local")
        ),
        ("https://api.default.svc.cluster.local/", Outcome.PRIVATE_ADDRESS),
        ("https://app.localhost/", Outcome.PRIVATE_ADDRESS),
        ("https://localhost./", Outcome.BAD_URL),
        # credentials and what only looks like a host
        ("https://user@example.com/", Outcome.BAD_URL),
        ("https://user:secret@example.com/", Outcome.BAD_URL),
        ("https://example.com@127.0.0.1/", Outcome.BAD_URL),
        ("https://127.0.0.1@example.com/", Outcome.BAD_URL),
        ("https://example.com\\@127.0.0.1/", Outcome.BAD_URL),
        ("https://1.1.1.1 &@127.0.0.1# @3.3.3.3/", Outcome.BAD_URL),
        ("https://127.0.0.1#@example.com/", Outcome.PRIVATE_ADDRESS),
        ("https://example.com%00.127.0.0.1/", Outcome.BAD_URL),
        ("https://example.com%2e/", Outcome.BAD_URL),
        ("https://xn--/", Outcome.BAD_URL),
        ("https://-example.com/", Outcome.BAD_URL),
        ("https://example..com/", Outcome.BAD_URL),
        (f"https://{'a' * 64}.com/", Outcome.BAD_URL),
        (f"https://{'a' * 300}.com/", Outcome.BAD_URL),
        ("https://" + ".".join(["a" * 60] * 5) + ".com/", Outcome.BAD_URL),
        ("https://münchen.example/", Outcome.BAD_URL),
        # shapes
        *(
            (f"{url}", Outcome.BAD_URL)
            for url in ("http:127.0.0.1", "http:/127.0.0.1", "http:///127.0.0.1", "//127.0.0.1/")
        ),
        *(
            (f"{url}", Outcome.BAD_URL)
            for url in ("", "https://", "https:///x", "https://:443/", "/0.png", "0.png")
        ),
        *((f"https://exa{char}mple.com/", Outcome.BAD_URL) for char in "\t\r\n\0 \x7f\\"),
        *((f"https://example.com/{char}x", Outcome.BAD_URL) for char in "\t\r\n\f\v\0\x1f\x7f\\"),
        *((f"{char}https://example.com/", Outcome.BAD_URL) for char in "\v\0\x1f\xa0\u200b\ufeff\u3000"),
        ("https://example.com/\ud800", Outcome.BAD_URL),
        ("http\u017f://example.com/", Outcome.BAD_URL),
        ("https://example.com/" + "a" * MAX_URL_LENGTH, Outcome.BAD_URL),
        # ports
        *(
            (f"https://example.com:{port}/", Outcome.BAD_URL)
            for port in ("0", "22", "25", "80", "6379", "99999")
        ),
        *(
            (f"https://example.com:{port}/", Outcome.BAD_URL)
            for port in ("", "80:80", "0443", "-1", "\uff14\uff14\uff13", "443x")
        ),
        ("http://example.com/", Outcome.BAD_URL),
        ("http://example.com:443/", Outcome.BAD_URL),
        ("http://8.8.8.8/", Outcome.BAD_URL),
        # schemes
        *(
            (f"{scheme}://example.com/", Outcome.BAD_URL)
            for scheme in (
                "file",
                "ftp",
                "gopher",
                "dict",
                "ldap",
                "tftp",
                "ws",
                "wss",
                "unix",
                "http+unix",
                "netdoc",
            )
        ),
        ("data:image/png;base64,iVBORw0KGgo=", Outcome.BAD_URL),
        ("javascript:alert(1)", Outcome.BAD_URL),
        ("jar:https://example.com/!/x", Outcome.BAD_URL),
        ("file:///etc/passwd", Outcome.BAD_URL),
    ],
)
def test_a_hostile_link_is_refused(url: str, outcome: Outcome) -> None:
    assert outcome_of(url) is outcome


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target(scheme="https", host="example.com", port=443, path="/")),
        (
            "HTTPS://Example.COM:443/A%2fb",
            Target(scheme="https", host="example.com", port=443, path="/A%2fb"),
        ),
        (
            "https://cdn.example.com/a/../b?sig=a%2Bb+c==&x={1}|2#part",
            Target(scheme="https", host="cdn.example.com", port=443, path="/a/../b?sig=a%2Bb+c==&x={1}|2"),
        ),
        ("https://example.com?x=1", Target(scheme="https", host="example.com", port=443, path="/?x=1")),
        (
            "https://my_bucket.example.com/x",
            Target(scheme="https", host="my_bucket.example.com", port=443, path="/x"),
        ),
        (
            "https://xn--mnchen-3ya.example/",
            Target(scheme="https", host="xn--mnchen-3ya.example", port=443, path="/"),
        ),
        ("https://8.8.8.8/x", Target(scheme="https", host="8.8.8.8", port=443, path="/x")),
        (
            "https://[2606:4700:4700:0:0:0:0:1111]/x",
            Target(scheme="https", host="2606:4700:4700::1111", port=443, path="/x"),
        ),
    ],
)
def test_an_honest_link_is_taken_as_it_is(url: str, target: Target) -> None:
    assert check_url(url) == target


def test_letters_beyond_ascii_in_a_path_are_escaped() -> None:
    assert check_url("https://example.com/图片.png?n=é").path == "/%E5%9B%BE%E7%89%87.png?n=%C3%A9"


@pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t", "\f", " \n\t "])
def test_white_space_around_a_link_is_no_part_of_it(space: str) -> None:
    assert check_url(f"{space}https://example.com/x?y=1{space}") == check_url("https://example.com/x?y=1")
    assert outcome_of(f"{space}https://127.0.0.1/") is Outcome.PRIVATE_ADDRESS
    assert outcome_of(space * 10_000 + "https://example.com/") is None


def test_what_no_url_may_hold_is_escaped_as_browsers_do() -> None:
    assert check_url("https://example.com/my image (1).png").path == "/my%20image%20(1).png"
    assert check_url("https://example.com/a b?c d=e+f%20g#h i").path == "/a%20b?c%20d=e+f%20g"
    assert check_url('https://example.com/"<>^`{}|').path == "/%22%3C%3E%5E%60%7B%7D|"
    assert check_url('https://example.com/?"<>^`{}|').path == "/?%22%3C%3E^`{}|"
    assert check_url("https://example.com/!$&'()*+,;=:@-._~[]%zz").path == "/!$&'()*+,;=:@-._~[]%zz"


def test_a_link_that_grows_too_long_by_escaping_is_refused() -> None:
    assert outcome_of("https://example.com/" + "图" * (MAX_URL_LENGTH // 9)) is None
    assert outcome_of("https://example.com/" + "图" * (MAX_URL_LENGTH // 9 + 1)) is Outcome.BAD_URL


def test_an_ipv6_host_gets_its_brackets_back() -> None:
    assert check_url("https://[2606:4700::1]/x").url == "https://[2606:4700::1]/x"
    assert check_url("http://[::1]:8080/x", opened=LOOPBACK).authority == "[::1]:8080"


def test_an_opened_network_is_reached_by_http_and_on_any_port() -> None:
    for url in ("http://127.0.0.1/", "http://127.0.0.1:9000/x", "https://127.0.0.1:8443/", "http://[::1]:1/"):
        assert outcome_of(url, opened=True) is None


def test_opening_a_network_opens_nothing_else() -> None:
    assert outcome_of("https://10.0.0.1/", opened=True) is Outcome.PRIVATE_ADDRESS
    assert outcome_of("https://169.254.169.254/", opened=True) is Outcome.PRIVATE_ADDRESS
    assert outcome_of("http://8.8.8.8/", opened=True) is Outcome.BAD_URL
    assert outcome_of("https://8.8.8.8:8443/", opened=True) is Outcome.BAD_URL
    assert outcome_of("http://127.0.0.1:443/", opened=True) is Outcome.BAD_URL
    assert outcome_of("ftp://127.0.0.1/", opened=True) is Outcome.BAD_URL
    assert outcome_of("http://u@127.0.0.1/", opened=True) is Outcome.BAD_URL


def test_an_internal_name_is_left_to_the_resolver_once_a_network_is_open() -> None:
    assert outcome_of("http://localhost:8080/", opened=True) is None
    assert outcome_of("http://minio:9000/", opened=True) is None


def test_a_list_of_hosts_admits_each_with_all_below_it() -> None:
    hosts = ("example.com", "cdn.example.net")
    assert outcome_of("https://example.com/", hosts=hosts) is None
    assert outcome_of("https://a.b.EXAMPLE.com/", hosts=hosts) is None
    assert outcome_of("https://cdn.example.net/", hosts=hosts) is None
    for host in ("example.net", "notexample.com", "example.com.evil.example", "8.8.8.8", "excdn.example.net"):
        assert outcome_of(f"https://{host}/", hosts=hosts) is Outcome.HOST_NOT_ALLOWED


@given(st.text(max_size=60))
def test_no_text_makes_the_check_fail_in_another_way(text: str) -> None:
    for url in (
        text,
        f"https://{text}",
        f"https://{text}/",
        f"https://example.com:{text}",
        f"https://example.com/{text}",
    ):
        if outcome_of(url) is None:
            target = check_url(url)
            assert target.port == 443
            assert target.path.isascii()
            assert target.path.isprintable()
            assert " " not in target.path
            assert check_url(target.url) == target


@given(st.integers(0, 2**128 - 1))
def test_no_ipv6_address_outside_global_unicast_is_public(number: int) -> None:
    address = IPv6Address(number)
    if judge(str(address)) is Standing.PUBLIC and number >> 32 != 0x0064_FF9B << 64:
        assert number >> 125 == 1
        assert address.sixtofour is None
        assert address.teredo is None
