"""Plots as parts of a page: read, drawn, and chosen how far back they go by its address."""

import asyncio
from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from receiver.models import Mark
from receiver.web.pages import drawing
from receiver.web.pages.visits import Visit
from receiver.web.plots import KINDS, SPANS, USUAL_SPAN, Plot, moment, read_marks, read_plots

AT_ONCE = 6  # plots by one read: of more, a busy machine would show none in time


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """One plot as a template shows it; without a picture it is empty, or not known now."""

    name: str
    title: str
    summary: str = ""
    is_empty: bool = False  # of what there was nothing its summary says enough
    picture: Markup | None = None
    table: Markup | None = None  # None: it is on a page of its own
    since: str = ""
    until: str = ""


class Charts(msgspec.Struct, frozen=True, kw_only=True):
    """The plots of a page, and the spans that they could have."""

    charts: tuple[Chart, ...]
    span: str
    spans: tuple[str, ...]


async def read_charts(visit: Visit, *names: str, has_tables: bool = False, **of: str) -> Charts:
    """These plots, up to now, as far back as the page's ``span`` says: for the macro of ``charts.html``.

    Their tables would be most of a page that has more to show, so each is a link away. ``of`` may name the
    provider or the sink that the page is about. What is late says so by itself.
    """
    asked = visit.query.get("span")
    span = asked if asked in SPANS else USUAL_SPAN
    now = int(visit.now.timestamp())
    groups = [names[first : first + AT_ONCE] for first in range(0, len(names), AT_ONCE)]
    marks, read = await asyncio.gather(
        visit.known(read_marks(visit.runtime, now - SPANS[span].seconds, now + 1)),
        asyncio.gather(*(visit.known(read_plots(visit.runtime, group, span, **of)) for group in groups)),
    )
    charts: list[Chart] = []
    for group, plots in zip(groups, read, strict=True):
        if plots is None:
            charts += (Chart(name=name, title=KINDS[name].title) for name in group)
        else:
            charts += (_chart(plot, marks or [], visit.prefix, has_table=has_tables) for plot in plots)
    return Charts(charts=tuple(charts), span=span, spans=tuple(SPANS))


def _chart(plot: Plot, marks: Sequence[Mark], prefix: str, *, has_table: bool) -> Chart:
    return Chart(
        name=plot.kind.name,
        title=plot.kind.title,
        summary=drawing.summary(plot),
        is_empty=not has_table and plot.is_empty,
        picture=drawing.draw(plot, marks, prefix),
        table=drawing.table(plot, marks, prefix) if has_table else None,
        since=moment(plot.since),
        until=moment(plot.until),
    )
