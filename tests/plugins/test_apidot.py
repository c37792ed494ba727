"""APIDot: the contract, and files in three places."""

from typing import ClassVar

import pytest

from receiver.models import RemoteFile, ReportState, StatusRequest
from receiver.ports import Provider
from receiver.providers.apidot import Apidot
from tests.contracts.provider import ProviderContract

ITEM = {"file_url": "https://media.example/a.png", "file_type": "image"}
FILE = RemoteFile(url="https://media.example/a.png", kind="image")


class TestApidot(ProviderContract):
    provider: ClassVar[Provider] = Apidot()
    task_ids_in_samples = frozenset({"task-unified-example", "task-music-1757165031-uyujaw3d"})

    def success(self, items: object) -> object:
        return {"code": 200, "data": {"task_id": "t", "status": "finished", "files": items}}

    def failure(self, error: object) -> object:
        return {"code": 200, "data": {"task_id": "t", "status": "failed", "files": [], "error": error}}

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

    def test_music_gives_each_track_and_its_cover(self) -> None:
        item = {"audio_url": "https://s/1.mp3", "image_url": "https://s/1.jpeg"}
        data = {"task_id": "task-music-1-a", "status": "finished", "files": [item]}
        report = self.provider.parse({"code": 200, "data": data})
        assert report.files == (
            RemoteFile(url="https://s/1.mp3", kind="audio"),
            RemoteFile(url="https://s/1.jpeg", kind="image"),
        )

    @pytest.mark.parametrize(
        ("key", "kind"),
        [
            ("wav_url", "audio"),
            ("video_url", "video"),
            ("vocals_url", "audio"),
            ("instrumental_url", "audio"),
            ("midi_url", "audio"),
        ],
    )
    def test_every_link_of_music_is_a_file(self, key: str, kind: str) -> None:
        files = [{key: "https://s/1", "title": "a song"}]
        report = self.provider.parse({"data": {"task_id": "t", "status": "finished", "files": files}})
        assert report.files == (RemoteFile(url="https://s/1", kind=kind),)

    @pytest.mark.parametrize(
        "item",
        [
            {"lyrics": "la la", "title": "a song"},
            {"timestamped_lyrics": [{"word": "la", "start": 0.5}]},
            {"persona_id": "p1"},
            {"enhanced_style": "a style, and more of it"},
        ],
    )
    def test_what_is_sold_and_is_no_file_is_a_success_without_files(self, item: object) -> None:
        report = self.provider.parse({"data": {"task_id": "t", "status": "finished", "files": [item]}})
        assert (report.state, report.files, report.is_fileless) == (ReportState.COMPLETED, (), True)

    def test_a_file_with_and_without_a_watermark_is_one_file(self) -> None:
        item = ITEM | {"watermark_url": "https://media.example/a-marked.png"}
        report = self.provider.parse({"data": {"task_id": "t", "status": "finished", "files": [item]}})
        assert report.files == (FILE,)

    def test_processing_is_progress(self) -> None:
        report = self.provider.parse({"code": 200, "data": {"task_id": "t", "status": "processing"}})
        assert report.state is ReportState.PROGRESS

    def test_an_error_answer_is_unclear(self) -> None:
        report = self.provider.parse({"code": 401, "message": "authentication_error"})
        assert (report.task_id, report.state) == (None, ReportState.UNCLEAR)

    @pytest.mark.parametrize(
        ("task_id", "model"), [("task-music-1-a", None), ("t", "minimax-music-2.6"), ("t", "generate-music")]
    )
    def test_music_is_asked_about_at_its_own_path_first(self, task_id: str, model: str | None) -> None:
        request = self.provider.status_request(task_id, model)
        usual = StatusRequest(path=f"/api/generate/status/{task_id}")
        assert request == StatusRequest(
            path="/api/generate/detail/music", query={"task_id": task_id}, otherwise=usual
        )

    def test_everything_else_is_asked_about_by_id_first(self) -> None:
        request = self.provider.status_request("a/b", None)
        music = StatusRequest(path="/api/generate/detail/music", query={"task_id": "a/b"})
        assert request == StatusRequest(path="/api/generate/status/a%2Fb", otherwise=music)
