"""Hostile bodies with a right token: each is answered as the contract says, at a small price, and kept."""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.types import ASGIApp

from receiver.models import Verdict
from receiver.runtime import Runtime
from tests.e2e.service import ADMIN_TOKEN, API_TOKEN, bearer
from tests.hostile.bodies import BODIES, TEXTS, HostileBody, declared_bodies
from tests.hostile.service import MAX_BODY_BYTES, Target, running, token
from tests.support.loopback import Answer, post, talk
from tests.support.own_providers import write_own
from tests.support.waiting import until
from tests.support.web_callers import callback_path, caller

MOST_CPU_SECONDS = 0.1
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "RECEIVER_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "RECEIVER_EARLY_LIMIT": "100000",
        "RECEIVER_PROVIDERS": str(write_own(tmp_path)),
    }


def test_there_are_enough_of_them() -> None:
    assert len(BODIES) > 200
    assert len({each.name for each in BODIES}) == len(BODIES)


async def test_each_is_answered_as_the_contract_says_and_costs_little(app: ASGIApp, runtime: Runtime) -> None:
    async with caller(app) as client:
        found = [each for body in BODIES if (each := await _judge(client, runtime, body))]
    assert found == []


async def test_what_declared_providers_are_sent_is_answered_so_too(app: ASGIApp, runtime: Runtime) -> None:
    async with caller(app) as client:
        found = [each for body in declared_bodies() if (each := await _judge(client, runtime, body))]
    assert found == []
    odd = (await runtime.store.pages.list_odd(Verdict.UNRECOGNISED, 2_000, None)).deliveries
    assert len(odd) > 100
    assert not [row.note for row in odd if "crashed" in (row.note or "")]


async def _judge(client: httpx2.AsyncClient, runtime: Runtime, hostile: HostileBody) -> str:
    """What is wrong with the answer, if anything."""
    path = callback_path(runtime, hostile.provider)
    answer, seconds = await _timed(client, path, hostile.body)
    for blanks in (
        b" ",
        b"  ",
        b"   ",
    ):  # a loaded machine is no fault of ours; the same bytes would be a repeat
        if seconds > MOST_CPU_SECONDS:
            _, again = await _timed(client, path, hostile.body + blanks)
            seconds = min(seconds, again)
    word = answer.json()["status"] if answer.status_code == 200 else str(answer.status_code)
    if word not in hostile.answers:
        return f"{hostile.name}: {word}, not {' or '.join(sorted(hostile.answers))}"
    return f"{hostile.name}: {seconds:.3f} s of CPU" if seconds > MOST_CPU_SECONDS else ""


async def _timed(client: httpx2.AsyncClient, path: str, body: bytes) -> tuple[httpx2.Response, float]:
    """Of the whole process: reading, the store's thread, the test's own client."""
    before = time.process_time()
    answer = await client.post(path, content=body)
    return answer, time.process_time() - before


# --- at a real service ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    settings = {"RECEIVER_EARLY_LIMIT": "100000", "RECEIVER_LOG_FORMAT": "text"}
    with running(tmp_path_factory.mktemp("bodies"), settings) as target:
        yield target


async def test_all_at_once_stay_within_memory_and_what_is_authentic_is_kept_to_the_byte(
    target: Target,
) -> None:
    before = target.resident_bytes()
    waiting = iter(BODIES)
    refused: set[str] = set()

    async def send() -> None:
        for hostile in waiting:
            path = f"/callbacks/{hostile.provider}/{token(hostile.provider)}"
            answer = Answer(await talk(target.port, post(path, hostile.body)))
            assert answer.status in {200, 400, 413}, hostile.name
            if answer.status != 200:
                refused.add(hostile.name)

    await asyncio.gather(*(send() for _ in range(16)))
    assert target.most_resident_bytes() - before < 200 * 2**20
    kept = {(row[0], row[1]) for row in target.rows("SELECT provider, body FROM deliveries")}
    wanted = {(each.provider, each.body) for each in BODIES if each.name not in refused}
    assert {_short(*each) for each in wanted} == {_short(*each) for each in kept}
    assert "Traceback" not in target.receiver.output()


def _short(provider: str, body: bytes) -> tuple[str, str]:
    return provider, hashlib.sha256(body).hexdigest()


async def test_a_log_for_people_holds_no_control_character_and_no_forged_line(target: Target) -> None:
    await _fail_tasks(target)
    last = f"words-{len(TEXTS) - 1}"
    await until(lambda: last in target.receiver.output())
    output = target.receiver.output()
    assert not CONTROL.search(output)
    assert not re.search("forged|onerror|jndi", output)  # words of errors stand in the record, not in the log


async def test_words_of_strangers_are_data_wherever_they_are_shown(target: Target) -> None:
    """In notifications and answers as JSON; on a terminal as pictures; no door answers with HTML or CSV."""
    await _fail_tasks(target)
    async with httpx2.AsyncClient(
        base_url=target.receiver.url, trust_env=False, verify=False, timeout=60.0
    ) as http:
        for number, text in enumerate(TEXTS.values()):
            answer = await http.get(f"/tasks/vidgo/words-{number}", headers=bearer(API_TOKEN))
            assert answer.headers["content-type"] == "application/json"
            shown = answer.json()["error"]
            words = shown["message"] if shown else None
            assert text.isspace() or words == text[:4000].replace("\x00", "\ufffd").replace(
                "\ud800", "\ufffd"
            )
    assert not CONTROL.search(_command(target, "tasks", "list", "--limit", "200"))
    for name in ("ANSI", "8-bit ANSI", "line feed", "right to left"):
        number = list(TEXTS).index(name)
        assert not CONTROL.search(_command(target, "tasks", "show", "vidgo", f"words-{number}")), name
    await until(lambda: len(set(target.receiver.told())) == len(TEXTS))
    assert {event["data"]["owner"] for event in target.receiver.events()} == {"user-17"}


async def _fail_tasks(target: Target) -> None:
    async with httpx2.AsyncClient(
        base_url=target.receiver.url, trust_env=False, verify=False, timeout=60.0
    ) as http:
        for number, text in enumerate(TEXTS.values()):
            row = {"provider": "vidgo", "owner": "user-17", "task_id": f"words-{number}", "model": "=1+1"}
            (await http.post("/submissions", json=row, headers=bearer(API_TOKEN))).raise_for_status()
            body = {"data": {"task_id": f"words-{number}", "status": "failed", "error_message": text}}
            answer = await http.post(target.path, content=json.dumps(body).encode())
            assert answer.json()["status"] in {"accepted", "duplicate"}


def _command(target: Target, *words: str) -> str:
    """What a command prints, where it does not print for a terminal."""
    environment = os.environ | {
        "RECEIVER_URL": target.receiver.url,
        "RECEIVER_ADMIN_TOKENS": ADMIN_TOKEN,
        "RECEIVER_API_TOKENS": API_TOKEN,
        "RECEIVER_DATA_DIR": str(target.receiver.data),
    }
    command = [sys.executable, "-m", "receiver", *words]
    ran = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30)
    return ran.stdout.decode() + ran.stderr.decode()
