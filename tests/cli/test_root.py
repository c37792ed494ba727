"""Root's command line: it becomes the data folder's owner, and no link there leads it astray."""

import json
import os
import signal
import stat
from pathlib import Path

import pytest

from tests.support.other_user import USER, as_root, as_root_runs, folder_of_another, owners, run_as_root
from tests.support.sink_hosts import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # a process for each command


def served(data: Path) -> None:
    """One start and one end of the service, by root."""
    with as_root(["serve"], data, {"PORT": str(free_port())}) as process:
        try:
            wait_until(lambda: (data / "receiver.db-wal").exists() or process.poll() is not None)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, said.decode()
    assert f'"became":"user {USER}"' in said.decode()


def examined(data: Path) -> tuple[int, dict[str, dict[str, str]]]:
    code, said, complaints = run_as_root(["doctor", "--json"], data, {"PORT": str(free_port())})
    assert complaints == b""
    return code, {check["name"]: check for check in json.loads(said)["checks"]}


def test_a_service_that_root_starts_is_its_data_folders_owner() -> None:
    with folder_of_another() as data:
        served(data)
        found = owners(data)
    assert {"receiver.db", "receiver.db.lock", "credentials.json"} <= set(found)
    assert set(found.values()) == {USER}


def test_doctor_run_by_root_makes_nothing_in_a_folder_of_anothers() -> None:
    with folder_of_another() as data:
        code, checks = examined(data)
        assert owners(data) == {}
        served(data)
        before = owners(data)
        assert examined(data)[0] == 0
        assert owners(data) == before
    assert code == 0
    assert checks["user"]["detail"].startswith(f"user {USER}, ")
    assert {checks["assets"]["state"], checks["sink jsonl"]["state"]} == {"ok"}


def test_migrating_and_backing_up_by_root_is_done_by_the_folders_owner() -> None:
    with folder_of_another() as data:
        assert run_as_root(["migrate"], data)[0] == 0
        code, _, complaints = run_as_root(["backup", str(data / "copy")], data)
        assert code == 0, complaints
        found = owners(data)
    assert {"copy/receiver.db", "receiver.db"} <= set(found)
    assert set(found.values()) == {USER}


def test_what_root_made_there_earlier_is_told() -> None:
    with folder_of_another() as data:
        served(data)
        (data / "events.jsonl").touch(mode=0o640)
        checks = examined(data)[1]
    assert checks["owner"]["detail"].endswith("events.jsonl")
    assert checks["owner"]["todo"].startswith("chown -R ")


@pytest.mark.parametrize(
    "arguments", [["serve"], ["doctor"], ["migrate"], ["backup", "/tmp/receiver-backup-that-is-not-made"]]
)
def test_root_refuses_a_folder_that_its_owner_cannot_reach(arguments: list[str]) -> None:
    with folder_of_another() as data:
        data.parent.chmod(0o700)
        code, said, complaints = run_as_root(arguments, data, {"PORT": str(free_port())})
        assert owners(data) == {}
    assert code == (1 if arguments == ["doctor"] else 2)
    assert "cannot reach it from here" in " ".join((said + complaints).decode().split())


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_links_that_were_planted_lead_root_nowhere(mode: int) -> None:
    with folder_of_another() as data:
        elsewhere = data.parent / "elsewhere"
        elsewhere.mkdir()
        elsewhere.chmod(mode)
        (elsewhere / "shadow").write_text("root's own")
        (elsewhere / "shadow").chmod(0o644)
        for name in ("assets", "events.jsonl", "receiver.db", "receiver.db.lock"):
            (data / name).symlink_to(elsewhere / name)
        (data / "credentials.json").symlink_to(elsewhere / "shadow")
        examined(data)
        for arguments in (["serve"], ["migrate"], ["backup", str(data.parent / "copy")], ["stats"]):
            assert run_as_root(arguments, data, {"PORT": str(free_port())})[0] != 0
        assert [path.name for path in elsewhere.iterdir()] == ["shadow"]
        assert stat.S_IMODE((elsewhere / "shadow").stat().st_mode) == 0o644


@pytest.mark.parametrize("arguments", [["serve"], ["doctor"], ["migrate"], ["backup", "/nowhere/copy"]])
@pytest.mark.parametrize("below", ["", "not-there-yet"])
def test_no_link_of_anothers_leads_root_to_a_folder_of_its_own(arguments: list[str], below: str) -> None:
    with folder_of_another() as theirs:
        roots = theirs.parent / "roots"
        roots.mkdir(mode=0o755)
        link = theirs / "data"
        link.symlink_to(roots)
        os.lchown(link, USER, USER)
        environ = {"PORT": str(free_port()), "RECEIVER_DATA_DIR": str(link / below)}
        code, said, complaints = run_as_root(arguments, theirs, environ)
        assert list(roots.iterdir()) == []
    assert code == (1 if arguments == ["doctor"] else 2)
    assert f"a link of user {USER}'s, which root does not follow" in " ".join(
        (said + complaints).decode().split()
    )


def test_roots_own_link_is_followed_by_root() -> None:
    with folder_of_another() as theirs:
        roots = theirs.parent / "roots"
        roots.mkdir(mode=0o755)
        link = theirs.parent / "link"
        link.symlink_to(Path("data", "..", "roots"))
        assert run_as_root(["migrate"], link)[0] == 0
        assert (roots / "receiver.db").exists()


def test_root_refuses_where_the_owner_cannot_read_what_this_runs_with() -> None:
    """As in a virtual environment that only root may enter."""
    closed = "import msgspec; msgspec.__file__ = '/proc/1/environ'; from receiver.cli import main; main()"
    with folder_of_another() as data:
        command = as_root_runs(["-c", closed, "migrate"], data)
        _, complaints = command.communicate(timeout=60)
        assert command.returncode == 2
        assert "cannot read /proc/1/environ, which runs this" in complaints.decode()
        assert "Traceback" not in complaints.decode()
        assert owners(data) == {}
