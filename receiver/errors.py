"""Every exception the program raises on purpose, named by who has to act.

    ReceiverError
    ├── Rejected        the sender is wrong; carries the kind of problem that it is
    │   ├── NotAuthentic    ... and may be anybody
    │   └── OverBudget      ... and orders for more than a budget allows
    ├── Unavailable     nobody is wrong; try the same thing again later
    ├── Permanent       trying again cannot help; the entry becomes a dead letter
    │   └── Gone        ... and the destination asked us to stop altogether
    ├── FetchFailed     a file could not be had; carries the outcome name
    │   └── NoFileYet   ... and what came may stand in for one that comes later
    └── Misconfigured   the operator must change a setting

The message of each is written for the person who acts on it. It never carries a secret, a token, a
prompt, a callback URL or a media link.
"""

import re
import socket
import ssl
from collections.abc import Iterator

from receiver.models import BudgetPeriod, BudgetScope, Outcome, RefusalReason
from receiver.problem_types import ProblemType

_QUOTED = re.compile("['\"\u201c].*['\"\u201d]")  # the name or address that a certificate is not valid for


class ReceiverError(Exception):
    """Root of the tree; catching it catches every expected failure."""


class Rejected(ReceiverError):
    """The request is refused with an RFC 9457 problem; ``detail`` says what to do about it.

    The kind is all that the record and the work say of it: which HTTP status that is, ``web`` knows.
    """

    def __init__(self, kind: ProblemType, detail: str) -> None:
        self.kind = kind
        self.title = kind.title
        self.detail = detail
        super().__init__(f"{self.title}: {detail}")


class NotAuthentic(Rejected):
    """A callback is not proven to be a provider's. ``reason`` is for the operator: its sender is not told."""

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(
            ProblemType.NOT_AUTHENTIC, "The callback URL is not one that this receiver gave out."
        )
        self.reason = reason


class OverBudget(Rejected):
    """An order would cost more than a hard budget has left, or has no price that could be held against it."""

    def __init__(self, scope: BudgetScope, period: BudgetPeriod, *, has_price: bool) -> None:
        which = f"the budget of this {scope}" if scope is not BudgetScope.ALL else "the budget of all orders"
        span = "in all" if period is BudgetPeriod.TOTAL else f"for this {period}"
        says = "has no room for this order" if has_price else "takes no order without a known price"
        super().__init__(ProblemType.BUDGET_USED_UP, f"{which} {span} {says}; nothing was ordered")
        self.scope = scope
        self.period = period


class Unavailable(ReceiverError):
    """The other side cannot do it now. ``outcome`` names why; ``retry_after_seconds`` is its wish."""

    def __init__(
        self,
        detail: str,
        *,
        outcome: Outcome = Outcome.UNAVAILABLE,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.retry_after_seconds = retry_after_seconds


class Permanent(ReceiverError):
    """The other side will never take this one; ``outcome`` names why."""

    def __init__(self, detail: str, *, outcome: Outcome = Outcome.REFUSED) -> None:
        super().__init__(detail)
        self.outcome = outcome


class Gone(Permanent):
    """The destination answered that it wants no more notifications at all (HTTP 410)."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, outcome=Outcome.GONE)


class FetchFailed(ReceiverError):
    """A file behind a link could not be had. ``outcome`` decides whether it is tried again."""

    def __init__(self, outcome: Outcome, detail: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.retry_after_seconds = retry_after_seconds


class NoFileYet(FetchFailed):
    """A page or an error text came with success: the file is not there yet, or its link is dead."""


class Misconfigured(ReceiverError):
    """One or more settings are wrong. ``problems`` holds one sentence each, all of them at once."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def causes(exc: BaseException | None) -> Iterator[BaseException]:
    """An exception and what led to it, each once: drivers wrap the one that tells what happened.

    One that is raised again while another is handled that it led to, as a driver may do, is its own cause.
    """
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__


def wire_outcome(exc: BaseException) -> Outcome | None:
    """What went wrong on the wire, where a cause says so that is the same under every driver.

    None: what is left to tell, the driver's own exceptions tell.
    """
    chain = list(causes(exc))
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return Outcome.TLS_FAILED
    if any(isinstance(cause, socket.gaierror) for cause in chain):
        return Outcome.DNS_FAILED
    return None


def tls_words(exc: BaseException) -> str:
    """Why TLS failed, in OpenSSL's own words, as far as a cause has any; never with the host's name.

    The pool of the HTTP driver drops causes and keeps them as arguments only, so both are looked at.
    """
    chain = [cause for link in causes(exc) for cause in (link, *link.args)]
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _QUOTED.sub("it", getattr(cause, "verify_message", "")).rstrip(".")
    reasons = (getattr(cause, "reason", None) for cause in chain if isinstance(cause, ssl.SSLError))
    return next(filter(None, reasons), "").replace("_", " ").lower()


def with_words(what: str, words: str) -> str:
    """What happened, and why where that is known."""
    return f"{what}: {words}" if words else what


def unreachable(server: str, exc: BaseException) -> Unavailable:
    """What is said of a server that the wire does not lead to, or no longer."""
    is_refused = any(isinstance(cause, ConnectionRefusedError) for cause in causes(exc))
    outcome = wire_outcome(exc) or (Outcome.CONNECT_FAILED if is_refused else Outcome.INTERRUPTED)
    what = with_words(f"{server} could not be reached ({outcome})", tls_words(exc))
    return Unavailable(what, outcome=outcome)
