"""What deploy/ says and holds, tried as far as it goes on one machine."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest

from receiver.tokens import Tokens
from tests.e2e.service import API_TOKEN, SECRET
from tests.support.missing import missing
from tests.support.places import ROOT
from tests.support.sink_hosts import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # starts what others wrote

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "receiver.service"
MANUAL = (DEPLOY / "README.md").read_text()


def program(name: str) -> str:
    return shutil.which(name) or missing(f"{name} is not installed")


@contextmanager
def served(folder: Path, *before: str, **settings: str) -> Iterator[str]:
    """The URL of a service in a process of its own; ``before`` is put before its command."""
    port = free_port()
    environ = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "RECEIVER_DATA_DIR": str(folder / "data"),
        "RECEIVER_HOST": "127.0.0.1",
        "PORT": str(port),
        "RECEIVER_SECRET": SECRET,
        "RECEIVER_API_TOKENS": API_TOKEN,
        **settings,
    }
    command = [*before, sys.executable, "-m", "receiver", "serve"]
    with subprocess.Popen(
        command, env=environ, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: answers(url), 60)
            yield url
            os.killpg(process.pid, signal.SIGTERM)  # whoever stands before it passes no signal on
            process.wait(30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def work(url: str) -> None:
    """What a service does in its life: a submission, a callback with a file that cannot be had, a list."""
    token = Tokens((SECRET,)).for_provider("vidgo")
    headers = {"authorization": f"Bearer {API_TOKEN}"}
    logged = {"provider": "vidgo", "owner": "u", "task_id": "t1"}
    assert httpx2.post(f"{url}/submissions", json=logged, headers=headers).status_code == 201
    body = {"code": 200, "data": {"task_id": "t1", "status": "finished"}}
    body["data"]["files"] = [{"file_url": "https://127.0.0.1/a.png", "file_type": "image"}]  # type: ignore[index]
    assert httpx2.post(f"{url}/callbacks/vidgo/{token}", json=body).status_code == 200
    assert httpx2.get(f"{url}/tasks", headers=headers).status_code == 200


# --- systemd --------------------------------------------------------------------------------------------


def test_the_unit_is_exposed_to_little() -> None:
    command = [program("systemd-analyze"), "security", "--offline=true", str(UNIT)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    level = re.search(r"exposure level for \S+: ([\d.]+)", told)
    assert level is not None, told
    assert float(level[1]) < 2


def system_calls_of(filter_set: str, sets: Mapping[str, set[str]]) -> set[str]:
    return {
        each
        for name in sets[filter_set]
        for each in (system_calls_of(name, sets) if name.startswith("@") else {name})
    }


def test_the_unit_allows_every_system_call_that_the_service_makes(tmp_path: Path) -> None:
    """By strace, as no systemd runs services here."""
    told = subprocess.run(
        [program("systemd-analyze"), "syscall-filter"], capture_output=True, text=True, check=True
    ).stdout
    sets: dict[str, set[str]] = {}
    for block in re.split(r"^(?=@)", told, flags=re.MULTILINE):
        name, *calls = [line.strip() for line in block.splitlines() if line.strip()] or [""]
        sets[name.split(" ")[0]] = {call.split(" ")[0] for call in calls if not call.startswith("#")}
    allowed, trace = system_calls_of("@system-service", sets), tmp_path / "trace"
    for denied in ("@privileged", "@resources"):
        allowed -= system_calls_of(denied, sets)
    with served(tmp_path, program("strace"), "-f", "-qq", "-o", str(trace)) as url:
        work(url)
    text = trace.read_text(errors="replace")
    made = set(re.findall(r"^\d+ +(\w+)\(", text, flags=re.MULTILINE))
    assert "SystemCallFilter=~@privileged @resources" in UNIT.read_text()
    # It gives itself the descriptors that the unit's LimitNOFILE gives it anyway; and as root, which it is
    # not there, SQLite gives its files to their folder's owner.
    assert made - allowed <= {"setrlimit", "fchown"}
    assert len(made) > 40  # it was really traced
    assert re.search(r"(mmap|mprotect)\([^\n]*PROT_WRITE\|PROT_EXEC", text) is None


def test_doctor_in_the_manual_has_the_environment_the_folder_and_the_user_of_the_unit() -> None:
    """Files win over Environment= in both, so the same two give the same settings."""
    shown = re.search(r"^systemd-run (.*?) doctor$", MANUAL.replace("\\\n", " "), re.MULTILINE)
    assert shown is not None
    words = shlex.split(shown[1])
    given = {flag: [word for each, word in pairwise(words) if each == flag] for flag in ("-p", "-E")}
    same = ("EnvironmentFile", "DynamicUser", "StateDirectory", "StateDirectoryMode")
    wanted = [f"{option}={value}" for option in same for value in of_the_unit(option)]
    # What DynamicUser calls the user by itself.
    assert sorted(given["-p"]) == sorted([*wanted, f"User={UNIT.stem}"])
    assert given["-E"] == of_the_unit("Environment")
    assert [words[-1]] == [command.split(" ")[0] for command in of_the_unit("ExecStart")]


def of_the_unit(option: str) -> list[str]:
    return re.findall(rf"^{option}=(.*)$", UNIT.read_text(), flags=re.MULTILINE)


# --- one pinned set -------------------------------------------------------------------------------------


def test_every_host_installs_the_same_pinned_and_hashed_packages() -> None:
    install = "pip install --require-hashes -r requirements.txt"
    assert install in MANUAL
    assert install in (DEPLOY / "Dockerfile").read_text().replace("--no-cache-dir ", "")
    locked = (ROOT / "requirements.txt").read_text()
    pinned = re.findall(r"^([\w.-]+)==\S+ \\$", locked, flags=re.MULTILINE)
    assert {"starlette", "uvicorn", "redis", "markdown-it-py", "mdurl"} <= set(pinned)
    assert len(re.findall(r"^\S", locked, flags=re.MULTILINE)) == len(pinned)  # nothing else, and no address


# --- a proxy in front -----------------------------------------------------------------------------------

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        {lines}
    }}
}}
"""


