"""PiAPI: the contract, outputs of many models, and a secret in clear."""

from typing import ClassVar

import pytest

from receiver.models import ReportState, SigningKeys
from receiver.ports import Provider
from receiver.providers.piapi import Piapi
from tests.contracts.provider import ProviderContract
from tests.support.signatures import BY_SECRETS, OLD_SECRET, SECRET, callback

LINK = "https://img.theapi.app/a.png"


class TestPiapi(ProviderContract):
    provider: ClassVar[Provider] = Piapi()
    task_ids_in_samples = frozenset({"58cb41b7-556d-46c0-b82e-1e116aa1a31a"})

    def success(self, items: object) -> object:
        return {
            "timestamp": 1,
            "data": {"task_id": "t", "status": "completed", "output": {"image_urls": items}},
        }

    def failure(self, error: object) -> object:
        return {"data": {"task_id": "t", "status": "failed", "error": error}}

    @pytest.mark.parametrize(
        "output",
        [
            {"image_url": LINK},
            {"image_url": "", "image_urls": [LINK]},
            {"generation": {"image": {"url": LINK}}},
            {"images": [{"url": LINK}]},
        ],
    )
    def test_an_output_may_have_any_shape(self, output: object) -> None:
        document = {"data": {"task_id": "t", "status": "Completed", "output": output}}
        assert [file.url for file in self.provider.parse(document).files] == [LINK]

    def test_a_failure_has_its_words(self) -> None:
        report = self.read("piapi-status-failed")
        assert (report.error_code, report.error_message) == ("10000", "task failed")

    def test_progress_ends_nothing(self) -> None:
        for word in ("pending", "Staged", "Processing"):
            assert (
                self.provider.parse({"data": {"task_id": "t", "status": word}}).state is ReportState.PROGRESS
            )

    @pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
    def test_either_secret_passes_and_nothing_else(self, secret: str) -> None:
        body = b'{"data": {"config": {"webhook_config": {"secret": "' + secret.encode() + b'"}}}}'
        assert self.provider.verify(callback({"x-webhook-secret": secret}, body), BY_SECRETS)
        assert not self.provider.verify(callback({}, body), BY_SECRETS)  # that of the body is not looked at
        for wrong in ("", secret[:-1], secret + "A", f"{secret}, {secret}", secret.upper()):
            assert not self.provider.verify(callback({"x-webhook-secret": wrong}, body), BY_SECRETS)
        assert not self.provider.verify(callback({"x-webhook-secret": ""}, body), SigningKeys())

    def test_a_secret_in_clear_says_nothing_of_the_body(self) -> None:
        assert self.provider.facts.signs_body is False
