"""From settings to everything opened, and closed again: in reverse, whole, and as often as asked."""

import asyncio
import fcntl
import gc
import os
import re
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest

from receiver.config.settings import Settings, load_settings
from receiver.errors import Misconfigured, Unavailable
from receiver.runtime import Runtime, open_runtime
from receiver.testing import sample_callback
from receiver.web.app import build_app
from tests.support.sink_hosts import free_port
from tests.support.waiting import until
from tests.support.web_callers import API_TOKEN, callback_path, caller, log_task, progress_callback

# A sink as third parties bring one: it notes when it is opened and closed, and what it is told.
NOTING_SINK = """
import fcntl, os

notes = []


class NotingSink:
    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        notes.append(f"open {name}")

    @classmethod
    def from_url(cls, url, options):
        if url.endswith(":refuses"):
            from receiver.errors import Misconfigured
            raise Misconfigured(f"sink {options.name}: not like this")
        return cls(options.name, options.data_dir)

    async def publish(self, notification):
        notes.append(f"{self.name} has {notification.event_id}")

    async def ping(self):
        pass

    async def aclose(self):
        lock = os.open(self.folder / "receiver.db.lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = "after the store"
        except BlockingIOError:
            state = "before the store"
        finally:
            os.close(lock)
        notes.append(f"close {self.name} {state}")
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the sinks of scheme ``noting:`` write down."""
    folder = tmp_path / "site"
    info = folder / "noting-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "noting_sink.py").write_text(NOTING_SINK)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[receiver.sinks]\nnoting = noting_sink:NotingSink\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "noting_sink", raising=False)
    module = __import__("noting_sink")
    written: list[str] = module.notes
    return written


def settings(tmp_path: Path, **variables: str) -> Settings:
    return load_settings(
        {
            "RECEIVER_DATA_DIR": str(tmp_path / "data"),
            "RECEIVER_SECRET": "a-secret-for-tests-only",
            "RECEIVER_API_TOKENS": API_TOKEN,
            "RECEIVER_ADMIN_TOKENS": "an-admin-of-the-tests",
            **variables,
        }
    )


def open_files(folder: Path) -> set[str]:
    """What is open in this process of a folder."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(link.readlink())
        except FileNotFoundError:  # the listing's own
            continue
    return {str(path.relative_to(folder)) for path in found if path.is_relative_to(folder)}


def our_threads(before: set[threading.Thread]) -> set[str]:
    """The names of those that the product has started since."""
    names = {each.name for each in set(threading.enumerate()) - before}
    return {name for name in names if name.startswith(("receiver-", "jsonl-"))}


def is_locked(path: Path) -> bool:
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


# --- opened and closed ----------------------------------------------------------------------------------


async def test_it_opens_and_closes_twice_in_one_process_and_leaves_nothing_open(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    for task_id in ("t1", "t2"):
        async with open_runtime(settings(tmp_path)) as runtime:
            await one_task(runtime, task_id)
            assert is_locked(tmp_path / "data/receiver.db.lock")
            assert {"receiver.db", "receiver.db.lock"} <= open_files(tmp_path / "data")
            assert {"receiver-writer", "jsonl-sink"} <= our_threads(threads)
        gc.collect()  # what was not closed warns now, and warnings are errors
        assert open_files(tmp_path / "data") == set()
        await until(lambda: our_threads(threads) == set())
        assert not (tmp_path / "data/receiver.db-wal").exists()  # folded into the file by a clean end
    assert (tmp_path / "data/events.jsonl").read_bytes().count(b"\n") == 2


async def one_task(runtime: Runtime, task_id: str) -> None:
    """From its submission to the sink's file."""
    async with caller(build_app(runtime), API_TOKEN) as backend:
        await log_task(backend, task_id)
        body = sample_callback("vidgo", task_id, error="nsfw")
        answer = await backend.post(callback_path(runtime), content=body)
        assert answer.json()["status"] == "accepted"
        events = runtime.settings.data_dir / "events.jsonl"
        await until(lambda: events.exists() and task_id in events.read_text())

        async def delivered() -> bool:
            task = (await backend.get(f"/tasks/vidgo/{task_id}")).json()
            return {entry["state"] for entry in task["notifications"]} == {"delivered"}

        await until(delivered)


async def test_sinks_are_closed_in_reverse_and_before_the_store(tmp_path: Path, notes: list[str]) -> None:
    two = {"RECEIVER_SINK_A": "noting:a", "RECEIVER_SINK_B": "noting:b"}
    async with open_runtime(settings(tmp_path, **two)):
        assert notes == ["open a", "open b"]
    assert notes[2:] == ["close b before the store", "close a before the store"]


