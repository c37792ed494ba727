"""Providers declared in TOML: the contract, and each scheme of signature right and forged."""

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from receiver import payload
from receiver.declared import DeclaredProvider
from receiver.declared.provider import FilePlace
from receiver.ingest import read_callback
from receiver.models import RemoteFile, ReportState, Signing, SigningKeys, StatusRequest
from receiver.ports import Provider
from tests.contracts.provider import ProviderContract
from tests.support.own_providers import LINK, OWN, SAMPLES, coral, prism
from tests.support.signatures import (
    ANOTHER_KEY,
    BY_KEY,
    BY_SECRETS,
    KEY,
    MOMENT,
    OLD_SECRET,
    SECRET,
    SIGNED_AT,
    callback,
    forgeries,
    standard,
    wavespeed,
)


class DeclaredContract(ProviderContract):
    """With samples that are written here."""

    task_ids_in_samples = frozenset({"t"})
    documents: ClassVar[Mapping[str, object]]

    @classmethod
    def samples(cls) -> dict[str, bytes]:
        return {name: json.dumps(document).encode() for name, document in cls.documents.items()}

    def test_unknown_fields_change_nothing(self, sample: str) -> None:
        if isinstance(payload.decode(self.samples()[sample]), dict):
            super().test_unknown_fields_change_nothing(sample)


class TestPrism(DeclaredContract):
    provider: ClassVar[Provider] = OWN["prism"]
    documents = SAMPLES["prism"]

    def success(self, items: object) -> object:
        images = [{"link": item} for item in payload.items(items)]
        return {"data": {"task": {"id": "t", "state": "done", "images": images}}}

    def failure(self, error: object) -> object:
        return {"data": {"task": {"id": "t", "state": "broken", "error": error}}}

    def test_a_question_has_the_model_in_its_path_and_needs_one(self) -> None:
        assert self.provider.status_request("t/1", "{task_id}") == StatusRequest(
            path="/v1/models/%7Btask_id%7D/tasks/t%2F1", otherwise=StatusRequest(path="/v1/old/t%2F1")
        )
        assert self.provider.status_request("t", None) is None


class TestQuartz(DeclaredContract):
    provider: ClassVar[Provider] = OWN["quartz"]
    documents = SAMPLES["quartz"]

    def success(self, items: object) -> object:
        return {"job": "t", "code": 200, "picture": next(iter(payload.items(items)), None)}

    def failure(self, error: object) -> object:
        return {"job": "t", "code": False, "words": payload.mapping(error).get("message") or error}

    def test_a_code_of_its_own_is_kept(self) -> None:
        report = self.read("quartz-callback-failed")
        assert (report.error_code, report.error_message, report.provider_state) == ("12", "too dark", "500")

    def test_it_is_asked_by_query_with_a_header_and_a_key_as_it_wants_them(self) -> None:
        assert self.provider.status_request("a/b", None) == StatusRequest(
            path="/jobs", query={"id": "a/b"}, headers={"Accept-Version": "3"}
        )
        facts = self.provider.facts
        assert (facts.key_header, facts.key_prefix) == ("x-key", "")
        assert (facts.first_poll_seconds, facts.poll_spacing_seconds, facts.polls_per_minute) == (20, 5, 60)
        assert (facts.title, facts.keys_url) == ("Quartz Images", "https://quartz.example/keys.json")

    def test_the_facts_make_sense(self) -> None:
        assert self.provider.facts.base_url == "https://quartz.example/api"  # with a path


class TestEmber(DeclaredContract):
    provider: ClassVar[Provider] = OWN["ember"]
    documents = SAMPLES["ember"]

    def success(self, items: object) -> object:
        return {"data": {"id": "t", "state": "success", "result": json.dumps({"urls": items})}}

    def failure(self, error: object) -> object:
        return {"data": {"id": "t", "state": "fail", "error": error}}

    def test_a_success_without_files_is_not_believed_unless_that_is_declared(self) -> None:
        results: tuple[object, ...] = ("{not json", json.dumps({"urls": None}), None, {"urls": []}, [[[]]])
        for result in results:
            document = {"data": {"id": "t", "state": "success", "result": result}}
            assert self.provider.parse(document).state is ReportState.UNCLEAR
        assert OWN["zinc"].parse([{"id": "t", "status": "succeeded"}]).state is ReportState.COMPLETED


