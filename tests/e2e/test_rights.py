"""Nobody but its user may read what the service makes, whatever the shell that started it lets others do."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import receiver
from tests.support.media_host import media_host, picture, says
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.rglob("*")) if stat.S_IMODE(path.stat().st_mode) & 0o077]


async def test_what_the_service_makes_in_a_folder_that_is_open_is_its_users_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    async with media_host() as host, receiver(tmp_path) as service:
        await service.finish("t1", host.put("/1.png", says(200, picture())))
        await until(lambda: service.told() == ["t1"])
        assert (service.data / "assets/vidgo/t1/0.png").exists()
        assert open_to_others(service.data) == []


async def test_a_sink_at_a_chosen_place_stays_readable_for_its_group(tmp_path: Path) -> None:
    settings = {"RECEIVER_SINK_FILE": f"jsonl://{tmp_path}/spool/events.jsonl"}
    async with receiver(tmp_path, settings) as service:
        await service.finish("t1")
        await until(lambda: service.lines(str(tmp_path / "spool/events.jsonl")))
        assert stat.S_IMODE((tmp_path / "spool/events.jsonl").stat().st_mode) == 0o640
