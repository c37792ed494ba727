"""reAPI: the contract, and flat answers."""

from typing import ClassVar

import pytest

from receiver.models import RemoteFile, ReportState, StatusRequest
from receiver.ports import Provider
from receiver.providers.reapi import Reapi
from tests.contracts.provider import ProviderContract

MEDIA = "https://cdn.reapi.ai/media"


def completed(output: object) -> dict[str, object]:
    return {"id": "t", "status": "completed", "output": output, "error": None}


class TestReapi(ProviderContract):
    provider: ClassVar[Provider] = Reapi()
    task_ids_in_samples = frozenset(
        {"task_018f5a3a1b6e7d9f8c2b4d6e8f0a2c4e", "task_01k9s419324drezfbwnsvxyr6h"}
    )

    def success(self, items: object) -> object:
        return completed({"image_urls": items})

    def failure(self, error: object) -> object:
        return {"id": "t", "status": "failed", "output": None, "error": error}

    def test_it_never_calls_back(self) -> None:
        assert self.provider.facts.pushes is False

    def test_a_failure_carries_its_number_as_text(self) -> None:
        report = self.read("reapi-task-failed")
        assert (report.error_code, report.error_message) == ("80006", "Request violates content policy")

    def test_a_failure_whose_error_is_mere_text_keeps_it(self) -> None:
        report = self.provider.parse({"id": "t", "status": "failed", "error": "it broke"})
        assert (report.error_code, report.error_message) == (None, "it broke")

    def test_several_files_keep_their_order(self) -> None:
        report = self.read("reapi-task-completed-multi")
        assert [file.url[-5:] for file in report.files] == ["0.png", "1.png"]

    def test_every_list_of_links_is_read(self) -> None:
        report = self.provider.parse(
            completed(
                {
                    "video_urls": [f"{MEDIA}/0.mp4"],
                    "last_frame_url": f"{MEDIA}/last.png",
                    "audio_urls": [f"{MEDIA}/0.mp3", f"{MEDIA}/1.mp3"],
                    "tracks": [{"url": f"{MEDIA}/0.mp3", "title": "x"}, {"url": f"{MEDIA}/2.mp3"}, None],
                }
            )
        )
        assert report.files == (
            RemoteFile(url=f"{MEDIA}/0.mp4", kind="video"),
            RemoteFile(url=f"{MEDIA}/0.mp3", kind="audio"),
            RemoteFile(url=f"{MEDIA}/1.mp3", kind="audio"),
            RemoteFile(url=f"{MEDIA}/2.mp3", kind="audio"),
            RemoteFile(url=f"{MEDIA}/last.png", kind="image"),
        )

    def test_a_success_without_output_is_completed_without_files(self) -> None:
        outputs: list[object] = [None, {}, {"image_urls": []}]
        for output in outputs:
            report = self.provider.parse(completed(output))
            assert (report.state, report.files) == (ReportState.COMPLETED, ())

    @pytest.mark.parametrize("word", ["cancelled", "expired", "error"])
    def test_what_other_clients_take_for_an_end_is_a_failure(self, word: str) -> None:
        report = self.provider.parse({"id": "t", "status": word, "output": None, "error": None})
        assert (report.state, report.provider_state) == (ReportState.FAILED, word)

    def test_an_output_of_another_kind_is_kept_open(self) -> None:
        report = self.provider.parse(completed({"model_urls": [f"{MEDIA}/0.glb"]}))
        assert report.state is ReportState.UNCLEAR

    def test_tracks_alone_are_read(self) -> None:
        report = self.provider.parse(completed({"tracks": [{"url": f"{MEDIA}/0.mp3", "title": "x"}]}))
        assert report.files == (RemoteFile(url=f"{MEDIA}/0.mp3", kind="audio"),)

    def test_a_task_is_asked_about_by_id_alone(self) -> None:
        request = self.provider.status_request("a/b", None)
        assert request == StatusRequest(path="/api/v1/tasks/a%2Fb")
