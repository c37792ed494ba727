"""Notifications as jobs of task queues: what a job is called, and which task it starts.

A job gets one argument, the whole event. Its ``data`` as keyword arguments would read better in a worker,
but events only ever get more fields, and the first new one would be a TypeError in each task that names them.
"""

import re

from receiver.models import Notification
from receiver.sink_urls import SinkUrl

_NAME = re.compile(r"[\w.:-]+")
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")  # RQ 3.0.0 takes no others


def job_id(notification: Notification) -> str:
    """The event's id with ``-`` for its dot, and behind it that of the replay; the same for every retry.

    A replay is a job of its own, as the queues know a job by its id and take the second for the first.
    """
    replay_ids = notification.dedupe_key.split(":")[2:]
    return _NOT_IN_IDS.sub("-", "-".join((notification.event_id, *filter(None, replay_ids))))


def described(notification: Notification) -> str:
    """What logs and dashboards show in place of the argument, which holds signed links."""
    return f"<event {notification.event_id}>"


def named(url: SinkUrl, option: str, default: str | None = None) -> str:
    """A task's or a queue's name from a sink's URL. Raises Misconfigured."""
    name = url.required(option) if default is None else url.options.get(option, default)
    if not _NAME.fullmatch(name):
        raise url.wrong(f"{option} must be a name of letters, digits and any of . : _ -")
    return name
