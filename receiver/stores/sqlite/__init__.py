"""The record in one SQLite file, for one process.

store       the port: each method one transaction
writer      the one thread that writes, and commits in groups
recording   what a delivery or a submission does to the tables
settling    what is leased, and how it ends
viewing     what is read
migrations  the schema
"""

from receiver.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
