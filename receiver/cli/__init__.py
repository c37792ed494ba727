"""The command line: what people type; each command is imported when it is called."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from receiver import __version__, licences
from receiver.cli.exit_codes import report
from receiver.cli.resolving import resolve
from receiver.cli.terminal import columns, hang
from receiver.errors import Misconfigured, ReceiverError

# name -> where it is, and what it does: `--help` needs no command to be imported.
COMMANDS = {
    "demo": ("receiver.cli.demo:demo", "The whole story on this machine: no keys, no network."),
    "serve": ("receiver.cli.serve:serve", "Run the service: doors and loops in one process."),
    "work": ("receiver.cli.work:work", "Run the loops alone, beside `receiver serve --no-work`."),
    "simulate": ("receiver.cli.simulate:simulate", "Play four providers' APIs on loopback."),
    "submissions": ("receiver.cli.submissions:submissions", "Add, list and show submissions."),
    "tasks": ("receiver.cli.tasks:tasks", "List tasks, and show one with its whole history."),
    "show": ("receiver.cli.show:show", "Show the task that any id belongs to."),
    "replay": ("receiver.cli.replay:replay", "Send, download, read or ask again, on purpose."),
    "replays": ("receiver.cli.replay:replays", "List, show, follow, pause, resume and cancel replays."),
    "dead": ("receiver.cli.dead:dead", "List dead letters, and have them sent after all."),
    "sinks": ("receiver.cli.sinks:sinks", "List sinks, send one a test event, make a secret."),
    "providers": ("receiver.cli.providers:providers", "List providers, and try one of your own."),
    "gateway": ("receiver.cli.gateway:gateway", "Rules, prices and tokens of the gateway's orders."),
    "admin": ("receiver.cli.admin:admin", "Open the admin pages, and see who is logged in."),
    "audit": ("receiver.cli.audit:audit", "List who did what by hand, and why."),
    "costs": ("receiver.cli.costs:costs", "Sum up what orders through the gateway cost."),
    "budgets": ("receiver.cli.costs:budgets", "Set, list and remove what orders may cost."),
    "tail": ("receiver.cli.tail:tail", "Show events as they happen."),
    "listen": ("receiver.cli.listen:listen", "Hand events on to a consumer while it is developed."),
    "consume": ("receiver.cli.consume:consume", "Handle the events of a Redis stream with a function."),
    "health": ("receiver.cli.health:health", "Say what is wrong now, and what to do about it."),
    "stats": ("receiver.cli.stats:stats", "Count what the service holds."),
    "callback-url": ("receiver.cli.callback_url:callback_url", "Print a provider's callback URL."),
    "migrate": ("receiver.cli.migrate:migrate", "Bring the database to this release's schema."),
    "move": ("receiver.cli.move:move", "Move the record to another database, with proof."),
    "backup": ("receiver.cli.backup:backup", "Copy everything while the service runs."),
    "docs": ("receiver.cli.docs:docs", "Read the manual: its chapters, or one of them."),
    "doctor": ("receiver.cli.doctor:doctor", "Print every problem there is, not just the first."),
}


class Commands(click.Group):
    """Finds commands in the table, and turns expected failures into exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        escape_the_unencodable()
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with wrapping_usage_errors():
            return super().make_context(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = resolve(COMMANDS[cmd_name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            with wrapping_usage_errors():
                return super().invoke(ctx)
        except ReceiverError as exc:
            ctx.exit(report(exc))
        except UnicodeEncodeError as exc:  # bytes that the shell handed on, in a name or an id
            typed = exc.object[exc.start : exc.end]
            ctx.exit(report(Misconfigured(f"what was typed is not text in UTF-8: {typed!r}")))


@contextmanager
def wrapping_usage_errors() -> Iterator[None]:
    """Wrap the words of a usage error to the terminal's width."""
    try:
        yield
    except click.UsageError as exc:
        lines = hang("Error: ", exc.format_message(), columns(err=True), 2)
        raise click.UsageError("\n".join(lines).removeprefix("Error: "), exc.ctx) from exc


def escape_the_unencodable() -> None:
    """Let stdout and stderr show an escape for each character that their encoding does not have.

    An owner's name may hold any character, and a terminal of another encoding must not end a command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show_licences(ctx: click.Context) -> None:
    """Each file of others with the text of its licence."""
    for each in licences.vendored():
        click.echo(f"{each.file}: {each.name} {each.version}, {each.licence}\n\n{licences.licence_of(each)}")
    ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings come from the environment: `receiver docs settings` lists them, `receiver doctor`"
    " checks them.",
)
@click.version_option(__version__, prog_name="receiver")
@click.option(
    "--licences",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda ctx, _, asked: show_licences(ctx) if asked else None,
    help="Show the licences of the files of others that are shipped, and exit.",
)
def main() -> None:
    """Receive callbacks of asynchronous image APIs: record, verify, store, pass on.

    Exit codes: 0 done, 1 failed, 2 misconfigured, 3 nothing found.
    """
