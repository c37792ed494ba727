"""A plot as inline SVG, with its words: a summary beside it, and all of it as a table.

Nothing is kept from escaping but what is made here, of numbers, of times and of escaped text. Colours come
from the style sheet. The picture is hidden from screen readers and from the Tab key, which have the table.
"""

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from receiver.models import Mark, MarkKind
from receiver.times import in_words
from receiver.web.pages.rendering import number, size
from receiver.web.plots import Column, Plot, Unit, moment

WIDTH, HEIGHT = 10, 100  # of a column, in the picture's own units
MOST_MARKS = 40
SVG = (
    '<svg class="chart" viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true"'
    ' focusable="false">'
)

MARK_WORDS = {
    MarkKind.VERSION: "version {} began",
    MarkKind.SETTINGS: "settings changed: {}",
    MarkKind.SINK_DOWN: "sink {} went down",
    MarkKind.SINK_BACK: "sink {} came back",
    MarkKind.PROVIDER_DOWN: "provider {} could not be asked",
    MarkKind.PROVIDER_BACK: "provider {} could be asked again",
    MarkKind.REPLAY_BEGUN: "replay {} began",
    MarkKind.REPLAY_ENDED: "replay {} ended",
}
ALL_GOOD = frozenset({MarkKind.SINK_BACK, MarkKind.PROVIDER_BACK, MarkKind.REPLAY_ENDED})


def draw(plot: Plot, marks: Sequence[Mark], prefix: str) -> Markup:
    """The picture; ``prefix`` is the public URL's path."""
    highest = max((max(each.value or 0.0, each.week_ago or 0.0) for each in plot.columns), default=0.0)
    scale = (HEIGHT - 4) / highest if highest else 0.0
    width = WIDTH * len(plot.columns)
    parts = [
        SVG.format(width=width, height=HEIGHT),
        *(
            _link(plot, number, each, escape(prefix + place))
            for number, (each, place) in enumerate(zip(plot.columns, plot.places(), strict=True))
            if each.value
        ),
        *_bars("bar", [each.value or 0.0 for each in plot.columns], scale),
        *_bars("bad", [each.rest for each in plot.columns], scale),
        *_week_ago(plot.columns, scale),
        *(_mark(plot, mark) for mark in marks if plot.since <= mark.at.timestamp() < plot.until),
        "</svg>",
    ]
    return Markup("".join(parts))  # noqa: S704 - of what is escaped below


def table(plot: Plot, marks: Sequence[Mark], prefix: str) -> Markup:
    """The same as rows, those that say something; and the marks among them in words."""
    rest, label = plot.kind.rest, f"each {in_words(plot.step)}"
    heads = ["From (UTC)", f"In {label}" if plot.kind.is_counter else f"Worst in {label}"]
    heads += [rest.capitalize()] if rest else []
    cells = ['<table class="rows tight"><thead><tr>']
    classes = ["", *[' class="n"'] * len(heads)]
    columns = zip(classes, [*heads, "A week before"], strict=True)
    cells += [f'<th scope="col"{class_}>{escape(head)}</th>' for class_, head in columns]
    cells.append("</tr></thead><tbody>")
    for each, place in zip(reversed(plot.columns), reversed(plot.places()), strict=True):
        if each.value or each.week_ago:
            cells.append(_row(plot, each, escape(prefix + place), rest))
    cells.append("</tbody></table>")
    return Markup("".join(cells)) + _listed(plot, marks)  # noqa: S704 - as above


def summary(plot: Plot) -> str:
    """What the picture shows, in a sentence."""
    known = [each for each in plot.columns if each.value is not None]
    if not known:
        return "None in this time." if plot.kind.is_counter else "Nothing is known of this time."
    if not plot.kind.is_counter or plot.kind.quantile:
        worst = (min if plot.kind.measure.is_worst_low else max)(known, key=lambda each: each.value or 0.0)
        word = "least" if plot.kind.measure.is_worst_low else "most"
        return (
            f"{words_of(plot, known[-1].value)} now, {word} {words_of(plot, worst.value)}"
            f" at {_time(plot, worst)}."
        )
    total = sum(each.value or 0.0 for each in known)
    rest = sum(each.rest for each in known)
    before = sum(each.week_ago or 0.0 for each in plot.columns)
    most = max(known, key=lambda each: each.value or 0.0)
    parts = [f"{words_of(plot, total)} in all"]
    parts += [f"{words_of(plot, rest)} {plot.kind.rest}"] if plot.kind.rest else []
    parts.append(f"a week before {words_of(plot, before)}")
    return f"{', '.join(parts)}; most {words_of(plot, most.value)} at {_time(plot, most)}."


