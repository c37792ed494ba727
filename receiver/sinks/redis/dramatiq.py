"""Notifications as messages for dramatiq workers whose broker is a Redis server.

    dramatiq+redis://[user:password@]host[:port][/database]?task=image_done&queue=default&namespace=dramatiq

A message is a field of the hash ``NAMESPACE:QUEUE.msgs``, and an element of the list ``NAMESPACE:QUEUE`` with
its id, as dramatiq 2.2.1 writes them. The user needs ``eval``, ``exists``, ``set``, ``hset``, ``rpush`` and,
for ping, ``type``.
"""

from typing import Self

import msgspec

from receiver.clock import Clock
from receiver.jobs import job_id, named
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.redis.job_queue import OPTIONS, Command, JobQueue, JobSink

_FORM = "dramatiq+redis://HOST:PORT/DATABASE?task=ACTOR"


class DramatiqSink(JobSink):
    """Messages an actor for each notification; done when the server has it. Once per ``dedupe_key``."""

    def __init__(self, jobs: JobQueue, *, task: str, queue: str, key: str, clock: Clock) -> None:
        super().__init__(jobs)
        self._task = task
        self._queue = queue
        self._key = key
        self._clock = clock

    @classmethod
    def from_url(cls, url: str, options: PluginOptions, *, clock: Clock | None = None) -> Self:
        """``?task=ACTOR&queue=default``, the broker's ``namespace``, and ``OPTIONS``."""
        where = SinkUrl.read(options.name, url, form=_FORM, known=(*OPTIONS, "namespace"))
        queue = named(where, "queue", "default")
        key = f"{named(where, 'namespace', 'dramatiq')}:{queue}"
        jobs = JobQueue.from_url(where, options, form=_FORM, key=key, commands="+hset +rpush")
        return cls(jobs, task=named(where, "task"), queue=queue, key=key, clock=clock or Clock())

    def commands(self, notification: Notification) -> list[Command]:
        id_ = job_id(notification)
        message = {
            "queue_name": self._queue,
            "actor_name": self._task,
            "args": [msgspec.Raw(notification.body)],
            "kwargs": {},
            "options": {"redis_message_id": id_},
            "message_id": id_,
            "message_timestamp": int(self._clock.now().timestamp() * 1000),
        }
        encoded = msgspec.json.encode(message)
        return [("HSET", f"{self._key}.msgs", id_, encoded), ("RPUSH", self._key, id_)]
