"""What is said of providers that can be asked, but not often enough to confirm everything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.cli import probes
from receiver.cli.views import by_shell
from receiver.config.settings import load_settings
from receiver.health.checks import State
from receiver.health.keys import bottleneck
from receiver.models import Confirm
from receiver.plugins import load_providers
from tests.support.sink_hosts import free_port

LIMIT = "confirmation of provider-token callbacks is limited to 5 a minute"


@pytest.mark.parametrize(
    ("confirm", "provider", "polls_per_minute", "said"),
    [
        (Confirm.WEAK, "apixo", 5, LIMIT),
        (Confirm.ALWAYS, "apixo", 5, "confirmation of all callbacks is limited to 5 a minute"),
        (Confirm.NEVER, "apixo", 5, None),
        (Confirm.WEAK, "apixo", 30, None),
        (Confirm.WEAK, "reapi", 5, None),  # sends no callbacks
    ],
)
def test_a_low_pace_limits_what_is_confirmed(
    confirm: Confirm, provider: str, polls_per_minute: int, said: str | None
) -> None:
    assert bottleneck(confirm, load_providers()[provider].facts, polls_per_minute) == said


@pytest.mark.parametrize(("keyed", "expected"), [("APIXO", [["apixo"]]), ("VIDGO", [])])
def test_serve_says_once_whose_confirmations_are_slow(
    tmp_path: Path, keyed: str, expected: list[list[str]]
) -> None:
    (tmp_path / "receiver.db").write_bytes(b"not a database at all" * 100)  # so that it ends by itself
    done = subprocess.run(
        [sys.executable, "-m", "receiver", "serve", "--port", str(free_port())],
        env={**os.environ, "RECEIVER_DATA_DIR": str(tmp_path), f"{keyed}_API_KEY": "a-key-of-the-operator"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines() if "providers.slow" in line]
    assert [line["providers"] for line in lines] == expected
    assert [line["consequence"] for line in lines] == [f"apixo: {LIMIT}"] * len(expected)
    assert "a-key-of-the-operator" not in done.stderr


async def test_doctor_says_whose_confirmations_are_slow() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    settings = load_settings(
        {
            "APIXO_API_KEY": "k",
            "APIXO_BASE_URL": nowhere,
            "VIDGO_API_KEY": "k",
            "VIDGO_BASE_URL": nowhere,
        }
    )

    found = await probes.check_keys(by_shell(settings))

    (slow,) = (check for check in found if check.name.startswith("confirming"))
    assert (slow.name, slow.state, slow.detail) == ("confirming apixo", State.WARN, LIMIT)
    assert slow.todo == "set APIXO_POLLS_PER_MINUTE to what your plan allows"
