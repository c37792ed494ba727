"""Log-ins to the admin pages, and the one-time codes that open one. What is over is deleted on the way."""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import Session
from receiver.record.cursor import Cursor, change_each
from receiver.record.rows import parameters, parameters_of, read_all, read_one

SESSION_COLUMNS = "id, role, token, said_name, created_at, seen_at, expires_at"
MOST_LISTED = 200

INSERT = f"""
INSERT INTO sessions ({SESSION_COLUMNS})
VALUES (:id, :role, :token, :said_name, :created_at, :seen_at, :expires_at)
"""  # noqa: S608
DELETE_EXPIRED = "DELETE FROM sessions WHERE expires_at <= :now"

# All but the newest of one token.
DELETE_BEYOND = """
DELETE FROM sessions WHERE token = :token AND id NOT IN
    (SELECT id FROM sessions WHERE token = :token ORDER BY created_at DESC, id DESC LIMIT :most)
"""

ONE = f"SELECT {SESSION_COLUMNS} FROM sessions WHERE id = :id"  # noqa: S608
NEWEST = f"""
SELECT {SESSION_COLUMNS} FROM sessions WHERE expires_at > :now ORDER BY expires_at DESC LIMIT :limit
"""  # noqa: S608

SEEN = "UPDATE sessions SET seen_at = :now WHERE id = :id AND seen_at < :now"
END = "DELETE FROM sessions WHERE id = :id"
COUNT_SESSIONS = "SELECT count(*) FROM sessions WHERE expires_at > :now"
END_ALL = "DELETE FROM sessions"

INSERT_CODE = "INSERT INTO login_codes (code, token, expires_at) VALUES (:code, :token, :expires_at)"
DELETE_OLD_CODES = "DELETE FROM login_codes WHERE expires_at <= :now"
ONE_CODE = "SELECT token FROM login_codes WHERE code = :code AND expires_at > :now"
DELETE_CODE = "DELETE FROM login_codes WHERE code = :code"
END_CODES = "DELETE FROM login_codes"


def open_session(db: Cursor, session: Session, most: int) -> None:
    """Keep a new session, and of its token's others the newest only; see ``ports.SessionStore``."""
    values = parameters(now=session.created_at, token=session.token, most=most)
    db.execute(DELETE_EXPIRED, values)
    db.execute(INSERT, parameters_of(session))
    db.execute(DELETE_BEYOND, values)


def get_session(db: Cursor, session_id: str) -> Session | None:
    return read_one(db.execute(ONE, {"id": session_id}), Session)


def list_sessions(db: Cursor, now: datetime) -> list[Session]:
    return read_all(db.execute(NEWEST, parameters(now=now, limit=MOST_LISTED)), Session)


def note_seen(db: Cursor, session_id: str, now: datetime) -> None:
    db.execute(SEEN, parameters(id=session_id, now=now))


def end_sessions(db: Cursor, ids: Sequence[str]) -> int:
    """How many of these there were."""
    return change_each(db, END, [{"id": each} for each in ids])


def end_all_sessions(db: Cursor, now: datetime) -> int:
    """How many had not ended. Codes that could open another go with them."""
    (count,) = db.execute(COUNT_SESSIONS, parameters(now=now)).fetchone()
    db.execute(END_ALL)
    db.execute(END_CODES)
    return int(count)


def keep_code(db: Cursor, code: str, token: str, expires_at: datetime, now: datetime) -> None:
    db.execute(DELETE_OLD_CODES, parameters(now=now))
    db.execute(INSERT_CODE, parameters(code=code, token=token, expires_at=expires_at))


def use_code(db: Cursor, code: str, now: datetime) -> str | None:
    """The hash of the token that a code stands for, once; see ``ports.SessionStore``."""
    found = db.execute(ONE_CODE, parameters(code=code, now=now)).fetchone()
    db.execute(DELETE_CODE, {"code": code})
    return found[0] if found else None
