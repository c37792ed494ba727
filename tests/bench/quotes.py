"""What reading the rules and the price of an order takes.

    python -m tests.bench.quotes

Processor time of one order, of each provider: one that breaks no rule, and one that breaks as many as it can.
Nothing is sent. Exits 1 when one takes more than 100 us.
"""

import argparse
import sys
import time
from collections.abc import Mapping

from receiver.gateway.catalog import load_catalogs
from receiver.gateway.quotes import Quotes
from receiver.models import GatewayCheck
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet

MICROSECONDS = 1e6
MOST = 100.0
PLAIN = {"prompt": "a lighthouse at dusk", "size": "16:9", "aspect_ratio": "16:9", "quality": "high"}
BROKEN = {
    "prompt": "x" * 30_000,
    "size": "3856x1000",
    "aspect_ratio": "3856x1000",
    "resolution": "8K",
    "quality": "best",
    "image_urls": ["data:image/png;base64,AAAA"] * 20,
    "n": 7,
    "num_images": 7,
    "mode": "text-to-image",
}
KINDS: Mapping[str, Mapping[str, object]] = {"plain": PLAIN, "broken": BROKEN}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--orders", type=int, default=2000, help="of each kind in a round")
    add_json(parser)
    chosen = parser.parse_args()
    wait_for_quiet()
    quotes = Quotes(load_catalogs(None), GatewayCheck.WARN)
    with foreign() as cores:
        rows = [
            Row(
                measure=f"rules and price, {provider}, {kind}",
                unit="us",
                ours=[measure(quotes, provider, fields, chosen.orders) for _ in range(chosen.rounds)],
                target=MOST,
                at_most=True,
            )
            for provider in load_catalogs(None)
            for kind, fields in KINDS.items()
        ]
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


def measure(quotes: Quotes, provider: str, fields: Mapping[str, object], orders: int) -> float:
    """Microseconds of processor time for an order."""
    values = {"model": "gpt-image-2", **fields} if provider == "reapi" else {"input": fields}
    started = time.process_time()
    for _ in range(orders):
        quotes.quote(provider, "gpt-image-2", values)
    return (time.process_time() - started) / orders * MICROSECONDS


if __name__ == "__main__":
    sys.exit(main())
