"""Simple JSON paths such as ``data.images[].url``: read once, and followed into any document without raising.

Names are divided by dots. ``[]`` is every item of an array, ``[0]`` its first one. Where a path leads into a
text, the text is read as JSON, as some providers send their results.
"""

import re
from collections.abc import Iterable, Iterator

from receiver import payload

WORDS = "a path such as data.task_id, result.images[].url or output[0]"
MOST_STEPS = 12

Path = tuple[str | int | None, ...]  # a name, a place in an array, or None for every item

_STEPS = re.compile(r"(?:[^.\[\]\s]+|(?=\[))(?:\[[0-9]{0,3}\])*(?:\.[^.\[\]\s]+(?:\[[0-9]{0,3}\])*)*")
_STEP = re.compile(r"[^.\[\]]+|\[[0-9]*\]")


def parse_path(text: str) -> Path:
    """The steps of a path. Raises ValueError for what is none."""
    if not _STEPS.fullmatch(text):
        raise ValueError(WORDS)
    steps = tuple(map(_step, _STEP.findall(text)))
    if len(steps) > MOST_STEPS:
        raise ValueError(WORDS)
    return steps


def _step(text: str) -> str | int | None:
    if not text.startswith("["):
        return text
    return int(text[1:-1]) if text[1:-1] else None


def values_at(document: object, path: Path) -> Iterator[object]:
    """Everything that is there, in the order of the document; nulls are not."""
    if None not in path:
        found = _value_at(document, path)
        if found is not None:
            yield found
        return
    every = path.index(None)
    for item in payload.items(payload.embedded(_value_at(document, path[:every]))):
        yield from values_at(item, path[every + 1 :])


def first_at(document: object, paths: Iterable[Path]) -> object:
    """The first value that one of the paths leads to; None where none does."""
    for path in paths:
        # Most name one place, which is followed without a generator.
        found = next(values_at(document, path), None) if None in path else _value_at(document, path)
        if found is not None:
            return found
    return None


def _value_at(document: object, path: Path) -> object:
    """What a path without ``[]`` leads to; None where nothing is."""
    for step in path:
        inner = payload.embedded(document) if isinstance(document, str) else document
        if isinstance(inner, dict):
            document = inner.get(step)
        elif isinstance(inner, list) and isinstance(step, int) and step < len(inner):
            document = inner[step]
        else:
            return None
    return document