@contextmanager
def proxied(folder: Path, to: str) -> Iterator[str]:
    """nginx with the manual's own lines."""
    shown = re.search(r"```nginx\n(.*?)```", MANUAL, re.DOTALL)
    assert shown is not None
    port = free_port()
    config = folder / "nginx.conf"
    lines = shown[1].replace("http://127.0.0.1:8080", to)
    config.write_text(NGINX.format(folder=folder, port=port, lines=lines))
    with subprocess.Popen([program("nginx"), "-c", str(config), "-p", str(folder)]) as process:
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}"), 20)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_the_proxy_of_the_manual_lets_large_callbacks_through_and_logs_no_secret(tmp_path: Path) -> None:
    token = Tokens((SECRET,)).for_provider("vidgo")
    with served(tmp_path) as service, proxied(tmp_path, service) as url:
        work(url)
        large = b'{"code": 200, "data": {"task_id": "t2"}, "more": "%s"}' % (b"x" * 1_500_000)
        assert httpx2.post(f"{url}/callbacks/vidgo/{token}", content=large).status_code == 200
        for path in ("", "/hooks"):  # the latter where the public URL has it
            link = f"{url}{path}/assets/vidgo/t1/0?expires=1&signature=a-signature"
            assert httpx2.get(link).status_code == (404 if path else 403)
    # The service is gone, and nginx says so of each request.
    with proxied_without_service(tmp_path) as url:
        assert httpx2.post(f"{url}/callbacks/vidgo/{token}", content=b"{}").status_code == 502
        assert httpx2.get(f"{url}/tasks").status_code == 502
    logs = (tmp_path / "access.log").read_text() + (tmp_path / "error.log").read_text()
    assert "/tasks" in logs  # the rest is logged
    assert token not in logs
    assert "a-signature" not in logs


@contextmanager
def proxied_without_service(folder: Path) -> Iterator[str]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(re.sub(r"listen 127.0.0.1:\d+", f"listen 127.0.0.1:{port}", config.read_text()))
    with subprocess.Popen([program("nginx"), "-c", str(config), "-p", str(folder)]) as process:
        try:
            wait_until(lambda: is_bad_gateway(f"http://127.0.0.1:{port}/"), 20)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def is_bad_gateway(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).status_code == 502
    except httpx2.TransportError:
        return False
