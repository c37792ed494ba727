"""Kling: the contract, its envelope, and what was worked on beside what was made."""

from typing import ClassVar

import pytest

from receiver.models import ReportState
from receiver.ports import Provider
from receiver.providers.kling import Kling
from tests.contracts.provider import ProviderContract


class TestKling(ProviderContract):
    provider: ClassVar[Provider] = Kling()
    task_ids_in_samples = frozenset({"example-task-id"})

    def success(self, items: object) -> object:
        return {"task_id": "t", "task_status": "succeed", "task_result": {"images": items}}

    def failure(self, error: object) -> object:
        return {"task_id": "t", "task_status": "failed", "task_status_msg": error}

    def test_the_film_that_was_worked_on_is_no_result(self) -> None:
        (file,) = self.read("kling-status-succeeded-video").files
        assert (file.url[-12:], file.kind) == ("/example.mp4", "video")

    def test_every_change_but_an_end_is_progress(self) -> None:
        for word in ("submitted", "processing"):
            task = {"task_id": "t", "task_status": word}
            for document in (task, {"code": 0, "message": "SUCCEED", "data": task}):
                assert self.provider.parse(document).state is ReportState.PROGRESS

    @pytest.mark.parametrize(
        ("model", "paths"),
        [
            (None, ["/v1/images/generations/t", "/v1/videos/text2video/t"]),
            ("kling-v2", ["/v1/images/generations/t", "/v1/videos/text2video/t"]),
            ("videos/image2video/kling-v2", ["/v1/videos/image2video/t"]),
        ],
    )
    def test_a_model_may_say_under_which_path_it_was_ordered(
        self, model: str | None, paths: list[str]
    ) -> None:
        asked = self.provider.status_request("t", model)
        assert asked is not None
        assert [each.path for each in (asked, asked.otherwise) if each] == paths
