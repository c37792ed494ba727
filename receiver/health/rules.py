"""Every rule of health: a pure function from facts to the lines that follow from them."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from receiver.health.facts import Facts, ProviderSeen, SinkSeen
from receiver.health.lines import Line, Severity, dated, in_order, number
from receiver.models import Backlog, Counted, SinkState
from receiver.times import in_words

# What mends itself within this time is no line: a sink that restarts, a host that is busy.
PATIENCE = timedelta(minutes=1)
WAITING = timedelta(minutes=5)  # events and files go within seconds
UNASKED = timedelta(hours=1)  # a callback may still come to a task that cannot be asked about
CRASHED = timedelta(hours=1)  # how long a crash is told of
SILENT_GAPS = 10
LEAST_SILENCE = timedelta(minutes=10)
MANY_EARLY = 0.8  # of the limit
BEHIND = timedelta(days=1)  # of retention, which looks every half minute
MOVED = timedelta(days=1)  # for which nothing is dropped after the clock leapt
LONG_LOG_BYTES = 256 * 2**20  # no list of ours makes it as long

_NOT_DOWN = ("ok", "running", "standby", "not started", "stopped")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule by its name, with which the keys of its lines begin."""

    name: str
    find: Callable[[Facts], Iterator[Line]]
    of_record: bool = False  # it looks at the backlog, and is left out where that is not known


def judge(facts: Facts, noticed: Mapping[str, datetime]) -> list[Line]:
    """All lines, in order; ``noticed`` has for each key when it was first seen, if it was before."""
    found = [line for rule in RULES if is_known(rule, facts) for line in rule.find(facts)]
    since = dict.fromkeys((line.key for line in found), facts.now) | dict(noticed)
    return in_order(dated(found, since))


def is_known(rule: Rule, facts: Facts) -> bool:
    """Whether what a rule looks at could be read."""
    is_readable = facts.backlog is not None or not rule.of_record
    return is_readable and (facts.is_disk_known or rule.find is not _disk)


# --- this service -----------------------------------------------------------------------------------


def _store(facts: Facts) -> Iterator[Line]:
    if facts.store_problem:
        yield Line(
            key="store",
            severity=Severity.CRITICAL,
            since=None,
            cause=f"The record takes nothing ({facts.store_problem}): every callback gets 503",
            images=None,
            step="look at its disk or its server, and at the log",
            command="receiver doctor",
        )


def _loops(facts: Facts) -> Iterator[Line]:
    for name, state in facts.loops.items():
        is_waiting = state.startswith("waiting") and facts.store_problem is not None
        if not (state.startswith(_NOT_DOWN) or is_waiting):
            yield Line(
                key=f"loop:{name}",
                severity=Severity.CRITICAL,
                since=None,
                cause=f"The loop {name} does not run: {state}",
                images=None,
                step="look at the log for its name; start a process that runs it, if none does",
                command="receiver doctor",
            )


def _restarts(facts: Facts) -> Iterator[Line]:
    for name, crash in facts.crashes.items():
        if facts.now - crash.at <= CRASHED:
            yield Line(
                key=f"loop_restarts:{name}",
                severity=Severity.WARNING,
                since=crash.at,
                cause=f"The loop {name} crashed and was started again, {crash.times} times since the start",
                images=0,
                step="look at the log for loop.crashed, and report it",
            )


def _disk(facts: Facts) -> Iterator[Line]:
    disk = facts.disk
    if disk is None or disk.free_bytes >= 2 * disk.floor_bytes:
        return
    is_under = disk.free_bytes < disk.floor_bytes
    state = "nothing is downloaded any more" if is_under else "below half of it nothing is downloaded"
    waiting = facts.backlog.unfetched.count if facts.backlog else 0
    yield Line(
        key="disk",
        severity=Severity.CRITICAL if is_under else Severity.WARNING,
        since=None,
        cause=f"The disk of the data folder has {disk.free_bytes >> 20:,} MiB left: {state}",
        images=waiting if is_under else 0,
        step="make room, or set RECEIVER_DATA_DIR to a folder on a larger disk",
        command="receiver doctor",
    )


def _clock(facts: Facts) -> Iterator[Line]:
    move = facts.clock_move
    if move is not None and facts.now - move.at <= MOVED:
        direction = "forward" if move.by > timedelta() else "back"
        span = in_words(abs(move.by.total_seconds()))
        yield Line(
            key="clock",
            severity=Severity.WARNING,
            since=move.at,
            cause=f"The clock was set {direction} by {span}, or the machine slept",
            images=0,
            step="check the time of this machine: deadlines, links and retention go by it",
            command="receiver doctor",
        )


