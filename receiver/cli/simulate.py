"""`receiver simulate`: the four providers' APIs on loopback, until it is told to stop."""

import asyncio
import pkgutil
import signal
from typing import Any

import click

SIMULATOR = "receiver.simulator"  # one door starts another by name only


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8090, show_default=True, help="0: any free one."
)
@click.option(
    "--task-seconds",
    type=click.FloatRange(0, 3600),
    default=2.0,
    show_default=True,
    help="How long a task takes.",
)
def simulate(*, port: int, task_seconds: float) -> None:
    """Play the four providers' APIs on loopback, until SIGTERM or Ctrl-C.

    An object "simulate" at the top of a submission asks for faults: duplicates, a lost callback, a failure.
    Files from the simulator need RECEIVER_ALLOW_NETWORKS=127.0.0.0/8 on the service.
    """
    asyncio.run(_simulate(port, task_seconds))


async def _simulate(port: int, task_seconds: float) -> None:
    simulator: Any = pkgutil.resolve_name(SIMULATOR)
    options = simulator.SimulatorOptions(task_seconds=task_seconds)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with simulator.serve_simulator(port=port, options=options) as url:
        click.echo(
            f"Providers play at {url}/vidgo, /apidot, /apixo and /reapi; what really happened: {url}/truth"
        )
        await stopping.wait()
