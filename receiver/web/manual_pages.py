"""The manual as HTML: plain pages without scripts, each rendered once. Imports the parser of Markdown."""

import base64
import hashlib
from functools import cache
from html import escape

import msgspec
from markdown_it.token import Token

from receiver import manual

_STYLE = """
:root { color-scheme: light dark }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif }
pre, table { display: block; overflow-x: auto }
pre { padding: .75rem; border: 1px solid #8886; font-size: .85rem; line-height: 1.35 }
table { border-collapse: collapse; font-size: .9rem }
th, td { padding: .3rem .6rem; border: 1px solid #8886; text-align: left; vertical-align: top }
img { max-width: 100%; border: 1px solid #8886; border-radius: 8px }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS = {
    "cache-control": "no-cache",  # kept, and asked about by its tag: an upgrade shows at once
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src 'self';"
    " base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A whole document, and the tag that changes with it."""

    content: bytes
    etag: str


@cache
def contents() -> Page:
    """The list of chapters. Its links are relative to ``/docs``, so they work below any path."""
    rows = "".join(
        f'<li><a href="docs/{chapter.name}">{escape(chapter.title)}</a>: {escape(chapter.purpose)}</li>\n'
        for chapter in manual.chapters().values()
    )
    return _page("The manual", f"<h1>The manual</h1>\n<ul>\n{rows}</ul>\n")


@cache
def chapter(name: str) -> Page:
    """One chapter, rendered once."""
    found = manual.chapters()[name]
    tokens = manual.parse(found.text)
    for token, following in zip(tokens, [*tokens[1:], Token("", "", 0)], strict=True):
        if token.type == "heading_open":
            token.attrSet("id", manual.anchor_of(following.content))
        if token.children:
            # Links to chapters and other sites stay links; all others become plain text.
            kept = []
            is_linked = False
            for part in token.children:
                if part.type == "link_open":
                    link = str(part.attrGet("href"))
                    if target := manual.target_of(link):
                        href: str | None = f"{target.name or ''}{target.anchor}"
                    else:
                        href = link if link.startswith("https://") else None
                    is_linked = href is not None
                    part.attrSet("href", href or "")
                if part.type == "image" and not manual.PICTURES.fullmatch(str(part.attrGet("src"))):
                    continue  # what is not ours is not shown
                if is_linked or part.type not in {"link_open", "link_close"}:
                    kept.append(part)
            token.children = kept
    markdown = manual.markdown()
    body = markdown.renderer.render(tokens, markdown.options, {})
    return _page(found.title, f'<p><a href="../docs">The manual</a></p>\n{body}')


def _page(title: str, body: str) -> Page:
    html = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - receiver</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    ).encode()
    return _tagged(html)


def picture(name: str) -> Page | None:
    """One picture of a chapter."""
    content = manual.pictures().get(name)
    return None if content is None else _tagged(content)


def _tagged(content: bytes) -> Page:
    return Page(content=content, etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"')
