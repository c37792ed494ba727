"""`receiver demo`: the whole story on this machine, in the order in which it happens."""

import asyncio
import os
import pkgutil
import shlex
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import msgspec

from receiver.cli.demo.backend import Backend, open_backend
from receiver.cli.demo.evidence import Evidence, ask_truth, gather
from receiver.cli.demo.expectations import check, judge
from receiver.cli.demo.folder import RunFolder, make_run_folder
from receiver.cli.demo.plan import PROVIDERS, Job, make_plan
from receiver.cli.demo.service import (
    STOP_SECONDS,
    Service,
    asking,
    find_port,
    keep_elsewhere,
    open_pages,
    run_service,
    service_environment,
)
from receiver.cli.demo.summary import Report, make_report, print_expectation, print_report
from receiver.cli.simulate import SIMULATOR, fault_options, seeded
from receiver.cli.terminal import bar, say
from receiver.config.credentials import credentials_path
from receiver.config.settings import Settings, load_settings
from receiver.models import TaskState

TASK_SECONDS = 0.5
PICTURE_PIXELS = 640  # larger ones take the machine longer to draw than all the rest
RETRY_FACTOR = 0.05  # a provider's seconds are too long for a demo
REST_SECONDS = 20.0
REST_SECONDS_PER_TASK = 0.2
ENDED = {TaskState.COMPLETED, TaskState.PARTIAL, TaskState.FAILED}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed."""

    keep: bool
    outage: float  # seconds; 0: none
    tasks: int
    folder: Path
    as_json: bool
    port: int
    database: str | None  # another one than the folder's
    faults: Mapping[str, Any]  # of the simulator

    def say(self, text: str) -> None:
        """A line of the story; with --json beside the document, not in it."""
        say(text, err=self.as_json)

    def progress(self, label: str, length: int | None = None) -> Any:
        """A bar on one line of a terminal, the label alone elsewhere."""
        return bar(label, length or self.tasks, err=self.as_json)


@click.command(short_help="The whole story on this machine: no keys, no network.")
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
@click.option(
    "--outage",
    type=click.FloatRange(0, 600),
    default=0,
    metavar="SECONDS",
    help="Stop the service in the middle of the burst for so long, and start it again.",
)
@click.option(
    "--tasks", type=click.IntRange(4, 500), default=24, show_default=True, help="How many to submit."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="receiver-demo",
    show_default=True,
    help="Each run makes a new folder in it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default=True,
    help="The service's; 0: any free one.",
)
@click.option(
    "--database",
    envvar="DEMO_DATABASE_URL",
    show_envvar=True,
    metavar="URL",
    help="Keep the record there (postgresql://…, without a record so far) and not in the folder.",
)
@fault_options
@click.pass_context
def demo(context: click.Context, /, **typed: Any) -> None:
    """Show everything at work: no keys, no network.

    Starts the service and a simulator of the providers, orders tasks with several images, most of them
    through the gateway, with repeated and early callbacks, some that never come or are signed wrongly, lies
    and a failure, waits for the notifications, and checks every promise against what really happened. Exits 0
    only if all of them held.
    """
    own = {name: typed.pop(name) for name in Options.__struct_fields__ if name != "faults"}
    report = asyncio.run(_until_interrupted(_tell(Options(**own, faults=seeded(typed)))))
    context.exit(report.exit_code)


async def _until_interrupted(story: Awaitable[Report]) -> Report:
    """Run the story to its end, or until Ctrl-C and the like; what it started is stopped either way."""
    telling = asyncio.ensure_future(story)

    def interrupt() -> None:
        _on_signals(lambda: None)  # impatience must not interrupt the stopping
        telling.cancel()

    _on_signals(interrupt)
    try:
        return await telling
    except asyncio.CancelledError as exc:
        raise click.Abort from exc


def _on_signals(action: Callable[[], None]) -> None:
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, action)


async def _tell(options: Options) -> Report:
    started = time.perf_counter()
    simulator: Any = pkgutil.resolve_name(SIMULATOR)
    rules = simulator.SimulatorOptions(
        task_seconds=TASK_SECONDS,
        retry_factor=RETRY_FACTOR,
        picture_pixels=PICTURE_PIXELS,
        faults=simulator.Faults(**options.faults),
    )
    async with simulator.serve_simulator(options=rules) as providers_url:
        port = find_port(options.port)
        folder = make_run_folder(options.folder)  # last, so that nothing is left where one cannot start
        environment = service_environment(os.environ, folder.data, port) | asking(
            providers_url, simulator.SECRETS
        )
        if options.database:
            environment |= await keep_elsewhere(options.database, load_settings(environment))
        settings = load_settings(environment)
        async with run_service(environment, settings.url, folder.log) as service:
            options.say(f"The service is at {settings.url}, the providers are played at {providers_url}.")
            evidence = await _act(options, folder, settings, service, providers_url)
            expectations = check(evidence)
            if options.keep:
                seconds = time.perf_counter() - started
                print_report(
                    make_report(evidence, expectations, folder, seconds, database=options.database),
                    as_json=options.as_json,
                )
                await _keep(options, settings, service, providers_url)
            options.say("Stopping the service.")
            promise = f"The service stopped within {STOP_SECONDS:g} seconds of SIGTERM"
            expectations.append(judge(promise, 1, await service.stop()))
    report = make_report(
        evidence, expectations, folder, time.perf_counter() - started, database=options.database
    )
    if options.keep:  # all but the last was told before
        print_expectation(expectations[-1], err=options.as_json)
    else:
        print_report(report, as_json=options.as_json)
    return report


async def _act(
    options: Options, folder: RunFolder, settings: Settings, service: Service, providers_url: str
) -> Evidence:
    """Play the backend, from the first submission until nothing is under way, and a forger."""
    async with open_backend(settings, providers_url) as backend:
        handed = []
        with options.progress(f"Submitting {options.tasks} tasks") as drawn:
            for job in _jobs(options):
                handed.append(await backend.submit(job))
                drawn.update(1)
        if options.outage:
            problems = await service.stop()
            if problems:
                raise service.failure(f"the service did not stop in good order: {problems[0]}")
            tenths = round(options.outage * 10)
            with options.progress(f"The service is down for {options.outage:g} seconds", tenths) as drawn:
                for _ in range(tenths):
                    await asyncio.sleep(0.1)
                    drawn.update(1)
            await service.start()
        victim = next(each for each in reversed(handed) if each.job.provider == "vidgo")
        forgery_answer = await backend.forge(victim)
        await _rest(backend, options)
        options.say("Comparing what is here with what really happened.")
        outage = bool(options.outage)
        return await gather(backend, folder, handed, victim, forgery_answer, outage=outage)


def _jobs(options: Options) -> list[Job]:
    """The plan's jobs; with an outage, those of the second half end in the middle of it."""
    jobs = make_plan(options.tasks)
    if not options.outage:
        return jobs
    seconds = TASK_SECONDS + options.outage / 2
    half = len(jobs) // 2
    return [
        *jobs[:half],
        *(msgspec.structs.replace(job, early=False, forged=False, seconds=seconds) for job in jobs[half:]),
    ]


