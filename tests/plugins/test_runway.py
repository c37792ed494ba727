"""Runway: the contract, and a version in a header."""

from typing import ClassVar

from receiver.plugins import load_providers
from receiver.ports import Provider
from tests.contracts.provider import ProviderContract


class TestRunway(ProviderContract):
    provider: ClassVar[Provider] = load_providers()["runway"]
    task_ids_in_samples = frozenset({"d2e3d1f4-1b3c-4b5c-8d46-1c1d7ee86892"})

    def success(self, items: object) -> object:
        return {"id": "t", "status": "SUCCEEDED", "output": items}

    def failure(self, error: object) -> object:
        return {"id": "t", "status": "FAILED", "error": error}

    def test_a_failure_says_why(self) -> None:
        report = self.read("runway-status-failed")
        assert (report.error_code, report.error_message) == ("SAFETY.INPUT.TEXT", "The prompt was refused")

    def test_a_question_says_of_which_version_it_is(self) -> None:
        request = self.provider.status_request("t", None)
        assert request is not None
        assert request.headers == {"X-Runway-Version": "2024-11-06"}
