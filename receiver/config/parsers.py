"""What a variable may hold: in words for people, and as a parser that refuses everything else."""

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from receiver.config.bearer import parse_bearer
from receiver.errors import Misconfigured
from receiver.models import EventType, Route

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MIN_SECRET_CHARACTERS = 16
MOST_KEYS = 8


class Accepts(msgspec.Struct, frozen=True):
    """``parse`` raises ValueError or KeyError for anything but what ``words`` says."""

    words: str
    parse: Callable[[str], Any]


def whole(low: int, high: int) -> Accepts:
    return Accepts(f"a whole number from {low} to {high}", _bounded(int, low, high))


def seconds(low: int, high: int) -> Accepts:
    return Accepts(f"seconds from {low} to {high}", _bounded(float, low, high))


def one_of(*words: str) -> Accepts:
    return Accepts("one of " + ", ".join(words), lambda text: _choice(text, words))


def some_of(*words: str) -> Accepts:
    return Accepts(
        "some of " + ", ".join(words) + ", separated by commas",
        lambda text: frozenset(_choice(item, words) for item in _items(text)),
    )


def optional(accepts: Accepts) -> Accepts:
    """The same, but None for an empty text."""
    return Accepts(accepts.words, lambda text: accepts.parse(text) if text else None)


def _bounded(number: Callable[[str], float], low: int, high: int) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = number(text)
        if not low <= value <= high:  # refuses nan, too
            raise ValueError
        return value

    return parse


def _choice(text: str, words: tuple[str, ...]) -> str:
    return words[words.index(text.lower())]