class TestZinc(DeclaredContract):
    provider: ClassVar[Provider] = OWN["zinc"]
    no_files: ClassVar[tuple[object, ...]] = (
        None,
        {},
        5,
        [],
        {"key_of_tomorrow": "ftp://media.example/a.png"},
    )
    documents = SAMPLES["zinc"]

    def success(self, items: object) -> object:
        return [{"id": "t", "status": "succeeded", "output": items}]

    def failure(self, error: object) -> object:
        return [{"id": "t", "status": "failed", "error": error}]


class TestCoral(DeclaredContract):
    provider: ClassVar[Provider] = OWN["coral"]
    documents = SAMPLES["coral"]
    no_files: ClassVar[tuple[object, ...]] = (None, {}, 5, [])

    def success(self, items: object) -> object:
        images = [{"b64_json": item} for item in payload.items(items)]
        return {"job": {"id": "t", "state": "ready", "images": images}}

    def failure(self, error: object) -> object:
        return {"job": {"id": "t", "state": "failed", "error": error}}

    def test_only_a_completed_sample_names_files(self, sample: str) -> None:
        files = [RemoteFile(url=url, kind="image") for url in ("data:;base64,iVBORw0KGgo=", LINK)]
        assert list(self.read(sample).files) == (files if "completed" in sample else [])

    def test_a_file_is_read_as_plain_text_and_as_an_object_with_a_url(self) -> None:
        for text, link in (
            ("aGVsbG8=", "data:;base64,aGVsbG8="),
            ("data:image/webp;base64,aGVsbG8=", "data:image/webp;base64,aGVsbG8="),
            (f" {LINK}", LINK),  # it went over to links
        ):
            assert self.provider.parse(self.success([text])).files == (RemoteFile(url=link, kind="image"),)
        assert self.provider.parse(self.success([["aGVsbG8=", "aGk="]])).files[1].url.endswith("aGk=")

    def test_answers_with_files_in_them_may_be_large(self) -> None:
        asked = self.provider.status_request("t", None)
        assert asked is not None
        assert asked.otherwise is not None
        assert (asked.most_bytes, asked.otherwise.most_bytes) == (33_554_432, 33_554_432)


def test_a_callback_may_be_a_form() -> None:
    fields = b"job=t&code=200&picture=https%3A%2F%2Fmedia.example%2F0.png"
    assert read_callback(OWN["quartz"], fields).files == (RemoteFile(url=LINK, kind="image"),)
    whole = b"payload=%7B%22job%22%3A%22t%22%2C%22code%22%3A500%7D"
    assert read_callback(OWN["quartz"], whole).state is ReportState.FAILED


# --- signatures -----------------------------------------------------------------------------------

BODY = b'{"data": {"task": {"id": "t"}}}'


def quartz(body: bytes, key: Any = KEY) -> dict[str, str]:
    message = f"{MOMENT}\n{hashlib.sha256(body).hexdigest()}".encode()
    return {"x-quartz-time": MOMENT, "x-quartz-signature": key.sign(message).signature.hex()}


def ember(secret: str = SECRET) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_what_is_signed_with_either_secret_passes(secret: str) -> None:
    assert OWN["prism"].verify(callback(prism(BODY, secret), BODY), BY_SECRETS)
    assert OWN["ember"].verify(callback(ember(secret), BODY), BY_SECRETS)
    assert OWN["zinc"].verify(callback(standard(BODY, secret), BODY), BY_SECRETS)
    assert OWN["coral"].verify(callback(coral(BODY, secret), BODY), BY_SECRETS)


def test_what_is_signed_with_a_private_key_passes_and_with_another_does_not() -> None:
    assert OWN["quartz"].verify(callback(quartz(BODY), BODY), BY_KEY)
    assert not OWN["quartz"].verify(callback(quartz(BODY, ANOTHER_KEY), BODY), BY_KEY)


