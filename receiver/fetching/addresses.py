"""Which links and which addresses may be dialled; pure.

A link from a callback is hostile until shown otherwise. It is taken apart once, here, and the very parts
that were judged are what the client dials.

``ipaddress.is_global`` is no policy (it lets metadata services and embedded loopback addresses through),
so the table is our own: the IANA special-purpose registries, and every form that embeds an IPv4 address.
"""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import quote

import msgspec

from receiver import payload
from receiver.errors import FetchFailed
from receiver.models import MAX_URL_LENGTH, Outcome

Network = IPv4Network | IPv6Network


REFUSED_NETWORKS: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform service, on a public address
        "169.254.0.0/16",  # link-local; most clouds' metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT relays
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        # IPv6: only what lies in GLOBAL_UNICAST is looked up here. Mapped, compatible, locally translated
        # (64:ff9b:1::/48), unique-local, link-local and multicast addresses lie outside.
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, whatever it embeds
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
GLOBAL_UNICAST = IPv6Network("2000::/3")
# RFC 6052: a translator (NAT64) sends what goes there to the IPv4 address in the last 32 bits. Resolvers of
# IPv6-only networks (DNS64) answer so for every name that has IPv4 alone.
NAT64 = IPv6Network("64:ff9b::/96")

# Names with these endings, and names of a single label, mean something only inside somebody's network.
INTERNAL_ENDINGS = frozenset(
    {"arpa", "corp", "home", "internal", "intranet", "lan", "local", "localdomain", "localhost"}
    | {"metadata.goog", "private", "svc"}
)

