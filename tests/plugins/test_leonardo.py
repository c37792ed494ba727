"""Leonardo: the contract, events of other things, and a key in clear."""

from typing import ClassVar

from receiver.models import ReportState
from receiver.ports import Provider
from receiver.providers.leonardo import Leonardo
from tests.contracts.provider import ProviderContract
from tests.support.signatures import BY_SECRETS, OLD_SECRET, SECRET, callback


class TestLeonardo(ProviderContract):
    provider: ClassVar[Provider] = Leonardo()
    task_ids_in_samples = frozenset({"g-1"})

    def success(self, items: object) -> object:
        task = {"id": "t", "status": "COMPLETE", "images": items}
        return {"type": "image_generation.complete", "data": {"object": task}}

    def failure(self, error: object) -> object:
        task = {"id": "t", "status": "FAILED", "images": [], "error": error}
        return {"type": "image_generation.complete", "data": {"object": task}}

    def test_an_event_about_something_else_ends_no_task(self) -> None:
        task = {"id": "t", "status": "COMPLETE", "url": "https://cdn.leonardo.ai/a.jpg"}
        report = self.provider.parse({"type": "post_processing.complete", "data": {"object": task}})
        assert report.state is ReportState.UNCLEAR

    def test_an_image_that_moves_has_its_film_with_it(self) -> None:
        image = {"url": "https://cdn.leonardo.ai/a.jpg", "motionMP4URL": "https://cdn.leonardo.ai/a.mp4"}
        report = self.provider.parse(self.success([image]))
        assert [file.kind for file in report.files] == ["image", "video"]

    def test_either_key_passes_and_nothing_else(self) -> None:
        for secret in (SECRET, OLD_SECRET):
            assert self.provider.verify(callback({"authorization": f"Bearer {secret}"}, b"{}"), BY_SECRETS)
            for wrong in (
                secret,
                f"bearer {secret}",
                f"Bearer {secret[:-1]}",
                f"Bearer {secret} ",
                "Bearer ",
            ):
                assert not self.provider.verify(callback({"authorization": wrong}, b"{}"), BY_SECRETS)
        assert self.provider.facts.signs_body is False
