"""openapi.json says what the doors do."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.web.app import ENDPOINTS
from receiver.web.openapi import plain_path
from tests.support.web_callers import callback_path, log_task

Document = dict[str, Any]


@pytest.fixture
async def document(stranger: httpx2.AsyncClient) -> Document:
    answer = await stranger.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    found: Document = answer.json()
    return found


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def references(node: object) -> Iterator[str]:
    match node:
        case dict():
            if isinstance(reference := node.get("$ref"), str):
                yield reference
            for each in node.values():
                yield from references(each)
        case list():
            for each in node:
                yield from references(each)


def check(document: Document, answer: httpx2.Response, method: str, path: str) -> None:
    """That a real answer is one that the document announces."""
    announced = document["paths"][path][method]["responses"][str(answer.status_code)]["content"]
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in announced
    schema = {**announced[kind]["schema"], "components": document["components"]}
    Draft202012Validator(schema).validate(answer.json())


async def test_the_document_has_the_parts_it_needs(document: Document) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "receiver"
    assert document["info"]["version"]
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for _, path, operation in operations(document):
        assert operation["summary"]
        assert operation["responses"]
        in_path = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))


async def test_every_schema_is_one_and_every_reference_leads_somewhere(document: Document) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    found = set(references(document))
    assert {"#/components/schemas/Problem", "#/components/schemas/Receipt"} <= found <= known


async def test_every_endpoint_is_described(document: Document) -> None:
    described = {(method.upper(), path) for method, path, _ in operations(document)}
    callbacks = {("POST", "/callbacks/{provider}"), ("POST", "/callbacks/{provider}/{token}")}
    assert described == callbacks | {(each.method, plain_path(each.path)) for each in ENDPOINTS}


@pytest.mark.parametrize("environment", [{"RECEIVER_GATEWAY": "true"}])
async def test_every_described_path_is_answered(document: Document, stranger: httpx2.AsyncClient) -> None:
    for method, path, operation in operations(document):
        filled = (
            path.replace("{provider}", "vidgo")
            .replace("{index}", "0")
            .replace("{chapter}", "walks")
            .replace("{picture}", "overview.webp")
        )
        answer = await stranger.request(method, re.sub(r"{\w+}", "x", filled))
        assert answer.status_code not in {404, 405, 500}, (method, path)
        if operation["security"] and {} not in operation["security"]:
            assert answer.status_code == 401


async def test_secured_operations_announce_that_they_refuse(document: Document) -> None:
    public = {path for _, path, operation in operations(document) if not any(operation["security"])}
    assert public == {
        "/callbacks/{provider}", "/callbacks/{provider}/{token}", "/healthz", "/readyz", "/openapi.json",
        "/docs", "/docs/{chapter}", "/docs/pictures/{picture}",
    }  # fmt: skip
    for _, path, operation in operations(document):
        assert path in public or "401" in operation["responses"], path


async def test_real_answers_are_as_announced(
    document: Document, admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    new = {"provider": "vidgo", "owner": "user-17", "task_id": "t1", "metadata": {"order": 7}}
    created = await admin.post("/submissions", json=new)
    check(document, created, "post", "/submissions")
    check(document, await admin.post("/submissions", json=new), "post", "/submissions")
    check(document, await admin.post("/submissions", json={**new, "owner": "x"}), "post", "/submissions")
    check(document, await admin.post("/submissions", json={}), "post", "/submissions")
    check(document, await stranger.post("/submissions", json=new), "post", "/submissions")
    one = f"/submissions/{created.json()['id']}"
    check(document, await admin.get(one), "get", "/submissions/{id}")
    check(document, await admin.get("/submissions/x"), "get", "/submissions/{id}")
    check(document, await admin.patch(one, json={"task_id": "t1"}), "patch", "/submissions/{id}")
    check(document, await admin.patch(one, json={"task_id": "t2"}), "patch", "/submissions/{id}")
    check(document, await admin.get("/submissions"), "get", "/submissions")

    path = callback_path(runtime)
    with_token = ("post", "/callbacks/{provider}/{token}")
    for body in (sample_callback("vidgo", "t1", error="no"), sample_callback("vidgo", "t2"), b"[]", b"{"):
        check(document, await stranger.post(path, content=body), *with_token)
    check(document, await stranger.post("/callbacks/vidgo", content=b"{}"), "post", "/callbacks/{provider}")

    check(document, await admin.get("/tasks"), "get", "/tasks")
    check(document, await admin.get("/tasks?limit=0"), "get", "/tasks")
    check(document, await admin.get("/tasks/vidgo/t1"), "get", "/tasks/{provider}/{task_id}")
    check(document, await admin.get("/tasks/vidgo/t3"), "get", "/tasks/{provider}/{task_id}")
    check(document, await admin.get("/stats"), "get", "/stats")
    check(document, await admin.get("/assets/x/y/0"), "get", "/assets/{provider}/{task_id}/{index}")

    replay = {"filter": {"owner": "user-17"}, "stage": "notify", "rate": 0.01}
    started = await admin.post("/replays", json=replay)
    check(document, started, "post", "/replays")
    check(document, await admin.post("/replays", json=replay | {"dry_run": True}), "post", "/replays")
    check(document, await admin.post("/replays", json=replay | {"rate": 0}), "post", "/replays")
    check(document, await admin.get("/replays"), "get", "/replays")
    check(document, await admin.get(f"/replays/{started.json()['id']}"), "get", "/replays/{id}")
    for verb in ("pause", "resume", "cancel", "pause"):
        answer = await admin.post(f"/replays/{started.json()['id']}/{verb}")
        check(document, answer, "post", f"/replays/{{id}}/{verb}")
    check(document, await admin.post("/replays/x/pause"), "post", "/replays/{id}/pause")
    check(document, await admin.get("/dead-letters"), "get", "/dead-letters")
    requeue = ("post", "/dead-letters/requeue")
    asks: list[Document] = [{"filter": {}}, {"filter": {}, "dry_run": True}, {}]
    for asked in asks:
        check(document, await admin.post("/dead-letters/requeue", json=asked), *requeue)

    check(document, await admin.get("/sinks"), "get", "/sinks")
    for sink in ("jsonl", "nobody"):
        check(document, await admin.post(f"/sinks/{sink}/test"), "post", "/sinks/{name}/test")

    check(document, await stranger.get("/healthz"), "get", "/healthz")
    check(document, await stranger.get("/readyz"), "get", "/readyz")


async def test_what_takes_no_body_announces_none_and_what_repeats_is_a_list(document: Document) -> None:
    assert "requestBody" not in document["paths"]["/replays/{id}/pause"]["post"]
    parameters = document["paths"]["/dead-letters"]["get"]["parameters"]
    (task_ids,) = (each for each in parameters if each["name"] == "task_ids")
    assert task_ids["schema"]["type"] == "array"


async def test_a_new_submission_that_the_schema_refuses_is_refused(
    document: Document, backend: httpx2.AsyncClient
) -> None:
    schema = document["paths"]["/submissions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    good = await log_task(backend, "t1")
    assert validator.is_valid({name: good[name] for name in ("provider", "owner", "task_id", "metadata")})
    for bad in (
        {},
        {"provider": "vidgo"},
        {"provider": "vidgo", "owner": ""},
        {"provider": "vidgo", "owner": 1},
    ):
        assert not validator.is_valid(bad)
        assert (await backend.post("/submissions", json=bad)).status_code == 400
