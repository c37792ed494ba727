"""The processor time of a callback's signature and parsing, and of importing every provider.

    python -m tests.bench.signing

Each round checks signed callbacks one after the other, on one thread: by HMAC (Replicate, WaveSpeed, Black
Forest Labs, kie.ai) and by Ed25519 (fal, which needs PyNaCl). The check and the parsing are counted together;
an unsigned callback is only parsed. Imports are counted in processes of their own. Exits 1 when an HMAC takes
more than 25 us, an Ed25519 more than 120, or the imports more than 20 ms.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

from receiver.ingest import read_report
from receiver.models import Callback, SigningKeys
from receiver.plugins import load_providers
from receiver.ports import Provider
from receiver.testing import sample_callback
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support import signatures

HMAC_MICROSECONDS, ED25519_MICROSECONDS = 25.0, 120.0
TIMES = 2000
IMPORTS = """
import time, receiver.runtime
from receiver.plugins import load_providers
began = time.process_time(); load_providers(); print(time.process_time() - began)
"""

Case = tuple[Callback, SigningKeys]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    add_json(parser)
    chosen = parser.parse_args()
    wait_for_quiet()
    providers, cases = load_providers(), signed()
    found: dict[str, list[float]] = {name: [] for name in (*cases, "imports")}
    with foreign() as cores:
        for _ in range(chosen.rounds):
            for name, case in cases.items():
                found[name].append(microseconds(partial(take, providers[name], *case)))
            found["imports"].append(milliseconds_of_imports())
    rows = [row_of(name, found[name]) for name in cases]
    imports = f"imports of {len(providers)} providers"
    rows.append(Row(measure=imports, unit="ms", ours=found["imports"], target=20.0, at_most=True))
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


def row_of(name: str, figures: list[float]) -> Row:
    target = {"vidgo": None, "fal": ED25519_MICROSECONDS}.get(name, HMAC_MICROSECONDS)
    kind = {"vidgo": "parsed", "fal": "Ed25519, parsed"}.get(name, "HMAC, parsed")
    return Row(measure=f"{name}: {kind}", unit="us", ours=figures, target=target, at_most=True)


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
    if provider.verify(callback, keys) is (provider.facts.name == "vidgo"):
        raise AssertionError(provider.facts.name)
    read_report(provider, callback.body)


def microseconds(work: Callable[[], None]) -> float:
    began = time.thread_time()
    for _ in range(TIMES):
        work()
    return (time.thread_time() - began) / TIMES * 1e6


def milliseconds_of_imports() -> float:
    ran = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    return float(ran.stdout) * 1e3


if __name__ == "__main__":
    sys.exit(main())
