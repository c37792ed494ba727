"""Notes in the audit by which settings a process starts, where they are others than before."""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import msgspec
import structlog

from receiver import __version__
from receiver.config.disclosure import disclose
from receiver.config.settings import Settings
from receiver.errors import Unavailable
from receiver.models import Act, Actor, AuditFilter, Door, audit_entry
from receiver.ports import Store

MOST_NAMED = 12
CHARACTERS = 8  # of a value's hash
FIRST = "first start"
OPERATOR = Actor(who="settings", role="operator", door=Door.SERVICE)

log = structlog.get_logger()


async def note_settings(store: Store, settings: Settings, now: datetime) -> None:
    """Compare with what the last start has left, and note what changed: names alone, and hashes.

    They are of what admins may see of each setting, so a secret that took another's place shows no change.
    """
    digests = _digests(settings)
    try:
        page = await store.list_audit(AuditFilter(act=Act.SETTINGS_CHANGED), 1, None)
        before = page.entries[0].filter if page.entries else None
        if before == digests:
            return
        changed = FIRST if before is None else _changed(before, digests)
        whole = hashlib.sha256(msgspec.json.encode(digests, order="sorted")).hexdigest()[:16]
        entry = audit_entry(Act.SETTINGS_CHANGED, OPERATOR, now, target=whole, filter=digests, result=changed)
        await store.note_act(entry)
    except Unavailable:  # a full disk keeps no service from answering that it is full
        log.warning("settings.not_noted")


def _digests(settings: Settings) -> dict[str, str]:
    told = {"version": __version__, **{name: text for name, text in disclose(settings, None).items() if text}}
    return {name: hashlib.sha256(text.encode()).hexdigest()[:CHARACTERS] for name, text in told.items()}


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The names whose values are others now, as far as they are few."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])
