"""What a PostgreSQL server fails with: a short name for each failure, who must act, and what to do.

Where the server has let the client in, every error has a state (SQLSTATE). Before that libpq hands on its
words alone, so a refused connection is told by these; where they are in another language than English it has
no more than the driver's name, and is taken for one that passes.
"""

import re
from typing import NamedTuple

import psycopg

from receiver.errors import Misconfigured, Unavailable


class NoAnswer(psycopg.OperationalError):
    """The server has taken a statement, and is silent for longer than it may work on it."""


class _Remedy(NamedTuple):
    words: str
    is_lasting: bool = False  # until somebody acts: waiting is of no use


_URL = "RECEIVER_DATABASE_URL (or the host's DATABASE_URL)"
_REMEDIES = {
    "28P01": _Remedy(f"the password is wrong, or the user does not exist: correct {_URL}", is_lasting=True),
    "28000": _Remedy(
        f"the server does not let this user in from here: check the user in {_URL}, and pg_hba.conf at the"
        " server; where that wants TLS, the URL needs sslmode=require",
        is_lasting=True,
    ),
    "3D000": _Remedy(f"there is no such database: make it (`createdb`), or correct {_URL}", is_lasting=True),
    "3F000": _Remedy(
        "the schema is not there, or the user may not use it: `CREATE SCHEMA`, or"
        " `GRANT USAGE, CREATE ON SCHEMA ... TO` the user",
        is_lasting=True,
    ),
    "42501": _Remedy(
        "the user lacks a right: make it the owner of the database, or `GRANT CONNECT, CREATE ON DATABASE ..."
        " TO` it and, where another user made the tables, rights on all tables of the schema",
        is_lasting=True,
    ),
    "42704": _Remedy(
        f"the server, or a pooler before it, does not know an option of the URL: correct {_URL}",
        is_lasting=True,
    ),
    "25006": _Remedy(
        "it can only be read, as a replica or by default_transaction_read_only=on: give the primary's address"
        f" in {_URL}, or all hosts and target_session_attrs=read-write",
        is_lasting=True,
    ),
    "53300": _Remedy(
        "all connections that the server allows are taken: end other programs' ones, or lower"
        " RECEIVER_DATABASE_CONNECTIONS of each process"
    ),
    "53100": _Remedy("the server's disk is full: make room there"),
    "55P03": _Remedy("another program holds a lock for too long: see pg_locks at the server"),
    "57P03": _Remedy("the server is starting or stopping: wait for it, or look at its log"),
    "password missing": _Remedy(
        f"the server wants a password: put it into {_URL}, or name a passfile there", is_lasting=True
    ),
    "ProgrammingError": _Remedy(f"libpq does not read the URL: correct {_URL}", is_lasting=True),
    "no PostgreSQL": _Remedy(
        f"what answers is no PostgreSQL server: correct host and port in {_URL}", is_lasting=True
    ),
    "TLS failed": _Remedy(
        f"the server and {_URL} do not agree about TLS: check sslmode and sslrootcert there", is_lasting=True
    ),
    "no writable host": _Remedy(
        "none of the URL's hosts takes writes now: wait for the failover, or look at the servers"
    ),
    "unknown host": _Remedy(f"its name has no address: check the host in {_URL}"),
    "connection refused": _Remedy(
        f"nothing listens there: start the server, or check host and port in {_URL}"
    ),
    "ConnectionTimeout": _Remedy(
        f"it did not answer in time: check host and port in {_URL}, and the way there"
    ),
}
_OTHER = _Remedy("look at the server's log, and try again")

# In this order: of several hosts the one that answered tells most.
_PHRASES = tuple(
    (re.compile(phrase), name)
    for phrase, name in (
        (r"password authentication failed|SASL authentication failed|wrong password type", "28P01"),
        (r"no password supplied", "password missing"),
        (r"pg_hba\.conf|authentication failed for user|role .* (does not exist|is not permitted)", "28000"),
        (r"FATAL: +database .* does not exist|no such database", "3D000"),
        (r"permission denied for database", "42501"),
        (r"unrecognized configuration parameter|unsupported startup parameter", "42704"),
        (
            r"too many (clients|connections)|connection slots are reserved|no more connections allowed",
            "53300",
        ),
        (r"the database system is |not (currently|yet) accepting connections", "57P03"),
        (
            r"closed (the connection )?unexpectedly|EOF detected|unexpected eof|reset by peer|Broken pipe",
            "connection lost",
        ),
        (r"invalid response to|unsupported frontend protocol|expected authentication", "no PostgreSQL"),
        (r"(?i)\bSSL\b|certificate", "TLS failed"),
        (r"invalid \w+ value|invalid port number", "ProgrammingError"),
        (r"session is read-only|hot standby mode", "no writable host"),
        (r"could not translate host name|[Nn]ame or service not known|Name resolution", "unknown host"),
        (r"Connection refused|No such file or directory", "connection refused"),
    )
)


def trouble(exc: Exception) -> str | None:
    """PostgreSQL's name for a state and its code (``DiskFull 53100``), or ours for what has none.

    Never the message, which may quote rows. None for what is no failure of the database.
    """
    if not isinstance(exc, psycopg.Error):
        return None
    cause = _cause(exc)
    if len(cause) != len("00000"):
        return cause
    try:
        return f"{psycopg.errors.lookup(cause).__name__} {cause}"
    except KeyError:  # a pooler's or an extension's own
        return cause


def is_outage(exc: Exception) -> bool:
    """Whether it is the server that fails, and not a statement: whatever comes next would fail as well."""
    if not isinstance(exc, psycopg.Error):
        return False
    if exc.sqlstate is None:
        return isinstance(exc, psycopg.OperationalError)  # else a value that the driver does not send
    # Connections, resources, operators, the system, locks that others hold, and a record that is only read.
    return exc.sqlstate.startswith(("08", "53", "55P03", "57", "58", "25006"))


def unopened(exc: psycopg.Error) -> Misconfigured | Unavailable:
    """What to say at a start that cannot have its database."""
    remedy = _REMEDIES.get(_cause(exc), _OTHER)
    said = f"({trouble(exc)}): {remedy.words}"
    if remedy.is_lasting:
        return Misconfigured(f"the database cannot be opened {said}")
    return Unavailable(f"the database cannot be reached {said}")


def _cause(exc: psycopg.Error) -> str:
    """A state, a name of ours, or the driver's name for it."""
    if exc.sqlstate:
        return exc.sqlstate
    if exc.pgconn is not None and exc.pgconn.needs_password:
        return "password missing"
    said = str(exc)
    if isinstance(exc, psycopg.OperationalError):
        return next((name for phrase, name in _PHRASES if phrase.search(said)), type(exc).__name__)
    return type(exc).__name__
