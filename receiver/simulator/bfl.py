"""Black Forest Labs' words: one image each, signed with the secret of its order. Prices are assumed."""

from collections.abc import Iterable, Mapping
from uuid import uuid4

from receiver import payload
from receiver.clock import Clock
from receiver.simulator.faults import Failure
from receiver.simulator.model import Order, Question, Refusal, Retries, Snapshot
from receiver.simulator.requests import read_callback_url, read_image_format, read_simulate, read_text


class BflDialect:
    """https://github.com/black-forest-labs/skills (webhook-integration.md, polling-patterns.md)."""

    name = "bfl"
    submit_path = "/v1/{model}"
    status_paths: tuple[str, ...] = ("/v1/get_result?id={task_id}",)
    balance_path: str | None = "/v1/credits"
    uploads: str | None = None
    retries: Retries | None = Retries(waits_seconds=(1.0, 5.0, 30.0), timeout_seconds=30.0)
    failure = Failure(code=None, message="Content Moderated")
    price = 4.0  # credits

    def path_words(self) -> Mapping[str, Iterable[str]]:
        return {}

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:
        read_text(body, "prompt")
        return Order(
            model=path["model"],
            makes=(read_image_format(body),),
            callback_url=read_callback_url(body, "webhook_url"),
            secret=payload.text(body.get("webhook_secret")),
            simulate=read_simulate(body),
        )

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> Question:  # noqa: ARG002 - the id is in the query
        return Question(task_id=query.get("id", ""))

    def new_id(self, order: Order, clock: Clock) -> str:  # noqa: ARG002 - ids look the same for all models
        return str(uuid4())

    def submitted(self, task: Snapshot) -> object:
        return {"id": task.task_id, "polling_url": f"/v1/get_result?id={task.task_id}"}

    def status(self, task: Snapshot) -> object:
        """The body of the callback, too."""
        said: dict[str, object] = {"id": task.task_id}
        if task.state == "failed":
            return said | {"status": "Error", "error": "generation_failed", "message": task.error}
        if task.state == "running":
            return said | {"status": "Pending", "result": None, "progress": task.percent / 100}
        return said | {"status": "Ready", "result": {"sample": task.urls[0]}}

    def callback(self, task: Snapshot) -> object:
        return self.status(task)

    def balance(self, left: float) -> object:
        return {"credits": left}

    def refusal(self, problem: Refusal) -> object:
        return {"detail": problem.detail}
