"""`receiver backup`: whole or not there at all, for its owner alone, and honest about what it found."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import receiver
from receiver.clock import Clock
from receiver.config.credentials import credentials_path, ensure_credentials
from receiver.config.settings import load_settings
from receiver.errors import Misconfigured
from receiver.options import StoreOptions
from receiver.stores.sqlite import SqliteStore
from receiver.stores.sqlite.backup import copy_record, examine
from tests.support.cli_callers import run
from tests.support.earlier_releases import make_first_release
from tests.support.factories import completed, later, recording, stored, submission
from tests.support.sink_hosts import free_port

pytestmark = pytest.mark.usefixtures("plain_environment")

IMAGE = b"a hundred bytes that are a picture to whoever believes it".ljust(100, b".")


def keys(data: Path) -> list[str]:
    return sorted(str(path.relative_to(data / "assets")) for path in (data / "assets").rglob("*.png"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def fill(data: Path) -> None:
    """Three tasks with two files each: two stored, one leased, the rest waiting; and the secrets."""
    ensure_credentials(load_settings({"RECEIVER_DATA_DIR": str(data)}))
    store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=data, clock=Clock()))
    for number in range(3):
        await store.log_submission(submission(f"t{number}"))
        await store.record(recording(completed(f"t{number}", files=2)))
    for work in await store.lease_assets(later(1), later(10**9), 2):
        settled = stored(work)
        assert settled.file is not None
        path = data / "assets" / settled.file.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(IMAGE)
        await store.settle_asset(work, settled)
    await store.lease_assets(later(2), later(10**9), 1)
    await store.aclose()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder that every command of this file finds."""
    folder = tmp_path / "receiver-data"
    asyncio.run(fill(folder))
    return folder


def backed_up(target: str = "copy", **environ: str) -> dict[str, Any]:
    result = run("backup", target, "--json", **environ)
    assert result.exit_code == 0, result.output
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def test_the_copy_holds_everything_and_a_start_on_it_finds_it(data: Path, tmp_path: Path) -> None:
    said = backed_up()

    copy = tmp_path / "copy"
    assert said["restore"] == {"RECEIVER_DATA_DIR": str(copy)}
    assert said["database"] == {
        "bytes": (copy / "receiver.db").stat().st_size,
        "submissions": 3,
        "deliveries": 3,
        "events": 3,
        "unfetched": 4,
        "undelivered": 0,
    }
    assert said["files"] == {"folder": "assets", "bytes": 200, "linked": 2, "copied": 0, "wrong": []}
    assert (keys(copy), len(keys(copy))) == (keys(data), 2)
    assert credentials_path(copy).read_bytes() == credentials_path(data).read_bytes()
    shutil.rmtree(data)
    result = run("doctor", "--json", RECEIVER_DATA_DIR=str(copy), PORT="1")
    checks = {check["name"]: check["state"] for check in json.loads(result.stdout)["checks"]}
    assert (checks["database"], checks["secrets"]) == ("ok", "ok")


async def test_what_was_leased_when_it_was_made_is_due_when_it_is_opened(tmp_path: Path) -> None:
    await fill(tmp_path / "receiver-data")
    await asyncio.to_thread(backed_up)

    store = await SqliteStore.open(
        "sqlite:receiver.db", StoreOptions(data_dir=tmp_path / "copy", clock=Clock())
    )

    now = Clock().now()
    assert len(await store.lease_assets(now, later(10**9), 10)) == 4
    await store.aclose()


def test_only_the_owner_may_read_it(data: Path, tmp_path: Path) -> None:
    backed_up()

    copy = tmp_path / "copy"
    modes = [path.stat().st_mode & 0o077 for path in (copy, copy / "receiver.db", credentials_path(copy))]
    assert modes == [0, 0, 0]


def test_a_person_reads_how_much_there_is_and_how_to_restore_it(data: Path, tmp_path: Path) -> None:
    result = run("backup", "copy")

    assert result.exit_code == 0
    assert "3 submissions, 3 events, 3 deliveries" in result.stdout
    assert "4 files to fetch, 0 to be told to sinks" in result.stdout
    assert "2 linked, 0 copied, 200 bytes" in result.stdout
    assert result.stdout.endswith(f"  RECEIVER_DATA_DIR={tmp_path / 'copy'} receiver serve\n")


