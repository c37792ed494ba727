"""Make the pictures of the manual: the main pages of a real service that was filled by the simulator.

    python -m tests.screenshots [--folder receiver/docs/pictures]

Starts the simulator and ``receiver serve``, lets a backend order tasks, with one sink that works and one
where nobody listens, waits until that is told, logs in by a one-time link, and writes each page of
``PICTURES`` as WebP. Needs Chromium, Playwright and Pillow (the extras ``browser`` and ``demo``). Exits 1
where they are more than ``MOST_BYTES`` together. Look at them before they are committed: nothing else does.
"""

import argparse
import asyncio
import io
import math
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import httpx2
from PIL import Image
from playwright.async_api import async_playwright

from receiver.cli.client import admin_token
from receiver.cli.demo import RETRY_FACTOR
from receiver.cli.demo.backend import Backend, open_backend
from receiver.cli.demo.plan import make_plan
from receiver.cli.demo.service import asking, find_port, open_pages, run_service, service_environment
from receiver.clock import Clock
from receiver.config.settings import Settings, load_settings
from receiver.models import MINUTE, Measure, Sample, series_name
from receiver.options import StoreOptions
from receiver.simulator import SimulatorOptions, serve_simulator
from receiver.stores.sqlite import SqliteStore
from tests.support.places import ROOT
from tests.support.waiting import until

FOLDER = ROOT / "receiver" / "docs" / "pictures"
MOST_BYTES = 300_000
TASKS = 44
QUALITY = 70
TASK_SECONDS = 1.0
DESK, PHONE = (1280, 800), (390, 780)
SINKS = {"RECEIVER_SINK_APP": "http://127.0.0.1:9/images", "RECEIVER_SINK_LOG": "jsonl:events.jsonl"}


DAY_SECONDS = 86_400
# Every picture that is in sight; those below are loaded when somebody gets there.
ALL_DRAWN = """[...document.images].every(
    each => each.getBoundingClientRect().top > innerHeight || each.complete && each.naturalWidth
)"""
# What a minute of the history counts, at its middle.
COUNTED: tuple[tuple[Measure, dict[str, str], float], ...] = (
    (Measure.CALLBACKS, {"verdict": "accepted"}, 40),
    (Measure.CALLBACKS, {"verdict": "duplicate"}, 6),
    (Measure.ANSWER_SECONDS, {"le": "0.005"}, 44),
    (Measure.ANSWER_SECONDS, {"le": "0.05"}, 2),
    (Measure.SENT_SECONDS, {"le": "0.5"}, 30),
    (Measure.SENT_SECONDS, {"le": "2.5"}, 10),
    (Measure.FILES, {"outcome": "stored"}, 90),
    (Measure.FILES, {"outcome": "timeout"}, 2),
    (Measure.NOTIFICATIONS, {"outcome": "delivered"}, 40),
)


class Picture(NamedTuple):
    """One page in one size."""

    name: str
    path: str  # with the word TASK for one of several images
    size: tuple[int, int]


PICTURES = (
    Picture("overview", "/admin/", DESK),
    Picture("grid", "/admin/tasks?view=grid&state=completed", DESK),
    Picture("history", "/admin/history", DESK),
    Picture("task", "/admin/tasks/TASK", DESK),
    Picture("image", "/admin/tasks/TASK?file=0", DESK),
    Picture("sink", "/admin/sinks/app", DESK),
    Picture("overview-phone", "/admin/", PHONE),
    Picture("task-phone", "/admin/tasks/TASK", PHONE),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="receiver-pictures-") as data:
        sizes = asyncio.run(make(Path(data), folder))
    told = [f"{size:8,} {name}\n" for name, size in sizes.items()]
    sys.stdout.writelines([*told, f"{sum(sizes.values()):8,} together\n"])
    return int(sum(sizes.values()) > MOST_BYTES)


async def make(data: Path, folder: Path) -> dict[str, int]:
    """Each picture's bytes, by its file's name."""
    rules = SimulatorOptions(task_seconds=TASK_SECONDS, retry_factor=RETRY_FACTOR)
    async with serve_simulator(options=rules) as providers_url:
        environment = service_environment(os.environ, data / "data", find_port(0)) | asking(providers_url)
        environment |= SINKS
        settings = load_settings(environment)
        await lay_history(settings.data_dir)
        async with (
            run_service(environment, settings.url, data / "service.log"),
            open_backend(settings, providers_url) as backend,
        ):
            task = await fill(backend)
            await until_told(settings)
            return await photograph(settings, task, folder)


async def lay_history(data_dir: Path) -> None:
    """A record of no task yet, whose plots have a day of callbacks that rise and fall."""
    clock = Clock()
    store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=data_dir, clock=clock))
    now = int(clock.now().timestamp()) // MINUTE * MINUTE
    chance = random.Random(7)
    samples = []
    for at in range(now - DAY_SECONDS, now, MINUTE):
        tide = 1.2 - math.cos(math.tau * (at % DAY_SECONDS) / DAY_SECONDS)
        for measure, labels, usual in COUNTED:
            count = round(usual * tide * chance.uniform(0.7, 1.3))
            samples.append(Sample(series_name(measure, **labels), at, count))
    await store.add_time_series(samples, [])
    await store.aclose()


async def fill(backend: Backend) -> str:
    """Order tasks and wait for their ends; one of several images, as the pages' addresses name it."""
    handed = [await backend.submit(job) for job in make_plan(TASKS)]

    async def all_ended() -> bool:
        states = (await backend.stats())["tasks"]
        return bool(sum(states.get(state, 0) for state in ("completed", "partial", "failed")) == TASKS)

    await until(all_ended, 120)
    fine = [each for each in handed if each.job.images > 1 and not each.job.fails]
    return next(each for each in reversed(fine) if each.job.provider == "vidgo").name


async def until_told(settings: Settings) -> None:
    """Wait until the sink where nobody listens is a line of the overview."""
    headers = {"authorization": f"Bearer {admin_token(settings)}"}
    async with httpx2.AsyncClient(base_url=settings.url, trust_env=False, headers=headers) as admin:

        async def is_told() -> bool:
            return "sink:app" in (await admin.get("/admin/health.json")).text

        await until(is_told, 120)


async def photograph(settings: Settings, task: str, folder: Path) -> dict[str, int]:
    sizes = {}
    async with async_playwright() as playwright:
        path = shutil.which("chromium")
        launched = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = await launched.new_context(color_scheme="light", locale="en-GB")
        tab = await context.new_page()
        await tab.goto(await open_pages(settings))
        await tab.fill("#name", "ana")
        await tab.click("main button")
        await tab.wait_for_url(f"{settings.url}/admin/")
        for picture in PICTURES:
            width, height = picture.size
            await tab.set_viewport_size({"width": width, "height": height})
            await tab.goto(settings.url + picture.path.replace("TASK", task), wait_until="networkidle")
            await tab.wait_for_function(ALL_DRAWN)
            sizes[f"{picture.name}.webp"] = keep(folder / f"{picture.name}.webp", await tab.screenshot())
        await launched.close()
    return sizes


def keep(place: Path, png: bytes) -> int:
    Image.open(io.BytesIO(png)).convert("RGB").save(place, "WEBP", quality=QUALITY, method=6)
    return place.stat().st_size


if __name__ == "__main__":
    sys.exit(main())
