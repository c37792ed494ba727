"""What a RabbitMQ server's refusals mean, in words for people."""

import re

from aiormq import exceptions

from receiver.errors import Permanent, Unavailable, unreachable
from receiver.models import Outcome

_TOO_LARGE = re.compile(r"message size \d+ is larger than configured max size (\d+)")
_NOT_ALLOWED = 530

# Those first that are kinds of another.
_FAILURES: tuple[tuple[type[Exception], Outcome, str], ...] = (
    (TimeoutError, Outcome.TIMEOUT, "rabbitmq did not answer in time"),
    (
        exceptions.PublishError,
        Outcome.REFUSED,
        "rabbitmq has no queue for it: none is bound to the exchange for this routing key, or has this name",
    ),
    (
        exceptions.DeliveryError,
        Outcome.UNAVAILABLE,
        "a queue does not take it: it is full (overflow reject-publish), or has lost too many of its nodes",
    ),
    (exceptions.ChannelNotFoundEntity, Outcome.REFUSED, "rabbitmq has no such exchange or queue"),
    (exceptions.ChannelAccessRefused, Outcome.REFUSED, "rabbitmq does not permit this to our user"),
    (exceptions.ChannelClosed, Outcome.REFUSED, "rabbitmq refuses what is sent"),
    (exceptions.AuthenticationError, Outcome.REFUSED, "rabbitmq does not accept a password by itself"),
    (
        exceptions.ProbableAuthenticationError,
        Outcome.REFUSED,
        "rabbitmq does not accept our user and password",
    ),
    (exceptions.ConnectionNotAllowed, Outcome.REFUSED, "rabbitmq does not permit this to our user"),
    (exceptions.ProtocolSyntaxError, Outcome.REFUSED, "what answers there is not rabbitmq"),
    (exceptions.IncompatibleProtocolError, Outcome.REFUSED, "what answers there is not rabbitmq"),
)


def failure(exc: BaseException, size: int = 0) -> Unavailable | Permanent:
    """An error of the driver or of the wire in our words. ``size`` of the message that met it, in bytes."""
    if isinstance(exc, exceptions.ChannelPreconditionFailed) and (limit := _TOO_LARGE.search(str(exc))):
        if size > int(limit[1]):
            return Permanent("rabbitmq takes no message as large as this one (max_message_size)")
        return _interrupted()  # another one was, and all that was under way with it is void
    # Where a connection is not opened the driver keeps the server's reason to itself (aiormq 7.2.4).
    is_hidden = isinstance(exc, exceptions.InvalidFrameError) and "got <Connection.Close" in str(exc)
    if is_hidden or (isinstance(exc, exceptions.ConnectionClosed) and exc.args[:1] == (_NOT_ALLOWED,)):
        return Unavailable("rabbitmq has no such virtual host, or none for our user", outcome=Outcome.REFUSED)
    for kind, outcome, words in _FAILURES:
        if isinstance(exc, kind):
            return Unavailable(words, outcome=outcome)
    if isinstance(exc, OSError):
        return unreachable("rabbitmq", exc)
    return _interrupted()


def alarm() -> Unavailable:
    """What is said of a server that takes nothing from those who publish."""
    return Unavailable("rabbitmq takes nothing now: it is short of memory or disk (an alarm)")


def _interrupted() -> Unavailable:
    return Unavailable("rabbitmq ended the channel", outcome=Outcome.INTERRUPTED)
