"""How many callbacks a second one core acknowledges, beside what a user would write instead.

    python -m tests.bench.field

The yardstick is a FastAPI endpoint that compares the token, ends the task that has this id with SQLAlchemy,
keeps the body, commits, and hands the task to Celery over Redis: one commit a callback, as durable as ours
(SQLite with ``synchronous=FULL`` and a WAL, PostgreSQL as it is installed). It is written twice, ``def`` and
``async def``, and the faster of the two in a round counts. It promises less than the receiver does: a crash
between commit and queue loses a task, and nothing is bounded.

Both are uvicorn in one process on the first core and take the same load from ``wrk`` on the others, by turns.
Needs ``wrk``, ``redis-server``, for its second half a PostgreSQL that the tests know
(``TEST_POSTGRES_URL``), and
``pip install fastapi "sqlalchemy[asyncio]" aiosqlite celery``. Exits 1 when a ratio
is under 20 or a ledger does not agree.
"""

import argparse
import asyncio
import importlib.util
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from tests.bench.ingest import (
    callback_path,
    count_accepted,
    free_port,
    load,
    log_submissions,
    receiver_server,
    served,
    silent_media_host,
    write_load,
)
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.postgres import scratch_database
from tests.support.sink_hosts import RedisServer

TARGET = 20.0
CONNECTIONS = (8, 64)
NEEDED = ("fastapi", "sqlalchemy", "greenlet", "aiosqlite", "celery")
OURS_A_SECOND = 12_000  # tasks that are logged for each second of load
THEIRS_A_SECOND = 3_000
TOKEN = "a-token-of-the-yardstick"

TABLE = """
CREATE TABLE tasks (task_id VARCHAR(200) PRIMARY KEY, owner VARCHAR(200) NOT NULL,
    status VARCHAR(20) NOT NULL, body TEXT, finished_at TIMESTAMP)
"""

COMMON = """
import datetime, hmac, json, sys
import celery, fastapi, uvicorn
from sqlalchemy import Text, String, DateTime, event, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

port, database, redis, token = sys.argv[1:]
queue = celery.Celery(broker=redis)
queue.conf.task_ignore_result = True
app = fastapi.FastAPI()

class Base(DeclarativeBase): ...

class Task(Base):
    __tablename__ = "tasks"
    task_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(20))
    body: Mapped[str | None] = mapped_column(Text)
    finished_at: Mapped[datetime.datetime | None] = mapped_column(DateTime)

def settled(data):
    return (update(Task).where(Task.task_id == data["task_id"], Task.status == "submitted")
        .values(status=data["status"], body=json.dumps(data), finished_at=datetime.datetime.now()))

def pragmas(connection, _record):
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()

def serve(engine):
    if database.startswith("sqlite"):
        event.listen(engine, "connect", pragmas)
    uvicorn.run(app, host="127.0.0.1", port=int(port), loop="uvloop", http="httptools", access_log=False,
        log_level="warning")
"""

SYNC = """
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
engine = create_engine(database, pool_size=20)

@app.post("/callbacks/vidgo/{given}")
def callback(given: str, body: dict):
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise fastapi.HTTPException(401)
    with Session(engine) as session:
        is_first = session.execute(settled(body["data"])).rowcount
        session.commit()
    if is_first:
        queue.send_task("app.store_images", [body["data"]["task_id"]])
    return {"status": "ok"}

serve(engine)
"""

