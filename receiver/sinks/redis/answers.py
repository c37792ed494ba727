"""What a Redis server's refusals mean, in words for people."""

import re

from redis import exceptions

from receiver.errors import Unavailable, unreachable
from receiver.models import Outcome

# What is said of a server's answers, by their code.
_ANSWERS: dict[str, tuple[Outcome, str]] = {
    "NOAUTH": (Outcome.REFUSED, "does not accept our user and password"),
    "WRONGPASS": (Outcome.REFUSED, "does not accept our user and password"),
    "NOPERM": (
        Outcome.REFUSED,
        "does not permit this to our user, who needs {needs}",
    ),
    "WRONGTYPE": (
        Outcome.REFUSED,
        "has something of another kind under this key: rename it, or choose another name in the sink's URL",
    ),
    "MOVED": (Outcome.REFUSED, "keeps this key on another node of its cluster"),
    "CROSSSLOT": (Outcome.REFUSED, "keeps this key and those beside it on two nodes of its cluster"),
    "ASK": (Outcome.UNAVAILABLE, "is moving this key to another node of its cluster"),
    "TRYAGAIN": (Outcome.UNAVAILABLE, "is moving this key to another node of its cluster"),
    "CLUSTERDOWN": (Outcome.UNAVAILABLE, "has a cluster that is down"),
    "MASTERDOWN": (Outcome.UNAVAILABLE, "is a replica that has lost its master"),
    "LOADING": (Outcome.UNAVAILABLE, "is still loading its data"),
    "OOM": (Outcome.UNAVAILABLE, "is at its memory limit"),
    "READONLY": (Outcome.UNAVAILABLE, "is a read-only replica"),
    "NOREPLICAS": (Outcome.UNAVAILABLE, "has too few replicas to write"),
    "MISCONF": (Outcome.UNAVAILABLE, "cannot write to its disk"),
    "BUSY": (Outcome.UNAVAILABLE, "is busy with a script"),
}
# Answers whose code is a mere ERR: inside a script permission is denied in other words than outside.
_PHRASES = {
    "The user executing the script can't": "NOPERM",
    "ACL failure in script": "NOPERM",
}
# The driver cuts the code off answers that it has classes for; only since release 7.2 it shows it elsewhere.
_CLASSES: dict[type[Exception], str] = {
    exceptions.AuthenticationError: "WRONGPASS",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.MovedError: "MOVED",
    exceptions.AskError: "ASK",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
}
# Before Redis 7 a script's error is told as a text around the answer that it got.
_IN_SCRIPT = re.compile(r"@user_script: ?\d+: -?([A-Z]{2,}) ")


def failure(exc: Exception, needs: str) -> Unavailable:
    """An error of the driver or of the wire in our words.

    ``needs`` is said where our user may not do what we ask.
    """
    if isinstance(exc, (TimeoutError, exceptions.TimeoutError)):
        return Unavailable("redis did not answer in time", outcome=Outcome.TIMEOUT)
    code = code_of(exc)
    if isinstance(exc, exceptions.MovedError):
        return unavailable(code, f"; put {exc.host}:{exc.port} in the sink's URL")
    if code in _ANSWERS:
        return unavailable(code, needs=needs)
    if isinstance(exc, exceptions.ResponseError):
        return Unavailable(f"redis answered {code or 'an error'}", outcome=Outcome.REFUSED)
    return unreachable("redis", exc)


def code_of(exc: Exception) -> str:
    """The code of a server's answer; the rest of the answer may repeat what was sent."""
    text = str(exc)
    if code := next((code for phrase, code in _PHRASES.items() if phrase in text), None):
        return code
    if found := _IN_SCRIPT.search(text):
        return found[1]
    by_class = next((code for kind, code in _CLASSES.items() if isinstance(exc, kind)), None)
    told = getattr(exc, "status_code", None)
    # ERR says nothing: a password where the server has none is an ERR, too, and the class knows it.
    code = (by_class or told) if told == "ERR" else (told or by_class or text.partition(" ")[0])
    return code if code.isalpha() and code.isupper() else ""


def unavailable(code: str, advice: str = "", *, needs: str = "") -> Unavailable:
    """What is said of an answer with this code."""
    outcome, words = _ANSWERS[code]
    return Unavailable(f"redis {words.replace('{needs}', needs)}{advice}", outcome=outcome)
