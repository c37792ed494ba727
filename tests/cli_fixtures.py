"""An environment for commands in which only a test's own settings count."""

import os
from pathlib import Path

import pytest

OWN_PREFIXES = ("RECEIVER_", "VIDGO_", "APIDOT_", "APIXO_", "REAPI_")


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of the machine's own settings, and a folder to make things in."""
    for name in list(os.environ):
        if name.startswith(OWN_PREFIXES) or name in {"PORT", "DYNO", "DATABASE_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
