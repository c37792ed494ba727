"""APIDot's words: Vidgo's, except for where a status answer has its files, for errors and for music.

Submit path, field names, id form and states are the same in both documentations, so this is one dialect
with two accents. How APIDot repeats callbacks is not documented: Vidgo's schedule is assumed, and so is its
balance. The company's site (https://github.com/coolhackboy/apidot) shows what its documentation does not.
"""

from collections.abc import Mapping

from receiver.clock import Clock
from receiver.simulator import music
from receiver.simulator.gpt_image import price_at_apidot
from receiver.simulator.model import Order, Refusal, Snapshot, kind_of
from receiver.simulator.vidgo import VidgoDialect, error_type, naive


class ApidotDialect(VidgoDialect):
    """https://github.com/APIDotAI/gpt-image-2-api and https://github.com/APIDotAI/apidot-examples ."""

    name = "apidot"
    uploads: str | None = None  # not documented
    price = 1.5  # credits; the site reckons with fractions
    music_models = music.APIDOT

    def price_of(self, wanted: Mapping[str, object]) -> float:
        return price_at_apidot(wanted)

    def new_id(self, order: Order, clock: Clock) -> str:
        task_id = super().new_id(order, clock)
        if order.music:
            return f"task-music-{int(clock.now().timestamp())}-{task_id[-8:].lower()}"
        return task_id

    def underway(self, task: Snapshot) -> str:
        """``processing`` is what the site's image tools wait through, beside the others."""
        word = super().underway(task)
        is_image = {kind_of(makes) for makes in task.order.makes} == {"image"} and not task.order.music
        return "processing" if word == "running" and is_image else word

    def status(self, task: Snapshot) -> object:
        """With the files in ``files`` as the site reads them, or in ``output`` as curl/generate.md has them.

        By turns, as nobody knows which it is today. Music has them in ``files`` alone. The other fields are
        what the site reads besides.
        """
        data = self.describe(task) | {"credits_amount": 0 if task.state == "failed" else task.credits}
        if task.ended_at is not None:
            data["finished_time"] = naive(task.ended_at)
        if task.state == "completed" and not task.order.music:
            files = [{**file, "watermark_url": file["file_url"]} for file in self.files(task)]
            del data["files"]
            data |= {"output": {"files": files}} if task.turn % 2 else {"files": files}
        return {"code": 200, "data": data}

    def refusal(self, problem: Refusal) -> object:
        return {"code": problem.status, "error": {"message": problem.detail, "type": error_type(problem)}}
