"""`receiver doctor` goes by the running service's settings, and says in what the shell's are others."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from receiver.config.disclosure import disclose
from receiver.config.settings import load_settings
from tests.cli.test_commands import started, wait_for
from tests.support.cli_callers import run
from tests.support.cli_stub import TOKEN, answering
from tests.support.sink_hosts import free_port

pytestmark = pytest.mark.usefixtures("plain_environment")

KEY = "9f2c41d07be8a6135c0e-of-vidgo"
READY = {"status": "ready", "parts": {"store": "ok", "poll vidgo": "running", "sink app": "running"}}


@contextmanager
def served(folder: Path, *options: str, **environ: str) -> Iterator[int]:
    """The port of a real service on ``folder``."""
    port = free_port()
    settings = {"RECEIVER_DATA_DIR": str(folder), **environ}
    with started("serve", "--port", str(port), *options, environ=settings):
        wait_for(port)
        yield port


def examined(**environ: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    document = json.loads(run("doctor", "--json", **environ).stdout)
    return document["settings"], {check["name"]: check for check in document["checks"]}


def told(environ: Mapping[str, str], **more: object) -> dict[str, object]:
    """What a service with these settings answers at ``GET /settings``."""
    settings = disclose(load_settings(environ), TOKEN)
    return {"version": "0.4.0", "sqlite": "3.51.3", "guessable": [], "were_open": False} | {
        "settings": settings,
        **more,
    }


def test_the_same_settings_are_no_finding_whatever_the_port_and_the_folder_that_it_is_run_in(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    with served(folder) as port:  # by --port, which no variable says
        settings, checks = examined(RECEIVER_DATA_DIR="data", RECEIVER_URL=f"http://127.0.0.1:{port}")
    assert (settings["view"], settings["differences"]) == ("service", [])
    assert settings["shell"] == settings["service"]
    assert settings["service"]["PORT"] == str(port)
    assert "settings differ" not in checks
    assert checks["public url"]["detail"].startswith(f"http://127.0.0.1:{port}:")  # the service's own


def test_doctor_goes_by_the_services_settings_and_names_the_differences(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    service = {
        "RECEIVER_PUBLIC_URL": "https://hooks.example.com",
        "RECEIVER_CONFIRM": "never",
        "VIDGO_API_KEY": KEY,
        "VIDGO_BASE_URL": f"http://127.0.0.1:{free_port()}",
        "RECEIVER_SINK_APP": f"http://ann:{KEY}@127.0.0.1:{free_port()}/in",
    }
    shell = {"RECEIVER_CONFIRM": "always", "APIXO_API_KEY": "a-key-of-the-shell"}
    with served(folder, **service) as port:
        settings, checks = examined(RECEIVER_DATA_DIR=str(folder), PORT=str(port), **shell)
        printed = run("doctor", RECEIVER_DATA_DIR=str(folder), PORT=str(port), **shell).stdout

    assert [each["variable"] for each in settings["differences"]] == [
        "APIXO_API_KEY", "RECEIVER_CONFIRM", "RECEIVER_METRICS_PRIVATE", "RECEIVER_PUBLIC_URL",
        "RECEIVER_SINK_APP", "VIDGO_API_KEY", "VIDGO_BASE_URL",
    ]  # fmt: skip
    differ = checks["settings differ"]
    assert (differ["state"], differ["view"]) == ("warn", "shell")
    assert "this shell has RECEIVER_CONFIRM=always, the service never" in differ["detail"]
    assert "this shell has no VIDGO_API_KEY, the service set (" in differ["detail"]
    assert checks["public url"]["detail"] == "https://hooks.example.com"
    assert ", APIXO_API_KEY, " in checks["asking others"]["detail"]
    assert checks["asking others"]["detail"].endswith(": a lost callback stays lost")
    assert checks["asking vidgo"]["detail"].startswith("not tried: VIDGO_API_KEY is the service's own")
    assert checks["sink app"]["detail"].startswith("not tried:")
    assert "sink jsonl" not in checks  # the service has none
    assert {checks[name]["view"] for name in ("public url", "asking vidgo", "service", "disk")} == {"service"}
    assert "\nBy the settings of the service that runs:\n" in printed
    assert KEY not in printed + json.dumps([settings, checks])
    assert "a-key-of-the-shell" not in printed + json.dumps([settings, checks])


def test_a_key_and_a_sink_that_both_have_are_tried(tmp_path: Path) -> None:
    paths = ("/v/api/generate/status/receiver-doctor", "/v/api/generate/detail/music")
    providers = {f"GET {path}": (404, {"code": 404}) for path in paths}
    with answering(providers) as vidgo:
        same = {
            "VIDGO_API_KEY": KEY,
            "VIDGO_BASE_URL": f"{vidgo.url}/v",
            "RECEIVER_SINK_FILE": "jsonl:events.jsonl",
        }
        with served(tmp_path / "data", **same) as port:
            settings, checks = examined(RECEIVER_DATA_DIR="data", PORT=str(port), **same)
    assert (settings["view"], settings["differences"]) == ("service", [])
    assert (checks["asking vidgo"]["state"], checks["asking vidgo"]["view"]) == ("ok", "service")
    assert "VIDGO_API_KEY works" in checks["asking vidgo"]["detail"]
    assert checks["sink file"]["detail"] == "jsonl: answers"


def test_where_no_service_runs_doctor_says_that_it_goes_by_this_shell() -> None:
    port = free_port()
    settings, checks = examined(PORT=str(port))
    assert (settings["view"], settings["service"], settings["differences"]) == ("shell", None, [])
    said = f"understood; all goes by this shell's, as no service answers at http://127.0.0.1:{port}"
    assert (checks["settings"]["state"], checks["settings"]["detail"]) == ("ok", said)
    assert {check["view"] for check in checks.values()} == {"shell"}


@pytest.mark.parametrize(
    ("answer", "token", "why"),
    [
        ((401, {}), TOKEN, "it does not take the token"),
        ((403, {}), TOKEN, "is no admin's"),
        ((404, {}), TOKEN, "of a release before 0.4.0"),
        ((200, {"settings": {}}), TOKEN, "it did not answer"),
        ((200, told({}, settings={"PORT": "1"})), TOKEN, "is not understood here"),
        ((200, told({})), "", "no admin token is known here"),
    ],
)
def test_a_service_that_does_not_tell_its_settings_is_said(
    answer: tuple[int, object], token: str, why: str
) -> None:
    sinks: tuple[int, object] = (200, {"sinks": []})
    with answering({"GET /readyz": (200, READY), "GET /sinks": sinks, "GET /settings": answer}) as stub:
        settings, checks = examined(RECEIVER_URL=stub.url, RECEIVER_TOKEN=token)
    assert settings["view"] == "shell"
    assert checks["settings"]["state"] == "warn"
    assert "all goes by this shell's" in checks["settings"]["detail"]
    assert why in checks["settings"]["detail"]
    assert "RECEIVER_TOKEN" in checks["settings"]["todo"]


def test_a_service_whose_folder_is_not_here_has_it_not_looked_at(tmp_path: Path) -> None:
    theirs = {"RECEIVER_DATA_DIR": str(tmp_path / "elsewhere"), "PORT": "8080"}
    answers = {"GET /sinks": (200, {"sinks": []}), "GET /readyz": (200, READY)}
    weak = told(theirs, guessable=["RECEIVER_SECRET"], were_open=True)
    with answering({**answers, "GET /settings": (200, weak)}) as stub:
        _, checks = examined(RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert "is not looked at" in checks["data folder"]["detail"]
    assert not {"disk", "record", "database", "assets"} & checks.keys()
    assert checks["secrets guessable"]["detail"] == "RECEIVER_SECRET"
    assert checks["secrets"]["state"] == "warn"
    assert checks["sqlite"]["detail"] == "3.51.3"  # the service's
    assert not (tmp_path / "elsewhere").exists()


def test_a_bucket_that_only_the_service_knows_is_not_tried(tmp_path: Path) -> None:
    theirs = {
        "RECEIVER_DATA_DIR": str(tmp_path),
        "PORT": "8080",
        "RECEIVER_ASSETS_URL": "s3://bucket-of-the-service/files",
        "AWS_ACCESS_KEY_ID": "key-of-the-service",
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_REGION": "eu-central-1",
    }
    answers = {"GET /sinks": (200, {"sinks": []}), "GET /readyz": (200, READY)}
    with answering({**answers, "GET /settings": (200, told(theirs))}) as stub:
        _, checks = examined(RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN, RECEIVER_DATA_DIR=str(tmp_path))
    assert checks["assets"]["detail"] == "not tried: RECEIVER_ASSETS_URL is the service's own"


def test_the_door_is_asked_with_a_token_that_the_service_proved_to_know(tmp_path: Path) -> None:
    with answering({"GET /readyz": (200, READY)}, knows=()) as stub:
        _, checks = examined(RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN, RECEIVER_DATA_DIR=str(tmp_path))
    assert stub.asked == ["GET /readyz"]
    assert stub.tokens == {""}
    assert checks["settings"]["state"] == "warn"
