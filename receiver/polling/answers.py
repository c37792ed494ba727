"""What a provider's answer about a task means: its status, its body, or that none came."""

import re

import httpx2
import msgspec

from receiver import payload
from receiver.errors import Rejected, tls_words, wire_outcome, with_words
from receiver.ingest import read_report
from receiver.models import Outcome, Report, ReportState
from receiver.ports import Provider

_ENDS = frozenset({ReportState.COMPLETED, ReportState.FAILED})


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one question. ``detail`` says it in words, without links, key or body.

    It has a ``report`` where a body came that counts as an answer about the task: ``answered`` (it ended),
    ``no_files`` (it ended, but names no files), ``in_progress``, and ``unreadable`` (the report is UNCLEAR).
    """

    outcome: Outcome
    detail: str | None = None
    report: Report | None = None
    body: bytes = b""
    retry_after_seconds: float | None = None  # the provider's wish; until a state is over, where not asked
    asked: bool = True  # False: it was not, as the state of that outcome stands


class _StandIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept in the place of an answer that is too large to be kept for weeks."""

    task_id: str
    state: str
    left_out: int  # bytes


def stand_in(report: Report, size: int) -> bytes:
    """A document of ours for one of ``size`` bytes that said ``report``."""
    return msgspec.json.encode(_StandIn(task_id=report.task_id or "", state=report.state, left_out=size))


def is_stand_in(document: bytes) -> bool:
    """Whether a document is such a one: its provider never said it."""
    try:
        msgspec.json.decode(document, type=_StandIn)
    except (ValueError, RecursionError):
        return False
    return True


def refusal(status: int, retry_after_seconds: float | None = None, *, key_works: bool = False) -> Answer:
    """The answer for an HTTP status that says nothing about the task.

    ``key_works``: the provider took the key a moment ago, so a 403 is not about that.
    """
    outcome, words = _REFUSALS.get(status, (Outcome.HTTP_ERROR, "the provider answered"))
    is_forbidden = status == 403 and key_works
    if is_forbidden or (status not in _REFUSALS and 400 <= status < 500):
        outcome, words = Outcome.REFUSED, "the provider refused the question about this task"
    hint = "; redirects are not followed" if 300 <= status < 400 else ""
    return Answer(
        outcome=outcome, detail=f"{words} ({status}){hint}", retry_after_seconds=retry_after_seconds
    )


# Any other 4xx is about the one question.
_REFUSALS = {
    401: (Outcome.KEY_REFUSED, "the provider refused the key"),
    402: (Outcome.OUT_OF_CREDIT, "the provider wants to be paid first"),
    403: (Outcome.KEY_REFUSED, "the provider refused the key"),
    404: (Outcome.UNKNOWN_TASK, "the provider knows no such task"),
    408: (Outcome.HTTP_ERROR, "the provider answered"),
    425: (Outcome.HTTP_ERROR, "the provider answered"),
    429: (Outcome.RATE_LIMITED, "the provider was asked too often"),
}


def judge(
    provider: Provider,
    task_id: str,
    body: bytes,
    retry_after_seconds: float | None = None,
    *,
    key_works: bool = False,
) -> Answer:
    """What the body of a 200 means. It counts only if it is about the task that was asked about."""
    try:
        report = read_report(provider, body)
    except Rejected:
        return _unreadable(task_id, body, "the answer is not JSON")
    if report.state is ReportState.UNCLEAR:
        # Some providers write the error's status into the body of a 200, as ``code``.
        code = payload.code(payload.mapping(payload.decode(body)).get("code")) or ""
        if re.fullmatch(r"[45][0-9]{2}", code):
            return refusal(int(code), retry_after_seconds, key_works=key_works)
        return _unreadable(task_id, body, report.note, report.provider_state)
    if report.task_id != task_id:
        return _unreadable(task_id, body, "the answer is about another task", report.provider_state)
    if payload.names_no_files(report):
        outcome = Outcome.NO_FILES
    else:
        outcome = Outcome.ANSWERED if report.state in _ENDS else Outcome.IN_PROGRESS
    return Answer(outcome=outcome, detail=report.provider_state, report=report, body=body)


def _unreadable(task_id: str, body: bytes, note: str | None, provider_state: str | None = None) -> Answer:
    # Filed under the task that was asked about, whatever task the body names.
    report = Report(task_id=task_id, state=ReportState.UNCLEAR, provider_state=provider_state, note=note)
    return Answer(outcome=Outcome.UNREADABLE, detail=note, report=report, body=body)


def unreached(error: Exception) -> Answer:
    """The answer for a request that got none; ``error`` is the HTTP client's or the socket's."""
    is_ours = isinstance(error, (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError))
    outcome = wire_outcome(error)
    if outcome is None and isinstance(error, httpx2.ConnectError):
        outcome = Outcome.CONNECT_FAILED
    elif outcome is None:
        outcome = Outcome.BAD_URL if is_ours else Outcome.INTERRUPTED
    return Answer(outcome=outcome, detail=with_words(_WORDS[outcome], tls_words(error)))


# Ours, not the driver's: theirs may repeat the URL.
_WORDS = {
    Outcome.TLS_FAILED: "the encrypted connection to the provider failed",
    Outcome.DNS_FAILED: "the name of the provider's host cannot be resolved",
    Outcome.CONNECT_FAILED: "the provider's host takes no connection",
    Outcome.BAD_URL: "the provider's base URL makes no valid request",
    Outcome.INTERRUPTED: "the provider's host broke off, or sent no valid HTTP",
}
