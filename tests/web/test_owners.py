"""Tokens that are bound to owners, who did what in the log, and what strangers are told."""

import base64
from collections.abc import AsyncIterator

import httpx2
import pytest

from receiver.config.bearer import acts_for, parse_bearer
from receiver.config.settings import Settings, load_settings
from receiver.models import NewOrder
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.web.app import ENDPOINTS, build_app
from receiver.web.endpoints import Audience
from tests.support.engines import on_both_engines
from tests.support.factories import NOW, later, submission
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, LogLines, callback_path, caller

ANN, BOB, GROUP = "the-token-of-ann-1", "the-token-of-bob-1", "the-token-of-many-1"


@pytest.fixture
def environment() -> dict[str, str]:
    tokens = (API_TOKEN, f"ann:{ANN}@ann", f"bob:{BOB}@bob", f"group:{GROUP}@team-7*|bob")
    return {
        "RECEIVER_API_TOKENS": ",".join(tokens),
        "RECEIVER_ADMIN_TOKENS": f"root:{ADMIN_TOKEN}",
        "RECEIVER_METADATA_INDEX": "order",
    }


@pytest.fixture
async def ann(runtime: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    async with caller(build_app(runtime), ANN) as client:
        yield client


@pytest.fixture
async def bob(runtime: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    async with caller(build_app(runtime), BOB) as client:
        yield client


def test_a_token_may_have_a_name_and_owners() -> None:
    assert parse_bearer("a-plain-token-of-today") == parse_bearer("a-plain-token-of-today")
    plain, named, bound = (
        parse_bearer(text)
        for text in ("plain@token:of-today", "app:0123456789abcdef", "app:0123456789abcdef@a%2Cb|team-*")
    )
    assert (plain.name, plain.token, plain.owners) == (None, "plain@token:of-today", ())
    assert (named.name, named.token, named.owners) == ("app", "0123456789abcdef", ())
    assert (bound.name, bound.token, bound.owners) == ("app", "0123456789abcdef", ("a,b", "team-*"))
    assert [acts_for(bound.owners, owner) for owner in ("a,b", "team-1", "team", "ab")] == [
        True,
        True,
        False,
        False,
    ]
    with_colon = parse_bearer(
        "shop:word:rest-of-a-token"
    )  # how a plain token is written that looks like a named one
    assert (with_colon.name, with_colon.token) == ("shop", "word:rest-of-a-token")
    for wrong in ("app:short", "app:0123456789abcdef@|", "app:0123456789abcdef@team%2A"):
        with pytest.raises(ValueError, match="app:"):
            parse_bearer(wrong)


def test_settings_say_how_tokens_are_written_and_show_none(web_settings: Settings) -> None:
    assert ANN not in repr(web_settings)
    assert ANN not in repr(parse_bearer(f"ann:{ANN}"))


@on_both_engines
async def test_another_owners_things_are_not_there_at_any_door(
    ann: httpx2.AsyncClient, bob: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    """Every door of backends, so that a new one that forgets to ask whose it is fails here."""
    mine = {"provider": "vidgo", "owner": "bob", "task_id": "t1", "metadata": {"order": 7}}
    logged = (await bob.post("/submissions", json=mine)).json()
    await bob.post("/submissions", json={"provider": "vidgo", "owner": "bob", "task_id": "t2"})
    reserved = (await bob.post("/submissions", json={"provider": "vidgo", "owner": "bob"})).json()
    await backend.post(callback_path(runtime), content=sample_callback("vidgo", "t1", error="no"))
    order, _ = await runtime.store.reserve_order(
        NewOrder(
            submission=submission(None, owner="bob"),
            credential="hash",
            upstream_key="hash",
            guard=None,
            digest="digest",
            guard_since=NOW,
            lease_until=later(60),
        )
    )
    doors: dict[tuple[str, str], list[tuple[str, dict[str, object] | None]]] = {
        ("GET", "/submissions"): [],
        ("GET", "/tasks"): [],
        ("GET", "/orders"): [],
        ("GET", "/costs"): [],
        ("GET", "/orders/{id}"): [(f"/orders/{order.submission_id}", None)],
        ("POST", "/submissions"): [],
        ("GET", "/submissions/{id}"): [(f"/submissions/{logged['id']}", None)],
        ("PATCH", "/submissions/{id}"): [(f"/submissions/{reserved['id']}", {"task_id": "t9"})],
        ("DELETE", "/submissions/{id}"): [(f"/submissions/{reserved['id']}", None)],
        ("GET", "/tasks/{provider}/{task_id:path}"): [
            ("/tasks/vidgo/t1", None),
            ("/tasks/vidgo/t2?wait=60", None),
        ],
        ("GET", "/deliveries/{provider}/{task_id:path}"): [("/deliveries/vidgo/t1", None)],
        ("GET", "/notifications/{provider}/{task_id:path}"): [("/notifications/vidgo/t1", None)],
        ("GET", "/attempts/{provider}/{task_id:path}"): [("/attempts/vidgo/t1", None)],
        ("GET", "/assets/{provider}/{task_id:path}/{index}"): [("/assets/vidgo/t1/0", None)],
    }
    asked = {
        (each.method, each.path) for each in ENDPOINTS if each.audience in {Audience.BACKEND, Audience.LINK}
    }
    assert asked == set(doors)
    for (method, _), requests in doors.items():
        for path, body in requests:
            answer = await ann.request(method, path, json=body)
            assert answer.status_code == 404, (method, path)
            assert "bob" not in answer.text
    assert (await ann.post("/submissions", json=mine)).status_code == 403
    assert (await ann.get("/tasks?owner=bob")).status_code == 403
    assert (await ann.get("/submissions?owner=bob")).status_code == 403
    assert (await ann.get("/orders?owner=bob")).status_code == 403
    assert (await ann.get("/orders")).json()["orders"] == []
    assert (await ann.get("/costs?owner=bob")).status_code == 403
    assert [(await each.get("/costs")).json()["total"]["orders"] for each in (ann, bob)] == [0, 1]
    assert [each["owner"] for each in (await bob.get("/orders")).json()["orders"]] == ["bob"]
    assert (await ann.get("/tasks")).json()["tasks"] == []
    assert (await ann.get("/submissions")).json()["submissions"] == []
    task = (await bob.get("/tasks/vidgo/t1")).json()
    for name, value in (
        ("task_id", "t1"),
        ("submission_id", logged["id"]),
        ("event_id", task["event_id"]),
        ("delivery_id", task["deliveries"][0]["id"]),
        ("notification_id", task["notifications"][0]["id"]),
        ("metadata.order", "7"),
    ):
        assert (await ann.get("/tasks", params={name: value})).json()["tasks"] == [], name
        assert len((await bob.get("/tasks", params={name: value})).json()["tasks"]) == 1, name
    for noun in ("tasks", "deliveries", "notifications", "attempts"):
        assert (await bob.get(f"/{noun}/vidgo/t1")).status_code == 200
    assert len((await bob.get("/submissions")).json()["submissions"]) == 4  # one of them an order
    assert (await bob.get(f"/submissions/{reserved['id']}")).json()["task_id"] is None


@pytest.mark.parametrize("query", ["", "?cursor=zzz", "?cursor=at_1", "?limit=1", "?limit=0", "?x=1"])
async def test_another_owners_task_is_answered_as_one_that_is_not_there(
    ann: httpx2.AsyncClient, bob: httpx2.AsyncClient, query: str
) -> None:
    await bob.post("/submissions", json={"provider": "vidgo", "owner": "bob", "task_id": "t1"})
    for path in ("/tasks/{}", "/deliveries/{}", "/notifications/{}", "/attempts/{}", "/assets/{}/0"):
        theirs, none = [await ann.get(path.format(f"vidgo/{name}") + query) for name in ("t1", "t0")]
        assert (theirs.status_code, theirs.text) == (none.status_code, none.text), path


async def test_a_token_of_several_owners_has_to_say_whose_list_it_wants(
    runtime: Runtime, backend: httpx2.AsyncClient
) -> None:
    for owner in ("team-71", "team-8", "bob"):
        await backend.post("/submissions", json={"provider": "vidgo", "owner": owner, "task_id": owner})
    async with caller(build_app(runtime), GROUP) as group:
        assert (await group.get("/tasks")).status_code == 400
        assert [row["owner"] for row in (await group.get("/tasks?owner=team-71")).json()["tasks"]] == [
            "team-71"
        ]
        assert (await group.get("/tasks?owner=team-8")).status_code == 403
        assert (await group.get("/tasks/vidgo/bob")).status_code == 200
        for task_id, number in (("bob", 1), ("team-71", 1), ("team-8", 0)):  # by an id it need not be said
            assert len((await group.get(f"/tasks?task_id={task_id}")).json()["tasks"]) == number
    assert len((await backend.get("/tasks")).json()["tasks"]) == 3  # a plain token is everybody's


async def test_of_two_tokens_none_counts(stranger: httpx2.AsyncClient) -> None:
    ann, admin = (("authorization", f"Bearer {token}") for token in (ANN, ADMIN_TOKEN))
    assert (await stranger.get("/tasks", headers=[ann])).status_code == 200
    for headers in ([ann, admin], [admin, ann], [ann, ann], [ann, ("authorization", "")]):
        assert (await stranger.get("/tasks", headers=headers)).status_code == 401


@on_both_engines
async def test_what_an_id_leads_to_at_another_owner_shows_in_no_cursor(
    ann: httpx2.AsyncClient, runtime: Runtime, backend: httpx2.AsyncClient
) -> None:
    """Providers count each for themselves: one id may be a task at all four, and of four owners."""
    for provider, owner in (("vidgo", "bob"), ("apidot", "ann"), ("apixo", "team-71"), ("reapi", "bob")):
        await backend.post("/submissions", json={"provider": provider, "owner": owner, "task_id": "7"})
    for query in ("limit=1", "limit=1&owner=bob", "limit=2", "limit=1&state=submitted"):
        document = (await ann.get(f"/tasks?task_id=7&{query}")).json()
        assert document["next_cursor"] is None, query
        assert {row["owner"] for row in document["tasks"]} <= {"ann"}
    async with caller(build_app(runtime), GROUP) as group:
        page, shown = (await group.get("/tasks?task_id=7&limit=2")).json(), []
        while True:
            shown += [(row["provider"], row["owner"]) for row in page["tasks"]]
            if page["next_cursor"] is None:
                break
            page = (await group.get(f"/tasks?task_id=7&limit=2&cursor={page['next_cursor']}")).json()
    assert shown == [("reapi", "bob"), ("apixo", "team-71"), ("vidgo", "bob")]


@on_both_engines
async def test_neither_ids_nor_cursors_tell_an_owner_how_much_others_do(
    ann: httpx2.AsyncClient, runtime: Runtime, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    logged = {}
    for owner, number in (("ann", 1), ("bob", 2), ("bob", 3), ("ann", 4)):
        new = {"provider": "vidgo", "owner": owner, "task_id": f"t{number}"}
        logged[number] = (await backend.post("/submissions", json=new)).json()["id"]
        for note in ("first", "second"):
            body = sample_callback("vidgo", f"t{number}", error=note)
            assert (await backend.post(callback_path(runtime), content=body)).status_code == 200
    cursors = {}
    for path in ("/tasks", "/submissions", "/deliveries/vidgo/t4"):
        cursors[path] = (await ann.get(path, params={"limit": 1})).json()["next_cursor"]
    task = (await ann.get("/tasks/vidgo/t4")).json()

    own = logged[4].removeprefix("sub_")
    assert len(task["deliveries"]) == 2
    for row in (*task["deliveries"], *task["notifications"]):
        assert row["id"][4:].startswith(f"{own}.")
    for path, cursor in cursors.items():
        assert len(cursor) == 64
        assert b"at_" not in base64.urlsafe_b64decode(cursor)
        for other in cursors:
            answer = await ann.get(other, params={"limit": 1, "cursor": cursor})
            assert answer.status_code == (200 if other == path else 400), (path, other)
    assert (await admin.get("/dead-letters", params={"cursor": cursors["/tasks"]})).status_code == 400


async def test_each_act_says_in_the_log_who_did_it_and_from_where(
    ann: httpx2.AsyncClient, admin: httpx2.AsyncClient, log_lines: LogLines
) -> None:
    await ann.post(
        "/submissions", json={"provider": "vidgo", "owner": "ann"}, headers={"x-forwarded-for": "203.0.113.9"}
    )
    await admin.get("/stats")
    await ann.get("/tasks", headers={"x-forwarded-for": "\x1b[2J, nobody"})
    lines = [line for line in log_lines if line["event"] == "request.answered"]
    assert [(line["who"], line["forwarded_for"]) for line in lines] == [
        ("backend ann", "203.0.113.9"),
        ("admin root", None),
        ("backend ann", None),
    ]
    assert {line["peer"] for line in lines} == {"127.0.0.1"}
    assert ANN not in repr(log_lines)


async def test_from_where_is_the_last_word_of_the_proxy_and_not_what_the_sender_wrote(
    ann: httpx2.AsyncClient, log_lines: LogLines
) -> None:
    for lines in (
        ["192.0.2.66, 203.0.113.9"],
        ["192.0.2.66", "203.0.113.9"],
        ["192.0.2.66, 192.0.2.67", "::1"],
    ):
        await ann.get("/tasks", headers=[("x-forwarded-for", line) for line in lines])
    told = [line["forwarded_for"] for line in log_lines if line["event"] == "request.answered"]
    assert told == ["203.0.113.9", "203.0.113.9", "::1"]


async def test_strangers_learn_from_readiness_no_more_than_names_and_whether_all_is_well(
    stranger: httpx2.AsyncClient, admin: httpx2.AsyncClient, runtime: Runtime
) -> None:
    told, known = (await stranger.get("/readyz")).json(), (await admin.get("/readyz")).json()
    assert told["parts"].keys() == known["parts"].keys()
    assert set(told["parts"].values()) <= {"ok", "running", "running, but troubled", "stopped", "failing"}


async def test_settings_are_told_to_admins_alone_and_without_secrets(
    stranger: httpx2.AsyncClient,
    backend: httpx2.AsyncClient,
    ann: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    web_settings: Settings,
) -> None:
    refused = [(await each.get("/settings")).status_code for each in (stranger, backend, ann)]
    assert refused == [401, 403, 403]
    answer = await admin.get("/settings")
    told = answer.json()["settings"]
    assert told["RECEIVER_PUBLIC_URL"] == "https://receiver.test"
    assert told["RECEIVER_API_TOKENS"].startswith("set")
    hidden = (ANN, BOB, GROUP, API_TOKEN, ADMIN_TOKEN, *web_settings.secrets, "team-7")
    assert not [each for each in hidden if each in answer.text]


@pytest.mark.parametrize(
    ("environ", "private"),
    [
        ({}, False),
        ({"PORT": "8080"}, True),
        ({"RECEIVER_HOST": "::1"}, False),
        ({"RECEIVER_HOST": "10.0.0.7"}, True),
        ({"RECEIVER_PUBLIC_URL": "https://hooks.example.com"}, True),  # by a proxy on this machine
        ({"RECEIVER_PUBLIC_URL": "http://localhost:8080/in"}, False),
        ({"RECEIVER_PUBLIC_URL": "https://hooks.example.com", "RECEIVER_METRICS_PRIVATE": "false"}, False),
        ({"PORT": "8080", "RECEIVER_METRICS_PRIVATE": "false"}, False),
        ({"RECEIVER_METRICS_PRIVATE": "true"}, True),
    ],
)
def test_metrics_are_private_wherever_others_can_reach_them(
    environ: dict[str, str], *, private: bool
) -> None:
    assert load_settings(environ).metrics_private is private
