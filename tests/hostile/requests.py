"""Requests as no honest client writes them: what is sent, what may be answered, and what may be recorded.

Every one wants to have the task ``in-…`` recorded; those that carry a second, smuggled request want
``smuggled-…`` as well.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from receiver.testing import sample_callback


class Hostile(NamedTuple):
    """``statuses``: those of all answers on the connection, in order; an empty one: closed without any."""

    name: str
    raw: Callable[[str], bytes]  # from the path of the callbacks
    statuses: tuple[tuple[int, ...], ...]
    is_recorded: bool = False


TAKEN = ((200,),)
MALFORMED = ((400,),)


def body_of(task: str) -> bytes:
    return sample_callback("vidgo", task)


def request(
    name: str,
    *lines: str,
    method: str = "POST",
    path: str = "{path}",
    version: str = "HTTP/1.1",
    length: str | None = "{length}",
    host: str = "Host: receiver.test",
    body: bytes | None = None,
    after: bytes = b"",
) -> Callable[[str], bytes]:
    """A request whose parts are right but for those that are named."""

    def raw(callbacks: str) -> bytes:
        content = body_of(f"in-{name}") if body is None else body
        head = [f"{method} {path.replace('{path}', callbacks)} {version}", host]
        if length is not None:
            head.append(f"Content-Length: {length.replace('{length}', str(len(content)))}")
        head += [line.replace("{length}", str(len(content))) for line in lines]
        return "\r\n".join([*(line for line in head if line), "", ""]).encode("latin-1") + content + after

    return raw


def smuggled(name: str) -> bytes:
    """What an attacker would have a proxy take for a body, and us for a request."""
    content = body_of(f"smuggled-{name}")
    head = f"POST {{path}} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def with_smuggled(name: str, *lines: str, length: str | None = "{length}") -> Callable[[str], bytes]:
    """A request with two ends: after one of them another request seems to begin."""

    def raw(callbacks: str) -> bytes:
        inner = smuggled(name).replace(b"{path}", callbacks.encode())
        return request(name, *lines, length=length, body=b"0\r\n\r\n" + inner)(callbacks)

    return raw


def chunked(name: str, framing: Callable[[bytes], bytes], *lines: str) -> Hostile:
    def raw(callbacks: str) -> bytes:
        body = framing(body_of(f"in-chunk {name}"))
        return request(name, "Transfer-Encoding: chunked", *lines, length=None, body=body)(callbacks)

    return Hostile(f"chunk {name}", raw, MALFORMED)


def _framing() -> Iterator[Hostile]:
    """Two lengths, or a length that is none."""
    for name, lines in {
        "both": ["Transfer-Encoding: chunked"],
        "both, other case": ["TRANSFER-ENCODING: Chunked"],
        "xchunked": ["Transfer-Encoding: xchunked"],
        "not last": ["Transfer-Encoding: chunked, identity"],
        "twice chunked": ["Transfer-Encoding: chunked, chunked"],
        "vertical tab": ["Transfer-Encoding: \x0bchunked"],
        "blank before colon": ["Transfer-Encoding : chunked"],
        "folded": ["X: y\r\n Transfer-Encoding: chunked"],
        "bare CR": ["X: y\rTransfer-Encoding: chunked"],
        "bare LF": ["X: y\nTransfer-Encoding: chunked"],
        "NUL": ["X: \x00\r\nTransfer-Encoding: chunked"],
        "same length twice": ["Content-Length: {length}"],
        "other length": ["Content-Length: 5"],
        "length of nothing": ["Content-Length: 0"],
    }.items():
        yield Hostile(name, with_smuggled(name, *lines), MALFORMED)
    for name, lines in {
        "xchunked alone": ["Transfer-Encoding: xchunked"],
        "chunked twice": ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        "chunked then identity": ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        "length listed": ["Content-Length: {length}, {length}"],
    }.items():
        yield Hostile(name, with_smuggled(name, *lines, length=None), MALFORMED)
    for name, line in {"1.0 chunked": "", "1.0 chunked, kept": "Connection: keep-alive"}.items():
        lines = ["Transfer-Encoding: chunked", line]
        raw = request(name, *lines, version="HTTP/1.0", length=None, body=b"0\r\n\r\n" + smuggled(name))
        yield Hostile(name, raw, MALFORMED)
    for length in ("+5", "-1", "0x10", "1e2", "5 5", "5,5", "٣".encode().decode("latin-1"), str(2**64)):
        yield Hostile(f"length {length!a}", request("length", length=length), MALFORMED)
    yield Hostile("length of 5000 digits", request("digits", length="0" * 5000 + "{length}"), ((413,),))
    yield Hostile("length 10^18", request("huge", length=str(10**18)), ((413,),))


def _chunks() -> Iterator[Hostile]:
    frames: dict[str, Callable[[bytes], bytes]] = {
        "0x": lambda body: b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        "negative": lambda body: b"-%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        "beyond 64 bits": lambda body: b"f" * 17 + b"\r\n" + body,
        "too short": lambda body: b"5\r\n" + body + b"\r\n0\r\n\r\n",
        "no size": lambda body: b"\r\n" + body + b"\r\n0\r\n\r\n",
        "bare LF": lambda body: b"%x\n%s\n0\n\n" % (len(body), body),
        "LF in extension": lambda body: b"%x;a\nb\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        "length in trailer": lambda body: b"%x\r\n%s\r\n0\r\nContent-Length: 5\r\n\r\n" % (len(body), body),
        "blank in size": lambda body: b" %x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        "underscore": lambda body: b"0_%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
    }
    for name, framing in frames.items():
        yield chunked(name, framing)


def _heads() -> Iterator[Hostile]:
    """Request lines and headers that are none."""
    for name, raw in {
        "HTTP/0.9": b"GET /healthz\r\n\r\n",
        "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
        "SOCKS": b"\x05\x01\x00",
        "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
        "Redis": b"*1\r\n$4\r\nPING\r\n",
        "endless method": b"A" * 70_000,
        "binary": bytes(range(256)),
    }.items():
        yield Hostile(name, lambda _, raw=raw: raw, ((400,), ()))  # type: ignore[misc]
    for name, line in {
        "NUL in value": "X: a\x00b",
        "NUL in name": "X\x00: a",
        "8 bits in name": "X\xe4: a",
        "blank in name": "X y: a",
        "blank before colon": "X : a",
        "no colon": "just words",
        "no name": ": a",
        "fold": "X: a\r\n b",
        "bare CR": "X: a\rb",
        "bare LF": "X: a\nY: b",
        "DEL": "X: a\x7fb",
    }.items():
        yield Hostile(f"header {name}", request(f"header-{name}", line), MALFORMED)
    yield Hostile("10,000 headers", request("10k", *["X: y"] * 10_000), ((400,), ()))
    yield Hostile("201 headers", request("201", *[f"X-{n}: y" for n in range(199)]), MALFORMED)
    yield Hostile("header of 100 kB", request("wide", "X: " + "y" * 100_000), ((400,), ()))
    for version in ("HTTP/1.2", "HTTP/3.0", "HTTP/1", "http/1.1", "HTTP/1.1 HTTP/1.1", "ICY/1.0"):
        yield Hostile(f"version {version}", request(f"v-{version}", version=version), MALFORMED)
    for method in ("post", "FOO", "P\x00ST", "CONNECT", ""):
        yield Hostile(f"method {method!a}", request(f"m-{method}", method=method), ((400,), ()))


def _targets() -> Iterator[Hostile]:
    """Paths and other request targets."""
    for target in (
        "/\xff\xfe", "{path}\xff", "/a\x00b", "/a b", "\\healthz", "evil.test:80", "http://[::1]:99999/x",
        "{path}\x7f", "", "?x",
    ):  # fmt: skip
        yield Hostile(f"target {target!a}", request("target", path=target), ((400,), ()))
    for target in (
        "//callbacks/vidgo", "/callbacks/../healthz", "/callbacks/%2e%2e/healthz", "/./healthz", "*",
        "/healthz/", "/healthz;x=1", "/healthz%00", "/callbacks/vidgo%00/x", "/callbacks/%FF/x",
        "/callbacks//vidgo/x", "/callbacks/VIDGO/x", "/callbacks/vidgo%E2%80%AE/x",
    ):  # fmt: skip
        yield Hostile(f"nowhere {target}", request("nowhere", path=target), ((404,),))
    for target in (
        "/callbacks/vidgo//", "{path}/", "{path}%00", "{path}%2F", "{path}/../x", "{path}%20", "{path}.",
        "{path};a=b", "{path}%FF", "/callbacks/vidgo/%2e%2e%2f", "/callbacks/vidgo/" + "x" * 8000,
    ):  # fmt: skip
        yield Hostile(f"no token {target[:40]}", request("no-token", path=target), ((401,),))
    yield Hostile("path of 1 MB", request("path", path="/" + "a" * 2**20), ((400,), ()))
    yield Hostile("query of 1 MB", request("query", path="{path}?" + "a" * 2**20), ((400,), ()))
    for name, target in {
        "absolute form": "http://evil.test{path}",
        "absolute form with user": "http://evil.test@receiver.test{path}",
        "query": "{path}?token=x&%00=%FF",
        "fragment": "{path}#x",
    }.items():
        yield Hostile(name, request(name, path=target), TAKEN, is_recorded=True)


def _odd() -> Iterator[Hostile]:
    """Odd and yet allowed, or at least harmless: it is taken, and everything after it in its turn."""
    odd: dict[str, Sequence[str]] = {
        "Expect: nonsense": ["Expect: 200-ok"],
        "two hosts": ["Host: evil.test"],
        "8 bits in value": ["X: \xe4\xff"],
        "forged addresses": ["X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: \xff", "Forwarded: for=[::1]"],
        "forged scheme": ["X-Forwarded-Proto: file", "X-Forwarded-Host: evil.test", "X-Real-IP: ::1"],
        "forged path": ["X-Original-URL: /stats", "X-Rewrite-URL: /stats", "X-HTTP-Method-Override: GET"],
        "doubled headers": ["Content-Type: text/html", "Content-Type: application/json"],
        "wrong charset": ["Content-Type: application/json; charset=utf-16"],
        "multipart": ["Content-Type: multipart/form-data; boundary=x"],
        "upgrade": ["Connection: Upgrade", "Upgrade: websocket"],
        "upgrade and end": ["Connection: Upgrade, close", "Upgrade: websocket"],
        "upgrade to HTTP/2": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"],
    }
    for name, lines in odd.items():
        yield Hostile(name, request(name, *lines), TAKEN, is_recorded=True)
    yield Hostile("no host", request("no-host", host=""), TAKEN, is_recorded=True)
    yield Hostile("HTTP/1.0", request("1.0", version="HTTP/1.0", host=""), TAKEN, is_recorded=True)
    wish = request("1.0 upgrade", "Connection: Upgrade", "Upgrade: h2c", version="HTTP/1.0")
    yield Hostile("1.0 upgrade", wish, TAKEN, is_recorded=True)
    blank = request("blank-lines-first")
    yield Hostile("blank lines first", lambda path: b"\r\n\r\n" + blank(path), TAKEN, is_recorded=True)
    whole = request("garbage-after")
    yield Hostile("garbage after", lambda path: whole(path) + b"\x00\xff\r\n\r\n", TAKEN, is_recorded=True)
    yield Hostile(
        "length too short, in blanks",
        lambda path: request("short")(path) + b"   ",
        TAKEN,
        is_recorded=True,
    )
    waiting = request("expect", "Expect: 100-continue")
    yield Hostile("Expect: 100-continue", waiting, ((100, 200), (200,)), is_recorded=True)
    for name, line in {
        "tab": "Transfer-Encoding:\tchunked", "upper case": "Transfer-Encoding: CHUNKED",
    }.items():  # fmt: skip
        content = body_of(f"in-{name}")
        framed = b"%x;ext=1\r\n%s\r\n0\r\nX-Trailer: y\r\n\r\n" % (len(content), content)
        yield Hostile(name, request(name, line, length=None, body=framed), TAKEN, is_recorded=True)


def _refused() -> Iterator[Hostile]:
    """Well-formed, and refused by the table of answers."""
    for coding in ("gzip", "br", "deflate, gzip", "zstd", "x"):
        yield Hostile(f"coding {coding}", request("coded", f"Content-Encoding: {coding}"), ((415,),))
        framed = b"5\r\nhello\r\n0\r\n\r\n"
        transfer = f"Transfer-Encoding: {coding}, chunked"
        yield Hostile(f"transfer {coding}", request("coded", transfer, length=None, body=framed), ((415,),))
    yield Hostile("no length", request("no-length", length=None, body=b""), ((200,),))
    yield Hostile("length too long", request("long", length="1000"), ((408,),))
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        yield Hostile(f"method {method}", request("method", method=method), ((405,),))


REQUESTS: Iterable[Hostile] = (*_framing(), *_chunks(), *_heads(), *_targets(), *_odd(), *_refused())
