"""Which page a line of health is about, and how many there are for each."""

import math
from collections import Counter
from collections.abc import Iterable

from receiver.health.lines import Line, rule_of
from receiver.urls import path_part

# Where the rows are that a line of health is about.
PLACES = {
    "sink": "/admin/sinks",
    "events_waiting": "/admin/sinks",
    "sinks_not_set": "/admin/sinks",
    "dead_letters": "/admin/dead-letters",
    "provider": "/admin/providers",
    "no_key": "/admin/providers",
    "silent": "/admin/providers",
    "links_dying": "/admin/assets",
    "files_waiting": "/admin/assets",
    "lost": "/admin/tasks?state=failed",
    "unbound": "/admin/submissions",
    "early": "/admin/deliveries?verdict=early",
    "refused": "/admin/deliveries?verdict=refused",
    "unrecognised": "/admin/deliveries?verdict=unrecognised",
    "replays_paused": "/admin/replays",
    "replays_stalled": "/admin/replays",
}
OVERVIEW = "/admin/"
_DAY_MINUTES = 24 * 60


def place_of(line: Line, lost_after_seconds: float) -> str | None:
    """The page whose rows it is about; of a sink or a provider that one's own.

    What was lost within a day was logged so much earlier, and lists go by that.
    """
    rule, _, name = line.key.partition(":")
    place = PLACES.get(rule)
    if rule == "lost":
        return f"{place}&since={math.ceil(lost_after_seconds / 60) + _DAY_MINUTES}m"
    return f"{place}/{path_part(name)}" if place and name else place


def count_wrongs(lines: Iterable[Line]) -> Counter[str]:
    """How many lines there are for each page of the menu, and in all for the overview."""
    found: Counter[str] = Counter()
    for line in lines:
        found[OVERVIEW] += 1
        if place := PLACES.get(rule_of(line.key)):
            found[place.partition("?")[0]] += 1
    return found
