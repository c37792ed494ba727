"""`receiver listen`: events of a running service, handed on to a consumer on this machine."""

import asyncio
import base64
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

import click
import httpx2

from receiver.cli.client import connect
from receiver.cli.live import follow, live_options, query_of
from receiver.cli.output import paint
from receiver.cli.sinks import SECRET_BYTES
from receiver.cli.tail import line_of
from receiver.cli.terminal import say
from receiver.config.parsers import is_here
from receiver.config.settings import SinkSettings, load_settings
from receiver.errors import Misconfigured, Permanent, Unavailable
from receiver.escapes import encode_harmless, printable
from receiver.fetching.client import open_plain_client
from receiver.models import EventType, MessageFormat, Notification, Outcome, Route
from receiver.ports import Sink
from receiver.runtime import make_sink

TIMEOUT_SECONDS = 30.0  # a breakpoint may be in the way


@click.command()
@click.option("--forward-to", "url", required=True, metavar="URL", help="Where each event is sent by POST.")
@live_options
@click.option("--secret", help="The whsec_ secret to sign with; without it a fresh one is made and shown.")
@click.option(
    "--format",
    "message_format",
    type=click.Choice([each.value for each in MessageFormat]),
    default=MessageFormat.STRUCTURED.value,
    show_default=True,
    help="The form of each request, as RECEIVER_SINK_<NAME>_FORMAT has it.",
)
def listen(*, url: str, secret: str | None, message_format: str, **asked: Any) -> None:
    """Hand events on to a consumer while it is developed, from now on, until Ctrl-C.

    Each is sent once, signed as a webhook's sink does it, and its answer shown. The record is not told: the
    sinks that are set get their events all the same, and nothing is sent again.
    """
    _check_place(url)
    query, is_given = query_of(asked), secret is not None
    secret = secret or f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"
    with asyncio.Runner() as runner:
        http = runner.run(_opened())
        try:
            sink = _sink(url, secret, MessageFormat(message_format), http)
            with connect() as service:
                events = follow(service, query)
                if not is_given:
                    say(f"Signed with {secret}: give it to the consumer.", err=True)
                say(printable(f"Events go to {_shown(url)} from now on; Ctrl-C ends that."), err=True)
                for event in events:
                    click.echo(f"{line_of(event)}  {runner.run(_sent(sink, event))}")
        except KeyboardInterrupt:
            return
        finally:
            runner.run(http.aclose())


def _check_place(url: str) -> None:
    """Raises Misconfigured where what is in events would go over a network that others hear."""
    place = urlsplit(url)
    if place.scheme not in {"http", "https"} or not place.hostname:
        raise Misconfigured("--forward-to must be an http(s) URL, such as http://127.0.0.1:3000/hooks/images")
    if place.scheme == "http" and not is_here(place.hostname):
        raise Misconfigured("--forward-to leads to another machine by http: use its https URL, or a tunnel's")


async def _opened() -> httpx2.AsyncClient:
    return open_plain_client()


def _sink(url: str, secret: str, message_format: MessageFormat, http: httpx2.AsyncClient) -> Sink:
    wanted = SinkSettings(
        name="listen",
        url=url,
        route=Route(sink="listen"),
        secret=secret,
        format=message_format,
        timeout_seconds=TIMEOUT_SECONDS,
        concurrency=1,
        max_age_seconds=0.0,
    )
    try:
        return make_sink(load_settings(), wanted, http)
    except Misconfigured as exc:
        problems = (problem.removeprefix("sink listen: its ") for problem in exc.problems)
        raise Misconfigured(*(f"--forward-to and --secret: {problem}" for problem in problems)) from None


async def _sent(sink: Sink, event: dict[str, Any]) -> str:
    """What came of one event, in words."""
    message = Notification(
        event_id=event["id"],
        dedupe_key=event["id"],
        type=EventType(event["type"]),
        subject=event["subject"],
        body=encode_harmless(event),
        traceparent=event.get("traceparent"),
    )
    started = time.monotonic()
    try:
        await sink.publish(message)
    except (Unavailable, Permanent) as exc:
        return f"{paint(exc.outcome.value)}: {printable(str(exc))}"
    return f"{paint(Outcome.DELIVERED.value)} in {time.monotonic() - started:.3f} s"


def _shown(url: str) -> str:
    """Without what may be secret in it."""
    place = urlsplit(url)
    return f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}"
