"""Providers: is it them, our key, or our rate."""

import msgspec
from starlette.responses import Response

from receiver.config.fields import key_variable
from receiver.models import ProviderFacts, poll_lane
from receiver.web.pages.charts import read_charts
from receiver.web.pages.visits import Access, Page, Visit
from receiver.worker import RUNNING

PLOTS = ("callbacks", "questions", "files", "unended_tasks")


class ProviderRow(msgspec.Struct, frozen=True, kw_only=True):
    """One provider; ``problem`` is what keeps it from being asked, in words."""

    facts: ProviderFacts
    has_key: bool
    key_variable: str
    problem: str | None
    polls_per_minute: int
    unended: dict[str, int] | None  # tasks without an end, by what the last question came to

    @property
    def is_used(self) -> bool:
        return self.has_key or bool(self.unended)


async def show(visit: Visit) -> Response:
    """All of them."""
    runtime = visit.runtime
    stats = await visit.known(runtime.stats.get())
    elsewhere = runtime.elsewhere()
    rows = []
    for name, provider in runtime.providers.items():
        has_key, told = runtime.status_client.can_ask(name), elsewhere.get(poll_lane(name), RUNNING)
        here = runtime.status_client.problem(name) if has_key else None
        rows.append(
            ProviderRow(
                facts=provider.facts,
                has_key=has_key,
                key_variable=key_variable(name),
                problem=told if told != RUNNING else here,
                polls_per_minute=runtime.settings.providers[name].per_minute(provider.facts),
                unended=dict(stats.polls.get(name, {})) if stats else None,
            )
        )
    charts = await read_charts(visit, *PLOTS)
    return visit.page("providers.html", charts=charts, rows=rows)


PAGES = (Page(path="/admin/providers", answer=show, access=Access.VIEWER, menu="Providers"),)
