"""Markdown as lines that fit a terminal: wrapped at words, code as it is, tables as far as they fit."""

from collections.abc import Iterator

import click
from markdown_it.tree import SyntaxTreeNode

from receiver import manual
from receiver.cli.terminal import hang, measure

GAP = "  "
INDENT = "    "


def render(text: str, width: int) -> Iterator[str]:
    """Lines, with an empty one between blocks. Lines of code are never cut, so that they can be copied."""
    for number, block in enumerate(SyntaxTreeNode(manual.parse(text)).children):
        if number:
            yield ""
        yield from _block(block, "", width)


def _block(node: SyntaxTreeNode, indent: str, width: int) -> Iterator[str]:
    match node.type:
        case "heading":
            yield from hang(indent, _styled(node, bold=True, underline=node.tag == "h1"), width)
        case "fence" | "code_block":
            yield from (click.style(line, fg="cyan") for line in node.content.rstrip("\n").split("\n"))
        case "bullet_list" | "ordered_list":
            for number, item in enumerate(node.children, 1):
                label = f"{indent}{number}. " if node.type == "ordered_list" else f"{indent}- "
                first, *rest = item.children
                yield from hang(label, _styled(first), width)
                for block in rest:
                    yield from _block(block, " " * len(label), width)
        case "table":
            yield from _table(node, indent, width)
        case _:
            yield from hang(indent, _styled(node), width)


def _table(node: SyntaxTreeNode, indent: str, width: int) -> Iterator[str]:
    """Columns side by side if half of the width is left for the last; else each row below its first cell."""
    head, *rows = [
        [_styled(cell) for cell in row.children] for part in node.children for row in part.children
    ]
    widths = [max(map(measure, column)) for column in zip(head, *rows, strict=True)]
    if sum(widths[:-1]) + len(GAP) * len(widths) <= width // 2:
        for row in ([click.style(cell, bold=True) for cell in head], *rows):
            cells = zip(row[:-1], widths[:-1], strict=True)
            label = "".join(cell + " " * (size - measure(cell)) + GAP for cell, size in cells)
            yield from hang(indent + label, row[-1], width)
        return
    for row in rows:
        yield from hang(indent, click.style(row[0], bold=True), width)
        for name, cell in zip(head[1:], row[1:], strict=True):
            named, margin = (f"{name}: {cell}", INDENT + GAP) if len(row) > 2 else (cell, INDENT)
            yield from hang(indent + INDENT, named, width, len(indent + margin))


def _styled(node: SyntaxTreeNode, **style: bool) -> str:
    """Inline text on one line, each word with its own colours, so that a line may end behind any."""
    return "".join(_inline(child, style) for child in node.children)


def _inline(node: SyntaxTreeNode, style: dict[str, bool]) -> str:
    match node.type:
        case "text":
            return _each_word(node.content, **style)
        case "softbreak" | "hardbreak":
            return " "
        case "code_inline":
            return _each_word(node.content, fg="cyan", **style)
        case "strong":
            return _styled(node, **{**style, "bold": True})
        case "link":
            # Another chapter's name, where the link's words are not that already.
            target = manual.target_of(str(node.attrs["href"]))
            text = "".join(child.content for child in node.children)
            name = target.name if target and target.name != text else ""
            return _styled(node, **style) + (f" ({name})" if name else "")
        case _:  # inline, emphasis and whatever else there is
            return _styled(node, **style)


def _each_word(text: str, **style: object) -> str:
    if not style:
        return text
    return " ".join(click.style(word, **style) if word else "" for word in text.split(" "))  # type: ignore[arg-type]
