"""fal.ai's words: results apart from the status, callbacks signed by a private key. Prices are assumed."""

from collections.abc import Iterable, Mapping
from uuid import uuid4

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

_WORDS = {"running": "IN_PROGRESS", "completed": "COMPLETED", "failed": "COMPLETED"}  # the results say which


class FalDialect:
    """https://fal.ai/docs (model-apis/inference/queue, model-apis/model-endpoints/webhooks)."""

    name = "fal"
    submit_path = "/{model:path}"  # with ``?fal_webhook=``
    status_paths: tuple[str, ...] = (
        "/{owner}/{app}/requests/{task_id}/status",
        "/{owner}/{app}/requests/{results_of}",
    )
    keys_path = "/.well-known/jwks.json"
    key_word = "Key"
    balance_path: str | None = None
    uploads: str | None = None
    # Ten tries over two hours; the steps are assumed.
    retries: Retries | None = Retries(
        waits_seconds=(5.0, 15.0, 60.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3000.0), timeout_seconds=15.0
    )
    failure = Failure(code=None, message="The content could not be processed by the content checker.")
    price = 0.003  # US dollars

    def path_words(self) -> Mapping[str, Iterable[str]]:
        return {}

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:
        read_text(body, "prompt")
        return Order(
            model=path["model"],
            makes=(read_image_format(body),) * read_count(body, "num_images", most=4),
            callback_url=read_callback_url(path, "fal_webhook"),
            simulate=read_simulate(body),
        )

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> Question:  # noqa: ARG002 - all is in the path
        results_of = path.get("results_of")
        return Question(task_id=results_of or path["task_id"], results=results_of is not None)

    def new_id(self, order: Order, clock: Clock) -> str:  # noqa: ARG002 - ids look the same for all models
        return str(uuid4())

    def submitted(self, task: Snapshot) -> object:
        owner_and_app = "/".join(task.model.split("/")[:2])
        path = f"/{owner_and_app}/requests/{task.task_id}"
        return {
            "status": "IN_QUEUE",
            "request_id": task.task_id,
            "response_url": path,
            "status_url": f"{path}/status",
            "queue_position": 0,
        }

    def status(self, task: Snapshot) -> object:
        return {"status": _WORDS[task.state], "request_id": task.task_id, "logs": None}

    def results(self, task: Snapshot) -> tuple[int, object]:
        """The answer at the path of the results, and its status."""
        if task.state == "running":
            return 400, {"detail": "Request is still in progress"}
        if task.state == "failed":
            wrong = {"loc": ["body", "prompt"], "msg": task.error, "type": "content_policy_violation"}
            return 422, {"detail": [wrong]}
        return 200, {"images": [{"url": url} for url in task.urls], "seed": 7}

    def callback(self, task: Snapshot) -> object:
        said = {"request_id": task.task_id, "gateway_request_id": task.task_id}
        if task.state == "running":
            return said | {"status": "IN_PROGRESS"}
        status, results = self.results(task)
        if status == 200:
            return said | {"status": "OK", "payload": results}
        return said | {"status": "ERROR", "error": f"Invalid status code: {status}", "payload": results}

    def balance(self, left: float) -> object:
        return {"balance": left}

    def refusal(self, problem: Refusal) -> object:
        return {"detail": problem.detail}
