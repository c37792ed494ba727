"""Midjourney's proxies: the contract, a post for every per cent, and an address that everybody has to set."""

from typing import ClassVar

import pytest

from receiver.models import ReportState
from receiver.payload import items
from receiver.ports import Provider
from receiver.providers.midjourney import Midjourney
from tests.contracts.provider import ProviderContract


class TestMidjourney(ProviderContract):
    provider: ClassVar[Provider] = Midjourney()
    task_ids_in_samples = frozenset({"task_abc123"})

    def success(self, items_: object) -> object:
        image = next(iter(items(items_)), None)
        return {"id": "t", "action": "IMAGINE", "status": "SUCCESS", "imageUrl": image}

    def failure(self, error: object) -> object:
        return {"id": "t", "status": "FAILURE", "failReason": error, "imageUrl": ""}

    def test_the_unfinished_image_of_a_running_task_is_none_of_its_files(self) -> None:
        running = {
            "id": "t",
            "status": "IN_PROGRESS",
            "progress": "65%",
            "imageUrl": "https://m.test/65.webp",
        }
        report = self.provider.parse(running)
        assert (report.state, report.files) == (ReportState.PROGRESS, ())

    @pytest.mark.parametrize("action", ["DESCRIBE", "SHORTEN"])
    def test_what_makes_words_ends_without_a_file(self, action: str) -> None:
        report = self.provider.parse({"id": "t", "action": action, "status": "SUCCESS", "imageUrl": None})
        assert (report.state, report.is_fileless) == (ReportState.COMPLETED, True)

    def test_a_task_that_waits_for_words_has_not_ended_and_a_cancelled_one_has_failed(self) -> None:
        assert self.provider.parse({"id": 1, "status": "MODAL"}).state is ReportState.PROGRESS
        assert self.provider.parse({"id": 1, "status": "CANCEL"}).state is ReportState.FAILED

    def test_without_an_address_of_ones_own_nobody_gets_the_key(self) -> None:
        assert self.provider.facts.base_url.endswith(".invalid")
