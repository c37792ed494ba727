"""A notification as a task of Celery: its message protocol, version 2, for any of its brokers.

The protocol is in Celery's manual (Internals, "Message Protocol"), and so are most of the headers; the rest,
and what is null, are as ``celery.app.amqp`` of 5.7.0 writes them. All are always there: workers differ in
what they do without.
"""

from typing import Any, NamedTuple

import msgspec

from receiver.jobs import described, job_id
from receiver.models import Notification

CONTENT_TYPE = "application/json"
CONTENT_ENCODING = "utf-8"
_CALLBACKS = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))


class CeleryMessage(NamedTuple):
    """``task_id`` is the correlation id, too. ``body`` is JSON, with the event in it as it is."""

    task_id: str
    headers: dict[str, Any]
    body: bytes


def encode(notification: Notification, task: str) -> CeleryMessage:
    """The message that starts ``task`` with the event as its one argument."""
    id_ = job_id(notification)
    headers: dict[str, Any] = {
        "lang": "py",
        "task": task,
        "id": id_,
        "root_id": id_,
        "parent_id": None,
        "group": None,
        "group_index": None,
        "shadow": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": f"({described(notification)},)",
        "kwargsrepr": "{}",
        "origin": "receiver",
        "ignore_result": None,  # as the task has it
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    if notification.traceparent:
        headers["traceparent"] = notification.traceparent
    arguments = [msgspec.Raw(notification.body)]
    return CeleryMessage(id_, headers, msgspec.json.encode([arguments, {}, _CALLBACKS]))
