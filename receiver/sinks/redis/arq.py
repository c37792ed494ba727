"""Notifications as jobs of arq workers that read JSON.

    arq+redis://[user:password@]host[:port][/database]?task=image_done&queue=arq:queue

A job is a key ``arq:job:ID``, and a member of the queue's sorted set with its id, as arq 0.28.0 writes them
but in JSON (``job_deserializer=json.loads``), and for ever: arq's own are gone after a day without a worker.
The user needs ``eval``, ``exists``, ``set``, ``zadd`` and, for ping, ``type``.
"""

from typing import Self

import msgspec

from receiver.clock import Clock
from receiver.jobs import job_id, named
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.redis.job_queue import OPTIONS, Command, JobQueue, JobSink

_FORM = "arq+redis://HOST:PORT/DATABASE?task=FUNCTION"


class ArqSink(JobSink):
    """Enqueues a job for each notification; done when the server has it, once per ``dedupe_key``."""

    def __init__(self, jobs: JobQueue, *, task: str, queue: str, clock: Clock) -> None:
        super().__init__(jobs)
        self._task = task
        self._queue = queue
        self._clock = clock

    @classmethod
    def from_url(cls, url: str, options: PluginOptions, *, clock: Clock | None = None) -> Self:
        """``?task=FUNCTION&queue=arq:queue``, and the ``OPTIONS`` of every job queue."""
        where = SinkUrl.read(options.name, url, form=_FORM, known=OPTIONS)
        queue = named(where, "queue", "arq:queue")
        jobs = JobQueue.from_url(where, options, form=_FORM, key=queue, commands="+zadd")
        return cls(jobs, task=named(where, "task"), queue=queue, clock=clock or Clock())

    def commands(self, notification: Notification) -> list[Command]:
        id_, milliseconds = job_id(notification), int(self._clock.now().timestamp() * 1000)
        arguments = [msgspec.Raw(notification.body)]
        job: dict[str, object] = {"t": None, "f": self._task, "a": arguments, "k": {}, "et": milliseconds}
        # A worker takes what is due, so the time is when it is due, too.
        return [
            ("SET", f"arq:job:{id_}", msgspec.json.encode(job)),
            ("ZADD", self._queue, str(milliseconds), id_),
        ]
