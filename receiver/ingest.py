"""A callback or a poll answer becomes a recorded, owned, deduplicated delivery: verify, parse, record.

Nothing slow happens here and nothing is fetched: when ``accept`` returns, the fact is durable.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import msgspec
import structlog

from receiver import forms, payload
from receiver.errors import NotAuthentic, Rejected
from receiver.links import inline_link, is_data_url, link_name
from receiver.models import (
    MAX_URL_LENGTH,
    Callback,
    KeptDelivery,
    Outcome,
    Proof,
    Receipt,
    Recording,
    RefusalReason,
    Report,
    ReportState,
    SigningKeys,
    Verdict,
    VerifiedCallback,
    Via,
    poll_lane,
)
from receiver.ports import Provider, Store
from receiver.problem_types import ProblemType
from receiver.tokens import TokenClaim, Tokens

log = structlog.get_logger()

# A longer link is followed by nobody. It is kept so far as to be too long still, and no further.
MOST_LINK_CHARS = MAX_URL_LENGTH + 1

_UNTOKENED = TokenClaim(proof=Proof.NONE)
_SIGNED = TokenClaim(proof=Proof.SIGNATURE)
# Whoever saw one such request can send any body with it: it proves no more than the URL would.
_SIGNED_BY_SENDER = TokenClaim(proof=Proof.PROVIDER)


class CountUnsigned(Protocol):
    """Counts a callback that is not signed right."""

    def __call__(self, provider: str, *, by_token: bool) -> None: ...


class KeySource(Protocol):
    """What the signatures of one provider are checked with."""

    async def check(self, verify: Callable[[SigningKeys], bool]) -> bool:
        """Whether ``verify`` says yes with the keys of now. Raises Unavailable where there are none yet."""


class Secrets:
    """Secrets that the operator set."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = SigningKeys(secrets=tuple(secrets))

    async def check(self, verify: Callable[[SigningKeys], bool]) -> bool:
        return verify(self._keys)


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose body is worth reading. Made by ``Ingest.authorize`` and nowhere else."""

    provider: str
    token: str | None
    claim: TokenClaim | None  # None: only a signature can prove it
    is_signed: bool  # it must be, so that its headers are looked at


class Ingest:
    """The one way in, for callbacks and poll answers alike.

    ``signed`` has the providers whose callbacks must be signed, with a token or without, and by what;
    ``in_parts`` those whose callbacks have a part of a result, and that are asked for the whole.
    ``wake`` is told which loops may have work now, by the beginning of their names: ``assets``, ``sink`` or
    ``poll PROVIDER``; and ``tell_due``, or ``wake`` in its place, which ones have.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each a thing of its own
        self,
        *,
        store: Store,
        providers: Mapping[str, Provider],
        tokens: Tokens,
        allow_untokened: bool,
        wake: Callable[[str], None],
        tell_due: Callable[[str], None] | None = None,
        signed: Mapping[str, KeySource] = {},
        count_unsigned: CountUnsigned | None = None,
        in_parts: Collection[str] = (),
        task_ended: Callable[[str, str | None], None] = lambda _provider, _task_id: None,
    ) -> None:
        self._store = store
        self._providers = providers
        self._tokens = tokens
        self._allow_untokened = allow_untokened
        self._wake = wake
        self._tell_due = tell_due or wake
        self._signed = signed
        self._count_unsigned = count_unsigned
        self.in_parts = in_parts
        self._tell_end = task_ended

    def authorize(self, provider: str, token: str | None) -> Admission:
        """Decide by the URL alone, so that a stranger's body is neither awaited nor held.

        ``provider`` is a known one. Raises Rejected (NOT_AUTHENTIC) where no body could change that.
        """
        claim: TokenClaim | None = None  # where a signature has to prove it
        if token is not None:
            claim = self._tokens.check(provider, token)
            if claim is None:
                raise NotAuthentic(RefusalReason.TOKEN_WRONG)
        elif provider not in self._signed:
            if not self._allow_untokened:
                raise NotAuthentic(RefusalReason.TOKEN_MISSING)
            claim = _UNTOKENED
        return Admission(provider=provider, token=token, claim=claim, is_signed=provider in self._signed)

    async def accept(
        self, admission: Admission, *, body: bytes, headers: Mapping[str, str], received_at: datetime
    ) -> tuple[Receipt, Proof]:
        """Verify, parse and record one callback; return the receipt and the proof that it is authentic.

        What an authentic sender sends is recorded whatever it is. Raises Rejected (NOT_AUTHENTIC,
        TOKEN_OF_ANOTHER_TASK; NOT_JSON for what proves nothing) and Unavailable (nothing was recorded).
        """
        verified = await self.verify(admission, body=body, headers=headers, received_at=received_at)
        provider = self._providers[verified.provider]
        report = _read_verified(provider, verified)
        recording = self._recording(
            verified.provider,
            report,
            via=Via.CALLBACK,
            proof=verified.proof,
            submission_id=verified.submission_id,
            body=verified.body,
            received_at=verified.received_at,
        )
        receipt = await self._store.record(recording)
        if receipt.status is Verdict.REFUSED:
            raise Rejected(ProblemType.TOKEN_OF_ANOTHER_TASK, "This callback URL belongs to another task.")
        if receipt.status is Verdict.ACCEPTED:
            self._hand_on(verified.provider, report)
            self._wake(poll_lane(verified.provider))  # it may have to be confirmed
        elif verified.submission_id is not None:
            self.wake_for_early(verified.provider)  # it may have bound the task
        return receipt, verified.proof

    async def accept_answer(
        self, provider: str, report: Report, body: bytes, received_at: datetime
    ) -> Receipt:
        """Record what a provider answered about a task when it was asked; ``report`` names that task.

        Raises Unavailable (nothing was recorded).
        """
        recording = self._recording(
            provider,
            report,
            via=Via.POLL,
            proof=Proof.POLL,
            submission_id=None,
            body=body,
            received_at=received_at,
        )
        receipt = await self._store.record(recording)
        if receipt.status is Verdict.ACCEPTED:
            self._hand_on(provider, report)
        return receipt

    async def judge_held(self, read: Sequence[KeptDelivery], now: datetime) -> bool:
        """Record a task's held callbacks, read anew, as if they came now; return whether that ended the task.

        Raises Unavailable (nothing was recorded).
        """
        has_ended = await self._store.judge_held(read, now)
        if has_ended:
            self._wake("assets")
            self._wake("sink")
            self._tell_end(read[0].recording.provider, read[0].recording.report.task_id)
        return has_ended

    async def mark_lost(self, provider: str, task_id: str, reason: str, at: datetime) -> Receipt:
        """Record that a task will not be asked about any more: it has failed, in our words.

        Raises Unavailable (nothing was recorded).
        """
        report = Report(
            task_id=task_id, state=ReportState.FAILED, error_code=Outcome.LOST.value, error_message=reason
        )
        # There is no document of the provider's to keep, so ours stands in for it.
        body = msgspec.json.encode({"task_id": task_id, "lost": reason})
        return await self.accept_answer(provider, report, body, at)

    async def verify(
        self, admission: Admission, *, body: bytes, headers: Mapping[str, str], received_at: datetime
    ) -> VerifiedCallback:
        """Make a VerifiedCallback (nothing else does): by token, signature, or a rule that needs neither.

        Raises Rejected (NOT_AUTHENTIC), and Unavailable where a signature cannot be checked now.
        """
        claim = admission.claim
        if (keys := self._signed.get(admission.provider)) is not None:
            callback = Callback(
                provider=admission.provider,
                token=admission.token,
                body=body,
                headers=headers,
                received_at=received_at,
            )
            if not await keys.check(partial(self._is_right, callback)):
                # The URL is right, so it is the secret that is not, or the clock; or somebody tries.
                log.warning("callback.unsigned", provider=admission.provider, by_token=claim is not None)
                if self._count_unsigned is not None:
                    self._count_unsigned(admission.provider, by_token=claim is not None)
                raise NotAuthentic(
                    RefusalReason.SIGNATURE_WRONG
                    if claim is None
                    else RefusalReason.SIGNATURE_WRONG_TOKEN_RIGHT
                )
            if claim is None or claim.submission_id is None:
                signs_body = self._providers[admission.provider].facts.signs_body
                claim = _SIGNED if signs_body else _SIGNED_BY_SENDER
        assert claim is not None, "authorize asks for a signature or a claim"  # noqa: S101
        return VerifiedCallback(
            provider=admission.provider,
            proof=claim.proof,
            submission_id=claim.submission_id,
            body=body,
            received_at=received_at,
        )

    def _is_right(self, callback: Callback, keys: SigningKeys) -> bool:
        try:
            return self._providers[callback.provider].verify(callback, keys)
        except Exception as exc:  # noqa: BLE001 - an adapter may be anybody's code, and what it chokes on is not proven
            # Only the type: what it says may be what it choked on.
            log.error(  # noqa: TRY400
                "callback.unverified", provider=callback.provider, reason=f"crashed: {type(exc).__name__}"
            )
            return False

    def wake_for_early(self, provider: str) -> None:
        """A task is known from now on: an early delivery may have found its owner, and so be worked on.

        Not every loop is woken: each that is asks the record, and a provider with a key has one of its own.
        """
        for kind in ("assets", "sink", poll_lane(provider)):
            self._wake(kind)

    def _hand_on(self, provider: str, report: Report) -> None:
        """Wake the loops that go on with an accepted report; with files, its last file ends the task."""
        if report.files:
            self._tell_due("assets")
        else:
            self._tell_due("sink")
            self._tell_end(provider, report.task_id)

    def _recording(
        self,
        provider: str,
        report: Report,
        *,
        via: Via,
        proof: Proof,
        submission_id: str | None,
        body: bytes,
        received_at: datetime,
    ) -> Recording:
        """The record's view of a callback or an answer."""
        return Recording(
            provider=provider,
            via=via,
            proof=proof,
            submission_id=submission_id,
            body=body,
            digest=hashlib.sha256(body).hexdigest()[:32],
            fingerprint=fingerprint(report, with_files=provider not in self.in_parts),
            report=report,
            received_at=received_at,
            links_die_at=links_die_at(self._providers[provider], received_at),
        )


