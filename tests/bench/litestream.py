"""What a lost machine costs with Litestream: lost under load, and started anew on an empty disk."""

import argparse
import asyncio
import tempfile
from pathlib import Path

from tests.e2e.replicated import lost_after, replicated
from tests.support.s3 import seaweedfs


async def main(rounds: int, seconds: float) -> None:
    for number in range(1, rounds + 1):
        with (
            tempfile.TemporaryDirectory() as disk,
            tempfile.TemporaryDirectory() as elsewhere,
            seaweedfs(Path(elsewhere)) as bucket,
        ):
            async with replicated(Path(disk), bucket) as service:
                loss = await lost_after(service, seconds)
        print(
            f"round {number}: {loss.answered} answered, {loss.lost} of them lost, all of the last"
            f" {loss.seconds:.2f} s; ready again after {loss.restored_in:.1f} s;"
            f" write-ahead log {loss.log_bytes / 2**20:.1f} MiB at most"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.rounds, arguments.seconds))
