"""The message consumers see: golden bytes, a valid CloudEvent, the same for every retry."""

import json
from typing import Any

import jsonschema
import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat

from receiver.envelope import CONTENT_TYPE
from receiver.models import AssetState, EventType, OutboxWork, Outcome
from tests.support.factories import later, submission
from tests.support.messages import (
    SOURCE,
    TRACEPARENT,
    cloud_event,
    event,
    failed_asset,
    outbox_work,
    rendered,
    stored_asset,
)

GOLDEN = (
    b'{"specversion":"1.0","id":"evt_1","source":"https://receiver.example","type":"task.completed",'
    b'"subject":"vidgo/t1","time":"2026-11-21T10:02:00.000Z","datacontenttype":"application/json",'
    b'"revision":1,"data":{"provider":"vidgo","task_id":"t1","submission_id":"sub_1","owner":"user-17",'
    b'"model":"gpt-image-2","metadata":{"order":7},"submitted_at":"2026-11-21T10:00:00.000Z",'
    b'"received_at":"2026-11-21T10:01:00.000Z","via":"callback","assets":[{"index":0,"state":"stored",'
    b'"key":"vidgo/t1/0.png","url":"https://receiver.example/assets/vidgo/t1/0?expires=1795255320",'
    b'"media_type":"image/png","bytes":1234,"width":64,"height":48,"sha256":"'
    + b"ab" * 32
    + b'"}],"error":null}}'
)


def message(work: OutboxWork) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(rendered(work).body)
    return decoded


def test_the_bytes_are_these() -> None:
    assert rendered(outbox_work()).body == GOLDEN


def test_the_media_type_is_that_of_a_structured_cloudevent() -> None:
    assert CONTENT_TYPE == JSONFormat.CONTENT_TYPE


@pytest.mark.parametrize(
    "work",
    [
        outbox_work(),
        outbox_work(replay_id="rpl_1", revision=3),
        outbox_work(event(type_=EventType.FAILED, assets=(), error_code="nsfw", error_message="refused")),
        outbox_work(event(type_=EventType.PARTIAL, assets=(stored_asset(), failed_asset(1)))),
        outbox_work(event(task_id="Ж/🦊 \n\\0?#%")),
    ],
)
def test_it_is_a_valid_cloudevent(work: OutboxWork) -> None:
    read = cloud_event(rendered(work).body)
    assert read.get_specversion() == "1.0"
    assert read.get_id() == message(work)["id"]
    assert read.get_source() == SOURCE
    assert read.get_subject() == f"vidgo/{work.event.task_id}"
    assert read.get_time() == later(120)
    assert read.get_datacontenttype() == "application/json"
    assert read.get_extension("revision") == work.revision
    assert read.get_extension("replayid") == work.replay_id


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
def test_the_oracle_refuses_what_is_not_a_cloudevent(name: str) -> None:
    broken = {key: value for key, value in json.loads(GOLDEN).items() if key != name}
    with pytest.raises(jsonschema.ValidationError, match=name):
        cloud_event(json.dumps(broken).encode())


def test_a_trace_is_named_as_the_extension_of_cloudevents_for_traces_has_it() -> None:
    traced = event(from_submission=msgspec.structs.replace(submission(id_="sub_1"), traceparent=TRACEPARENT))
    first, replay = outbox_work(traced), outbox_work(traced, replay_id="rpl_1", attempt=2)
    assert cloud_event(rendered(first).body).get_extension("traceparent") == TRACEPARENT
    assert message(replay)["traceparent"] == rendered(replay).traceparent == TRACEPARENT
    plain = GOLDEN.replace(b'"revision":1,', b'"revision":1,"traceparent":"%s",' % TRACEPARENT.encode())
    assert rendered(first).body == plain


def test_a_retry_is_the_same_bytes_and_the_same_key() -> None:
    first, third = rendered(outbox_work()), rendered(outbox_work(attempt=3))
    assert first == third