def test_one_right_signature_of_several_is_enough_where_that_is_declared() -> None:
    signed = prism(BODY)
    other = prism(BODY, "whsec_bm9ib2R5J3Mgc2VjcmV0IGF0IGFsbCE=")["x-prism-signature"]
    header = f"v0=old {other} {signed['x-prism-signature']}"
    assert OWN["prism"].verify(callback({**signed, "x-prism-signature": header}, BODY), BY_SECRETS)


def test_fields_of_a_header_are_read_in_any_order_and_as_both_kinds_of_list() -> None:
    nobodys = "bm9ib2R5J3Mgc2VjcmV0IGF0IGFsbCE="
    time, first, second, old = coral(BODY, nobodys, SECRET)["coral-signature"].split(",")
    for header in (f"{second};{first};{time}", f"{time}, {old}, {second}", f"T{time[1:]},{second}"):
        assert OWN["coral"].verify(callback({"coral-signature": header}, BODY), BY_SECRETS), header
    for header in (
        f"{time},{first}",
        f"{time},{second[1:]}",
        f"{time},v0{second[2:]}",
        f"{time},t=1,{second}",  # which of them was signed?
        second,
        f"t={int(time[2:]) + 1},{second}",
        f"{time}," + "v1=00," * 8 + second,  # more than anybody sends
    ):
        assert not OWN["coral"].verify(callback({"coral-signature": header}, BODY), BY_SECRETS), header


def test_what_stripes_own_library_signs_passes() -> None:
    """Of version 12.0.0 for Python, which takes what ``coral`` signs as well."""
    made = "c259060894a0114f399c08456b54396aa45bfec7eca39f9c90e163337818de02"
    known = {"coral-signature": f"t={MOMENT},v1={made}"}
    assert OWN["coral"].verify(callback(known, b'{"job": {"id": "t", "state": "ready"}}'), BY_SECRETS)


def test_no_forgery_passes() -> None:
    forged = [
        *(
            (OWN["prism"], each, BY_SECRETS)
            for each in forgeries(prism(BODY), BODY)
            if ", " not in each.headers.get("x-prism-signature", "")  # a list already
        ),
        *((OWN["quartz"], each, BY_KEY) for each in forgeries(quartz(BODY), BODY)),
        *((OWN["zinc"], each, BY_SECRETS) for each in forgeries(standard(BODY), BODY)),
        *(
            (OWN["coral"], each, BY_SECRETS)
            for each in forgeries(
                {"coral-signature": coral(BODY)["coral-signature"][: -len(",v0=old")]}, BODY
            )
        ),
        *(
            (OWN["ember"], each, BY_SECRETS)
            for each in forgeries(ember(), BODY, covers_body=False, has_time=False)
        ),
        (OWN["zinc"], callback(wavespeed(BODY), BODY), BY_SECRETS),
    ]
    assert [each for provider, each, keys in forged if provider.verify(each, keys)] == []


def test_without_keys_nothing_passes() -> None:
    for name, headers in (
        ("prism", prism(BODY)),
        ("quartz", quartz(BODY)),
        ("ember", ember()),
        ("coral", coral(BODY)),
    ):
        assert not OWN[name].verify(callback(headers, BODY), SigningKeys()), name


def test_the_time_is_held_against_the_window_that_is_declared() -> None:
    for seconds, passes in ((59, True), (61, False), (-61, False)):
        at = SIGNED_AT + timedelta(seconds=seconds)
        assert OWN["prism"].verify(callback(prism(BODY), BODY, at), BY_SECRETS) is passes


def test_the_facts_say_with_what_it_is_checked_and_whether_the_body_is_signed() -> None:
    said = {name: (each.facts.signing, each.facts.signs_body) for name, each in OWN.items()}
    assert said == {
        "prism": (Signing.BASE64, True),
        "quartz": (Signing.KEYS, True),
        "ember": (Signing.TEXT, False),
        "zinc": (Signing.BASE64, True),
        "coral": (Signing.TEXT, True),
    }


def test_a_declared_provider_is_what_it_says() -> None:
    assert all(isinstance(each, DeclaredProvider) for each in OWN.values())
    assert OWN["quartz"].declaration.files == (FilePlace(at=("picture",), kind="image"),)
