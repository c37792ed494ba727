"""WaveSpeed's words. Prices and retries are assumed."""

import hashlib
from collections.abc import Iterable, Mapping

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


class WavespeedDialect:
    """https://wavespeed.ai/docs (how-to-use-webhooks, get-result)."""

    name = "wavespeed"
    submit_path = "/api/v3/{model:path}"  # with ``?webhook=``
    status_paths: tuple[str, ...] = (
        "/api/v3/predictions/{task_id}/result",
        "/api/v3/predictions/{task_id}",
    )
    balance_path: str | None = "/api/v3/balance"
    uploads: str | None = None
    retries: Retries | None = Retries(waits_seconds=(5.0, 15.0, 40.0), timeout_seconds=10.0)
    failure = Failure(code=None, message="Content flagged as potentially sensitive")
    price = 0.005  # US dollars

    def path_words(self) -> Mapping[str, Iterable[str]]:
        return {}

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:
        read_text(body, "prompt")
        return Order(
            model=path["model"],
            makes=(read_image_format(body),) * read_count(body, "num_images", most=4),
            callback_url=read_callback_url(path, "webhook"),
            simulate=read_simulate(body),
        )

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> Question:  # noqa: ARG002 - the id is in the path
        return Question(task_id=path["task_id"])

    def new_id(self, order: Order, clock: Clock) -> str:  # noqa: ARG002 - ids look the same for all models
        return hashlib.sha256(clock.new_id("t").encode()).hexdigest()[:32]

    def submitted(self, task: Snapshot) -> object:
        return self.status(task)

    def status(self, task: Snapshot) -> object:
        """An envelope around the body of the callback."""
        return {"code": 200, "message": "success", "data": self.callback(task)}

    def callback(self, task: Snapshot) -> object:
        waiting = "processing" if task.percent >= 10 else "created"
        return {
            "id": task.task_id,
            "model": task.model,
            "status": {"running": waiting, "completed": "completed", "failed": "failed"}[task.state],
            "outputs": list(task.urls),
            "error": task.error or "",
            "created_at": to_text(task.created_at),
        }

    def balance(self, left: float) -> object:
        return {"code": 200, "message": "success", "data": {"balance": left}}

    def refusal(self, problem: Refusal) -> object:
        return {"code": problem.status, "message": problem.detail}