def read_report(provider: Provider, body: bytes) -> Report:
    """What a status answer says. Raises Rejected (NOT_JSON) when it is not JSON at all."""
    return _report(provider, payload.decode(body))


def read_callback(provider: Provider, body: bytes) -> Report:
    """What a callback says, as JSON or as a form. Raises Rejected (NOT_JSON) when it is neither."""
    return _report(provider, forms.decode(body))


def _read_verified(provider: Provider, verified: VerifiedCallback) -> Report:
    try:
        return read_callback(provider, verified.body)
    except Rejected:
        if verified.proof is Proof.NONE:  # it may be anybody's
            raise
        return Report(task_id=None, state=ReportState.UNCLEAR, note="neither JSON nor a form")


def _report(provider: Provider, document: object) -> Report:
    """An adapter may be anybody's code: what makes one crash is kept raw until it is mended."""
    try:
        report = provider.parse(document)
        if len(report.files) > payload.MOST_FILES:
            note = f"names more than {payload.MOST_FILES} files"
            return msgspec.structs.replace(report, state=ReportState.UNCLEAR, files=(), note=note)
        links = [file.url for file in report.files]
        if (kept := [_kept_link(link) for link in links]) != links:
            pairs = zip(report.files, kept, strict=True)
            files = tuple(msgspec.structs.replace(file, url=link) for file, link in pairs)
            report = msgspec.structs.replace(report, files=files)
    except Exception as exc:  # noqa: BLE001 - the sender is authentic, and the bug is ours
        # Only the type: what it says may be the body it choked on.
        note = f"the adapter crashed: {type(exc).__name__}"
        return Report(task_id=None, state=ReportState.UNCLEAR, note=note)
    return report


def _kept_link(link: str) -> str:
    """What of a link goes on record: its bytes stand in the body already where it is a ``data:`` URL."""
    return inline_link(link) if is_data_url(link) else link[:MOST_LINK_CHARS]


def fingerprint(report: Report, *, with_files: bool = True) -> str:
    """Equal for two reports that mean the same end of a task.

    The query of a link is left out: providers sign the same file anew for every answer. So are the
    order of the files and the words of a failure; and without ``with_files`` the files themselves, for who
    tells of one at a time means the same end each time.
    """
    files = sorted([link_name(file.url) for file in report.files]) if with_files else []
    return hashlib.sha256(msgspec.json.encode([report.state, files])).hexdigest()[:32]


def links_die_at(provider: Provider, received_at: datetime) -> datetime:
    """Until when the files of a result can be had."""
    return received_at + timedelta(0, provider.facts.link_life_seconds)
