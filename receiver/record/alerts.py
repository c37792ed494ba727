"""What was told of lines of health: a row for each, until it may be told again."""

from datetime import datetime

from receiver.models import Alert
from receiver.record.cursor import Cursor
from receiver.record.rows import parameters, parameters_of, read_all

ALL = "SELECT key, severity, since, told_at, is_over FROM alerts ORDER BY key"
KEEP = """
INSERT INTO alerts (key, severity, since, told_at, is_over)
VALUES (:key, :severity, :since, :told_at, :is_over)
ON CONFLICT (key) DO UPDATE SET severity = excluded.severity, since = excluded.since,
    told_at = excluded.told_at, is_over = excluded.is_over
"""
FORGET = "DELETE FROM alerts WHERE is_over = 1 AND told_at <= :told_before"


def list_alerts(db: Cursor) -> list[Alert]:
    return read_all(db.execute(ALL), Alert)


def keep_alert(db: Cursor, alert: Alert) -> None:
    db.execute(KEEP, parameters_of(alert))


def forget_alerts(db: Cursor, told_before: datetime) -> None:
    db.execute(FORGET, parameters(told_before=told_before))
