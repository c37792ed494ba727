"""One delivery recorded by itself, in a transaction that somebody else has begun."""

from receiver.errors import ReceiverError
from receiver.models import Receipt, Recording
from receiver.options import StoreOptions
from receiver.record.cursor import Cursor
from receiver.record.recording import record_all


def record_one(db: Cursor, recording: Recording, options: StoreOptions) -> Receipt:
    (end,) = record_all(db, [recording], options)
    if isinstance(end, ReceiverError):
        raise end
    return end
