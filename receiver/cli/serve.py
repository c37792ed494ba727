"""`receiver serve`: doors and loops in one process, until it is told to stop."""

import gc
import math
import os
import resource
import signal
import socket
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import structlog
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver import __version__
from receiver.cli.exit_codes import Exit
from receiver.cli.resolving import resolve
from receiver.config.credentials import credentials_path, ensure_credentials, tell_weaknesses
from receiver.config.fields import ALL_FIELDS
from receiver.config.settings import Settings, load_settings
from receiver.errors import Misconfigured, ReceiverError, Unavailable
from receiver.health.keys import bottleneck, consequence
from receiver.logs import configure_logs
from receiver.models import Confirm, Work
from receiver.plugins import load_providers, sends_callbacks
from receiver.privileges import become_owner, keep_from_others
from receiver.runtime import check_drivers

APP = "receiver.web.app:create_app"  # one door starts another by name only
PROTOCOL = "receiver.web.connections:BoundedHttpProtocol"

GRACE_SECONDS = 4  # for requests in flight; the loops get as long after it, and platforms kill after 10 s
BACKLOG = 2048
ACCEPTED_AT_ONCE = 8
UNSENT_BYTES = 128 * 1024  # of each connection, in the system's memory
MOST_DESCRIPTORS = 65_536
LOOKUPS_AT_ONCE = "64"  # of names of sinks and providers

log = structlog.get_logger()


class ListsSettings(click.Command):
    """A command whose help ends with every variable there is."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Environment"):
            formatter.write_dl([(field.variable, field.summary) for field in ALL_FIELDS])


@click.command(cls=ListsSettings)
@click.option("--host", help="Address to listen on; wins over RECEIVER_HOST.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on; wins over PORT.")
@click.option("--no-work", is_flag=True, help="Only answer requests; `receiver work` does the rest.")
def serve(*, host: str | None, port: int | None, no_work: bool) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    The first start makes the data folder and its secrets, and says what to do next.
    """
    keep_from_others()
    settings = load_settings(host=host, port=port)
    if no_work:
        refuse_embedded(settings, "receiver serve --no-work")
    check_drivers(settings)  # before anything is made or said: what is to be installed stands alone
    listener = _listen(settings.host, settings.port)  # while root may still take a low port
    owner = become_owner(settings.data_dir)
    secrets_path = credentials_path(settings.data_dir)
    had_secrets = secrets_path.exists()
    settings = ensure_credentials(settings)
    flush_logs = configure_logs(settings.log_level, settings.log_format, sys.stderr)
    if secrets_path.exists() and not had_secrets:
        here = f" with PORT={settings.port} set" if port else ""
        click.echo(_welcome(settings, secrets_path, here), err=True)
    create_app: Callable[[Settings, Collection[Work]], Any] = resolve(APP)
    work = frozenset[Work]() if no_work else frozenset(Work)
    tell_start(settings, work, owner, host=settings.host, port=settings.port)
    make_room()
    try:
        service = create_app(settings, work)
        _run(service, listener, settings.idle_timeout_seconds, before_stop=service.stop_waits)
    except ReceiverError:
        flush_logs()  # the last word comes last
        raise


def refuse_embedded(settings: Settings, command: str) -> None:
    """Raises Misconfigured where the record is a file that one process has for itself."""
    if settings.embedded:
        raise Misconfigured(
            f"`{command}` needs a record that several processes share, and SQLite's is one process's: set"
            " RECEIVER_DATABASE_URL=postgresql://..., or run `receiver serve`, which does everything"
        )


def tell_start(settings: Settings, work: Collection[Work], owner: str | None, **where: object) -> None:
    """Log what starts, and what of the settings somebody should know."""
    log.info(
        "service.starting",
        version=__version__,
        **where,
        **(
            {"sqlite": sqlite3.sqlite_version}
            if settings.embedded
            else {"database": settings.database_scheme, "work": sorted(work)}
        ),
        **({"became": owner} if owner else {}),  # the data folder's owner, where root started it
    )
    tell_weaknesses(settings)
    if Work.POLL in work:
        _tell_who_is_not_asked(settings)
        _tell_who_is_asked_slowly(settings)


def make_room() -> None:
    """Have enough descriptors and threads, and a collector that lets alone what is there for good."""
    _take_descriptors()
    _spare_the_collector()
    # A name that nobody resolves holds a thread for as long as the system tries, much longer than any sink
    # waits for it. The loop has four of them for all names, unless it is told otherwise before the first.
    os.putenv("UV_THREADPOOL_SIZE", LOOKUPS_AT_ONCE)


def _tell_who_is_not_asked(settings: Settings) -> None:
    """Log which providers have no key, as that decides what a callback proves (see ``Confirm``)."""
    # By what is known without importing them: nobody uses every provider.
    pushes = {name: sends_callbacks(name, settings.own_providers) for name in settings.providers}
    unasked = [name for name, access in settings.providers.items() if access.api_key is None]
    if not unasked:
        return
    # Where none that pushes has a key, no callback at all will count.
    held = settings.confirm is Confirm.ALWAYS and {name for name in pushes if pushes[name]} <= set(unasked)
    said = dict.fromkeys(consequence(settings.confirm, name, pushes=pushes[name]) for name in unasked)
    write = log.error if held else log.warning
    write("providers.unasked", providers=unasked, reason="no API key is set", consequence="; ".join(said))


