"""Callers' own callback URLs: told by us once their tasks have ended here, as the provider would have."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from receiver.backoff import Backoff
from receiver.clock import Clock
from receiver.errors import FetchFailed, Unavailable
from receiver.fetching.client import GuardedClient
from receiver.gateway.status import StatusDesk
from receiver.models import Outcome, RelayWork
from receiver.ports import Store
from receiver.signing import whsec_key

log = structlog.get_logger()

LOOK_SECONDS = 1.0
AT_ONCE = 16
TRY_SECONDS = 15.0
LEASE_SECONDS = 60.0
GIVEN_UP_AFTER = timedelta(days=1)
GONE = 410
_BACKOFF = Backoff(first_seconds=5.0, max_attempts=None)


class CallbackRelay:
    """Tells callers' URLs, each at least once and for a day at most; several processes may at a time."""

    def __init__(
        self,
        *,
        store: Store,
        status: StatusDesk,
        client: GuardedClient,
        clock: Clock,
        secrets: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._status = status
        self._client = client
        self._clock = clock
        self._keys = [key for key in map(whsec_key, secrets) if key is not None]

    async def run(self) -> None:
        """Tell what is due until cancelled."""
        while True:
            try:
                is_busy = await self.tell_due()
            except Unavailable:
                is_busy = False
            except Exception:  # a loop must survive what it does not expect
                log.exception("relay.failed")
                is_busy = False
            await asyncio.sleep(0 if is_busy else LOOK_SECONDS)

    async def tell_due(self) -> bool:
        """Tell some that are due; whether there may be more."""
        now = self._clock.now()
        works = await self._store.lease_relays(now, now + timedelta(seconds=LEASE_SECONDS), AT_ONCE)
        await asyncio.gather(*map(self._tell, works))
        return len(works) == AT_ONCE

    async def _tell(self, work: RelayWork) -> None:
        outcome, may_retry = await self._try(work)
        now = self._clock.now()
        retry_at = None
        if may_retry and now < work.ended_at + GIVEN_UP_AFTER:
            retry_at = _BACKOFF.next_at(work.attempt, now, self._clock.random())
        await self._store.settle_relay(work.submission_id, outcome, retry_at)
        log.info(
            "order.relayed",
            provider=work.provider,
            task_id=work.task_id,
            submission_id=work.submission_id,
            outcome=outcome,
            attempt=work.attempt,
            is_over=retry_at is None,
        )

    async def _try(self, work: RelayWork) -> tuple[str, bool]:
        """What came of it, and whether another try may bring something else."""
        standing = await self._status.find(work.provider, work.task_id)
        if standing is None:
            return Outcome.UNKNOWN_TASK.value, False
        body = await self._status.document(standing)
        headers = {"Content-Type": "application/json", **self._signed(work, body, self._clock.now())}
        try:
            target = self._client.check(work.callback_url)
            async with asyncio.timeout(TRY_SECONDS):
                status = await self._client.post(target, headers, body)
        except FetchFailed as exc:
            is_lasting = exc.outcome in {Outcome.BAD_URL, Outcome.PRIVATE_ADDRESS}
            return exc.outcome.value, not is_lasting
        except TimeoutError:
            return Outcome.TIMEOUT.value, True
        if 200 <= status < 300:
            return Outcome.DELIVERED.value, False
        return f"status_{status}", status != GONE

    def _signed(self, work: RelayWork, body: bytes, at: datetime) -> dict[str, str]:
        """The headers of Standard Webhooks, where a secret is set."""
        if not self._keys:
            return {}
        id_, stamp = f"evt_{work.submission_id.partition('_')[2]}", str(int(at.timestamp()))
        signed = b"%s.%s.%s" % (id_.encode(), stamp.encode(), body)
        digests = (hmac.digest(key, signed, hashlib.sha256) for key in self._keys)
        signatures = " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
        return {"webhook-id": id_, "webhook-timestamp": stamp, "webhook-signature": signatures}
