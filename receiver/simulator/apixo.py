"""APIXO's words."""

from collections.abc import Iterable, Mapping

import msgspec

from receiver import payload
from receiver.clock import Clock
from receiver.simulator.faults import Failure
from receiver.simulator.gpt_image import price_at_apixo
from receiver.simulator.model import Order, Question, Refusal, Retries, Snapshot
from receiver.simulator.requests import (
    invalid,
    read_callback_url,
    read_count,
    read_image_format,
    read_image_urls,
    read_simulate,
    read_text,
)

# https://apixo.ai/docs/models : what these models, or those that begin so, make; all others make images.
_SONGS = frozenset({"suno"})
_FILM_FAMILIES = ("seedance-", "veo-")


class ApixoDialect:
    """https://apixo.ai/docs/api-reference/webhooks and .../status-task."""

    name = "apixo"
    submit_path = "/api/v1/generateTask/{model:path}"
    status_paths: tuple[str, ...] = ("/api/v1/statusTask/{model:path}?taskId={task_id}",)
    balance_path: str | None = "/api/v1/apikeys/current-balance"  # .../api-reference/system
    uploads: str | None = None
    # Up to three retries with growing delays, of which the first begins with "30": the unit and the rest
    # of the table are assumed.
    retries: Retries | None = Retries(waits_seconds=(30.0, 60.0, 120.0), timeout_seconds=30.0, only_200=True)
    failure = Failure(code="CONTENT_VIOLATION", message="Content violates usage policy")
    price = 0.02  # US dollars

    def path_words(self) -> Mapping[str, Iterable[str]]:
        return {}

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:
        wanted = payload.mapping(body.get("input"))
        read_text(wanted, "prompt", where="input.")
        kind = body.get("request_type")
        if kind not in {"async", "callback"}:
            raise invalid("request_type must be async or callback")
        callback_url = read_callback_url(body)
        if kind == "callback" and callback_url is None:
            raise invalid("Missing required field: callback_url")
        model, makes = path["model"], _makes(path["model"], wanted)
        return Order(
            model=model,
            makes=makes,
            callback_url=callback_url if kind == "callback" else None,
            simulate=read_simulate(body),
            price=price_at_apixo(wanted) * len(makes) if model == "gpt-image-2" else None,
        )

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> Question:
        return Question(task_id=query.get("taskId", ""), model=path["model"])

    def new_id(self, order: Order, clock: Clock) -> str:  # noqa: ARG002 - ids look the same for all models
        return f"task_{clock.new_id('t')[-12:]}"

    def submitted(self, task: Snapshot) -> object:
        return _envelope({"taskId": task.task_id})

    def status(self, task: Snapshot) -> object:
        """The body of the callback too, once the task has ended; only then it has times and results."""
        waiting = "processing" if task.percent >= 10 else "pending"
        state = {"running": waiting, "completed": "success", "failed": "failed"}[task.state]
        data: dict[str, object] = {"taskId": task.task_id, "state": state}
        if task.state == "completed":
            data["resultJson"] = msgspec.json.encode({"resultUrls": task.urls}).decode()
        if task.state == "failed":
            data["failCode"] = str(task.error_code)
            data["failMsg"] = task.error
        created_ms = int(task.created_at.timestamp() * 1000)
        data["createTime"] = created_ms
        if task.ended_at is not None:
            completed_ms = int(task.ended_at.timestamp() * 1000)
            if task.state == "completed":
                data["costTime"] = completed_ms - created_ms
            data["completeTime"] = completed_ms
        return _envelope(data)

    def callback(self, task: Snapshot) -> object:
        return self.status(task)

    def balance(self, left: float) -> object:
        return {"code": 200, "message": "success", "data": left}

    def refusal(self, problem: Refusal) -> object:
        return {"code": problem.status, "message": problem.title, "data": {"error": problem.detail}}


def _makes(model: str, wanted: Mapping[str, object]) -> tuple[str, ...]:
    if model in _SONGS:
        return ("mp3",)
    if model.startswith(_FILM_FAMILIES):
        return ("mp4",)
    if wanted.get("mode") == "image-to-image" and not read_image_urls(wanted):
        raise invalid("Missing required field: input.image_urls")
    return (read_image_format(wanted),) * read_count(wanted, "num_images", most=4)


def _envelope(data: dict[str, object]) -> dict[str, object]:
    return {"code": 200, "message": "success", "data": data}
