"""Who types commands in tests: in this process, and with an environment of their own."""

import os

from click.testing import CliRunner, Result

from receiver.cli import main


def run(*arguments: str, **environ: str) -> Result:
    """One command with these variables beside the environment's."""
    umask = os.umask(0o022)
    try:
        return CliRunner().invoke(main, arguments, env=environ)
    finally:
        os.umask(umask)  # a command's own process ends with it