_URL = re.compile(r"(https?)://([^/?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.ASCII | re.DOTALL)
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
# What no URL may hold as it is (RFC 3986) and browsers escape in that place.
_ESCAPED_IN_PATHS, _ESCAPED_IN_QUERIES = ' "<>^`{}', ' "<>'
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::([1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[0-9a-z_](?:[0-9a-z_-]{0,61}[0-9a-z_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class Standing(StrEnum):
    """How an address may be used."""

    OPENED = "opened"  # in a network that the operator opened by name
    PUBLIC = "public"
    REFUSED = "refused"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A link that was checked, in the parts that are dialled. Made by ``check_url`` and nowhere else."""

    scheme: str
    host: str  # in lower case; an IPv6 literal without its brackets
    port: int
    path: str  # and query, as on the request line

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def judge(address: str, opened: Iterable[Network] = ()) -> Standing:
    """Whether an address may be dialled. Text that is no address is refused.

    For a NAT64 address, the IPv4 address inside is judged. A private one in there is refused whatever is
    opened: the operator's 10.0.0.0/8 is not what a translator elsewhere reaches under these numbers.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return Standing.REFUSED
    inner, networks = _translated(ip), tuple(opened)
    if any(ip in network for network in networks):
        return Standing.OPENED
    if any(inner in network for network in REFUSED_NETWORKS):
        return Standing.REFUSED
    if isinstance(inner, IPv6Address):
        # RFC 5214: under any prefix, the interface id 0[2]00:5efe and then an IPv4 address.
        is_isatap = (int(inner) >> 32) & 0xFDFF_FFFF == 0x0000_5EFE
        # A zone (scope id) means something on one link only, and no public address lies on one.
        if inner not in GLOBAL_UNICAST or is_isatap or inner.scope_id:
            return Standing.REFUSED
    return Standing.OPENED if any(inner in network for network in networks) else Standing.PUBLIC


def destination(address: str) -> str:
    """Where packets to an address end up: the IPv4 address inside a NAT64 one, else itself."""
    return str(_translated(ip_address(address)))


def _translated(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv6Address) and ip in NAT64 and not ip.scope_id:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


def check_url(url: str, *, opened: Sequence[Network] = (), hosts: Sequence[str] = ()) -> Target:
    """Take a link apart and judge what can be judged without asking the DNS.

    ``https`` on port 443 may go to any public address; ``http`` and other ports only into ``opened``
    networks. ``hosts`` (lower case), when given, are the only names allowed, each with all below it.
    Raises FetchFailed: BAD_URL, PRIVATE_ADDRESS or HOST_NOT_ALLOWED.
    """
    whole = _URL.fullmatch(tidy(url))
    if whole is None:
        raise bad_url("it is not an absolute http or https URL")
    scheme, authority, path, query = whole.groups(default="")
    place = _AUTHORITY.fullmatch(authority)
    if place is None:
        raise bad_url("its host or port is malformed, or it carries credentials")
    scheme = scheme.lower()
    port = int(place[2] or {"http": 80, "https": 443}[scheme])
    # Plain http on 443 would look like https to the backend, which sees the port and not the scheme.
    if port > 65535 or (scheme, port) == ("http", 443):
        raise bad_url("its port is out of the question")
    name = _host(place[1].lower())
    try:
        escaped = _escaped(path or "/", _ESCAPED_IN_PATHS) + _escaped(query, _ESCAPED_IN_QUERIES)
    except UnicodeEncodeError as exc:
        raise bad_url("it is not Unicode text") from exc
    if len(escaped) > MAX_URL_LENGTH:
        raise bad_url("it is too long once it is escaped")
    target = Target(scheme=scheme, host=name, port=port, path=escaped)
    if is_literal(target.host):
        admit(target.host, target.host, target.port, opened)
    elif _is_internal(target.host) and not opened:
        raise FetchFailed(Outcome.PRIVATE_ADDRESS, "the host is a name of an internal network")
    elif target.port != 443 and not opened:
        raise bad_url("only https on port 443 is allowed")
    if hosts and not any(target.host == host or target.host.endswith(f".{host}") for host in hosts):
        raise FetchFailed(Outcome.HOST_NOT_ALLOWED, "the host is not on the provider's list")
    return target


def tidy(url: str) -> str:
    """The link without white space around it. Raises FetchFailed (BAD_URL).

    Tabs and line ends within it are refused: browsers drop them, and then follow what they hid.
    """
    link = payload.trimmed(url)
    if len(link) > MAX_URL_LENGTH or _FORBIDDEN.search(link):
        raise bad_url("it is too long, or has tabs, line ends, other control characters or backslashes")
    return link


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return IPv6Address(text[1:-1]).compressed
        except ValueError as exc:
            raise bad_url("its host is not an IPv6 address") from exc
    labels = text.split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise bad_url("its host is not a name")
    # As browsers do: what ends in a number is an address, and then only the plain form will do.
    # Resolvers take 127.1, 2130706433 and 0x7f.1 for 127.0.0.1.
    if _NUMBER.fullmatch(labels[-1]) and not is_literal(text):
        raise bad_url("its host is an address in an odd form")
    return text


def _escaped(text: str, unsafe: str) -> str:
    # The rest of ASCII goes out byte for byte, since many links are signed.
    return "".join(
        letter if letter.isascii() and letter not in unsafe else quote(letter, safe="") for letter in text
    )


def admit(address: str, host: str, port: int, opened: Sequence[Network]) -> Standing:
    """Judge an address for the link that led to it. Raises FetchFailed where it may not be dialled."""
    standing = judge(address, opened)
    if standing is Standing.REFUSED:
        raise FetchFailed(Outcome.PRIVATE_ADDRESS, "the address is not a public one")
    if standing is Standing.PUBLIC and (port != 443 or _is_internal(host)):
        raise bad_url("outside opened networks only https on port 443 is allowed")
    return standing


def _is_internal(host: str) -> bool:
    if is_literal(host):
        return False
    last_two = host.split(".")[-2:]
    return len(last_two) == 1 or last_two[-1] in INTERNAL_ENDINGS or ".".join(last_two) in INTERNAL_ENDINGS


def is_literal(host: str) -> bool:
    """Whether a host is an address in its plain form, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def bad_url(reason: str) -> FetchFailed:
    """The failure of a link that cannot be used at all."""
    return FetchFailed(Outcome.BAD_URL, f"the link cannot be used: {reason}")
