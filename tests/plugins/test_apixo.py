"""APIXO: the contract, and JSON inside JSON."""

import json
from typing import ClassVar

import pytest

from receiver.models import ReportState, StatusRequest
from receiver.ports import Provider
from receiver.providers.apixo import Apixo
from tests.contracts.provider import ProviderContract

URL = "https://cdn.apixo.ai/output/abc.jpg"


def success(**fields: object) -> dict[str, object]:
    data = {"taskId": "t", "state": "success"} | fields
    return {"code": 200, "message": "success", "data": data}


class TestApixo(ProviderContract):
    provider: ClassVar[Provider] = Apixo()
    task_ids_in_samples = frozenset(
        {"task_abc123xyz", "task_abc123xyz789", "dff8afd34c4e47719b85ad6651daa3f0"}
    )

    def success(self, items: object) -> object:
        return success(resultJson=json.dumps({"resultUrls": items}))

    def failure(self, error: object) -> object:
        return {"code": 200, "data": {"taskId": "t", "state": "failed", "error": error}}

    def test_a_failure_is_one_although_its_message_says_success(self) -> None:
        report = self.read("apixo-callback-failed")
        assert report.error_code == "CONTENT_VIOLATION"
        assert report.error_message == "Content violates usage policy"

    def test_several_files_keep_their_order(self) -> None:
        report = self.read("apixo-callback-success-multi")
        assert [file.url[-9:] for file in report.files] == ["abc-0.jpg", "abc-1.jpg"]

    def test_a_result_that_is_an_object_already_is_read_too(self) -> None:
        report = self.provider.parse(success(resultJson={"resultUrls": [URL]}))
        assert [file.url for file in report.files] == [URL]

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"resultJson": None},
            {"resultJson": ""},
            {"resultJson": "{broken"},
            {"resultJson": "[]"},
            {"resultJson": "{}"},
            {"resultJson": '{"resultUrls": []}'},
            {"resultJson": '{"resultUrls": [null, 5]}'},
            {"resultJson": '{"resultUrls": "https://cdn.apixo.ai/output/abc.jpg"}'},
        ],
    )
    def test_a_success_without_readable_links_is_kept_open(self, fields: dict[str, object]) -> None:
        report = self.provider.parse(success(**fields))
        assert (report.task_id, report.state, report.provider_state) == ("t", ReportState.UNCLEAR, "success")
        assert report.note == "success without readable result links"

    def test_a_link_says_its_kind_by_its_extension(self) -> None:
        urls = '{"resultUrls": ["https://cdn.apixo.ai/a.mp4", "https://cdn.apixo.ai/b.mp3", "https://cdn.apixo.ai/c"]}'
        report = self.provider.parse(success(resultJson=urls))
        assert [file.kind for file in report.files] == ["video", "audio", "unknown"]

    @pytest.mark.parametrize("code", ["SensitiveContent", "A_CODE_OF_TOMORROW", 451])
    def test_a_failure_code_may_be_anything(self, code: object) -> None:
        document = {"data": {"taskId": "t", "state": "failed", "failCode": code}}
        assert self.provider.parse(document).error_code == str(code)

    def test_a_body_without_the_envelope_is_read_too(self) -> None:
        assert self.provider.parse({"taskId": "t", "state": "pending"}).state is ReportState.PROGRESS

    def test_a_task_can_be_asked_about_only_with_its_model(self) -> None:
        assert self.provider.status_request("t/1", None) is None
        request = self.provider.status_request("t/1", "vendor/model")
        assert request == StatusRequest(path="/api/v1/statusTask/vendor%2Fmodel", query={"taskId": "t/1"})
