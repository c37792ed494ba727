"""The ledger of a fleet: what really happened, beside what is on record, in the sinks and on the disk.

Every task must have ended as it did at its provider, with each of its files, whole, and no other. Every
callback that was answered with 200 must be on record, and one at most of a task's may have been the one that
counted. Both sinks must have been told of every task under one id; again only where a process was killed, or
the server went away, in between, and of no more than can have been in flight then; the same for files that
were fetched. What the record counts must be what there is, nothing may wait for anything, no provider may
have been asked more than the manual says, and no process may have crashed or told a secret.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec
import psycopg

from tests.bench.world import AT_ONCE, LINES_AT_ONCE, Figures, repeats
from tests.e2e.ledger import told_wrongly
from tests.e2e.service import Consumer, Receiver
from tests.support.recount import check_counts
from tests.support.watched_providers import WatchedProviders, most_in_a_minute

SECRETS = b"CANARY"  # all of a test's begin so
CRASHES = (b"Traceback", b'"work.crashed"', b'"loop.crashed"')
FILE = "events.jsonl"

# Of a provider's rate, within a minute. Who polls has the whole of it, and a tenth at once. Renewals of links
# are counted there up to 3 seconds late, and have a tenth of their half at once. Who takes over has its tenth
# anew, and does not know of renewals that came while nobody polled: less that silence.
POLLING, RENEWING, AT_A_START = 1.1, 0.1, 0.07


class Epochs(Protocol):
    """The times between one thing that cuts work short and the next."""

    def at(self, moment: float) -> int: ...
    def of_line(self, place: int) -> int: ...


class Looks:
    """What each file was when it was first seen: none is torn at any moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[str, str] = {}  # name below the folder -> SHA-256

    def look(self) -> None:
        for path in self.folder.glob("*/*/*"):
            name = str(path.relative_to(self.folder))
            if name not in self.seen and not name.startswith("."):
                self.seen[name] = _sha256(path)


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """All that can be looked at when everything has come to rest."""

    truth: list[dict[str, Any]]  # of the providers
    tasks: Mapping[str, dict[str, Any]]  # on record, by "provider/task_id"
    members: Sequence[Receiver]
    hook: Consumer
    watched: WatchedProviders
    epochs: Epochs
    looks: Looks
    polls_per_minute: int
    starts: Sequence[float]  # of processes that ask, as ``time.monotonic`` has it
    kills: int
    restarts: int
    strange: Sequence[str]  # what was seen meanwhile, and must not be


class FleetFigures(Figures, kw_only=True):
    """The same of a fleet. ``strange`` names what must not be, and is neither lost, torn nor doubled."""

    restarts: int = 0
    asked: int = 0
    turned_away: int = 0  # questions that were answered with 429
    most_asked: int = 0  # of one provider, within a minute
    strange: list[str] = msgspec.field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return super().is_good and not self.strange

    def report(self) -> str:
        return "\n".join(
            [
                f"restarts of PostgreSQL                   {self.restarts:>8,}",
                f"questions to providers                  {self.asked:>8,}",
                f"the most to one of them in a minute     {self.most_asked:>8,}",
                f"questions answered with 429             {self.turned_away:>8,}",
                f"anything else that must not be          {len(self.strange):>8,}",
                *(f"  {line}" for line in self.strange[:20]),
                super().report(),
            ]
        )


def judge(scene: Scene, database: str) -> FleetFigures:
    """The ledger, read once no process runs any more. ``database``: a URL for whoever may read everything."""
    truth = {f"{task['provider']}/{task['task_id']}": task for task in scene.truth}
    lines, hooked = _lines(scene), _hooked(scene)
    events = {"file": [event for event, _ in lines], "hook": [event for event, _ in hooked]}
    figures = FleetFigures(tasks=len(truth), kills=scene.kills, restarts=scene.restarts)
    figures.strange += scene.strange
    figures.lost += told_wrongly(truth, scene.tasks, events)
    for told, most in ((lines, LINES_AT_ONCE), (hooked, AT_ONCE)):
        epochs: defaultdict[str, list[int]] = defaultdict(list)
        for event, epoch in told:
            epochs[event["id"]].append(epoch)
        figures.told_again += repeats(epochs, figures.doubled, "told", most=most)
    fetched = {
        name: [scene.epochs.at(moment) for moment in moments]
        for name, moments in scene.watched.fetched.items()
    }
    # When the server goes away, all processes that fetch have something in flight.
    workers = sum(member.command[0] == "work" for member in scene.members)
    figures.fetched_again = repeats(fetched, figures.doubled, "fetched", most=workers * AT_ONCE)
    figures.torn += _bad_files(truth, scene)
    with psycopg.connect(database, autocommit=True, options="-csearch_path=receiver") as connection:
        acknowledged = {name for name, task in truth.items() if any(_answers(task))}
        figures.acknowledged = len(acknowledged)
        figures.lost += _not_on_record(acknowledged, connection)
        figures.doubled += _counted_twice(truth, connection)
        figures.strange += _unfinished(connection)
    figures.strange += _pace(scene, figures)
    figures.strange += _said(scene.members)
    return figures


