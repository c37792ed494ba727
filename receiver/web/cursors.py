"""Cursors of lists: sealed for callers, whom they tell nothing, and opened for the store."""

from receiver.runtime import Runtime


def opened(runtime: Runtime, list_name: str, cursor: str | None) -> str | None:
    """The store's cursor; for one that is not ours a text that no store takes for one of its own."""
    return None if cursor is None else runtime.tokens.open_cursor(list_name, cursor) or ""


def sealed(runtime: Runtime, list_name: str, cursor: str | None) -> str | None:
    """The cursor as its caller gets it."""
    return None if cursor is None else runtime.tokens.seal_cursor(list_name, cursor)
