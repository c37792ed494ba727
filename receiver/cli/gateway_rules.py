"""`receiver gateway check` and `catalog`: what rules and prices say of an order, and of what day they are."""

from collections.abc import Mapping
from datetime import date
from typing import Any, BinaryIO

import click
import msgspec

from receiver.cli.exit_codes import Exit, nothing_found
from receiver.cli.output import as_json as json_option
from receiver.cli.output import print_document
from receiver.cli.tables import print_lines, print_pairs, print_table, wide_option
from receiver.cli.terminal import say
from receiver.clock import Clock
from receiver.config.settings import load_settings
from receiver.escapes import printable
from receiver.gateway.catalog import Catalog, load_catalogs, shipped_path, shipped_providers
from receiver.gateway.quotes import Quotes
from receiver.gateway.splice import NotAnOrder, read_document
from receiver.models import Price, Quote
from receiver.usd import to_usd

# --- one order ----------------------------------------------------------------------------------------


@click.command(short_help="Show which rules an order breaks, and what it costs.")
@click.argument("file", type=click.File("rb"))
@click.option("--provider", type=click.Choice(shipped_providers()), required=True, help="Whose order it is.")
@click.option("--model", help="The model, where the order's path names it (APIXO).")
@json_option
def check(*, file: BinaryIO, provider: str, model: str | None, as_json: bool) -> None:
    """Show which rules an order's body breaks, and what it costs; - is stdin. Nothing is sent.

    By this shell's RECEIVER_GATEWAY_CATALOG and RECEIVER_GATEWAY_CHECK. Exits 1 where the gateway would not
    send it, and 3 where no catalog knows its model, which is sent unchecked.
    """
    settings = load_settings()
    quotes = Quotes(load_catalogs(settings.gateway_catalog), settings.gateway_check)
    try:
        values = read_document(file.read()).values
    except NotAnOrder as exc:
        raise click.BadParameter(str(exc), param_hint="FILE") from exc
    model = model or _model(values)
    quote = quotes.quote(provider, model, values)
    if quote is None:
        nothing_found(f"rules and prices of {printable(model)}", "see `receiver gateway catalog`")
        return
    refused = [each.name for each in quotes.refused(quote)]
    if as_json:
        print_document(msgspec.json.encode(_answer(provider, model, quote, refused)))
    else:
        _print(provider, model, quote, refused, settings.gateway_check.value)
    if refused:
        click.get_current_context().exit(Exit.FAILED)


def _model(values: Mapping[str, object]) -> str:
    model = values.get("model")
    if not isinstance(model, str):
        raise click.UsageError("The order names no model: say it by --model.")
    return model


def _answer(provider: str, model: str, quote: Quote, refused: list[str]) -> dict[str, Any]:
    price = quote.price
    return {
        "provider": provider,
        "model": model,
        "images": quote.images,
        "price": None if price is None else {"usd": to_usd(price.micros), **msgspec.structs.asdict(price)},
        "rules": [
            {"name": each.name, "class": each.rule_class, "message": each.message} for each in quote.broken
        ],
        "refused": refused,
    }


def _print(provider: str, model: str, quote: Quote, refused: list[str], word: str) -> None:
    print_pairs(
        [
            ("order", f"{provider} {model}"),
            ("images", quote.images),
            ("price", "none is known here" if quote.price is None else _in_words(quote.price)),
            ("rules", "none is broken" if not quote.broken else None),
        ]
    )
    if quote.broken:
        click.echo()
        print_lines([(each.name, each.rule_class.value, each.message) for each in quote.broken])
    if refused:
        click.echo()
        say(f"It is not sent, as RECEIVER_GATEWAY_CHECK={word} has it: {', '.join(refused)}.", err=True)


def _in_words(price: Price) -> str:
    """``$0.06, 12 credits, as 1K; exact, as of 2026-11-28``."""
    credits_ = None if price.credits is None else f"{price.credits} credits"
    tier = None if price.tier is None else f"as {price.tier}"
    amount = ", ".join(filter(None, (f"${to_usd(price.micros)}", credits_, tier)))
    return f"{amount}; {price.basis.value}, as of {price.as_of}"


# --- all models ---------------------------------------------------------------------------------------


@click.command(short_help="List models whose rules and prices are known, by age.")
@click.option(
    "--file",
    "provider",
    type=click.Choice(shipped_providers()),
    help="Print the file that came with this release, to begin one of your own with.",
)
@wide_option
@json_option
def catalog(*, provider: str | None, as_json: bool) -> None:
    """List the models whose rules and prices are known here, and how old they are.

    By this shell's RECEIVER_GATEWAY_CATALOG.
    """
    if provider is not None:
        click.echo(shipped_path(provider).read_text(encoding="utf-8"), nl=False)
        return
    catalogs = load_catalogs(load_settings().gateway_catalog)
    rows = [row for each in catalogs.values() for row in _rows(each, Clock().now().date())]
    if as_json:
        print_document(msgspec.json.encode({"models": rows}))
        return
    print_table(
        rows,
        ("provider", "model", "rules", "prices", "refunds", "as_of", "days", "from"),
        ("refunds", "from"),
    )


def _rows(catalog: Catalog, today: date) -> list[dict[str, Any]]:
    return [
        {
            "provider": catalog.provider,
            "model": model.name,
            "rules": len(model.rules),
            "prices": len(model.rows),
            "refunds": catalog.refunds.value,
            "as_of": catalog.as_of.isoformat(),
            "days": (today - catalog.as_of).days,
            "from": catalog.file or "this release",
            "source": catalog.source,
        }
        for model in catalog.models.values()
    ]