def _wal(facts: Facts) -> Iterator[Line]:
    size = _backlog(facts).wal_bytes or 0
    if size > LONG_LOG_BYTES:
        yield Line(
            key="wal",
            severity=Severity.WARNING,
            since=None,
            cause=f"The record's write-ahead log has {size >> 20:,} MiB, and grows while somebody reads on",
            images=0,
            step="end what else reads the record for long: a backup by another program, an open shell",
            command="receiver doctor",
        )


def _retention(facts: Facts) -> Iterator[Line]:
    oldest = _backlog(facts).oldest_body_at
    due = facts.now - timedelta(days=facts.limits.retention_days) - BEHIND
    if oldest is not None and oldest < due:
        behind = in_words((due + BEHIND - oldest).total_seconds())
        yield Line(
            key="retention",
            severity=Severity.NOTICE,
            since=oldest + timedelta(days=facts.limits.retention_days),
            cause=f"Raw callbacks are kept for longer than they should be: retention is {behind} behind",
            images=0,
            step="see that a process runs upkeep, and that the record is not busy all day",
            command="receiver doctor",
        )


# --- sinks ------------------------------------------------------------------------------------------


def _sinks(facts: Facts) -> Iterator[Line]:
    for name, sink in facts.sinks.items():
        if _is_troubled(sink, facts.now):
            unsent = facts.backlog.unsent.get(name, Counted()) if facts.backlog else Counted()
            why = f" ({sink.outcome})" if sink.outcome else ""
            does = {SinkState.STOPPED: "wants no more", SinkState.DOWN: "takes nothing"}
            yield Line(
                key=f"sink:{name}",
                severity=Severity.WARNING if sink.state is SinkState.FAILING else Severity.CRITICAL,
                since=sink.since,
                cause=f"Sink {name} {does.get(sink.state, 'does not take what it is sent')}{why}:"
                f" {_waiting(unsent, facts.now, 'event')}",
                images=unsent.count,
                step="let its consumer take events again"
                + (", then restart the service" if sink.state is SinkState.STOPPED else ""),
                command="receiver sinks list",
            )


def _is_troubled(sink: SinkSeen, now: datetime) -> bool:
    if sink.state in {SinkState.OK, SinkState.STOPPED}:
        return sink.state is SinkState.STOPPED
    return sink.since is not None and now - sink.since >= PATIENCE


def _unsent(facts: Facts) -> Iterator[Line]:
    for name, unsent in _backlog(facts).unsent.items():
        if name not in facts.sinks or _is_troubled(facts.sinks[name], facts.now):
            continue  # a line of its own says so
        if unsent.first_at and facts.now - unsent.first_at > WAITING:
            yield Line(
                key=f"events_waiting:{name}",
                severity=Severity.WARNING,
                since=unsent.first_at + WAITING,
                cause=f"Sink {name} takes events more slowly than they come:"
                f" {_waiting(unsent, facts.now, 'event')}",
                images=unsent.count,
                step=f"let its consumer answer sooner, or raise RECEIVER_SINK_{name.upper()}_CONCURRENCY",
                command="receiver sinks list",
            )


def _unset(facts: Facts) -> Iterator[Line]:
    owed = {name: each for name, each in _backlog(facts).unsent.items() if name not in facts.sinks}
    if owed:
        sinks = ", ".join(f"{name} ({number(each.count)})" for name, each in sorted(owed.items()))
        yield Line(
            key="sinks_not_set",
            severity=Severity.WARNING,
            since=_first(owed),
            cause=f"Events wait for sinks that are not set: {sinks}",
            images=sum(each.count for each in owed.values()),
            step="set the sink again, or move or drop its events",
            command="receiver dead move",
        )


def _dead(facts: Facts) -> Iterator[Line]:
    dead = _backlog(facts).dead
    if dead:
        sinks = ", ".join(f"{name} {number(each.count)}" for name, each in sorted(dead.items()))
        yield Line(
            key="dead_letters",
            severity=Severity.WARNING,
            since=_first(dead),
            cause=f"Events were given up within a day: {sinks}",
            images=sum(each.count for each in dead.values()),
            step="mend what the sink did not like, then requeue them",
            command="receiver dead list",
        )


# --- providers --------------------------------------------------------------------------------------


def _providers(facts: Facts) -> Iterator[Line]:
    for name, provider in facts.providers.items():
        is_lasting = provider.since is not None and facts.now - provider.since >= PATIENCE
        if provider.outcome is not None and (provider.is_ours or is_lasting):
            yield Line(
                key=f"provider:{name}",
                severity=Severity.CRITICAL if provider.is_ours else Severity.WARNING,
                since=provider.since,
                cause=f"{provider.title} cannot be asked ({provider.outcome}):"
                " a task whose callback is lost has no end",
                images=_open(facts, name).count,
                step=f"check {provider.key_variable} and the account it is of"
                if provider.is_ours
                else "wait, or check this machine's way to its host",
                command="receiver doctor",
            )