@pytest.mark.parametrize("revision", [1, 2])
def test_a_replay_has_its_revisions_id_and_a_replayid_and_a_key_of_its_own(revision: int) -> None:
    first = outbox_work(revision=revision)
    replay = outbox_work(revision=revision, replay_id="rpl_1")
    assert rendered(first).event_id == rendered(replay).event_id
    assert rendered(first).dedupe_key != rendered(replay).dedupe_key
    assert message(replay) == message(first) | {"replayid": "rpl_1"}


def test_each_revision_is_a_message_of_its_own_about_the_same_task() -> None:
    works = [outbox_work(revision=revision) for revision in (1, 2, 10)]
    messages = [message(work) for work in works]
    assert [each["id"] for each in messages] == ["evt_1", "evt_1.2", "evt_1.10"]
    assert [rendered(work).event_id for work in works] == [each["id"] for each in messages]
    assert [each["revision"] for each in messages] == [1, 2, 10]
    assert {each["subject"] for each in messages} == {"vidgo/t1"}
    assert len({rendered(work).dedupe_key for work in works}) == 3


def test_a_file_that_could_not_be_had_says_why_and_offers_no_link() -> None:
    assets = message(outbox_work(event(assets=(stored_asset(), failed_asset(1)))))["data"]["assets"]
    assert assets[1] == {"index": 1, "state": "failed", "outcome": "gone"}
    assert assets[0]["url"].startswith(SOURCE)


def test_a_file_that_is_tried_again_after_the_end_is_as_it_was_at_the_end() -> None:
    again = msgspec.structs.replace(failed_asset(1), state=AssetState.PENDING, settled_at=None)
    of = event(type_=EventType.PARTIAL, assets=(stored_asset(), failed_asset(1)))
    meanwhile = msgspec.structs.replace(of, assets=(stored_asset(), again))
    assert rendered(outbox_work(meanwhile)) == rendered(outbox_work(of))


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_written_by_its_name(outcome: Outcome) -> None:
    assets = message(outbox_work(event(assets=(failed_asset(0, outcome),))))["data"]["assets"]
    assert assets[0]["outcome"] == outcome.value


def test_the_providers_own_words_are_the_error() -> None:
    of = event(type_=EventType.FAILED, assets=(), error_code="80006", error_message="no")
    assert message(outbox_work(of))["data"]["error"] == {"code": "80006", "message": "no"}
    of = event(type_=EventType.FAILED, assets=(), error_message="no")
    assert message(outbox_work(of))["data"]["error"] == {"code": None, "message": "no"}


def test_the_request_and_the_links_of_the_provider_are_not_in_it() -> None:
    body = rendered(outbox_work()).body
    assert b"a lighthouse" not in body  # the prompt
    assert b"cdn.test" not in body


def test_metadata_is_handed_on_as_it_came() -> None:
    metadata = {"nested": {"list": [1, 2.5, None, True]}, "text": "Ж🦊\u2028"}
    of = event(from_submission=msgspec.structs.replace(submission(), metadata=metadata))
    assert message(outbox_work(of))["data"]["metadata"] == metadata


@pytest.mark.parametrize("end", ["\N{LINE SEPARATOR}", "\N{PARAGRAPH SEPARATOR}", "\N{NEXT LINE}"])
def test_a_message_is_one_line_to_every_reader(end: str) -> None:
    text = f"one{end}two Ж🦊"
    of = event(from_submission=msgspec.structs.replace(submission(), owner=text, metadata={text: [text]}))
    body = rendered(outbox_work(of)).body
    assert len(body.decode().splitlines()) == 1
    assert json.loads(body)["data"]["owner"] == text
    assert json.loads(body)["data"]["metadata"] == {text: [text]}
    assert "Ж🦊".encode() in body


def test_an_event_that_has_not_ended_has_no_message() -> None:
    with pytest.raises(ValueError, match="evt_1 has not ended"):
        rendered(outbox_work(event(type_=None)))