def _tell_who_is_asked_slowly(settings: Settings) -> None:
    """Log which providers are asked slowly, as more callbacks than that wait in line."""
    slow, providers = {}, load_providers(settings.own_providers)
    for name, access in settings.providers.items():
        if access.api_key is not None:
            facts = providers[name].facts
            if limit := bottleneck(settings.confirm, facts, access.per_minute(facts)):
                slow[name] = limit
    if slow:
        consequence = "; ".join(f"{name}: {limit}" for name, limit in slow.items())
        log.warning("providers.slow", providers=list(slow), consequence=consequence)


def _take_descriptors() -> None:
    # The usual 1024 are soon held by strangers. More than enough is of no use: the doors have a limit, too.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # a system may have a lower limit than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _spare_the_collector() -> None:
    # What start-up made stays until the end, and a request leaves hardly a cycle behind: at its usual pace
    # the collector would look through all of it for a twentieth of the time. Nor is it looked through first:
    # of 55,000 objects 14 were garbage.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _listen(host: str, port: int) -> socket.socket:
    """Listen before anything is opened, so that a port in use leaves nothing behind."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as exc:
        reason = (exc.strerror or type(exc).__name__).partition(" (while")[0]
        raise Unavailable(
            f"cannot listen on {host} port {port} ({reason}):"
            " stop what has it, or choose another by --port or PORT"
        ) from exc
    # Connections inherit it. The system would take in megabytes for a reader that takes nothing, and count
    # them as this container's; what is on its way to one who reads is limited by his window alone.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    return listener


def _run(
    app: ASGIApp, listener: socket.socket, idle_seconds: float, *, before_stop: Callable[[], None]
) -> None:
    start = _Start(app)
    config = uvicorn.Config(
        start,
        interface="asgi3",
        loop="auto",  # uvloop where it is installed
        http=PROTOCOL,
        ws="none",
        lifespan="on",
        workers=1,  # SQLite means one process, whatever WEB_CONCURRENCY says
        access_log=False,
        log_config=None,
        proxy_headers=False,  # nothing here depends on who is in front
        server_header=False,
        backlog=BACKLOG,
        # Longer than the proxies in front keep an idle connection (Heroku and Go's 90 s, Caddy 120 s, Google
        # Cloud 600 s): else one is reused at the moment we close it, and its callback gets no answer.
        timeout_keep_alive=math.ceil(idle_seconds),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    # uvicorn raises the signal again once all is in order; by default that would be exit code 143.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # uvloop takes in one connection of each socket in a round of the loop, in which every connection may be
    # answered once: with one socket alone, a connection behind hundreds would wait for seconds.
    copies = [listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1)]
    try:
        _Server(config, before_stop).run(sockets=[listener, *copies])
    except KeyboardInterrupt:
        pass  # stopped in good order before uvicorn raised it again
    except SystemExit as exc:  # uvicorn's own code for a failed start means something else with us
        raise start.failure or SystemExit(Exit.FAILED) from exc
    if start.failure:
        raise start.failure


class _Server(uvicorn.Server):
    """Says that it is about to stop before it waits for requests to end."""

    def __init__(self, config: uvicorn.Config, before_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_stop = before_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._before_stop()
        await super().shutdown(sockets)


class _Start:
    """The app, with an expected failure of its lifespan kept for ``report`` instead of printed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.failure: ReceiverError | None = None

    @property
    def direct(self) -> Any:
        """What the app offers to the server's connections: see ``receiver.web.direct``."""
        return getattr(self._app, "direct", None)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return (self._live if scope["type"] == "lifespan" else self._app)(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def send_or_hold(message: Message) -> None:
            if message["type"].endswith(".failed"):
                held.append(message)  # its text is a traceback
            else:
                await send(message)

        try:
            await self._app(scope, receive, send_or_hold)
        except ReceiverError as exc:
            self.failure = exc
            for message in held:
                await send({"type": message["type"], "message": ""})
        except BaseException:
            for message in held:
                await send(message)
            raise


def _welcome(settings: Settings, secrets_path: Path, here: str) -> str:
    return f"""\
Everything is kept in {settings.data_dir.resolve()}

  this service  {settings.public_url}
                (RECEIVER_PUBLIC_URL, as providers see it)
  its tokens    {secrets_path.resolve()}
                (api_token for backends, admin_token for you)

Next, in another terminal in this folder{here}:

  receiver doctor              what is still missing
  receiver admin open          a link to the admin pages, for your browser
  receiver submissions add --provider vidgo --owner user-17
                               reserve a task; prints its callback URL
  receiver callback-url vidgo  one URL for all tasks logged after submitting
  receiver tasks list          what became of them
"""
