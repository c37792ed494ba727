"""Webhooks are verified as Standard Webhooks has it, and become typed events."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from standardwebhooks import Webhook

from receiver.client import Event, Reason, VerificationError, read_event, verify
from receiver.testing import sample_notification

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
OTHER = "whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
BODY = sample_notification("evt_7", metadata={"order": 7}).body

Headers = dict[str, str]


def signed(body: bytes = BODY, secret: str = SECRET, *, late: float = 0.0) -> Headers:
    """Headers by the reference library of Standard Webhooks."""
    moment = datetime.now(tz=UTC) - timedelta(seconds=late)
    return {
        "webhook-id": "evt_7",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign("evt_7", moment, body.decode()),
    }


def wrong(body: bytes, headers: Mapping[str, str], **more: Any) -> tuple[Reason, str]:
    with pytest.raises(VerificationError) as caught:
        verify(body, headers, SECRET, **more)
    return caught.value.reason, str(caught.value)


def test_an_event_that_the_reference_library_signed_is_read() -> None:
    event = verify(BODY, signed(), SECRET)
    assert (event.id, event.type, event.subject) == ("evt_7", "task.completed", "vidgo/t1")
    assert (event.provider, event.task_id, event.owner, event.model) == (
        "vidgo",
        "t1",
        "user-17",
        "gpt-image-2",
    )
    assert (event.metadata, event.revision, event.error, event.cost) == ({"order": 7}, 1, None, None)
    (asset,) = event.assets
    assert (asset.index, asset.state, asset.width, asset.sha256) == (0, "stored", 64, "ab" * 32)
    assert event.stored == event.assets
    assert event.raw == BODY


def test_what_it_takes_the_reference_library_takes_and_nothing_else() -> None:
    for body, headers in ((BODY, signed()), (BODY + b" ", signed()), (BODY, signed(secret=OTHER))):
        took = []
        for check in (lambda b, h: verify(b, h, SECRET), Webhook(SECRET).verify):
            try:
                check(body, headers)
            except Exception:  # noqa: BLE001 - of either
                took.append(False)
            else:
                took.append(True)
        assert took[0] == took[1]


@pytest.mark.parametrize("case", [str.title, str.upper, str.lower])
def test_the_case_of_headers_means_nothing(case: Callable[[str], str]) -> None:
    assert verify(BODY, {case(name): value for name, value in signed().items()}, SECRET).id == "evt_7"


def test_while_a_secret_is_replaced_either_fits_on_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(BODY, signed(secret=OTHER), [SECRET, OTHER]).id == "evt_7"
    both = signed() | {
        "webhook-signature": " ".join(signed(secret=s)["webhook-signature"] for s in (OTHER, SECRET))
    }
    assert verify(BODY, both, SECRET).id == "evt_7"
    monkeypatch.setenv("RECEIVER_WEBHOOK_SECRET", f"{OTHER}, {SECRET}")
    assert verify(BODY, signed()).id == "evt_7"


def test_it_says_what_is_wrong() -> None:
    assert wrong(BODY, {})[0] is Reason.SIGNATURE
    assert "_SECRET" in wrong(BODY, signed() | {"webhook-signature": ""})[1]
    assert wrong(BODY + b" ", signed())[0] is Reason.SIGNATURE
    assert wrong(BODY, signed(secret=OTHER))[0] is Reason.SIGNATURE
    assert wrong(BODY, signed() | {"webhook-id": "evt_8"})[0] is Reason.SIGNATURE
    assert wrong(BODY, signed() | {"webhook-timestamp": "now"})[0] is Reason.TIME
    reason, words = wrong(BODY, signed(late=400))
    assert (reason, "old" in words) == (Reason.TIME, True)
    assert "ahead" in wrong(BODY, signed(late=-400))[1]
    assert wrong(BODY, signed(late=90), tolerance=60)[0] is Reason.TIME
    assert verify(BODY, signed(late=400), SECRET, tolerance=500)
    assert wrong(b"[]", signed(b"[]"))[0] is Reason.FORM


def test_nothing_that_is_wrong_tells_the_secret_or_the_body() -> None:
    for headers in (signed(secret=OTHER), signed(late=400), {}):
        _, words = wrong(BODY, headers)
        assert SECRET[6:20] not in words
        assert "user-17" not in words


def test_without_a_secret_nothing_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECEIVER_WEBHOOK_SECRET", raising=False)
    for none in (None, ""):
        with pytest.raises(ValueError, match="RECEIVER_WEBHOOK_SECRET"):
            verify(BODY, signed(), none)
    with pytest.raises(ValueError, match="whsec_"):
        verify(BODY, signed(), "whsec_")


def document(**changes: Any) -> bytes:
    return json.dumps(json.loads(BODY) | changes).encode()


def test_types_and_fields_of_later_releases_are_kept() -> None:
    data = json.loads(BODY)["data"] | {"new": [1], "cost": {"usd": "0.01", "state": "charged", "new": 1}}
    event = read_event(document(type="task.expired", data=data, extension="x"))
    assert event.type == "task.expired"
    assert json.loads(event.raw)["data"]["new"] == [1]
    assert event.cost is not None
    assert event.cost.usd == Decimal("0.01")


def test_a_test_of_a_sink_is_an_event_without_a_task() -> None:
    data = dict.fromkeys(json.loads(BODY)["data"]) | {"metadata": {}, "assets": []}
    event = read_event(document(type="receiver.test", subject="sinks/app", data=data))
    assert (event.type, event.owner, event.task_id, event.assets) == ("receiver.test", "", "", ())


def test_repeats_have_one_key_and_revisions_and_replays_their_own() -> None:
    events: list[Event] = [
        read_event(document()),
        read_event(document()),
        read_event(document(id="evt_7.2", revision=2)),
        read_event(document(replayid="rpl_1")),
    ]
    assert len({event.dedupe_key for event in events}) == 3


def test_verifying_takes_no_time_worth_speaking_of() -> None:
    headers = signed()
    began = time.perf_counter()
    for _ in range(200):
        verify(BODY, headers, SECRET)
    assert time.perf_counter() - began < 1.0
