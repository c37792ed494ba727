"""`receiver simulate`: the four providers' APIs on loopback, until it is told to stop."""

import asyncio
import pkgutil
import random
import signal
from collections.abc import Callable, Mapping
from typing import Any

import click

SIMULATOR = "receiver.simulator"  # one door starts another by name only
PROVIDERS = ("vidgo", "apidot", "apixo", "reapi")
MAX_SEED = 999_999_999

Command = Callable[..., None]


def share(typed: object) -> float:
    """A part of all tasks, from 0 to 1: "0.3" or "30%"."""
    text = str(typed).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is neither a number nor a percentage.") from exc
    if not 0 <= value <= 1:
        raise click.BadParameter(f"{text} is not in the range from 0 to 1, or 0% to 100%.")
    return value


# What the simulator's ``Faults`` take, and how it is typed and explained.
_SHARES = {
    "drop": "Tasks whose callback is never sent.",
    "duplicate": "Tasks whose callback is sent two or three times.",
    "reorder": "Tasks whose callback is overtaken by a later task's, and followed by one of progress.",
    "fail": "Tasks that fail.",
    "forge": "Tasks for which a forged callback comes before the end.",
    "dead_links": "Tasks whose callback has links that are dead already.",
}
_AMOUNTS: dict[str, tuple[Any, str, str]] = {
    "delay": (click.FloatRange(0, 3600), "SECONDS", "Callbacks come up to so much later than the end."),
    "dying_links": (
        click.FloatRange(0, 86_400),
        "SECONDS",
        "How long a link lives, until a status answer gives a fresh one; 0: for ever.",
    ),
    "rate_limit": (
        click.IntRange(0, 1_000_000),
        "PER_MINUTE",
        "Status questions that each provider answers; others get 429. 0: all.",
    ),
}


def fault_options(command: Command) -> Command:
    """Options for all that the simulator's ``Faults`` take, under the same names; ``seed`` may be None."""
    seed = click.option(
        "--seed",
        type=click.IntRange(0, MAX_SEED),
        help="Which tasks the shares hit; the same again for the same number.  [default: any]",
    )
    command = seed(command)
    for name, (kind, unit, text) in reversed(_AMOUNTS.items()):
        command = _option(name, kind, metavar=unit, help=text)(command)
    for name, text in reversed(_SHARES.items()):
        command = _option(name, share, metavar="SHARE", help=text)(command)
    return command


def seeded(faults: Mapping[str, Any]) -> dict[str, Any]:
    """The faults that were typed, with a seed of their own where none was."""
    seed = random.randint(0, MAX_SEED) if faults["seed"] is None else faults["seed"]
    return {**faults, "seed": seed}


def _option(name: str, kind: Any, **more: Any) -> Callable[[Command], Command]:
    return click.option(f"--{name.replace('_', '-')}", name, type=kind, default=0, show_default=True, **more)


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
@click.option(
    "--picture-pixels",
    type=click.IntRange(16, 1024),
    default=1024,
    show_default=True,
    help="The images' longest edge; small ones are drawn much faster.",
)
@fault_options
@click.option(
    "--out-of-credit",
    type=click.Choice(PROVIDERS),
    multiple=True,
    help="This provider answers status questions with 402; may be repeated.",
)
def simulate(
    *, port: int, task_seconds: float, picture_pixels: int, out_of_credit: tuple[str, ...], **faults: Any
) -> None:
    """Play the four providers' APIs on loopback, until SIGTERM or Ctrl-C.

    Faults can be asked for: here for the whole run, some of them for a SHARE of its tasks (0 to 1, or 0% to
    100%), and for a single task by an object "simulate" at the top of its submission, which wins.

    Files from the simulator need RECEIVER_ALLOW_NETWORKS=127.0.0.0/8 on the service.
    """
    options = {
        "task_seconds": task_seconds,
        "picture_pixels": picture_pixels,
        "out_of_credit": frozenset(out_of_credit),
    }
    asyncio.run(_simulate(port, options, faults))


async def _simulate(port: int, options: Mapping[str, Any], faults: Mapping[str, Any]) -> None:
    simulator: Any = pkgutil.resolve_name(SIMULATOR)
    faults = seeded(faults)
    some = any(amount for name, amount in faults.items() if name != "seed")
    rules = simulator.SimulatorOptions(**options, faults=simulator.Faults(**faults))
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with simulator.serve_simulator(port=port, options=rules) as url:
        click.echo(
            f"Providers play at {url}/vidgo, /apidot, /apixo and /reapi; what really happened: {url}/truth"
            + (f"; faults are on, --seed {faults['seed']} repeats them" if some else "")
        )
        await stopping.wait()
