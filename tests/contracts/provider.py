"""What every provider's adapter must do, whoever the provider is.

A subclass names its adapter and calls itself ``Test…``; the samples in ``tests/samples`` whose names begin
with the provider's are read by it, and each sample's name says what it must be read as.
"""

import json
import re
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver import payload
from receiver.clock import Clock
from receiver.models import Callback, RemoteFile, Report, ReportState, SigningKeys
from receiver.ports import Provider
from receiver.urls import path_part
from tests.support.places import SAMPLES

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)

# From a word in a sample's name to the state it must be read as.
STATE_OF = {
    "finished": ReportState.COMPLETED,
    "success": ReportState.COMPLETED,
    "succeeded": ReportState.COMPLETED,
    "completed": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
    "running": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "pending": ReportState.PROGRESS,
    "not-started": ReportState.PROGRESS,
    "error": ReportState.UNCLEAR,
}


class ProviderContract:
    """Inherited by one test class per provider."""

    provider: ClassVar[Provider]
    model: ClassVar[str] = "gpt-image-2"
    task_ids_in_samples: ClassVar[frozenset[str]]
    # What stands where a file belongs, and is none that anybody could understand.
    no_files: ClassVar[tuple[object, ...]] = (
        None, {}, 5, [], {"key_of_tomorrow": "https://media.example/a.png"},
    )  # fmt: skip

    def success(self, items: object) -> object:
        """The document by which the provider says that task ``t`` is done, with these items as its files."""
        raise NotImplementedError

    def failure(self, error: object) -> object:
        """The document by which it says that task ``t`` failed, with only ``error`` to say why."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "sample" in metafunc.fixturenames:
            metafunc.parametrize("sample", self.samples())

    @classmethod
    def samples(cls) -> dict[str, bytes]:
        """The documents that are known, by name."""
        paths = sorted(SAMPLES.glob(f"{cls.provider.facts.name}-*.json"))
        return {path.stem: path.read_bytes() for path in paths}

    def read(self, sample: str) -> Report:
        return self.provider.parse(payload.decode(self.samples()[sample]))

    # --- samples ----------------------------------------------------------------------------------

    def test_a_sample_is_read_as_its_name_says(self, sample: str) -> None:
        words = [word for word in STATE_OF if f"-{word}" in sample]
        report = self.read(sample)
        if words:
            assert report.state is STATE_OF[words[0]], report
        else:
            assert "submit-response" in sample
            assert report.state in {ReportState.PROGRESS, ReportState.UNCLEAR}, report

    def test_a_sample_about_a_task_names_it(self, sample: str) -> None:
        report = self.read(sample)
        if "-error-" in sample:
            assert report.task_id is None
        else:
            assert report.task_id in self.task_ids_in_samples

    def test_only_a_completed_sample_names_files(self, sample: str) -> None:
        report = self.read(sample)
        if report.state is not ReportState.COMPLETED:
            assert report.files == ()
            return
        assert len(report.files) >= (2 if "-multi" in sample else 1)
        assert all(file.url.startswith("https://") for file in report.files)
        kinds = {file.kind for file in report.files}
        for kind in ("image", "video", "audio"):
            assert kind in kinds or f"-{kind}" not in sample

    def test_a_failed_sample_carries_the_providers_words(self, sample: str) -> None:
        report = self.read(sample)
        said = report.error_message or report.error_code
        assert bool(said) == (report.state is ReportState.FAILED)

    def test_what_is_not_understood_says_why(self, sample: str) -> None:
        report = self.read(sample)
        assert bool(report.note) == (report.state is ReportState.UNCLEAR)

    def test_unknown_fields_change_nothing(self, sample: str) -> None:
        document = payload.decode(self.samples()[sample])
        assert isinstance(document, dict)
        assert self.provider.parse(document | {"brand_new": {"field": [1]}}) == self.read(sample)

    # --- results and failures in any form ---------------------------------------------------------

    def test_a_file_is_read_as_plain_text_and_as_an_object_with_a_url(self) -> None:
        link = "https://media.example/a.png"
        items: tuple[object, ...] = (link, {"url": link})
        for item in items:
            report = self.provider.parse(self.success([item]))
            assert (report.task_id, report.state) == ("t", ReportState.COMPLETED), item
            assert report.files == (RemoteFile(url=link, kind="image"),), item

    def test_results_in_which_no_link_is_understood_are_kept_open_and_never_an_end(self) -> None:
        for item in self.no_files:
            report = self.provider.parse(self.success([item]))
            assert (report.task_id, report.state) == ("t", ReportState.UNCLEAR), item
            assert report.note == "success without readable result links"

    def test_a_success_without_any_result_is_not_taken_for_one_that_is_no_file(self) -> None:
        report = self.provider.parse(self.success([]))
        assert report.state in {ReportState.COMPLETED, ReportState.UNCLEAR}
        assert (report.files, report.is_fileless) == ((), False)

    def test_a_failure_says_why_in_text_or_in_a_message(self) -> None:
        errors: tuple[object, ...] = ("too dark", {"message": "too dark", "type": "invalid_request_error"})
        for error in errors:
            report = self.provider.parse(self.failure(error))
            assert (report.state, report.error_message) == (ReportState.FAILED, "too dark"), error

    # --- hostile documents ------------------------------------------------------------------------

    def test_parse_never_raises_and_never_ends_a_nameless_task(self) -> None:
        provider = self.provider
        # Documents made of the provider's own keys and words get past the first look.
        texts = b"\n".join(self.samples().values()).decode()
        words = st.sampled_from(sorted(set(re.findall(r"\w+", texts))))
        shaped = st.recursive(
            SCALARS | words,
            lambda inner: st.lists(inner) | st.dictionaries(words, inner),
            max_leaves=20,
        )

        @settings(deadline=None)
        @given(VALUES | shaped | st.dictionaries(words, shaped))
        def check(document: object) -> None:
            report = provider.parse(document)
            if report.task_id is None:
                assert report.state is ReportState.UNCLEAR
            assert (report.note is not None) == (report.state is ReportState.UNCLEAR)
            assert len({file.url for file in report.files}) == len(report.files)

        check()

    def test_deep_nesting_and_endless_numbers_are_survived(self) -> None:
        # Python refuses to print a number of more than 4300 digits, so the id must not be taken from one.
        for value in (payload.decode(b"[" * 900 + b"]" * 900), 10**5000):
            for key in ("data", "files", "output", "error", "task_id", "taskId", "id", "status"):
                assert self.provider.parse({key: value, "data": {key: value}}).state is ReportState.UNCLEAR

    # --- facts and questions ----------------------------------------------------------------------

    def test_no_callback_is_taken_for_signed(self) -> None:
        callback = Callback(
            provider=self.provider.facts.name,
            token=None,
            body=b"{}",
            headers={"webhook-signature": "v1,AAAA", "authorization": "Bearer x"},
            received_at=Clock().now(),
        )
        for keys in (SigningKeys(), SigningKeys(secrets=("a-secret-of-nobody",), fits=lambda *_: False)):
            assert self.provider.verify(callback, keys) is False

    def test_the_facts_make_sense(self) -> None:
        facts = self.provider.facts
        assert re.fullmatch(r"[a-z][a-z0-9]*", facts.name)
        assert facts.title[0].isalpha()
        assert re.fullmatch(r"https://[a-z.]+[a-z]", facts.base_url)
        assert facts.callback_rules.endswith(".")
        assert 600 <= facts.link_life_seconds <= 30 * 86_400
        assert 0 < facts.poll_spacing_seconds <= facts.first_poll_seconds
        assert facts.polls_per_minute > 0

    def test_a_status_request_carries_the_task_id_and_cannot_climb(self) -> None:
        for task_id in ("task_1", "a/b", "..", "../../admin?x=1#y"):
            request = self.provider.status_request(task_id, self.model)
            assert request is not None
            for asked in filter(None, (request, request.otherwise, request.results)):
                assert asked.path.startswith("/")
                segments = asked.path.split("/")
                assert ".." not in segments
                in_body = task_id in re.findall(r'"([^"]*)"', json.dumps(asked.body))
                assert path_part(task_id) in segments or task_id in asked.query.values() or in_body

    def test_a_status_request_for_a_known_model_is_always_possible(self) -> None:
        assert self.provider.status_request("task_1", self.model) is not None
