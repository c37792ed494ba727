"""A task's history as people read it: when, how long after it was submitted, what, and how."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from receiver.escapes import printable
from receiver.times import from_text

Paint = Callable[[Any], str]

_KINDS = (
    ("deliveries", "delivery", "received_at"),
    ("notifications", "notification", "due_at"),
    ("attempts", "attempt", "started_at"),
)


class Entry(NamedTuple):
    at: str  # RFC 3339 in UTC, so it sorts as text
    what: str
    how: str


def _plain(word: Any) -> str:
    return "-" if word is None else str(word)


def timeline(
    task: dict[str, Any], paint: Paint = _plain, *, with_details: bool = True
) -> list[tuple[str, str, str, str]]:
    """Everything that happened to a task and what is due next, in order, as ``GET /tasks/...`` tells it.

    Each entry is its time, the seconds since the submission, what and how; ``paint`` shows a word of ours.
    ``with_details``: what others said, too, which may quote a prompt.
    """
    submitted_at = from_text(task["submitted_at"])
    teller = _Teller(submitted_at, paint, with_details=with_details)
    entries = sorted([*teller.past(task), *teller.future(task)], key=lambda entry: entry.at)
    return [
        (entry.at, elapsed(submitted_at, entry.at), printable(entry.what), entry.how) for entry in entries
    ]


def elapsed(since: datetime, at: str) -> str:
    """``+3.2 s``, ``+5 min 12 s``, ``+2 h 5 min``, ``+3 d 4 h``; with a minus for what came before."""
    exact = (from_text(at) - since).total_seconds()
    if abs(exact) < 59.95:
        return f"{exact:+.1f} s"
    sign, seconds = "+-"[exact < 0], round(abs(exact))
    for size, unit, smaller, smaller_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            return f"{sign}{seconds // size} {unit} {seconds % size // smaller} {smaller_unit}"
    return f"{sign}{seconds // 60} min {seconds % 60} s"


class _Teller:
    """Tells what happened to one task, entry by entry."""

    def __init__(self, submitted_at: datetime, paint: Paint, *, with_details: bool) -> None:
        self._submitted_at = submitted_at
        self._paint = paint
        self._with_details = with_details

    def past(self, task: dict[str, Any]) -> Iterator[Entry]:
        for kind, one, moment in _KINDS:
            # What is not shown lies before the second of its kind that is.
            if number := task.get("left_out", {}).get(kind):  # a service before 0.4.0 does not say
                many = _count(number, one, kind)
                yield Entry(task[kind][1][moment], "...", f"{many} up to here left out: --all shows them")
        yield Entry(task["submitted_at"], "submitted", "")
        if task["bound_at"] and task["bound_at"] != task["submitted_at"]:
            yield Entry(task["bound_at"], "bound", "")
        for delivery in task["deliveries"]:
            what = "poll answered" if delivery["via"] == "poll" else "callback received"
            yield Entry(delivery["received_at"], what, self._delivery(delivery))
        if task["poll"] and task["poll"]["asked_at"]:
            poll = task["poll"]
            how = (
                f"{self._paint(poll['outcome'])} (asked {_count(poll['asked'], 'time')}){self._detail(poll)}"
            )
            yield Entry(poll["asked_at"], "provider asked", how)
        for attempt in task["attempts"]:
            yield Entry(attempt["started_at"], attempt["target"], self._attempt(attempt))
        if task["ended_at"]:
            revision = f", revision {task['revision']}" if task["revision"] > 1 else ""
            yield Entry(task["ended_at"], "ended", self._paint(task["type"].removeprefix("task.")) + revision)
        for entry in task["notifications"]:
            # What was sent for the first time is told by its attempts.
            if entry["settled_at"] and (entry["replay_id"] or entry["state"] == "dead"):
                given_up = "given up" if entry["state"] == "dead" else entry["state"]
                parts = [f"{given_up} after {_count(entry['attempts'], 'attempt')}"]
                parts += [f"revision {entry['revision']}"] if entry["revision"] > 1 else []
                parts += [f"replay {printable(entry['replay_id'])}"] if entry["replay_id"] else []
                yield Entry(entry["settled_at"], f"sink {entry['sink']}", ", ".join(parts))

    def future(self, task: dict[str, Any]) -> Iterator[Entry]:
        if task["poll"] and task["poll"]["due_at"]:
            yield Entry(
                task["poll"]["due_at"], "provider", f"to be asked, question {task['poll']['asked'] + 1}"
            )
        for entry in task["notifications"]:
            if entry["state"] == "pending":
                last = (
                    f", last try: {self._paint(entry['outcome'])}{self._detail(entry)}"
                    if entry["outcome"]
                    else ""
                )
                how = f"attempt {entry['attempts'] + 1} due{last}"
                yield Entry(entry["due_at"], f"sink {entry['sink']}", how)

    def _delivery(self, delivery: dict[str, Any]) -> str:
        last = elapsed(self._submitted_at, delivery["last_seen_at"])
        parts = [
            "held until the provider confirms" if delivery["verdict"] == "unconfirmed" else "",
            f"said {delivery['provider_state']}" if delivery["provider_state"] else "",
            f"proof {delivery['proof']}",
            f"seen {delivery['seen']} times, last {last}" if delivery["seen"] > 1 else "",
            delivery["note"] if self._with_details else None,
        ]
        return ", ".join([self._paint(delivery["verdict"]), *(printable(part) for part in parts if part)])

    def _attempt(self, attempt: dict[str, Any]) -> str:
        numbers = f"attempt {attempt['number']}, {attempt['seconds']:.3f} s"
        if attempt["times"] > 1:
            first, last = (
                elapsed(self._submitted_at, attempt[at]) for at in ("started_at", "last_started_at")
            )
            numbers = f"x {attempt['times']}, from {first} to {last}, the last {numbers}"
        return f"{self._paint(attempt['outcome'])} ({numbers}){self._detail(attempt)}"

    def _detail(self, happened: dict[str, Any]) -> str:
        return f": {printable(happened['detail'])}" if happened["detail"] and self._with_details else ""


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
