"""Black Forest Labs: the contract, one image, and an HMAC of the body alone."""

from typing import ClassVar

import pytest

from receiver import payload
from receiver.models import ReportState, SigningKeys, StatusRequest
from receiver.plugins import load_providers
from receiver.ports import Provider
from tests.contracts.provider import ProviderContract
from tests.support.signatures import BY_SECRETS, OLD_SECRET, SECRET, bfl, callback, forgeries


class TestBfl(ProviderContract):
    provider: ClassVar[Provider] = load_providers()["bfl"]
    task_ids_in_samples = frozenset({"gen_abc123xyz"})

    def success(self, items: object) -> object:
        sample = next(iter(payload.items(items)), None)
        return {"id": "t", "status": "Ready", "result": {"sample": sample}}

    def failure(self, error: object) -> object:
        return {"id": "t", "status": "Error", "error": error}

    def test_a_failure_has_its_code_and_its_words(self) -> None:
        report = self.read("bfl-callback-failed")
        assert report.error_message == "The prompt violated content policy"

    @pytest.mark.parametrize("word", ["Request Moderated", "Content Moderated"])
    def test_a_moderated_task_has_failed(self, word: str) -> None:
        assert self.provider.parse({"id": "t", "status": word}).state is ReportState.FAILED

    def test_a_task_that_is_not_known_where_it_was_asked_about_has_not_failed(self) -> None:
        assert self.provider.parse({"id": "t", "status": "Task not found"}).state is ReportState.UNCLEAR

    def test_it_is_asked_by_id(self) -> None:
        assert self.provider.status_request("t/1", None) == StatusRequest(
            path="/v1/get_result", query={"id": "t/1"}
        )

    def test_the_known_answer_passes(self) -> None:
        headers = {
            "x-bfl-signature": "sha256=594e466a7ee2daff3d48b4000013078d5dcc371416eb1e6bf733c49787beb3d9"
        }
        keys = SigningKeys(secrets=("example-secret",))
        assert self.provider.verify(callback(headers, b'{"test": 2432232314}'), keys)

    @pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
    def test_what_is_signed_with_either_secret_passes(self, secret: str) -> None:
        assert self.provider.verify(callback(bfl(b"{}", secret), b"{}"), BY_SECRETS)

    def test_no_forgery_passes(self) -> None:
        body = self.samples()["bfl-callback-completed-image"]
        right = bfl(body)
        for forged in forgeries(right, body, has_time=False):
            assert not self.provider.verify(forged, BY_SECRETS), forged
        bare = {"x-bfl-signature": right["x-bfl-signature"].removeprefix("sha256=")}
        assert not self.provider.verify(callback(bare, body), BY_SECRETS)
        assert not self.provider.verify(callback(right, body), SigningKeys())
