"""A PostgreSQL server of a test's own, to be stopped, frozen, filled and locked."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from tests.support.missing import missing
from tests.support.sink_hosts import free_port

PASSWORD = "CANARY-password-of-the-database"

# Who comes in how: root by name, everybody else by password, and to one database by TLS alone.
HBA = """
hostnossl tls all 127.0.0.1/32 reject
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""
SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 40
shared_buffers = 16MB
autovacuum = off
ssl = on
password_encryption = 'scram-sha-256'
lc_messages = 'C'
"""


class Cluster:
    """A server with the user ``app``, who owns each database that is made here."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._data = folder / "data"
        self._bin = _programs()
        _run(
            self._bin / "initdb",
            "-D",
            self._data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
        )
        _run(
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "2", "-subj", "/CN=a host that signs for itself"),
            *("-keyout", self._data / "server.key", "-out", self._data / "server.crt"),
        )
        (self._data / "pg_hba.conf").write_text(HBA)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(f"{SETTINGS}port = {self.port}\nunix_socket_directories = '{folder}'\n")
        self.start()
        self.do(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        _run(self._bin / "pg_ctl", "-D", self._data, "-l", self._data / "log", "-w", "-s", "start")

    def stop(self, mode: str = "fast") -> None:
        """``fast`` ends sessions in good order; ``immediate`` as a crash does."""
        _run(self._bin / "pg_ctl", "-D", self._data, "-w", "-s", "-m", mode, "stop")

    def demote(self) -> None:
        """Be a replica from now on, as after a failover to another machine."""
        self.stop()
        (self._data / "standby.signal").touch()
        self.start()

    def promote(self) -> None:
        self.do("SELECT pg_promote()")

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def create(self, name: str, options: str = "") -> str:
        """A new database; its URL for ``app``."""
        self.do(f"CREATE DATABASE {name} OWNER app {options}")
        return self.url(name)

    def url(self, database: str, user: str = "app", *, port: int | None = None, **options: str) -> str:
        password = f":{PASSWORD}" if user == "app" else ""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        return f"postgresql://{user}{password}@127.0.0.1:{port or self.port}/{database}?{query}"

    def do(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Statements of root, each in a transaction of its own; the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url(database, "postgres"), autocommit=True) as root:
            for statement in statements:
                done = root.execute(statement.encode())
                rows = done.fetchall() if done.description else []
        return rows

    def _signal(self, number: signal.Signals) -> None:
        """To every process of the server."""
        postmaster = (self._data / "postmaster.pid").read_text().split()[0]
        children = subprocess.run(["pgrep", "-P", postmaster], capture_output=True, text=True, check=False)
        for pid in (postmaster, *children.stdout.split()):
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(int(pid), number)


@contextmanager
def postgres_cluster() -> Iterator[Cluster]:
    """A server on a free port, in a folder of its own; nothing is left of it."""
    folder = Path(tempfile.mkdtemp(prefix="pg."))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    cluster = None
    try:
        cluster = Cluster(folder)
        yield cluster
    finally:
        if cluster is not None:
            cluster.thaw()
            cluster.stop("immediate")
        shutil.rmtree(folder)


def _programs() -> Path:
    """The newest version's folder of programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: int(each.parts[4]))
    if not found:
        missing("no PostgreSQL server is installed")
    return found[-1].parent


def _run(*command: str | Path) -> None:
    # A server refuses to be root's.
    as_whom: Sequence[str] = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
    subprocess.run(
        [*as_whom, *map(str, command)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
