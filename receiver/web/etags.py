"""Whether a caller has what it asks for already."""


def names_tag(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match lists the tag; weak and strong compare alike here (RFC 9110, 13.1.2)."""
    listed = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return "*" in listed or etag in listed