def test_a_link_stays_what_it_was_when_the_original_is_replaced(data: Path, tmp_path: Path) -> None:
    backed_up()
    (name, *_) = keys(data)

    fresh = data / "assets/new"
    fresh.write_bytes(b"another")
    fresh.replace(data / "assets" / name)

    assert (tmp_path / "copy/assets" / name).read_bytes() == IMAGE


def test_files_are_copied_where_they_cannot_be_linked(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)

    said = backed_up()

    assert (said["files"]["linked"], said["files"]["copied"]) == (0, 2)
    copies = [tmp_path / "copy/assets" / key for key in keys(data)]
    assert [(path.read_bytes(), path.stat().st_nlink) for path in copies] == [(IMAGE, 1)] * 2


def test_a_second_one_beside_the_first_leaves_the_first_alone(data: Path, tmp_path: Path) -> None:
    backed_up("monday")
    first = contents(tmp_path / "monday")
    backed_up("tuesday")

    assert contents(tmp_path / "monday") == first
    assert "receiver.db" in first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["monday", "receiver-data", "tuesday"]


@pytest.mark.parametrize("there", ["a file", "a folder with something in it", "an unfinished one"])
def test_nothing_that_is_there_already_is_touched(data: Path, tmp_path: Path, there: str) -> None:
    target = tmp_path / ("copy.unfinished" if there == "an unfinished one" else "copy")
    if there == "a file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "notes").write_text("mine")

    result = run("backup", "copy")

    assert result.exit_code == 2
    assert str(target) in result.stderr
    mine = target if target.is_file() else target / "notes"
    assert mine.read_text() == "mine"


def test_what_is_no_file_of_credentials_is_told_before_anything_is_copied(data: Path, tmp_path: Path) -> None:
    path = credentials_path(data)
    path.unlink()
    os.mkfifo(path)
    result = run("backup", "copy")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"receiver: {path.relative_to(tmp_path)} cannot be read: it is no file\n"
    assert [entry.name for entry in tmp_path.iterdir()] == [data.name]


def test_an_empty_folder_may_be_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()

    assert backed_up()["database"]["submissions"] == 3


