"""An event as consumers get it, read from its message; fields and types that are not known are kept."""

from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from receiver.client.errors import Reason, VerificationError

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a task. ``url`` is a signed link, for a while; unset where the file could not be had.

    ``outcome`` then says why. ``width`` and ``height`` are those of an image.
    """

    index: int
    state: str  # stored, failed; pending while it is fetched
    outcome: str | None = None
    url: str | None = None
    key: str | None = None
    media_type: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    sha256: str | None = None


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task failed: the provider's own words, or an outcome's name."""

    code: str | None = None
    message: str | None = None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a task costs, as far as its receiver knows prices."""

    state: str | None = None
    usd: Decimal | None = None
    credits: Decimal | None = None
    basis: str | None = None
    as_of: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """How one task ended. Repeats have the same ``dedupe_key``; ``subject`` names the task for ever.

    ``type`` is ``task.completed``, ``task.partial`` or ``task.failed``; ``receiver.test`` for what ``receiver
    sinks test`` sends, which is about no task. ``raw`` is the message, with whatever else is in it.
    """

    id: str  # of this revision
    type: str
    subject: str  # "<provider>/<task id>"
    provider: str
    task_id: str
    submission_id: str
    owner: str
    model: str | None
    metadata: dict[str, JSON]
    revision: int  # 2 and up: files that were missing were fetched after all
    replay_id: str | None  # set when a person sent it again on purpose
    assets: tuple[Asset, ...]
    error: Error | None
    cost: Cost | None
    raw: bytes

    @property
    def dedupe_key(self) -> str:
        """The same for every repeat of a revision. A replay has another: it is meant to be handled again."""
        return f"{self.id}:{self.replay_id}" if self.replay_id else self.id

    @property
    def stored(self) -> tuple[Asset, ...]:
        """The files that can be had; every other one of ``assets`` says in its ``outcome`` why not."""
        return tuple(asset for asset in self.assets if asset.state == "stored")


class _Data(msgspec.Struct):
    """``receiver.test`` has every field, and null in most."""

    provider: str | None
    task_id: str | None
    submission_id: str | None
    owner: str | None
    model: str | None = None
    metadata: dict[str, Any] | None = None
    assets: tuple[Asset, ...] = ()
    error: Error | None = None
    cost: Cost | None = None


class _Message(msgspec.Struct):
    id: str
    type: str
    subject: str
    data: _Data
    revision: int = 1
    replayid: str | None = None


_decode = msgspec.json.Decoder(_Message).decode


def read_event(body: bytes) -> Event:
    """The event in a message, whose origin is known. Raises VerificationError (form)."""
    try:
        message = _decode(body)
    except (ValueError, RecursionError) as exc:
        # Where it goes wrong, and not what is there.
        raise VerificationError(Reason.FORM, f"this is no event of a receiver ({exc})") from exc
    data = message.data
    return Event(
        id=message.id,
        type=message.type,
        subject=message.subject,
        provider=data.provider or "",
        task_id=data.task_id or "",
        submission_id=data.submission_id or "",
        owner=data.owner or "",
        model=data.model,
        metadata=data.metadata or {},
        revision=message.revision,
        replay_id=message.replayid,
        assets=data.assets,
        error=data.error,
        cost=data.cost,
        raw=body,
    )
