"""OpenAI: what of the contract is about files without links, thin events, and Standard Webhooks."""

from datetime import timedelta
from typing import ClassVar

import pytest
from standardwebhooks import Webhook

from receiver.models import ReportState, SigningKeys
from receiver.ports import Provider
from receiver.providers.openai import Openai
from tests.contracts.provider import ProviderContract
from tests.support.signatures import BY_SECRETS, SECRET, SIGNED_AT, callback, forgeries, standard, wavespeed


class TestOpenai(ProviderContract):
    provider: ClassVar[Provider] = Openai()
    task_ids_in_samples = frozenset({"resp_abc123", "batch_abc123"})

    def success(self, items: object) -> object:
        return {"object": "event", "type": "response.completed", "data": {"id": "t", "output": items}}

    def failure(self, error: object) -> object:
        return {"id": "t", "object": "response", "status": "failed", "error": error}

    def test_only_a_completed_sample_names_files(self, sample: str) -> None:
        has_images = "-image" in sample
        assert [file.kind for file in self.read(sample).files] == ["image"] * has_images

    def test_a_file_is_read_as_plain_text_and_as_an_object_with_a_url(self) -> None:
        """No link in its results is a file, and base64 only where its image tool has it."""
        link, text = "https://media.example/a.png", {"type": "message", "result": "iVBORw0KGgo="}
        report = self.provider.parse(self.success([link, text, {"type": "image_generation_call"}]))
        assert (report.task_id, report.state) == ("t", ReportState.COMPLETED)
        assert (report.files, report.is_fileless) == ((), True)
        images = [{"type": "image_generation_call", "result": each} for each in ("iVBORw0KGgo=", "R0lGODlh")]
        report = self.provider.parse(self.success(images))
        assert [file.url for file in report.files] == [
            "data:;base64,iVBORw0KGgo=",
            "data:;base64,R0lGODlh",
        ]

    def test_an_event_waits_for_the_answer_that_has_its_images(self) -> None:
        assert not self.provider.facts.tells_all

    def test_results_in_which_no_link_is_understood_are_kept_open_and_never_an_end(self) -> None:
        assert self.provider.parse(self.success([])).state is ReportState.COMPLETED

    def test_a_success_without_any_result_is_not_taken_for_one_that_is_no_file(self) -> None:
        assert self.provider.parse(self.success([])).is_fileless

    def test_an_event_about_something_else_ends_no_task(self) -> None:
        for kind in ("fine_tuning.job.succeeded", "realtime.call.incoming", "response.of_tomorrow"):
            event = {"object": "event", "type": kind, "data": {"id": "t"}}
            assert self.provider.parse(event).state is ReportState.UNCLEAR

    def test_why_a_response_is_incomplete_and_a_batch_failed(self) -> None:
        cut = {"id": "t", "object": "response", "status": "incomplete"}
        report = self.provider.parse(cut | {"incomplete_details": {"reason": "content_filter"}})
        assert (report.state, report.error_message) == (ReportState.FAILED, "content_filter")
        batch = self.read("openai-status-batch-failed")
        assert (batch.error_code, batch.error_message) == ("invalid_json_line", "Line 1 is not valid JSON.")

    @pytest.mark.parametrize(
        ("task_id", "path"), [("batch_1", "/v1/batches/batch_1"), ("resp_1", "/v1/responses/resp_1")]
    )
    def test_the_id_says_where_it_is_asked_about(self, task_id: str, path: str) -> None:
        asked = self.provider.status_request(task_id, None)
        assert asked is not None
        assert asked.path == path

    def test_what_the_reference_library_signs_passes_with_either_secret(self) -> None:
        body = self.samples()["openai-callback-completed"]
        signature = Webhook(SECRET).sign("wh_1", SIGNED_AT, body.decode())
        headers = dict(standard(body)) | {"webhook-id": "wh_1", "webhook-signature": signature}
        assert self.provider.verify(callback(headers, body), BY_SECRETS)
        assert not self.provider.verify(callback(headers, body), SigningKeys(secrets=("whsec_AAAA",)))
        assert not self.provider.verify(callback(headers, body, SIGNED_AT + timedelta(301)), BY_SECRETS)

    def test_what_forgers_make_of_it_fails(self) -> None:
        body = self.samples()["openai-callback-completed"]
        for forged in forgeries(standard(body), body):
            assert not self.provider.verify(forged, BY_SECRETS)
        assert not self.provider.verify(callback(wavespeed(body), body), BY_SECRETS)
