"""What the admin pages show, to whom, and what they never show."""

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import quote

import httpx2
import msgspec
import pytest

from receiver.errors import Unavailable
from receiver.models import KeptBody, SubmissionFilter, TaskState, Verdict, Via
from receiver.record import page_lists, readers
from receiver.record.readers import Purpose
from receiver.runtime import Runtime
from receiver.web.pages import files, log_ins
from receiver.web.pages.all_pages import PAGES
from receiver.web.pages.raw import draw
from receiver.web.pages.redaction import redact, redact_text
from receiver.web.pages.visits import Access
from tests.support import filled_pages
from tests.support.engines import on_both_engines
from tests.support.factories import completed, later, recording, submission
from tests.support.filled_pages import CANARIES, DONE, HOSTILE_OWNER, HOSTILE_TASK, PROMPT, fill
from tests.support.page_callers import VIEWER_TOKEN, mark_in, submit
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
OTHERS = ("task-partial-1", "task-failed-1", "task-open-0")
# Markup of others; a script of ours and a plot are none.
STRANGE = r'<(script(?! src="/admin/static/)|svg(?! class="chart" viewBox)|img src=x)[ >]'
HOSTILE = quote(HOSTILE_TASK, safe="")


@pytest.fixture
def environment() -> dict[str, str]:
    return {**filled_pages.ENVIRONMENT, "RECEIVER_VIEWER_TOKENS": VIEWER_TOKEN}


