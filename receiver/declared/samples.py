"""What a sample is read as, and which of the declared paths lead nowhere in it."""

from collections.abc import Iterator

import msgspec

from receiver import payload
from receiver.declared.json_paths import Path, first_at, values_at
from receiver.declared.provider import DeclaredProvider, word_of
from receiver.models import Report, ReportState, StatusRequest

MOST_NAMES = 12


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A key whose path leads nowhere, or whose word is not known."""

    key: str
    detail: str


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one document says, by a provider's table."""

    report: Report
    request: StatusRequest | None  # by which the task would be asked about
    gaps: tuple[Gap, ...]


def read_sample(provider: DeclaredProvider, document: object, model: str | None) -> Reading:
    report = provider.parse(document)
    asked = None if report.task_id is None else provider.status_request(report.task_id, model)
    return Reading(report=report, request=asked, gaps=tuple(_gaps(provider, document, report)))


def _gaps(provider: DeclaredProvider, document: object, report: Report) -> Iterator[Gap]:
    told = provider.declaration
    if report.task_id is None:
        yield Gap(key="id", detail=_why_nowhere(document, told.id, "it is no text and no whole number"))
    word = word_of(first_at(document, told.state))
    if word is None:
        yield Gap(key="state", detail=_why_nowhere(document, told.state, "it is no word"))
    elif word not in told.states:
        lists = ", ".join(f"states.{each}" for each in ("progress", "completed", "failed"))
        yield Gap(key="states", detail=f"the word {word!r} stands in none of its lists: add it to {lists}")
    state = told.states.get(word or "")
    if state is ReportState.COMPLETED and report.task_id is not None and not report.files:
        at = tuple(place.at for place in told.files)
        yield Gap(key="files", detail=_why_nowhere(document, at, "there is no link that is understood"))
    if state is ReportState.FAILED and not (report.error_code or report.error_message):
        said = (*told.error, *told.error_code, *told.error_message)
        yield Gap(
            key="error", detail=_why_nowhere(document, said, "there are no words") if said else "not set"
        )


def _why_nowhere(document: object, paths: tuple[Path, ...], otherwise: str) -> str:
    """Where each path ends, and what stands there instead; ``otherwise`` where one leads somewhere."""
    if any(True for path in paths for _ in values_at(document, path)):
        return f"what is at {', '.join(map(text_of, paths))} is not it: {otherwise}"
    return "; ".join(_end_of(document, path) for path in paths)


def _end_of(document: object, path: Path) -> str:
    steps = 0
    while steps < len(path) and any(True for _ in values_at(document, path[: steps + 1])):
        steps += 1
    here = next(values_at(document, path[:steps]), None)
    place = f"in {text_of(path[:steps])}" if steps else "at the top"
    return f"nothing at {text_of(path)}; {place} there {_found(payload.embedded(here))}"


def _found(here: object) -> str:
    """What stands where a path ends too early, behind ``there``."""
    match here:
        case dict() | list() if not here:
            return f"is an empty {'object' if isinstance(here, dict) else 'array'}"
        case dict():
            return f"are {', '.join(list(here)[:MOST_NAMES])}"
        case list():
            return "is an array: [] behind it is every item, [0] its first"
        case str():
            return "is a text"
    return "is nothing" if here is None else "is a number, true or false"


def text_of(path: Path) -> str:
    """A path as it was written."""
    parts = (f".{step}" if isinstance(step, str) else "[]" if step is None else f"[{step}]" for step in path)
    return "".join(parts).removeprefix(".")
