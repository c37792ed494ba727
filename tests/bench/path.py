"""Which of our files a callback leads through, from the parsed request to its commit.

    python -m tests.bench.path

Serves the receiver on loopback, posts a warm-up and then one callback that ends its task, and lists each
file of ``receiver/`` of which a function runs between the end of the request and the commit, with these
functions in the order of their first call. Values (``models/``) are listed apart.
"""

import asyncio
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from receiver.config.settings import load_settings
from receiver.models import Submission
from receiver.runtime import Runtime, open_runtime
from receiver.testing import sample_callback
from receiver.web.app import build_app
from tests.support.loopback import post, serving, talk
from tests.support.places import ROOT

PACKAGE = ROOT / "receiver"
QUIET_SECONDS = 1.0


class Trace:
    """The functions of ours that ran, by file, from the end of a request's head to the commit."""

    def __init__(self) -> None:
        self.functions: dict[str, dict[str, None]] = {}
        self._is_on = False

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(PACKAGE)):
            return
        self._is_on |= code.co_name == "on_headers_complete"
        if self._is_on:
            name = str(Path(code.co_filename).relative_to(PACKAGE))
            self.functions.setdefault(name, {})[code.co_qualname] = None
        self._is_on &= code.co_name != "commit"


async def deliver(runtime: Runtime, port: int, number: int) -> None:
    """One callback of a provider for a task that is logged."""
    now = runtime.clock.now()
    task_id = f"task-unified-{number}"
    submission = Submission(
        id=runtime.clock.new_id("sub"),
        provider="vidgo",
        owner="user-17",
        task_id=task_id,
        model=None,
        request=None,
        metadata={},
        created_at=now,
        bound_at=now,
    )
    await runtime.store.log_submission(submission)
    body = sample_callback("vidgo", task_id, files=["http://127.0.0.1:9/0.png"])
    path = f"/callbacks/vidgo/{runtime.tokens.for_submission('vidgo', submission.id)}"
    answer = await talk(port, post(path, body, "Content-Type: application/json"))
    assert b'"status":"accepted"' in answer, answer


async def trace_one(folder: Path) -> Trace:
    settings = load_settings({"RECEIVER_DATA_DIR": str(folder), "RECEIVER_SECRET": "only-for-this-trace"})
    trace = Trace()
    threading.setprofile(trace)  # the writer's thread is not there yet
    async with open_runtime(settings) as runtime, serving(build_app(runtime)) as port:
        await deliver(runtime, port, 1)
        await asyncio.sleep(QUIET_SECONDS)  # what follows from the first is over
        trace.functions.clear()
        sys.setprofile(trace)
        await deliver(runtime, port, 2)
        sys.setprofile(None)
    return trace


def main() -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory(prefix="receiver-path-") as folder:
        trace = asyncio.run(trace_one(Path(folder)))
    threading.setprofile(None)
    values = {name for name in trace.functions if name.startswith("models/")}
    for name, functions in trace.functions.items():
        if name not in values:
            print(f"{name:34} {', '.join(functions)}")
    print(f"files {len(trace.functions) - len(values)}, and of values {len(values)}")


if __name__ == "__main__":
    main()
