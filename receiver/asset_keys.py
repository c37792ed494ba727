"""The keys of stored files: what they are made of, and what they say of a file."""

import hashlib
import re
from urllib.parse import quote, unquote

INCOMING = ".incoming"  # where a store may keep what is still being written; no key can name it
MAX_PART_BYTES = 200  # file systems take 255, and so do some buckets

# What a browser may show at once; all else is offered as a download. SVG must never be among them.
_SHOWN = frozenset(f"image/{name}" for name in ("png", "jpeg", "webp", "gif", "avif", "heic", "jxl"))
_PART = re.compile(r"[A-Za-z0-9._~!%-]{1,255}")


def asset_key(provider: str, task_id: str, index: int, extension: str) -> str:
    """``provider/task_id/index.ext``. Different ids give different keys, and none climbs out."""
    return f"{_key_part(provider)}/{_key_part(task_id)}/{index}.{extension}"


def own_key(provider: str, task_id: str, index: int, key: str) -> str:
    """The key that a file would have by itself, whichever it is stored under."""
    return asset_key(provider, task_id, index, key.rpartition(".")[2])


def key_parts(key: str) -> list[str]:
    """The parts of a key, for a store: a second lock on a door that is locked where keys are made.

    Raises ValueError for one that no file can have.
    """
    parts = key.split("/")
    if parts[0] == INCOMING or not all(_PART.fullmatch(part) and part.strip(".") for part in parts):
        raise ValueError("a key that no asset can have")
    return parts


def disposition(key: str, media_type: str | None) -> str:
    """A file's Content-Disposition: what a browser does with it, and its name, of harmless characters."""
    *_, task, name = ("", *key.split("/"))
    index, _, ending = name.rpartition(".")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", unquote(task.partition("!")[0]))[:80].strip("-") or "file"
    extension = re.sub(r"[^a-z0-9]", "", ending)[:8] or "bin"
    kind = "inline" if media_type in _SHOWN else "attachment"
    return f'{kind}; filename="{stem}-{index}.{extension}"'


def _key_part(text: str) -> str:
    encoded = quote(text, safe="", errors="surrogatepass")
    if not encoded.strip("."):
        encoded = encoded.replace(".", "%2E")
    if encoded and len(encoded) <= MAX_PART_BYTES:
        return encoded
    # "!" never comes out of the encoding, so no short id equals a shortened one.
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{encoded[:100]}!{digest}"
