"""Vidgo's words. Its error answers are assumed, as the documentation's table of them was not to be had."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from receiver import payload
from receiver.clock import Clock
from receiver.simulator import music
from receiver.simulator.faults import Failure
from receiver.simulator.gpt_image import price_at_vidgo
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

# https://docs.vidgo.ai/api-manual/image-series/gpt-image-2 : one image per request, and no ``n``; the second
# works from ``image_urls``, the first takes none.
ONE_IMAGE_MODELS = frozenset({"gpt-image-2", "gpt-image-2-edit"})
# .../image-series/seedream-5-0-lite : a bare id, and no ``status`` in the submit answer.
BARE_ID_MODELS = frozenset({"seedream-5.0-lite", "seedream-5.0-lite-edit"})
# What films' models begin with; their names are those of the families on the providers' pages.
FILM_FAMILIES = ("hailuo", "kling", "runway", "seedance-", "sora", "veo")


class VidgoDialect:
    """https://docs.vidgo.ai/api-manual/task-management/webhooks and .../status."""

    name = "vidgo"
    submit_path = "/api/generate/submit"
    status_paths: tuple[str, ...] = (
        "/api/generate/status/{task_id}",
        "/api/generate/detail/music?task_id={task_id}",
    )
    balance_path: str | None = "/api/user/balance"  # .../account-management/user-balance
    uploads: str | None = "/api/common/upload"  # .../file-series
    retries: Retries | None = Retries(waits_seconds=(1.0, 2.0, 4.0), timeout_seconds=10.0)
    failure = Failure(code=None, message="The prompt violates our content policy")
    price = 2.0  # credits
    music_models = music.VIDGO

    def path_words(self) -> Mapping[str, Iterable[str]]:
        return {}

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:  # noqa: ARG002 - model is in the body
        model = read_text(body, "model")
        wanted = payload.mapping(body.get("input"))
        items = self.music_models.get(model)
        if items is None or model in music.NEEDS_PROMPT:
            read_text(wanted, "prompt", where="input.")
        return Order(
            model=model,
            makes=_images_or_films(model, wanted) if items is None else music.makes(items),
            callback_url=read_callback_url(body),
            simulate=read_simulate(body),
            music=items is not None,
            price=self.price_of(wanted) if model in ONE_IMAGE_MODELS else None,
        )

    def price_of(self, wanted: Mapping[str, object]) -> float:
        """What one image of gpt-image-2 costs. Raises Refusal."""
        return price_at_vidgo(wanted)

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> Question:
        """Music has a status path of its own; that it is found at no other is assumed."""
        is_music = "task_id" not in path
        return Question(task_id=query.get("task_id", "") if is_music else path["task_id"], music=is_music)

    def new_id(self, order: Order, clock: Clock) -> str:
        unique = clock.new_id("t")
        if order.music or order.model in BARE_ID_MODELS:
            return unique[-16:].upper()
        return f"task-unified-{int(clock.now().timestamp())}-{unique[-8:]}"

    def submitted(self, task: Snapshot) -> object:
        data = {"task_id": task.task_id, "status": "not_started", "created_time": naive(task.created_at)}
        if task.model in BARE_ID_MODELS:
            del data["status"]
        return {"code": 200, "data": data}

    def status(self, task: Snapshot) -> object:
        return {"code": 200, "data": self.describe(task)}

    def callback(self, task: Snapshot) -> object:
        return {"code": 200, "data": self.describe(task)}

    def describe(self, task: Snapshot) -> dict[str, object]:
        """The ``data`` of callback and status answer: the same body. Music has no ``progress``."""
        data: dict[str, object] = {
            "task_id": task.task_id,
            "status": {"running": self.underway(task), "completed": "finished", "failed": "failed"}[
                task.state
            ],
            "files": self.files(task),
            "created_time": naive(task.created_at),
            "progress": {"running": task.percent, "completed": 100, "failed": 0}[task.state],
            "error_message": task.error,
        }
        if task.order.music:
            del data["progress"]
        return data

    def underway(self, task: Snapshot) -> str:
        return "running" if task.percent >= 10 else "not_started"

    def files(self, task: Snapshot) -> list[dict[str, object]]:
        """The finished files."""
        if not task.order.music:
            return [{"file_url": link.url, "file_type": link.kind} for link in task.links]
        return music.told(self.music_models[task.model], task.urls) if task.state == "completed" else []

    def balance(self, left: float) -> object:
        amount = int(left) if left == int(left) else left
        return {"code": 200, "data": {"email": "somebody@example.com", "credits_amount": amount}}

    def refusal(self, problem: Refusal) -> object:
        """``error`` as its sister documents it, and as public clients of Vidgo's read it."""
        error = {"message": problem.detail, "type": error_type(problem)}
        return {"code": problem.status, "message": problem.detail, "error": error}


def error_type(problem: Refusal) -> str:
    """https://github.com/coolhackboy/apidot, docs of gpt-image-2; the last two words are assumptions."""
    names = {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "insufficient_credits",
        429: "rate_limited",
        404: "not_found_error",
    }
    return names.get(problem.status, "api_error")


def naive(moment: datetime) -> str:
    """Without a zone, as in the documentation's examples."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _images_or_films(model: str, wanted: Mapping[str, object]) -> tuple[str, ...]:
    if model.startswith(FILM_FAMILIES):
        return ("mp4",)
    if "n" in wanted and model in ONE_IMAGE_MODELS:
        raise invalid(f"input.n is not supported by {model}")
    given = read_image_urls(wanted)
    if model == "gpt-image-2" and given:
        raise invalid("image_urls is not supported by gpt-image-2")
    if model == "gpt-image-2-edit" and not given:
        raise invalid("image_urls is required for gpt-image-2-edit")
    return (read_image_format(wanted),) * read_count(wanted, "n", most=15)
