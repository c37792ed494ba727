"""kie.ai's words, those of its market. Prices and retries are assumed."""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

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


class KieDialect:
    """https://docs.kie.ai/market/common/get-task-detail."""

    name = "kie"
    submit_path = "/api/v1/jobs/createTask"
    status_paths: tuple[str, ...] = ("/api/v1/jobs/recordInfo?taskId={task_id}",)
    balance_path: str | None = "/api/v1/chat/credit"
    uploads: str | None = None
    retries: Retries | None = Retries(waits_seconds=(5.0, 15.0, 40.0), timeout_seconds=15.0)
    failure = Failure(code="422", message="The prompt was flagged by the content policy")
    price = 4.0  # credits

    def path_words(self) -> Mapping[str, Iterable[str]]:
        return {}

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:  # noqa: ARG002 - all is in the body
        wanted = payload.mapping(body.get("input"))
        read_text(wanted, "prompt", where="input.")
        return Order(
            model=read_text(body, "model"),
            makes=(read_image_format(wanted),) * read_count(wanted, "max_images", most=4),
            callback_url=read_callback_url(body, "callBackUrl"),
            simulate=read_simulate(body),
        )

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> Question:  # noqa: ARG002 - the id is in the query
        return Question(task_id=query.get("taskId", ""))

    def new_id(self, order: Order, clock: Clock) -> str:  # noqa: ARG002 - ids look the same for all models
        return hashlib.sha256(clock.new_id("t").encode()).hexdigest()[:32]

    def submitted(self, task: Snapshot) -> object:
        return {"code": 200, "msg": "success", "data": {"taskId": task.task_id}}

    def status(self, task: Snapshot) -> object:
        """The body of the callback, too, which is an assumption."""
        waiting = "generating" if task.percent >= 10 else "waiting"
        data: dict[str, object] = {
            "taskId": task.task_id,
            "model": task.model,
            "state": {"running": waiting, "completed": "success", "failed": "fail"}[task.state],
            "resultJson": "",
            "failCode": None,
            "failMsg": None,
        }
        if task.state == "completed":
            data["resultJson"] = msgspec.json.encode({"resultUrls": task.urls}).decode()
        if task.state == "failed":
            data |= {"failCode": str(task.error_code), "failMsg": task.error}
        return {"code": 200, "msg": "success", "data": data}

    def callback(self, task: Snapshot) -> object:
        return self.status(task)

    def balance(self, left: float) -> object:
        return {"code": 200, "msg": "success", "data": left}

    def refusal(self, problem: Refusal) -> object:
        return {"code": problem.status, "msg": problem.detail, "data": None}
