"""Luma: the contract, and films and images alike."""

from typing import ClassVar

from receiver import payload
from receiver.ports import Provider
from receiver.providers.luma import Luma
from tests.contracts.provider import ProviderContract


class TestLuma(ProviderContract):
    provider: ClassVar[Provider] = Luma()
    task_ids_in_samples = frozenset({"123e4567-e89b-12d3-a456-426614174000"})

    def success(self, items: object) -> object:
        image = next(iter(payload.items(items)), None)
        return {"id": "t", "state": "completed", "assets": {"image": image}}

    def failure(self, error: object) -> object:
        return {"id": "t", "state": "failed", "assets": None, "error": error}

    def test_a_failure_says_why(self) -> None:
        assert self.read("luma-callback-failed").error_message == "The prompt was refused"

    def test_a_film_and_a_picture_keep_their_order(self) -> None:
        assets = {"image": "https://m.test/a", "video": "https://m.test/b"}
        report = self.provider.parse({"id": "t", "state": "completed", "assets": assets})
        assert [(file.url[-1], file.kind) for file in report.files] == [("b", "video"), ("a", "image")]
