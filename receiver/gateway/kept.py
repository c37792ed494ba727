"""What is kept of an order's body: as it came, without the images that are in it."""

import hashlib

import msgspec

from receiver.payload import storable

MAX_KEPT_BYTES = 65_536
_INLINE = "data:"


def kept_request(values: object) -> object | None:
    """The document with each ``data:`` URL replaced by its length and hash; None where it is too large."""
    kept = storable(_without_inline(values))
    try:
        return kept if len(msgspec.json.encode(kept)) <= MAX_KEPT_BYTES else None
    except (ValueError, TypeError, RecursionError, OverflowError):  # what JSON may hold and this may not
        return None


def _without_inline(value: object) -> object:
    match value:
        case str() if value.startswith(_INLINE):
            raw = value.encode("utf-8", "surrogatepass")
            return {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
        case dict():
            return {key: _without_inline(inner) for key, inner in value.items()}
        case list():
            return [_without_inline(inner) for inner in value]
        case _:
            return value
