"""`receiver gateway`: what concerns orders that pass through."""

import click

from receiver.cli.gateway_rules import catalog, check
from receiver.cli.gateway_tokens import tokens


@click.group()
def gateway() -> None:
    """What concerns orders that pass through the gateway."""


gateway.add_command(check)
gateway.add_command(catalog)
gateway.add_command(tokens)
