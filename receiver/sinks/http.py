"""Notifications by HTTP POST, signed as Standard Webhooks asks.

    https://app.example/hooks/images   a user and password in the URL become basic authentication

The option SECRET holds one or more ``whsec_`` secrets, separated by blanks or commas. Each signs, so that
a consumer can change from one to the other. FORMAT chooses among the forms of CloudEvents' HTTP binding, and
plain JSON; what is signed is the body as it is sent, never the headers.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
from contextlib import suppress
from typing import NamedTuple, Self
from urllib.parse import quote

import httpx2
import msgspec

from receiver.backoff import retry_after_seconds
from receiver.clock import Clock
from receiver.envelope import CONTENT_TYPE
from receiver.errors import Gone, Misconfigured, Permanent, Unavailable, tls_words, wire_outcome, with_words
from receiver.models import MessageFormat, Notification, Outcome
from receiver.options import PluginOptions

SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix, not a secret
SHORTEST_KEY_BYTES = 24  # the least that Standard Webhooks allows

# What no repetition of the same bytes changes: too large, wrong media type, unprocessable. Not 400: many
# consumers say so to a wrong signature, and one wrong secret must not kill every letter.
_NEVER = frozenset({413, 415, 422})

_NO_OPTIONS = frozenset({405, 501})  # "not by this method"
_OUTCOMES = {
    401: Outcome.REFUSED,
    403: Outcome.REFUSED,
    407: Outcome.REFUSED,
    429: Outcome.RATE_LIMITED,
    503: Outcome.UNAVAILABLE,
}

# So much of an answer is read, so that the connection can be used again; longer ones cost a new one.
_ANSWER_BYTES = 64 * 1024
_ANSWER_SECONDS = 1.0
_ANSWER_PIECES = 1_000  # each costs time, however small it is


# What the binding leaves as it is in the value of a header: printable ASCII but the blank, '"' and '%'.
_PLAIN = "".join(sorted(set(map(chr, range(0x21, 0x7F))) - set('"%')))


class _Message(NamedTuple):
    """A body as it is sent, and the headers that say what it is."""

    body: bytes
    headers: dict[str, str]


class HttpSink:
    """POSTs each notification; any 2xx means that the consumer has it.

    ``webhook-id`` is the message's own id, the same on every retry and replay of a revision; a consumer that
    must tell those apart reads ``replayid`` in the message. Other answers mean:

    - 410: Gone, and the relay stops this sink.
    - 413, 415, 422: Permanent, as they judge this message and not the moment.
    - 401, 403, 407: Unavailable with the outcome ``refused``: a wrong secret or password, as at any sink.
    - everything else: Unavailable. Redirects are not followed: a signed message goes where the operator
      said or nowhere. Redirects, 400 to 404 and 407 are mostly mistakes that somebody repairs within the
      day of retries, and then nothing is lost. ``Retry-After`` is handed on.
    """

    def __init__(
        self,
        url: httpx2.URL,
        *,
        client: httpx2.AsyncClient,
        auth: httpx2.BasicAuth | None,
        keys: tuple[bytes, ...],
        message_format: MessageFormat,
        timeout_seconds: float,
        clock: Clock,
    ) -> None:
        self._url = url
        self._client = client
        self._auth = auth
        self._keys = keys
        self._format = message_format
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    @classmethod
    def from_url(cls, url: str, options: PluginOptions, *, clock: Clock | None = None) -> Self:
        """Any http or https URL. ``options.http`` stays the caller's to close."""
        wrong = Misconfigured(f"sink {options.name}: its URL is not one; write https://HOST/PATH")
        try:
            where = httpx2.URL(url)
            where.host.encode("idna")  # what no resolver takes, such as a label that is too long
        except (httpx2.InvalidURL, ValueError):
            # Without a cause: the library's message repeats the URL, which may hold a password.
            raise wrong from None
        port_fits = where.port is None or 0 < where.port < 65536
        if where.scheme not in ("http", "https") or not (where.host and port_fits) or where.fragment:
            raise wrong
        auth = httpx2.BasicAuth(where.username, where.password) if where.userinfo else None
        return cls(
            where.copy_with(username=None, password=None),
            client=options.http,
            auth=auth,
            keys=_keys(options.secret, options.name),
            message_format=options.format,
            timeout_seconds=options.timeout_seconds,
            clock=clock or Clock(),
        )

    async def publish(self, notification: Notification) -> None:
        """Return when the consumer answered 2xx; see the class for all other answers."""
        body, headers = _formatted(notification.body, self._format)
        id_, stamp = notification.event_id, str(int(self._clock.now().timestamp()))
        headers |= {"webhook-id": id_, "webhook-timestamp": stamp}
        if notification.traceparent:
            headers["traceparent"] = notification.traceparent
        if self._keys:
            signed = b"%s.%s.%s" % (id_.encode(), stamp.encode(), body)
            digests = (hmac.digest(key, signed, hashlib.sha256) for key in self._keys)
            signatures = (f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
            headers["webhook-signature"] = " ".join(signatures)
        status, wish = await self._exchange("POST", body, headers)
        if not 200 <= status < 300:
            raise _refusal(status, retry_after_seconds(wish, self._clock.now()))

    async def ping(self) -> str | None:
        """Prove that a web server answers there, by OPTIONS, which changes nothing anywhere.

        Many applications that take a POST answer 404, 405 or 501 to OPTIONS. So 405 and 501 count as good,
        404 and other 4xx are returned as words of warning, 410 raises Gone, and 5xx Unavailable.
        """
        status, wish = await self._exchange("OPTIONS", b"", {})
        if status in _NO_OPTIONS or 200 <= status < 300:
            return None
        if status == 410 or status >= 500:
            raise _refusal(status, retry_after_seconds(wish, self._clock.now()))
        return f"the consumer answered {status} to OPTIONS, which says little of what it answers to an event"

    async def aclose(self) -> None:
        """Nothing to close: the client belongs to whoever handed it in."""

    async def _exchange(self, method: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        """The status and the Retry-After of the answer; the rest of it is not used.

        All of it has one deadline. The client's errors are told in our words: its own may repeat the URL.
        """
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream(
                    method,
                    self._url,
                    content=body,
                    headers=headers,
                    auth=self._auth,
                    timeout=self._timeout_seconds,
                    follow_redirects=False,
                ) as answer,
            ):
                await _drain(answer)
                return answer.status_code, answer.headers.get("retry-after", "")
        except (TimeoutError, httpx2.TimeoutException) as exc:
            raise Unavailable("the consumer did not answer in time", outcome=Outcome.TIMEOUT) from exc
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, UnicodeError) as exc:
            is_early = isinstance(exc, httpx2.ConnectError)
            outcome = wire_outcome(exc) or (Outcome.CONNECT_FAILED if is_early else Outcome.INTERRUPTED)
            what = with_words(f"the consumer could not be reached ({outcome})", tls_words(exc))
            raise Unavailable(what, outcome=outcome) from exc


