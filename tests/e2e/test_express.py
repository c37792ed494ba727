"""The manual's consumer in Express, as written there: what its parser makes of an event."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx2
import pytest

from receiver.models import MessageFormat
from receiver.options import PluginOptions
from receiver.sinks.http import HttpSink
from receiver.testing import sample_notification
from tests.support.manual import printing, section
from tests.support.missing import missing
from tests.support.sink_hosts import accepts, free_port
from tests.support.waiting import until

EXPRESS = "express@5.1.0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with Express, and the consumer."""
    folder = tmp_path_factory.mktemp("express")
    npm = shutil.which("npm") or missing("npm is not installed")
    install = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), EXPRESS]
    if subprocess.run(install, capture_output=True, check=False).returncode != 0:
        missing("npm cannot have Express here")
    (code,) = re.findall(r"^```js\n(.*?)^```$", section("sinks", "## Webhooks"), re.DOTALL | re.MULTILINE)
    (folder / "consumer.mjs").write_text(code)
    return folder


@pytest.mark.parametrize("message_format", [MessageFormat.STRUCTURED, MessageFormat.JSON])
async def test_express_parses_what_the_manual_says(folder: Path, message_format: MessageFormat) -> None:
    port = free_port()
    node = shutil.which("node") or missing("node is not installed")
    with printing(folder, "consumer.mjs", node, PORT=str(port)) as printed:
        await until(lambda: accepts(port))
        async with httpx2.AsyncClient(trust_env=False, timeout=60.0) as client:
            options = PluginOptions(name="app", data_dir=folder, http=client, format=message_format)
            sink = HttpSink.from_url(f"http://127.0.0.1:{port}/hooks/images", options)
            await sink.publish(sample_notification())
        assert await until(printed.read_text) == "task.completed vidgo/t1 user-17\n"
