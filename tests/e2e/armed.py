"""A process that dies, as by `kill -9`, at a named place of its code; the product has no such places.

The place is patched before the command line is called, so nothing in a setting, a variable or the code that
people run can arm it.
"""

import functools
import inspect
import itertools
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from typing import Any, Literal

import msgspec


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where to die: ``before`` or ``after`` a call, or ``halfway``, with half of its last argument done.

    ``count`` says at which call; only those count that come when ``once``, another place, has been reached.
    ``emptied`` kills nobody: the place is a table, and the process has to live without what is in it.
    """

    place: str  # module:name or module:Class.name
    when: Literal["before", "after", "halfway", "emptied"] = "before"
    count: int = 1
    once: str | None = None


def arm(fault: Fault) -> None:
    """Patch the place."""
    if fault.when == "emptied":
        pkgutil.resolve_name(fault.place).clear()
        return
    is_open = _gate(fault.once)
    calls = itertools.count(1)  # one step of the interpreter: calls may come from any thread

    def strikes() -> bool:
        return is_open() and next(calls) == fault.count

    _patch(fault.place, lambda original: _deadly(original, fault.when, strikes))


def _gate(place: str | None) -> Callable[[], bool]:
    """Whether a place has been reached."""
    reached = [place is None]

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def note(*args: Any, **kwargs: Any) -> Any:
            reached[0] = True
            return original(*args, **kwargs)

        return note

    if place is not None:
        _patch(place, noting)
    return lambda: reached[0]


def _patch(place: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    module, _, path = place.partition(":")
    inside, _, name = path.rpartition(".")
    owner = pkgutil.resolve_name(f"{module}:{inside}") if inside else pkgutil.resolve_name(module)
    original = getattr(owner, name)
    changed = change(original)
    setattr(owner, name, changed)
    if not inside:  # who has imported it by name has it, too
        for importer in [each for key, each in sys.modules.items() if key.startswith("receiver.")]:
            if vars(importer).get(name) is original:
                setattr(importer, name, changed)


def _deadly(original: Callable[..., Any], when: str, strikes: Callable[[], bool]) -> Callable[..., Any]:
    @functools.wraps(original)
    def before(*args: Any, **kwargs: Any) -> Any:
        if strikes():
            if when == "halfway":
                *others, whole = args
                original(*others, whole[: len(whole) // 2], **kwargs)
            _die()
        return original(*args, **kwargs)

    @functools.wraps(original)
    def after(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if strikes():
            _die()
        return result

    @functools.wraps(original)
    async def after_awaited(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        if strikes():
            _die()
        return result

    if when != "after":
        return before
    return after_awaited if inspect.iscoroutinefunction(original) else after


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
