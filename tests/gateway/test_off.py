"""Without its setting there is no gateway, and nothing of it is loaded."""

import asyncio
import subprocess
import sys

import httpx2
import pytest

from receiver.cli.exit_codes import Exit
from tests.support.cli_callers import run
from tests.support.web_callers import ADMIN_TOKEN

LOADED = """
import sys, receiver.web.app, receiver.cli.serve
doors = ("receiver.web.gateway", "receiver.web.gateway_access")
print([name for name in sys.modules if name.startswith("receiver.gateway") or name in doors])
"""


@pytest.fixture
def environment() -> dict[str, str]:
    return {"VIDGO_API_KEY": "the-providers-own-key"}


async def test_no_path_of_it_is_there(stranger: httpx2.AsyncClient) -> None:
    for method, path in (("POST", "api/generate/submit"), ("GET", "api/generate/status/t1"), ("GET", "")):
        answer = await stranger.request(method, f"/gateway/vidgo/{path}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
async def test_nobody_makes_or_sees_tokens_of_it(admin: httpx2.AsyncClient, method: str) -> None:
    for path in ("/gateway-tokens", "/gateway-tokens/ci"):
        answer = await admin.request(method, path, json={"name": "ci"} if method == "POST" else None)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:receiver:problem:unknown-path")


@pytest.mark.parametrize("typed", ["list", "add ci", "revoke ci --yes"])
async def test_who_asks_for_tokens_by_command_is_told_what_to_set(port: int, typed: str) -> None:
    service = {"RECEIVER_URL": f"http://127.0.0.1:{port}", "RECEIVER_TOKEN": ADMIN_TOKEN}
    ended = await asyncio.to_thread(run, "gateway", "tokens", *typed.split(), **service)
    assert ended.exit_code == Exit.FAILED
    assert "There is no gateway: set RECEIVER_GATEWAY=true where the service runs" in ended.stderr


def test_none_of_it_is_imported() -> None:
    shown = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True, text=True)
    assert shown.stdout.strip() == "[]"
