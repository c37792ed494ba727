"""How soon callbacks are acknowledged, and at what memory, beside readers who take nothing of a file.

    python -m tests.bench.readers --readers 1000

Starts the service, has it store one image of 3 MB, and sends callbacks one after the other: first alone,
then beside so many connections that ask for the file by its signed link and read nothing. Prints both times,
and what the readers cost. Exits 1 when the second 99th percentile is more than three times the first; a
callback that is not answered by 200 ends it with an error.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.service import Receiver, receiver
from tests.support.media_host import media_host, picture, says
from tests.support.waiting import until

MOST_TIMES_SLOWER = 3.0

SILENT = """
import contextlib, resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
port, link, count = sys.argv[1:]
readers = []
for _ in range(int(count)):
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with contextlib.suppress(OSError):
        reader.connect(("127.0.0.1", int(port)))
        reader.sendall(f"GET {link} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    readers.append(reader)
time.sleep(600)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--callbacks", type=int, default=2000, help="of each of the two runs")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
        return asyncio.run(compare(Path(folder), chosen.readers, chosen.callbacks))


async def compare(folder: Path, readers: int, callbacks: int) -> int:
    async with (
        media_host() as host,
        receiver(
            folder, {"RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8", "RECEIVER_EARLY_LIMIT": "100000"}
        ) as service,
    ):
        link = await stored(
            service, host.put("/0.png", says(200, picture(size=(1000, 1000), compress_level=0)))
        )
        await acknowledged(service, "warm", callbacks // 4)
        quiet = await acknowledged(service, "quiet", callbacks)
        before = resident_mib(service)
        silent = subprocess.Popen([sys.executable, "-c", SILENT, str(service.port), link, str(readers)])
        try:
            beside = await acknowledged(service, "beside", callbacks)
            print(f"quiet   {words(quiet)}\nbeside  {words(beside)}")
            print(f"memory  {resident_mib(service) - before:+.0f} MiB, descriptors {descriptors(service)}")
        finally:
            silent.kill()
            silent.wait()
    return 0 if percentile(beside, 99) <= MOST_TIMES_SLOWER * percentile(quiet, 99) else 1


async def stored(service: Receiver, file: str) -> str:
    """The signed link of a file that was stored, as a path."""
    await service.submit("t1")
    await service.call_back("t1", file)

    async def is_stored() -> bool:
        return bool((await service.task("t1"))["state"] == "completed")

    await until(is_stored, 30)
    url = (await service.task("t1"))["assets"][0]["url"]
    return str(urlsplit(url)._replace(scheme="", netloc="").geturl())


async def acknowledged(service: Receiver, name: str, count: int) -> list[float]:
    """The seconds that each of so many callbacks took, in order of size."""
    took = []
    for number in range(count):
        began = time.perf_counter()
        await service.call_back(f"{name}-{number}")
        took.append(time.perf_counter() - began)
    return sorted(took)


def words(took: list[float]) -> str:
    middle, late, last = (1000 * percentile(took, share) for share in (50, 99, 100))
    return f"p50 {middle:.1f} ms, p99 {late:.1f} ms, slowest {last:.1f} ms"


def percentile(took: Sequence[float], share: int) -> float:
    return took[min(len(took) - 1, len(took) * share // 100)]


def resident_mib(service: Receiver) -> float:
    return int(Path(f"/proc/{service.pid}/statm").read_text().split()[1]) * 4096 / 2**20


def descriptors(service: Receiver) -> int:
    return len(list(Path(f"/proc/{service.pid}/fd").iterdir()))


if __name__ == "__main__":
    sys.exit(main())
