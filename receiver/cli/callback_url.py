"""`receiver callback-url`: the URL to hand to a provider, worked out without the service."""

import click

from receiver import urls
from receiver.cli.keys import consequence
from receiver.cli.reachability import REMEDY, obstacles
from receiver.cli.terminal import say
from receiver.config.credentials import read_credentials
from receiver.config.fields import key_variable
from receiver.config.settings import Settings, load_settings
from receiver.errors import Misconfigured
from receiver.models import Confirm, ProviderFacts
from receiver.plugins import load_providers
from receiver.tokens import Tokens


@click.command("callback-url")
@click.argument("provider")
def callback_url(*, provider: str) -> None:
    """Print the callback URL of PROVIDER for backends that log a task after submitting it.

    Warns on stderr about what would keep the provider from calling it. Who reserves a submission first gets
    a URL of its own, which is stronger: see `receiver submissions add`.
    """
    providers = load_providers()
    if provider not in providers:
        raise click.BadParameter(f"unknown provider; known: {', '.join(providers)}", param_hint="PROVIDER")
    settings = load_settings()
    url = provider_url(settings, Tokens(_secrets(settings)), provider)
    click.echo(url)
    facts = providers[provider].facts
    for warning in (*_kept_away(url, facts), *_held_back(settings, facts)):
        say(f"receiver: {warning}", err=True)


def provider_url(settings: Settings, tokens: Tokens, provider: str) -> str:
    return urls.callback_url(settings.public_url, provider, tokens.for_provider(provider))


def _kept_away(url: str, facts: ProviderFacts) -> list[str]:
    """What would keep this provider from calling ``url``, with its own rules at the end."""
    if not facts.pushes:
        return [f"{facts.title} sends no callbacks: its tasks are polled"]
    found = obstacles(url)
    if not found:
        return []
    why = "; ".join(found)
    return [f"{facts.title} may not call this URL ({why}): {REMEDY}. Its rules: {facts.callback_rules}"]


def _held_back(settings: Settings, facts: ProviderFacts) -> list[str]:
    """What would keep a callback of this provider from counting once it has come."""
    if settings.confirm is not Confirm.ALWAYS or settings.providers[facts.name].api_key or not facts.pushes:
        return []
    return [f"no {key_variable(facts.name)}: {consequence(settings.confirm, facts)}"]


def _secrets(settings: Settings) -> tuple[str, ...]:
    if settings.secrets:
        return settings.secrets
    if kept := read_credentials(settings.data_dir):
        return (kept.secret,)
    raise Misconfigured(
        "no secret yet: start `receiver serve` once, or set RECEIVER_DATA_DIR or RECEIVER_SECRET"
    )
