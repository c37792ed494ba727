"""`receiver simulate`: ten providers' APIs on loopback, until it is told to stop."""

import asyncio
import pkgutil
import random
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import httpx2
import msgspec

SIMULATOR = "receiver.simulator"  # one door starts another by name only
PROVIDERS = ("vidgo", "apidot", "apixo", "reapi", "replicate", "wavespeed", "kie", "bfl", "piapi", "fal")
KEYS_PATH = "/fal/.well-known/jwks.json"
MAX_SEED = 999_999_999
MAX_PORT = 65_535

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
    "reorder": "Tasks whose callback is overtaken by a later task's, and followed by one of progress: a fault"
    " of ours, no provider documents such callbacks.",
    "fail": "Tasks that fail.",
    "forge": "Tasks for which a forged callback comes before the end.",
    "dead_links": "Tasks whose callback has links that are dead already.",
    "error_in_200": "Tasks whose first status answer is an error with HTTP 200.",
    "bad_signatures": "Tasks whose callback has a wrong signature, of the providers that sign.",
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
    """Add an option for every field of the simulator's ``Faults``, by its name; ``seed`` may be None."""
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
    """The faults that were typed, with a random seed where none was."""
    seed = random.randint(0, MAX_SEED) if faults["seed"] is None else faults["seed"]
    return {**faults, "seed": seed}


def _option(name: str, kind: Any, **more: Any) -> Callable[[Command], Command]:
    return click.option(f"--{name.replace('_', '-')}", name, type=kind, default=0, show_default=True, **more)


def _read_keys(
    _context: click.Context, _option: click.Parameter, typed: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The keys of each provider."""
    keys: dict[str, tuple[str, ...]] = {}
    for text in typed:
        provider, _, key = text.partition("=")
        if provider not in PROVIDERS or not key:
            raise click.BadParameter(f"say PROVIDER=KEY, with one of {', '.join(PROVIDERS)}.")
        keys[provider] = (*keys.get(provider, ()), key)
    return keys


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, MAX_PORT),
    default=8090,
    show_default=True,
    help="Where all providers are, each below its name; 0: any free one.",
)
@click.option(
    "--own-ports",
    type=click.IntRange(0, MAX_PORT - len(PROVIDERS) + 1),
    metavar="FIRST",
    help="The first of ten ports in a row, one for each provider at its root; 0: any free ones."
    "  [default: the one after --port, or any where that is taken]",
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
@click.option(
    "--credits",
    type=click.FloatRange(0),
    default=1_000_000,
    show_default=True,
    help="What each account has; submissions beyond it get 402.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="PROVIDER=KEY",
    callback=_read_keys,
    help="A key that this provider knows, with an account of its own; may be repeated. All others get 401; a"
    " provider without any takes every key.",
)
@click.option(
    "--close-idle-after",
    type=click.FloatRange(0.1, 3600),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="How long a connection without a request is kept.",
)
@click.option(
    "--submit-rate-limit",
    type=click.IntRange(0, 1_000_000),
    default=0,
    show_default=True,
    metavar="PER_MINUTE",
    help="Submissions that each provider takes; others get 429. 0: all.",
)
@fault_options
@click.option(
    "--out-of-credit",
    type=click.Choice(PROVIDERS),
    metavar="PROVIDER",
    multiple=True,
    help="This provider answers status questions with 402; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Say where it plays as one line of JSON.")
def simulate(*, port: int, own_ports: int | None, as_json: bool, **chosen: Any) -> None:
    """Play ten providers' APIs on loopback, until SIGTERM or Ctrl-C.

    Each provider has a port of its own, at whose root it is; and all are below their names at --port.

    Faults can be asked for: here for the whole run, some of them for a SHARE of its tasks (0 to 1, or 0% to
    100%), and for a single task by an object "simulate" at the top of its submission, which wins.

    Files from the simulator need RECEIVER_ALLOW_NETWORKS=127.0.0.0/8 on the service.
    """
    faults = seeded({name: chosen.pop(name) for name in ("seed", *_SHARES, *_AMOUNTS)})
    rules = {**chosen, "out_of_credit": frozenset(chosen["out_of_credit"])}
    if own_ports:
        ports = [*range(own_ports, own_ports + len(PROVIDERS))]
    elif own_ports == 0 or port == 0:
        ports = []
    else:  # any free one in place of a taken one: what nobody typed must not keep it from starting
        ports = [each if _is_free(each) else 0 for each in range(port + 1, port + 1 + len(PROVIDERS))]
    asyncio.run(_simulate((port, ports), rules, faults, as_json=as_json))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError):
        return False
    return True


async def _simulate(
    ports: tuple[int, Sequence[int]], rules: Mapping[str, Any], faults: Mapping[str, Any], *, as_json: bool
) -> None:
    simulator: Any = pkgutil.resolve_name(SIMULATOR)
    options = simulator.SimulatorOptions(**rules, faults=simulator.Faults(**faults))
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with simulator.serve_providers(port=ports[0], own_ports=ports[1], options=options) as places:
        some = any(amount for name, amount in faults.items() if name != "seed")
        seed = faults["seed"] if some else None
        if as_json:
            told = {
                "url": places.combined,
                "providers": places.roots,
                "seed": seed,
                "secrets": simulator.SECRETS,
                "keys_urls": {"fal": f"{places.combined}{KEYS_PATH}"},
            }
            click.echo(msgspec.json.encode(told))
        else:
            click.echo(f"The providers play at {places.combined}, and each at a port of its own.")
            if seed is not None:
                click.echo(f"Faults are on: --seed {seed} repeats them.")
            async with httpx2.AsyncClient(trust_env=False) as http:
                answer = await http.get(places.combined, headers={"accept": "text/plain"})
            click.echo(f"\n{answer.text}", nl=False)
            click.echo("\nThree sign with secrets of their own, bfl and piapi with one of the order:\n")
            for name, secret in simulator.SECRETS.items():
                click.echo(f"  {name.upper()}_WEBHOOK_SECRET={secret}")
            click.echo("\nfal signs by a private key, and its public keys are here:\n")
            click.echo(f"  FAL_WEBHOOK_KEYS_URL={places.combined}{KEYS_PATH}")
        await stopping.wait()