def test_before_the_first_start_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    result = run("backup", "copy")

    assert result.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_stored_files_that_are_not_as_the_database_says_are_named(data: Path, tmp_path: Path) -> None:
    lost, cut = keys(data)
    (data / "assets" / lost).unlink()
    (data / "assets" / cut).write_bytes(IMAGE[:50])

    result = run("backup", "copy", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["files"]["wrong"] == [f"{lost}: missing", f"{cut}: 50 bytes, not 100"]
    assert "2 stored files not as the database says" in result.stderr
    assert (tmp_path / "copy/receiver.db").exists()  # it is as good as what it was made of


def test_settings_that_lead_elsewhere_are_told_with_the_copy(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "receiver-data", tmp_path / "elsewhere"
    asyncio.run(fill(data))
    elsewhere.mkdir()
    (data / "receiver.db").rename(elsewhere / "record.db")
    (data / "assets").rename(elsewhere / "images")
    places = {
        "RECEIVER_DATABASE_URL": f"sqlite:{elsewhere}/record.db",
        "RECEIVER_ASSETS_URL": f"file:{elsewhere}/images",
    }

    said = backed_up(**places)

    assert said["restore"] == {
        "RECEIVER_DATA_DIR": str(tmp_path / "copy"),
        "RECEIVER_DATABASE_URL": "sqlite:record.db",
        "RECEIVER_ASSETS_URL": "file:images",
    }
    assert said["files"]["linked"] == 2
    assert (tmp_path / "copy/record.db").exists()
    assert backed_up("again", **said["restore"])["files"]["linked"] == 2


# --- a copy while somebody writes ---------------------------------------------------------------------


def test_the_copy_shows_the_moment_it_began_however_much_is_written_meanwhile(tmp_path: Path) -> None:
    """Without one transaction around it SQLite's backup would begin anew after every commit, for ever."""
    path = tmp_path / "receiver.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE submissions (filler BLOB)")
        writer.executemany("INSERT INTO submissions VALUES (?)", [(bytes(100_000),)] * 300)
        steps: list[int] = []

        def write(done: int, pages: int) -> None:
            steps.append(done)
            writer.execute("INSERT INTO submissions VALUES (x'00')")

        copy_record(path, tmp_path / "copy.db", write)

    assert steps == sorted(steps)
    assert len(steps) > 5
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM submissions").fetchone() == (300,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- damage -------------------------------------------------------------------------------------------


def spoil(path: Path, how: str) -> None:
    """What a dying disk or a careless copy leaves of a database."""
    good = path.read_bytes()
    middle = len(good) // 2 // 4096 * 4096
    bad = {
        "garbage": b"not a database at all" * 1000,
        "cut short": good[: len(good) // 2],
        "its last page gone": good[:-4096],
        "noise in the middle": good[:middle] + os.urandom(8192) + good[middle + 8192 :],
        "noise at the start": good[:100] + os.urandom(200) + good[300:],
        "zeros": bytes(len(good)),
    }
    path.write_bytes(bad[how])


DAMAGE = ["garbage", "cut short", "its last page gone", "noise in the middle", "noise at the start", "zeros"]


@pytest.mark.parametrize("how", DAMAGE)
def test_of_a_damaged_database_no_backup_is_made(data: Path, tmp_path: Path, how: str) -> None:
    spoil(data / "receiver.db", how)

    result = run("backup", "copy")

    assert result.exit_code == 2
    assert "is damaged" in result.stderr
    assert "RECEIVER_DATA_DIR" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["receiver-data"]


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_anywhere_is_found_by_looking_at_every_page(data: Path, how: str) -> None:
    assert examine(data / "receiver.db", 60)
    spoil(data / "receiver.db", how)

    with pytest.raises(Misconfigured, match="is damaged"):
        examine(data / "receiver.db", 60)


@pytest.mark.parametrize("how", DAMAGE)
def test_doctor_finds_damage_anywhere_and_says_what_to_do(data: Path, how: str) -> None:
    spoil(data / "receiver.db", how)

    examined = run("doctor", "--json", PORT=str(free_port()))

    checks = {check["name"]: check for check in json.loads(examined.stdout)["checks"]}
    assert (examined.exit_code, checks["record"]["state"]) == (1, "fail")
    assert "RECEIVER_DATA_DIR" in checks["record"]["detail"]


# Damage in the middle of a large file shows only when somebody looks there: that is what doctor is for.
@pytest.mark.parametrize("how", ["garbage", "cut short", "noise at the start", "zeros"])
def test_no_start_on_a_database_that_cannot_be_read(data: Path, how: str) -> None:
    spoil(data / "receiver.db", how)

    opened = run("migrate")  # as `serve` does it

    assert opened.exit_code == 2
    assert f"{data.name}/receiver.db" in opened.stderr
    assert "RECEIVER_DATA_DIR" in opened.stderr


def test_doctor_looks_at_every_page(data: Path) -> None:
    examined = run("doctor", "--json", PORT=str(free_port()))

    checks = {check["name"]: check for check in json.loads(examined.stdout)["checks"]}
    assert checks["record"]["state"] == "ok"


def test_looking_at_every_page_stops_when_it_takes_too_long(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "large.db")) as connection:
        connection.execute("CREATE TABLE submissions (number INTEGER PRIMARY KEY, text TEXT)")
        connection.executemany("INSERT INTO submissions (text) VALUES (?)", [("x",)] * 100_000)
        connection.commit()

    assert examine(tmp_path / "large.db", -1) is False


def test_another_programs_database_is_not_taken_for_ours(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE things (name TEXT)")

    result = run("backup", "copy", RECEIVER_DATABASE_URL=f"sqlite:{tmp_path}/other.db")

    assert result.exit_code == 2
    assert "holds no record of a receiver" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]


def test_without_room_nothing_is_left_behind(data: Path, tmp_path: Path) -> None:
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from receiver.cli import main; main(['backup', 'copy'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(receiver.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert "receiver: the database cannot be copied now" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["receiver-data"]


def test_a_record_of_an_older_release_is_copied_before_it_is_migrated(tmp_path: Path) -> None:
    (tmp_path / "receiver-data").mkdir()
    make_first_release(tmp_path / "receiver-data/receiver.db")

    result = run("backup", "copy", "--json")

    said = json.loads(result.stdout)
    assert (said["database"]["submissions"], said["database"]["events"]) == (6, 4)
    assert said["files"]["wrong"] == ["vidgo/partial/0.png: missing"]  # the sample has none
    with closing(sqlite3.connect(tmp_path / "copy/receiver.db")) as copy:
        assert copy.execute("SELECT name FROM _sqlite_migrations").fetchall() == [("m001_the_record",)]
