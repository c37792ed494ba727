"""Everything that goes wrong, as RFC 9457 problem documents without internals."""

import math
from collections.abc import Mapping
from typing import Annotated

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import ReceiverError, Rejected, Unavailable
from receiver.escapes import encode_harmless
from receiver.problem_types import NAMESPACE, ProblemType
from receiver.web.limits import announces_body

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5  # where whoever is unavailable has no wish of its own
MAX_DETAIL_CHARACTERS = 400  # what quotes the sender may be as long as the sender likes

# After these the rest of the body is still on its way, whatever was announced of it: see ``closing``.
_CLOSING = frozenset({408, 413, 415})


# The status of each type. Of a name that is not known it is another where the path has it: ``UnknownInPath``.
STATUSES = {
    kind: status
    for status, kinds in {
        400: (
            ProblemType.BAD_BODY,
            ProblemType.BAD_CONTENT_LENGTH,
            ProblemType.BAD_CURSOR,
            ProblemType.BAD_QUERY,
            ProblemType.MALFORMED_REQUEST,
            ProblemType.NOT_INDEXED,
            ProblemType.NOT_JSON,
            ProblemType.OWNER_NEEDED,
            ProblemType.UNKNOWN_PROVIDER,
            ProblemType.UNKNOWN_SINK,
        ),
        401: (
            ProblemType.NOT_AUTHENTIC,
            ProblemType.NOT_AUTHORISED,
        ),
        403: (
            ProblemType.LINK_NOT_VALID,
            ProblemType.NOT_ALLOWED,
        ),
        404: (
            ProblemType.FILE_MISSING,
            ProblemType.FILE_NOT_STORED,
            ProblemType.NO_THUMBNAIL,
            ProblemType.UNKNOWN_BUDGET,
            ProblemType.UNKNOWN_CHAPTER,
            ProblemType.UNKNOWN_FILE,
            ProblemType.UNKNOWN_PATH,
            ProblemType.UNKNOWN_REPLAY,
            ProblemType.UNKNOWN_SUBMISSION,
            ProblemType.UNKNOWN_TASK,
            ProblemType.UNKNOWN_TOKEN,
        ),
        402: (ProblemType.BUDGET_USED_UP,),
        405: (ProblemType.METHOD_NOT_ALLOWED,),
        408: (ProblemType.BODY_TOO_SLOW,),
        409: (
            ProblemType.ALREADY_BOUND,
            ProblemType.PAGES_CLOSED,
            ProblemType.PLAN_OVER,
            ProblemType.REPLAY_ENDED,
            ProblemType.SINK_SET,
            ProblemType.SUBMISSION_BOUND,
            ProblemType.TASK_LOGGED,
            ProblemType.TASK_TAKEN,
            ProblemType.TOKEN_NAMED,
            ProblemType.TOKEN_OF_ANOTHER_TASK,
        ),
        413: (ProblemType.BODY_TOO_LARGE,),
        415: (ProblemType.COMPRESSED_BODY,),
        416: (ProblemType.RANGE_NOT_SATISFIABLE,),
        422: (ProblemType.KEY_REUSED,),
        500: (ProblemType.INTERNAL_ERROR,),
        503: (ProblemType.UNAVAILABLE,),
    }.items()
    for kind in kinds
}


class UnknownInPath(Rejected):
    """A name in the path is not known; the same name in a query or a body would only be a bad one."""


_TYPE = msgspec.Meta(
    description=f"What clients go by: one of the names below {NAMESPACE} that the manual lists, and more in"
    " later releases. Nothing is to be fetched there.",
    examples=[kind.uri for kind in ProblemType],
)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The document: ``title`` is a short phrase for people, ``detail`` what to do about it."""

    type: Annotated[str, _TYPE]
    title: str
    status: int
    detail: str


def answer(error: ReceiverError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to an expected failure; what is neither the sender's nor the moment's is our own."""
    match error:
        case Rejected():
            return problem(error.kind, error.detail, headers, status=status_of(error))
        case Unavailable():
            return problem(
                ProblemType.UNAVAILABLE,
                "This cannot be done now, and nothing was recorded. Send the same again later.",
                {"retry-after": str(retry_after(error))},
            )
        case _:
            return internal()


def status_of(error: Rejected) -> int:
    """The HTTP status that a refusal is answered with."""
    return 404 if isinstance(error, UnknownInPath) else STATUSES[error.kind]


def stopping() -> Response:
    """The answer to a request that the stop interrupts: whether it had its effect, nobody knows."""
    detail = "The service is stopping; ask or send again."
    return problem(ProblemType.UNAVAILABLE, detail, {"retry-after": str(RETRY_AFTER_SECONDS)})


def closing(response: Response) -> Response:
    """The same answer, after which the connection ends: the only way not to read the rest of a body."""
    response.headers["connection"] = "close"
    return response


def internal() -> Response:
    """The answer to a fault of our own; what it was stands in the log only."""
    return problem(ProblemType.INTERNAL_ERROR, "This is a fault of the receiver; its log says more.")


def problem(
    kind: ProblemType, detail: str, headers: Mapping[str, str] | None = None, *, status: int | None = None
) -> Response:
    """One problem document, by default with its type's usual status, and the headers for that status."""
    status = status or STATUSES[kind]
    needed = {"cache-control": "no-store"}
    if status == 401:
        needed["www-authenticate"] = "Bearer"
    if status in _CLOSING:
        needed["connection"] = "close"
    said = detail[:MAX_DETAIL_CHARACTERS]
    document = Problem(type=kind.uri, title=kind.title, status=status, detail=said)
    return Response(
        encode_harmless(document),
        status,
        {**needed, **(headers or {})},
        media_type=CONTENT_TYPE,
    )


def retry_after(error: Unavailable) -> int:
    """Whole seconds, at least one, as the header wants them."""
    return max(1, math.ceil(error.retry_after_seconds or RETRY_AFTER_SECONDS))


async def for_unrouted(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such path, or not with this method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    kind, detail = ProblemType.METHOD_NOT_ALLOWED, f"{request.method} is not possible on this path."
    if status == 404:
        kind, detail = ProblemType.UNKNOWN_PATH, "There is nothing at this path."
    response = problem(kind, detail, headers, status=status)
    return closing(response) if announces_body(request.headers) else response
