"""Ideogram: the contract, images that are held back, and a private key's signature."""

from typing import ClassVar

from receiver.models import ReportState, SigningKeys
from receiver.ports import Provider
from receiver.providers.ideogram import Ideogram
from tests.contracts.provider import ProviderContract
from tests.support.signatures import ANOTHER_KEY, BY_KEY, by_key, callback, forgeries

LINK = "https://ideogram.ai/api/images/ephemeral/a.png"
PREFIX, SUBJECT = "x-ideogram-webhook-", "generation-id"
HELD_BACK = {"url": None, "is_image_safe": False}


class TestIdeogram(ProviderContract):
    provider: ClassVar[Provider] = Ideogram()
    task_ids_in_samples = frozenset({"xtdZiqPwRxqY1Y7NExFmzB"})

    def success(self, items: object) -> object:
        return {"generation_id": "t", "created": "2025-01-23T04:56:07Z", "data": items}

    def failure(self, error: object) -> object:
        return {"generation_id": "t", "status": "failed", "error": error}

    def test_callback_and_answer_name_the_same_files(self) -> None:
        assert self.read("ideogram-callback-completed").files == self.read("ideogram-status-completed").files

    def test_images_that_are_held_back_are_left_out_and_all_of_them_are_a_failure(self) -> None:
        some = self.provider.parse(self.success([HELD_BACK, {"url": LINK, "is_image_safe": True}]))
        assert [file.url for file in some.files] == [LINK]
        none = self.provider.parse(self.success([HELD_BACK, HELD_BACK]))
        assert (none.state, none.error_code) == (ReportState.FAILED, "is_image_safe")

    def test_what_the_private_key_signed_passes_and_no_forgery(self) -> None:
        body = self.samples()["ideogram-callback-completed"]
        right = by_key(PREFIX, SUBJECT, body)
        assert self.provider.verify(callback({**right, f"{PREFIX}key-id": "a hint"}, body), BY_KEY)
        assert not self.provider.verify(callback(right, body), SigningKeys())
        assert not self.provider.verify(callback(by_key(PREFIX, SUBJECT, body, ANOTHER_KEY), body), BY_KEY)
        assert not self.provider.verify(callback(by_key("x-fal-webhook-", "request-id", body), body), BY_KEY)
        for forged in forgeries(right, body):
            assert not self.provider.verify(forged, BY_KEY), forged
