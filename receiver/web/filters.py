"""What a request is about: times in range, and names that are known here."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from receiver.errors import Rejected
from receiver.models import EventType, TaskState, WorkFilter
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.web.problems import UnknownInPath
from receiver.web.shapes import Moment, TaskId, shape, text_or_none

MAX_TASK_IDS = 1000
MAX_BODY_BYTES = 2**20  # with that many of the longest, of which each character may take several bytes

TIMES = ("since", "until", "logged_since", "logged_until")

When = Annotated[datetime, msgspec.Meta(tz=True)]
Sinks = Annotated[tuple[str, ...], msgspec.Meta(max_length=100)]


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request applies to; what is left out lets everything pass. Times are RFC 3339.

    ``since`` and ``until`` compare with when the task was submitted (stage ``poll``), its result came
    (``fetch``, ``reprocess``) or its event ended (``notify``, dead letters); ``logged_since`` and
    ``logged_until`` with when the task was logged, as those of ``GET /tasks`` do.
    """

    provider: str | None = None
    owner: str | None = None
    state: TaskState | None = None
    type: EventType | None = None
    since: When | None = None
    until: When | None = None
    logged_since: When | None = None
    logged_until: When | None = None
    task_ids: Annotated[tuple[TaskId, ...], msgspec.Meta(max_length=MAX_TASK_IDS)] = ()

    def __post_init__(self) -> None:
        check_span(self.since, self.until)
        check_span(self.logged_since, self.logged_until, "logged_")


def check_span(since: datetime | None, until: datetime | None, prefix: str = "") -> None:
    """Raises ValueError where no time lies between the two, or one of them is out of range.

    ``prefix`` is what their names begin with.
    """
    _check_in_range(f"{prefix}since", since)
    _check_in_range(f"{prefix}until", until)
    if since and until and since >= until:
        raise ValueError(f"nothing can match: `{prefix}since` must be before `{prefix}until`")


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


class FilterShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The clauses that were set."""

    provider: str | None = None
    owner: str | None = None
    state: TaskState | None = None
    type: EventType | None = None
    since: Moment | None = None
    until: Moment | None = None
    logged_since: Moment | None = None
    logged_until: Moment | None = None
    task_ids: tuple[str, ...] = ()


def shown_filter(wanted: WorkFilter) -> FilterShown:
    times = {name: text_or_none(getattr(wanted, name)) for name in TIMES}
    return shape(FilterShown, wanted, **times)


def filter_shown(wanted: WorkFilter) -> dict[str, Any]:
    """The same as a JSON document, as the record gives it back: its lists are no tuples."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(shown_filter(wanted)))
    return document


def in_words(about: Mapping[str, Any] | None) -> str:
    """What a filter lets pass, as it would be typed: ``state=failed since=2026-11-29T14:00:00.000Z``."""
    document = dict(about or {})
    tasks = document.pop("task_ids", ())
    words = [
        f"{name}={', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in document.items()
    ]
    return " ".join(words + ([f"{len(tasks)} picked"] if tasks else []))


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
