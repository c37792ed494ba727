"""Files that are still to be fetched, those whose links die first in front."""

from starlette.responses import Response

from receiver.web.pages.visits import Access, Page, Visit

ROWS = 50
COUNTED = 5_000


async def show(visit: Visit) -> Response:
    """The first of them, without their links."""
    files = await visit.known(visit.runtime.store.pages.list_pending_files(ROWS))
    waiting = files[0].waiting if files else 0
    return visit.page("files.html", dying=files, waiting=waiting, is_part=waiting >= COUNTED, rows=ROWS)


PAGES = (Page(path="/admin/assets", answer=show, access=Access.VIEWER, menu="Files"),)
