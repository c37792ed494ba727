"""What a backend needs of its receiver: order and wait, verify webhooks, consume streams.

It imports the standard library, msgspec and httpx2 (``redis`` for ``run``), each when a name needs it, and
nothing of the service. For frameworks there are ``receiver.client.starlette``, ``.django`` and ``.celery``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from receiver.client.errors import (
    DownloadFailed,
    NotSent,
    Reason,
    ReceiverError,
    Rejected,
    StreamFailed,
    Unavailable,
    UnknownOutcome,
    VerificationError,
)
from receiver.client.events import JSON, Asset, Cost, Error, Event, read_event
from receiver.client.seen import Seen, SqliteSeen
from receiver.client.signatures import verify

if TYPE_CHECKING:
    from receiver.client.calls import Submission, Task, TaskSummary
    from receiver.client.receivers import AsyncReceiver, Receiver
    from receiver.client.streams import arun, run

__all__ = [
    "JSON",
    "Asset",
    "AsyncReceiver",
    "Cost",
    "DownloadFailed",
    "Error",
    "Event",
    "NotSent",
    "Reason",
    "Receiver",
    "ReceiverError",
    "Rejected",
    "Seen",
    "SqliteSeen",
    "StreamFailed",
    "Submission",
    "Task",
    "TaskSummary",
    "Unavailable",
    "UnknownOutcome",
    "VerificationError",
    "arun",
    "read_event",
    "run",
    "verify",
]

# What takes long to import, or needs a driver, is imported by whoever uses it.
_LATER = {
    **dict.fromkeys(("Submission", "Task", "TaskSummary"), "receiver.client.calls"),
    **dict.fromkeys(("AsyncReceiver", "Receiver"), "receiver.client.receivers"),
    **dict.fromkeys(("arun", "run"), "receiver.client.streams"),
}


if not TYPE_CHECKING:  # which knows the names, and no others

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_LATER[name]), name)
