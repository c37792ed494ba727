"""Runware: the contract, posts for one image of several, and answers that have them all."""

from typing import ClassVar

import pytest

from receiver import payload
from receiver.models import ReportState
from receiver.ports import Provider
from receiver.providers.runware import Runware
from tests.contracts.provider import ProviderContract

LINK = "https://im.runware.ai/image/ws/2/ii/a.jpg"


class TestRunware(ProviderContract):
    provider: ClassVar[Provider] = Runware()
    task_ids_in_samples = frozenset({"a770f077-f413-47de-9dac-be0b26a35da6"})

    def success(self, items: object) -> object:
        done = {"taskType": "imageInference", "taskUUID": "t", "status": "success"}
        return {"data": [done | {"imageURL": item} for item in payload.items(items)]}

    def failure(self, error: object) -> object:
        said = error if isinstance(error, dict) else {"message": error}
        return {"errors": [said | {"taskUUID": "t"}]}

    def test_a_batch_is_over_when_none_of_it_runs(self) -> None:
        done = {"taskUUID": "t", "status": "success", "imageURL": LINK}
        for other, state in (
            ({"status": "processing"}, ReportState.PROGRESS),
            ({"status": "pending"}, ReportState.PROGRESS),
            ({"status": "of tomorrow"}, ReportState.UNCLEAR),
            ({"status": "error"}, ReportState.COMPLETED),
        ):
            report = self.provider.parse({"data": [done, {"taskUUID": "t"} | other]})
            assert report.state is state, other
            assert bool(report.files) == (state is ReportState.COMPLETED)

    def test_an_error_beside_an_image_fails_only_its_own_part(self) -> None:
        document = {
            "data": [{"taskUUID": "t", "status": "success", "imageURL": LINK}],
            "errors": [{"taskUUID": "t", "status": "error", "message": "too dark"}],
        }
        report = self.provider.parse(document)
        assert (report.state, [file.url for file in report.files]) == (ReportState.COMPLETED, [LINK])

    @pytest.mark.parametrize(
        "document",
        [
            {"taskUUID": "t", "imageURL": LINK},
            {"data": [{"taskUUID": "t", "imageURL": LINK}]},
            {"data": [{"taskUUID": "t", "imageURL": LINK, "status": "success"}]},
        ],
    )
    def test_a_post_is_read_with_an_envelope_or_a_state_and_without(self, document: object) -> None:
        report = self.provider.parse(document)
        assert (report.task_id, report.state, len(report.files)) == ("t", ReportState.COMPLETED, 1)

    def test_an_image_inside_the_answer_is_kept_open_as_it_has_no_link(self) -> None:
        item = {"taskUUID": "t", "status": "success", "imageBase64Data": "iVBORw0KGgo="}
        assert self.provider.parse({"data": [item]}).state is ReportState.UNCLEAR

    def test_it_is_asked_by_a_post_of_its_task(self) -> None:
        asked = self.provider.status_request("t", None)
        assert asked is not None
        assert (asked.path, asked.body) == ("/v1", [{"taskType": "getResponse", "taskUUID": "t"}])
        assert not self.provider.facts.tells_all
