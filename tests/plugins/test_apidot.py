"""APIDot: the contract, and files in three places."""

from typing import ClassVar

import pytest

from receiver.models import RemoteFile, StatusRequest
from receiver.ports import Provider
from receiver.providers.apidot import Apidot
from receiver.words import ReportState
from tests.contracts.provider import ProviderContract

ITEM = {"file_url": "https://media.example/a.png", "file_type": "image"}
FILE = RemoteFile(url="https://media.example/a.png", kind="image")


class TestApidot(ProviderContract):
    provider: ClassVar[Provider] = Apidot()
    task_ids_in_samples = frozenset({"task-unified-example"})

    @pytest.mark.parametrize(
        "document",
        [
            {"code": 200, "data": {"task_id": "t", "status": "finished", "files": [ITEM]}},
            {"code": 0, "data": {"task_id": "t", "status": "finished", "output": {"files": [ITEM]}}},
            {
                "code": 200,
                "data": {"task_id": "t", "status": "finished", "files": [], "output": {"files": [ITEM]}},
            },
            {"code": 200, "data": {"task_id": "t", "status": "finished"}, "files": [ITEM]},
            {"task_id": "t", "status": "finished", "files": [ITEM]},
            {"task_id": "t", "status": "finished", "output": {"files": [ITEM]}},
            {"task_id": "t", "status": "finished", "data": {"files": [ITEM]}},
            {"task_id": "t", "status": "finished", "data": {"task_id": None, "files": [ITEM]}},
        ],
    )
    def test_files_are_found_wherever_they_are(self, document: object) -> None:
        report = self.provider.parse(document)
        assert (report.task_id, report.state, report.files) == ("t", ReportState.COMPLETED, (FILE,))

    def test_the_same_file_in_two_places_is_one_file(self) -> None:
        data = {"task_id": "t", "status": "finished", "files": [ITEM, ITEM], "output": {"files": [ITEM]}}
        assert self.provider.parse({"code": 200, "data": data}).files == (FILE,)

    @pytest.mark.parametrize("kind", ["audio", "model", "video", "hologram"])
    def test_every_kind_passes_through(self, kind: str) -> None:
        item = {"file_url": "https://media.example/a", "file_type": kind}
        report = self.provider.parse({"data": {"task_id": "t", "status": "finished", "files": [item]}})
        assert [file.kind for file in report.files] == [kind]

    def test_a_success_without_any_link_is_completed_without_files(self) -> None:
        report = self.provider.parse({"data": {"task_id": "t", "status": "finished", "files": [{}]}})
        assert (report.state, report.files) == (ReportState.COMPLETED, ())

    def test_an_error_answer_is_unclear(self) -> None:
        report = self.provider.parse({"code": 401, "message": "authentication_error"})
        assert (report.task_id, report.state) == (None, ReportState.UNCLEAR)

    def test_a_task_is_asked_about_by_id_alone(self) -> None:
        request = self.provider.status_request("a/b", None)
        assert request == StatusRequest(path="/api/generate/status/a%2Fb")
