"""`receiver doctor` changes nothing that it looks at, and says what to do about all that is not well."""

import asyncio
import json
import shutil
import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from receiver.cli import probes
from receiver.clock import Clock
from receiver.config.credentials import credentials_path, ensure_credentials
from receiver.config.fields import ALL_FIELDS
from receiver.config.settings import load_settings
from receiver.errors import Unavailable
from receiver.fetching import fetcher
from receiver.health import checks
from receiver.health.checks import State
from receiver.health.key_probe import key_remedy
from receiver.models import Outcome
from receiver.options import StoreOptions
from receiver.plugins import load
from receiver.ports import FileRecord
from receiver.stores.sqlite import SqliteStore, backup, migrations
from receiver.stores.sqlite.migrations import migrate, pending
from tests.support.cli_callers import run
from tests.support.cli_stub import answering
from tests.support.earlier_releases import make_first_release
from tests.support.fake_world import make_trust
from tests.support.sink_hosts import free_port
from tests.support.terminals import at_a_terminal

pytestmark = pytest.mark.usefixtures("plain_environment")

KEY = "a-key-of-the-operator"


def examined(**environ: str) -> dict[str, dict[str, Any]]:
    result = run("doctor", "--json", **{"PORT": str(free_port()), **environ})
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The data folder that every command of this file finds, with a record of the first release."""
    (tmp_path / "receiver-data").mkdir()
    path = tmp_path / "receiver-data/receiver.db"
    make_first_release(path)
    return path


def applied(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM _sqlite_migrations")]


# --- TLS ----------------------------------------------------------------------------------------------


def test_a_certificate_that_is_not_accepted_is_told_in_openssls_words(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = make_trust(tmp_path).server.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_address[1]}"
    try:
        found = examined(
            VIDGO_API_KEY=KEY,
            VIDGO_BASE_URL=url,
            RECEIVER_SINK_MINE=url,
            RECEIVER_URL=url,
            RECEIVER_PUBLIC_URL=url,
        )
    finally:
        server.shutdown()
        server.server_close()
    for name in ("asking vidgo", "sink mine", "service", "public url leads here"):
        assert "self-signed certificate" in found[name]["detail"], name


# --- the record is left alone -------------------------------------------------------------------------


def test_migrations_that_wait_are_told_and_not_made(old: Path) -> None:
    before, number = old.read_bytes(), len(pending(old) or ())

    check = examined()["database"]

    assert number > 0
    assert (check["state"], check["detail"]) == ("warn", f"{number} migrations wait")
    assert check["todo"] == "back up, then start or run `receiver migrate`"
    assert old.read_bytes() == before
    assert not old.with_name("receiver.db.lock").exists()
    assert applied(old) == ["m001_the_record"]


def test_one_migration_waits(tmp_path: Path) -> None:
    path = tmp_path / "receiver-data/receiver.db"
    path.parent.mkdir()
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "DELETE FROM _sqlite_migrations WHERE id = (SELECT max(id) FROM _sqlite_migrations)"
        )
        connection.commit()

    assert examined()["database"]["detail"] == "1 migration waits"


def test_a_running_service_hears_of_migrations_that_wait_too(old: Path) -> None:
    with answering({"GET /readyz": (200, {"status": "ready", "parts": {"store": "ok"}})}) as stub:
        found = examined(RECEIVER_URL=stub.url)

    assert found["database"]["state"] == "warn"
    assert applied(old) == ["m001_the_record"]


@pytest.mark.parametrize("is_there", [True, False], ids=["empty", "missing"])
def test_a_database_that_is_not_there_yet_is_not_made(tmp_path: Path, is_there: bool) -> None:
    folder = tmp_path / "receiver-data"
    ensure_credentials(load_settings({"RECEIVER_DATA_DIR": str(folder)}))
    if is_there:  # as a start leaves it that was killed at once
        (folder / "receiver.db").touch()

    found = examined()

    assert found["database"]["state"] == "ok"
    assert "made at the first start: receiver-data/receiver.db" in found["database"]["detail"]
    assert {path.name for path in folder.glob("receiver.db*")} == ({"receiver.db"} if is_there else set())
    assert not is_there or (folder / "receiver.db").stat().st_size == 0


def test_a_database_elsewhere_is_not_made_either(tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk/receiver.db"

    found = examined(RECEIVER_DATABASE_URL=f"sqlite:{elsewhere}")

    assert str(elsewhere) in found["database"]["detail"]
    assert list(tmp_path.iterdir()) == []


def test_a_service_on_the_same_folder_goes_on(tmp_path: Path) -> None:
    """One that doctor cannot ask, so that only the lock tells of it."""
    folder = tmp_path / "receiver-data"

    async def serve_meanwhile() -> dict[str, dict[str, Any]]:
        store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=folder, clock=Clock()))
        try:
            found = await asyncio.to_thread(examined)
            await store.ping()
        finally:
            await store.aclose()
        return found

    check = asyncio.run(serve_meanwhile())["database"]
    assert check["state"] == "fail"
    assert "in use by another receiver" in check["detail"]
    assert "set RECEIVER_URL to where that answers" in check["todo"]


def test_a_damaged_record_is_not_opened_for_writing(old: Path) -> None:
    old.write_bytes(b"not a database at all" * 1000)

    found = examined()

    assert found["record"]["state"] == "fail"
    assert "database" not in found
    assert not old.with_name("receiver.db.lock").exists()


def test_a_record_of_a_newer_release_is_told(tmp_path: Path) -> None:
    path = tmp_path / "receiver-data/receiver.db"
    path.parent.mkdir()
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('receiver', 'm099', '')"
        )
        connection.commit()

    check = examined()["database"]

    assert (check["state"], check["todo"].partition(",")[0]) == ("fail", "use the release that wrote it")


def test_a_database_of_another_program_is_told_and_not_to_be_migrated(tmp_path: Path) -> None:
    path = tmp_path / "receiver-data/receiver.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE invoices (id)")

    check = examined()["database"]

    assert check["state"] == "fail"
    assert "is another program's" in check["detail"]
    assert "migrate" not in check["detail"] + check["todo"]
    assert "to another place" in check["todo"]


def test_a_record_that_somebody_holds_is_to_be_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "BUSY_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(backup, "BUSY_TIMEOUT_SECONDS", 0.05)
    path = tmp_path / "receiver-data/receiver.db"
    path.parent.mkdir()
    migrate(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")

        found = examined()

    assert (found["record"]["state"], "locked" in found["record"]["detail"]) == ("fail", True)
    assert found["record"]["todo"].startswith("look again in a minute; ")


def test_the_size_of_the_log_is_told_and_a_long_one_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "receiver-data/receiver.db"
    path.parent.mkdir()
    migrate(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE heartbeat SET beats = beats + 1")
        usual = examined()["record"]
        monkeypatch.setattr(probes, "LONG_LOG_BYTES", 0)
        long = examined()["record"]

    assert (usual["state"], "write-ahead log: 0 MiB" in usual["detail"]) == ("ok", True)
    assert (long["state"], "is long" in long["detail"]) == ("warn", True)
    assert "which other program" in long["todo"]


def test_a_record_that_is_busy_with_its_schema_is_to_be_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot_now(_url: str, _data_dir: Path) -> list[str] | None:
        raise Unavailable("the record cannot be opened now")

    monkeypatch.setattr(SqliteStore, "pending_migrations", cannot_now)

    check = examined()["database"]

    assert (check["state"], check["todo"].partition(";")[0]) == ("fail", "look again in a minute")


def test_what_a_file_can_do_besides_is_declared() -> None:
    assert isinstance(load("stores", "sqlite"), FileRecord)
    record: FileRecord = SqliteStore  # so says the type checker
    assert record.file_of("sqlite:receiver.db", Path("data")) == Path("data/receiver.db")


# --- what to do ---------------------------------------------------------------------------------------


def unwell(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [check for check in found.values() if check["state"] != "ok"]


def test_whatever_is_not_well_comes_with_what_to_do_and_nothing_else_does(old: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    credentials_path(old.parent).write_text("{}")
    (old.parent / "assets").write_text("no folder")
    old.parent.chmod(0o755)
    providers = {
        "GET /v/api/generate/status/receiver-doctor": (401, {"code": 401}),
        "GET /d/api/generate/status/receiver-doctor": (402, {"code": 402}),
        "GET /x/api/v1/statusTask/gpt-image-2": (429, {"code": 429}),
    }
    with answering(providers) as stub:
        found = examined(
            RECEIVER_SINK_HOOK=f"{nobody}/in",
            RECEIVER_SINK_FILE="jsonl:assets/events.jsonl",
            VIDGO_API_KEY=KEY,
            VIDGO_BASE_URL=f"{stub.url}/v",
            APIDOT_API_KEY=KEY,
            APIDOT_BASE_URL=f"{stub.url}/d",
            APIXO_API_KEY=KEY,
            APIXO_BASE_URL=f"{stub.url}/x",
            REAPI_API_KEY=KEY,
            REAPI_BASE_URL=nobody,
        )
    expected = {
        "secrets", "rights", "public url", "asking vidgo", "asking apidot", "asking apixo", "asking reapi",
        "asking others", "asking silent ones",
        "confirming apixo", "database", "assets", "sink hook", "sink file",
    }  # fmt: skip
    assert {check["name"] for check in unwell(found)} == expected
    assert all((check["todo"] is None) == (check["state"] == "ok") for check in found.values())
    assert found["sink hook"]["todo"].startswith("check RECEIVER_SINK_HOOK,")
    assert found["asking vidgo"]["todo"] == "set VIDGO_API_KEY to a key that is good at VIDGO_BASE_URL"


def test_settings_that_are_wrong_come_with_what_to_do() -> None:
    found = examined(RECEIVER_LOG_LEVEL="loud")
    assert found["settings"]["todo"] == "correct or unset it (see `receiver docs settings`)"


def test_a_service_that_is_not_ready_comes_with_what_to_do() -> None:
    parts = {
        "store": "cannot commit",
        "assets": "failed",
        "sink hook": "stopped: 410",
        "poll vidgo": "failed",
    }
    with answering({"GET /readyz": (503, {"status": "not ready", "parts": parts})}) as stub:
        found = examined(RECEIVER_URL=stub.url)
    heard = [found["service"], *(found[f"service {part}"] for part in parts)]
    assert all(check["state"] == "fail" and check["todo"] for check in heard)
    assert "RECEIVER_SINK_HOOK" in found["service sink hook"]["todo"]
    assert "VIDGO_API_KEY" in found["service poll vidgo"]["todo"]


def test_events_that_wait_for_a_sink_that_is_not_set_come_with_what_to_do() -> None:
    parts = {"upkeep": "running, but events wait for sinks that are not set: old (3)"}
    with answering({"GET /readyz": (200, {"status": "ready", "parts": parts})}) as stub:
        found = examined(RECEIVER_URL=stub.url)
    assert found["service upkeep"]["state"] == "warn"
    assert "receiver dead move" in found["service upkeep"]["todo"]


def test_a_check_that_warns_or_fails_cannot_be_made_without_what_to_do() -> None:
    for make in (checks.warn, checks.fail):
        with pytest.raises(TypeError):
            make("a name", "what was found")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("reserved_of_free", "state", "said"),
    [
        (0.4, State.OK, "free at"),
        (0.75, State.WARN, "downloads stop below"),
        (1.5, State.FAIL, "downloads have stopped, as they do below"),
    ],
)
def test_a_disk_that_fills_up_is_told_before_downloads_stop_and_callbacks_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserved_of_free: float, state: State, said: str
) -> None:
    monkeypatch.setattr(fetcher, "RESERVED_PART", 1)
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fetcher, "MOST_RESERVED_BYTES", int(disk.free * reserved_of_free))
    reserved = fetcher.reserved_bytes(disk.total)

    check = checks.check_disk(tmp_path / "not yet")

    assert (check.state, said in check.detail) == (state, True)
    if state is not State.OK:
        assert f"{checks.size(reserved)}, and callbacks get 503" in check.detail
        assert "RECEIVER_DATA_DIR" in (check.todo or "")


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_of_a_question_has_something_to_do(outcome: Outcome) -> None:
    assert "VIDGO_" in key_remedy("vidgo", outcome) or outcome is Outcome.RATE_LIMITED


def test_every_variable_that_is_named_is_one(old: Path) -> None:
    known = {field.variable for field in ALL_FIELDS} | {"RECEIVER_URL"}
    said = " ".join(check["todo"] for check in unwell(examined()))
    named = {word.strip(",;") for word in said.split() if word.startswith("RECEIVER_")}
    assert named
    assert named <= known


# --- how it reads -------------------------------------------------------------------------------------


def test_the_public_url_is_judged_once_for_all_providers() -> None:
    found = examined(RECEIVER_PUBLIC_URL="http://10.0.0.1")
    assert found["public url"]["todo"] == "set RECEIVER_PUBLIC_URL to the https URL that providers reach"
    assert [name for name in found if name.startswith("callbacks")] == [
        "callbacks reapi",
        "callbacks apimart",
        "callbacks runway",
    ]
    well = examined(RECEIVER_PUBLIC_URL="https://hooks.example.com")
    assert (well["public url"]["state"], well["public url"]["detail"]) == ("ok", "https://hooks.example.com")


def test_a_provider_is_named_where_only_its_own_url_is_too_long() -> None:
    found = examined(RECEIVER_PUBLIC_URL=f"https://hooks.example.com/{'x' * 2000}")
    assert found["public url"]["state"] == "ok"
    assert found["callbacks vidgo"]["state"] == "warn"
    assert "more than 2048 characters" in found["callbacks vidgo"]["detail"]


def test_people_read_it_on_eighty_columns(old: Path) -> None:
    hook = f"http://127.0.0.1:{free_port()}/in"
    lines = at_a_terminal(
        "doctor", environ={"PORT": str(free_port()), "RECEIVER_SINK_HOOK": hook}, columns=80
    ).lines
    assert max(len(line) for line in lines if str(old.parents[1]) not in line) <= 80  # a path stays whole
    at = next(number for number, line in enumerate(lines) if line.startswith("warn  database"))
    said, todo = f"{len(pending(old) or ())} migrations wait", "to do: back up, then start or run"
    assert lines[at].endswith(f"  {said}")
    assert lines[at + 1].strip().startswith(todo)
    assert lines[at + 1].index(todo) == lines[at].index(said)
