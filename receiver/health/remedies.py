"""What to do about a sink, by how the last event to it went."""

from collections.abc import Mapping

from receiver.models import Outcome

_ITS_LOG = "see in the consumer's log"
_TIME = f"it asks for time, and gets it; if it stays so, {_ITS_LOG} why"
_UNKNOWN = "check {variable}, and that what it names can be reached, or written, from here"

_REMEDIES: Mapping[Outcome, str] = {
    Outcome.REFUSED: (
        "mend what it says, there or in {variable}: a password, a name, a right; give both sides of a webhook"
        f" the same secret ({{variable}}_SECRET), and {_ITS_LOG} what it does not like"
    ),
    Outcome.HTTP_ERROR: f"check the path in {{variable}}, and {_ITS_LOG} what went wrong",
    Outcome.BAD_REDIRECT: "set {variable} to the URL that it is redirected to",
    Outcome.GONE: "let the consumer take events again, or unset {variable}; then restart the service",
    Outcome.TIMEOUT: "let the consumer answer first and work later, or raise {variable}_TIMEOUT_SECONDS",
    Outcome.RATE_LIMITED: _TIME,
    Outcome.UNAVAILABLE: _TIME,
    Outcome.CRASHED: "look at the service's log",
}


def remedy(sink: str, outcome: Outcome | None) -> str:
    """What to do, in words that go after "to do:"; ``outcome`` is None where it is not known."""
    todo = _REMEDIES.get(outcome, _UNKNOWN) if outcome else _UNKNOWN
    return todo.format(variable=f"RECEIVER_SINK_{sink.upper()}")
