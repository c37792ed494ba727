"""Threads that give way: on Linux, where the system tells threads apart."""

import os
import sys
import threading

import pytest

from receiver.threads import MORE_NICE, yielding_pool


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness of each thread")
def test_heavy_work_gives_way_to_the_thread_that_asked_for_it() -> None:
    before = niceness()
    with yielding_pool(1, "heavy") as pool:
        assert pool.submit(niceness).result() == min(before + MORE_NICE, 19)
    assert niceness() == before


def test_where_it_may_not_give_way_it_works_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", forbidden)
    with yielding_pool(1, "heavy") as pool:
        assert pool.submit(lambda: "done").result() == "done"
