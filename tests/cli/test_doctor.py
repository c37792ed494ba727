"""`receiver doctor`: every problem is found, told with what to do about it, and nothing is left behind."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from receiver.config.credentials import credentials_path, ensure_credentials, read_credentials
from receiver.config.settings import load_settings
from receiver.health.checks import State, check_clock, check_disk, check_sqlite
from tests.support.cli_callers import run
from tests.support.cli_stub import TOKEN, answering
from tests.support.sink_hosts import HttpServer, free_port

pytestmark = pytest.mark.usefixtures("plain_environment")


def examined(**environ: str) -> tuple[int, dict[str, dict[str, str]]]:
    result = run("doctor", "--json", **{"PORT": str(free_port()), **environ})
    return result.exit_code, {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def test_doctor_before_the_first_start_tries_everything_and_leaves_nothing(tmp_path: Path) -> None:
    code, checks = examined()
    assert code == 0
    assert {"settings", "secrets", "disk", "clock", "sqlite", "database", "assets", "sink jsonl"} <= set(
        checks
    )
    assert checks["database"]["state"] == "ok"
    assert checks["public url"]["state"] == "warn"
    assert list(tmp_path.iterdir()) == []


def test_doctor_goes_on_after_the_first_problem() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    code, checks = examined(
        RECEIVER_SINK_HOOK=f"http://{nobody}/in",
        RECEIVER_SINK_FILE="jsonl:events.jsonl",
        RECEIVER_SINK_QUEUE=f"redis://{nobody}/0?stream=s",
    )
    assert code == 1
    states = {name: checks[f"sink {name}"]["state"] for name in ("hook", "file", "queue")}
    assert states == {"hook": "fail", "file": "ok", "queue": "fail"}
    assert checks["database"]["state"] == "ok"


def test_doctor_shows_every_problem_of_the_settings_and_still_looks_at_the_machine() -> None:
    result = run("doctor", RECEIVER_LOG_LEVEL="loud", RECEIVER_NONSENSE="1")
    assert result.exit_code == 1
    assert "RECEIVER_LOG_LEVEL must be" in result.stdout
    assert "RECEIVER_NONSENSE is not a setting" in result.stdout
    assert "sqlite" in result.stdout


def test_doctor_finds_a_credentials_file_that_others_can_read(tmp_path: Path) -> None:
    ensure_credentials(load_settings({"RECEIVER_DATA_DIR": str(tmp_path)}))
    credentials_path(tmp_path).chmod(0o644)
    code, checks = examined(RECEIVER_DATA_DIR=str(tmp_path))
    assert code == 1
    assert "chmod 600" in checks["secrets"]["todo"]


def test_doctor_says_that_secrets_were_open_until_they_are_changed(tmp_path: Path) -> None:
    ensure_credentials(load_settings({"RECEIVER_DATA_DIR": str(tmp_path)}))
    credentials_path(tmp_path).chmod(0o644)
    read_credentials(tmp_path)  # as any command does
    for _ in "12":
        checks = examined(RECEIVER_DATA_DIR=str(tmp_path))[1]
        assert checks["secrets"]["state"] == "warn"
        assert "others could once read it" in checks["secrets"]["detail"]


def test_doctor_warns_of_a_data_folder_that_is_open(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    checks = examined(RECEIVER_DATA_DIR=str(tmp_path))[1]
    assert checks["rights"]["state"] == "warn"
    assert checks["rights"]["todo"] == f"chmod -R go= {tmp_path}"
    tmp_path.chmod(0o700)
    assert "rights" not in examined(RECEIVER_DATA_DIR=str(tmp_path))[1]


def test_doctor_warns_of_secrets_that_can_be_guessed() -> None:
    checks = examined(RECEIVER_ADMIN_TOKENS="changemechangeme")[1]
    assert checks["secrets guessable"]["state"] == "warn"
    assert checks["secrets guessable"]["detail"] == "RECEIVER_ADMIN_TOKENS"


def test_doctor_tells_another_program_from_a_receiver(tmp_path: Path) -> None:
    with answering({"GET /readyz": (200, b"hello")}) as stub:
        code, checks = examined(RECEIVER_URL=stub.url)
    assert code == 1
    assert "is no receiver" in checks["service"]["detail"]


def test_doctor_passes_on_what_a_running_service_says_of_itself() -> None:
    noted = "running, but its key is refused"
    parts = {"store": "cannot commit", "assets": "running", "poll vidgo": noted}
    document = {"status": "not ready", "parts": parts}
    with answering({"GET /readyz": (503, document)}) as stub:
        code, checks = examined(RECEIVER_URL=stub.url)
    assert code == 1
    found = {name: (checks[name]["state"], checks[name]["detail"]) for name in checks}
    assert found["service store"] == ("fail", "cannot commit")
    assert found["service assets"] == ("ok", "running")
    assert found["service poll vidgo"] == ("warn", noted)
    assert "database" not in checks


def test_a_clock_behind_our_own_files_is_found(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    assert check_clock(tmp_path, now).state is State.OK
    assert check_clock(tmp_path, now - timedelta(days=1)).state is State.FAIL


def test_the_sqlite_versions_with_the_wal_reset_bug_are_noted() -> None:
    assert "WAL-reset bug" in check_sqlite((3, 40, 1)).detail
    assert "WAL-reset bug" in check_sqlite((3, 51, 2)).detail
    assert check_sqlite((3, 51, 3)).detail == "3.51.3"


def test_room_on_the_disk_is_looked_at_where_the_folder_will_be(tmp_path: Path) -> None:
    assert str(tmp_path) in check_disk(tmp_path / "not" / "yet").detail


# --- keys -------------------------------------------------------------------------------------------

KEY = "a-key-of-the-operator"


@pytest.mark.parametrize(
    ("status", "document", "state", "said"),
    [
        (404, {"code": 404, "message": "no such task"}, "ok", "VIDGO_API_KEY works (unknown_task"),
        (200, {"code": 200, "data": {"task_id": "receiver-doctor", "status": "running"}}, "ok", "works"),
        (200, {"code": 404, "message": "no such task"}, "ok", "VIDGO_API_KEY works (unknown_task"),
        (200, b"<html>a page of another kind</html>", "warn", "unreadable"),
        (401, {"code": 401}, "fail", "key_refused"),
        (402, {"code": 402}, "fail", "out_of_credit"),
        (429, {"code": 429}, "warn", "rate_limited"),
        (503, b"down for maintenance", "warn", "http_error"),
    ],
)
def test_doctor_asks_a_provider_that_has_a_key(status: int, document: object, state: str, said: str) -> None:
    paths = ("/v/api/generate/status/receiver-doctor", "/v/api/generate/detail/music")
    with answering({f"GET {path}": (status, document) for path in paths}) as stub:
        code, checks = examined(VIDGO_API_KEY=KEY, VIDGO_BASE_URL=f"{stub.url}/v")
    assert stub.tokens == {f"Bearer {KEY}"}
    assert checks["asking vidgo"]["state"] == state
    assert said in checks["asking vidgo"]["detail"]
    assert code == (1 if state == "fail" else 0)
    assert KEY not in repr(checks)


def test_doctor_asks_a_provider_that_wants_the_model_and_one_that_is_not_there() -> None:
    with answering({"GET /api/v1/statusTask/gpt-image-2": (404, {"code": 404})}) as stub:
        code, checks = examined(
            APIXO_API_KEY=KEY,
            APIXO_BASE_URL=stub.url,
            REAPI_API_KEY=KEY,
            REAPI_BASE_URL=f"http://127.0.0.1:{free_port()}",
        )
    assert checks["asking apixo"]["state"] == "ok"
    assert checks["asking reapi"]["state"] == "fail"
    assert "connect_failed" in checks["asking reapi"]["detail"]
    assert code == 1


def test_doctor_fetches_the_public_keys_that_callbacks_must_be_signed_with() -> None:
    key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    with answering({"GET /right": (200, {"keys": [key]}), "GET /none": (200, {"keys": []})}) as stub:
        code, checks = examined(
            FAL_WEBHOOK_KEYS_URL=f"{stub.url}/right",
            IDEOGRAM_WEBHOOK_KEYS_URL=f"{stub.url}/none",
            RECEIVER_ALLOW_NETWORKS="127.0.0.0/8",
        )
    assert (checks["keys fal"]["state"], checks["keys ideogram"]["state"]) == ("ok", "fail")
    assert checks["keys ideogram"]["detail"] == "it holds no Ed25519 key"
    assert code == 1


@pytest.mark.parametrize(
    ("confirm", "said"),
    [
        ("weak", "trusted on the submission log alone"),
        ("never", "a lost callback stays lost"),
        ("always", "every callback is held until it can be confirmed"),
    ],
)
def test_doctor_says_what_the_lack_of_a_key_means(confirm: str, said: str) -> None:
    code, checks = examined(RECEIVER_CONFIRM=confirm)
    assert code == 0  # nobody uses every provider
    assert checks["asking others"]["state"] == "warn"
    assert checks["asking others"]["detail"].startswith("no VIDGO_API_KEY, APIDOT_API_KEY, APIXO_API_KEY, ")
    assert said in checks["asking others"]["detail"]
    assert checks["asking silent ones"]["detail"] == (
        "no REAPI_API_KEY, APIMART_API_KEY, RUNWAY_API_KEY: they send no callbacks, so their tasks never end"
    )


def test_doctor_passes_on_the_lines_of_health_that_no_part_has_said() -> None:
    line = {"severity": "warning", "cause": "it is odd", "step": "mend it", "command": "receiver stats"}
    lines = [
        {**line, "key": "early", "severity": "critical"},
        {**line, "key": "lost", "command": None},
        {**line, "key": "sink:app"},
    ]
    answers: dict[str, tuple[int, object]] = {
        "GET /readyz": (200, {"status": "ready", "parts": {"sink app": "running, but refused"}}),
        "GET /admin/health.json": (200, {"lines": lines}),
    }
    with answering(answers) as stub:
        code, checks = examined(RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert code == 1
    told = {name: (checks[name]["state"], checks[name]["todo"]) for name in ("service early", "service lost")}
    assert told == {"service early": ("fail", "mend it: receiver stats"), "service lost": ("warn", "mend it")}
    assert "service sink:app" not in checks


@pytest.mark.parametrize(
    ("secret", "status", "state", "said"),
    [
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 404, "ok", "answers at RECEIVER_ALERT_URL"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 503, "fail", "the consumer answered 503"),
        ("no-secret-of-a-webhook", 200, "fail", "RECEIVER_ALERT_URL: its SECRET must be whsec_"),
    ],
)
def test_doctor_asks_whoever_is_told_of_alerts(
    tmp_path: Path, secret: str, status: int, state: str, said: str
) -> None:
    server = HttpServer(tmp_path)
    server.start()
    url = f"{server.root}/status/{status}"
    _, checks = examined(RECEIVER_ALERT_URL=url, RECEIVER_ALERT_SECRET=secret)
    server.stop()
    assert checks["alerts"]["state"] == state
    assert said in checks["alerts"]["detail"]