async def test_what_was_opened_before_a_failure_is_closed_and_can_be_opened_again(
    tmp_path: Path, notes: list[str]
) -> None:
    wrong = {"RECEIVER_SINK_A": "noting:a", "RECEIVER_SINK_B": "noting:refuses"}
    with pytest.raises(Misconfigured, match="sink b: not like this"):
        async with open_runtime(settings(tmp_path, **wrong)):
            raise AssertionError("it must not open")
    assert notes == ["open a", "close a before the store"]
    gc.collect()
    async with open_runtime(settings(tmp_path)) as runtime:
        await runtime.store.ping()


async def test_an_error_inside_closes_everything_and_comes_out_as_it_is(
    tmp_path: Path, notes: list[str]
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_runtime(settings(tmp_path, RECEIVER_SINK_A="noting:a")):
            raise ZeroDivisionError
    assert notes == ["open a", "close a before the store"]
    assert not is_locked(tmp_path / "data/receiver.db.lock")


async def test_what_an_earlier_process_left_half_downloaded_is_swept_at_start(tmp_path: Path) -> None:
    folders = [tmp_path / "data/incoming", tmp_path / "data/assets/.incoming"]
    for folder, left in zip(folders, (f"tmp_{'0' * 32}", "tmp12345678"), strict=True):
        folder.mkdir(parents=True)
        (folder / left).write_bytes(b"half an image")
        (folder / "precious").write_bytes(b"another's")
    whole = tmp_path / "data/assets/vidgo/t1/0.png"
    whole.parent.mkdir(parents=True)
    whole.write_bytes(b"a whole one")
    async with open_runtime(settings(tmp_path)):
        assert [path.name for folder in folders for path in folder.glob("*")] == ["precious"] * 2
        assert whole.read_bytes() == b"a whole one"


# --- what an operator must change -----------------------------------------------------------------------


async def refusal(wanted: Settings) -> str:
    with pytest.raises(Misconfigured) as caught:
        async with open_runtime(wanted):
            raise AssertionError("it must not open")
    return "\n".join(caught.value.problems)


async def test_a_folder_in_use_is_named_with_who_uses_it(tmp_path: Path) -> None:
    async with open_runtime(settings(tmp_path)) as first:
        with pytest.raises(Unavailable) as caught:
            async with open_runtime(settings(tmp_path)):
                raise AssertionError("it must not open")
        said = str(caught.value)
        assert f"in use by another receiver (process {os.getpid()})" in said
        assert str(tmp_path / "data") in said
        await first.store.ping()  # undisturbed
    async with open_runtime(settings(tmp_path)):
        pass


async def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    assert str(tmp_path / "data") in await refusal(settings(tmp_path))


async def test_a_folder_without_rights_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "data").mkdir(mode=0o500)
    assert "cannot be written: Permission denied" in await refusal(settings(tmp_path))


@pytest.mark.parametrize("name", ["receiver.db", "receiver.db.lock"])
async def test_a_link_in_the_data_folder_is_named_and_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    assert "cannot be written: it is a link, which is not followed" in await refusal(settings(tmp_path))
    assert not (tmp_path / "elsewhere").exists()


async def test_a_database_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/receiver.db").write_bytes(b"these are not the pages you are looking for" * 100)
    said = await refusal(settings(tmp_path))
    assert "receiver.db is damaged (file is not a database)" in said
    assert not is_locked(tmp_path / "data/receiver.db.lock")


async def test_an_unknown_sink_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"RECEIVER_SINK_A: sink gopher://… is not known"):
        settings(tmp_path, RECEIVER_SINK_A="gopher://user:password@host/")
    assert not (tmp_path / "data").exists()
    good = settings(tmp_path)
    wrong = msgspec.structs.replace(good.sinks[0], url="gopher://user:password@host/")
    said = await refusal(msgspec.structs.replace(good, sinks=(wrong,)))  # settings that nobody checked
    assert said.startswith("sink gopher://… is not known (known: ")
    assert not is_locked(tmp_path / "data/receiver.db.lock")


async def test_a_missing_driver_names_its_extra_and_not_the_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if re.match(r"(receiver\.sinks\.)?redis\b", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)  # as if it were not installed
    wanted = settings(tmp_path, RECEIVER_SINK_A="redis://:a-password@127.0.0.1/0")
    said = await refusal(wanted)
    assert said == "sink redis://… needs the redis extra: pip install 'callback-receiver[redis]'"


