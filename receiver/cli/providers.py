"""`receiver providers`: who may call us, and what a file of one's own makes of a sample."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TextIO
from urllib.parse import urlencode

import click
import msgspec

from receiver import forms, plugins
from receiver.cli.exit_codes import Exit
from receiver.cli.output import as_json as json_option
from receiver.cli.output import count, paint, print_document
from receiver.cli.tables import print_lines, print_table, wide_option
from receiver.cli.terminal import say
from receiver.clock import Clock
from receiver.config.fields import variable_of
from receiver.config.settings import Settings, load_settings
from receiver.declared import DeclaredProvider
from receiver.declared.samples import Reading, read_sample
from receiver.errors import ReceiverError, Rejected, Unavailable
from receiver.escapes import printable
from receiver.fetching.client import GuardedClient
from receiver.fetching.key_sets import KeySet
from receiver.ingest import KeySource, Secrets
from receiver.links import is_data_url
from receiver.models import Access, Callback, ReportState, Signing, SigningKeys

_WAYS = {
    Signing.NONE: ("url",),
    Signing.TEXT: ("url", "secret"),
    Signing.BASE64: ("url", "secret"),
    Signing.KEYS: ("url", "public keys"),
}


@click.group(invoke_without_command=True)
@click.pass_context
def providers(context: click.Context) -> None:
    """List providers, and try a file of your own with a sample; by this shell's settings."""
    if context.invoked_subcommand is None:
        context.invoke(list_, as_json=False)


@providers.command("list", short_help="List providers: from where, what proves a callback, who is asked.")
@wide_option
@json_option
def list_(*, as_json: bool) -> None:
    """List providers: where each is from, what can prove a callback, and whether it is asked about tasks.

    A callback is proved by the token in its URL (url), and where that is set by a secret or public keys.
    """
    settings = load_settings()
    known = plugins.load_providers(settings.own_providers)
    rows = [_row(settings, name, known[name].facts.title, known[name].facts.signing) for name in known]
    if as_json:
        print_document(msgspec.json.encode({"providers": rows}))
        return
    for row in rows:
        row["proof"] = ", ".join(row["proof"])
        row |= {name: "yes" if row[name] else "no" for name in ("checked", "asked")}
    print_table(rows, ("name", "title", "from", "proof", "checked", "asked"), ("title",))


def _row(settings: Settings, name: str, title: str, signing: Signing) -> dict[str, Any]:
    access = settings.providers[name]
    return {
        "name": name,
        "title": title,
        "from": str(settings.providers_file) if name in settings.own_providers else plugins.origin(name),
        "proof": _WAYS[signing],
        "checked": bool(access.webhook_secrets or access.webhook_keys_url),
        "asked": access.api_key is not None,
    }


# --- a sample -------------------------------------------------------------------------------------


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What a sample's signature came to: right, old (only by its time), wrong, unchecked or unsigned."""

    state: str
    detail: str | None = None


