"""Replicate's words. Its answers of error are problem documents; prices and retries are assumed."""

import hashlib
from collections.abc import Iterable, Mapping

from receiver import payload
from receiver.clock import Clock
from receiver.simulator.faults import Failure
from receiver.simulator.model import Order, Question, Refusal, Retries, Snapshot
from receiver.simulator.requests import (
    read_callback_url,
    read_count,
    read_image_format,
    read_simulate,
    read_text,
)
from receiver.times import to_text


class ReplicateDialect:
    """https://replicate.com/docs/reference/http and .../topics/webhooks."""

    name = "replicate"
    submit_path = "/v1/predictions"
    status_paths: tuple[str, ...] = ("/v1/predictions/{task_id}",)
    balance_path: str | None = None
    uploads: str | None = None
    # Only the end is retried, for the last time about a minute after it; the steps are assumed.
    retries: Retries | None = Retries(waits_seconds=(5.0, 15.0, 40.0), timeout_seconds=10.0)
    failure = Failure(code=None, message="NSFW content detected. Try running it again, or another prompt.")
    price = 0.003  # US dollars

    def path_words(self) -> Mapping[str, Iterable[str]]:
        return {}

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:  # noqa: ARG002 - all is in the body
        wanted = payload.mapping(body.get("input"))
        read_text(wanted, "prompt", where="input.")
        return Order(
            model=read_text(body, "version"),
            makes=(read_image_format(wanted),) * read_count(wanted, "num_outputs", most=4),
            callback_url=read_callback_url(body, "webhook"),
            simulate=read_simulate(body),
        )

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> Question:  # noqa: ARG002 - the id is in the path
        return Question(task_id=path["task_id"])

    def new_id(self, order: Order, clock: Clock) -> str:  # noqa: ARG002 - ids look the same for all models
        return hashlib.sha256(clock.new_id("t").encode()).hexdigest()[:26]

    def submitted(self, task: Snapshot) -> object:
        return self.status(task)

    def status(self, task: Snapshot) -> object:
        """The body of the callback, too."""
        waiting = "processing" if task.percent >= 10 else "starting"
        return {
            "id": task.task_id,
            "version": task.model,
            "input": {},  # the prompt, say: for nobody here
            "status": {"running": waiting, "completed": "succeeded", "failed": "failed"}[task.state],
            "output": list(task.urls) if task.state == "completed" else None,
            "error": task.error,
            "logs": "",
            "created_at": to_text(task.created_at),
            "completed_at": to_text(task.ended_at) if task.ended_at else None,
        }

    def callback(self, task: Snapshot) -> object:
        return self.status(task)

    def balance(self, left: float) -> object:
        return {"balance": left}

    def refusal(self, problem: Refusal) -> object:
        return {"title": problem.title, "detail": problem.detail, "status": problem.status}
