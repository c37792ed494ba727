"""A sink's URL, taken apart: where it leads, and its options."""

import re
import ssl
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from receiver.errors import Misconfigured

# A user or password with one of / ? # in it ends there, and the rest looks like a path or an option.
_CUT = re.compile(r"[^/?#]+://[^/?#]*[/?#].*@", re.DOTALL)
_ESCAPES = "in a user or password write %2F for /, %3F for ?, %23 for # and %40 for @"
_USER_AND_HOSTS = re.compile(r"([^:/?#]+://(?:[^/?#]*@)?)([^@/?#]*)(.*)", re.DOTALL)

MOST_DIGITS = 20


class SinkUrl(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sink is, and the options behind the question mark; percent-escapes are undone.

    No message of an error repeats a part of it but the name of an option, which is surely one: the rest may
    hold a password.
    """

    sink: str  # its name
    location: str  # all of the URL before the question mark, as it was written
    scheme: str
    host: str
    port: int | None
    user: str | None
    password: str | None
    path: str  # without the slash that it begins with
    options: Mapping[str, str]

    def __repr__(self) -> str:
        return f"SinkUrl(sink={self.sink!r}, scheme={self.scheme!r})"

    @classmethod
    def read(cls, sink: str, url: str, *, form: str, known: Collection[str]) -> Self:
        """Take it apart. ``form`` shows how to write it. Raises Misconfigured."""
        try:
            parts = urlsplit(url)
            url.encode()
            is_one = parts.port != 0 and not parts.fragment and "@" not in parts.path
        except ValueError:
            is_one = False
        advice = f"; {_ESCAPES}" if _CUT.match(url) else ""
        if not is_one:  # without a cause: the library's words may repeat the URL
            raise Misconfigured(f"sink {sink}: write {form}{advice}")
        return cls(
            sink=sink,
            location=parts._replace(query="").geturl(),
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port,
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            path=unquote(parts.path.removeprefix("/")),
            options=_options(sink, parts.query, known, advice),
        )

    @classmethod
    def read_hosts(
        cls, sink: str, url: str, *, form: str, known: Collection[str], port: int
    ) -> Sequence[Self]:
        """One for each host of a URL that may have several, separated by commas; each has a port.

        ``port`` is that of those without one; user and password stand once, before the first. Raises
        Misconfigured.
        """
        if (parts := _USER_AND_HOSTS.fullmatch(url)) and parts[1].count("@") > 1:
            raise Misconfigured(f"sink {sink}: name the user once, before the first host; {_ESCAPES}")
        return [cls.read(sink, each, form=form, known=known) for each in _split_hosts(url, port)]

    @property
    def address(self) -> str:
        """Host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    def wrong(self, what: str) -> Misconfigured:
        """The error that says what is wrong with it."""
        return Misconfigured(f"sink {self.sink}: {what}")

    def required(self, option: str) -> str:
        """An option that must be given. Raises Misconfigured."""
        if option not in self.options:
            raise self.wrong(f"its URL lacks the option {option}")
        return self.options[option]

    def choice(self, option: str, values: Collection[str]) -> str:
        """One of a few words, the first where it is not given. Raises Misconfigured."""
        value = self.options.get(option, next(iter(values)))
        if value not in values:
            raise self.wrong(f"{option} must be {' or '.join(values)}")
        return value

    def whole_number(self, option: str, *, default: int, least: int, most: int) -> int:
        """A whole number. Raises Misconfigured where it is none, or out of bounds."""
        text = self.options.get(option, str(default))
        is_short = len(text) < MOST_DIGITS  # Python reads no number that is very long
        if not (is_short and text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise self.wrong(f"{option} must be a whole number from {least} to {most}")
        return int(text)

    def authorities(self, data_dir: Path) -> Path | None:
        """The file of ``ssl_ca_certs``, relative to the data folder, for TLS; None: the system's are trusted.

        Raises Misconfigured where it holds no certificates.
        """
        if "ssl_ca_certs" not in self.options:
            return None
        path = data_dir / self.options["ssl_ca_certs"]
        try:
            ssl.create_default_context(cafile=path)
        except OSError as exc:  # an SSLError, too
            why = "it holds no certificates" if isinstance(exc, ssl.SSLError) else exc.strerror
            raise self.wrong(f"the file that ssl_ca_certs names cannot be used: {why}") from exc
        return path


def _options(sink: str, query: str, known: Collection[str], advice: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if unknown := sorted(options.keys() - set(known)):
        name = "an unknown option" if advice else f"the unknown option {unknown[0]}"
        raise Misconfigured(f"sink {sink}: its URL has {name}; known are {', '.join(known)}{advice}")
    if empty := sorted(name for name, value in pairs if not value):
        raise Misconfigured(f"sink {sink}: the option {empty[0]} in its URL is empty")
    if len(options) < len(pairs):
        twice = next(name for name in options if [each for each, _ in pairs].count(name) > 1)
        raise Misconfigured(f"sink {sink}: its URL has the option {twice} twice")
    return options


def _split_hosts(url: str, port: int) -> list[str]:
    if not (parts := _USER_AND_HOSTS.fullmatch(url)):
        return [url]
    head, hosts, tail = parts.groups()
    return [f"{head}{_with_port(host, port)}{tail}" for host in hosts.split(",")]


def _with_port(host: str, port: int) -> str:
    has_port = re.search(r":\d*$", host.rpartition("]")[2])
    return host if has_port or not host else f"{host}:{port}"
