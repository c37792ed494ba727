"""A Celery task that a sink of the receiver starts, with the event as a value in place of a document.

    @receiver.client.celery.task(app, name="tasks.image_done", autoretry_for=(Exception,))
    def image_done(event: Event) -> None: ...

The sink is ``RECEIVER_SINK_JOBS='celery+redis://HOST:PORT/DB?task=tasks.image_done'``. To order from a task
there is ``Receiver.submission``, with the task's own id as key and ``NotSent`` as what it is tried again for.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import msgspec
from celery import Celery

from receiver.client.events import Event, read_event


def task(app: Celery, **options: Any) -> Callable[[Callable[[Event], object]], Any]:
    """A task of ``app`` with Celery's own ``options``; ``event.raw`` is the document, written anew."""

    def decorate(function: Callable[[Event], object]) -> Any:
        @wraps(function)
        def run(document: dict[str, Any]) -> object:
            return function(read_event(msgspec.json.encode(document)))

        return app.task(**options)(run)

    return decorate
