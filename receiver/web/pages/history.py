"""Everything that is counted over time: all plots, or one of them with its table."""

from starlette.responses import Response

from receiver.web.pages.charts import read_charts
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.plots import KINDS


async def show(visit: Visit) -> Response:
    """All of them, or the one that is asked for."""
    asked = visit.query.get("plot")
    one = asked if asked in KINDS else None
    charts = await read_charts(visit, *([one] if one else KINDS), has_tables=one is not None)
    return visit.page("history.html", charts=charts, one=one)


PAGES = (Page(path="/admin/history", answer=show, access=Access.VIEWER, menu="History"),)
