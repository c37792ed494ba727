"""Vidgo: the contract, and music."""

from typing import ClassVar

import msgspec
import pytest

from receiver.models import RemoteFile, ReportState, StatusRequest
from receiver.ports import Provider
from receiver.providers.vidgo import Vidgo
from tests.contracts.provider import ProviderContract

MEDIA = "https://storage.vidgo.ai"
USUAL = StatusRequest(path="/api/generate/status/a%2Fb")
MUSIC = StatusRequest(path="/api/generate/detail/music", query={"task_id": "a/b"})


def finished(*files: object) -> dict[str, object]:
    return {"code": 200, "data": {"task_id": "t", "status": "finished", "files": list(files)}}


class TestVidgo(ProviderContract):
    provider: ClassVar[Provider] = Vidgo()
    task_ids_in_samples = frozenset(
        {"task-unified-1757165031-uyujaw3d", "8FDN1I7M7Q68DDG8", "KC9IIO8MLOAN18JX"}
    )

    def success(self, items: object) -> object:
        return {"code": 200, "data": {"task_id": "t", "status": "finished", "files": items}}

    def failure(self, error: object) -> object:
        return {"code": 200, "data": {"task_id": "t", "status": "failed", "files": [], "error": error}}

    def test_several_files_keep_their_order(self) -> None:
        report = self.read("vidgo-callback-finished-multi")
        assert [file.url[-7:] for file in report.files] == ["123.jpg", "124.jpg", "125.jpg"]

    def test_a_submit_answer_is_progress_where_it_says_so(self) -> None:
        assert self.read("vidgo-submit-response").state is ReportState.PROGRESS

    def test_a_submit_answer_without_a_state_is_unclear(self) -> None:
        report = self.read("vidgo-submit-response-bare-id")
        assert (report.task_id, report.state) == ("KC9IIO8MLOAN18JX", ReportState.UNCLEAR)

    def test_a_failure_is_one_although_its_code_is_200(self) -> None:
        report = self.read("vidgo-callback-failed")
        assert report.error_message == "The prompt violates our content policy"
        assert report.error_code is None

    def test_music_gives_each_track_and_its_cover(self) -> None:
        report = self.read("vidgo-callback-finished-music")
        assert [file.kind for file in report.files] == ["audio", "image", "audio", "image"]
        assert report.files[2].url.endswith("track-2.mp3")

    def test_music_videos_and_wav_files_are_found(self) -> None:
        report = self.provider.parse(finished({"video_url": f"{MEDIA}/a.mp4"}, {"wav_url": f"{MEDIA}/b.wav"}))
        assert report.files == (
            RemoteFile(url=f"{MEDIA}/a.mp4", kind="video"),
            RemoteFile(url=f"{MEDIA}/b.wav", kind="audio"),
        )

    @pytest.mark.parametrize(
        ("key", "kind"),
        [
            ("separate_vocals", "audio"),
            ("vocal_removal", "audio"),
            ("stem_split", "audio"),
            ("generate_cover", "image"),
        ],
    )
    def test_links_inside_json_text_are_found_in_order(self, key: str, kind: str) -> None:
        stems = {"vocal_url": f"{MEDIA}/2", "instrumental_url": f"{MEDIA}/1", "title": "a song"}
        expected = (RemoteFile(url=f"{MEDIA}/2", kind=kind), RemoteFile(url=f"{MEDIA}/1", kind=kind))
        as_text = msgspec.json.encode(stems).decode()
        assert self.provider.parse(finished({key: as_text})).files == expected
        assert self.provider.parse(finished({key: stems})).files == expected

    @pytest.mark.parametrize(
        "item",
        [
            {"title": "a song", "text": "la la"},
            {"timestampe_lyrics": "[00:01] la"},
            {"style": "a style, and more of it"},
            {"persona_id": "p1", "audio_url": None, "audio_id": ""},
        ],
    )
    def test_what_is_sold_and_is_no_file_is_a_success_without_files(self, item: object) -> None:
        report = self.provider.parse(finished(item))
        assert (report.state, report.files, report.is_fileless) == (ReportState.COMPLETED, (), True)

    @pytest.mark.parametrize(
        "item",
        [
            {"stem_split": "{broken"},
            {"file_url": None, "file_type": "image"},
            {"text": "la la", "stream_of_tomorrow": f"{MEDIA}/a.mp3"},
            {"style": "jazz", "audio_id": "a1"},
            {"title": "a song"},
            "soon",
        ],
    )
    def test_what_may_be_a_file_is_kept_open(self, item: object) -> None:
        for files in ([item], [item, {"text": "la la"}]):
            report = self.provider.parse(finished(*files))
            assert (report.state, report.is_fileless) == (ReportState.UNCLEAR, False)

    def test_an_unknown_kind_passes_through(self) -> None:
        report = self.provider.parse(finished({"file_url": f"{MEDIA}/a.glb", "file_type": "hologram"}))
        assert report.files == (RemoteFile(url=f"{MEDIA}/a.glb", kind="hologram"),)

    def test_a_flat_body_is_read_too(self) -> None:
        report = self.provider.parse({"task_id": "t", "status": "running"})
        assert (report.task_id, report.state) == ("t", ReportState.PROGRESS)

    @pytest.mark.parametrize("model", ["generate-music", "generate-midi"])
    def test_music_is_asked_about_at_its_own_path_first(self, model: str) -> None:
        request = self.provider.status_request("a/b", model)
        assert request == msgspec.structs.replace(MUSIC, otherwise=USUAL)

    @pytest.mark.parametrize("model", [None, "gpt-image-2", "a-model-of-tomorrow"])
    def test_everything_else_is_asked_about_by_id_first(self, model: str | None) -> None:
        request = self.provider.status_request("a/b", model)
        assert request == msgspec.structs.replace(USUAL, otherwise=MUSIC)
