"""reAPI's words; it never calls back, so its tasks have to be polled."""

import hashlib
from collections.abc import Iterable, Mapping

from receiver.clock import Clock
from receiver.simulator.faults import Failure
from receiver.simulator.gpt_image import price_at_reapi
from receiver.simulator.model import (
    BROKEN,
    INVALID,
    NO_CREDIT,
    NO_KEY,
    NO_PATH,
    NOT_BEARER,
    NOT_FOUND,
    TOO_MANY,
    WRONG_KEY,
    Order,
    Question,
    Refusal,
    Retries,
    Snapshot,
)
from receiver.simulator.requests import (
    read_count,
    read_image_format,
    read_image_urls,
    read_simulate,
    read_text,
)
from receiver.simulator.sounds import SECONDS

# https://reapi.ai/docs/api/errors ; those of a task that is not there and of credit are assumptions, and the
# last two are what clients' tests have.
_CODES = {
    NO_KEY: 10001,
    NOT_BEARER: 10002,
    WRONG_KEY: 10003,
    INVALID: 20002,
    NOT_FOUND: 20004,
    NO_PATH: 20004,
    NO_CREDIT: 30001,
    TOO_MANY: 50001,
    BROKEN: 80003,
}
# https://reapi.ai/docs/gpt-image-2 : ``n`` is fixed at 1; gpt-image-2-official takes up to 4.
_MOST_IMAGES = {"gpt-image-2": 1}
_PRICED = ("gpt-image-2", "gpt-image-2-official")


class ReapiDialect:
    """https://reapi.ai/docs/api/quickstart and .../tasks."""

    name = "reapi"
    submit_path = "/api/v1/{kind}/generations"
    status_paths: tuple[str, ...] = ("/api/v1/tasks/{task_id}",)
    balance_path: str | None = "/api/v1/balance"  # not documented; clients read ``balance``
    uploads: str | None = None
    retries: Retries | None = None
    failure = Failure(code=80006, message="Request violates content policy")

    price = 6.0  # credits

    def path_words(self) -> Mapping[str, Iterable[str]]:
        return {"kind": _MAKES}

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:
        makes = _MAKES.get(path["kind"])
        if makes is None:
            raise Refusal(404, NO_PATH, "There is no such path.")
        model = read_text(body, "model")
        return Order(
            model=model,
            makes=makes(model, body),
            callback_url=None,
            simulate=read_simulate(body),
            price=price_at_reapi(body, is_official=model != "gpt-image-2") if model in _PRICED else None,
        )

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> Question:  # noqa: ARG002 - the id is in the path
        return Question(task_id=path["task_id"])

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
            "output": _output(task) if finished else None,
            "error": None,
        }

    def callback(self, task: Snapshot) -> object:
        return self.status(task)

    def balance(self, left: float) -> object:
        return {"balance": left}

    def refusal(self, problem: Refusal) -> object:
        code = _CODES[problem.title] if problem.title in _CODES else _CODES[INVALID]
        request_id = f"req_{hashlib.sha256(problem.detail.encode()).hexdigest()[:32]}"
        return {"error": {"code": code, "message": problem.detail, "request_id": request_id}}


def _images(model: str, body: Mapping[str, object]) -> tuple[str, ...]:
    read_text(body, "prompt")
    read_image_urls(body)
    return (read_image_format(body),) * read_count(body, "n", most=_MOST_IMAGES.get(model, 4))


def _films(model: str, body: Mapping[str, object]) -> tuple[str, ...]:  # noqa: ARG001 - all models alike
    read_text(body, "prompt")
    return ("mp4", "jpg") if body.get("return_last_frame") is True else ("mp4",)


def _songs(model: str, body: Mapping[str, object]) -> tuple[str, ...]:  # noqa: ARG001 - all models alike
    """Two tracks; some of these models work on a file, without a prompt."""
    return ("mp3", "mp3")


_MAKES = {"images": _images, "videos": _films, "audio": _songs}


def _output(task: Snapshot) -> dict[str, object]:
    """The key tells the kind. Songs come with ``tracks``, and by turns without ``audio_urls``."""
    kinds = {link.kind for link in task.links}
    if "video" in kinds:
        film, *frame = task.urls
        return {"video_urls": [film]} | ({"last_frame_url": frame[0]} if frame else {})
    if "audio" in kinds:
        tracks = [{"url": url, "title": "Hills", "duration": SECONDS} for url in task.urls]
        return {"tracks": tracks} | ({} if task.turn % 2 else {"audio_urls": task.urls})
    return {"image_urls": task.urls}
