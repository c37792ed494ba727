"""What deploy/ says and holds, tried as far as it goes on one machine; tests/e2e/test_hosts.py starts it."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from receiver.cli import COMMANDS
from receiver.config.fields import ALL_FIELDS
from receiver.tokens import Tokens
from tests.e2e.service import API_TOKEN, SECRET
from tests.support.dockerfile import DOCKERFILE, instructions, is_sent, value
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
            wait_until(lambda: answers(url))
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
    allowed.add("setpriority")
    with served(tmp_path, program("strace"), "-f", "-qq", "-o", str(trace)) as url:
        work(url)
    text = trace.read_text(errors="replace")
    made = set(re.findall(r"^\d+ +(\w+)\(", text, flags=re.MULTILINE))
    denied_and_allowed = r"^SystemCallFilter=~@privileged @resources$[^=]+^SystemCallFilter=setpriority$"
    assert re.search(denied_and_allowed, UNIT.read_text(), flags=re.MULTILINE)
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
    assert "pip install --require-hashes -r requirements.txt" in MANUAL
    assert any("--require-hashes" in line and "-r requirements.txt" in line for line in run_lines("build"))
    locked = (ROOT / "requirements.txt").read_text()
    pinned = re.findall(r"^([\w.-]+)==\S+ \\$", locked, flags=re.MULTILINE)
    assert {"starlette", "uvicorn", "redis", "markdown-it-py", "mdurl"} <= set(pinned)
    assert len(re.findall(r"^\S", locked, flags=re.MULTILINE)) == len(pinned)  # nothing else, and no address


def test_what_hosts_may_ask_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE))
    asked = re.findall(r"EXTRAS(?:=|: \$\{EXTRAS:-)([\w,]+)", "".join(text for _, text in shipped()))
    assert len(asked) >= 3
    extras = {extra for each in asked for extra in each.split(",")}
    wanted = [
        *project["dependencies"],
        *(each for e in extras for each in project["optional-dependencies"][e]),
    ]
    assert {re.split(r"[^\w-]", each)[0] for each in wanted} <= pinned


# --- files of hosts -------------------------------------------------------------------------------------


def shipped() -> list[tuple[Path, str]]:
    """Every file for hosts, with its text."""
    inside = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()]
    return [(path, path.read_text()) for path in (*inside, ROOT / "Procfile")]


def test_every_setting_that_is_named_is_one() -> None:
    patterns = [
        re.sub(
            r"<(NAME|PROVIDER)>",
            lambda found: "[A-Z0-9]+" if found[1] == "NAME" else PROVIDERS,
            field.variable,
        )
        for field in ALL_FIELDS
    ]
    known = re.compile("|".join([*patterns, *FROM_HOSTS]))
    names = re.compile(rf"(?<![\w$])((?:RECEIVER|AWS|BUCKETEER|(?:{PROVIDERS}))_[A-Z0-9_]+)(?![\w.*])")
    named = {(path.name, name) for path, text in shipped() for name in names.findall(text)}
    assert len(named) > 40
    assert {(file, name) for file, name in named if not known.fullmatch(name)} == set()


PROVIDERS = "(?:VIDGO|APIDOT|APIXO|REAPI)"
# What add-ons set, see receiver.config.settings; and the beginnings of names that end in dots.
FROM_HOSTS = (r"BUCKETEER_AWS_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY|REGION)", "BUCKETEER_BUCKET_NAME", r"\w+_")


def test_compose_yaml_is_as_the_specification_has_it_and_waits_for_what_runs() -> None:
    check = ["--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    engines = {name: each for name, each in services.items() if each["image"] != "receiver"}
    assert set(services["receiver"]["depends_on"]) == set(engines)
    for name, each in engines.items():
        assert each["profiles"] == [name]
        assert each["healthcheck"]["test"][0] == "CMD"
        assert "ports" not in each
        assert services["receiver"]["depends_on"][name] == {"condition": "service_healthy", "required": False}
    assert all(f"`{name}`" in MANUAL for name, each in services.items() if "profiles" in each)


APP_JSON = {
    "type": "object",
    "required": ["name", "stack", "buildpacks", "addons", "formation", "env"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "description": {"type": "string"},
        "keywords": {"type": "array", "items": {"type": "string"}},
        "stack": {"enum": ["heroku-22", "heroku-24"]},
        "buildpacks": {
            "type": "array",
            "items": {"required": ["url"], "additionalProperties": {"type": "string"}},
        },
        "addons": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["plan", "as"],
                "additionalProperties": False,
                "properties": {"plan": {"pattern": r"^[a-z-]+:[a-z0-9-]+$"}, "as": {"type": "string"}},
            },
        },
        "formation": {
            "type": "object",
            "additionalProperties": {
                "required": ["quantity"],
                "additionalProperties": False,
                "properties": {"quantity": {"type": "integer", "minimum": 0}, "size": {"type": "string"}},
            },
        },
        "env": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["description"],
                "additionalProperties": False,
                "properties": {
                    "description": {"type": "string"},
                    "value": {"type": "string"},
                    "required": {"type": "boolean"},
                    "generator": {"const": "secret"},
                },
            },
        },
    },
}


def test_app_json_is_as_heroku_describes_it_and_starts_lines_of_the_procfile() -> None:
    app = json.loads((DEPLOY / "heroku" / "app.json").read_text())
    Draft202012Validator(APP_JSON).validate(app)
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert set(app["formation"]) == {*lines} - {"release"}
    assert {name for name in app["env"] if not name.startswith(("RECEIVER_", *PROVIDERS_OF_KEYS))} == {
        found[1] for line in lines.values() for found in re.finditer(r"\$(\w+)", line)
    }
    for addon in app["addons"]:  # the commands make the same ones
        assert addon["plan"] in MANUAL


PROVIDERS_OF_KEYS = ("VIDGO_", "APIDOT_", "APIXO_", "REAPI_")

# The names that flyctl 2026.8.8 reads (internal/appconfig), as far as they are used; others it passes over.
FLY: Mapping[str, Any] = {
    **dict.fromkeys(("app", "primary_region", "kill_signal"), str),
    "kill_timeout": int,
    "env": dict,
    "processes": dict,
    "build": {"dockerfile": str, "build-target": str},
    "metrics": {"port": int, "path": str, "processes": list},
    "mounts": {
        **dict.fromkeys(("source", "destination", "initial_size"), str),
        **dict.fromkeys(("auto_extend_size_increment", "auto_extend_size_limit"), str),
        **dict.fromkeys(("auto_extend_size_threshold", "snapshot_retention"), int),
        "scheduled_snapshots": bool,
    },
    "deploy": {"strategy": str, "release_command": str, "max_unavailable": int},
    "vm": {"size": str, "memory": str},
    "restart": {"policy": str},
    "http_service": {
        "internal_port": int,
        "force_https": bool,
        "auto_stop_machines": str,
        "auto_start_machines": bool,
        "min_machines_running": int,
        "processes": list,
        "concurrency": {"type": str, "soft_limit": int, "hard_limit": int},
        "checks": dict.fromkeys(("method", "path", "interval", "timeout", "grace_period"), str),
    },
}


def departures(given: Mapping[str, Any], known: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, each in given.items():
        wanted = known.get(name)
        if isinstance(wanted, Mapping):
            for part in each if isinstance(each, list) else [each]:
                yield from departures(part, wanted, f"{above}{name}.")
        elif wanted is None or type(each) is not wanted:
            yield f"{above}{name}"


@pytest.mark.parametrize("file", ["fly.toml", "fly.postgres.toml"])
def test_fly_reads_every_line_and_gives_the_service_its_time(file: str) -> None:
    app = tomllib.loads((DEPLOY / file).read_text())
    assert list(departures(app, FLY)) == []
    stage = app["build"]["build-target"]
    assert (DEPLOY / app["build"]["dockerfile"]).is_file()
    assert stage == "litestream" if "mounts" in app else stage == "service"
    assert app["kill_signal"] == value(stage if stage == "service" else "service", "STOPSIGNAL")
    assert app["kill_timeout"] > 25
    service = app["http_service"]
    assert service["internal_port"] == int(app["env"]["PORT"])
    assert service["auto_stop_machines"] == "off"
    assert service["min_machines_running"] >= 1
    assert all(isinstance(text, str) for text in app["env"].values())


def run_lines(stage: str) -> list[str]:
    return [rest for word, rest in instructions(stage) if word == "RUN"]


def test_the_image_ends_with_an_ordinary_user_and_is_sent_nothing_but_what_it_copies() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", value("service", "USER"))
    assert "--reuid=10001 --regid=10001" in (DEPLOY / "litestream.sh").read_text()  # which begins as root
    assert DOCKERFILE.read_text().rstrip().endswith("\nFROM service")
    copied = [
        source
        for stage in ("build", "litestream")
        for word, rest in instructions(stage)
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    others = [name for name in tracked.splitlines() if not name.startswith((*copied, "deploy/litestream"))]
    assert all(is_sent(source) for source in copied)
    assert [name for name in others if is_sent(name)] == []
    assert not is_sent("deploy/.env")
    assert not is_sent("receiver-data/credentials.json")


# --- the numbers ----------------------------------------------------------------------------------------


def expressions() -> dict[str, str]:
    """What the alerts and the dashboard ask, by their names."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    board = json.loads((DEPLOY / "grafana" / "receiver.json").read_text())
    asked = {rule["alert"]: rule["expr"] for rule in rules}
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "5m").replace("$job", "receiver")
            asked[f"{panel['title']} {target['refId']}"] = expression
    return asked


