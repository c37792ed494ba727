"""The PostgreSQL schema beside the SQLite one: the same tables, indexes and views, the same counts."""

import json
import random
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

from receiver.record import (
    asset_leases,
    deliveries,
    filters,
    history,
    lists,
    logged,
    metadata,
    outbox,
    polls,
    replay_steps,
    replays,
    stats,
    unset_sinks,
    views,
    windows,
)
from receiver.stores.postgres.schema import MIGRATIONS
from receiver.stores.sqlite.migrations import migrate
from tests.support.postgres import scratch_database

TYPES = {"INTEGER": "bigint", "TEXT": "text", "REAL": "double precision", "BLOB": "bytea"}
CHOSEN_BY_THE_TABLE = {"submissions", "deliveries", "outbox", "attempts", "audit", "series", "refusals"}
COUNTED = ("counts", "ownerless", "unended", "retention", "heartbeat")
SHOWN = ("tasks", "task_timeline")

# Indexes by which the record goes in the order of numbers, with which an index of SQLite ends anyway.
WALKED = {
    "attempts_event",
    "audit_act",
    "audit_target",
    "audit_who",
    "events_type",
    "submissions_created",
    "submissions_owner",
    "submissions_provider",
    "submissions_unbound",
}

SQLITE_OBJECTS = """
SELECT name, tbl_name, sql FROM sqlite_schema
WHERE type = ? AND tbl_name <> '_sqlite_migrations' AND sql IS NOT NULL
"""


@pytest.fixture(scope="module")
def server() -> Iterator[psycopg.Connection]:
    """A database of its own."""
    with scratch_database() as url, psycopg.connect(url, autocommit=True) as connection:
        for _, script, _ in MIGRATIONS:
            connection.execute(script.encode())
        yield connection


