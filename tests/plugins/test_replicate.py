"""Replicate: the contract, outputs of every shape, and Standard Webhooks."""

from datetime import timedelta
from typing import ClassVar

import pytest
from standardwebhooks import Webhook

from receiver.models import ReportState, SigningKeys
from receiver.ports import Provider
from receiver.providers.replicate import Replicate
from tests.contracts.provider import ProviderContract
from tests.support.signatures import (
    BY_SECRETS,
    OLD_SECRET,
    SECRET,
    SIGNED_AT,
    callback,
    forgeries,
    standard,
    wavespeed,
)

LINK = "https://replicate.delivery/a.png"


class TestReplicate(ProviderContract):
    provider: ClassVar[Provider] = Replicate()
    task_ids_in_samples = frozenset({"ufawqhfynnddngldkgtslldrkq"})
    no_files: ClassVar[tuple[object, ...]] = (None, {}, 5, [])  # any link is a result

    def success(self, items: object) -> object:
        return {"id": "t", "status": "succeeded", "output": items}

    def failure(self, error: object) -> object:
        return {"id": "t", "status": "failed", "output": None, "error": error}

    @pytest.mark.parametrize("output", [LINK, [LINK], {"image": LINK}, {"layers": [{"image": LINK}]}])
    def test_an_output_may_have_any_shape(self, output: object) -> None:
        report = self.provider.parse(self.success(output))
        assert [file.url for file in report.files] == [LINK]

    @pytest.mark.parametrize("output", ["words", ["wo", "rds", ""]])
    def test_the_words_of_a_language_model_are_no_files(self, output: object) -> None:
        report = self.provider.parse(self.success(output))
        assert (report.state, report.files, report.is_fileless) == (ReportState.COMPLETED, (), True)

    def test_a_file_inside_the_answer_is_one_of_the_task(self) -> None:
        report = self.provider.parse(self.success("data:image/png;base64,iVBORw0KGgo="))
        assert report.state is ReportState.COMPLETED
        assert [file.url for file in report.files] == ["data:image/png;base64,iVBORw0KGgo="]

    def test_an_output_so_far_ends_nothing(self) -> None:
        running = {"id": "t", "status": "processing", "output": [LINK]}
        assert self.provider.parse(running).state is ReportState.PROGRESS

    def test_a_canceled_prediction_has_failed(self) -> None:
        assert self.provider.parse({"id": "t", "status": "canceled"}).state is ReportState.FAILED

    @pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
    def test_what_is_signed_with_either_secret_passes(self, secret: str) -> None:
        body = self.samples()["replicate-callback-failed"]
        assert self.provider.verify(callback(standard(body, secret), body), BY_SECRETS)

    def test_what_the_reference_library_signs_passes(self) -> None:
        body = self.samples()["replicate-callback-failed"]
        headers = {
            **standard(body),
            "webhook-signature": Webhook(SECRET).sign("msg_1", SIGNED_AT, body.decode()),
        }
        assert self.provider.verify(callback(headers, body, SIGNED_AT + timedelta(minutes=4)), BY_SECRETS)

    def test_no_forgery_passes_and_neither_does_the_scheme_of_another_with_the_same_headers(self) -> None:
        body = self.samples()["replicate-callback-failed"]
        for forged in forgeries(standard(body), body):
            assert not self.provider.verify(forged, BY_SECRETS), forged
        assert not self.provider.verify(callback(wavespeed(body), body), BY_SECRETS)
        assert not self.provider.verify(callback(standard(body), body), SigningKeys())
