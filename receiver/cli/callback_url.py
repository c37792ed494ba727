"""`receiver callback-url`: the URL to hand to a provider, worked out without the service."""

import click

from receiver import urls
from receiver.cli.terminal import say
from receiver.config.credentials import read_credentials
from receiver.config.fields import key_variable
from receiver.config.settings import Settings, load_settings
from receiver.errors import Misconfigured
from receiver.health.keys import consequence
from receiver.health.reachability import REMEDY, obstacles
from receiver.models import Confirm
from receiver.plugins import load_providers
from receiver.tokens import Tokens


@click.command("callback-url")
@click.argument("provider")
def callback_url(*, provider: str) -> None:
    """Print the callback URL of PROVIDER for backends that log a task after submitting it.

    Warns on stderr about what would keep the provider from calling it. Who reserves a submission first gets
    a URL of its own, which is stronger: see `receiver submissions add`.
    """
    settings = load_settings()
    providers = load_providers(settings.own_providers)
    if provider not in providers:
        raise click.BadParameter(f"unknown provider; known: {', '.join(providers)}", param_hint="PROVIDER")
    url = provider_url(settings, Tokens(_secrets(settings)), provider)
    click.echo(url)
    facts = providers[provider].facts
    warnings = []
    if not facts.pushes:
        warnings.append(f"{facts.title} sends no callbacks: its tasks are polled")
    elif found := obstacles(url):
        why, rules = "; ".join(found), facts.callback_rules
        warnings.append(f"{facts.title} may not call this URL ({why}): {REMEDY}. Its rules: {rules}")
    if settings.confirm is Confirm.ALWAYS and facts.pushes and not settings.providers[provider].api_key:
        follows = consequence(settings.confirm, facts.title, pushes=facts.pushes)
        warnings.append(f"no {key_variable(provider)}: {follows}")
    for warning in warnings:
        say(f"receiver: {warning}", err=True)


def provider_url(settings: Settings, tokens: Tokens, provider: str) -> str:
    return urls.callback_url(settings.public_url, provider, tokens.for_provider(provider))


def _secrets(settings: Settings) -> tuple[str, ...]:
    if settings.secrets:
        return settings.secrets
    if kept := read_credentials(settings.data_dir):
        return (kept.secret,)
    raise Misconfigured(
        "no secret yet: start `receiver serve` once, or set RECEIVER_DATA_DIR or RECEIVER_SECRET"
    )
