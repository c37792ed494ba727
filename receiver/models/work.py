"""What is leased, and how an attempt at it ended.

A lease must still be on its row when the work is settled.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from receiver.models.spending import Cost
from receiver.models.states import AssetState, EventType, Outcome, Via
from receiver.models.tasks import ProviderFacts


class AssetWork(msgspec.Struct, frozen=True, kw_only=True):
    """A leased asset. ``lease`` must still be on the row when the work is settled."""

    event_id: str
    provider: str
    task_id: str
    owner: str
    index: int
    url: str
    kind: str
    host_hash: int  # of the host that the link names
    attempt: int  # this one's number, from 1
    last: Outcome | None  # how the one before ended
    alike: int  # how many before it, in a row, ended so
    deadline_at: datetime
    model: str | None
    renewed: bool  # its link was asked for anew already
    replay_id: str | None
    lease: str
    stored_bytes: int  # of its task's files so far
    received_at: datetime | None = None  # when what ended its task came
    # By ``Clock.uptime``: from then on another process may be at it, so nothing may be stored any more.
    void_at: timedelta | None = None


def poll_lane(provider: str) -> str:
    """The name of the lane, and of the loop, on which a provider is asked."""
    return f"poll {provider}"


class LaneClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A lane that a process wants, and what it says of it if it has it."""

    name: str
    state: str
    closed_seconds: float = 0.0  # for which nobody should ask there


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """What others did on a lane that this process has."""

    turns: int  # how often they took one, all in all
    closed_seconds: float  # until something may be asked again; below zero where it may be now


FetchShare = tuple[str, int]  # a provider, and the hash of a host


class FetchLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What is being fetched, by provider and the hash of the host, and how much of one there may be."""

    running: Mapping[FetchShare, int] = {}
    recent: Sequence[FetchShare] = ()  # of whom files were begun lately, the last one last
    proven: Collection[FetchShare] = ()  # who sent a whole file lately
    most_of_provider: int = sys.maxsize
    most_of_host: int = sys.maxsize
    # Of what is not proven: one host, and all of a provider's together.
    most_of_unproven_host: int = sys.maxsize
    most_of_unproven: int = sys.maxsize


NO_LOAD = FetchLoad()


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished download is: the facts a consumer gets."""

    key: str
    media_type: str
    bytes: int
    width: int | None
    height: int | None
    sha256: str


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended, and what follows: done, again at ``retry_at``, or never.

    Without ``uses_attempt`` it was no fault of an outbox entry's, and the next attempt has its number. A
    probe's attempt (``is_probe``) is added to an equal one in the history, and never makes a new line there.
    ``links`` are those of the event's files that its provider still names, by their index, as it names them
    now: they replace the link of the asset itself, and those of the event's other files that wait.
    ``link_may_be_dead``: its host said so, or something that means it; another link may still be alive.
    """

    outcome: Outcome
    started_at: datetime
    settled_at: datetime
    retry_at: datetime | None = None
    detail: str | None = None
    uses_attempt: bool = True
    is_probe: bool = False
    file: StoredFile | None = None
    link_may_be_dead: bool = False
    links: Mapping[int, str] = {}
    links_die_at: datetime | None = None


class PollWork(msgspec.Struct, frozen=True, kw_only=True):
    """A leased question: how did this task end?"""

    submission_id: str
    provider: str
    task_id: str
    model: str | None
    submitted_at: datetime
    attempt: int  # this one's number, from 1
    held: bool  # a callback waits for the answer
    replay_id: str | None
    upstream_key: str | None = None  # of what went through the gateway: the hash of the key that ordered it
    lease: str


class AnnouncedAsset(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision of an event says of one file."""

    index: int
    state: AssetState
    outcome: Outcome | None
    key: str | None
    media_type: str | None
    bytes: int | None
    width: int | None
    height: int | None
    sha256: str | None


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision of an event says, in its message's own forms: times are text, ``metadata`` is JSON."""

    id: str  # the event's
    provider: str
    task_id: str
    submission_id: str
    owner: str
    model: str | None
    metadata: str
    submitted_at: str
    received_at: str
    via: Via
    type: EventType | None  # unset, as ``ended_at`` is, where it has not ended
    ended_at: str | None
    error_code: str | None
    error_message: str | None
    traceparent: str | None
    assets: tuple[AnnouncedAsset, ...]
    cost: Cost | None = None  # of what was ordered through the gateway


class OutboxWork(msgspec.Struct, frozen=True, kw_only=True):
    """A leased outbox entry with all that its message is made of: ``event`` as ``revision`` announced it."""

    id: str  # as people see it
    number: int  # the store's own
    sink: str
    attempt: int  # this one's number, from 1
    created_at: datetime
    revision: int
    replay_id: str | None
    event: Announcement
    lease: str


class AnnouncedPage(msgspec.Struct, frozen=True, kw_only=True):
    """Messages as they were queued, each once however many sinks get it, and the cursor behind the last.

    There may be fewer than were asked for, or none, and more behind the cursor.
    """

    works: tuple[OutboxWork, ...]  # of no sink in particular, and leased by nobody
    cursor: str


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """What asking a provider for an asset's link anew came to, as of ``at``.

    Without ``links_die_at`` it could not be asked now, and ``retry_at`` is when to come again.
    """

    at: datetime
    detail: str
    retry_at: datetime | None = None
    links: Mapping[int, str] = {}  # of those of the task's files that the provider still names, by index
    links_die_at: datetime | None = None


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator set of how one provider's API is reached, and how often; None: as its facts say."""

    api_keys: tuple[str, ...] = ()  # without one it is not asked at all
    base_url: str | None = None  # without a slash at its end
    polls_per_minute: int | None = None
    first_poll_seconds: float | None = None
    webhook_secrets: tuple[str, ...] = ()  # with which its callbacks must be signed, where there are any
    webhook_keys_url: str | None = None  # where the public keys are with which they must be

    def __repr__(self) -> str:
        return f"Access(base_url={self.base_url!r})"  # no key

    @property
    def api_key(self) -> str | None:
        """The first, by which all is asked about that no other key ordered."""
        return self.api_keys[0] if self.api_keys else None

    def url(self, facts: ProviderFacts) -> str:
        """Where its API is, without a slash at the end."""
        return self.base_url or facts.base_url.rstrip("/")

    def per_minute(self, facts: ProviderFacts) -> int:
        """How often it may be asked."""
        return self.polls_per_minute or facts.polls_per_minute

    def first_seconds(self, facts: ProviderFacts) -> float:
        """How long after its submission a task is asked about for the first time."""
        own = self.first_poll_seconds
        return float(facts.first_poll_seconds) if own is None else own