def _lines(scene: Scene) -> list[tuple[dict[str, Any], int]]:
    """What the file was told, with the epoch of each; a line that a kill cut short tells nobody anything."""
    told, place = [], 0
    for line in (scene.members[0].data / FILE).read_bytes().split(b"\n"):
        with suppress(ValueError):
            told.append((json.loads(line), scene.epochs.of_line(place)))
        place += len(line) + 1
    return told


def _hooked(scene: Scene) -> list[tuple[dict[str, Any], int]]:
    both = zip(scene.hook.bodies, scene.hook.times, strict=True)
    return [(json.loads(body), scene.epochs.at(moment)) for body, moment in both]


def _bad_files(truth: Mapping[str, Any], scene: Scene) -> Iterator[str]:
    """Each file in its place, whole whenever it was looked at, and nothing else."""
    wanted = {
        f"{name}/{file['url'].rpartition('/')[2].partition('?')[0]}": file["sha256"]
        for name, task in truth.items()
        for file in task["files"]
    }
    folder = scene.looks.folder
    there = {str(path.relative_to(folder)): _sha256(path) for path in folder.rglob("*") if path.is_file()}
    for name in wanted.keys() - there.keys():
        yield f"{name} is missing"
    for name in there.keys() - wanted.keys():
        yield f"{name} is nobody's"
    for name in wanted.keys() & there.keys():
        if wanted[name] != there[name]:
            yield f"{name} is torn, or another's"
        elif scene.looks.seen.get(name, wanted[name]) != wanted[name]:
            yield f"{name} was torn when it was first seen"
    for path in folder.parent.glob("incoming*/*"):
        yield f"{path.parent.name}/{path.name} was left over"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _answers(task: Mapping[str, Any]) -> Iterator[str]:
    """The verdicts that a task's provider was told with 200."""
    for call in task["callbacks"]:
        if call["status"] == 200:
            yield call["answer"]["status"]


def _not_on_record(acknowledged: set[str], connection: psycopg.Connection) -> Iterator[str]:
    rows = connection.execute("SELECT provider || '/' || task_id FROM deliveries WHERE via = 'callback'")
    for name in sorted(acknowledged - {name for (name,) in rows}):
        yield f"{name}: its callback was answered for and is not on record"


def _counted_twice(truth: Mapping[str, Any], connection: psycopg.Connection) -> Iterator[str]:
    """Of the callbacks to a task's own URL; others are told so until the provider has confirmed them."""
    query = (
        "SELECT provider || '/' || task_id FROM deliveries WHERE via = 'callback' AND proof = 'submission'"
    )
    for (name,) in connection.execute(query):
        if (count := Counter(_answers(truth[name]))["accepted"]) > 1:
            yield f"{name}: {count} callbacks were told that they count"


def _unfinished(connection: psycopg.Connection) -> Iterator[str]:
    for table in ("assets", "outbox"):
        rows = connection.execute(f"SELECT state, count(*) FROM {table} GROUP BY state".encode())
        counts: dict[str, int] = dict(rows.fetchall())
        if pending := counts.get("pending"):
            yield f"{pending} of {table} are pending"
        if dead := counts.get("dead"):
            yield f"{dead} of {table} are dead"
    try:
        check_counts(connection)
    except AssertionError:
        yield "what the record counts is not what there is"


def _pace(scene: Scene, figures: FleetFigures) -> Iterator[str]:
    watched, starts = scene.watched, most_in_a_minute(scene.starts)
    allowed = scene.polls_per_minute * (POLLING + RENEWING + AT_A_START * starts)
    figures.asked = sum(map(len, watched.asked.values()))
    figures.turned_away = watched.turned_away.total()
    for provider, moments in watched.asked.items():
        most = most_in_a_minute(moments)
        figures.most_asked = max(figures.most_asked, most)
        if most > allowed:
            yield f"{provider} was asked {most} times in a minute, and {allowed:.0f} are allowed"


def _said(members: Sequence[Receiver]) -> Iterator[str]:
    for member in members:
        name, output = " ".join(member.command), member.output().encode()
        for crash in CRASHES:
            if count := output.count(crash):
                yield f"{name} said {crash.decode()} {count} times"
        if SECRETS in output:
            yield f"{name} told a secret"
