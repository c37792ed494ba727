"""The simulator's faults over a real port: each happens, to whom it should, and again for the same seed."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx2
import msgspec
import pytest

from receiver import payload
from receiver.errors import Misconfigured
from receiver.models import Report, ReportState
from receiver.simulator import Faults, SimulatorOptions
from receiver.simulator.faults import Failure, Fate, Simulate, decide
from receiver.simulator.images import SIZES, draw
from receiver.simulator.throttle import Throttle
from tests.support.playing import PROVIDERS, PUSHING, Backend, id_in, playing
from tests.support.waiting import until

FAILURE = Failure(code=None, message="no")


def options(faults: Faults, **more: Any) -> SimulatorOptions:
    quick = {"task_seconds": 0.0, "retry_factor": 0.01, "picture_pixels": 64}
    return SimulatorOptions(faults=faults, **quick | more)


def told(body: bytes, provider: str = "vidgo") -> Report:
    return PROVIDERS[provider].parse(payload.decode(body))


def told_by(ids: Mapping[str, str], body: bytes) -> Report:
    """What a callback says, whichever of the providers with these tasks sent it."""
    [report] = [report for name, task_id in ids.items() if (report := told(body, name)).task_id == task_id]
    return report


async def truths(backend: Backend) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await backend.http.get("/truth")).json()
    return found


async def submit_many(backend: Backend, count: int, provider: str = "vidgo") -> list[str]:
    answers = [await backend.submit(provider) for _ in range(count)]
    return [id_in(provider, answer) for answer in answers]


# --- callbacks ----------------------------------------------------------------------------------------


async def test_a_dropped_callback_never_comes_though_the_task_ended() -> None:
    async with playing(options(Faults(drop=1.0))) as backend:
        for provider in PUSHING:
            report = await backend.ended(provider, id_in(provider, await backend.submit(provider)))
            assert report.state is ReportState.COMPLETED
        await asyncio.sleep(0.1)
        assert backend.bodies == []
        assert (await backend.truth())["simulate"]["drop_callback"] is True


async def test_duplicates_come_two_or_three_times_at_once_and_later() -> None:
    async with playing(options(Faults(duplicate=1.0))) as backend:
        ids = await submit_many(backend, 12)
        wanted = {task["task_id"]: task["simulate"]["duplicate"] for task in await truths(backend)}
        bodies = await backend.called(sum(wanted.values()))
        assert {task_id: [told(body).task_id for body in bodies].count(task_id) for task_id in ids} == wanted
        assert set(wanted.values()) == {2, 3}
        assert len(set(bodies)) == 12
        assert len({task["simulate"]["repeated_later"] for task in await truths(backend)}) > 1


async def test_a_late_callback_finds_a_task_that_a_status_answer_ended_already() -> None:
    async with playing(options(Faults())) as backend:
        task_id = id_in("vidgo", await backend.submit("vidgo", late_seconds=0.5))
        report = await backend.ended("vidgo", task_id)
        assert told((await backend.called(1))[0]) == report
        truth = await backend.truth(lambda task: task["callbacks"])
        ended, sent = map(datetime.fromisoformat, (truth["ended_at"], truth["callbacks"][0]["sent_at"]))
        assert (sent - ended).total_seconds() >= 0.49  # to the millisecond


async def test_delay_mixes_the_order_of_callbacks() -> None:
    async with playing(options(Faults(delay=2.0))) as backend:
        ids = await submit_many(backend, 12)
        came = [told(body).task_id for body in await backend.called(12)]
        assert sorted(map(str, came)) == sorted(ids)
        assert came != ids
        assert all(0 <= task["simulate"]["late_seconds"] <= 2.0 for task in await truths(backend))


@pytest.mark.parametrize("provider", PUSHING)
async def test_a_reordered_callback_is_overtaken_and_followed_by_progress(provider: str) -> None:
    async with playing(options(Faults())) as backend:
        first = id_in(provider, await backend.submit(provider, reorder=True))
        await backend.ended(provider, first)
        second = id_in(provider, await backend.submit(provider))
        came = [told(body, provider) for body in await backend.called(3)]
        assert [(report.task_id, report.state) for report in came] == [
            (second, ReportState.COMPLETED),
            (first, ReportState.COMPLETED),
            (first, ReportState.PROGRESS),
        ]


async def test_a_reordered_callback_that_nobody_overtakes_comes_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("receiver.simulator.callbacks.OVERTAKEN_WITHIN_SECONDS", 0.1)
    async with playing(options(Faults(reorder=1.0))) as backend:
        await backend.submit("vidgo")
        states = [told(body).state for body in await backend.called(2)]
        assert states == [ReportState.COMPLETED, ReportState.PROGRESS]
        truth = await backend.truth(lambda task: task["late_progress"])
        assert (len(truth["callbacks"]), len(truth["late_progress"])) == (1, 1)


async def test_a_task_that_fails_by_share_has_its_providers_error() -> None:
    policy = {"code": None, "message": "The prompt violates our content policy"}
    errors: dict[str, dict[str, Any]] = {
        "vidgo": policy,
        "apidot": policy,
        "apixo": {"code": "CONTENT_VIOLATION", "message": "Content violates usage policy"},
        "reapi": {"code": 80006, "message": "Request violates content policy"},
    }
    async with playing(options(Faults(fail=1.0))) as backend:
        for provider, error in errors.items():
            report = await backend.ended(provider, id_in(provider, await backend.submit(provider)))
            assert (report.state, report.error_message) == (ReportState.FAILED, error["message"])
            assert report.error_code == (None if error["code"] is None else str(error["code"]))
            truth = await backend.truth()
            assert (truth["state"], truth["error"], truth["files"]) == ("failed", error, [])


# --- forgeries ----------------------------------------------------------------------------------------


async def test_a_forged_callback_comes_before_the_end_and_its_files_are_counted_when_fetched() -> None:
    async with playing(options(Faults(forge=1.0, fail=1.0), task_seconds=5.0)) as backend:
        ids = {name: id_in(name, await backend.submit(name, count=2)) for name in PUSHING}
        lies = [told_by(ids, body) for body in await backend.called(3)]
        answers = [await backend.ask(name, task_id) for name, task_id in ids.items()]
        assert {lie.task_id for lie in lies} == set(ids.values())
        assert {(lie.state, len(lie.files)) for lie in lies} == {(ReportState.COMPLETED, 2)}
        running = [told(answer.content, name) for name, answer in zip(PUSHING, answers, strict=True)]
        assert {report.state for report in running} == {ReportState.PROGRESS}

        ends = [told_by(ids, body) for body in (await backend.called(6))[3:]]
        assert {report.state for report in ends} == {ReportState.FAILED}
        truth = await backend.truth(lambda task: task["callbacks"])
        assert truth["task_id"] == ids["apixo"]
        assert (truth["forged"], len(truth["forgeries"]), len(truth["callbacks"])) == (True, 1, 1)
        assert truth["forged_fetches"] == 0
        [lie] = [lie for lie in lies if lie.task_id == truth["task_id"]]
        for file in lie.files:
            assert (await backend.http.get(file.url)).headers["content-type"].startswith("image/")
        assert [task["forged_fetches"] for task in await truths(backend)] == [0, 0, 2]


async def test_a_forged_callback_may_come_to_another_url_than_the_orders_own() -> None:
    async with playing(options(Faults())) as backend:
        order = {"model": "gpt-4o-image", "input": {"prompt": "hills"}}
        wrong = order | {"simulate": {"forge_url": "https://example.com/"}}
        assert (await backend.http.post("/vidgo/api/generate/submit", json=wrong)).status_code == 400
        lied_to = order | {"simulate": {"forge_url": backend.callback_url}}
        await backend.http.post("/vidgo/api/generate/submit", json=lied_to)
        [lie] = await backend.called(1)
        assert told(lie).state is ReportState.COMPLETED
        truth = await backend.truth(lambda task: task["ended_at"])
        assert (truth["forged"], truth["callbacks"]) == (True, [])


async def test_without_a_callback_url_nothing_is_forged() -> None:
    async with playing(options(Faults(forge=1.0))) as backend:
        await backend.ended("reapi", id_in("reapi", await backend.submit("reapi")))
        assert (await backend.truth())["forged"] is False


# --- links --------------------------------------------------------------------------------------------


async def test_a_dying_link_answers_403_after_its_life_and_a_status_answer_gives_a_fresh_one() -> None:
    async with playing(options(Faults(dying_links=4.0))) as backend:
        ids = {name: id_in(name, await backend.submit(name)) for name in PROVIDERS}
        old = {name: (await backend.ended(name, ids[name])).files[0].url for name in PROVIDERS}
        assert [(await backend.http.get(url)).status_code for url in old.values()] == [200] * 4
        await asyncio.sleep(4.0)
        assert [(await backend.http.get(url)).status_code for url in old.values()] == [403] * 4
        for provider, url in old.items():
            [fresh] = (await backend.ended(provider, ids[provider])).files
            assert (await backend.http.get(fresh.url)).status_code == 200
            assert fresh.url != url
            assert httpx2.URL(fresh.url).path == httpx2.URL(url).path
        assert httpx2.URL((await backend.truth())["files"][0]["url"]).path == httpx2.URL(url).path


async def test_nobody_can_lengthen_the_life_of_a_link() -> None:
    async with playing(options(Faults(dying_links=60.0))) as backend:
        [file] = (await backend.ended("vidgo", id_in("vidgo", await backend.submit("vidgo")))).files
        bare, _, query = file.url.partition("?")
        signature = query.partition("&")[2]
        for url in (
            bare,
            f"{bare}?expires=9999999999.000&{signature}",
            f"{bare}?{signature}",
            f"{file.url}0",
        ):
            assert (await backend.http.get(url)).status_code == 403


async def test_links_that_are_dead_on_arrival_can_be_had_from_the_status_endpoint() -> None:
    async with playing(options(Faults(dead_links=1.0))) as backend:
        for calls, provider in enumerate(PUSHING, start=1):
            task_id = id_in(provider, await backend.submit(provider, count=2))
            dead = told((await backend.called(calls))[-1], provider).files
            fresh = (await backend.ended(provider, task_id)).files
            assert [(await backend.http.get(file.url)).status_code for file in dead] == [403, 403]
            assert [(await backend.http.get(file.url)).status_code for file in fresh] == [200, 200]


# --- the status endpoint ------------------------------------------------------------------------------


async def test_beyond_the_rate_limit_everybody_is_told_when_to_ask_again_and_then_gets_through() -> None:
    async with playing(options(Faults(rate_limit=60))) as backend:
        ids = {name: id_in(name, await backend.submit(name)) for name in PROVIDERS}
        waits, said = [], {}
        for provider, task_id in ids.items():
            answers = [await backend.ask(provider, task_id) for _ in range(20)]
            refused = [answer for answer in answers if answer.status_code != 200]
            assert {answer.status_code for answer in refused} == {429}
            said[provider] = essence(provider, refused[-1])
            waits.append(int(refused[-1].headers["retry-after"]))
        assert said == {
            "vidgo": 429,
            "apidot": "rate_limited",
            "apixo": (429, "Rate limit exceeded"),
            "reapi": 50001,
        }
        await asyncio.sleep(max(waits))
        again = [await backend.ask(provider, task_id) for provider, task_id in ids.items()]
        assert [answer.status_code for answer in again] == [200] * 4


def test_the_limit_is_kept_over_any_minute_and_a_wait_as_told_is_enough() -> None:
    now, answered = [0.0], 0
    throttle = Throttle(600, monotonic=lambda: now[0])
    for _ in range(6_000):  # ten times as often, for a minute
        answered += throttle.wait_seconds() == 0
        now[0] += 0.01
    assert 600 <= answered <= 660
    while not (wait := throttle.wait_seconds()):
        pass
    now[0] += wait
    assert throttle.wait_seconds() == 0


async def test_providers_out_of_credit_refuse_questions_in_their_own_words() -> None:
    async with playing(options(Faults(), out_of_credit=frozenset(PROVIDERS))) as backend:
        said = {}
        for provider in PROVIDERS:
            answer = await backend.ask(provider, id_in(provider, await backend.submit(provider)))
            assert answer.status_code == 402
            said[provider] = essence(provider, answer)
    assert said == {
        "vidgo": 402,
        "apidot": "insufficient_credits",
        "apixo": (402, "Insufficient credits"),
        "reapi": 30001,
    }


async def test_one_provider_out_of_credit_is_no_matter_to_another() -> None:
    async with playing(options(Faults(), out_of_credit=frozenset({"vidgo"}))) as backend:
        answer = await backend.ask("apidot", id_in("apidot", await backend.submit("apidot")))
        assert answer.status_code == 200


def essence(provider: str, refusal: httpx2.Response) -> object:
    """What a provider's own words for a refusal come down to."""
    body = refusal.json()
    match provider:
        case "vidgo":
            return body["code"]
        case "apidot":
            return body["error"]["type"]
        case "apixo":
            return body["code"], body["message"]
        case _:
            return body["error"]["code"]


