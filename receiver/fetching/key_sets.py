"""The public keys of a provider that signs with a private one: fetched from one address, kept for a day."""

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterator
from contextlib import aclosing
from datetime import timedelta

import structlog

from receiver import payload
from receiver.clock import Clock
from receiver.errors import FetchFailed, Rejected, Unavailable
from receiver.fetching.client import GuardedClient
from receiver.models import Outcome, SigningKeys

log = structlog.get_logger()

LIFE = timedelta(days=1)  # fal's and Ideogram's pages: cache for at most 24 hours
AGAIN = timedelta(minutes=1)  # from one try to the next, however much comes that no key fits
FETCH_SECONDS = 5.0  # the sender waits: fal for 15 s
MOST_BYTES = 65_536
MOST_KEYS = 16

Fits = Callable[[bytes, bytes], bool]


class KeySet:
    """A JSON Web Key Set (RFC 7517, RFC 8037) behind one address that the settings name.

    It is fetched when a well-formed signature comes that no key fits, or when it is a day old, and once a
    minute at most. While its host is away, the last keys stay good.
    """

    def __init__(
        self, url: str, *, client: GuardedClient, clock: Clock, make: Callable[[bytes], Fits]
    ) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self._make = make
        self._keys: tuple[Fits, ...] = ()
        self._fetched_at: timedelta | None = None
        self._tried_at: timedelta | None = None
        self._trying: asyncio.Task[bool] | None = None
        self._was_asked = False
        self.problem: str | None = None  # why the last try failed

    async def check(self, verify: Callable[[SigningKeys], bool]) -> bool:
        """Whether ``verify`` says yes with today's keys. Raises Unavailable where there are none yet."""
        self._was_asked = False
        is_right = verify(SigningKeys(fits=self._fits))
        if not self._was_asked:  # it has not even the form of a signature, or is too old
            return False
        if is_right and not self._is_old():
            return True
        if await self.renew():
            return verify(SigningKeys(fits=self._fits))
        if not self._keys:
            raise Unavailable(
                f"the provider's public keys cannot be fetched: {self.problem}",
                retry_after_seconds=AGAIN.total_seconds(),
            )
        return is_right

    async def renew(self) -> bool:
        """Fetch the keys where a try is due; whether that was done. Who asks meanwhile waits for it."""
        if self._trying is None:
            now = self._clock.uptime()
            if self._tried_at is not None and now - self._tried_at < AGAIN:
                return False
            self._tried_at = now
            self._trying = asyncio.create_task(self._try())
        return await asyncio.shield(self._trying)  # whoever goes away takes it from nobody

    def _fits(self, signature: bytes, message: bytes) -> bool:
        self._was_asked = True
        return any(fits(signature, message) for fits in self._keys)

    def _is_old(self) -> bool:
        return self._fetched_at is None or self._clock.uptime() - self._fetched_at >= LIFE

    async def _try(self) -> bool:
        try:
            self._keys = _made(self._make, await self._fetch())
        except (FetchFailed, Rejected, TimeoutError) as exc:
            self.problem = _reason(exc)
            log.warning("keys.unfetched", kept=len(self._keys), reason=self.problem)
            return False
        finally:
            self._trying = None
        self._fetched_at, self.problem = self._clock.uptime(), None
        return True

    async def _fetch(self) -> bytes:
        target, body = self._client.check(self._url), bytearray()
        async with asyncio.timeout(FETCH_SECONDS), self._client.get(target) as response:
            if response.status != 200:
                raise FetchFailed(Outcome.HTTP_ERROR, f"the host answered {response.status}")
            async with aclosing(response.parts()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > MOST_BYTES:
                        raise FetchFailed(Outcome.TOO_LARGE, f"more than {MOST_BYTES} bytes")
        return bytes(body)


def _made(make: Callable[[bytes], Fits], document: bytes) -> tuple[Fits, ...]:
    keys = tuple(map(make, ed25519_keys(document)))
    if not keys:
        raise FetchFailed(Outcome.UNREADABLE, "it holds no Ed25519 key")
    return keys


def ed25519_keys(document: bytes) -> Iterator[bytes]:
    """The Ed25519 keys of a key set, the first so many. Raises Rejected where it is no JSON."""
    found = map(_ed25519_key, payload.items(payload.mapping(payload.decode(document)).get("keys")))
    for number, key in enumerate(key for key in found if key is not None):
        if number == MOST_KEYS:
            return
        yield key


def _ed25519_key(item: object) -> bytes | None:
    fields = payload.mapping(item)
    text = fields.get("x")
    if (fields.get("kty"), fields.get("crv")) != ("OKP", "Ed25519") or not isinstance(text, str):
        return None
    try:
        raw = base64.b64decode(text.rstrip("=").encode() + b"=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == 32 else None


def _reason(error: Exception) -> str:
    return f"not finished within {FETCH_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error)
