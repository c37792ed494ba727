"""Files of others that the package ships unchanged: what they are, and by which licence."""

import tomllib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec


class Vendored(msgspec.Struct, frozen=True, kw_only=True):
    """One file. ``sha256`` is the file's own, ``integrity`` that of npm's archive, which it came in."""

    name: str
    version: str
    licence: str
    licence_file: str
    file: str
    sha256: str
    integrity: str


class _Listed(msgspec.Struct):
    file: list[Vendored]


@cache
def vendored() -> list[Vendored]:
    """All of them, as their list has them."""
    text = (_folder() / "vendor.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _Listed).file


def licence_of(each: Vendored) -> str:
    """The text of its licence."""
    return (_folder() / each.licence_file).read_text(encoding="utf-8").strip()


def content_of(each: Vendored) -> bytes:
    """The file itself."""
    return (_folder() / each.file).read_bytes()


def _folder() -> Traversable:
    return files("receiver") / "web" / "static" / "vendor"