# --- whom it hits -------------------------------------------------------------------------------------


def fates(faults: Faults, count: int = 300, asked: Simulate | None = None) -> Sequence[Fate]:
    return [decide(asked or Simulate(), faults, number, 2.0, FAILURE) for number in range(count)]


EVERYTHING = Faults(
    drop=0.3, duplicate=0.3, delay=5.0, reorder=0.2, fail=0.1, forge=0.1, dead_links=0.2, dying_links=3.0
)  # fmt: skip


async def test_a_run_is_repeated_by_its_seed() -> None:
    faults = msgspec.structs.replace(EVERYTHING, seed=5, delay=0.0)
    runs = []
    for _ in range(2):
        async with playing(options(faults)) as backend:
            await submit_many(backend, 20)
            runs.append([task["simulate"] for task in await truths(backend)])
    assert runs[0] == runs[1]
    assert fates(EVERYTHING) != fates(msgspec.structs.replace(EVERYTHING, seed=1))


def test_shares_are_met() -> None:
    drawn = fates(EVERYTHING, 2_000)
    for share, hit in (
        (0.3, [fate.drop_callback for fate in drawn]),
        (0.3, [fate.duplicate > 1 for fate in drawn]),
        (0.2, [fate.reorder for fate in drawn]),
        (0.1, [fate.outcome == "failed" for fate in drawn]),
        (0.1, [fate.forge for fate in drawn]),
        (0.2, [fate.dead_links for fate in drawn]),
    ):
        assert sum(hit) / 2_000 == pytest.approx(share, abs=0.03)


