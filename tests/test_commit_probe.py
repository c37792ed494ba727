"""The pulse of the store: one commit for all who ask, and never an old answer."""

import asyncio
import sqlite3
from contextlib import closing

import httpx2

from receiver.commit_probe import CommitProbe
from receiver.errors import Unavailable
from receiver.runtime import Runtime


class Heart:
    """A store that is only asked whether it commits, and a watch."""

    def __init__(self) -> None:
        self.beats = 0
        self.now = 0.0
        self.error: Exception | None = None

    async def ping(self) -> None:
        self.beats += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error

    def seconds(self) -> float:
        return self.now


async def test_many_who_ask_at_once_share_one_commit() -> None:
    heart = Heart()
    pulse = CommitProbe(heart.ping, heart.seconds)
    assert set(await asyncio.gather(*(pulse.check() for _ in range(50)))) == {"ok"}
    assert heart.beats == 1


async def test_good_news_and_bad_stand_for_a_second() -> None:
    heart = Heart()
    pulse = CommitProbe(heart.ping, heart.seconds)
    assert await pulse.check() == "ok"
    heart.error = Unavailable("the database cannot commit now (SQLITE_FULL)")
    heart.now = 0.99
    assert await pulse.check() == "ok"
    heart.now = 1.0
    assert await pulse.check() == "the database cannot commit now (SQLITE_FULL)"
    heart.error = None
    heart.now = 1.99
    assert await pulse.check() == "the database cannot commit now (SQLITE_FULL)"
    heart.now = 2.0
    assert await pulse.check() == "ok"
    assert heart.beats == 3


async def test_a_stranger_cannot_have_one_commit_after_another(
    stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    path = runtime.settings.data_dir / "receiver.db"
    async with asyncio.timeout(30):
        answers = [await stranger.get("/readyz") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    with closing(sqlite3.connect(path)) as connection:
        (beats,) = connection.execute("SELECT beats FROM heartbeat").fetchone()
    assert beats < 10
