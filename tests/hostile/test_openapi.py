"""openapi.json, as a generator of requests reads it: each answer is one that the document announces."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from receiver.testing import sample_callback
from receiver.web.app import OPENAPI
from tests.e2e.service import ADMIN_TOKEN
from tests.hostile.service import Target, running
from tests.support.loopback import Answer, post, talk

DOCUMENT: dict[str, Any] = json.loads(OPENAPI)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {
    found.ok().label: found.ok()
    for found in SCHEMA.get_all_operations()
    if isinstance(found, schemathesis.core.result.Ok)
}

AUTHORIZED = {
    "Authorization": f"Bearer {ADMIN_TOKEN}"
}  # spelled so, or the check of refusals does not find it

# Not that valid data is always taken: a schema does not know which providers there are, or which cursors.
CHECKS = [
    getattr(schemathesis.checks, name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "response_headers_conformance",
        "negative_data_rejection",
        "ignored_auth",
    )
]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with running(tmp_path_factory.mktemp("openapi"), {"RECEIVER_GATEWAY": "true"}) as target:
        yield target


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_operation_answers_as_it_is_described(target: Target, label: str) -> None:
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=OPERATIONS[label].as_strategy())
    def ask(case: Any) -> None:
        answer = case.call(base_url=target.receiver.url, headers=AUTHORIZED, timeout=10)
        case.validate_response(answer, checks=CHECKS)

    ask()


def test_no_operation_is_left_out() -> None:
    assert len(OPERATIONS) == sum(len(methods) for methods in DOCUMENT["paths"].values()) > 15


async def test_all_that_left_the_service_as_it_was(target: Target) -> None:
    answer = Answer(await talk(target.port, post(target.path, sample_callback("vidgo", "honest"))))
    assert answer.status == 200
    assert target.faults() == []
