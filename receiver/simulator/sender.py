"""Send one callback until it is acknowledged or the provider would give up."""

import asyncio
from collections.abc import Callable

import httpx2

from receiver import payload
from receiver.clock import Clock
from receiver.errors import Rejected
from receiver.simulator.model import CallAttempt, Retries
from receiver.simulator.signing import Sign, unsigned

MAX_ANSWER_BYTES = 10_000
MAX_AT_ONCE = 256  # callbacks under way; the rest wait, so that a burst does not use up the descriptors


class Caller:
    """Sends callbacks. Redirects are not followed, and no proxy from the environment is used."""

    def __init__(self, clock: Clock, retry_factor: float) -> None:
        self._clock = clock
        self._retry_factor = retry_factor
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)
        # No limits of the client's own: waiting for one would count as the receiver's slowness. A fresh
        # connection for each attempt, so that a closed idle one is never mistaken for a refusal.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=None, limits=limits)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def call(
        self,
        url: str,
        body: bytes,
        retries: Retries,
        note: Callable[[CallAttempt], None],
        *,
        sign: Sign = unsigned,
        copy: int = 1,
        wait_seconds: float = 0.0,
    ) -> None:
        """Send ``body`` until ``retries`` is satisfied or used up; every attempt is signed anew, and noted.

        ``wait_seconds`` comes before the first, and is a provider's wait like those between attempts.
        """
        for attempt, seconds in enumerate((wait_seconds, *retries.waits_seconds), start=1):
            await asyncio.sleep(seconds * self._retry_factor)
            async with self._at_once:
                sent_at = self._clock.now()
                status, error, answer = None, None, None
                try:
                    async with asyncio.timeout(retries.timeout_seconds):
                        headers = {"Content-Type": "application/json", **sign(body, sent_at)}
                        async with self._http.stream("POST", url, content=body, headers=headers) as response:
                            status, answer = response.status_code, await _read_answer(response)
                except TimeoutError:
                    error = "timeout"
                except httpx2.HTTPError as exc:
                    error = type(exc).__name__
                done = CallAttempt(
                    copy=copy, attempt=attempt, sent_at=sent_at, status=status, error=error, answer=answer
                )
            note(done)
            if retries.satisfied_by(done.status):
                return


async def _read_answer(response: httpx2.Response) -> object:
    """The start of the answer: decoded if it is JSON, else as text; None if it is empty."""
    content = b""
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            break
    content = content[:MAX_ANSWER_BYTES]
    try:
        return payload.decode(content)
    except Rejected:
        return content.decode(errors="replace") or None
