"""Plots: what their columns say, where they lead, and that nothing in them is anybody's but ours."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import httpx2
import pytest

from receiver.models import HOUR, Mark, MarkKind, Measure, Sample, SeriesName, series_name
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.web.pages import drawing
from receiver.web.plots import KINDS, SPANS, Column, Plot, read_marks, read_plots
from tests.support.engines import on_both_engines
from tests.support.image_bytes import animated
from tests.support.media_host import MediaHost, says
from tests.support.waiting import until
from tests.support.web_callers import callback_path, log_task

WEEK = 7 * 24 * HOUR
ACCEPTED = series_name(Measure.CALLBACKS, verdict="accepted")
EARLY = series_name(Measure.CALLBACKS, verdict="early")
OF_VIDGO = series_name(Measure.CALLBACKS, verdict="accepted", provider="vidgo")
HOSTILE = "\"'><script>alert(1)</script><style>*{}</style>\u202e{{7*7}}&amp;</svg>"


@pytest.fixture
def environment() -> dict[str, str]:
    return {"RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8"}


def minutes_ago(runtime: Runtime, minutes: int) -> int:
    return (int(runtime.clock.now().timestamp()) // 60 - minutes) * 60


async def add(runtime: Runtime, *samples: tuple[SeriesName, int, float]) -> None:
    await runtime.store.add_time_series([Sample(*sample) for sample in samples], [])


async def read_plot(runtime: Runtime, name: str, span: str, **of: str) -> Plot:
    (plot,) = await read_plots(runtime, [name], span, **of)
    return plot


def shown(plot: Plot) -> list[float]:
    return [column.value for column in plot.columns if column.value]


@on_both_engines
async def test_columns_add_up_to_now_and_say_what_was_a_week_before(runtime: Runtime) -> None:
    now = minutes_ago(runtime, 0)
    await add(
        runtime,
        (ACCEPTED, now, 4.0),
        (EARLY, now, 1.0),
        (ACCEPTED, now - 60, 2.0),
        (ACCEPTED, now - WEEK, 7.0),
    )
    plot = await read_plot(runtime, "callbacks", "1h")
    assert len(plot.columns) == 60
    assert plot.columns[-1] == Column(start=now, value=5.0, rest=1.0, week_ago=plot.columns[-1].week_ago)
    assert plot.columns[-2].value == 2.0
    assert plot.columns[0].value is None
    day = await read_plot(runtime, "callbacks", "24h")
    assert sum(shown(day)) == 7.0
    week = await read_plot(runtime, "callbacks", "7d")  # whether upkeep has made an hour of it by now or not
    assert week.columns[-1].week_ago == pytest.approx(7.0)


async def test_every_span_has_at_most_96_columns(runtime: Runtime) -> None:
    for span in SPANS:
        assert len((await read_plot(runtime, "callbacks", span)).columns) <= 96


@on_both_engines
async def test_what_is_kept_by_the_hour_only_is_spread_over_narrower_columns(runtime: Runtime) -> None:
    now = minutes_ago(runtime, 0)
    hour = (now - WEEK) // HOUR * HOUR
    await add(runtime, *((ACCEPTED, hour + minute * 60, 1.0) for minute in range(60)))
    await add(
        runtime, *((series_name(Measure.WAITING_FILES), hour + minute * 60, 5.0) for minute in range(60))
    )
    aged = await runtime.store.list_aged_series(0, hour + HOUR, 0, 10)
    await runtime.store.sum_up_series(aged, hour + HOUR, 0)

    plot = await read_plot(runtime, "callbacks", "24h")
    assert {column.week_ago for column in plot.columns} == {None, 15.0}
    gauge = await read_plot(runtime, "waiting_files", "24h")
    assert {column.week_ago for column in gauge.columns} == {None, 5.0}


async def test_one_provider_is_shown_by_itself(runtime: Runtime) -> None:
    now = minutes_ago(runtime, 0)
    await add(runtime, (ACCEPTED, now, 5.0), (OF_VIDGO, now, 2.0))
    assert shown(await read_plot(runtime, "callbacks", "1h")) == [5.0]
    assert shown(await read_plot(runtime, "callbacks", "1h", provider="vidgo")) == [2.0]
    assert shown(await read_plot(runtime, "callbacks", "1h", provider="apixo")) == []


async def test_a_quantile_lies_where_so_many_are_below(runtime: Runtime) -> None:
    now = minutes_ago(runtime, 0)

    def bucket(bound: str, count: float, at: int = now) -> tuple[SeriesName, int, float]:
        return series_name(Measure.SENT_SECONDS, le=bound), at, count

    await add(runtime, bucket("0.5", 90.0), bucket("1.0", 10.0), bucket("+Inf", 5.0, now - 60))
    plot = await read_plot(runtime, "sent_seconds", "1h")
    assert plot.columns[-1].value == pytest.approx(0.75)  # the middle of the last ten, between 0.5 and 1
    assert plot.columns[-2].value == 86_400.0  # above the last bound


async def test_each_column_leads_to_its_rows(runtime: Runtime, person: httpx2.AsyncClient) -> None:
    now = minutes_ago(runtime, 5)
    of = {
        "callbacks": OF_VIDGO,
        "turned_away": series_name(Measure.TURNED_AWAY, status="401"),
        "dead_letters": series_name(Measure.DEAD_LETTERS, sink="jsonl"),
        "waiting_files": series_name(Measure.WAITING_FILES),
    }
    await add(runtime, *((name, now, 3.0) for name in of.values()))
    about = {"callbacks": {"provider": "vidgo"}, "dead_letters": {"sink": "jsonl"}}
    begin, end = (f"{datetime.fromtimestamp(each, UTC):%Y-%m-%dT%H%%3A%MZ}" for each in (now, now + 60))
    wanted = {
        "callbacks": f"/admin/tasks?provider=vidgo&since={begin}&until={end}",
        "turned_away": f"/admin/deliveries?verdict=turned-away&since={begin}&until={end}",
        "dead_letters": "/admin/dead-letters?sink=jsonl",
        "waiting_files": "/admin/assets",
    }
    for name, place in wanted.items():
        plot = await read_plot(runtime, name, "1h", **about.get(name, {}))
        picture = str(drawing.draw(plot, [], ""))
        assert [unescape(each) for each in re.findall(r'<a href="([^"]+)"', picture)] == [place]
        assert "<title>" in picture
        assert f'<a href="{place.replace("&", "&amp;")}">' in str(drawing.table(plot, [], ""))
        assert (await person.get(place)).status_code == 200


async def test_a_summary_says_what_the_picture_shows(runtime: Runtime) -> None:
    now = minutes_ago(runtime, 0)
    await add(runtime, (ACCEPTED, now, 1200.0), (EARLY, now, 34.0), (ACCEPTED, now - WEEK, 7.0))
    said = drawing.summary(await read_plot(runtime, "callbacks", "7d"))
    assert said.startswith("1,234 in all, 34 did not count, a week before 7; most ")
    assert drawing.summary(await read_plot(runtime, "files", "7d")) == "None in this time."
    assert drawing.summary(await read_plot(runtime, "wal_bytes", "90d", sink="none")).startswith(
        "Nothing is known"
    )


async def test_marks_stand_where_they_happened_and_in_words_beside(runtime: Runtime) -> None:
    await runtime.time_series.write()
    now = runtime.clock.now()
    down = Mark(at=now - timedelta(minutes=10), kind=MarkKind.SINK_DOWN, what="app")
    await runtime.store.add_time_series([], [], [down])
    await add(runtime, (ACCEPTED, minutes_ago(runtime, 1), 1.0))
    marks = await read_marks(runtime, int(now.timestamp()) - HOUR, int(now.timestamp()) + 60)
    assert [mark.kind for mark in marks] == [MarkKind.SINK_DOWN, MarkKind.VERSION]
    plot = await read_plot(runtime, "callbacks", "1h")
    assert str(drawing.draw(plot, marks, "")).count('class="mark-begun"') == 2
    assert "sink app went down" in str(drawing.table(plot, marks, ""))


HOSTILE_TEXTS = (HOSTILE, "\x00\x1b[2J", "<!--", "]]>", "javascript:alert(1)", "' onload='x")


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_whatever_a_name_is_it_is_text_in_the_picture(text: str) -> None:
    """Names are known words; but a picture is not escaped by the template, so it must be safe by itself."""
    column = Column(start=0, value=2.0, rest=1.0, week_ago=3.0)
    plot = Plot(
        kind=KINDS["dead_letters"], of={"sink": text}, span="1h", since=0, step=60, columns=(column,) * 3
    )
    mark = Mark(at=datetime.fromtimestamp(61, UTC), kind=MarkKind.SETTINGS, what=text)
    for made in (drawing.draw(plot, [mark], text), drawing.table(plot, [mark], text)):
        assert set(re.findall(r"<(\w+)", made)) <= {
            "svg", "a", "title", "path", "table", "thead", "tbody", "tr", "th", "td", "p", "ul", "li",
        }  # fmt: skip
        assert set(re.findall(r"\s([\w-]+)=\"", made)) <= {
            "class", "viewBox", "preserveAspectRatio", "aria-hidden", "focusable", "href", "tabindex", "d",
            "vector-effect", "scope",
        }  # fmt: skip
        assert "'" not in made.replace("&#39;", "")
        assert "style=" not in made


@on_both_engines
async def test_pages_show_plots_of_what_they_are_about(runtime: Runtime, person: httpx2.AsyncClient) -> None:
    await add(runtime, (OF_VIDGO, minutes_ago(runtime, 0), 42.0))
    assert "42 in all" in (await person.get("/admin/providers/vidgo?span=6h")).text
    assert "42 in all" not in (await person.get("/admin/providers/apixo?span=6h")).text
    for place in ("/admin/", "/admin/history", "/admin/sinks", "/admin/sinks/jsonl", "/admin/providers"):
        for span in ("", "?span=90d", "?span=ever"):
            page = (await person.get(place + span)).text
            assert page.count('<section class="card plot"') >= 4, place
    one = (await person.get("/admin/history?plot=files&span=7d")).text
    assert one.count('<section class="card plot"') == 1
    assert "<details open>" in one


async def test_of_what_there_was_nothing_a_page_shows_a_line_and_no_picture(
    runtime: Runtime, person: httpx2.AsyncClient
) -> None:
    await add(runtime, (ACCEPTED, minutes_ago(runtime, 0), 42.0))
    page = (await person.get("/admin/?span=6h")).text
    card = r'<section class="card plot" aria-labelledby="plot-(\w+)">(.*?)</section>'
    cards = dict(re.findall(card, page, re.DOTALL))
    assert "<svg" in cards["callbacks"]
    assert "None in this time." in cards["files"]
    assert not any(word in cards["files"] for word in ("<svg", 'class="axis"', "As a table"))
    assert "<svg" in (await person.get("/admin/history?plot=files&span=6h")).text  # whoever asks for it


def test_every_measure_is_plotted() -> None:
    assert {kind.measure for kind in KINDS.values()} == set(Measure)


@on_both_engines
async def test_the_numbers_of_a_plot_are_to_be_had(runtime: Runtime, admin: httpx2.AsyncClient) -> None:
    now = minutes_ago(runtime, 0)
    await add(runtime, (OF_VIDGO, now, 4.0), (EARLY, now, 1.0), (ACCEPTED, now, 4.0))
    whole = (await admin.get("/history/callbacks?span=1h")).json()
    assert (whole["step_seconds"], len(whole["columns"])) == (60, 60)
    assert whole["columns"][-1] == {
        "start": f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%S.000Z}",
        "value": 5.0,
        "rest": 1.0,
        "week_ago": None,
    }
    of_one = (await admin.get("/history/callbacks?span=1h&provider=vidgo")).json()
    assert of_one["columns"][-1]["value"] == 4.0


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ("nothing", 404, "callbacks, turned_away"),
        ("callbacks?span=2h", 400, "1h, 6h, 24h, 7d, 90d"),
        ("callbacks?provider=nobody", 400, "vidgo"),
        ("callbacks?sink=jsonl", 400, "not kept by sink"),
        ("callbacks?provider=vidgo&sink=jsonl", 400, "not of both"),
    ],
)
async def test_a_series_that_there_is_not_is_told_with_those_there_are(
    admin: httpx2.AsyncClient, asked: str, status: int, words: str
) -> None:
    answer = await admin.get(f"/history/{asked}")
    assert answer.status_code == status
    assert words in answer.json()["detail"]


async def test_how_long_files_and_events_took_is_counted_once_each(
    runtime: Runtime, backend: httpx2.AsyncClient, host: MediaHost
) -> None:
    link = host.put("/0.png", says(200, animated("PNG", 1)))
    await log_task(backend, "t1")
    path = callback_path(runtime)
    (await backend.post(path, content=sample_callback("vidgo", "t1", files=[link]))).raise_for_status()

    async def both() -> bool:
        await runtime.time_series.write()
        plots = [await read_plot(runtime, name, "1h") for name in ("stored_seconds", "sent_seconds")]
        return all(0 < value < 60 for plot in plots for value in shown(plot)) and all(map(shown, plots))

    await until(both)
    totals = runtime.metrics.totals()
    for measure in (Measure.STORED_SECONDS, Measure.SENT_SECONDS):
        series = [name for name in totals if name.measure is measure and "sink=" not in name.labels]
        assert sum(totals[name] for name in series) == 1.0