@providers.command(short_help="Show what a file of your own reads in a sample callback.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--sample", type=click.File("rb"), required=True, help="A callback's body; - is stdin.")
@click.option("--headers", type=click.File("r"), help="Its headers, a line for each: Name: value.")
@click.option("--provider", help="The table that it is for, where the file has several.")
@click.option("--model", help="The submission's model, where the provider is asked by it.")
@json_option
def check(
    *,
    file: Path,
    sample: BinaryIO,
    headers: TextIO | None,
    provider: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Show what FILE reads in a sample: task, state, files, error, signature; and name what is missing.

    The signature is checked as the service would, by <PROVIDER>_WEBHOOK_SECRET or ..._KEYS_URL. Exits 1 where
    the sample is not understood, or not signed right.
    """
    settings = load_settings(providers_file=file)
    chosen = _chosen(settings, provider)
    body = sample.read()
    try:
        document = forms.decode(body)
    except Rejected as exc:
        raise ReceiverError(f"{sample.name} cannot be read: {_why_unread(body)}") from exc
    reading = read_sample(chosen, document, model)
    signed = _signed(settings, chosen, body, _headers(headers.read()) if headers else None)
    if as_json:
        print_document(msgspec.json.encode(_answer(settings, chosen, reading, signed)))
    else:
        _print(_answer(settings, chosen, reading, signed))
    if reading.report.state is ReportState.UNCLEAR or signed.state in {"wrong", "old"}:
        click.get_current_context().exit(Exit.FAILED)


def _why_unread(body: bytes) -> str:
    """Why a body is neither JSON nor a form, and where."""
    if not body.strip():
        return "it is empty; keep a callback's body as it came"
    try:
        json.loads(body.decode())
        where = "not as the service reads it"
    except json.JSONDecodeError as exc:
        where = f"line {exc.lineno}, column {exc.colno}: {exc.msg[:1].lower()}{exc.msg[1:]}"
    except UnicodeDecodeError as exc:
        where = f"byte {exc.start + 1} is not UTF-8"
    except RecursionError:
        where = "nested too deeply"
    return f"it is no JSON ({where}), and no form either; keep a callback's body as it came"


def _chosen(settings: Settings, name: str | None) -> DeclaredProvider:
    names = list(settings.own_providers)
    if name is None and len(names) > 1:
        raise click.UsageError(f"the file has {', '.join(names)}: choose by --provider")
    chosen = settings.own_providers.get(name or names[0])
    if not isinstance(chosen, DeclaredProvider):
        raise click.BadParameter(f"the file has {', '.join(names)}", param_hint="--provider")
    return chosen


def _headers(text: str) -> dict[str, str]:
    pairs = [line.partition(":") for line in text.splitlines() if ":" in line]
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _signed(
    settings: Settings, provider: DeclaredProvider, body: bytes, headers: dict[str, str] | None
) -> Signed:
    signature, access = provider.declaration.signature, settings.providers[provider.facts.name]
    if signature is None:
        return Signed(state="unsigned", detail="the table has no signature: only the URL's token proves it")
    if headers is None or not (access.webhook_secrets or access.webhook_keys_url):
        last = "KEYS_URL" if signature.signing is Signing.KEYS else "SECRET"
        variable = variable_of(f"<PROVIDER>_WEBHOOK_{last}", provider.facts.name)
        return Signed(state="unchecked", detail=f"set {variable}, and give --headers")
    callback = Callback(
        provider=provider.facts.name, token=None, body=body, headers=headers, received_at=Clock().now()
    )
    fault = asyncio.run(_fault(settings, access, lambda keys: signature.fault(callback, keys)))
    if fault is None:
        return Signed(state="right")
    sent_at = _time_of(signature.sent_at(callback))
    if sent_at is not None:
        then = msgspec.structs.replace(callback, received_at=sent_at)
        if asyncio.run(_fault(settings, access, lambda keys: signature.fault(then, keys))) is None:
            return Signed(state="old", detail=f"right, but for its time: {fault}")
    return Signed(state="wrong", detail=fault)


def _time_of(text: str) -> datetime | None:
    return datetime.fromtimestamp(int(text), UTC) if text.isdecimal() and len(text) <= 11 else None


async def _fault(settings: Settings, access: Access, look: Callable[[SigningKeys], str | None]) -> str | None:
    """Why the keys that are set do not fit; None where one does."""
    said: list[str | None] = []

    def fits(keys: SigningKeys) -> bool:
        said.append(look(keys))
        return said[-1] is None

    client = GuardedClient(opened=settings.allow_networks)
    try:
        source: KeySource = Secrets(access.webhook_secrets)
        if access.webhook_keys_url:
            make = plugins.load_public_key()
            source = KeySet(access.webhook_keys_url, client=client, clock=Clock(), make=make)
        await source.check(fits)
    except Unavailable as exc:
        return str(exc)
    finally:
        await client.aclose()
    return said[-1]


def _answer(
    settings: Settings, provider: DeclaredProvider, reading: Reading, signed: Signed
) -> dict[str, Any]:
    report, request = reading.report, reading.request
    asked = None
    if request is not None:
        query = f"?{urlencode(request.query)}" if request.query else ""
        url = settings.providers[provider.facts.name].url(provider.facts)
        asked = f"GET {url}{request.path}{query}"
    return {
        "provider": provider.facts.name,
        "task_id": report.task_id,
        "state": report.state,
        "provider_state": report.provider_state,
        "files": [{"url": _shown(file.url), "kind": file.kind} for file in report.files],
        "error": {"code": report.error_code, "message": report.error_message},
        "note": report.note,
        "signature": signed,
        "asked_at": asked,
        "missing": reading.gaps,
    }


def _shown(link: str) -> str:
    """A link; of a file that stands in the sample how much of it does."""
    if not is_data_url(link):
        return link
    head, _, text = link.partition(",")
    return f"{head},… ({count(len(text), 'character')})"


def _print(answer: dict[str, Any]) -> None:
    signed, error = answer["signature"], answer["error"]
    word = f" ({printable(answer['provider_state'])})" if answer["provider_state"] else ""
    print_lines(
        [
            ("provider", answer["provider"]),
            ("task id", paint(answer["task_id"])),
            ("state", paint(answer["state"]) + word),
            *(("file", f"{paint(file['kind'])}  {paint(file['url'])}") for file in answer["files"]),
            *(("error", paint(each)) for each in (error["code"], error["message"]) if each),
            ("signature", signed.state + (f": {signed.detail}" if signed.detail else "")),
            ("asked at", paint(answer["asked_at"])),
        ]
    )
    for gap in answer["missing"]:
        say(f"missing {gap.key}: {printable(gap.detail)}", fg="red")
    if not answer["missing"]:
        say(f"Understood, with {count(len(answer['files']), 'file')}.", fg="green")
