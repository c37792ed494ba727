"""Commands that root runs in a folder of another user's, with all that such a user needs to run them too."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.missing import missing
from tests.support.places import ROOT

USER = 54_321  # nobody's: there is no such name on any machine
SECONDS = 60

# Makes the folder $1, which is in none that only root may enter, look as if it were in the open. Only what
# follows sees it so. $2 is where to hold it meanwhile.
_IN_THE_OPEN = """
mkdir "$2" && mount --bind "$1" "$2" && mount -t tmpfs -o mode=755 none "$3" && mkdir -p "$1" \
  && mount --bind "$2" "$1" && shift 3 && exec "$@"
"""


@contextmanager
def folder_of_another(name: str = "data") -> Iterator[Path]:
    """A folder of another user's, which that user can reach; all around it goes with it."""
    if os.geteuid() != 0:
        missing("only root can become another user")
    around = Path(tempfile.mkdtemp(prefix="receiver-"))
    try:
        around.chmod(0o755)
        folder = around / name
        folder.mkdir(mode=0o700)
        os.chown(folder, USER, USER)
        yield folder
    finally:
        shutil.rmtree(around)


def as_root(
    arguments: Sequence[str], data: Path, environ: Mapping[str, str] = {}
) -> "subprocess.Popen[bytes]":
    """`receiver ...` as root starts it."""
    return as_root_runs(["-m", "receiver", *arguments], data, environ)


def as_root_runs(
    words: Sequence[str], data: Path, environ: Mapping[str, str] = {}
) -> "subprocess.Popen[bytes]":
    """This Python as root starts it."""
    return subprocess.Popen(
        [*_in_the_open(data.parent / f"python-{os.urandom(4).hex()}"), sys.executable, *words],
        env={**_plain(), "RECEIVER_DATA_DIR": str(data), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        umask=0o022,
    )


def run_as_root(
    arguments: Sequence[str], data: Path, environ: Mapping[str, str] = {}
) -> tuple[int, bytes, bytes]:
    """The same, once it has ended: its exit code, and what it said."""
    with as_root(arguments, data, environ) as process:
        try:
            said, complaints = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    return process.returncode, said, complaints


def owners(folder: Path) -> dict[str, int]:
    """Whose everything in a folder is."""
    return {str(path.relative_to(folder)): path.lstat().st_uid for path in sorted(folder.rglob("*"))}


def _plain() -> dict[str, str]:
    ours = ("RECEIVER_", "VIDGO_", "APIDOT_", "APIXO_", "REAPI_")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and name not in {"PORT", "DYNO", "DATABASE_URL"}
    }


def _in_the_open(hold: Path) -> list[str]:
    """What a command begins with where this Python lies in a folder that only root may enter."""
    base = Path(sys.base_prefix).resolve()
    closed = next((each for each in reversed(base.parents) if not each.stat().st_mode & stat.S_IXOTH), None)
    if closed is None:
        return []
    if shutil.which("unshare") is None:
        missing("this Python is in a folder that only root may enter, and there is no unshare")
    return ["unshare", "--mount", "sh", "-c", _IN_THE_OPEN, "sh", str(base), str(hold), str(closed)]
