"""Who types commands in tests: in this process, and with an environment of their own."""

from click.testing import CliRunner, Result

from receiver.cli import main


def run(*arguments: str, **environ: str) -> Result:
    """One command with these variables beside the environment's."""
    return CliRunner().invoke(main, arguments, env=environ)
