"""What a start leaves alone until somebody asks for it."""

import os
import subprocess
import sys
from pathlib import Path

START = """
import asyncio, sys
import httpx2
from receiver.config.credentials import ensure_credentials
from receiver.config.settings import load_settings
from receiver.runtime import open_runtime
from receiver.web.app import build_app

PARTS = ("jinja2", "markdown_it", "receiver.web.pages.all_pages", "receiver.web.manual_pages")

async def main():
    async with open_runtime(ensure_credentials(load_settings())) as runtime:
        transport = httpx2.ASGITransport(build_app(runtime))
        async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
            for path in ("/healthz", "/docs", "/admin/login"):
                status = (await client.get(path)).status_code
                print("SEEN", path, status, *(name for name in PARTS if name in sys.modules))

asyncio.run(main())
"""


def test_pages_and_the_manual_are_imported_when_somebody_first_opens_them(tmp_path: Path) -> None:
    environ = {**os.environ, "RECEIVER_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-c", START]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    manual, pages = "markdown_it receiver.web.manual_pages", "jinja2 markdown_it receiver.web.pages.all_pages"
    assert [line.removeprefix("SEEN ") for line in ran.stdout.splitlines() if line.startswith("SEEN")] == [
        "/healthz 200",
        f"/docs 200 {manual}",
        f"/admin/login 200 {pages} receiver.web.manual_pages",
    ]