def _keyless(facts: Facts) -> Iterator[Line]:
    for name, provider in facts.providers.items():
        waiting = _open(facts, name)
        first_at = waiting.first_at
        is_waiting = first_at is not None and (not provider.pushes or facts.now - first_at > UNASKED)
        if not provider.has_key and is_waiting:
            yield Line(
                key=f"no_key:{name}",
                severity=Severity.NOTICE if provider.pushes else Severity.WARNING,
                since=first_at,
                cause=f"Tasks of {provider.title} are open, and no key is set to ask about them:"
                f" {number(waiting.count)}",
                images=waiting.count,
                step=f"set {provider.key_variable}",
                command="receiver tasks list --state submitted",
            )


def _silent(facts: Facts) -> Iterator[Line]:
    for name, provider in facts.providers.items():
        waiting, silence = _open(facts, name), _silence(provider, facts.now)
        if silence is not None and waiting.count and provider.called_at:
            usual = in_words(provider.usual_gap.total_seconds()) if provider.usual_gap else ""
            yield Line(
                key=f"silent:{name}",
                severity=Severity.WARNING,
                since=provider.called_at,
                cause=f"{provider.title} has not called for {in_words(silence.total_seconds())}, and usually"
                f" does every {usual}; open tasks: {number(waiting.count)}",
                images=waiting.count,
                step="check that RECEIVER_PUBLIC_URL leads here from outside, and the provider's status page",
                command="receiver doctor",
            )


def _silence(provider: ProviderSeen, now: datetime) -> timedelta | None:
    if provider.called_at is None or provider.usual_gap is None:
        return None
    silence = now - provider.called_at
    return silence if silence > max(SILENT_GAPS * provider.usual_gap, LEAST_SILENCE) else None


# --- files ------------------------------------------------------------------------------------------


def _dying(facts: Facts) -> Iterator[Line]:
    dying = _backlog(facts).dying
    if dying.count and dying.first_at:
        left = (dying.first_at - facts.now).total_seconds()
        soonest = f"the first in {in_words(left)}" if left > 0 else "the first now"
        yield Line(
            key="links_dying",
            severity=Severity.CRITICAL,
            since=None,
            cause=f"Links of files die within the hour, {soonest}: {number(dying.count)}",
            images=dying.count,
            step="see why they were not fetched: the host, the disk, the number of downloads at once",
            command="receiver tasks list --state fetching",
        )


def _unfetched(facts: Facts) -> Iterator[Line]:
    unfetched = _backlog(facts).unfetched
    if unfetched.first_at and facts.now - unfetched.first_at > WAITING:
        yield Line(
            key="files_waiting",
            severity=Severity.WARNING,
            since=unfetched.first_at + WAITING,
            cause=f"Files are not fetched as they come: {_waiting(unfetched, facts.now, 'file')}",
            images=unfetched.count,
            step="see what the attempts at them say; where all is well, raise RECEIVER_ASSET_CONCURRENCY",
            command="receiver tasks list --state fetching",
        )


# --- tasks and callbacks ----------------------------------------------------------------------------


def _unbound(facts: Facts) -> Iterator[Line]:
    unbound = _backlog(facts).unbound
    if unbound.count and unbound.first_at:
        after = in_words(facts.limits.lost_after_seconds)
        yield Line(
            key="unbound",
            severity=Severity.WARNING,
            since=unbound.first_at + timedelta(seconds=facts.limits.lost_after_seconds),
            cause=f"Reservations have no task after {after}, and their orders may be paid for:"
            f" {number(unbound.count)}",
            images=unbound.count,
            step="bind each to its task, or withdraw it where the order failed",
            command="receiver submissions list --unbound",
        )


def _early(facts: Facts) -> Iterator[Line]:
    early, limit = _backlog(facts).early, facts.limits.early_limit
    if limit and early >= MANY_EARLY * limit:
        is_full = early >= limit
        yield Line(
            key="early",
            severity=Severity.CRITICAL if is_full else Severity.WARNING,
            since=None,
            cause=f"Callbacks wait for their submissions: {early:,} of {limit:,} that may"
            + (", and more get 503" if is_full else ""),
            images=early,
            step="let the backend log every task that it orders, or raise RECEIVER_EARLY_LIMIT",
            command="receiver stats",
        )


