"""What hosts start: the image, and the lines of the Procfile, as far as that goes on one machine."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from tests.e2e.service import Receiver
from tests.support.dockerfile import Build, command, environment, value
from tests.support.media_host import media_host, picture, says
from tests.support.missing import missing
from tests.support.places import ROOT
from tests.support.postgres import scratch_database
from tests.support.s3 import BUCKET, S3Server, seaweedfs
from tests.support.waiting import until

PNG = picture(size=(64, 48))
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())


class Started(Receiver):
    """The service by another command line."""

    def __init__(self, folder: Path, line: Sequence[str], settings: Mapping[str, str]) -> None:
        super().__init__(folder, settings, ("work",) if "work" in " ".join(line).split() else ("serve",))
        self.line = line

    def launch(self) -> None:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self.line,
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


@asynccontextmanager
async def ended(*services: Receiver) -> AsyncIterator[None]:
    """Nothing of them runs on afterwards."""
    try:
        yield
    finally:
        for service in services:
            service.discard()
            await service.http.aclose()


# --- the image ------------------------------------------------------------------------------------------


# Everything is read-only but the volume $1 and the tmpfs $2.
READ_ONLY = """
mount --bind "$1" "$1" && mount -t tmpfs none "$2" && mount -o remount,ro,bind / && shift 2
! touch /written 2>/dev/null || exit 99
exec "$@"
"""


async def test_the_image_has_its_drivers_runs_on_a_read_only_root_and_tells_its_health(
    tmp_path: Path,
) -> None:
    """One test, as the build takes half a minute."""
    if os.geteuid() != 0:
        missing("only root can make the file system read-only")
    # The first stage: its virtual environment is all that the others take of it.
    image = Build(tmp_path / "image")
    image.all()
    check_drivers(image)
    data, temporary = tmp_path / "data", tmp_path / "tmp"
    data.mkdir()
    temporary.mkdir()
    environ = environment("service")
    environ["PATH"] = environ["PATH"].replace("/opt", f"{image.folder}/opt", 1)
    given = environ | {"RECEIVER_DATA_DIR": str(data), "TMPDIR": str(temporary)}
    writable = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", str(data), str(temporary)]
    service = Started(tmp_path, [*writable, *command("service", "CMD")], given)

    def health() -> int:
        words = command("service", "HEALTHCHECK")
        return subprocess.run(words, env=service.environment, capture_output=True, check=False).returncode

    assert health() == 1
    async with ended(service):
        await service.start()
        assert health() == 0
        await service.stop()
    assert (data / "receiver.db").exists()


def check_drivers(image: Build) -> None:
    """Those that are asked for, and no others."""
    assert image.run("cd /; /opt/receiver/bin/receiver --version")
    image.run('/opt/receiver/bin/python -c "import confluent_kafka, obstore, psycopg, redis"')
    install = value("build", "RUN")
    assert "${EXTRAS}" in install
    bare = image.run(f"{install} --dry-run --ignore-installed", EXTRAS="redis")
    assert "redis-" in bare
    assert "obstore-" not in bare


# --- the Procfile ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
def database() -> Iterator[str]:
    with scratch_database() as url:
        yield url


def as_on_heroku(database: str, bucket: S3Server) -> dict[str, str]:
    """What app.json and its two add-ons set; the bucket's endpoint alone is none of theirs."""
    wanted = json.loads((ROOT / "deploy" / "heroku" / "app.json").read_text())["env"]
    asked = {
        "RECEIVER_PUBLIC_URL": "https://receiver-1a2b3c.herokuapp.com",
        "RECEIVER_SINK_BACKEND": "jsonl:events.jsonl",
    }
    assert {name for name, each in wanted.items() if each.get("required") is True} == {*asked}
    generated = {name for name, each in wanted.items() if each.get("generator") == "secret"}
    assert generated == {
        "RECEIVER_SECRET",
        "RECEIVER_API_TOKENS",
        "RECEIVER_ADMIN_TOKENS",
    }  # Receiver has them
    return {
        **asked,
        **{name: each["value"] for name, each in wanted.items() if "value" in each},
        "DYNO": "web.1",
        "DATABASE_URL": database,
        "BUCKETEER_AWS_ACCESS_KEY_ID": bucket.access.access_key_id or "",
        "BUCKETEER_AWS_SECRET_ACCESS_KEY": bucket.access.secret_access_key or "",
        "BUCKETEER_AWS_REGION": "us-east-1",
        "BUCKETEER_BUCKET_NAME": BUCKET,
        "AWS_ENDPOINT_URL_S3": bucket.endpoint,
    }


async def completed(service: Receiver, task_id: str) -> None:
    """One task with a file, to its event."""
    async with media_host() as host:
        await service.finish(task_id, host.put("/a.png", says(200, PNG)))
        await until(lambda: task_id in service.told())


async def test_the_lines_of_the_procfile_do_all_the_work_with_workers_and_without(
    database: str, bucket: S3Server, tmp_path: Path
) -> None:
    """Each line in a shell, as Heroku runs it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Both tasks have one image: each is to have an object of its own, by which it is counted.
    settings = as_on_heroku(database, bucket) | {"PATH": path, "RECEIVER_ASSET_LINK_COPIES": "false"}

    def dyno(name: str, **more: str) -> Started:
        return Started(tmp_path, ["bash", "-c", f"exec {PROCFILE[name]}"], settings | more)

    release, web, worker = dyno("release"), dyno("web"), dyno("worker")
    release.launch()
    assert await release.ended(60) == 0, release.output()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM receiver.tasks").fetchone() == (0,)
    doors = dyno("web", SERVE_OPTIONS="--no-work")
    async with ended(release, web, doors, worker):
        await web.start()
        await completed(web, "alone")
        again = dyno("release")  # as a change of a config var does it, beside what runs
        again.launch()
        assert await again.ended(60) == 0, again.output()
        await web.stop()
        await doors.start()
        await worker.start()
        await completed(doors, "together")
        assert (await doors.parts())["work"] == "none"
        await worker.stop()
        await doors.stop()
    assert {key.split("/")[-2] for key in bucket.keys("vidgo")} == {"alone", "together"}


def test_a_release_without_the_database_add_on_stops_before_anything_is_lost(tmp_path: Path) -> None:
    environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DYNO": "release.1234"}
    ran = subprocess.run(
        ["bash", "-c", PROCFILE["release"]],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "this host wipes its disk at every restart" in ran.stderr
    assert not (ROOT / "receiver-data").exists()
