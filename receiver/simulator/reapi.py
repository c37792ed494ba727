"""reAPI's words; it never calls back, so its tasks have to be polled."""

import hashlib
from collections.abc import Mapping

from receiver.clock import Clock
from receiver.errors import Rejected
from receiver.simulator.faults import Failure
from receiver.simulator.orders import read_count, read_simulate, read_text
from receiver.simulator.plot import (
    INVALID,
    NO_CREDIT,
    NO_KEY,
    NOT_BEARER,
    NOT_FOUND,
    TOO_MANY,
    WRONG_KEY,
    Order,
    Retries,
    Snapshot,
)

# https://reapi.ai/docs/api/errors ; the last three numbers are assumptions.
_CODES = {
    NO_KEY: 10001,
    NOT_BEARER: 10002,
    WRONG_KEY: 10003,
    INVALID: 20002,
    NOT_FOUND: 20004,
    NO_CREDIT: 30001,
    TOO_MANY: 40001,
}
# https://reapi.ai/docs/gpt-image-2 : ``n`` is fixed at 1; gpt-image-2-official takes up to 4.
_MOST_IMAGES = {"gpt-image-2": 1}


class ReapiDialect:
    """https://reapi.ai/docs/api/quickstart and .../tasks."""

    name = "reapi"
    submit_path = "/api/v1/images/generations"
    status_path = "/api/v1/tasks/{task_id}"
    retries: Retries | None = None
    failure = Failure(code=80006, message="Request violates content policy")

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:  # noqa: ARG002 - model is in the body
        model = read_text(body, "model")
        read_text(body, "prompt")
        return Order(
            model=model,
            count=read_count(body, "n", most=_MOST_IMAGES.get(model, 4)),
            callback_url=None,
            simulate=read_simulate(body),
        )

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> str:  # noqa: ARG002 - the id is in the path
        return path["task_id"]

    def new_id(self, order: Order, clock: Clock) -> str:  # noqa: ARG002 - ids look the same for all models
        return f"task_{hashlib.sha256(clock.new_id('t').encode()).hexdigest()[:32]}"

    def submitted(self, task: Snapshot) -> object:
        return {
            "id": task.task_id,
            "model": task.model,
            "status": "processing",
            "created_at": int(task.created_at.timestamp()),
        }

    def status(self, task: Snapshot) -> object:
        if task.state == "failed":
            error = {"code": task.error_code, "message": task.error}
            return {"id": task.task_id, "status": "failed", "output": None, "error": error}
        finished = task.state == "completed"
        return {
            "id": task.task_id,
            "model": task.model,
            "status": "completed" if finished else "processing",
            "created_at": int(task.created_at.timestamp()),
            "output": {"image_urls": task.urls} if finished else None,
            "error": None,
        }

    def callback(self, task: Snapshot) -> object:
        return self.status(task)

    def refusal(self, problem: Rejected) -> object:
        code = _CODES[problem.title] if problem.title in _CODES else _CODES[INVALID]
        request_id = f"req_{hashlib.sha256(problem.detail.encode()).hexdigest()[:32]}"
        return {"error": {"code": code, "message": problem.detail, "request_id": request_id}}