async def test_what_was_held_ends_after_a_start_without_the_key(tmp_path: Path) -> None:
    keyed = {"VIDGO_API_KEY": "a-key", "VIDGO_BASE_URL": f"http://127.0.0.1:{free_port()}"}
    async with open_runtime(settings(tmp_path, **keyed)) as runtime:
        async with caller(build_app(runtime), API_TOKEN) as backend:
            await log_task(backend, "t1")
            await backend.post(callback_path(runtime), content=sample_callback("vidgo", "t1", error="nsfw"))
        assert await runtime.store.get_event("vidgo", "t1") is None

    async with open_runtime(settings(tmp_path)) as runtime:
        events = runtime.settings.data_dir / "events.jsonl"
        await until(lambda: events.exists() and "nsfw" in events.read_text())


# --- the loops ------------------------------------------------------------------------------------------


async def test_there_is_a_loop_for_files_each_provider_with_a_key_each_sink_replays_and_upkeep(
    tmp_path: Path,
) -> None:
    two = {"RECEIVER_SINK_A": "jsonl:a.jsonl", "RECEIVER_SINK_B": "jsonl:b.jsonl", "VIDGO_API_KEY": "a-key"}
    async with open_runtime(settings(tmp_path, **two)) as runtime:
        await until(lambda: set(runtime.worker.status().values()) == {"running"})
        assert list(runtime.worker.status()) == [
            "assets", "poll vidgo", "held", "sink a", "sink b", "replay", "upkeep", "history",
        ]  # fmt: skip


async def test_a_crashed_loop_takes_readiness_away_until_it_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.worker.RESTART_SECONDS", 0.2)
    monkeypatch.setattr("receiver.worker.FALLBACK_SECONDS", 0.1)
    async with open_runtime(settings(tmp_path)) as runtime, caller(build_app(runtime), API_TOKEN) as client:
        await log_task(client, "t1")
        body = sample_callback("vidgo", "t1", files=["https://127.0.0.1/0.png"])
        await client.post(callback_path(runtime), content=body)
        change(tmp_path, "UPDATE assets SET due_at = 'no time', state = 'pending', lease = NULL")
        parts = await readiness(client, 503)
        assert parts["assets"] == "restarting after ValueError"
        assert parts["sink jsonl"] == "running"
        assert (await client.get("/healthz")).status_code == 200
        assert 'receiver_loop_restarts_total{loop="assets"}' in (await client.get("/metrics")).text

        change(tmp_path, "UPDATE assets SET due_at = '2026-01-01T00:00:00.000Z'")
        events = tmp_path / "data/events.jsonl"
        await until(lambda: events.exists() and "t1" in events.read_text())  # only that loop could bring it
        assert (await readiness(client, 200))["assets"] == "running"


@pytest.mark.usefixtures("no_fallback")
async def test_an_early_end_that_a_later_callback_binds_is_told_before_the_loops_look_by_themselves(
    tmp_path: Path,
) -> None:
    async with open_runtime(settings(tmp_path)) as runtime, caller(build_app(runtime), API_TOKEN) as client:
        row = (await client.post("/submissions", json={"provider": "vidgo", "owner": "user-17"})).json()
        early = sample_callback("vidgo", "t1", error="nsfw")
        assert (await client.post(callback_path(runtime), content=early)).json()["status"] == "early"
        await asyncio.sleep(0.1)  # the loops have looked and sleep
        answer = await client.post(urlsplit(row["callback_url"]).path, content=progress_callback("t1"))
        assert answer.json()["status"] == "progress"
        events = tmp_path / "data/events.jsonl"
        await until(lambda: events.exists() and "t1" in events.read_text())


ADMIN = {"authorization": "Bearer an-admin-of-the-tests"}  # who reads what is wrong with each part


async def readiness(client: httpx2.AsyncClient, status: int) -> dict[str, str]:
    """The state of each part, in the first answer with this status."""
    answers: list[httpx2.Response] = []

    async def has_come() -> bool:
        answers.append(await client.get("/readyz", headers=ADMIN))
        return answers[-1].status_code == status

    await until(has_come)
    parts: dict[str, str] = answers[-1].json()["parts"]
    return parts


def change(tmp_path: Path, statement: str) -> None:
    """Damage, or mend, as only another hand could."""
    with closing(
        sqlite3.connect(tmp_path / "data/receiver.db", isolation_level=None, timeout=5)
    ) as connection:
        connection.execute(statement)


async def test_a_secret_that_signs_no_alerts_is_told_by_its_variable(tmp_path: Path) -> None:
    alerts = {"RECEIVER_ALERT_URL": "https://alerts.example", "RECEIVER_ALERT_SECRET": "no-webhook-secret"}
    told = await refusal(settings(tmp_path, **alerts))
    assert told.startswith("RECEIVER_ALERT_URL: its SECRET must be whsec_")
