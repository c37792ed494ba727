"""A pgbouncer of a test's own, in transaction mode: what is kept in a session is lost or somebody else's."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.support.missing import missing
from tests.support.sink_hosts import free_port
from tests.support.waiting import wait_until


@contextmanager
def pooler(url: str, folder: Path, connections: int = 2) -> Iterator[str]:
    """The URL of a database through a pooler that has so many connections to it for all."""
    bouncer = shutil.which("pgbouncer")
    if bouncer is None:
        missing("pgbouncer is not installed")
    server, port = conninfo_to_dict(url), free_port()
    password = str(server.get("password", ""))
    users, config = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"{server["user"]}" "{password}"\n')
    config.write_text(
        f"""[databases]
{server["dbname"]} = host={server["host"]} port={server["port"]} pool_size={connections}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
"""
    )
    # It refuses to be root, and reads its settings before it is somebody else.
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    child = subprocess.Popen([bouncer, "-q", *user, str(config)], stderr=subprocess.DEVNULL)
    try:
        credentials = f"{server['user']}:{quote(password, safe='')}" if password else server["user"]
        through = f"postgresql://{credentials}@127.0.0.1:{port}/{server['dbname']}"
        wait_until(lambda: _answers(through))
        yield through
    finally:
        child.kill()
        child.wait()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