@pytest.fixture
def postgres(server: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The new schema; whatever a test does to it is undone."""
    with server.transaction(force_rollback=True):
        yield server


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    migrate(tmp_path / "record.db")
    connection = sqlite3.connect(tmp_path / "record.db", isolation_level=None)
    yield connection
    connection.close()


def test_tables_have_the_same_columns(postgres: psycopg.Connection, sqlite: sqlite3.Connection) -> None:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for table, *column in query(
        postgres,
        """
        SELECT table_name, column_name, data_type, is_nullable = 'NO',
            regexp_replace(column_default, '::text$', ''), is_identity = 'YES', collation_name
        FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
        WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY table_name, ordinal_position
        """,
    ):
        found.setdefault(table, []).append(tuple(column))
    assert found.pop("schema_migrations") == [
        ("name", "text", True, None, False, "C"),
        ("applied_at", "text", True, None, False, "C"),
        ("is_additive", "boolean", True, "false", False, None),
    ]
    assert [name for name, *_ in found.pop("lanes")][:3] == [
        "name",
        "holder",
        "until",
    ]  # of several processes
    assert found == {
        table: [
            (
                name,
                TYPES[kind],
                bool(is_required or key),
                default,
                table in CHOSEN_BY_THE_TABLE and name == "number",
                "C" if kind == "TEXT" else None,
            )
            for _, name, kind, is_required, default, key in sqlite.execute(f"PRAGMA table_info({table})")
        ]
        for table, _, _ in sqlite.execute(SQLITE_OBJECTS, ("table",))
    }


def test_keys_are_the_same(postgres: psycopg.Connection, sqlite: sqlite3.Connection) -> None:
    found = query(
        postgres,
        """
        SELECT conrelid::regclass::text, contype = 'p', array_to_string(array(
            SELECT attname FROM unnest(conkey) WITH ORDINALITY AS k (attnum, place)
            JOIN pg_attribute a USING (attnum) WHERE a.attrelid = conrelid ORDER BY place), ',')
        FROM pg_constraint
        WHERE contype IN ('p', 'u') AND connamespace = 'public'::regnamespace
            AND conrelid NOT IN ('schema_migrations'::regclass, 'lanes'::regclass)
        """,
    )
    expected = {("submissions", False, "id")}
    for table, _, _ in sqlite.execute(SQLITE_OBJECTS, ("table",)).fetchall():
        columns = [(key, name) for _, name, *_, key in sqlite.execute(f"PRAGMA table_info({table})") if key]
        expected.add((table, True, ",".join(name for _, name in sorted(columns))))
    assert set(found) == expected


def test_indexes_are_the_same(postgres: psycopg.Connection, sqlite: sqlite3.Connection) -> None:
    named = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE schemaname = %s AND indexname NOT LIKE ALL ('{%%_pkey,%%_id_key}')
    """
    ours = dict(query(postgres, named, ["public"]))
    run(postgres, "CREATE SCHEMA other")
    for table, _, _ in sqlite.execute(SQLITE_OBJECTS, ("table",)).fetchall():
        run(postgres, f"CREATE TABLE other.{table} (LIKE public.{table})")
    run(postgres, "SET LOCAL search_path TO other")
    for name, _, sql in sqlite.execute(SQLITE_OBJECTS, ("index",)).fetchall():
        translated = in_postgres(sql)
        run(postgres, translated.replace(")", ", number)", 1) if name in WALKED else translated)
    theirs = dict(query(postgres, named, ["other"]))
    # The same rows in the same order, in words that keep PostgreSQL's planner from other indexes.
    assert ours.pop("outbox_line") != theirs.pop("outbox_line")
    assert ours == {name: sql.replace(" ON other.", " ON public.") for name, sql in theirs.items()}


def test_triggers_and_views_have_the_same_names(
    postgres: psycopg.Connection, sqlite: sqlite3.Connection
) -> None:
    found = "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
    assert set(query(postgres, found)) == {
        (name, table) for name, table, _ in sqlite.execute(SQLITE_OBJECTS, ("trigger",))
    }
    for view in SHOWN:
        columns = [name for name, *_ in postgres.execute(f"SELECT * FROM {view}".encode()).description or ()]
        assert columns == [name for _, name, *_ in sqlite.execute(f"PRAGMA table_info({view})")]


@pytest.mark.parametrize(
    "sql",
    [
        (
            "INSERT INTO deliveries (provider, task_id, claim, digest, via, proof, verdict, received_at,"
            " last_seen_at) VALUES ('p', 't', '', 'd', 'else', 'token', 'early', 'now', 'now')"
        ),
        (
            "INSERT INTO assets (event, position, kind, state, due_at, deadline_at)"
            " VALUES (1, 0, 'image', 'else', 'now', 'now')"
        ),
        (
            "INSERT INTO outbox (event, sink, revision, state, due_at, created_at)"
            " VALUES (1, 'jsonl', 1, 'else', 'now', 'now')"
        ),
        (
            "INSERT INTO replays (id, stage, state, requested_by, created_at, matched, up_to, filter, sinks)"
            " VALUES ('r', 'notify', 'else', 'admin', 'now', 1, 1, '{}', '[]')"
        ),
        (
            "INSERT INTO replays (id, stage, rate, requested_by, created_at, matched, up_to, filter, sinks)"
            " VALUES ('r', 'notify', 0.0009, 'admin', 'now', 1, 1, '{}', '[]')"
        ),
        "INSERT INTO retention VALUES (2, 0, 0, 0, 0)",
        "INSERT INTO heartbeat VALUES (2, 0)",
    ],
)
def test_values_that_are_not_among_those_there_are_get_refused(
    postgres: psycopg.Connection, sqlite: sqlite3.Connection, sql: str
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        sqlite.execute(sql)
    with pytest.raises(errors.CheckViolation):
        run(postgres, sql)


@pytest.mark.parametrize("seed", range(4))
def test_triggers_and_views_come_to_the_same(
    postgres: psycopg.Connection, sqlite: sqlite3.Connection, seed: int
) -> None:
    both = _Both(postgres, sqlite)
    both.compare()
    chance = random.Random(seed)
    for _ in range(12):
        for sql, values in changes(chance, 60):
            both.run(sql, values)
        both.compare()
    for sql in ("DELETE FROM outbox", "DELETE FROM deliveries", "DELETE FROM submissions"):
        both.run(sql, ())
    both.compare()
    assert query(postgres, "SELECT kept FROM ownerless") == [(0,), (0,)]
    left = "SELECT * FROM counts WHERE kind IN ('submissions', 'outbox') AND number <> 0"
    assert query(postgres, left) == []


class _Both:
    """Runs a statement on both, to the same end."""

    def __init__(self, postgres: psycopg.Connection, sqlite: sqlite3.Connection) -> None:
        self._postgres = postgres
        self._sqlite = sqlite

    def run(self, sql: str, values: Sequence[Any]) -> None:
        try:
            changed: int | None = self._sqlite.execute(sql, values).rowcount
        except sqlite3.IntegrityError:
            changed = None
        statement = sql.replace("?", "%s").encode()
        try:
            with self._postgres.transaction():
                did = self._postgres.execute(statement, [kept(value) for value in values]).rowcount
        except errors.UniqueViolation:
            did = -1
        assert did == (-1 if changed is None else changed), sql

    def compare(self) -> None:
        for name in (*COUNTED, *SHOWN):
            ours = query(self._postgres, f"SELECT * FROM {name}")
            theirs = self._sqlite.execute(f"SELECT * FROM {name}").fetchall()
            assert sorted(ours, key=repr) == sorted(theirs, key=repr), name


TEXTS = (
    "plain",
    'quoted " and \\',
    '\x1b[31m " \\ / é \n\t\b\f\r',
    'nul \0 and "',
    "\U0010ffff0 and \U0010ffff1",
    "\U0010ffff \0\0",
    "".join(map(chr, (*range(1, 0xA1), 0x61B, 0x61C, 0x61D, *range(0x200D, 0x2011), *range(0x2027, 0x2030)))),
    "".join(map(chr, range(0x2065, 0x206B))),
    "\\u0000 \\\\u0000 \u202e",
)
VERDICTS = ("accepted", "early", "unrecognised", "unowned", "unconfirmed")
STATES = ("pending", "delivered", "dead")
TYPES_OF_ENDS = (None, "task.completed", "task.partial", "task.failed")


def changes(chance: random.Random, most: int) -> Iterator[tuple[str, Sequence[Any]]]:
    """Statements like the record's, and some that it never makes, about a few rows."""
    pick = chance.choice
    for _ in range(most):
        number, other, hour = (chance.randrange(1, 9) for _ in range(3))
        at = f"2026-11-29T0{hour}:00"
        text, verdict, owner = pick(TEXTS), pick(VERDICTS), pick((None, number))
        yield pick(
            (
                (
                    (
                        "INSERT INTO submissions (number, id, provider, owner, task_id, model, metadata,"
                        " created_at) VALUES (?, ?, 'p', ?, ?, ?, '{}', ?) ON CONFLICT DO NOTHING"
                    ),
                    (number, f"sub_{number}", text, pick((None, f"{text}{number}")), pick((None, text)), at),
                ),
                (
                    "UPDATE submissions SET task_id = ?, bound_at = ? WHERE number = ? AND task_id IS NULL",
                    (f"{text}{number}", at, number),
                ),
                ("DELETE FROM submissions WHERE number = ?", (number,)),
                (
                    (
                        "INSERT INTO events (number, id, via, fingerprint, received_at, error_code,"
                        " error_message) VALUES (?, ?, 'poll', 'f', ?, ?, ?) ON CONFLICT (number) DO NOTHING"
                    ),
                    (number, f"evt_{number}", at, pick((None, text)), text),
                ),
                (
                    "UPDATE events SET type = ?, ended_at = ? WHERE number = ?",
                    (pick(TYPES_OF_ENDS), at, number),
                ),
                (
                    (
                        "INSERT INTO deliveries (number, provider, task_id, claim, digest, submission, via,"
                        " proof, verdict, received_at, last_seen_at, body)"
                        " VALUES (?, 'p', ?, '', ?, ?, 'callback', 'token', ?, ?, ?, ?)"
                        " ON CONFLICT DO NOTHING"
                    ),
                    (number, pick(("", text)), f"d{number}", owner, verdict, at, at, b"{}"),
                ),
                (
                    "UPDATE deliveries SET submission = ?, verdict = ?, seen = seen + 1 WHERE number = ?",
                    (owner, verdict, number),
                ),
                (
                    (
                        "UPDATE deliveries SET number = (SELECT max(number) + 1 FROM deliveries), body = ?"
                        " WHERE number = ?"
                    ),
                    (b"[]", number),
                ),
                ("UPDATE deliveries SET verdict = ? WHERE number >= ?", (verdict, number)),
                ("DELETE FROM deliveries WHERE number = ?", (number,)),
                (
                    (
                        "INSERT INTO counts SELECT 'deliveries', '', verdict, count(*) FROM deliveries"
                        " WHERE number > (SELECT polls_to FROM retention) AND number <= ? GROUP BY verdict"
                        " ON CONFLICT (kind, name, state)"
                        " DO UPDATE SET number = counts.number + excluded.number"
                    ),
                    (number,),
                ),
                ("UPDATE retention SET polls_to = ?", (number,)),
                (
                    (
                        "INSERT INTO assets (event, position, kind, due_at, deadline_at)"
                        " VALUES (?, ?, 'image', ?, ?) ON CONFLICT DO NOTHING"
                    ),
                    (number, other, at, at),
                ),
                (
                    "UPDATE assets SET state = ?, attempts = attempts + 1 WHERE event = ?",
                    (pick(("pending", "stored", "failed")), number),
                ),
                (
                    (
                        "INSERT INTO outbox (number, event, sink, revision, replay_id, due_at, created_at)"
                        " VALUES (?, ?, 'jsonl', 1, ?, ?, ?) ON CONFLICT DO NOTHING"
                    ),
                    (number, other, pick(("", "rep_1")), at, at),
                ),
                ("UPDATE outbox SET state = ?, due_at = ? WHERE number = ?", (pick(STATES), at, number)),
                (
                    (
                        "UPDATE outbox SET state = coalesce(?, state),"
                        " sink = CASE sink WHEN 'jsonl' THEN 'other' ELSE 'jsonl' END"
                        " WHERE number = ? AND NOT EXISTS"
                        " (SELECT 1 FROM outbox o WHERE o.event = outbox.event AND o.sink <> outbox.sink)"
                    ),
                    (pick((None, *STATES)), number),
                ),
                ("DELETE FROM outbox WHERE number = ?", (number,)),
                (
                    (
                        "INSERT INTO polls (number, provider, due_at) VALUES (?, 'p', ?)"
                        " ON CONFLICT (number)"
                        " DO UPDATE SET due_at = excluded.due_at, asked = polls.asked + 1"
                    ),
                    (number, at),
                ),
                ("UPDATE polls SET asked_at = ?, outcome = 'unfinished' WHERE number = ?", (at, number)),
                (
                    (
                        "INSERT INTO attempts (event, target, attempt, outcome, started_at, seconds, times,"
                        " last_started_at) VALUES (?, 'asset 0', 2, 'timeout', ?, 0.5, ?, ?)"
                    ),
                    (number, at, pick((1, 3)), at),
                ),
            )
        )


def test_a_number_that_is_chosen_anew_is_never_chosen_again(postgres: psycopg.Connection) -> None:
    add = """
    INSERT INTO deliveries (provider, task_id, claim, digest, via, proof, verdict, received_at, last_seen_at)
    VALUES ('p', '', '', %s, 'poll', 'none', 'early', 'now', 'now') RETURNING number
    """
    first, second = (query(postgres, add, [digest])[0][0] for digest in "ab")
    ((renewed,),) = query(
        postgres, "UPDATE deliveries SET number = DEFAULT WHERE number = %s RETURNING number", [first]
    )
    ((third,),) = query(postgres, add, ["c"])
    assert first < second < renewed < third


def test_ids_of_the_greatest_length_fit_their_indexes(postgres: psycopg.Connection) -> None:
    task_id = "".join(random.Random(1).choices("\0\U0010ffff\U0010fffe\U00020000", k=512))
    run(
        postgres,
        "INSERT INTO deliveries (provider, task_id, claim, digest, via, proof, verdict, received_at,"
        " last_seen_at) VALUES ('provider', %s, %s, %s, 'poll', 'none', 'early', 'now', 'now')",
        [kept(task_id), "sub_" + 26 * "x", 32 * "d"],
    )


def test_metadata_has_the_same_values(postgres: psycopg.Connection, sqlite: sqlite3.Connection) -> None:
    chance = random.Random(2)
    documents = ['{"key":1.10}', '{"key":-0}', '{"key":1e5}', '{"key":12345678901234567890123}', "{}"]
    others: tuple[Any, ...] = (True, False, None, [], ["x"], {"key": 1}, {})
    parts = ("\\", "u0000", "\0", '"', "\U0010ffff", "0", "1", "2", "é", "\n")
    for _ in range(3000):
        text, value = ("".join(chance.choices(parts, k=6)) for _ in "ab")
        given = {text: text, "key": chance.choice((value, value, chance.randrange(10**6) / 64, *others))}
        documents.append(json.dumps(given, ensure_ascii=False))
    with_nul = 0
    for document in documents:
        value = json.loads(document).get("key")
        ((found,),) = query(postgres, "SELECT metadata_value(%s, 'key')", [kept(document)])
        if isinstance(value, str) and "\0" in value:  # some releases of SQLite read up to it only
            with_nul += 1
            assert found == kept(value)
            continue
        ((theirs,),) = sqlite.execute(
            f"SELECT {metadata.value_of('key', '')} FROM (SELECT ? AS metadata)", [document]
        )
        assert found == kept(theirs), document
    assert with_nul > 100


def test_tasks_are_found_by_an_index_on_metadata(postgres: psycopg.Connection) -> None:
    """A row of an index has room for a third of a page, and less than the longest value: it has the start."""
    run(
        postgres,
        """
        CREATE INDEX submissions_metadata ON submissions (left(metadata_value(metadata, 'key'), 256), number)
        WHERE metadata_value(metadata, 'key') IS NOT NULL
        """,
    )
    fill(postgres)
    long = "".join(random.Random(3).choices("\U0010fffe\U00020000\U00030001", k=1020))
    add = """
    INSERT INTO submissions (id, provider, owner, metadata, created_at) VALUES ('sub', 'p', 'o', %s, 'now')
    """
    run(postgres, add, [json.dumps({"key": long}, ensure_ascii=False)])
    wanted = """
    SELECT id FROM submissions
    WHERE left(metadata_value(metadata, 'key'), 256) = left('{0}', 256)
        AND metadata_value(metadata, 'key') = '{0}'
    """
    assert query(postgres, wanted.format(long)) == [("sub",)]
    assert "submissions_metadata" in plan(postgres, wanted.format("77"))


WALKS = {
    "submissions_owner": filters.OF_OWNER,
    "submissions_provider": lists.OF_PROVIDER,
    "events_type": filters.OF_TYPE,
    "deliveries_unrecognised": filters.UNRECOGNISED.way.walk,
    "outbox_dead": filters.DEAD.way.walk,
    "outbox_key": filters.DEAD.by["task_ids"].walk,
}
QUERIES: list[tuple[str, str | history.Kind[Any]]] = [
    *((name, windows.edge_query(walk, newest_first=False)) for name, walk in WALKS.items()),
    *((name, windows.edge_query(walk, newest_first=True)) for name, walk in WALKS.items()),
    ("assets_pending", asset_leases.NEXT_PROVIDER),
    ("assets_pending", asset_leases.NEXT_UNTRIED_HOST),
    ("assets_pending", asset_leases.UNTRIED),
    ("assets_pending", asset_leases.UNTRIED_DUE_AT),
    ("assets_again", asset_leases.NEXT_TRIED_HOST),
    ("assets_again", asset_leases.TRIED),
    ("assets_again", asset_leases.TRIED_DUE_AT),
    ("assets_of_replays", replay_steps.WITHDRAW_ASSETS),
    ("attempts_event", "SELECT max(number) FROM attempts WHERE event = :event AND target = 'sink jsonl'"),
    ("attempts_event", history.ATTEMPTS),
    ("deliveries_key", deliveries.COUNT_ALIKE),
    ("deliveries_key", deliveries.NEWEST_ALIKE),
    ("deliveries_large", deliveries.COUNT_LARGE),
    ("deliveries_ownerless", deliveries.EXPIRE_EARLY),
    ("outbox_dead", "SELECT number FROM outbox WHERE state = 'dead' AND sink = :sink"),
    ("outbox_key", history.NOTIFICATIONS),
    ("outbox_key", views.PENDING_SINKS),
    ("outbox_key", outbox.SUPERSEDE),
    ("outbox_pending", outbox.OLDEST_OUTBOX),
    ("outbox_pending", outbox.NEWEST_OUTBOX),
    ("outbox_pending", outbox.GIVE_UP_OUTBOX),
    ("outbox_pending", stats.NEXT_DUE["outbox"]),
    ("outbox_pending", unset_sinks.COUNT_PENDING),
    ("outbox_replayed", replays.WAITING_AT),
    ("outbox_withdrawable", replay_steps.WITHDRAW_NOTIFICATIONS),
    ("polls_due", polls.DUE_OTHERS),
    ("polls_due", stats.NEXT_DUE["polls"]),
    ("polls_held", polls.DUE_HELD),
    ("polls_held", stats.NEXT_DUE["held"]),
    ("polls_of_replays", replay_steps.QUEUED_POLLS),
    ("polls_of_replays", replay_steps.POLLS_OF_REPLAY),
    ("replays_due", replays.DUE_REPLAYS),
    ("submissions_created", logged.LAST_BEFORE),
    ("submissions_created", logged.FIRST_AFTER),
    ("submissions_task", views.SUBMISSION_OF_TASK),
    ("submissions_task", filters.NUMBERS),
    ("submissions_unbound", lists.UNBOUND),
    ("submissions_unbound", views.OLDEST_UNBOUND),
    ("submissions_unbound", stats.COUNT_UNBOUND),
]


def test_the_record_goes_by_its_indexes(postgres: psycopg.Connection) -> None:
    fill(postgres)
    missed = []
    for index, given in QUERIES:
        sql = given if isinstance(given, str) else newest(given)
        explained = plan(postgres, sql)
        if index not in explained:
            missed.append(f"{index}:\n{in_postgres(sql)}\n{explained}")
    assert not missed, "\n\n".join(missed)


def newest(kind: history.Kind[Any]) -> str:
    number = f"{kind.table}.number"
    return f"SELECT {kind.columns} FROM {kind.table} WHERE {kind.only} ORDER BY {number} DESC LIMIT 10"


FILL = """
ALTER TABLE submissions DISABLE TRIGGER USER;
ALTER TABLE events DISABLE TRIGGER USER;
ALTER TABLE deliveries DISABLE TRIGGER USER;
CREATE TEMPORARY VIEW n AS SELECT i, CASE WHEN i % 50 = 7 THEN 'vidgo' ELSE 'apixo' END AS provider,
    to_char(timestamp '2026-11-01' + i * interval '1 minute', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at
    FROM generate_series(1, 20000) i;
INSERT INTO submissions (id, provider, owner, task_id, metadata, created_at)
    SELECT 'sub_' || i, provider, 'user-' || i % 400,
        CASE WHEN i % 100 > 0 THEN 'task-' || i END, '{"key":"' || i || '"}', at FROM n;
INSERT INTO requests SELECT i, repeat('x', 500) FROM n;
INSERT INTO events (number, id, via, fingerprint, received_at, type, ended_at)
    SELECT i, 'evt_' || i, 'callback', 'f', at,
        CASE WHEN i % 50 > 0 THEN 'task.completed' ELSE 'task.failed' END, at FROM n WHERE i < 19000;
INSERT INTO deliveries (provider, task_id, claim, digest, submission, via, proof, verdict, received_at,
        last_seen_at, body)
    SELECT 'vidgo', 'task-' || i, '', 'd' || i, CASE WHEN i % 100 > 0 THEN i END, 'callback', 'token',
        CASE WHEN i % 100 > 1 THEN 'accepted' WHEN i % 200 = 0 THEN 'early' ELSE 'unrecognised' END, at, at,
        CASE WHEN i % 1000 = 0 THEN decode(repeat('00', 70000), 'hex') ELSE '{}' END FROM n;
INSERT INTO assets (event, position, kind, state, outcome, attempts, due_at, deadline_at, provider,
        host_hash, replay_id)
    SELECT i, 0, 'image',
        CASE WHEN i < 19000 THEN 'stored' ELSE 'pending' END,
        CASE WHEN i < 19000 THEN 'stored' WHEN i % 4 = 0 THEN 'timeout' END, (i % 8 / 4) * 2, at, at,
        provider, i % 10, CASE WHEN i % 50 = 0 THEN 'rep_' || i END FROM n;
INSERT INTO links SELECT i, 0, 'https://cdn.example.com/' || i FROM n;
INSERT INTO outbox (event, sink, revision, state, due_at, created_at, replay_id)
    SELECT i, sink, 1,
        CASE WHEN i % 100 = 0 THEN 'dead' WHEN i < 18500 THEN 'delivered' ELSE 'pending' END, at, at,
        CASE WHEN i % 10 = 0 THEN 'rep_' || i % 50 ELSE '' END FROM n, unnest('{hook,jsonl}'::text[]) sink;
INSERT INTO attempts (event, target, attempt, outcome, started_at, seconds)
    SELECT i, target, 1, 'delivered', at, 0.5 FROM n, unnest('{asset 0,sink hook,sink jsonl}'::text[]) target;
INSERT INTO polls (number, provider, due_at, held, replay_id)
    SELECT i, provider, at, (i % 100 = 0)::int,
        CASE WHEN i % 100 = 1 THEN 'rep_1' END FROM n;
INSERT INTO replays (id, stage, state, requested_by, created_at, due_at, matched, up_to, filter, sinks)
    SELECT 'rep_' || i, 'notify', CASE WHEN i > 4990 THEN 'running' ELSE 'done' END, 'admin', at,
        CASE WHEN i > 4990 THEN at END, 0, 0, '{}', '[]' FROM n WHERE i < 5000;
ANALYZE;
"""

GIVEN = {
    "provider": "vidgo", "owner": "user-17", "task_id": "task-77", "claim": "", "sink": "jsonl",
    "type": "task.failed", "id": "rep_1", "now": "2026-11-14T12:00:00.000000Z", "verdict": "early",
    "low": "0", "high": str(windows.LAST_NUMBER), "size": str(windows.FIRST_WINDOW),
}  # fmt: skip
MOMENTS = "moment|.*_before|settled_at|since|until|logged_from|.*_ago"


def fill(postgres: psycopg.Connection) -> None:
    run(postgres, FILL)


def plan(postgres: psycopg.Connection, sql: str) -> str:
    """How a statement of the record is carried out, with some values."""

    def given(found: re.Match[str]) -> str:
        name = found[1]
        return f"'{GIVEN['now'] if re.fullmatch(MOMENTS, name) else GIVEN.get(name, '10')}'"

    sql = re.sub(r"(?<!:):([a-z]\w*)", given, in_postgres(sql))
    sql = re.sub(r"(<=?) \?\d?", rf"\1 '{GIVEN['now']}'", sql)
    return "\n".join(line for (line,) in query(postgres, "EXPLAIN " + re.sub(r"\?\d?", "'10'", sql)))


def in_postgres(sql: str) -> str:
    """A statement of the record with the words of PostgreSQL, as far as these tests need them."""
    sql = re.sub(r"NOT INDEXED|INDEXED BY \w+|(?<=[ (])\+(?=[a-z])", "", sql)
    sql = re.sub(r"CROSS JOIN (\w+ \w+\s+ON)", r"JOIN \1", sql)
    sql = sql.replace("min(attempts, 3)", "LEAST(attempts, 3)")
    sql = sql.replace("(attempts = 0 AND outcome IS NULL) =", "(attempts = 0 AND outcome IS NULL)::int =")
    sql = sql.replace(", attempts = 0 AND outcome IS NULL,", ", ((attempts = 0 AND outcome IS NULL)::int),")
    sql = sql.replace("(typeof(waiting) = 'text')", "(waiting IS NOT NULL)::int")
    sql = sql.replace("json_each('[0, 1, 2, 3]') tried", "(VALUES (0), (1), (2), (3)) tried (value)")
    sql = re.sub(r"NOT IN \(SELECT value FROM json_each\(:\w+\)\)", "<> ALL ('{77,78}')", sql)
    sql = re.sub(r"IN \(SELECT value FROM json_each\(:\w+\)\)", "= ANY ('{77,78}')", sql)
    sql = sql.replace("json_each(:task_ids) t", "unnest('{task-77,task-78}'::text[]) AS t (value)")
    if re.search(r"FROM\s*\(\s*SELECT", sql):
        sql = re.sub(r"(LIMIT [:\w]+\s*\))(?=\s*(ORDER|WHERE|$))", r"\1 AS few", sql)
    return sql


def query(
    postgres: psycopg.Connection, sql: str, values: Sequence[Any] | None = None
) -> list[tuple[Any, ...]]:
    return postgres.execute(sql.encode(), values).fetchall()


def run(postgres: psycopg.Connection, sql: str, values: Sequence[Any] | None = None) -> None:
    postgres.execute(sql.encode(), values)


def kept(value: Any) -> Any:
    """A text as PostgreSQL keeps it, which has no NUL."""
    if not isinstance(value, str):
        return value
    return value.replace("\U0010ffff", "\U0010ffff1").replace("\0", "\U0010ffff0")
