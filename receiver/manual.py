"""The chapters of the manual, which the package contains as Markdown."""

import re
from functools import cache
from importlib.resources import files

import msgspec
from markdown_it import MarkdownIt
from markdown_it.token import Token

# In the order in which people need them. Each is a file in ``receiver/docs``.
NAMES = (
    "backend",
    "client",
    "gateway",
    "walks",
    "simulator",
    "promises",
    "operating",
    "monitoring",
    "pages",
    "deploying",
    "postgresql",
    "s3",
    "performance",
    "words",
    "settings",
    "providers",
    "sinks",
    "jobs",
    "http",
    "commands",
    "extending",
    "developing",
)

# A link of one chapter to another, or to a place in one.
_TO_CHAPTER = re.compile(rf"({'|'.join(NAMES)})\.md(#.*)?|(#.*)")
_COMMENT = re.compile(r"^<!--.*-->\n", re.MULTILINE)  # where generated tables begin and end


class Chapter(msgspec.Struct, frozen=True, kw_only=True):
    """One chapter; ``purpose`` is the line below its title."""

    name: str
    title: str
    purpose: str
    text: str  # all of it, title and purpose too


PICTURES = re.compile(r"pictures/([a-z-]+\.webp)")  # as a chapter names one


@cache
def pictures() -> dict[str, bytes]:
    """The chapters' pictures by their names, as WebP."""
    folder = files("receiver") / "docs" / "pictures"
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a link leads: to a chapter (None: the same one), and to a heading in it."""

    name: str | None
    anchor: str  # with its #, or empty


@cache
def chapters() -> dict[str, Chapter]:
    """Every chapter by its name, in their order."""
    found = {}
    for name in NAMES:
        text = _COMMENT.sub("", (files("receiver") / "docs" / f"{name}.md").read_text(encoding="utf-8"))
        title, _, purpose = text.split("\n", 3)[:3]
        found[name] = Chapter(name=name, title=title.removeprefix("# "), purpose=purpose, text=text)
    return found


def parse(text: str) -> list[Token]:
    """Markdown with tables, as tokens. HTML in it is text."""
    return markdown().parse(text)


@cache
def markdown() -> MarkdownIt:
    """The parser and renderer of the chapters."""
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def target_of(link: str) -> Target | None:
    """Where a link in a chapter leads; None outside of the manual, such as to a file of the source tree."""
    found = _TO_CHAPTER.fullmatch(link)
    return Target(name=found[1], anchor=found[2] or found[3] or "") if found else None


def anchor_of(heading: str) -> str:
    """The anchor of a heading, as common viewers of Markdown make it."""
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
