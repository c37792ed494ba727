"""Follow a running replay on a terminal: how far it is until it ends, and what came of it."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from receiver.cli.client import Reply, Service, segment
from receiver.cli.exit_codes import Exit, Refused
from receiver.cli.tables import print_table
from receiver.cli.terminal import bar, say, shorten
from receiver.errors import ReceiverError, Unavailable
from receiver.escapes import printable
from receiver.models import GOOD_OUTCOMES, Stage, Verdict

PATIENCE_SECONDS = 30.0  # a replay outlives a restart of the service, and so does whoever follows it
LINE_SECONDS = 5.0  # between two lines where there is no terminal
FIRST_LOOK_SECONDS = 0.1
LAST_LOOK_SECONDS = 1.0
BAR_STEPS = 1000

# What it looks at, and what it queues, by stage.
NOUNS = {
    Stage.NOTIFY: ("events", "notifications"),
    Stage.FETCH: ("tasks", "files"),
    Stage.REPROCESS: ("deliveries", "deliveries"),
    Stage.POLL: ("tasks", "questions"),
}

# Why a replay may have found matches and had nothing to do for any of them.
_IDLE = {
    Stage.NOTIFY: "no sink wants any of them",
    Stage.FETCH: "none of them lacks a file any more",
    Stage.REPROCESS: "none of them was left to read",
    Stage.POLL: "they have ended meanwhile, or another replay asks about them already",
}

_GOOD = GOOD_OUTCOMES | {
    Verdict.ACCEPTED,
    Verdict.DUPLICATE,
    Verdict.PROGRESS,
    Verdict.EARLY,
    Verdict.UNCONFIRMED,
    Verdict.CONFLICT,
}


def follow(service: Service, replay: Reply) -> Reply:
    """Show the progress of a replay until it ends, and return its last answer. Ctrl-C leaves it running."""
    replay_id = replay.document["id"]
    looks = _looks(service, replay)
    try:
        return _draw(looks) if sys.stderr.isatty() else _write(looks)
    except KeyboardInterrupt:
        say(_goes_on(replay_id), err=True)
        click.get_current_context().exit(Exit.FAILED)
    except ReceiverError:
        say(_goes_on(replay_id), err=True)
        raise


def exit_code(replay: dict[str, Any]) -> Exit:
    """DONE only for a replay that ended, did something and had no failure."""
    if replay["state"] != "done" or not replay["results"].keys() <= _GOOD:
        return Exit.FAILED
    return Exit.DONE if replay["results"] else Exit.NOTHING_FOUND


def print_results(replay: dict[str, Any]) -> None:
    """Print how the replay ended, and how often it had each outcome."""
    stage, results = Stage(replay["stage"]), sorted(replay["results"].items())
    why = f"; {_IDLE[stage]}" if replay["state"] == "done" and not results else ""
    counts = f"{replay['looked_at']:,} of {replay['matched']:,} {NOUNS[stage][0]} looked at"
    say(printable(f"Replay {replay['id']} is {replay['state']}: {counts}{why}."), err=True)
    if results:
        rows = [{"outcome": outcome, "count": f"{number:,}"} for outcome, number in results]
        print_table(rows, ("outcome", "count"))
    if "unpolled" in replay["results"]:
        say("Unpolled are tasks whose provider cannot be asked: no API key of it is set.", err=True)
    if replay["state"] == "done" and "withdrawn" in replay["results"]:
        say("Withdrawn are notifications for sinks that are not set any more.", err=True)


def how_to_follow(replay_id: str) -> str:
    return (
        f"Follow it with `receiver replays follow {replay_id}`,"
        f" stop it with `receiver replays cancel {replay_id}`."
    )


def _goes_on(replay_id: str) -> str:
    return f"The replay goes on by itself. {how_to_follow(replay_id)}"


def _looks(service: Service, replay: Reply) -> Iterator[Reply]:
    """Ask for the replay again and again, until it has ended."""
    path = f"/replays/{segment(replay.document['id'])}"
    pause = FIRST_LOOK_SECONDS
    while True:
        yield replay
        if replay.document["state"] in {"done", "cancelled"}:
            return
        time.sleep(pause)
        pause = min(LAST_LOOK_SECONDS, pause * 1.5)
        replay = _look(service, path)


def _look(service: Service, path: str) -> Reply:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return service.get(path)
        except (Unavailable, Refused) as exc:
            passes = isinstance(exc, Unavailable) or exc.status >= 500
            if not passes or time.monotonic() > deadline:
                raise
        time.sleep(LAST_LOOK_SECONDS)


def _draw(looks: Iterator[Reply]) -> Reply:
    """Show the progress as a bar, for a terminal."""
    with bar("", BAR_STEPS, words=_fitting_words) as drawn:
        for replay in looks:
            drawn.current_item = replay.document
            drawn.update(max(0, _steps(replay.document) - drawn.pos))
            drawn.render_progress()  # the words may have changed where the bar has not
    return replay


def _write(looks: Iterator[Reply]) -> Reply:
    """Write a line of progress now and then, for a file."""
    next_line_at = time.monotonic() + LINE_SECONDS
    for replay in looks:
        if time.monotonic() >= next_line_at:
            say(printable(_words(replay.document)), err=True)
            next_line_at = time.monotonic() + LINE_SECONDS
    return replay


def _steps(replay: dict[str, Any]) -> int:
    """How much of the bar is full: the share that was looked at, times the share of that which settled."""
    if replay["state"] == "done":
        return BAR_STEPS
    looked_at = replay["looked_at"] / max(1, replay["matched"])
    settled = replay["settled"] / replay["queued"] if replay["queued"] else 1.0
    return int(BAR_STEPS * min(1.0, looked_at * settled))


def _fitting_words(replay: dict[str, Any] | None, room: int) -> str:
    if replay is None:  # before the first look
        return ""
    words = _words(replay)
    if len(words) > room:
        words = _words(replay, is_short=True)
    return shorten(words, room)


def _words(replay: dict[str, Any], *, is_short: bool = False) -> str:
    paused = "paused, " if replay["state"] == "paused" else ""
    looked_at, queued = NOUNS[Stage(replay["stage"])]
    return (
        f"{paused}{replay['looked_at']:,} of {replay['matched']:,} {looked_at} looked at,"
        f" {replay['settled']:,} of {replay['queued']:,}{'' if is_short else ' ' + queued} settled"
    )