def _items(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if text and not items:
        raise ValueError
    return items


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return parse


def _folder(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:  # there is no such user
        raise ValueError from exc


def _location(text: str) -> str:
    """A URL of which only the scheme is checked here; the plug-in judges the rest."""
    scheme, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise ValueError
    return scheme.lower() + colon + rest


def _web_address(text: str) -> str | None:
    if not text:
        return None
    parts = urlsplit(text)
    _ = parts.port  # raises ValueError for a port that is none
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError
    if parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", text):
        raise ValueError
    # In any case it is the same scheme, and many look at how a URL begins.
    return parts.scheme + text[len(parts.scheme) :].rstrip("/")


def _hook(text: str) -> str:
    """Whom to tell something: its path and query may hold a secret, and so may its user."""
    parts = urlsplit(text)
    _ = parts.port
    if parts.scheme not in {"http", "https"} or not parts.hostname or not re.fullmatch(r"[!-~]+", text):
        raise ValueError
    return text


def _api_address(text: str) -> str | None:
    url = _web_address(text)
    parts = urlsplit(url or "")
    if parts.scheme == "http" and not is_here(parts.hostname or ""):
        raise ValueError
    return url


def is_here(host: str) -> bool:
    """Whether a host is this machine, by its name or its address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def _secret(text: str) -> str:
    if len(text) < MIN_SECRET_CHARACTERS or not re.fullmatch(r"[!-~]+", text):
        raise ValueError
    return text


def _token(text: str, *, is_admin: bool) -> str:
    if parse_bearer(_secret(text)).owners and is_admin:  # an admin may do everything, for everybody
        raise ValueError
    return text


def _keys(text: str) -> tuple[str, ...]:
    keys = tuple(dict.fromkeys(_items(text)))
    if len(keys) > MOST_KEYS or not all(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", key) for key in keys):
        raise ValueError
    return keys


def _hosts(text: str) -> dict[str, tuple[str, ...]]:
    """``a=x,y b=z`` -> {a: (x, y), b: (z,)}."""
    hosts: dict[str, tuple[str, ...]] = {}
    for part in text.lower().split():
        provider, _, names = part.partition("=")
        if not (provider and _items(names)) or provider in hosts:
            raise ValueError
        hosts[provider] = tuple(sorted(frozenset(_items(names))))
    return hosts


def _headers(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(item.lower() for item in _items(text)))
    if not all(re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}", name) for name in names):
        raise ValueError
    return names


def _own_header(text: str) -> str:
    if not re.fullmatch(r"x-[a-z0-9-]{1,62}", text.lower()):
        raise ValueError
    return text.lower()


def _owner(text: str) -> str:
    if not 0 < len(text) <= 200 or not text.isprintable():
        raise ValueError
    return text


_FLAGS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}

FLAG = Accepts("true or false", lambda text: _FLAGS[text.lower()])
FOLDER = Accepts("the path of a folder (~NAME: the home of a user of this machine)", _folder)
FILE = optional(Accepts("the path of a file", Path))
PLACE = optional(Accepts("the path of a file or a folder", Path))
HOST = Accepts("a host name or address to listen on", _matching(r"[A-Za-z0-9.:_-]+"))
LOCATION = Accepts("a URL such as scheme:path", _location)
WEB_ADDRESS = Accepts("an http(s) URL without user, password, query and fragment", _web_address)
HOOK = optional(Accepts("an http(s) URL", _hook))
API_ADDRESS = Accepts(
    "an https URL (http only on this machine, as the key is sent there)"
    " without user, password, query and fragment",
    _api_address,
)
OTHERS = optional(Accepts("text for another program", str))
KEY = optional(Accepts("printable characters without blanks", _matching(r"[!-~]+")))
API_KEYS = Accepts(
    "printable characters without blanks; several, separated by commas",
    lambda text: tuple(dict.fromkeys(map(_matching(r"[!-~]+"), _items(text)))),
)
KEYS = Accepts(
    f"up to {MOST_KEYS} names of at most 64 letters, digits, dots, - and _, separated by commas", _keys
)
SECRET = Accepts(
    f"at least {MIN_SECRET_CHARACTERS} printable characters",
    lambda text: _secret(text) if text else None,
)
SECRETS = Accepts(
    f"values of at least {MIN_SECRET_CHARACTERS} printable characters, separated by commas",
    lambda text: tuple(_secret(item) for item in _items(text)),
)
TOKENS = Accepts(
    f"tokens of at least {MIN_SECRET_CHARACTERS} printable characters, separated by commas, each as TOKEN,"
    " NAME:TOKEN or NAME:TOKEN@OWNER",
    lambda text: tuple(_token(item, is_admin=False) for item in _items(text)),
)
ADMIN_TOKENS = Accepts(
    f"tokens of at least {MIN_SECRET_CHARACTERS} printable characters, separated by commas, each as TOKEN or"
    " NAME:TOKEN, without owners",
    lambda text: tuple(_token(item, is_admin=True) for item in _items(text)),
)
NETWORKS = Accepts(
    "networks such as 10.0.0.0/8, separated by commas",
    lambda text: tuple(ipaddress.ip_network(item) for item in _items(text)),
)
HOSTS = Accepts("provider=host,host pairs of known providers, separated by spaces", _hosts)
HEADER = optional(Accepts("the name of an HTTP header that begins with x-", _own_header))
HEADERS = Accepts("names of HTTP headers, separated by commas", _headers)
OWNER = Accepts("1 to 200 printable characters", _owner)
FILTER = Accepts(
    "key=value,value terms; the keys are provider, type, owner", str
)  # read by relay.route, which names what is wrong


def parse_route(sink: str, filter_text: str, *, providers: Collection[str] | None = None) -> Route:
    """Which events a sink wants, from text such as ``provider=vidgo,apixo type=task.completed``.

    Keys are provider, type and owner; a key that is not there wants all. Raises Misconfigured with every
    problem at once, among them a provider that is not in ``providers``, where those are given.
    """
    known = {"provider": providers, "type": [each.value for each in EventType], "owner": None}
    wanted: dict[str, set[str]] = {key: set() for key in known}
    problems = []
    for term in filter_text.split():
        key, _, text = term.partition("=")
        values = text.split(",")
        problem = _route_problem(key, values, known)
        if problem:
            problems.append(f"RECEIVER_SINK_{sink.upper()}_FILTER {problem}")
        else:
            wanted[key].update(values)
    if problems:
        raise Misconfigured(*problems)
    return Route(
        sink=sink,
        providers=frozenset(wanted["provider"]),
        types=frozenset(wanted["type"]),
        owners=frozenset(wanted["owner"]),
    )


def filter_text(route: Route) -> str:
    """The text that ``parse_route`` reads; empty where the sink wants all."""
    wanted = (("provider", route.providers), ("type", route.types), ("owner", route.owners))
    return " ".join(f"{key}={','.join(sorted(values))}" for key, values in wanted if values)


def _route_problem(key: str, values: list[str], known: Mapping[str, Collection[str] | None]) -> str | None:
    if key not in known:
        return f"has {key!r}; write KEY=VALUE,VALUE with the keys {', '.join(known)}"
    if "" in values:
        return f"has no value after {key!r}, or an empty one"
    choices = known[key]
    strangers = [] if choices is None else [value for value in values if value not in choices]
    if strangers:
        return f"has the unknown {key} {strangers[0]!r}; known are {', '.join(choices or ())}"
    return None
