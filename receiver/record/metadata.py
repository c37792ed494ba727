"""Indexes on chosen keys of metadata: made when the record is opened, dropped for what is chosen no more."""

from collections.abc import Collection, Mapping

from receiver.record.cursor import Cursor

PREFIX = "submissions_metadata_"


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


def keep_indexes(db: Cursor, have: Collection[str], wanted: Mapping[str, str]) -> None:
    """Have these indexes, by their names and what each is on, and no other."""
    for name in sorted(set(have) - wanted.keys()):
        db.execute(f"DROP INDEX {name}")
    for name, on in wanted.items():
        if name not in have:
            db.execute(f"CREATE INDEX {name} ON submissions {on}")
