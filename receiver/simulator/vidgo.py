"""Vidgo's words. Its error answers are an assumption: the documentation's table of them was not to be had."""

from collections.abc import Mapping
from datetime import datetime

from receiver import payload
from receiver.clock import Clock
from receiver.errors import Rejected
from receiver.simulator.faults import Failure
from receiver.simulator.orders import invalid, read_callback_url, read_count, read_simulate, read_text
from receiver.simulator.plot import Order, Retries, Snapshot

# https://docs.vidgo.ai/api-manual/image-series/gpt-image-2 : one image per request, and no ``n``.
ONE_IMAGE_MODELS = frozenset({"gpt-image-2", "gpt-image-2-edit"})
# .../image-series/seedream-5-0-lite : a bare id, and no ``status`` in the submit answer.
BARE_ID_MODELS = frozenset({"seedream-5.0-lite", "seedream-5.0-lite-edit"})


class VidgoDialect:
    """https://docs.vidgo.ai/api-manual/task-management/webhooks and .../status."""

    name = "vidgo"
    submit_path = "/api/generate/submit"
    status_path = "/api/generate/status/{task_id}"
    retries: Retries | None = Retries(waits_seconds=(1.0, 2.0, 4.0), timeout_seconds=10.0)
    failure = Failure(code=None, message="The prompt violates our content policy")

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:  # noqa: ARG002 - model is in the body
        model = read_text(body, "model")
        wanted = payload.mapping(body.get("input"))
        read_text(wanted, "prompt", where="input.")
        if "n" in wanted and model in ONE_IMAGE_MODELS:
            raise invalid(f"input.n is not supported by {model}")
        return Order(
            model=model,
            count=read_count(wanted, "n", most=15),
            callback_url=read_callback_url(body),
            simulate=read_simulate(body),
        )

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> str:  # noqa: ARG002 - the id is in the path
        return path["task_id"]

    def new_id(self, order: Order, clock: Clock) -> str:
        unique = clock.new_id("t")
        if order.model in BARE_ID_MODELS:
            return unique[-16:].upper()
        return f"task-unified-{int(clock.now().timestamp())}-{unique[-8:]}"

    def submitted(self, task: Snapshot) -> object:
        data = {"task_id": task.task_id, "status": "not_started", "created_time": _naive(task.created_at)}
        if task.model in BARE_ID_MODELS:
            del data["status"]
        return {"code": 200, "data": data}

    def status(self, task: Snapshot) -> object:
        return {"code": 200, "data": self.describe(task)}

    def callback(self, task: Snapshot) -> object:
        return {"code": 200, "data": self.describe(task)}

    def describe(self, task: Snapshot) -> dict[str, object]:
        """The ``data`` of callback and status answer: the same body."""
        running = "running" if task.percent >= 10 else "not_started"
        return {
            "task_id": task.task_id,
            "status": {"running": running, "completed": "finished", "failed": "failed"}[task.state],
            "files": [{"file_url": url, "file_type": "image"} for url in task.urls],
            "created_time": _naive(task.created_at),
            "progress": {"running": task.percent, "completed": 100, "failed": 0}[task.state],
            "error_message": task.error,
        }

    def refusal(self, problem: Rejected) -> object:
        return {"code": problem.status, "message": problem.detail}


def _naive(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S")  # the documentation's examples have no zone