def _formatted(event: bytes, message_format: MessageFormat) -> _Message:
    match message_format:
        case MessageFormat.STRUCTURED:
            return _Message(event, {"content-type": CONTENT_TYPE})
        case MessageFormat.JSON:
            return _Message(event, {"content-type": "application/json"})
        case MessageFormat.BINARY:
            # The event's data, and each of its attributes in a header of its own.
            attributes = msgspec.json.decode(event, type=dict[str, msgspec.Raw])
            data = bytes(attributes.pop("data"))
            texts = {name: str(msgspec.json.decode(value)) for name, value in attributes.items()}
            headers = {"content-type": texts.pop("datacontenttype")}
            headers |= {f"ce-{name}": quote(text, safe=_PLAIN) for name, text in texts.items()}
            return _Message(data, headers)


def _keys(secret: str | None, name: str) -> tuple[bytes, ...]:
    if secret is None:
        return ()
    keys = []
    for text in secret.replace(",", " ").split():
        encoded = text.removeprefix(SECRET_PREFIX)
        try:
            # Some tools leave the padding out.
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        keys.append(b"" if encoded == text else key)
    if not keys or any(len(key) < SHORTEST_KEY_BYTES for key in keys):
        raise Misconfigured(
            f"sink {name}: its SECRET must be {SECRET_PREFIX} and the base64 of at least "
            f"{SHORTEST_KEY_BYTES} random bytes; several are separated by blanks or commas"
        )
    return tuple(keys)


async def _drain(answer: httpx2.Response) -> None:
    # The status has decided already, so nothing that happens to the rest of the answer matters.
    with suppress(httpx2.HTTPError, httpx2.StreamError, TimeoutError):
        async with asyncio.timeout(_ANSWER_SECONDS):
            read = pieces = 0
            async for chunk in answer.aiter_raw():
                read += len(chunk)
                pieces += 1
                if read > _ANSWER_BYTES or pieces > _ANSWER_PIECES:
                    return


def _refusal(status: int, retry_after_seconds: float | None) -> Unavailable | Permanent:
    detail = f"the consumer answered {status}"
    if status == 410:
        return Gone(f"{detail}: it wants no more notifications")
    if status in _NEVER:
        return Permanent(f"{detail}: it will not take this message")
    if 300 <= status < 400:
        return Unavailable(
            f"{detail}; redirects are not followed, so the sink's URL must be the final one",
            outcome=Outcome.BAD_REDIRECT,
            retry_after_seconds=retry_after_seconds,
        )
    outcome = _OUTCOMES.get(status, Outcome.HTTP_ERROR)
    return Unavailable(detail, outcome=outcome, retry_after_seconds=retry_after_seconds)
