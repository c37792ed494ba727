"""Notifications as jobs of RQ workers that read JSON.

    rq+redis://[user:password@]host[:port][/database]?task=app.tasks.image_done&queue=default&timeout=180

A job is a hash, and an element of the queue's list with its id, as RQ 3.0.0 writes them with its
``JSONSerializer``. Nothing is pickled. The user needs ``eval``, ``exists``, ``set``, ``hset``, ``sadd``,
``rpush`` and, for ping, ``type``.
"""

import zlib
from typing import Self

import msgspec

from receiver.clock import Clock
from receiver.jobs import described, job_id, named
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.redis.job_queue import OPTIONS, Command, JobQueue, JobSink

_FORM = "rq+redis://HOST:PORT/DATABASE?task=MODULE.FUNCTION"
_ALL_QUEUES = "rq:queues"  # by which dashboards find them
_DAY = 86_400


class RqSink(JobSink):
    """Enqueues a job for each notification; done when the server has it, once per ``dedupe_key``."""

    def __init__(self, jobs: JobQueue, *, task: str, queue: str, timeout: int, clock: Clock) -> None:
        super().__init__(jobs)
        self._task = task
        self._queue = queue
        self._timeout = timeout
        self._clock = clock

    @classmethod
    def from_url(cls, url: str, options: PluginOptions, *, clock: Clock | None = None) -> Self:
        """``?task=MODULE.FUNCTION&queue=default``, ``timeout``: its longest run, in seconds."""
        where = SinkUrl.read(options.name, url, form=_FORM, known=(*OPTIONS, "timeout"))
        queue = named(where, "queue", "default")
        return cls(
            JobQueue.from_url(
                where, options, form=_FORM, key=f"rq:queue:{queue}", commands="+hset +sadd +rpush"
            ),
            task=named(where, "task"),
            queue=queue,
            # The worker has no say in it: RQ takes the job's, and gives 180 to those it makes.
            timeout=where.whole_number("timeout", default=180, least=1, most=_DAY),
            clock=clock or Clock(),
        )

    def commands(self, notification: Notification) -> list[Command]:
        id_, key = job_id(notification), f"rq:queue:{self._queue}"
        fields = (part for field in self._fields(notification).items() for part in field)
        return [("HSET", f"rq:job:{id_}", *fields), ("SADD", _ALL_QUEUES, key), ("RPUSH", key, id_)]

    def _fields(self, notification: Notification) -> dict[str, str | bytes]:
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        call: tuple[object, ...] = (self._task, None, [msgspec.Raw(notification.body)], {})
        return {
            "data": zlib.compress(msgspec.json.encode(call)),
            "description": f"{self._task}({described(notification)})",
            "origin": self._queue,
            "status": "queued",
            "created_at": now,
            "enqueued_at": now,
            "timeout": str(self._timeout),
        }
