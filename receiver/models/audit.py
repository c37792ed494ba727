"""What people did by hand: an entry for each act, whichever door it came by."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class Act(StrEnum):
    """What was done, in the words of the log."""

    REPLAY_STARTED = "replay.started"
    REPLAY_PAUSED = "replay.paused"
    REPLAY_RESUMED = "replay.resumed"
    REPLAY_CANCELLED = "replay.cancelled"
    DEAD_REQUEUED = "dead_letters.requeued"
    DEAD_MOVED = "dead_letters.moved"
    DEAD_DROPPED = "dead_letters.dropped"
    SUBMISSION_BOUND = "submission.bound"
    SUBMISSION_WITHDRAWN = "submission.withdrawn"
    BUDGET_SET = "budget.set"
    BUDGET_REMOVED = "budget.removed"
    SINK_TESTED = "sink.tested"
    PROVIDER_PROBED = "provider.probed"
    PROMPT_REVEALED = "prompt.revealed"
    LOGGED_IN = "login.succeeded"
    LOGIN_FAILED = "login.failed"
    LOGIN_LINK_MADE = "login.link_made"
    SESSIONS_ENDED = "sessions.ended"
    GATEWAY_TOKEN_ADDED = "gateway_token.added"  # noqa: S105 - an act
    GATEWAY_TOKEN_REVOKED = "gateway_token.revoked"  # noqa: S105
    SETTINGS_CHANGED = "settings.changed"


CLI_AGENT = "receiver-cli"  # the command line's requests begin their User-Agent so


class Door(StrEnum):
    """By which door it came."""

    PAGE = "page"
    API = "api"
    CLI = "cli"  # as its client says, and any client could
    SERVICE = "service"  # a start


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts, as far as a token shows."""

    who: str  # as logs have it: the role, and the token's name or where its hash begins
    role: str
    door: Door
    said_name: str = ""  # who it is, as they say themselves; not proven


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One act. It holds no token, no prompt, no link: ids, names, numbers, and the reason that was given."""

    at: datetime
    act: Act
    who: str
    role: str
    door: Door
    said_name: str = ""
    target: str | None = None  # the id of what it was about, or that it made: a replay, a submission
    filter: Mapping[str, Any] | None = None  # what it was about, where that was more than one thing
    planned: int | None = None  # how many it was to be about
    done: int | None = None  # how many it was about
    reason: str | None = None
    result: str | None = None
    key: str | None = None  # no second entry has it: so an act is done, and noted, once


class AuditRow(AuditEntry, frozen=True, kw_only=True):
    """An entry as it is listed."""

    number: int


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries to list; unset fields let everything pass."""

    who: str | None = None
    act: Act | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a list, newest first, and where the next part begins."""

    entries: tuple[AuditRow, ...]
    next_cursor: str | None


MOST_REASON = 200  # characters


def audit_entry(act: Act, actor: Actor, at: datetime, *, reason: str = "", **more: Any) -> AuditEntry:
    """An entry of an act. Of a reason some characters are kept, on one line."""
    kept = " ".join(reason.split())[:MOST_REASON] or None
    return AuditEntry(
        at=at,
        act=act,
        who=actor.who,
        role=actor.role,
        door=actor.door,
        said_name=actor.said_name,
        reason=kept,
        **more,
    )
