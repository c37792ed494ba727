"""Admins have what happened over time as numbers: what the plots of the admin pages are drawn of."""

from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import MarkKind
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.times import to_text
from receiver.web.endpoints import Audience, Endpoint
from receiver.web.filters import check_provider, check_sinks
from receiver.web.plots import KINDS, SPANS, USUAL_SPAN, Unit, read_marks, read_plots
from receiver.web.problems import UnknownInPath
from receiver.web.shapes import Moment, reply, shape


class SeriesQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far back (``1h``, ``6h``, ``24h``, ``7d``, ``90d``), and of which provider or sink alone."""

    span: str = USUAL_SPAN
    provider: str | None = None
    sink: str | None = None

    def __post_init__(self) -> None:
        if self.span not in SPANS:
            raise ValueError(f"`span` must be one of: {', '.join(SPANS)}")
        if self.provider and self.sink:
            raise ValueError("a series is of a provider or of a sink, not of both")


class ColumnShown(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time: of a counter how much came in it, of a gauge the worst; null where nothing is known.

    ``rest`` is how much of it is not as it should be; ``week_ago`` what the same time a week before showed.
    """

    start: Moment
    value: float | None
    rest: float
    week_ago: float | None


class MarkShown(msgspec.Struct, frozen=True, kw_only=True):
    """What happened once: ``what`` is a version, names of settings, a sink, a provider or a replay's id."""

    at: Moment
    kind: MarkKind
    what: str


class SeriesShown(msgspec.Struct, frozen=True, kw_only=True):
    """A series up to now, in columns of ``step_seconds``, the oldest first."""

    series: str
    title: str
    unit: Unit
    step_seconds: int
    columns: list[ColumnShown]
    marks: list[MarkShown]


async def show(runtime: Runtime, request: Request, query: SeriesQuery) -> Response:
    """One series, as its plot shows it."""
    name = request.path_params["series"]
    if name not in KINDS:
        raise UnknownInPath(ProblemType.UNKNOWN_PATH, f"A series must be one of: {', '.join(KINDS)}.")
    check_provider(runtime, query.provider)
    check_sinks(runtime, [query.sink] if query.sink else [])
    of = {label: each for label, each in (("provider", query.provider), ("sink", query.sink)) if each}
    if not KINDS[name].narrows >= set(of):
        raise Rejected(ProblemType.BAD_QUERY, f"`{name}` is not kept by {next(iter(of))}.")
    (plot,) = await read_plots(runtime, [name], query.span, **of)
    marks = await read_marks(runtime, plot.since, plot.until)
    return reply(
        SeriesShown(
            series=name,
            title=plot.kind.title,
            unit=plot.kind.unit,
            step_seconds=plot.step,
            columns=[
                shape(ColumnShown, each, start=to_text(datetime.fromtimestamp(each.start, UTC)))
                for each in plot.columns
            ],
            marks=[shape(MarkShown, mark) for mark in marks],
        )
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/history/{series}",
        summary="Show what happened over time",
        audience=Audience.ADMIN,
        takes=SeriesQuery,
        gives={200: SeriesShown},
        refuses=(400, 401, 403, 404, 503),
        answer=show,
    ),
)
