"""Several keys of one provider: each order goes out with one, and is asked about with that one."""

import msgspec
import pytest
from starlette.types import ASGIApp

from receiver.config.settings import Settings
from receiver.health.key_probe import probe_keys
from receiver.models import GatewayKeys, Outcome
from receiver.plugins import load_providers
from receiver.runtime import Runtime, open_runtime
from receiver.testing import sample_callback
from receiver.web.app import build_app
from tests.gateway.test_orders import ANSWER, TASK, order
from tests.support.engines import on_both_engines
from tests.support.order_host import OrderHost, tells
from tests.support.places import SAMPLES
from tests.support.waiting import until
from tests.support.web_callers import API_TOKEN, caller

FIRST, SECOND = "the-first-providers-key", "the-second-providers-key"
STATUS = f"/gateway/vidgo/api/generate/status/{TASK}"
RUNNING = (SAMPLES / "vidgo-status-running.json").read_bytes()


@pytest.fixture
def gateway_settings() -> dict[str, str]:
    return {"VIDGO_API_KEY": f"{FIRST},{SECOND}", "VIDGO_FIRST_POLL_SECONDS": "0"}


def questions(upstream: OrderHost) -> list[str]:
    """The keys that the provider was asked with."""
    return [sent.headers["authorization"] for sent in upstream.sent if sent.method == "GET"]


@on_both_engines
async def test_each_order_goes_out_with_the_key_that_was_shown_and_is_polled_with_it(
    app: ASGIApp, upstream: OrderHost
) -> None:
    upstream.answers, upstream.otherwise = [tells(ANSWER)], tells(RUNNING)
    async with caller(app, SECOND) as client:
        assert (await order(client)).status_code == 200
    assert upstream.orders[0].headers["authorization"] == f"Bearer {SECOND}"
    await until(lambda: bool(questions(upstream)))
    assert set(questions(upstream)) == {f"Bearer {SECOND}"}


async def test_another_keys_task_is_the_providers_to_tell_in_pass_mode(
    app: ASGIApp, upstream: OrderHost
) -> None:
    upstream.answers, upstream.otherwise = [tells(ANSWER)], tells({"code": 404, "message": "theirs"}, 404)
    async with caller(app, SECOND) as second, caller(app, FIRST) as first:
        await order(second)
        answer = await first.get(STATUS)
    assert (answer.status_code, answer.json()["message"]) == (404, "theirs")
    assert f"Bearer {FIRST}" in questions(upstream)


async def test_a_key_that_is_taken_away_leaves_its_tasks_waiting_for_it(
    web_settings: Settings, upstream: OrderHost
) -> None:
    upstream.answers, upstream.otherwise = [tells(ANSWER)], tells(RUNNING)
    async with (
        open_runtime(web_settings, work=frozenset()) as before,
        caller(build_app(before), SECOND) as client,
    ):
        await order(client)
    vidgo = msgspec.structs.replace(web_settings.providers["vidgo"], api_keys=(FIRST,))
    without = msgspec.structs.replace(web_settings, providers={**web_settings.providers, "vidgo": vidgo})
    async with open_runtime(without) as after, caller(build_app(after), API_TOKEN) as backend:

        async def waits_for_it() -> bool:
            task = (await backend.get(f"/tasks/vidgo/{TASK}")).json()
            return str(task["waiting_on"]).endswith("last: key_gone")

        await until(waits_for_it)
    assert questions(upstream) == []


async def test_where_keys_are_held_the_first_one_goes_up(web_settings: Settings, upstream: OrderHost) -> None:
    upstream.answers = [tells(ANSWER)]
    holding = msgspec.structs.replace(web_settings, gateway_keys=GatewayKeys.HOLD)
    async with open_runtime(holding) as runtime, caller(build_app(runtime), API_TOKEN) as backend:
        assert (await order(backend)).status_code == 200
    assert upstream.orders[0].headers["authorization"] == f"Bearer {FIRST}"


async def test_a_probe_tries_each_key_and_tells_the_one_that_is_refused(
    web_settings: Settings, upstream: OrderHost
) -> None:
    upstream.answers = [tells({}, 404), tells({}, 404), tells({}, 401)]
    found = await probe_keys(load_providers(), web_settings.providers, ["vidgo"])
    assert (found["vidgo"].outcome, found["vidgo"].detail) == (
        Outcome.KEY_REFUSED,
        "the provider refused the key (401); number 2 of 2 keys",
    )
    assert set(questions(upstream)) == {f"Bearer {FIRST}", f"Bearer {SECOND}"}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(401, Outcome.KEY_REFUSED), (402, Outcome.OUT_OF_CREDIT), (429, Outcome.RATE_LIMITED)],
)
async def test_what_is_said_of_one_key_keeps_nobody_from_asking_with_the_others(
    web_settings: Settings, upstream: OrderHost, status: int, outcome: Outcome
) -> None:
    upstream.answers = [tells({}, status, "retry-after: 60")]
    upstream.otherwise = tells(RUNNING)
    async with open_runtime(web_settings, work=frozenset()) as runtime:
        client = runtime.status_client
        keys = [runtime.tokens.name_key(key)[0] for key in (FIRST, SECOND)]
        refused = await client.ask("vidgo", TASK, None, keys[0])
        told = [await client.ask("vidgo", TASK, None, keys[1]) for _ in range(2)]
        again = await client.ask("vidgo", TASK, None, keys[0])
        problem = client.problem("vidgo")
        lasting = [client.lasting("vidgo", {outcome}, key) is None for key in keys]

    assert [refused.outcome, *(each.outcome for each in told)] == [outcome, *[Outcome.IN_PROGRESS] * 2]
    assert (again.outcome, again.asked) == (outcome, False)  # that one waits
    assert questions(upstream) == [f"Bearer {key}" for key in (FIRST, SECOND, SECOND)]
    assert lasting == [False, True]
    if outcome is not Outcome.RATE_LIMITED:
        assert problem is not None
        assert problem.startswith(f"key 1 of 2 is {outcome}: ")


async def test_a_host_that_fails_is_asked_with_no_key(web_settings: Settings, upstream: OrderHost) -> None:
    upstream.answers, upstream.otherwise = [tells({}, 503)], tells(RUNNING)
    async with open_runtime(web_settings, work=frozenset()) as runtime:
        keys = [runtime.tokens.name_key(key)[0] for key in (FIRST, SECOND)]
        answers = [await runtime.status_client.ask("vidgo", TASK, None, key) for key in keys]
    assert [answer.outcome for answer in answers] == [Outcome.HTTP_ERROR] * 2
    assert [answer.asked for answer in answers] == [True, False]


@on_both_engines
async def test_tasks_of_a_key_that_is_used_up_wait_and_those_of_another_are_asked_about(
    app: ASGIApp, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers = [
        tells({"code": 200, "data": {"task_id": "first"}}),
        tells({}, 429, "retry-after: 600"),
        tells({"code": 200, "data": {"task_id": "second"}}),
    ]
    upstream.otherwise = tells(sample_callback("vidgo", "second", error="no"))
    async with caller(app, FIRST) as first, caller(app, SECOND) as second:
        assert (await order(first)).status_code == 200
        await until(lambda: bool(questions(upstream)))
        assert (await order(second)).status_code == 200

        async def has_ended() -> bool:
            event = await runtime.store.get_event("vidgo", "second")
            return event is not None and event.type is not None

        await until(has_ended)
    assert questions(upstream) == [f"Bearer {FIRST}", f"Bearer {SECOND}"]
