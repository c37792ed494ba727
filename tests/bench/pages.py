"""How long each admin page takes with a million tasks, and what it weighs.

    python -m tests.bench.pages [--tasks 5000000] [--engine SQLite] [--json]

On SQLite and on PostgreSQL a record is filled as ``tests.bench.scale`` does it; then come early callbacks,
reservations, a week of plots and a replay. The app runs in this process and does no other work. An admin who
is logged in asks for every page 20 times, by turns, over no network. Told is the time to the whole answer
(its median goes to standard error), and what a browser loads at its first visit, compressed: the document,
its style sheet and its scripts. A part that is not read in time is given up after 250 ms, which count. Then
Chromium loads some of them over loopback and tells when something was first seen, at the median; where it, or
Playwright, is missing, that is left out. PostgreSQL is the one that the tests know (``TEST_POSTGRES_URL``).
Exits 1 when a page takes 50 ms at its 95th percentile, weighs 40 kB or is first seen after 200 ms.
"""

import argparse
import asyncio
import importlib.util
import logging
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx2
import msgspec
import structlog
from starlette.types import ASGIApp

from receiver.config.settings import Settings, load_settings
from receiver.models import HOUR, MINUTE, Sample, SubmissionFilter, TaskState, series_name
from receiver.runtime import Runtime, open_runtime
from receiver.testing import sample_callback
from receiver.web.app import build_app
from receiver.web.pages.deliveries import TABS
from receiver.web.plots import KINDS, SPANS
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.bench.scale import SERIES, filled_record, percentile_95
from tests.support.loopback import serving
from tests.support.page_callers import OURS, browser, log_in
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, callback_path, caller

TIMES = 20
MOST_MS, MOST_KB, MOST_PAINT_MS = 50.0, 40.0, 200.0
PAINTED = ("overview, 24h", "history, 24h", "tasks", "tasks: grid", "one task", "sinks", "providers")
# Not looked for again and again by Playwright: it evaluates text to do so, which the pages' policy forbids.
FIRST_PAINT = """
new Promise(seen => new PerformanceObserver(list => {
    for (const entry of list.getEntriesByName("first-contentful-paint")) seen(entry.startTime);
}).observe({type: "paint", buffered: true}))
"""
LATE = "Not known now"  # in the place of a part that could not be read in time
OF_A_KIND = 200  # early callbacks, and reservations
DAY, WEEK = 24 * HOUR, 7 * 24 * HOUR
LABELS = {"verdict": "early", "outcome": "timeout", "status": "401", "le": "0.5"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=sorted(SERIES), help="one of them alone")
    add_json(parser)
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    wait_for_quiet()
    rows: list[Row] = []
    with foreign() as cores:
        for engine in [chosen.engine] if chosen.engine else ["SQLite", "PostgreSQL"]:
            with tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
                rows += asyncio.run(measured(engine, Path(folder) / "data", chosen.tasks))
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


async def measured(engine: str, folder: Path, tasks: int) -> list[Row]:
    """Two rows for each page of a record with so many tasks, and one for each that a browser is to show."""
    with ExitStack() as stack:
        url = await filled_record(stack, engine, folder, tasks)
        async with open_runtime(settings_of(url, folder), work=()) as runtime:
            app = build_app(runtime)
            async with browser(app) as person:
                await log_in(person, ADMIN_TOKEN)
                person.headers.update(OURS)
                places = await all_places(runtime, app)
                spent = await times(person, places)
                weights = {name: await weight(person, place) for name, place in places.items()}
        rows = [row for name in places for row in rows_of(name, engine, spent[name], weights[name])]
        async with open_runtime(local_settings(url, folder), work=()) as runtime:
            return rows + await paint_rows(runtime, engine, places)


def settings_of(url: str, folder: Path) -> Settings:
    return load_settings(
        {
            "RECEIVER_DATABASE_URL": url,
            "RECEIVER_DATA_DIR": str(folder),
            "RECEIVER_SECRET": "a-secret-for-benchmarks-only",
            "RECEIVER_API_TOKENS": API_TOKEN,
            "RECEIVER_ADMIN_TOKENS": ADMIN_TOKEN,
            "RECEIVER_PUBLIC_URL": "https://receiver.test",
            "RECEIVER_SINK_ALL": "jsonl:events.jsonl",
        }
    )


def local_settings(url: str, folder: Path) -> Settings:
    """Those of a service that a browser may log in to over loopback."""
    return msgspec.structs.replace(settings_of(url, folder), public_url="http://127.0.0.1")


