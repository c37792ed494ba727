"""Ids of deliveries and notifications, made of what is unique about a row, and read again.

A row's number is shown to nobody: it counts what all owners do, and is another one in another database. What
an id says instead is its caller's own: the submission of the task, which is found by its index.
"""

import hashlib
import re

import msgspec

_DELIVERY = re.compile(r"dlv_([\w-]+)\.([0-9a-f]{32})", re.ASCII)
_NOTIFICATION = re.compile(r"out_([\w-]+)\.([1-9][0-9]{0,8})\.([\w-]+)(?:\.([\w-]+))?", re.ASCII)


class NamedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """What the id of a delivery says."""

    submission_id: str
    mark: str


class NamedNotification(msgspec.Struct, frozen=True, kw_only=True):
    """What the id of a notification says: the key of its row."""

    submission_id: str
    revision: int
    sink: str
    replay_id: str  # as the table has it: empty where there is none


def delivery_id(submission_id: str, claim: str, digest: str) -> str:
    """The id of what came for the task of a submission."""
    return f"dlv_{submission_id[4:]}.{delivery_mark(claim, digest)}"


def delivery_mark(claim: str, digest: str) -> str:
    """What tells a delivery from the others of its task: its body, and the token that it came by."""
    return hashlib.sha256(f"{claim}.{digest}".encode()).hexdigest()[:32]


def notification_id(submission_id: str, revision: int, sink: str, replay_id: str | None) -> str:
    """The id of what a sink is told of a submission's task; another one once it is moved to another sink."""
    id_ = f"out_{submission_id[4:]}.{revision}.{sink}"
    return f"{id_}.{replay_id[4:]}" if replay_id else id_


def read_delivery_id(id_: str) -> NamedDelivery | None:
    """What an id names, if it is made as ours are."""
    said = _DELIVERY.fullmatch(id_)
    return None if said is None else NamedDelivery(submission_id=f"sub_{said[1]}", mark=said[2])


def read_notification_id(id_: str) -> NamedNotification | None:
    """What an id names, if it is made as ours are."""
    said = _NOTIFICATION.fullmatch(id_)
    if said is None:
        return None
    return NamedNotification(
        submission_id=f"sub_{said[1]}",
        revision=int(said[2]),
        sink=said[3],
        replay_id=f"rpl_{said[4]}" if said[4] else "",
    )


def hash63(text: str) -> int:
    """A number that both engines keep, for a text: two texts may have one."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]) >> 1
