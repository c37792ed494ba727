"""The folder of one run of the demo: always a new one, so that nothing is ever overwritten."""

import re
from pathlib import Path

import msgspec

from receiver.errors import Misconfigured


class RunFolder(msgspec.Struct, frozen=True, kw_only=True):
    """The places of one run. Those in ``data`` are the service's defaults."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def images(self) -> Path:
        return self.data / "assets"

    @property
    def events(self) -> Path:
        return self.data / "events.jsonl"

    @property
    def database(self) -> Path:
        return self.data / "receiver.db"

    @property
    def log(self) -> Path:
        return self.path / "service.log"


def make_run_folder(parent: Path) -> RunFolder:
    """``parent/run-1``, or the next number that is free. Raises Misconfigured where none can be made."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        found = (re.fullmatch(r"run-([0-9]+)", path.name) for path in parent.iterdir())
        number = 1 + max((int(run[1]) for run in found if run), default=0)
        while True:
            path = parent / f"run-{number}"
            try:
                path.mkdir()
            except FileExistsError:  # another demo was quicker
                number += 1
            else:
                return RunFolder(path=path)
    except OSError as exc:
        raise Misconfigured(
            f"no folder can be made in {parent} ({exc.strerror}): choose another by --folder"
        ) from exc
