"""Real S3 servers from wheels: SeaweedFS, and Moto's as a second implementation."""

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.store import S3Store

from receiver.options import AwsAccess
from tests.support.missing import missing
from tests.support.sink_hosts import accepts, free_port

BUCKET = "images"
KEY, SECRET_KEY = "receiver", "a-secret-key-of-some-length"
ROOT = {"accessKey": "root", "secretKey": "the-secret-key-of-root"}
START_SECONDS = 60.0


class S3Server:
    """One on loopback, with a bucket."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]", *, key: str, secret: str) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.access = AwsAccess(
            access_key_id=key, secret_access_key=secret, endpoint=self.endpoint, region="us-east-1"
        )
        self._process = process

    @property
    def environment(self) -> Mapping[str, str]:
        """What a service is told of it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": self.access.secret_access_key or "",
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": "us-east-1",
        }

    def keys(self, prefix: str) -> list[str]:
        """All that is in the bucket under a prefix."""
        pages = obstore.list(self.store(), prefix)
        return [each["path"] for page in pages for each in page]

    def store(self) -> S3Store:
        return S3Store(
            BUCKET,
            endpoint=self.endpoint,
            access_key_id=self.access.access_key_id,
            secret_access_key=self.access.secret_access_key,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """One that checks signatures and dates, whose users may not make buckets."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        missing("no SeaweedFS is installed (the test extra has it)")
    allowed = [f"{action}:{BUCKET}" for action in ("Read", "Write", "List")]
    identities = [
        {"name": "root", "credentials": [ROOT], "actions": ["Admin", "Read", "Write", "List"]},
        {
            "name": "app",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET_KEY}],
            "actions": allowed,
        },
    ]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    master, volume, filer, port = (_free_port() for _ in range(4))
    command = [
        program, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}",
        "-s3", f"-s3.port={port}", f"-s3.config={config}", "-s3.autoCreateBucket=false", "-s3.iam=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        "-volume.max=64", "-volume.preStopSeconds=0", "-master.volumeSizeLimitMB=64",
    ]  # fmt: skip
    with _running(command, folder) as process:
        root = S3Server(port, process, key=ROOT["accessKey"], secret=ROOT["secretKey"])
        _make_bucket(root, process)
        yield S3Server(port, process, key=KEY, secret=SECRET_KEY)


@contextmanager
def moto(folder: Path) -> Iterator[S3Server]:
    """One that takes any key."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, folder) as process:
        server = S3Server(port, process, key=KEY, secret=SECRET_KEY)
        _make_bucket(server, process)
        yield server


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _make_bucket(server: S3Server, process: "subprocess.Popen[bytes]") -> None:
    """Ask for it until the server is up and has made it."""
    until = time.monotonic() + START_SECONDS
    while True:
        url = obstore.sign(server.store(), "PUT", "", timedelta(minutes=1))
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5).close()
        except urllib.error.HTTPError as exc:
            if exc.code == 409:  # it is there: an answer before was late
                return
        except OSError:
            pass
        else:
            return
        if process.poll() is not None or time.monotonic() > until:
            missing("an S3 server did not start; its log is beside its data")
        time.sleep(0.1)


def _free_port() -> int:
    """One whose other, 10,000 above it, is free as well: SeaweedFS takes both."""
    return next(port for port in iter(free_port, None) if not accepts(port + 10_000))
