"""The record in one SQLite file, for one process: what is SQLite's own; the rest is ``receiver.record``.

store        the port: each method one transaction
writer       the one thread that writes, and commits in groups
readers      read-only connections, by purpose
wal          the write-ahead log, kept short
migrations   the schema
backup       a copy, and whether a record is sound
"""

from receiver.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
