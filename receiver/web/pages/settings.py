"""By which settings the service runs, for admins, without any secret."""

import sqlite3
from collections.abc import Iterable

from starlette.responses import Response

import receiver
from receiver.config.disclosure import disclose
from receiver.config.fields import ALL_FIELDS, PROVIDER_FIELDS, SINK_FIELDS, Field, variable_of
from receiver.config.settings import guessable_secrets
from receiver.web.pages.visits import Access, Page, Visit


async def show(visit: Visit) -> Response:
    """Every setting that may be shown, with its default and what it means."""
    settings = visit.runtime.settings
    meanings = _meanings(settings.providers, [sink.name for sink in settings.sinks])
    rows = [(name, text, meanings.get(name)) for name, text in disclose(settings, None).items()]
    return visit.page(
        "settings.html",
        rows=rows,
        version=receiver.__version__,
        sqlite=sqlite3.sqlite_version,
        guessable=guessable_secrets(settings),
    )


def _meanings(providers: Iterable[str], sinks: Iterable[str]) -> dict[str, Field]:
    """What each variable means, also those that are written once for all providers or sinks."""
    found = {field.variable: field for field in ALL_FIELDS}
    for field in PROVIDER_FIELDS:
        found |= {variable_of(field.variable, name): field for name in providers}
    for field in SINK_FIELDS:
        found |= {field.variable.replace("<NAME>", name.upper()): field for name in sinks}
    return found


PAGES = (Page(path="/admin/settings", answer=show, access=Access.ADMIN, menu="Settings"),)
