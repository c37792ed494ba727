"""JSON as callers see it: how a value of the program becomes a value of an answer."""

from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
from starlette.responses import Response

from receiver.escapes import encode_harmless
from receiver.payload import MAX_TASK_ID_CHARS
from receiver.times import to_text

Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TASK_ID_CHARS)]
TaskId = Id

# How many rows a list has at most.
Limit = Annotated[int, msgspec.Meta(ge=1, le=200)]

Rate = Annotated[float, msgspec.Meta(ge=0.001, le=100_000)]  # a second

# Of what is done once: as ``POST /plans`` gives it, or made alike, with the milliseconds since 1970 in front.
ReplayId = Annotated[str, msgspec.Meta(pattern="^rpl_[0-9a-f]{32}$")]
RequeueId = Annotated[str, msgspec.Meta(pattern="^rqe_[0-9a-f]{32}$")]
Reason = Annotated[str, msgspec.Meta(max_length=200)]

Shape = TypeVar("Shape", bound=msgspec.Struct)


def shape(kind: type[Shape], value: msgspec.Struct, **more: object) -> Shape:
    """``value`` as an answer of ``kind``: fields of the same name, times as text, and ``more``."""
    for name in kind.__struct_fields__:
        if name not in more:
            same = getattr(value, name)
            more[name] = to_text(same) if isinstance(same, datetime) else same
    return kind(**more)


def text_or_none(moment: datetime | None) -> str | None:
    return to_text(moment) if moment else None


def reply(document: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer. It may hold callback URLs and signed links, so nobody may keep it."""
    return Response(
        encode_harmless(document),
        status,
        {"cache-control": "no-store", **(headers or {})},
        media_type="application/json",
    )
