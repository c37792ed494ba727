"""What a request is about: times in range, and names that are known here."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from receiver.errors import Rejected
from receiver.models import EventType, TaskState, WorkFilter
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.web.problems import UnknownInPath
from receiver.web.shapes import TaskId

MAX_TASK_IDS = 1000
MAX_BODY_BYTES = 2**20  # with that many of the longest, of which each character may take several bytes

When = Annotated[datetime, msgspec.Meta(tz=True)]
Sinks = Annotated[tuple[str, ...], msgspec.Meta(max_length=100)]


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request applies to; what is left out lets everything pass. Times are RFC 3339.

    They compare with when the task was submitted (stage ``poll``), its result came (``fetch``,
    ``reprocess``) or its event ended (``notify``, dead letters).
    """

    provider: str | None = None
    owner: str | None = None
    state: TaskState | None = None
    type: EventType | None = None
    since: When | None = None
    until: When | None = None
    task_ids: Annotated[tuple[TaskId, ...], msgspec.Meta(max_length=MAX_TASK_IDS)] = ()

    def __post_init__(self) -> None:
        check_span(self.since, self.until)


def check_span(since: datetime | None, until: datetime | None) -> None:
    """Raises ValueError where no time lies between the two, or one of them is out of range."""
    _check_in_range("since", since)
    _check_in_range("until", until)
    if since and until and since >= until:
        raise ValueError("nothing can match: `since` must be before `until`")


def _check_in_range(name: str, when: datetime | None) -> None:
    # At either end of the calendar a time can lie outside of it in UTC.
    try:
        if when is not None:
            when.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError(f"`{name}` is out of range") from exc


def work_filter(wanted: Filter) -> WorkFilter:
    return WorkFilter(**{name: getattr(wanted, name) for name in WorkFilter.__struct_fields__})


def clauses(wanted: Filter | WorkFilter) -> list[str]:
    """The names of the fields that are set: what a log line says of a filter."""
    return [name for name in WorkFilter.__struct_fields__ if getattr(wanted, name)]


def check_provider(runtime: Runtime, name: str | None) -> None:
    """Raises Rejected, naming those that are known."""
    if name is not None and name not in runtime.providers:
        raise Rejected(ProblemType.UNKNOWN_PROVIDER, _must_be("provider", runtime.providers))


def check_metadata(runtime: Runtime, keys: Iterable[str]) -> None:
    """Raises Rejected for a key of metadata by which nothing can be found fast, naming those that can."""
    known = runtime.settings.metadata_index
    if unknown := sorted(set(keys) - set(known)):
        raise Rejected(
            ProblemType.NOT_INDEXED,
            f"`metadata.{unknown[0][:64]}` is not indexed: add the key to RECEIVER_METADATA_INDEX where the"
            f" service runs (now: {', '.join(known) or 'none'}), and restart it.",
        )


def check_sinks(runtime: Runtime, names: Iterable[str]) -> None:
    """Raises Rejected, naming those that are set."""
    if not runtime.sinks.keys() >= set(names):
        raise Rejected(ProblemType.UNKNOWN_SINK, _must_be("sink", runtime.sinks))


def unknown_task(runtime: Runtime, provider: str) -> Rejected:
    """Why a task that a path names is not there. One of a provider that was removed may well be."""
    if provider in runtime.providers:
        return Rejected(ProblemType.UNKNOWN_TASK, "No submission of this task was logged here.")
    return UnknownInPath(ProblemType.UNKNOWN_PROVIDER, _must_be("provider", runtime.providers))


def _must_be(what: str, known: Iterable[str]) -> str:
    return f"A {what} must be one of: {', '.join(sorted(known))}."