async def _rest(backend: Backend, options: Options) -> None:
    """Wait until nothing is under way, for a limited time: the evidence shows what is missing."""
    with (
        options.progress("Waiting for callbacks, images and notifications") as drawn,
        suppress(TimeoutError),
    ):
        async with asyncio.timeout(REST_SECONDS + options.tasks * REST_SECONDS_PER_TASK):
            while True:
                if await _is_at_rest(backend, drawn, outage=bool(options.outage)):
                    return
                await asyncio.sleep(0.1)


async def _is_at_rest(backend: Backend, drawn: Any, *, outage: bool) -> bool:
    """Whether nothing is under way any more."""
    stats = await backend.stats()
    ended = sum(count for state, count in stats["tasks"].items() if state in ENDED)
    drawn.update(ended - drawn.pos)
    undelivered = sum(counts.get("pending", 0) for counts in stats["outbox"].values())
    if ended < drawn.length or undelivered:
        return False
    # Every provider has sent all it wanted to, and got it acknowledged but for what an outage met: a question
    # of ours may end a task before its provider's callbacks are through.
    truth = await ask_truth(backend)
    return all(
        sum(call.status == 200 or (outage and call.status is None) for call in task.callbacks) >= task.calls
        for task in truth
    )


async def _keep(options: Options, settings: Settings, service: Service, providers_url: str) -> None:
    """Wait for Ctrl-C, or for the service's own end."""
    stopping = asyncio.Event()
    _on_signals(stopping.set)
    folder = shlex.quote(str(settings.data_dir))
    options.say(f"""
Everything keeps running until Ctrl-C:

  service    {settings.url}  (process {service.pid})
  pages      {await open_pages(settings)}
             opens the admin pages once, within a minute; `receiver admin open` prints another link
  providers  {providers_url}/vidgo, /{", /".join(PROVIDERS[1:])}
             {providers_url}/truth tells what really happened
  tokens     {credentials_path(settings.data_dir)}

In another terminal:

  export RECEIVER_DATA_DIR={folder}
  export RECEIVER_URL={settings.url}
  receiver tasks list
""")
    ends = [asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(service.ended())]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
