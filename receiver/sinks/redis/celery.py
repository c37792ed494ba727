"""Notifications as tasks of Celery workers whose broker is a Redis server.

    celery+redis://[user:password@]host[:port][/database]?task=app.tasks.image_done&queue=celery

A message is an element of the list that has the queue's name, as kombu 5.7.0 writes it: JSON with the body in
base64. The user needs ``eval``, ``exists``, ``set``, ``lpush`` and, for ping, ``type``.
"""

import base64
from typing import Self

import msgspec

from receiver.celery_message import CONTENT_ENCODING, CONTENT_TYPE, encode
from receiver.clock import Clock
from receiver.jobs import named
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.redis.job_queue import OPTIONS, Command, JobQueue, JobSink

_FORM = "celery+redis://HOST:PORT/DATABASE?task=NAME"


class CelerySink(JobSink):
    """Starts a task for each notification; done when the server has the message, once per ``dedupe_key``."""

    def __init__(self, jobs: JobQueue, *, task: str, queue: str, clock: Clock) -> None:
        super().__init__(jobs)
        self._task = task
        self._queue = queue
        self._clock = clock

    @classmethod
    def from_url(cls, url: str, options: PluginOptions, *, clock: Clock | None = None) -> Self:
        """``?task=NAME&queue=celery``, and the ``OPTIONS`` of every job queue."""
        where = SinkUrl.read(options.name, url, form=_FORM, known=OPTIONS)
        queue = named(where, "queue", "celery")
        jobs = JobQueue.from_url(where, options, form=_FORM, key=queue, commands="+lpush")
        return cls(jobs, task=named(where, "task"), queue=queue, clock=clock or Clock())

    def commands(self, notification: Notification) -> list[Command]:
        return [("LPUSH", self._queue, self._encoded(notification))]

    def _encoded(self, notification: Notification) -> bytes:
        message = encode(notification, self._task)
        properties = {
            "correlation_id": message.task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": self._queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": self._clock.new_id("tag"),  # by it a worker tells apart what it has in hand
        }
        return msgspec.json.encode(
            {
                "body": base64.b64encode(message.body).decode(),
                "content-encoding": CONTENT_ENCODING,
                "content-type": CONTENT_TYPE,
                "headers": message.headers,
                "properties": properties,
            }
        )