async def paint_rows(runtime: Runtime, engine: str, places: Mapping[str, str]) -> list[Row]:
    """When something of a page is first seen, its style sheet and scripts being kept from before."""
    path = shutil.which("chromium")
    if path is None or importlib.util.find_spec("playwright") is None:
        print("first paint is left out: Chromium or Playwright is not installed", file=sys.stderr)
        return []
    from playwright.async_api import async_playwright  # noqa: PLC0415 - an extra of its own

    rows = []
    async with serving(build_app(runtime)) as port, async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = await launched.new_page()
        await tab.goto(f"http://127.0.0.1:{port}/admin/login")
        await tab.fill("#token", ADMIN_TOKEN)
        await tab.click("main button")
        await tab.wait_for_url(f"http://127.0.0.1:{port}/admin/")
        for name in PAINTED:
            seen = []
            for _ in range(TIMES // 2):
                await tab.goto(f"http://127.0.0.1:{port}{places[name]}")
                seen.append(await tab.evaluate(FIRST_PAINT))
            row = f"  first seen: {name}, {engine}"
            rows.append(Row(measure=row, unit="ms", ours=seen, target=MOST_PAINT_MS, at_most=True))
        await launched.close()
    return rows


async def all_places(runtime: Runtime, app: ASGIApp) -> dict[str, str]:
    """The address of each page by its name, once there is something on it."""
    await runtime.store.add_time_series(plotted(runtime), [])
    async with caller(app, API_TOKEN) as backend, caller(app, ADMIN_TOKEN) as admin:
        for number in range(OF_A_KIND):
            body = sample_callback("vidgo", f"early-{number}", error="no")
            (await backend.post(callback_path(runtime), content=body)).raise_for_status()
            order = {"provider": "vidgo", "owner": "user-17"}
            (await backend.post("/submissions", json=order)).raise_for_status()
        asked = {"stage": "notify", "filter": {"state": "failed"}, "sinks": ["all"]}
        replay = (await admin.post("/replays", json=asked)).raise_for_status().json()["id"]
    unbound = await runtime.store.list_submissions(SubmissionFilter(bound=False), 1, None)
    return {
        **of_lists(),
        "one task": "/admin/tasks/apixo/task-500",
        "one task, its callbacks": "/admin/tasks/apixo/task-500?callbacks=1",
        "find by id": "/admin/find?q=sub_500",
        "find by beginning": "/admin/find?q=task-50",
        "find nothing": "/admin/find?q=nowhere",
        "one reservation": f"/admin/submissions/{unbound.submissions[0].id}",
        "one replay": f"/admin/replays/{replay}",
    }


def plotted(runtime: Runtime) -> Sequence[Sample]:
    """Each minute of a day and each hour of the week before, of every plot."""
    now = int(runtime.clock.now().timestamp()) // HOUR * HOUR
    moments = [*range(now - WEEK, now - DAY, HOUR), *range(now - DAY, now, MINUTE)]
    names = [
        series_name(kind.measure, **({kind.by: LABELS[kind.by]} if kind.by else {}))
        for kind in KINDS.values()
    ]
    return [Sample(name, at, at // MINUTE % 37) for name in names for at in moments]


def of_lists() -> Mapping[str, str]:
    """Lists with each of their filters, and what has no row of its own."""
    tasks = {
        **{state.value: f"state={state.value}" for state in TaskState},
        "a provider's": "provider=vidgo",
        "a provider's failed": "provider=vidgo&state=failed",
        "an owner's": "owner=user-17",
        "a rare owner's": "owner=rare",
        "a rare owner's failed": "owner=rare&state=failed",
        "nobody's": "owner=nobody",
        "since": "since=24h",
        "until": "until=30d",
        "all filters": "state=completed&provider=apixo&owner=user-17&since=3650d&until=30d",
        "grid": "view=grid",
        "grid of failed": "view=grid&state=failed",
    }
    plain = {
        "files": "assets",
        "reservations": "submissions",
        "sinks": "sinks",
        "one sink": "sinks/all",
        "dead letters": "dead-letters",
        "dead letters of a sink": "dead-letters?sink=all",
        "providers": "providers",
        "one provider": "providers/vidgo",
        "replays": "replays",
        "audit": "audit",
        "audit by act": "audit?act=replay.started",
        "log-ins": "sessions",
        "settings": "settings",
        "help": "help",
    }
    return {
        **{f"overview, {span}": f"/admin/?span={span}" for span in SPANS},
        "tasks": "/admin/tasks",
        **{f"tasks: {name}": f"/admin/tasks?{query}" for name, query in tasks.items()},
        **{f"did not count: {tab}": f"/admin/deliveries?verdict={tab}" for tab in TABS},
        **{f"history, {span}": f"/admin/history?span={span}" for span in SPANS},
        **{name: f"/admin/{path}" for name, path in plain.items()},
    }


async def times(person: httpx2.AsyncClient, places: Mapping[str, str]) -> dict[str, list[float]]:
    """Seconds of each page, after one visit that is not counted."""
    spent: dict[str, list[float]] = {name: [] for name in places}
    for number in range(TIMES + 1):
        for name, place in places.items():
            started = time.perf_counter()
            answer = await person.get(place)
            if number:
                spent[name].append(time.perf_counter() - started)
            if answer.status_code not in {200, 303, 404}:
                raise SystemExit(f"{name} ({place}) could not be shown: {answer.status_code}")
            if LATE in answer.text:
                print(f"{name}: a part could not be read in time", file=sys.stderr)
    return spent


async def weight(person: httpx2.AsyncClient, place: str) -> float:
    """Thousands of bytes of a page with what it needs to be drawn."""
    page = await person.get(place)
    needed = set(re.findall(r'(?:href|src)="(/admin/static/[^"]+\.(?:css|js))"', page.text))
    answers = [page, *[await person.get(each) for each in needed]]
    return sum(answer.num_bytes_downloaded for answer in answers) / 1000


def rows_of(name: str, engine: str, spent: Sequence[float], kilobytes: float) -> list[Row]:
    print(f"{name}, {engine}: {1000 * statistics.median(spent):.1f} ms p50", file=sys.stderr)
    late = percentile_95(list(spent))
    return [
        Row(measure=f"{name}, {engine}", unit="ms p95", ours=[late], target=MOST_MS, at_most=True),
        Row(measure="  over the wire", unit="kB", ours=[kilobytes], target=MOST_KB, at_most=True),
    ]


if __name__ == "__main__":
    sys.exit(main())
