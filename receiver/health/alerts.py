"""Alerts: a message when a line of health appears, worsens or ends, by one process of all."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import msgspec
import structlog

from receiver.clock import Clock
from receiver.errors import Permanent, Unavailable
from receiver.health.lines import HealthReport, Line, Severity, number, rule_of
from receiver.models import Alert, AlertChange, Notification
from receiver.ports import Sink, Store
from receiver.times import to_text

log = structlog.get_logger()

ALERT_SECONDS = 10.0  # from one look to the next
AGAIN = timedelta(hours=1)  # a line that comes back sooner, or worsens, is told of when this is over
# A process that has just begun has not met yet what another one knew: so long it ends no line of that one's.
GRACE = timedelta(minutes=2)
MOST_AT_ONCE = 20
ITS_OWN = frozenset({"loop:alerts", "loop_restarts:alerts"})  # an alert is never about alerts
LONGEST_PAUSE = timedelta(minutes=5)  # after failures in a row

_MARKS = {Severity.CRITICAL: ":red_circle:", Severity.WARNING: ":large_yellow_circle:"}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Something to tell, and what is kept of it then. A line that has ended is no more (None)."""

    change: AlertChange
    line: Line | None
    alert: Alert


def plan(
    lines: Iterable[Line], known: Mapping[str, Alert], now: datetime, may_end: Callable[[str], bool]
) -> list[Told]:
    """What to tell of the lines as they are now, ``known`` being what was told before; pure.

    Of one line at most one beginning, or worsening, is told in an hour, and the end of what was told at once.
    """
    told, there = [], set()
    for line in lines:
        there.add(line.key)
        if line.key not in ITS_OWN and (change := _change(line, known.get(line.key), now)) and line.since:
            alert = Alert(key=line.key, severity=line.severity, since=line.since, told_at=now)
            told.append(Told(change=change, line=line, alert=alert))
    for alert in known.values():
        if alert.key not in there and not alert.is_over and may_end(alert.key):
            over = msgspec.structs.replace(alert, is_over=True)
            told.append(Told(change=AlertChange.ENDED, line=None, alert=over))
    return told


def _change(line: Line, before: Alert | None, now: datetime) -> AlertChange | None:
    if before is None:
        return AlertChange.APPEARED
    if timedelta() <= now - before.told_at < AGAIN:
        return None
    if before.is_over:
        return AlertChange.APPEARED
    return AlertChange.WORSENED if line.severity.rank < Severity(before.severity).rank else None


class Alerter:
    """Looks, and tells what has changed; what was told is in the record, so that a restart tells it once.

    Of several processes on one record the one for which ``is_mine`` says so tells of a line. While the record
    is away, what was told is remembered here, and kept when it is back.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each a part of what it tells
        self,
        *,
        store: Store,
        sink: Sink,
        look: Callable[[], Awaitable[HealthReport]],
        clock: Clock,
        is_mine: Callable[[str], bool],
        service: str,
        overview: str | None,
        as_slack: bool,
    ) -> None:
        """``service`` names this one in what is told; ``as_slack``: as Slack's incoming webhooks take it.

        ``overview`` is the address of the page that shows the lines, where there are pages.
        """
        self._store = store
        self._sink = sink
        self._look = look
        self._clock = clock
        self._is_mine = is_mine
        self._service = service
        self._overview = overview
        self._as_slack = as_slack
        self._begun = clock.uptime()
        self._met: set[str] = set()  # lines that were there since
        self._kept: dict[str, Alert] = {}  # as the record had it when it was last read
        self._unkept: dict[str, Alert] = {}
        self._failures = 0
        self._silent_until = self._begun

    async def run(self) -> None:
        """One round: look, tell, keep what was told."""
        report = await self._look()
        self._met |= {line.key for line in report.lines}
        if self._clock.uptime() < self._silent_until:
            return
        known = await self._known()
        changes = plan(report.lines, known, report.as_of, self._may_end(report.looked_at))
        for told in [each for each in changes if self._is_mine(each.alert.key)][:MOST_AT_ONCE]:
            if not await self._tell(told, report.as_of):
                return
            await self._keep(told.alert)
        if any(alert.is_over and report.as_of - alert.told_at >= AGAIN for alert in known.values()):
            with suppress(Unavailable):
                await self._store.forget_alerts(report.as_of - AGAIN)

    async def _known(self) -> dict[str, Alert]:
        """What was told last of each line, as far as is known."""
        for alert in list(self._unkept.values()):
            await self._keep(alert)
        with suppress(Unavailable):
            self._kept = {alert.key: alert for alert in await self._store.list_alerts()}
        return self._kept | self._unkept

    async def _keep(self, alert: Alert) -> None:
        self._unkept[alert.key] = alert
        with suppress(Unavailable):
            await self._store.keep_alert(alert)
            del self._unkept[alert.key]

    def _may_end(self, looked_at: Collection[str]) -> Callable[[str], bool]:
        is_settled = self._clock.uptime() - self._begun >= GRACE
        return lambda key: rule_of(key) in looked_at and (is_settled or key in self._met)

    async def _tell(self, told: Told, now: datetime) -> bool:
        """Whether it arrived. Of a receiver of alerts that fails one line is logged, and no alert made."""
        id_ = self._clock.new_id("alert")
        page = f"{self._overview}#{told.alert.key}" if self._overview else None
        if self._as_slack:
            body = slack_text(told, self._service, page)
        else:
            body = document(told, self._service, page, now)
        message = Notification(
            event_id=id_, dedupe_key=id_, type=told.change, subject=told.alert.key, body=body
        )
        try:
            await self._sink.publish(message)
        except (Unavailable, Permanent) as exc:
            self._note_failure(exc.outcome)
            return False
        if self._failures:
            log.info("alerts.recovered", failed=self._failures)
        self._failures = 0
        log.info("alert.told", key=told.alert.key, change=told.change.value, severity=told.alert.severity)
        return True

    def _note_failure(self, outcome: str) -> None:
        self._failures += 1
        pause = min(timedelta(seconds=ALERT_SECONDS) * 2**self._failures, LONGEST_PAUSE)
        self._silent_until = self._clock.uptime() + pause
        if self._failures == 1:
            log.warning("alerts.failed", outcome=outcome, reason="RECEIVER_ALERT_URL does not take it")


def document(told: Told, service: str, page: str | None, now: datetime) -> bytes:
    """As JSON, in the shape that Standard Webhooks recommends: type, timestamp, data."""
    line, alert = told.line, told.alert
    data = {
        "service": service,
        "key": alert.key,
        "severity": alert.severity,
        "since": to_text(alert.since),
        "cause": line.cause if line else None,
        "images": line.images if line else None,
        "step": line.step if line else None,
        "command": line.command if line else None,
        "page": page if line else None,
    }
    return msgspec.json.encode({"type": told.change, "timestamp": to_text(now), "data": data})


def slack_text(told: Told, service: str, page: str | None) -> bytes:
    """As one text, which Slack and what speaks like it show."""
    line, alert = told.line, told.alert
    if line is None:
        text = f":white_check_mark: {service}: {alert.key} is over"
    else:
        images = "" if not line.images else f" ({number(line.images)} images)"
        command = f": `{line.command}`" if line.command else ""
        mark = _MARKS.get(line.severity, ":information_source:")
        text = f"{mark} {service}, {line.severity}: {line.cause}{images}\nto do: {line.step}{command}"
        text += f"\n{page}" if page else ""
    return msgspec.json.encode({"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")})


def service_name(public_url: str) -> str:
    """The host of the public URL: which receiver it is, and no link."""
    return urlsplit(public_url).netloc