@pytest.fixture
def environment() -> dict[str, str]:
    return {"VIDGO_API_KEY": "any-key-will-do-here"}  # whose trouble is a number, too


async def test_alerts_and_dashboard_ask_for_what_is_there(admin: httpx2.AsyncClient) -> None:
    families = list(text_string_to_metric_families((await admin.get("/metrics")).text))
    samples = [sample for family in families for sample in family.samples]
    there = {sample.name for sample in samples} | {family.name for family in families}
    there |= {f"{f.name}_total" for f in families if f.type == "counter"}
    there |= {
        f"{f.name}_{part}" for f in families if f.type == "histogram" for part in ("bucket", "sum", "count")
    }
    asked = {name for each in expressions().values() for name in re.findall(r"\breceiver_\w+", each)}
    assert len(asked) > 15
    assert asked - there == set()
    for label, text in {found for e in expressions().values() for found in re.findall(r'(\w+)="(\w+)"', e)}:
        # Prometheus' own, and those that are there only while something is wrong.
        if label not in ("job", "state", "severity") or text not in ("receiver", "not_set", "critical"):
            assert any(sample.labels.get(label) == text for sample in samples), text


def test_prometheus_takes_the_alerts_and_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    promtool = program("promtool")
    rules = [{"record": f"panel:{n}", "expr": each} for n, each in enumerate(expressions().values())]
    panels = tmp_path / "panels.yml"
    panels.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    config = tmp_path / "prometheus.yml"
    token = tmp_path / "token"
    token.touch()
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    config.write_text(text.replace("/etc/prometheus/receiver-token", str(token)))
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)
    for kind, file in (("rules", panels), ("config", config)):
        done = subprocess.run([promtool, "check", kind, file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


# --- the commands of its manual -------------------------------------------------------------------------

# What is run, here or in the tests beside it; and the programs that only a host, root's own machine or an
# account has.
RUN_HERE = {
    "systemd-analyze security --offline=true deploy/receiver.service": 0,
    "promtool check rules deploy/prometheus/alerts.yml": 0,
}
ELSEWHERE = (
    "docker",
    "fly",
    "git push",
    "heroku",
    "systemctl",
    "systemd-run",
    "/opt/receiver",
    "python3 -m venv",
)


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", MANUAL, re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_every_command_of_the_manual_is_run_or_cannot_be() -> None:
    here = [each for each in commands() if not each.startswith((*ELSEWHERE, "echo", "cp"))]
    assert sorted(here) == sorted(RUN_HERE)
    for each, code in RUN_HERE.items():
        words = [program(each.split()[0]), *each.split()[1:]]
        assert subprocess.run(words, cwd=ROOT, capture_output=True, check=False).returncode == code, each


def test_commands_of_the_service_in_the_manual_are_there() -> None:
    named = {found[1] for found in re.finditer(r"(?:-m |\b)receiver ((?:sinks |dead )?[a-z-]+)", MANUAL)}
    called = {each for each in named if each.split()[0] in COMMANDS}
    assert {"doctor", "callback-url", "dead requeue"} <= called
    for each in called:
        done = subprocess.run(
            [sys.executable, "-m", "receiver", *each.split(), "--help"],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0


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
            wait_until(lambda: answers(f"http://127.0.0.1:{port}"))
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
            wait_until(lambda: is_bad_gateway(f"http://127.0.0.1:{port}/"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def is_bad_gateway(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).status_code == 502
    except httpx2.TransportError:
        return False
