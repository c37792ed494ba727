"""The record in one SQLite file, for one process: what is SQLite's own; the rest is ``receiver.record``.

store        how the file is opened, closed and looked at
connections  the one that writes, and those that read
wal          the write-ahead log, kept short
migrations   the schema
steps        which of them a file has, and what applies the rest
backup       a copy, and whether a record is sound
"""

from receiver.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