def test_raising_one_share_adds_to_whom_it_hits_and_leaves_all_else() -> None:
    before, after = fates(EVERYTHING), fates(msgspec.structs.replace(EVERYTHING, drop=0.6))
    for old, new in zip(before, after, strict=True):
        assert new in (old, msgspec.structs.replace(old, drop_callback=True))
    assert sum(fate.drop_callback for fate in after) > sum(fate.drop_callback for fate in before)


async def test_what_a_submission_asks_for_wins_over_the_run() -> None:
    faults = Faults(drop=1, duplicate=1, delay=9, reorder=1, fail=1, forge=1, dead_links=1)
    plain: dict[str, Any] = {
        "outcome": "completed",
        "duplicate": 1,
        "late_seconds": 0,
        "drop_callback": False,
        "reorder": False,
        "forge": False,
        "dead_links": False,
    }
    async with playing(options(faults)) as backend:
        await backend.submit("vidgo", **plain)
        [body] = await backend.called(1)
        [file] = told(body).files
        assert (await backend.http.get(file.url)).status_code == 200
        await asyncio.sleep(0.1)
        assert len(backend.bodies) == 1


async def test_an_early_callback_is_early_whatever_the_run_does() -> None:
    faults = Faults(drop=1.0, delay=60.0, reorder=1.0)
    async with playing(options(faults, task_seconds=60.0)) as backend:
        await backend.submit("vidgo", call_before_answer=True)
        assert told(backend.bodies[0]).state is ReportState.COMPLETED


