"""The record in a PostgreSQL database, for several processes: what is PostgreSQL's own.

store        how it is opened, and its schema brought up to date
connections  the one that writes, and those that read
fleet        what processes tell each other, and which of them runs what
cursor       statements as they are run: many rows at once
arrays       many values in one parameter
dialect      statements of the record in PostgreSQL's words
schema       tables, indexes, triggers and views
"""

from receiver.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
