"""The record in one SQLite file, for one process.

store         the port: each method one transaction
writer        the one thread that writes, and commits in groups
recording     everything that one delivery does
owning        whose it is; submissions
applying      what it does to its task
filing        where it is kept, and how many may be
polling       whom to ask about what, and what waits for the answer
settling      what is leased, and how it ends
replaying     replays: what was asked for, how far it is
stepping      what a replay does to the other tables
matching      what a filter matches, as SQL
dead_letters  notifications that were given up
retention     what is dropped with time
viewing       what is read
counting      how much there is, and when the next falls due
migrations    the schema
backup        a copy, and whether a record is sound
"""

from receiver.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
