"""A sink's URL, taken apart: where it leads, and its options."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from receiver.errors import Misconfigured

_USER_AND_HOSTS = re.compile(r"([^:/?#]+://(?:[^/?#]*@)?)([^@/?#]*)(.*)", re.DOTALL)


class SinkUrl(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sink is, and the options behind the question mark; percent-escapes are undone.

    No message of an error repeats a part of it but the name of an option: the rest may hold a password.
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
            is_one = parts.port != 0 and not parts.fragment
        except ValueError:
            is_one = False
        if not is_one:  # without a cause: the library's words may repeat the URL
            raise Misconfigured(f"sink {sink}: write {form}")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(options.keys() - set(known)):
            raise Misconfigured(
                f"sink {sink}: its URL has the unknown option {unknown[0]}; known are {', '.join(known)}"
            )
        if empty := sorted(name for name, value in options.items() if not value):
            raise Misconfigured(f"sink {sink}: the option {empty[0]} in its URL is empty")
        return cls(
            sink=sink,
            location=parts._replace(query="").geturl(),
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port,
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            path=unquote(parts.path.removeprefix("/")),
            options=options,
        )

    @classmethod
    def read_hosts(
        cls, sink: str, url: str, *, form: str, known: Collection[str], port: int
    ) -> Sequence[Self]:
        """One for each host of a URL that may have several, separated by commas; each has a port.

        ``port`` is that of those without one. Raises Misconfigured.
        """
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
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise self.wrong(f"{option} must be a whole number from {least} to {most}")
        return int(text)


def _split_hosts(url: str, port: int) -> list[str]:
    if not (parts := _USER_AND_HOSTS.fullmatch(url)):
        return [url]
    head, hosts, tail = parts.groups()
    return [f"{head}{_with_port(host, port)}{tail}" for host in hosts.split(",")]


def _with_port(host: str, port: int) -> str:
    has_port = re.search(r":\d*$", host.rpartition("]")[2])
    return host if has_port or not host else f"{host}:{port}"