@pytest.fixture
async def filled(runtime: Runtime, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    await fill(runtime, backend, admin)


async def every_page(runtime: Runtime) -> list[str]:
    """An address of each page, and of lists with each filter."""
    replays = await runtime.store.list_replays(1)
    verdicts = ("early", "unowned", "refused", "conflict", "unrecognised", "unconfirmed", "turned-away")
    unbound = await runtime.store.list_submissions(SubmissionFilter(bound=False), 1, None)
    return [
        *(page.path for page in PAGES if page.method == "GET" and "{" not in page.path and page.menu),
        *(f"/admin/tasks?state={state.value}" for state in TaskState),
        "/admin/tasks?view=grid",
        "/admin/tasks?provider=vidgo&since=2h",
        f"/admin/tasks?owner={quote(HOSTILE_OWNER)}",
        *(f"/admin/deliveries?verdict={verdict}" for verdict in verdicts),
        "/admin/dead-letters?sink=app",
        "/admin/costs?by=owner,model,day,token",
        f"/admin/costs?owner={quote(HOSTILE_OWNER)}&since=6d",
        *(f"/admin/sinks/{name}" for name in runtime.sinks),
        *(f"/admin/submissions/{each.id}" for each in unbound.submissions),
        *(f"/admin/providers/{name}" for name in ("vidgo", "reapi")),
        *(f"/admin/tasks/vidgo/{quote(each, safe='')}" for each in (DONE, HOSTILE_TASK, *OTHERS)),
        *(
            f"/admin/tasks/vidgo/{quote(each, safe='')}?callbacks=1"
            for each in (DONE, HOSTILE_TASK, OTHERS[2])
        ),
        *(f"/admin/replays/{replay.id}" for replay in replays),
    ]


@on_both_engines
async def test_no_page_holds_a_secret_or_runs_what_others_wrote(
    filled: None, runtime: Runtime, person: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    said = "CANARYprompt"
    for who in (person, viewer):
        for place in await every_page(runtime):
            answer = await who.get(place)
            if who is viewer and place in {"/admin/doctor", "/admin/settings", "/admin/audit"}:
                assert answer.status_code == 403
                continue
            assert answer.status_code == 200, place
            page = answer.text
            for canary in (*CANARIES, ADMIN_TOKEN, API_TOKEN, VIEWER_TOKEN):
                assert canary not in page, place
            if who is viewer or "task-failed-1" not in place:
                assert said not in page, place
            assert not re.search(STRANGE, page), place
            assert "\u202e" not in page, place
            assert "49" not in re.findall(r"a/b[^<]{0,80}", unescape(page)), place
            assert "/callbacks/" not in page, place
            assert "signature=" not in page, place


@on_both_engines
async def test_every_page_of_an_empty_record_says_that_there_is_nothing(
    runtime: Runtime, person: httpx2.AsyncClient
) -> None:
    texts = {}
    for page in PAGES:
        if page.method == "GET" and page.menu:
            answer = await person.get(page.path)
            assert answer.status_code == 200, page.path
            texts[page.path] = answer.text
    assert "No task matches" in texts["/admin/tasks"]
    assert "No file waits" in texts["/admin/assets"]
    assert "Every reservation is bound" in texts["/admin/submissions"]
    assert "No dead letters" in texts["/admin/dead-letters"]
    assert "Nothing was ever replayed" in texts["/admin/replays"]
    assert "No order went through" in texts["/admin/costs"]
    assert "No budget is set" in texts["/admin/costs"]
    assert "Nothing came yet" in texts["/admin/"]


@on_both_engines
async def test_a_list_shows_what_its_address_asks_for(filled: None, person: httpx2.AsyncClient) -> None:
    async def tasks(query: str) -> list[str]:
        page = (await person.get(f"/admin/tasks?{query}")).text
        return [unescape(each) for each in re.findall(r'<span class="id">([^<]+)</span></a></th>', page)]

    assert await tasks("state=failed") == ["task-bound-1", "task-failed-1"]
    assert await tasks("state=partial") == ["task-partial-1"]
    assert await tasks("owner=user-9") == ["task-failed-1", "task-partial-1"]
    assert await tasks("owner=user-9&state=failed") == ["task-failed-1"]
    assert await tasks("until=1d") == []
    assert len(await tasks("since=1d")) == 8
    early = (await person.get("/admin/deliveries?verdict=early")).text
    assert "task-early-1" in early
    refused = (await person.get("/admin/deliveries?verdict=refused")).text
    assert "task-bound-1" in refused
    assert "connect_failed" in (await person.get("/admin/dead-letters?sink=app")).text
    assert "may be on its way" in (await person.get("/admin/submissions")).text


async def test_a_wrong_filter_is_told_at_its_field(person: httpx2.AsyncClient) -> None:
    for query, words in (
        ("state=gone", "submitted, fetching"),
        ("provider=nobody", "vidgo"),
        ("since=yesterday", "30m"),
        ("since=1h&until=2h", "later than since"),
    ):
        answer = await person.get(f"/admin/tasks?{query}")
        assert answer.status_code == 400, query
        assert words in answer.text
    assert (await person.get("/admin/tasks?cursor=nonsense")).status_code == 400
    assert (await person.get("/admin/deliveries?verdict=accepted")).status_code == 400


@on_both_engines
async def test_one_task_is_told_whole_to_admins_and_without_others_words_to_viewers(
    filled: None, person: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    whole, part = [(await who.get(f"/admin/tasks/vidgo/{DONE}")).text for who in (person, viewer)]
    for page in (whole, part):
        for words in ("completed", "gpt-image-2", "callback received", "asset 0", "submitted", "sub_"):
            assert words in page
    assert "/admin/originals/0/vidgo/" in whole
    assert "/admin/originals/" not in part
    assert "[link: shop.example, .png]" in unescape(whole)
    assert "[hidden]" in whole
    assert "shop.example" not in part
    failed, seen = [(await who.get("/admin/tasks/vidgo/task-failed-1")).text for who in (person, viewer)]
    assert PROMPT in failed
    assert PROMPT not in seen
    assert (await person.get("/admin/tasks/vidgo/nothing")).status_code == 404
    assert (await person.get("/admin/tasks/nobody/nothing")).status_code == 404


@on_both_engines
async def test_what_a_provider_sent_is_drawn_anew_for_admins_alone(
    filled: None, person: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    place = f"/admin/tasks/vidgo/{DONE}"
    assert "?callbacks=1" in (await person.get(place)).text
    drawn = unescape((await person.get(f"{place}?callbacks=1")).text)
    assert f'"task_id": "{DONE}"' in drawn
    assert '"[link: 127.0.0.1, .png]"' in drawn
    failed = unescape((await person.get("/admin/tasks/vidgo/task-failed-1?callbacks=1")).text)
    section = failed[failed.index('id="callbacks"') :]
    assert "characters]" in section
    assert PROMPT not in section
    seen = (await viewer.get(f"{place}?callbacks=1")).text
    assert "What the provider sent" not in seen
    assert "[link" not in seen


def test_what_is_no_document_is_said_to_be_none() -> None:
    kept = KeptBody(
        via=Via.CALLBACK,
        verdict=Verdict.UNRECOGNISED,
        digest="ab" * 32,
        size=4,
        received_at=datetime(2026, 11, 29, tzinfo=UTC),
        body=b"\xff\x00\x01\x02",
    )
    assert "abababab" in draw(kept).why
    assert draw(kept).text is None
    assert "not kept" in draw(msgspec.structs.replace(kept, body=None, size=0)).why
    assert "too large" in draw(msgspec.structs.replace(kept, body=None, size=10**7)).why
    long = json.dumps([1] * 1000).encode()
    drawn = draw(msgspec.structs.replace(kept, body=long))
    assert (len((drawn.text or "").splitlines()), drawn.left_out) == (200, 802)
    form = draw(msgspec.structs.replace(kept, body=b"id=7&token=abc&scale=1.5"))
    assert '"token": "[hidden]"' in (form.text or "")
    assert "1.5" in (draw(msgspec.structs.replace(kept, body=b'{"scale": 1.5}')).text or "")


@on_both_engines
async def test_originals_are_for_admins_and_end_with_their_reader(
    filled: None, person: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    for task in (DONE, HOSTILE):
        answer = await person.get(f"/admin/originals/0/vidgo/{task}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["cache-control"] == "private, max-age=3600"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert (await viewer.get(f"/admin/originals/0/vidgo/{DONE}")).status_code == 403
    for wrong in (f"9/vidgo/{DONE}", "0/vidgo/nothing", f"x/vidgo/{DONE}", "1/vidgo/task-partial-1"):
        assert (await person.get(f"/admin/originals/{wrong}")).status_code == 404
    large = (await person.get(f"/admin/tasks/vidgo/{DONE}?file=1")).text
    assert "?file=0" in large
    assert "?file=2" not in large


@on_both_engines
async def test_anything_is_found_by_its_id_and_a_url_leaves_nothing_behind(
    filled: None, runtime: Runtime, backend: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    shown = (await backend.get(f"/tasks/vidgo/{DONE}")).json()
    replay = (await runtime.store.list_replays(1))[0].id
    where = f"/admin/tasks/vidgo/{DONE}"
    for typed in (
        DONE,
        DONE[:20],
        f"vidgo/{DONE}",
        f"vidgo/{DONE}/0.png",
        shown["submission_id"],
        shown["event_id"],
        shown["deliveries"][0]["id"],
        shown["notifications"][0]["id"],
        shown["assets"][0]["url"],
        f"https://receiver.test/callbacks/vidgo/s.{shown['submission_id']}.{'x' * 32}",
    ):
        answer = await submit(viewer, "/admin/find", {"q": typed})
        assert (answer.status_code, answer.headers.get("location")) == (303, where), typed
    for typed, place in ((replay, f"/admin/replays/{replay}"), ("user-9", "/admin/tasks?owner=user-9")):
        assert (await submit(viewer, "/admin/find", {"q": typed})).headers["location"] == place
    assert (await viewer.get(f"/admin/find?q={DONE}")).headers["location"] == where
    several = await submit(viewer, "/admin/find", {"q": "task-open"})
    assert several.text.count("/admin/tasks/vidgo/task-open-") == 3
    for typed in (
        "nothing-of-the-kind",
        "sub_1",
        "rpl_1",
        "dlv_1",
        "",
        "https://receiver.test/callbacks/vidgo/p.x",
    ):
        assert (await submit(viewer, "/admin/find", {"q": typed})).status_code == 404, typed
    refused = await viewer.get("/admin/find", params={"q": shown["assets"][0]["url"]})
    assert refused.status_code == 400
    assert "signature" not in refused.text


async def test_a_reservation_is_found_though_it_has_no_task(
    filled: None, runtime: Runtime, viewer: httpx2.AsyncClient, backend: httpx2.AsyncClient
) -> None:
    (row, *_) = (await backend.get("/submissions?bound=false")).json()["submissions"]
    answer = await submit(viewer, "/admin/find", {"q": row["id"]})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/admin/submissions/{row['id']}")
    assert "was bound to it since" in (await viewer.get(answer.headers["location"])).text


async def test_a_part_that_is_late_says_so_and_the_rest_stands(
    filled: None, runtime: Runtime, person: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(*_: object) -> None:
        raise Unavailable("too late")

    for name in ("list_pending_files", "list_tasks", "list_dead", "list_odd", "list_replays"):
        monkeypatch.setattr(type(runtime.store.pages), name, late)
    for place in ("/admin/", "/admin/tasks", "/admin/dead-letters", "/admin/deliveries", "/admin/replays"):
        answer = await person.get(place)
        assert answer.status_code == 200
        assert "Not known now" in answer.text
        assert "</main>" in answer.text


async def test_a_store_that_is_away_is_a_503_without_anything_in_it(
    runtime: Runtime, person: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(type(runtime.store.pages), "get_session", away)
    answer = await person.get("/admin/tasks")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "Log out" not in answer.text


async def test_while_the_store_is_away_whoever_was_looking_sees_what_memory_knows(
    runtime: Runtime, person: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise Unavailable("away")

    mark = mark_in((await person.get("/admin/")).text)
    monkeypatch.setattr(type(runtime.store.pages), "_read", away)
    answer = await person.get("/admin/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "What runs" in answer.text
    assert "Log out" in answer.text
    assert "Not known now" in answer.text
    done = await person.post("/admin/sessions/end", data={"mark": mark, "all": "true"})
    assert done.status_code == 503  # whoever acts is looked up
    monkeypatch.setattr(log_ins, "REMEMBERED", timedelta())
    assert "Log out" not in (await person.get("/admin/")).text


async def test_each_part_is_ended_after_a_quarter_of_a_second(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "PAGE_SECONDS", 0.25)
    with pytest.raises(Unavailable):
        await runtime.store.pages._readers.read(lambda c: c.execute(ENDLESS).fetchone(), Purpose.PAGE)  # type: ignore[attr-defined]
    assert await runtime.store.pages.list_replays(1) == []


@on_both_engines
async def test_the_links_that_die_first_are_found_among_however_many_files(
    runtime: Runtime, person: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_lists, "MOST_LOOKED_AT", 3)
    monkeypatch.setattr(files, "COUNTED", 3)
    monkeypatch.setattr(files, "ROWS", 2)
    for number in range(6):
        await runtime.store.log_submission(submission(f"t{number}"))
        ended = recording(completed(f"t{number}"), links_die_at=later(9_000 - number))
        await runtime.store.record(ended)
    found = await runtime.store.pages.list_pending_files(2)
    assert [each.task_id for each in found] == ["t5", "t4"]
    assert "The first 2 of more than 3." in (await person.get("/admin/assets")).text


@on_both_engines
async def test_a_list_looks_through_so_many_rows_and_says_how_far_back(
    runtime: Runtime, backend: httpx2.AsyncClient, person: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_lists, "MOST_LOOKED_AT", 10)
    for number in range(25):
        provider = "vidgo" if number == 0 else "apixo"
        body = {"provider": provider, "owner": "user-1", "task_id": f"t{number}"}
        (await backend.post("/submissions", json=body)).raise_for_status()
    place, seen = "/admin/tasks?owner=user-1&provider=vidgo", 0
    while True:
        page = (await person.get(place)).text
        if "vidgo <span" in page:
            break
        assert "Look further back" in page
        assert re.search(r"among those logged since|Nothing more back to", page)
        place, seen = unescape(re.findall(r'href="([^"]+)">Look further back', page)[0]), seen + 1
    assert seen == 2


async def test_no_page_links_to_what_is_not_there(
    filled: None, runtime: Runtime, person: httpx2.AsyncClient
) -> None:
    links = set()
    for place in await every_page(runtime):
        links |= set(re.findall(r'(?:href|src)="(/[^"#]+)"', (await person.get(place)).text))
    for link in sorted(map(unescape, links)):
        assert (await person.get(link)).status_code in {200, 303}, link


async def test_what_is_for_admins_is_in_no_viewers_menu(viewer: httpx2.AsyncClient) -> None:
    menu = (await viewer.get("/admin/help")).text
    for page in PAGES:
        if page.menu:
            assert (f'href="{page.path}"' in menu) is (page.access is not Access.ADMIN)


def test_a_document_from_outside_loses_links_secrets_and_long_texts() -> None:
    document = {
        "url": "https://cdn.example:8443/a/b.png?sig=1",
        "nested": [{"apiKey": 7, "Authorization": "x", "note": "see http://u:p@h.example/x"}],
        "prompt": "a cat",
        "long": "x" * 201,
        "flag": True,
        "none": None,
        "size": 3,
        "resultJson": '{"token": "abc", "files": ["https://cdn.example/x.png"], "scale": 1}',
        "input": {"scene": "a cat in the rain", "seed": 4},
        "auth": [{"user": "ann"}],
        "inline": "data:image/png;base64,iVBORw0KGgo=",
        "x" * 300: 1,
    }
    assert redact(document) == {
        "url": "[link: cdn.example, .png]",
        "nested": [{"apiKey": "[hidden]", "Authorization": "[hidden]", "note": "see [link: h.example]"}],
        "prompt": "[5 characters]",
        "long": "[201 characters]",
        "flag": True,
        "none": None,
        "size": 3,
        "resultJson": {"token": "[hidden]", "files": ["[link: cdn.example, .png]"], "scale": 1},
        "input": {"scene": "[17 characters]", "seed": 4},
        "auth": [{"user": "[hidden]"}],
        "inline": "[data]",
        "[300 characters]": 1,
    }
    assert redact_text("at https://[::1/x and ftp://h/y.tar") == "at [link] and [link: h, .tar]"
    assert redact_text("no answer from https://h/y?k=1: refused. See http://h/z.") == (
        "no answer from [link: h]: refused. See [link: h]."
    )
