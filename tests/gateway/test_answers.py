"""What a provider's answer to an order means, and links of ours in its documents."""

import json

import pytest

from receiver.gateway.answers import judge, with_links
from receiver.gateway.paths import Kind, match
from receiver.models import OrderFacts, OrderState
from receiver.plugins import load_providers
from receiver.ports import OrderProvider
from tests.support.places import SAMPLES

BOUND, REFUSED, UNKNOWN = OrderState.BOUND, OrderState.REFUSED, OrderState.UNKNOWN


def facts(provider: str) -> OrderFacts:
    found = load_providers()[provider]
    assert isinstance(found, OrderProvider)
    return found.orders


@pytest.mark.parametrize("provider", ["vidgo", "apidot", "apixo", "reapi"])
def test_the_documented_answer_to_an_order_binds_it(provider: str) -> None:
    body = (SAMPLES / f"{provider}-submit-response.json").read_bytes()
    judgement = judge(facts(provider), 200, body)
    assert judgement.state is BOUND
    assert judgement.task_id
    assert judgement.task_id in body.decode()


@pytest.mark.parametrize(
    ("provider", "status", "body", "state"),
    [
        ("vidgo", 200, {"task_id": "flat"}, BOUND),
        ("vidgo", 200, {"code": 402, "message": "no credits"}, REFUSED),
        ("vidgo", 200, {"code": 0, "data": {}}, UNKNOWN),
        ("vidgo", 200, {"code": 200, "data": {"status": "not_started"}}, UNKNOWN),
        ("vidgo", 400, {"code": 400}, REFUSED),
        ("vidgo", 401, {}, REFUSED),
        ("vidgo", 402, {}, REFUSED),
        ("vidgo", 429, {}, REFUSED),
        ("vidgo", 408, {}, UNKNOWN),
        ("vidgo", 302, {}, UNKNOWN),
        ("vidgo", 500, {"code": 500}, UNKNOWN),
        ("vidgo", 503, {}, UNKNOWN),
        ("apixo", 200, {"code": 400, "message": "Invalid request", "data": {"error": "x"}}, REFUSED),
        ("reapi", 200, {"error": {"code": 20002, "message": "x"}}, REFUSED),
        ("reapi", 200, {"id": "task_1", "error": None}, BOUND),
        ("reapi", 200, {"status": "processing"}, UNKNOWN),
    ],
)
def test_other_answers_refuse_it_or_leave_it_unknown(
    provider: str, status: int, body: object, state: OrderState
) -> None:
    assert judge(facts(provider), status, json.dumps(body).encode()).state is state


def test_html_with_a_good_status_leaves_it_unknown() -> None:
    assert judge(facts("vidgo"), 200, b"<html>just a moment</html>").state is UNKNOWN


def test_trap_10_only_known_links_change_and_each_to_its_own_file() -> None:
    document = (
        b'{"code": 200, "data": {"files": [{"file_url": "https://cdn.test/b.png?sig=2"},\n'
        b' {"file_url":"https:\\/\\/cdn.test\\/a.png"}], "cost": 1.0, "seed": 12345678901234567890123,'
        b' "prompt": "see https://cdn.test/a.png", "docs": "https://cdn.test/other.png"}}'
    )
    ours = {"https://cdn.test/a.png": "https://r.test/a", "https://cdn.test/b.png?sig=1": "https://r.test/b"}
    assert with_links(document, ours) == document.replace(
        b"https://cdn.test/b.png?sig=2", b"https://r.test/b"
    ).replace(b"https:\\/\\/cdn.test\\/a.png", b"https://r.test/a")


def test_links_inside_text_that_is_json_change_too() -> None:
    document = (SAMPLES / "apixo-callback-success.json").read_bytes()
    changed = json.loads(with_links(document, {"https://cdn.apixo.ai/output/abc.jpg": "https://r.test/a"}))
    before = json.loads(document)
    assert json.loads(changed["data"]["resultJson"]) == {"resultUrls": ["https://r.test/a"]}
    del changed["data"]["resultJson"], before["data"]["resultJson"]
    assert changed == before


@pytest.mark.parametrize(
    ("provider", "method", "path", "query", "kind", "model", "task_id"),
    [
        ("vidgo", "POST", "api/generate/submit", "", Kind.ORDER, None, None),
        ("vidgo", "POST", "//api//generate/submit/", "", Kind.ORDER, None, None),
        ("vidgo", "GET", "api/generate/status/t%2F1", "", Kind.STATUS, None, "t/1"),
        ("vidgo", "GET", "api/generate/detail/music", "task_id=t1", Kind.STATUS, None, "t1"),
        ("vidgo", "POST", "api/common/upload/stream", "", Kind.PASSAGE, None, None),
        ("apixo", "POST", "api/v1/generateTask/a/b", "", Kind.ORDER, "a/b", None),
        ("apixo", "POST", "api/v1/generateTask/a%2Fb", "", Kind.ORDER, "a/b", None),
        ("apixo", "GET", "api/v1/statusTask/a%2Fb", "taskId=t1", Kind.STATUS, "a/b", "t1"),
        ("reapi", "GET", "api/v1/tasks/t1", "", Kind.STATUS, None, "t1"),
        ("reapi", "GET", "api/v1/balance", "", Kind.PASSAGE, None, None),
    ],
)
def test_the_documented_paths_are_known(
    provider: str, method: str, path: str, query: str, kind: Kind, model: str | None, task_id: str | None
) -> None:
    wanted = match(facts(provider), method, path, query)
    assert wanted is not None
    assert (wanted.kind, wanted.model, wanted.task_id) == (kind, model, task_id)


@pytest.mark.parametrize(
    ("provider", "method", "path", "query"),
    [
        ("vidgo", "GET", "api/generate/submit", ""),
        ("vidgo", "POST", "api/generate/submit/more", ""),
        ("vidgo", "POST", "api/generate%2Fsubmit", ""),
        ("vidgo", "POST", "v1/chat/completions", ""),
        ("vidgo", "GET", "api/generate/status/", ""),
        ("vidgo", "GET", "api/generate/status/a/b", ""),
        ("vidgo", "GET", "api/generate/status/..", ""),
        ("vidgo", "GET", "api/generate/status/%2e%2e", ""),
        ("vidgo", "GET", "api/generate/status/a%2F..%2Fb", ""),
        ("vidgo", "GET", "api/generate/status/a%00", ""),
        ("vidgo", "GET", "api/generate/status/%ff", ""),
        ("vidgo", "GET", "api/generate/status/" + "a" * 2000, ""),
        ("vidgo", "GET", "api/generate/detail/music", ""),
        ("vidgo", "GET", "api/generate/detail/music", "task_id=a&task_id=b"),
        ("apixo", "POST", "api/v1/generateTask", ""),
        ("apixo", "POST", "api/v1/generateTask/../x", ""),
        ("apixo", "POST", "api/v1/generateTask/a%5c..%5cb", ""),
        ("reapi", "POST", "api/v1/tasks/t1", ""),
    ],
)
def test_nothing_else_is(provider: str, method: str, path: str, query: str) -> None:
    assert match(facts(provider), method, path, query) is None
