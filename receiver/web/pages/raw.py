"""What a provider sent about a task: read, redacted and drawn anew, never the bytes as they came."""

from datetime import datetime

import msgspec

from receiver import forms, payload
from receiver.errors import Rejected
from receiver.models import KeptBody, Verdict, Via
from receiver.web.pages.redaction import redact

MOST_BODIES = 10
MOST_BYTES = 262_144  # of a body that is read for people
MOST_LINES = 200  # of one that is drawn


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """One of them. ``text`` is None where it cannot be drawn, and ``why`` says why not."""

    via: Via
    verdict: Verdict
    size: int
    received_at: datetime
    text: str | None = None
    left_out: int = 0  # lines
    why: str = ""


def draw(kept: KeptBody) -> Drawn:
    """As admins may read it."""
    text, why, left_out = None, "", 0
    if kept.body is None:
        why = "too large to be drawn here" if kept.size else "its body is not kept any more"
    else:
        try:
            document = payload.storable(_read(kept.body))
            lines = msgspec.json.format(msgspec.json.encode(redact(document))).decode().splitlines()
            text, left_out = "\n".join(lines[:MOST_LINES]), max(len(lines) - MOST_LINES, 0)
        except (Rejected, ValueError, RecursionError, TypeError):
            why = f"neither JSON nor a form; its SHA-256 begins with {kept.digest[:16]}"
    return Drawn(
        via=kept.via,
        verdict=kept.verdict,
        size=kept.size,
        received_at=kept.received_at,
        text=text,
        left_out=left_out,
        why=why,
    )


def _read(body: bytes) -> object:
    """The document in a body, with its fractions. Raises Rejected, ValueError or RecursionError."""
    try:
        return payload.decode_whole(body)
    except ValueError:
        return forms.decode(body)
