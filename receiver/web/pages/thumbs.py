"""Small pictures of stored images, for the pages' own ``<img>``."""

from starlette.responses import Response

from receiver.models import Asset
from receiver.thumbnails.thumbnailer import EDGES
from receiver.web.assets import send_thumbnail
from receiver.web.filters import unknown_task
from receiver.web.pages.refusals import not_allowed
from receiver.web.pages.security import HEADERS
from receiver.web.pages.visits import Access, Page, Visit

KEPT = "private, max-age=3600"

_EDGES = {str(edge): edge for edge in EDGES}


async def show(visit: Visit) -> Response:
    """One of them, made when it is first asked for."""
    runtime, params = visit.runtime, visit.request.path_params
    if not _may_see(visit):
        raise not_allowed("Viewers see no images here (RECEIVER_VIEWER_IMAGES).")
    edge = _EDGES.get(params["edge"])
    event = await runtime.store.pages.get_event(params["provider"], params["task_id"])
    if edge is None or event is None:
        raise unknown_task(runtime, params["provider"])
    sent = await send_thumbnail(runtime, visit.request, event, edge, KEPT)
    for name in ("cross-origin-opener-policy", "cross-origin-resource-policy", "x-robots-tag"):
        sent.headers[name] = HEADERS[name]
    return sent


def has_thumbnail(visit: Visit, asset: Asset) -> bool:
    """Whether a page for this visitor may have a picture of a file."""
    return _may_see(visit) and visit.runtime.thumbnails.can_draw(asset)


def _may_see(visit: Visit) -> bool:
    return visit.is_admin or visit.runtime.settings.viewer_images


PAGES = (
    Page(path="/admin/thumbs/{edge}/{index}/{provider}/{task_id:path}", answer=show, access=Access.VIEWER),
)
