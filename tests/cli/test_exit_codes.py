"""One table of exit codes that all commands keep, tried with the real commands."""

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.cli.exit_codes import Exit
from tests.cli.test_commands import started, wait_for
from tests.cli.test_strangers import ASKING
from tests.support.cli_callers import run
from tests.support.cli_stub import answering
from tests.support.manual import section
from tests.support.sink_hosts import free_port
from tests.test_docs import COMMANDS

pytestmark = pytest.mark.usefixtures("plain_environment")

DONE, FAILED, MISCONFIGURED, NOTHING_FOUND = Exit
ASKED = [f"{name} {typed}".strip() for name, typed in ASKING.items()]
TYPED = {name.removeprefix("receiver ") for name in COMMANDS}

# By situation: which commands end how.
CASES: list[tuple[str, list[str], Exit]] = [
    ("a service", ["stats", "sinks list", "docs", "docs words"], DONE),
    ("down", ASKED, FAILED),
    ("another service", ASKED, FAILED),
    ("wrong token", ASKED, FAILED),
    ("no token", [*ASKED, "callback-url vidgo"], MISCONFIGURED),
    ("port taken", ["serve --port {port}", "simulate --port {port}", "demo --port {port}"], FAILED),
    (
        "a service",
        ["serve --port {free}", "migrate", "move --to sqlite:other.db"],
        FAILED,
    ),  # it has the data folder
    (
        "bad setting",
        [*ASKED, "serve", "migrate", "backup copy", "move --to sqlite:x", "callback-url vidgo"],
        MISCONFIGURED,
    ),
    ("bad setting", ["doctor"], FAILED),  # which has looked, and found it
    ("a service", [f"{name} --no-such-option" for name in sorted(TYPED)], MISCONFIGURED),
    (
        "a service",
        ["tasks list --limit 0", "replay --stage none", "sevre", "tasks list --since x"],
        MISCONFIGURED,
    ),
    (
        "a service",
        [
            "tasks list --provider nobody",
            "tasks show nobody t1",
            "submissions add --provider nobody --owner x",
            "submissions list --provider nobody",
            "replay --stage notify --provider nobody",
            "dead list --provider nobody",
            "dead requeue --provider nobody",
            "callback-url nobody",
            "docs none",
        ],
        MISCONFIGURED,
    ),
    (
        "a service",
        [
            "sinks test nobody",
            "dead list --sink nobody",
            "dead requeue --sink nobody",
            "dead move --sink old --to nobody",
            "replay --stage notify --sink nobody",
        ],
        MISCONFIGURED,
    ),
    (
        "a service",
        [
            "show none",
            "tasks show vidgo none",
            "submissions show sub_0",
            "submissions withdraw sub_0 --yes",
            "submissions resolve sub_0 --not-sent --yes",
            *(f"replays {verb} rpl_0" for verb in ("show", "follow", "pause", "resume", "cancel")),
        ],
        NOTHING_FOUND,
    ),
    (
        "a service",
        [
            "tasks list",
            "submissions list",
            "replays list",
            "dead list",
            "dead requeue --yes",
            "dead move --sink old --to jsonl --yes",
            "dead drop --sink old --yes",
            "replay --stage notify --yes",
            "replay --stage poll --dry-run",
            "gateway tokens list",
            "budgets list",
            "costs",
            "audit --act gateway_token.added",
        ],
        NOTHING_FOUND,
    ),
    ("no token", ["backup copy"], NOTHING_FOUND),
]


@pytest.fixture(scope="module")
def service() -> Iterator[dict[str, str]]:
    """Where a service runs, which holds nothing."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environ = {"RECEIVER_DATA_DIR": f"{folder}/data", "PORT": str(port), "RECEIVER_HOST": "127.0.0.1"}
        environ["RECEIVER_GATEWAY"] = "true"
        with started("serve", environ=environ):
            wait_for(port)
            yield environ


@pytest.fixture
def situation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    match request.param:
        case "a service":
            yield request.getfixturevalue("service")
        case "wrong token":
            yield request.getfixturevalue("service") | {"RECEIVER_TOKEN": "Zz9-no-token-of-the-service"}
        case "down":
            yield {"RECEIVER_TOKEN": "Zz9-a-token-of-some-service", "PORT": str(free_port())}
        case "another service":
            with answering({}, knows=[]) as stub:
                yield {"RECEIVER_TOKEN": "Zz9-a-token-of-some-service", "RECEIVER_URL": stub.url}
        case "bad setting":
            yield request.getfixturevalue("service") | {"RECEIVER_LOG_LEVEL": "loud"}
        case _:  # no token, or a port that is taken
            yield {"RECEIVER_DATA_DIR": str(tmp_path / "data"), "PORT": str(free_port())}


@pytest.mark.parametrize(
    ("situation", "commands", "code"),
    CASES,
    indirect=["situation"],
    ids=[f"{situation}: {commands[0]}" for situation, commands, _ in CASES],
)
def test_every_command_keeps_the_table_of_exit_codes(
    situation: dict[str, str], commands: list[str], code: Exit
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"port": taken.getsockname()[1], "free": free_port()}
        ended = {}
        for command in commands:
            ended[command], said = typed(command.format(**places), situation)
            assert said, command
            assert "Traceback" not in said
    assert ended == dict.fromkeys(commands, code)


def typed(command: str, environ: dict[str, str]) -> tuple[Exit, str]:
    """How a command ends, and all that it says."""
    if not command.startswith("serve"):
        result = run(*command.split(), **environ)
        return Exit(result.exit_code), result.output
    done = subprocess.run(  # what it listens on ends with its process
        [sys.executable, "-m", "receiver", *command.split()],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return Exit(done.returncode), done.stdout + done.stderr


def test_the_manual_has_the_table() -> None:
    rows = re.findall(r"^\| (\d) \| (\w+ ?\w*)", section("commands", "## Exit codes"), re.MULTILINE)
    assert [(Exit(int(code)).name, word.strip().replace(" ", "_").upper()) for code, word in rows] == [
        (code.name, code.name) for code in Exit
    ]
