"""Which of a provider's paths a request is for: matched segment by segment, never joined to anything."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from urllib.parse import parse_qsl, unquote

import msgspec

from receiver.models import OrderFacts
from receiver.payload import task_id as usable_task_id

OWNER_MARK = "o."  # in front of an owner's name, in a segment behind the provider's

MAX_TARGET_CHARACTERS = 4096
MAX_MODEL_CHARACTERS = 200

_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*")


class Kind(StrEnum):
    """What is wanted at a path."""

    ORDER = "order"
    STATUS = "status"
    PASSAGE = "passage"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A request for one of the paths that a provider's facts name."""

    kind: Kind
    target: str  # path and query as they came, without what is ours
    model: str | None = None  # where the path names one
    task_id: str | None = None


def split_owner(rest: str) -> tuple[str | None, str]:
    """The owner that the first segment names, percent-encoded, and the path behind it."""
    first, slash, behind = rest.lstrip("/").partition("/")
    if first.startswith(OWNER_MARK) and slash:
        return first.removeprefix(OWNER_MARK), behind
    return None, rest


def match(facts: OrderFacts, method: str, path: str, query: str) -> Wanted | None:
    """What a request is for; None for anything that the facts do not name.

    ``path`` is as it came, behind the provider's name. Double slashes and one at its end are tolerated.
    """
    segments = [segment for segment in path.split("/") if segment]
    target = "/" + "/".join(segments) + (f"?{query}" if query else "")
    if len(target) > MAX_TARGET_CHARACTERS or not _is_plain(segments, query):
        return None
    for kind, its_method, template in _candidates(facts):
        if method == its_method and (found := _places(template, segments, query)) is not None:
            return _wanted(kind, target, found)
    return None


def _candidates(facts: OrderFacts) -> Iterator[tuple[Kind, str, str]]:
    yield from ((Kind.ORDER, "POST", each) for each in facts.order_paths)
    yield from ((Kind.STATUS, "GET", each) for each in facts.status_paths)
    yield from ((Kind.PASSAGE, each.method, each.path) for each in facts.passages)


def _is_plain(segments: list[str], query: str) -> bool:
    """Whether nothing in it could be read as another path by whoever reads it next."""
    if _QUERY.fullmatch(query) is None:
        return False
    for segment in segments:
        if _SEGMENT.fullmatch(segment) is None:
            return False
        if "%" not in segment:  # it means what it says
            if segment in {".", ".."}:
                return False
            continue
        decoded = unquote(segment)
        if "\0" in decoded:
            return False
        if any(part in {".", ".."} for part in decoded.replace("\\", "/").split("/")):
            return False
    return True


def _places(template: str, segments: list[str], query: str) -> Mapping[str, str] | None:
    """What stands in the places of a path's template; None where it is another path."""
    beginning, place, parameter = _parts(template)
    if segments[: len(beginning)] != beginning:
        return None
    rest = segments[len(beginning) :]
    found: dict[str, str] = {}
    if place == "model}" and rest:
        found["model"] = "/".join(map(unquote, rest))
    elif place == "task_id}" and len(rest) == 1:
        found["task_id"] = unquote(rest[0], errors="strict") if _is_text(rest[0]) else ""
    elif place or rest:
        return None
    if parameter:
        given = [value for name, value in _pairs(query) if name == parameter.partition("=")[0]]
        found["task_id"] = given[0] if len(given) == 1 else ""
    return found


@cache
def _parts(template: str) -> tuple[list[str], str, str]:
    """The segments that a template begins with, what stands behind them, and the parameter of its query."""
    pattern, _, parameter = template.partition("?")
    literal, _, place = pattern.strip("/").partition("{")
    return literal.strip("/").split("/"), place, parameter


def _wanted(kind: Kind, target: str, found: Mapping[str, str]) -> Wanted | None:
    model, task_id = found.get("model"), found.get("task_id")
    if model is not None and not (len(model) <= MAX_MODEL_CHARACTERS and model.isprintable()):
        return None
    if task_id is not None and usable_task_id(task_id) != task_id:
        return None
    return Wanted(kind=kind, target=target, model=model, task_id=task_id)


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=50)
    except ValueError:  # too many
        return []


def _is_text(segment: str) -> bool:
    try:
        unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return False
    return True