ASYNC = """
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
engine = create_async_engine(
    database.replace("sqlite:", "sqlite+aiosqlite:"), pool_size=20)

@app.post("/callbacks/vidgo/{given}")
async def callback(given: str, body: dict):
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise fastapi.HTTPException(401)
    async with AsyncSession(engine) as session:
        is_first = (await session.execute(settled(body["data"]))).rowcount
        await session.commit()
    if is_first:
        queue.send_task("app.store_images", [body["data"]["task_id"]])
    return {"status": "ok"}

serve(engine.sync_engine)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3, help="of each of the runs")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server")
    add_json(parser)
    chosen = parser.parse_args()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing or shutil.which("wrk") is None:
        install = f"pip install {' '.join(missing)}" if missing else "apt-get install wrk"
        print(f"something is not installed: {install}", file=sys.stderr)
        return 2
    wait_for_quiet()
    with foreign() as cores, tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
        rows, holds = compare(Path(folder), chosen.seconds, chosen.rounds)
    return report(Result(rows=rows, foreign_cores=cores[0], holds=holds), as_json=chosen.json)


def compare(folder: Path, seconds: int, rounds: int) -> tuple[list[Row], bool]:
    runs = rounds * len(CONNECTIONS)
    tasks = OURS_A_SECOND * seconds * runs
    asyncio.run(log_submissions(folder, tasks))
    engines = ["SQLite", "PostgreSQL"] if can_connect() else ["SQLite"]
    answered = 0
    ours: dict[int, list[float]] = {count: [] for count in CONNECTIONS}
    theirs: dict[tuple[str, int], list[float]] = {
        (engine, count): [] for engine in engines for count in CONNECTIONS
    }
    with ExitStack() as stack:
        media = stack.enter_context(silent_media_host())
        receiver = stack.enter_context(receiver_server(folder, "info"))
        redis = stack.enter_context(broker(folder))
        servers = {
            (engine, kind): stack.enter_context(user_server(folder, engine, kind, redis, seconds * runs))
            for engine in engines
            for kind in ("def", "async def")
        }
        for number in range(runs):
            count = CONNECTIONS[number % len(CONNECTIONS)]
            script = write_load(folder, media, number * tasks // runs)
            done = load(receiver + callback_path(), script, seconds, count)
            answered += done.answered
            ours[count].append(done.rate)
            script = write_load(folder, media, number * THEIRS_A_SECOND * seconds)
            for engine in engines:
                rates = [
                    load(f"{servers[engine, kind]}/callbacks/vidgo/{TOKEN}", script, seconds, count).rate
                    for kind in ("def", "async def")
                ]
                theirs[engine, count].append(max(rates))
        time.sleep(0.5)  # what was under way when wrk stopped is answered, though wrk does not count it
    recorded = count_accepted(folder)
    rows = [
        Row(
            measure=f"acks, {count} connections, {engine}",
            unit="/s",
            ours=ours[count],
            yardstick=f"FastAPI, SQLAlchemy on {engine}, Celery",
            theirs=theirs[engine, count],
            target=TARGET,
        )
        for engine, count in theirs
    ]
    return rows, answered <= recorded <= answered + sum(CONNECTIONS) * rounds


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    place = folder / "redis"
    place.mkdir()
    server = RedisServer(place, "--appendonly", "no")  # the kinder one for the yardstick
    server.start()
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()


@contextmanager
def user_server(folder: Path, engine: str, kind: str, redis: str, seconds: int) -> Iterator[str]:
    """What a user would write, with its tasks submitted; each has a database of its own."""
    port = free_port()
    tasks = [(f"task-unified-{n + 1}-benchmark",) for n in range(THEIRS_A_SECOND * seconds)]
    program = folder / f"{engine} {kind}.py"
    program.write_text(COMMON + (SYNC if kind == "def" else ASYNC))
    with ExitStack() as stack:
        if engine == "SQLite":
            database = f"sqlite:///{submitted_in_file(folder / f'{kind}.db', tasks)}"
        else:
            url = stack.enter_context(scratch_database())
            submitted_in_postgres(url, tasks)
            database = url.replace("postgresql:", "postgresql+psycopg:")
        command = [sys.executable, str(program), str(port), database, redis, TOKEN]
        stack.enter_context(served(command, dict(os.environ), port))
        yield f"http://127.0.0.1:{port}"


def submitted_in_file(path: Path, tasks: list[tuple[str]]) -> Path:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(TABLE)
        connection.executemany("INSERT INTO tasks VALUES (?, 'user-17', 'submitted', NULL, NULL)", tasks)
    connection.close()
    return path


def submitted_in_postgres(url: str, tasks: list[tuple[str]]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE.encode())
        with connection.cursor().copy("COPY tasks (task_id, owner, status) FROM STDIN") as copy:
            for (task_id,) in tasks:
                copy.write_row((task_id, "user-17", "submitted"))
        connection.execute("VACUUM ANALYZE tasks")


def can_connect() -> bool:
    try:
        with scratch_database():
            return True
    except psycopg.OperationalError:
        return False


if __name__ == "__main__":
    sys.exit(main())
