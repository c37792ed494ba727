"""fal.ai: the contract, results of any shape and of their own, and a private key's signature."""

from typing import ClassVar

import pytest

from receiver.models import ReportState, SigningKeys, StatusRequest
from receiver.ports import Provider
from receiver.providers.fal import Fal
from tests.contracts.provider import ProviderContract
from tests.support.signatures import ANOTHER_KEY, BY_KEY, by_key, callback, forgeries

LINK = "https://v3.fal.media/files/a.png"
PREFIX, SUBJECT = "x-fal-webhook-", "request-id"


class TestFal(ProviderContract):
    provider: ClassVar[Provider] = Fal()
    model = "fal-ai/flux/dev"
    task_ids_in_samples = frozenset({"123e4567-e89b-12d3-a456-426614174000"})

    def success(self, items: object) -> object:
        return {"request_id": "t", "status": "OK", "payload": {"images": items, "seed": 1}}

    def failure(self, error: object) -> object:
        return {"request_id": "t", "status": "ERROR", "error": error}

    def test_a_failure_says_what_the_model_said(self) -> None:
        assert self.read("fal-callback-failed").error_message == "field required"
        report = self.read("fal-status-failed")
        assert (report.error_code, report.error_message) == ("request_timeout", "Request timed out")

    @pytest.mark.parametrize(
        "payload",
        [
            {
                "images": [{"url": LINK, "content_type": "image/png"}],
                "prompt": "https://example.com/of-the-order",
            },
            {"image": {"url": LINK}},
            {"image_url": LINK},
            {"output": {"frames": [LINK]}},
        ],
    )
    def test_a_result_may_have_any_shape_and_the_order_in_it_is_no_file(self, payload: object) -> None:
        report = self.provider.parse({"request_id": "t", "status": "OK", "payload": payload})
        assert [(file.url, file.kind) for file in report.files] == [(LINK, "image")]

    def test_the_kind_of_a_file_is_what_its_media_type_says(self) -> None:
        item = {"url": "https://v3.fal.media/files/a", "content_type": "video/mp4"}
        report = self.provider.parse({"request_id": "t", "status": "OK", "payload": {"video": item}})
        assert [file.kind for file in report.files] == ["video"]

    def test_a_result_that_could_not_be_sent_is_a_success_whose_files_are_to_be_asked_for(self) -> None:
        document = {"request_id": "t", "status": "OK", "payload": None, "payload_error": "not serializable"}
        report = self.provider.parse(document)
        assert (report.state, report.files, report.is_fileless) == (ReportState.COMPLETED, (), False)

    def test_the_words_of_a_language_model_are_no_files(self) -> None:
        report = self.provider.parse({"request_id": "t", "status": "OK", "payload": {"output": "words"}})
        assert (report.state, report.is_fileless) == (ReportState.COMPLETED, True)

    def test_a_status_alone_names_no_files_and_its_results_end_the_task(self) -> None:
        answer = {"request_id": "t", "status": "COMPLETED"}
        assert self.provider.parse(answer).files == ()
        assert self.provider.parse(answer | {"error": "boom"}).state is ReportState.FAILED
        whole = {"answer": answer, "results": {"images": [{"url": LINK}]}}
        assert [file.url for file in self.provider.parse(whole).files] == [LINK]

    def test_what_a_gateway_says_of_itself_fails_no_task(self) -> None:
        whole = {"answer": {"request_id": "t", "status": "COMPLETED"}, "results": {"detail": "try later"}}
        assert self.provider.parse(whole).state is ReportState.UNCLEAR

    def test_a_task_is_asked_about_below_owner_and_app(self) -> None:
        for model in ("fal-ai/flux/dev", "fal-ai/flux"):
            assert self.provider.status_request("t/1", model) == StatusRequest(
                path="/fal-ai/flux/requests/t%2F1/status",
                results=StatusRequest(path="/fal-ai/flux/requests/t%2F1"),
            )
        for unknown in (None, "", "flux", "//"):
            assert self.provider.status_request("t", unknown) is None

    def test_what_the_private_key_signed_passes_and_no_forgery(self) -> None:
        body = self.samples()["fal-callback-completed-image"]
        right = by_key(PREFIX, SUBJECT, body)
        assert self.provider.verify(callback(right, body), BY_KEY)
        assert not self.provider.verify(callback(right, body), SigningKeys())
        assert not self.provider.verify(callback(by_key(PREFIX, SUBJECT, body, ANOTHER_KEY), body), BY_KEY)
        ideogram = by_key("x-ideogram-webhook-", "generation-id", body)
        assert not self.provider.verify(callback(ideogram, body), BY_KEY)
        for forged in forgeries(right, body):
            assert not self.provider.verify(forged, BY_KEY), forged
