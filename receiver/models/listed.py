"""Rows that only people ask for, on the admin pages."""

from datetime import datetime

import msgspec

from receiver.models.states import Outcome, Proof, Verdict, Via


class TaskKey(msgspec.Struct, frozen=True, kw_only=True):
    """Which task."""

    provider: str
    task_id: str


class OddDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A callback or an answer that did not count as it came, or at all."""

    id: str | None  # None where it came by no submission's token, and nobody owns it
    provider: str
    task_id: str  # '' where it names none
    claim: str  # the submission that its token names, or ''
    submission_id: str | None  # whose task it is about
    verdict: Verdict
    proof: Proof
    via: Via
    provider_state: str | None
    note: str | None
    bytes: int
    seen: int
    received_at: datetime
    last_seen_at: datetime


class OddPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, newest first, and where the next part begins."""

    deliveries: tuple[OddDelivery, ...]
    next_cursor: str | None


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is still to be fetched. ``waiting`` says how many do, up to a bound."""

    provider: str
    task_id: str
    owner: str
    index: int
    kind: str
    attempts: int
    outcome: Outcome | None  # of the last try
    due_at: datetime
    deadline_at: datetime  # when its link dies
    waiting: int


class OpenTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that has not ended, and how it is asked about. ``outcome`` is of the last question."""

    provider: str
    task_id: str
    owner: str
    submitted_at: datetime
    asked: int
    outcome: Outcome | None
    due_at: datetime


class KeptBody(msgspec.Struct, frozen=True, kw_only=True):
    """A callback or an answer as it came. ``body`` is None where it is kept no more, or is too large."""

    via: Via
    verdict: Verdict
    digest: str
    size: int  # bytes, 0 where the body is not kept any more
    received_at: datetime
    body: bytes | None
