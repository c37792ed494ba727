"""Notifications as tasks of taskiq workers whose broker is one of taskiq-redis.

    taskiq+redis://[user:password@]host[:port][/database]?task=app.tasks:image_done&queue=taskiq&broker=stream

A message is an entry of a stream, for ``RedisStreamBroker``, or with ``broker=list`` an element of a list,
for ``ListQueueBroker``, as taskiq-redis 1.2.4 writes them. The user needs ``eval``, ``exists``, ``set``,
``xadd`` and ``xinfo`` (or ``lpush``) and, for ping, ``type``.
"""

from typing import Self

import msgspec

from receiver.jobs import job_id, named
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.redis.job_queue import OPTIONS, Command, JobQueue, JobSink

_FORM = "taskiq+redis://HOST:PORT/DATABASE?task=MODULE:FUNCTION"
_COMMANDS = {"stream": "+xadd +xinfo", "list": "+lpush"}


class TaskiqSink(JobSink):
    """Starts a task for each notification; done when the server has the message, once per ``dedupe_key``.

    A stream without a consumer group takes none: the group that a worker makes on its first start begins
    behind what is in the stream by then.
    """

    def __init__(self, jobs: JobQueue, *, task: str, queue: str, broker: str) -> None:
        super().__init__(jobs)
        self._task = task
        self._queue = queue
        self._broker = broker

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """``?task=NAME&queue=taskiq&broker=stream``, and the ``OPTIONS`` of every job queue."""
        where = SinkUrl.read(options.name, url, form=_FORM, known=(*OPTIONS, "broker"))
        queue, broker = named(where, "queue", "taskiq"), where.choice("broker", tuple(_COMMANDS))
        jobs = JobQueue.from_url(
            where,
            options,
            form=_FORM,
            key=queue,
            commands=_COMMANDS[broker],
            group_needed=broker == "stream",
        )
        return cls(jobs, task=named(where, "task"), queue=queue, broker=broker)

    def commands(self, notification: Notification) -> list[Command]:
        message = {
            "task_id": job_id(notification),
            "task_name": self._task,
            "labels": {},
            "labels_types": {},
            "args": [msgspec.Raw(notification.body)],
            "kwargs": {},
        }
        encoded = msgspec.json.encode(message)
        if self._broker == "list":
            return [("LPUSH", self._queue, encoded)]
        return [("XADD", self._queue, "*", "data", encoded)]