@pytest.mark.parametrize(
    "wrong", [{"drop": 30}, {"fail": -0.1}, {"forge": float("nan")}, {"delay": -1}, {"rate_limit": -1}]
)
def test_a_share_that_is_none_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match=next(iter(wrong))):
        Faults(**wrong)


async def test_a_burst_with_everything_going_wrong_reaches_whom_it_should() -> None:
    faults = msgspec.structs.replace(EVERYTHING, delay=0.2)
    async with playing(options(faults, task_seconds=0.2)) as backend:
        await asyncio.gather(*(submit_many(backend, 15, PUSHING[worker % 3]) for worker in range(8)))

        async def all_told() -> list[dict[str, Any]] | None:
            tasks = await truths(backend)
            return tasks if all(is_told(task) for task in tasks) else None

        tasks = await until(all_told)
    assert [task["number"] for task in tasks] == list(range(120))
    assert all(task["forged"] == task["simulate"]["forge"] for task in tasks)
    calls = sum(
        len(task["callbacks"]) + len(task["late_progress"]) + len(task["forgeries"]) for task in tasks
    )
    assert len(backend.bodies) == calls


def is_told(task: dict[str, Any]) -> bool:
    """Whether its provider has sent all that it means to send."""
    fate = task["simulate"]
    if fate["drop_callback"]:
        return task["ended_at"] is not None
    sent = len(task["callbacks"]), len(task["late_progress"])
    return sent == (fate["duplicate"], fate["reorder"])


# --- pictures -----------------------------------------------------------------------------------------


def test_small_pictures_keep_their_proportions_and_differ() -> None:
    small = [draw(f"task-{number}", 0, 64) for number in range(12)]
    assert {(each.width, each.height) for each in small} <= {
        (w * 64 // 1024, h * 64 // 1024) for w, h in SIZES
    }
    assert len({each.content for each in small}) == 12