def _unauthorised(facts: Facts) -> Iterator[Line]:
    if facts.unauthorised:
        yield Line(
            key="unauthorised",
            severity=Severity.WARNING,
            since=None,
            cause=f"{facts.unauthorised.count:,} callbacks came without a good token within ten minutes,"
            f" usually {facts.unauthorised.usual:,.0f}",
            images=0,
            step="compare the URL that was given out with the right one; or somebody probes",
            command="receiver callback-url",
        )


def _refused(facts: Facts) -> Iterator[Line]:
    if facts.refused:
        yield Line(
            key="refused",
            severity=Severity.WARNING,
            since=None,
            cause=f"{facts.refused.count:,} callbacks came with the token of another task within ten minutes,"
            f" usually {facts.refused.usual:,.0f}",
            images=facts.refused.count,
            step="let the backend give each order the callback URL of its own submission",
            command="receiver tasks list",
        )


def _unrecognised(facts: Facts) -> Iterator[Line]:
    odd = _backlog(facts).unrecognised
    if odd.count:
        yield Line(
            key="unrecognised",
            severity=Severity.WARNING,
            since=odd.first_at,
            cause=f"Callbacks that were not understood are kept as they came: {number(odd.count)}",
            images=odd.count,
            step="mend the provider's adapter, or update the receiver; then read them again",
            command="receiver replay --stage reprocess",
        )


def _lost(facts: Facts) -> Iterator[Line]:
    lost = _backlog(facts).lost
    if lost.count:
        yield Line(
            key="lost",
            severity=Severity.WARNING,
            since=lost.first_at,
            cause=f"Tasks were given up as lost within a day, as nobody told their end: {number(lost.count)}",
            images=lost.count,
            step="ask the provider's support about them: they have ended, and are not asked about again",
            command="receiver tasks list --state failed",
        )


def _replays_paused(facts: Facts) -> Iterator[Line]:
    paused = _backlog(facts).paused
    if paused.count:
        yield Line(
            key="replays_paused",
            severity=Severity.NOTICE,
            since=paused.first_at,
            cause=f"Replays are paused: {paused.count}",
            images=0,
            step="resume or cancel them",
            command="receiver replays list",
        )


def _replays_stalled(facts: Facts) -> Iterator[Line]:
    stalled = _backlog(facts).stalled
    if stalled.count:
        yield Line(
            key="replays_stalled",
            severity=Severity.WARNING,
            since=stalled.first_at,
            cause=f"Replays come no further: {stalled.count}",
            images=0,
            step="see that a process runs replays, and what the log says",
            command="receiver replays list",
        )


RULES = (
    Rule(name="store", find=_store),
    Rule(name="loop", find=_loops),
    Rule(name="loop_restarts", find=_restarts),
    Rule(name="disk", find=_disk),
    Rule(name="clock", find=_clock),
    Rule(name="sink", find=_sinks),
    Rule(name="provider", find=_providers),
    Rule(name="unauthorised", find=_unauthorised),
    Rule(name="refused", find=_refused),
    Rule(name="no_key", find=_keyless, of_record=True),
    Rule(name="silent", find=_silent, of_record=True),
    Rule(name="links_dying", find=_dying, of_record=True),
    Rule(name="files_waiting", find=_unfetched, of_record=True),
    Rule(name="events_waiting", find=_unsent, of_record=True),
    Rule(name="sinks_not_set", find=_unset, of_record=True),
    Rule(name="dead_letters", find=_dead, of_record=True),
    Rule(name="lost", find=_lost, of_record=True),
    Rule(name="unbound", find=_unbound, of_record=True),
    Rule(name="early", find=_early, of_record=True),
    Rule(name="unrecognised", find=_unrecognised, of_record=True),
    Rule(name="replays_paused", find=_replays_paused, of_record=True),
    Rule(name="replays_stalled", find=_replays_stalled, of_record=True),
    Rule(name="wal", find=_wal, of_record=True),
    Rule(name="retention", find=_retention, of_record=True),
)


def _backlog(facts: Facts) -> Backlog:
    return facts.backlog or Backlog()


def _open(facts: Facts, provider: str) -> Counted:
    return _backlog(facts).open_tasks.get(provider, Counted())


def _first(counts: Mapping[str, Counted]) -> datetime | None:
    return min((each.first_at for each in counts.values() if each.first_at), default=None)


def _waiting(counted: Counted, now: datetime, what: str) -> str:
    if counted.first_at is None:
        return f"no {what} waits"
    oldest = in_words((now - counted.first_at).total_seconds())
    verb = f"{what} waits" if counted.count == 1 else f"{what}s wait"
    return f"{number(counted.count)} {verb}, the oldest for {oldest}"
