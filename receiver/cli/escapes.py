"""What comes from outside, made harmless for a terminal."""


def printable(text: str) -> str:
    """Ids, owners and error texts come from outside; a control character in them stays a picture."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))
