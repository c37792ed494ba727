"""The processor time of a callback's signature and parsing.

    python -m tests.bench.signing

Each round checks signed callbacks one after the other, on one thread: by HMAC (Replicate, WaveSpeed, Black
Forest Labs, kie.ai) and by Ed25519 (fal, which needs PyNaCl). The check and the parsing are counted together;
an unsigned callback (Vidgo's) is only parsed. Black Forest Labs are declared in TOML. What a signed one takes
on top of the unsigned one of the same round is what is judged: it exits 1 when that is more than 25 us of an
HMAC, or more than 120 of an Ed25519.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain

from receiver.ingest import read_callback
from receiver.models import Callback, SigningKeys
from receiver.plugins import load_providers
from receiver.ports import Provider
from receiver.testing import sample_callback
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support import signatures

HMAC_MICROSECONDS, ED25519_MICROSECONDS = 25.0, 120.0
TIMES = 2000
UNSIGNED = "vidgo"

Case = tuple[Callback, SigningKeys]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    add_json(parser)
    chosen = parser.parse_args()
    wait_for_quiet()
    providers, cases = load_providers(), signed()
    found: dict[str, list[float]] = {name: [] for name in cases}
    with foreign() as cores:
        for _ in range(chosen.rounds):
            for name, case in cases.items():
                found[name].append(microseconds(partial(take, providers[name], *case)))
    unsigned = found.pop(UNSIGNED)
    rows = [
        Row(measure=f"{UNSIGNED}: parsed", unit="us", ours=unsigned),
        *chain.from_iterable(rows_of(name, figures, unsigned) for name, figures in found.items()),
    ]
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


def rows_of(name: str, figures: list[float], unsigned: list[float]) -> Iterator[Row]:
    """All of it beside the unsigned one, and what it takes on top of that."""
    kind, target = ("Ed25519", ED25519_MICROSECONDS) if name == "fal" else ("HMAC", HMAC_MICROSECONDS)
    yield Row(measure=f"{name}: {kind}, parsed", unit="us", ours=figures, yardstick=UNSIGNED, theirs=unsigned)
    on_top = [signed - bare for signed, bare in zip(figures, unsigned, strict=True)]
    yield Row(measure="  on top of the unsigned one", unit="us", ours=on_top, target=target, at_most=True)


def signed() -> Mapping[str, Case]:
    """A right callback of each, and what it is checked with; Vidgo's is unsigned."""
    body = {
        name: sample_callback(name, "t1") for name in ("vidgo", "replicate", "wavespeed", "bfl", "kie", "fal")
    }
    secrets = SigningKeys(secrets=(signatures.SECRET,))
    fal = signatures.by_key("x-fal-webhook-", "request-id", body["fal"])
    return {
        "vidgo": (signatures.callback({}, body["vidgo"]), SigningKeys()),
        "replicate": (
            signatures.callback(signatures.standard(body["replicate"]), body["replicate"]),
            secrets,
        ),
        "wavespeed": (
            signatures.callback(signatures.wavespeed(body["wavespeed"]), body["wavespeed"]),
            secrets,
        ),
        "bfl": (signatures.callback(signatures.bfl(body["bfl"]), body["bfl"]), secrets),
        "kie": (signatures.callback(signatures.kie("t1"), body["kie"]), secrets),
        "fal": (signatures.callback(fal, body["fal"]), signatures.BY_KEY),
    }


def take(provider: Provider, callback: Callback, keys: SigningKeys) -> None:
    if provider.verify(callback, keys) is (provider.facts.name == UNSIGNED):
        raise AssertionError(provider.facts.name)
    read_callback(provider, callback.body)


def microseconds(work: Callable[[], None]) -> float:
    began = time.thread_time()
    for _ in range(TIMES):
        work()
    return (time.thread_time() - began) / TIMES * 1e6


if __name__ == "__main__":
    sys.exit(main())
