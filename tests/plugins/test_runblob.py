"""Runblob: the contract, and families that name the same in their own ways."""

from typing import ClassVar

import pytest

from receiver.models import ReportState
from receiver.payload import items
from receiver.ports import Provider
from receiver.providers.runblob import Runblob
from tests.contracts.provider import ProviderContract


class TestRunblob(ProviderContract):
    provider: ClassVar[Provider] = Runblob()
    task_ids_in_samples = frozenset(
        {"ffd473d5-5bef-4e14-bf22-8d559be3c19f", "550e8400-e29b-41d4-a716-446655440000"}
    )

    def success(self, items_: object) -> object:
        return {
            "task_uuid": "t",
            "status": "completed",
            "result_image_url": next(iter(items(items_)), None),
        }

    def failure(self, error: object) -> object:
        return {"task_uuid": "t", "status": "failed", "result_image_url": None, "error": error}

    def test_each_family_has_words_of_its_own_for_why_it_failed(self) -> None:
        assert self.read("runblob-callback-failed").error_message == "MODERATION_FAILED"
        assert self.read("runblob-callback-video-failed").error_message == (
            "Image contains photorealistic people."
        )

    @pytest.mark.parametrize(
        ("success", "state"), [(True, ReportState.COMPLETED), (False, ReportState.FAILED)]
    )
    def test_the_older_api_says_success_by_yes_or_no(self, *, success: bool, state: ReportState) -> None:
        old = {"success": success, "message": "TIMEOUT", "task_id": "t", "video_url": "https://m.test/a.mp4"}
        report = self.provider.parse(old)
        assert (report.task_id, report.state, bool(report.files)) == ("t", state, success)

    @pytest.mark.parametrize(
        ("model", "family"),
        [(None, "gemini"), ("pro", "gemini"), ("gpt-image-1.5", "chatgpt-images"), ("sora-2", "sora")],
    )
    def test_a_model_says_which_family_is_asked(self, model: str | None, family: str) -> None:
        asked = self.provider.status_request("t", model)
        assert asked is not None
        assert asked.path == f"/v1/{family}/generations/t"
