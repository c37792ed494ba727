"""PiAPI's words: a secret of each order comes back in clear. Prices and retries are assumed."""

from collections.abc import Iterable, Mapping
from uuid import uuid4

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


class PiapiDialect:
    """https://piapi.ai/docs (unified-webhook, and each model's page "get task")."""

    name = "piapi"
    submit_path = "/api/v1/task"
    status_paths: tuple[str, ...] = ("/api/v1/task/{task_id}",)
    balance_path: str | None = "/account/info"
    uploads: str | None = None
    retries: Retries | None = Retries(waits_seconds=(5.0, 15.0, 40.0), timeout_seconds=10.0)
    failure = Failure(code=None, message="The prompt was refused")
    price = 0.01  # US dollars

    def path_words(self) -> Mapping[str, Iterable[str]]:
        return {}

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:  # noqa: ARG002 - all is in the body
        wanted = payload.mapping(body.get("input"))
        read_text(wanted, "prompt", where="input.")
        hook = payload.mapping(payload.mapping(body.get("config")).get("webhook_config"))
        return Order(
            model=read_text(body, "model"),
            makes=(read_image_format(wanted),) * read_count(wanted, "batch_size", most=4),
            callback_url=read_callback_url(hook, "endpoint"),
            secret=payload.text(hook.get("secret")),
            simulate=read_simulate(body),
        )

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> Question:  # noqa: ARG002 - the id is in the path
        return Question(task_id=path["task_id"])

    def new_id(self, order: Order, clock: Clock) -> str:  # noqa: ARG002 - ids look the same for all models
        return str(uuid4())

    def submitted(self, task: Snapshot) -> object:
        return self.status(task)

    def status(self, task: Snapshot) -> object:
        return {"code": 200, "data": _task(task), "message": "success"}

    def callback(self, task: Snapshot) -> object:
        """The secret stands in the body of a real one, too, with all else that was ordered."""
        return {"timestamp": int((task.ended_at or task.created_at).timestamp()), "data": _task(task)}

    def balance(self, left: float) -> object:
        return {"code": 200, "data": {"equivalent_in_usd": left}, "message": "success"}

    def refusal(self, problem: Refusal) -> object:
        return {"code": problem.status, "message": problem.detail, "data": None}


def _task(task: Snapshot) -> dict[str, object]:
    waiting = "processing" if task.percent >= 10 else "pending"
    return {
        "task_id": task.task_id,
        "model": task.model,
        "status": {"running": waiting, "completed": "completed", "failed": "failed"}[task.state],
        "output": {"image_urls": list(task.urls)} if task.state == "completed" else {},
        "error": {"code": 10000 if task.error else 0, "message": task.error or "", "raw_message": ""},
    }
