"""Each problem has a type of its own, by which clients can tell it from others whatever its title says."""

import ast
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

import receiver
from receiver.problem_types import NAMESPACE, ProblemType
from receiver.web.problems import STATUSES
from tests.support.manual import section
from tests.support.web_callers import log_task

PACKAGE = Path(receiver.__file__).parent
MAKERS = {"Rejected", "UnknownInPath", "problem"}


def arguments() -> list[str]:
    """What stands first in every call that makes a problem, as it is written."""
    # The client for backends has errors of its own, of what it is answered.
    ours = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "client"]
    trees = [ast.parse(path.read_text()) for path in ours]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    made = [call for call in calls if ast.unparse(call.func).removeprefix("problems.") in MAKERS]
    return [ast.unparse(call.args[0]) for call in made]


def test_whatever_is_refused_has_a_type_and_every_type_is_refused_with() -> None:
    handed_on = {"kind", "error.kind"}  # by what turns one into an answer
    named = {f"ProblemType.{kind.name}" for kind in ProblemType}
    # ``for_unrouted`` and ``unknown_...`` choose among several.
    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert set(arguments()) <= named | handed_on
    assert {kind for kind in named if not re.search(rf"{kind}\b", source)} == set()


def test_a_type_is_one_uri_that_no_title_is_part_of() -> None:
    uris = [kind.uri for kind in ProblemType]
    assert len(set(uris)) == len(uris)
    assert all(re.fullmatch(r"urn:receiver:problem:[a-z]+(-[a-z]+)*", uri) for uri in uris)


def test_the_manual_lists_every_type_with_its_status() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (\d+)", section("http", "## Problems"), re.MULTILINE)
    assert [(f"{NAMESPACE}{name}", int(status)) for name, status in rows] == [
        (kind.uri, STATUSES[kind]) for kind in ProblemType
    ]


async def test_openapi_names_every_type(stranger: httpx2.AsyncClient) -> None:
    document = (await stranger.get("/openapi.json")).json()
    shown = document["components"]["schemas"]["Problem"]["properties"]["type"]
    assert shown["examples"] == [kind.uri for kind in ProblemType]
    assert "enum" not in shown  # or a type of a later release would break who made code of it


def kind_of(answer: httpx2.Response) -> ProblemType:
    """The type of a problem; the rest of the document goes with it."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    (kind,) = (kind for kind in ProblemType if kind.uri == problem["type"])
    assert (problem["title"], problem["status"]) == (kind.title, answer.status_code)
    return kind


OF_ANOTHER = {"provider": "vidgo", "owner": "x", "task_id": "t1"}
REFUSED = [
    ("GET", "/nowhere", None, 404, ProblemType.UNKNOWN_PATH),
    ("PUT", "/tasks", None, 405, ProblemType.METHOD_NOT_ALLOWED),
    ("GET", "/callbacks/vidgo", None, 405, ProblemType.METHOD_NOT_ALLOWED),
    ("POST", "/callbacks/nobody", {}, 404, ProblemType.UNKNOWN_PROVIDER),
    ("POST", "/callbacks/vidgo/wrong", {}, 401, ProblemType.NOT_AUTHENTIC),
    ("GET", "/tasks?provider=nobody", None, 400, ProblemType.UNKNOWN_PROVIDER),
    ("GET", "/tasks/nobody/t1", None, 404, ProblemType.UNKNOWN_PROVIDER),
    ("GET", "/attempts/nobody/t1", None, 404, ProblemType.UNKNOWN_PROVIDER),
    ("GET", "/tasks/vidgo/none", None, 404, ProblemType.UNKNOWN_TASK),
    ("GET", "/deliveries/vidgo/none", None, 404, ProblemType.UNKNOWN_TASK),
    ("GET", "/tasks?limit=0", None, 400, ProblemType.BAD_QUERY),
    ("GET", "/tasks?metadata.order=7", None, 400, ProblemType.NOT_INDEXED),
    ("GET", "/tasks?cursor=x", None, 400, ProblemType.BAD_CURSOR),
    ("POST", "/submissions", {}, 400, ProblemType.BAD_BODY),
    ("GET", "/submissions/sub_0", None, 404, ProblemType.UNKNOWN_SUBMISSION),
    ("DELETE", "/submissions/sub_0", None, 404, ProblemType.UNKNOWN_SUBMISSION),
    (
        "POST",
        "/submissions",
        {"provider": "vidgo", "owner": "x", "task_id": "t1"},
        409,
        ProblemType.TASK_LOGGED,
    ),
    ("GET", "/assets/vidgo/t1/0", None, 404, ProblemType.UNKNOWN_FILE),
    ("GET", "/replays/rpl_0", None, 404, ProblemType.UNKNOWN_REPLAY),
    ("POST", "/sinks/nobody/test", {}, 404, ProblemType.UNKNOWN_SINK),
    ("POST", "/dead-letters/requeue", {"filter": {}, "sinks": ["nobody"]}, 400, ProblemType.UNKNOWN_SINK),
    ("POST", "/dead-letters/drop", {"sink": "jsonl"}, 409, ProblemType.SINK_SET),
]


@pytest.mark.parametrize(("method", "path", "document", "status", "kind"), REFUSED)
async def test_a_problem_says_which_kind_it_is_of(
    admin: httpx2.AsyncClient,
    method: str,
    path: str,
    document: object,
    status: int,
    kind: ProblemType,
) -> None:
    await log_task(admin, "t1")
    answer = await admin.request(method, path, json=document)
    assert (answer.status_code, kind_of(answer)) == (status, kind)


async def test_who_may_not_ask_is_told_so_by_type(
    stranger: httpx2.AsyncClient, backend: httpx2.AsyncClient
) -> None:
    assert kind_of(await stranger.get("/tasks")) is ProblemType.NOT_AUTHORISED
    assert kind_of(await backend.get("/stats")) is ProblemType.NOT_ALLOWED
    link = "/assets/vidgo/t1/0?expires=1&signature=x"
    assert kind_of(await stranger.get(link)) is ProblemType.LINK_NOT_VALID
