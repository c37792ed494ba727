"""Indexes on chosen keys of metadata: made when the record is opened, dropped for what is chosen no more."""

from collections.abc import Sequence

from receiver.record.cursor import Cursor

PREFIX = "submissions_metadata_"

OURS = "SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB :pattern"


def value_of(key: str, row: str) -> str:
    """The SQL of what a row has under a key of its metadata, as JSON writes it, a string without quotes.

    NULL where it has nothing, an object or a list there. ``key`` is one that the settings accept.
    """
    place = f"{row}metadata, '$.\"{key}\"'"
    # A number as it is written, for as one of SQLite's two long ids could become one. Beside nothing in a
    # list it stays as it is in every release: "[7,null]".
    number = f"substr(rtrim(json_extract({place}, '$[0]'), ',nul]'), 2)"
    return (
        f"CASE json_type({place}) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'"
        f" WHEN 'integer' THEN {number} WHEN 'real' THEN {number} WHEN 'text' THEN json_extract({place}) END"
    )


def index_of(key: str) -> str:
    """In digits, since SQLite tells no capitals from small letters in names."""
    return PREFIX + key.encode().hex()


def keep_indexes(db: Cursor, keys: Sequence[str]) -> None:
    """Have an index for each of these keys, and no other. The rows that lack a key cost nothing."""
    wanted = {index_of(key): value_of(key, "") for key in keys}
    for (name,) in db.execute(OURS, {"pattern": f"{PREFIX}*"}).fetchall():
        if name not in wanted:
            db.execute(f"DROP INDEX {name}")
    for name, value in wanted.items():
        db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON submissions ({value}) WHERE {value} IS NOT NULL")
