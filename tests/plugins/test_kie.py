"""kie.ai: the contract, four shapes, and an HMAC that leaves the body out."""

import json
from typing import ClassVar

import pytest

from receiver.models import ReportState, SigningKeys
from receiver.ports import Provider
from receiver.providers.kie import Kie
from tests.contracts.provider import ProviderContract
from tests.support.signatures import BY_SECRETS, OLD_SECRET, SECRET, callback, forgeries, kie


class TestKie(ProviderContract):
    provider: ClassVar[Provider] = Kie()
    task_ids_in_samples = frozenset({"task12345", "task_12345678", "ee603959-debb-48d1-98c4-a6d1c717eba6"})

    def success(self, items: object) -> object:
        return {"code": 200, "msg": "success", "data": {"taskId": "t", "info": {"result_urls": items}}}

    def failure(self, error: object) -> object:
        return {"code": 400, "data": {"taskId": "t", "error": error}}

    def test_callback_and_answer_name_the_same_files_and_not_what_was_edited(self) -> None:
        (file,) = self.read("kie-callback-flux-success-image").files
        assert file.url == "https://example.com/result.jpg"
        assert self.read("kie-status-flux-success-image").files == (file,)

    def test_a_film_has_its_cover_with_it(self) -> None:
        kinds = [file.kind for file in self.read("kie-callback-runway-success-video").files]
        assert kinds == ["video", "image"]

    def test_one_that_comes_as_a_form_is_signed_like_any_other(self) -> None:
        body = b"code=200&msg=success&taskId=t1&data=%7B%22taskId%22%3A%22t1%22%7D"
        keys = SigningKeys(secrets=(SECRET,))
        assert self.provider.verify(callback(kie("t1"), body), keys)
        assert not self.provider.verify(callback(kie("t2"), body), keys)

    def test_the_outer_code_counts_only_where_nothing_names_a_state(self) -> None:
        failed = self.read("kie-status-market-failed")
        assert (failed.error_code, failed.error_message) == ("422", "The prompt was refused")
        said = self.read("kie-callback-4o-failed")
        assert (said.error_code, said.error_message) == (
            "400",
            "Your content was flagged by OpenAI as violating content policies",
        )

    @pytest.mark.parametrize("code", [429, 404, 455, "no", None])
    def test_a_code_that_is_no_end_of_a_task_ends_none(self, code: object) -> None:
        document = {"code": code, "msg": "later", "data": {"taskId": "t"}}
        assert self.provider.parse(document).state is ReportState.UNCLEAR

    @pytest.mark.parametrize(
        ("flag", "state"), [(0, "progress"), (2, "failed"), (3, "failed"), (9, "unclear")]
    )
    def test_a_flag_is_a_state(self, flag: int, state: str) -> None:
        document = {"code": 200, "data": {"taskId": "t", "successFlag": flag, "response": None}}
        assert self.provider.parse(document).state is ReportState(state)

    @pytest.mark.parametrize(
        ("model", "path"),
        [
            ("gpt4o-image", "/api/v1/gpt4o-image/record-info"),
            ("flux-kontext-pro", "/api/v1/flux/kontext/record-info"),
            ("runway-duration-5", "/api/v1/runway/record-detail"),
            ("grok-imagine/text-to-image", "/api/v1/jobs/recordInfo"),
            (None, "/api/v1/jobs/recordInfo"),
        ],
    )
    def test_each_kind_is_asked_about_at_its_own_path(self, model: str | None, path: str) -> None:
        request = self.provider.status_request("t/1", model)
        assert request is not None
        assert (request.path, request.query) == (path, {"taskId": "t/1"})

    def test_the_known_answer_passes(self) -> None:
        headers = {
            "x-webhook-timestamp": "1758798328",
            "x-webhook-signature": "CaJzZko9ssJpRDxZYOjnH+rxR25SIsNzpo81Qre+vUE=",
        }
        keys = SigningKeys(secrets=("example-secret",))
        assert self.provider.verify(callback(headers, b'{"data": {"taskId": "task12345"}}'), keys)

    @pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
    @pytest.mark.parametrize(
        "document",
        [
            {"data": {"taskId": "t1"}},
            {"data": {"task_id": "t1"}},
            {"taskId": "t1"},
            {"task_id": "t1", "data": None},
        ],
    )
    def test_the_id_that_is_signed_is_found_wherever_it_is(self, document: object, secret: str) -> None:
        body = json.dumps(document).encode()
        assert self.provider.verify(callback(kie("t1", secret), body), BY_SECRETS)

    def test_no_forgery_passes(self) -> None:
        body = self.samples()["kie-callback-4o-success-image"]
        right = kie("task12345")
        assert self.provider.verify(callback(right, body), BY_SECRETS)
        for forged in forgeries(right, body, covers_body=False):
            assert not self.provider.verify(forged, BY_SECRETS), forged
        for other in (b"", b"{", b"[]", b"\xff", body.replace(b"task12345", b"task12346")):
            assert not self.provider.verify(callback(right, other), BY_SECRETS)
        assert not self.provider.verify(callback(right, body), SigningKeys())

    def test_its_signature_says_nothing_of_the_body(self) -> None:
        assert self.provider.facts.signs_body is False
        assert self.provider.verify(callback(kie("t"), json.dumps(self.success(["x"])).encode()), BY_SECRETS)
