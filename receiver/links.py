"""Which links lead to the same file: providers sign it anew for every answer, and list it anywhere.

A file that stands in the body itself, as base64, has no link. On record it has one of ours, ``inline:`` and
the SHA-256 of that base64, by which it is found in the body again.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

# Of a query, so many parameters are compared: more than any signed link has.
MOST_PARAMETERS = 40

HASHES = 1 << 62  # as many as a database's number holds, and a float can be spread over

INLINE = "inline:"
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)

_Places = dict[str, list[int]]


def is_data_url(link: str) -> bool:
    """Whether it is no link but a file, as base64 (RFC 2397)."""
    # Nearly all are web links, and are told by their first letters at a quarter of the price.
    return not link.startswith("http") and _DATA_URL.match(link) is not None


def base64_in(text: str) -> str:
    """The base64 in a text that is nothing else, or a ``data:`` URL of it."""
    return text.partition(",")[2] if is_data_url(text) else text


def inline_link(text: str) -> str:
    """Our link to a file that stands in a body as this text, base64 or a ``data:`` URL of it."""
    return INLINE + hashlib.sha256(base64_in(text).encode("utf-8", "surrogatepass")).hexdigest()


def is_inline(link: str) -> bool:
    """Whether it is such a link."""
    return link.startswith(INLINE)


def link_name(link: str) -> str:
    """The part of a link that stays when it is signed anew: all before its query, as it is written."""
    return link.partition("#")[0].partition("?")[0]


def host_hash(link: str) -> int:
    """A number below ``HASHES``, the same for all links to one host and port, and for no others.

    No checksum will do: whoever names hosts could choose one with the number, and so the share, of another.
    """
    return _hash(link_name(link).partition("://")[2].partition("/")[0].lower())


@lru_cache(1024)  # a provider has few hosts
def _hash(host: str) -> int:
    digest = hashlib.blake2b(host.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % HASHES


def match_links(known: Sequence[str], given: Sequence[str]) -> dict[int, str]:
    """The links ``given`` now for the ``known`` links of a task, by their places among the known ones.

    Links of one name are paired in their order, unless a parameter tells them apart. A file that moved to
    another host is found by its path, if no other file has that path. Links without a partner are left out.
    """
    names, paths = _places(link_name, given), _places(_path, given)
    found: dict[int, str] = {}
    for name, places in _places(link_name, known).items():
        new_places = names.get(name, [])
        tied = _tie(known, places, given, new_places) if len(places) > 1 or len(new_places) > 1 else {}
        others = [place for place in places if place not in tied]
        left = [place for place in new_places if place not in tied.values()]
        pairs = tied | dict(zip(others, left, strict=False))
        found |= {place: given[new] for place, new in pairs.items()}
    for path, places in _places(_path, known).items():
        moved = paths.get(path, [])
        if len(places) == len(moved) == 1 and path.strip("/"):
            found.setdefault(places[0], given[moved[0]])
    return found


def _tie(
    known: Sequence[str], places: Sequence[int], given: Sequence[str], new_places: Sequence[int]
) -> dict[int, int]:
    """Places, old to new, whose links share a parameter that no other link of their name has."""
    old, new = _holders(known, places), _holders(given, new_places)
    tied: dict[int, int] = {}
    for parameter, holders in old.items():
        successors = new.get(parameter, [])
        if len(holders) == len(successors) == 1 and successors[0] not in tied.values():
            tied.setdefault(holders[0], successors[0])
    return tied


def _holders(links: Sequence[str], places: Iterable[int]) -> _Places:
    holders: _Places = defaultdict(list)
    for place in places:
        query = links[place].partition("#")[0].partition("?")[2]
        for parameter in dict.fromkeys(query.split("&", MOST_PARAMETERS)[:MOST_PARAMETERS]):
            holders[parameter].append(place)
    return holders


def _places(key: Callable[[str], str], links: Sequence[str]) -> _Places:
    places: _Places = defaultdict(list)
    for place, link in enumerate(links):
        places[key(link)].append(place)
    return places


def _path(link: str) -> str:
    return link_name(link).partition("://")[2].partition("/")[2]