def words_of(plot: Plot, value: float | None) -> str:
    """A value in the plot's unit."""
    if value is None:
        return "not known"
    match plot.kind.unit:
        case Unit.SECONDS:
            return f"{value:.3g} s" if value < 120 else in_words(value)
        case Unit.BYTES:
            return size(round(value))
        case Unit.NUMBER:
            return number(round(value))


def _link(plot: Plot, number: int, column: Column, place: Markup) -> str:
    """A column leads to its rows by its whole height, so that a small one can be hit."""
    title = f"{_time(plot, column)}: {words_of(plot, column.value)}"
    if column.rest:
        title += f", {words_of(plot, column.rest)} {plot.kind.rest}"
    return (
        f'<a href="{place}" tabindex="-1"><title>{escape(title)}</title>'
        f'<path d="M{number * WIDTH} 0h{WIDTH}v{HEIGHT}h-{WIDTH}z"/></a>'
    )


def _bars(kind: str, values: Sequence[float], scale: float) -> Iterable[str]:
    """All that is drawn in one colour is one path, of whole units: a page of many plots stays small."""
    steps = [
        f"M{number * WIDTH + 1} {HEIGHT}v-{max(1, round(value * scale))}h8V{HEIGHT}"
        for number, value in enumerate(values)
        if value
    ]
    if steps:
        yield f'<path class="{kind}" d="{"".join(steps)}"/>'


def _week_ago(columns: Sequence[Column], scale: float) -> Iterable[str]:
    """A thin line; where nothing is known it is broken off."""
    steps, was_known = [], False
    for place, column in enumerate(columns):
        if column.week_ago is not None:
            y = HEIGHT - round(column.week_ago * scale)
            steps.append(f"{'L' if was_known else 'M'}{place * WIDTH + WIDTH // 2} {y}")
        was_known = column.week_ago is not None
    if steps:
        yield f'<path class="before" vector-effect="non-scaling-stroke" d="{"".join(steps)}"/>'


def _mark(plot: Plot, mark: Mark) -> str:
    x = (mark.at.timestamp() - plot.since) / plot.step * WIDTH
    kind = "ended" if mark.kind in ALL_GOOD else "begun"
    return (
        f'<path class="mark-{kind}" vector-effect="non-scaling-stroke" d="M{x:.1f} 0V{HEIGHT}">'
        f"<title>{escape(_in_words(mark))}</title></path>"
    )


def _row(plot: Plot, column: Column, place: Markup, rest: str) -> str:
    time = escape(_time(plot, column))
    cells = [words_of(plot, column.value), *([words_of(plot, column.rest)] if rest else [])]
    cells.append("" if column.week_ago is None else words_of(plot, column.week_ago))
    told = "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells)
    return f'<tr><th scope="row"><a href="{place}">{time}</a></th>{told}</tr>'


def _listed(plot: Plot, marks: Sequence[Mark]) -> Markup:
    shown = [mark for mark in marks if plot.since <= mark.at.timestamp() < plot.until][-MOST_MARKS:]
    if not shown:
        return Markup()
    lines = Markup().join(
        Markup("<li>{} {}</li>").format(moment(int(mark.at.timestamp())), _in_words(mark)) for mark in shown
    )
    return Markup("<p>Marks:</p><ul>{}</ul>").format(lines)


def _in_words(mark: Mark) -> str:
    return MARK_WORDS[mark.kind].format(mark.what)


def _time(plot: Plot, column: Column) -> str:
    text = moment(column.start)
    return text[:10] if plot.step >= 86_400 else text[5:16].replace("T", " ")
