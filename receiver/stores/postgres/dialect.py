"""What the record's statements say in SQLite's words, said in PostgreSQL's.

A statement is translated once, when it first comes. What both understand is left alone: a rule stands here
only for what they have no common word for, or where a common word would cost SQLite its plan.
"""

import re
from functools import cache
from typing import NamedTuple

# Advice to SQLite's planner, of which PostgreSQL's has no need: which index to take and, by a plus or the
# order of a CROSS JOIN, which not.
_ADVICE = (
    (re.compile(r" (?:INDEXED BY \w+|NOT INDEXED)"), ""),
    (re.compile(r"(?<=[\s(])\+(?=[a-z])"), ""),
    (re.compile(r"CROSS JOIN (\w+ \w+)(?=\s+ON)"), r"JOIN \1"),
)
_WAITS = "b.state <> 'delivered' AND b.state <> 'dead'"
_WORDS = (
    # A list in one value: the cursor hands it over as an array.
    (re.compile(r" NOT IN \(SELECT value FROM json_each\(:(\w+)\)\)"), r" <> ALL(:\1)"),
    (re.compile(r" IN \(SELECT value FROM json_each\(:(\w+)\)\)"), r" = ANY(:\1)"),
    (re.compile(r"json_each\(:(\w+)\) (\w+)"), r"unnest(CAST(:\1 AS text[])) AS \2 (value)"),
    # The lesser of two, which SQLite calls by the name of an aggregate.
    (re.compile(r"\bmin\(([\w.]+), "), r"LEAST(\1, "),
    # A truth is no number.
    (re.compile(r"\(attempts = 0 AND outcome IS NULL\) = 1"), "(attempts = 0 AND outcome IS NULL)::int = 1"),
    (re.compile(r"\(typeof\((\w+)\) = 'text'\)"), r"(\1 IS NOT NULL)::int"),
    (re.compile(r" IS (?=:)"), " IS NOT DISTINCT FROM "),
    # What is asked of a value alone does not tell its type.
    (re.compile(r"(:\w+)(?= IS (?:NOT )?NULL)"), r"CAST(\1 AS text)"),
    (re.compile(r"(?<=SELECT )(:\w+)(?= WHERE)"), r"CAST(\1 AS text)"),
    # Whether another of its line is before it: the schema says why in these words (``_TURNS``).
    (
        re.compile(
            r"EXISTS \(SELECT 1 (FROM outbox b\s+WHERE .*) AND b\.state = 'pending' AND b\.number < o.number"
        ),
        rf"o.number > (SELECT b.number \1 AND {_WAITS} ORDER BY b.number + 0 LIMIT 1",
    ),
    # A number behind all others: the sequence must know of it.
    (re.compile(r"\(SELECT max\(number\) \+ 1 FROM \w+\)"), "DEFAULT"),
)

# What a row has under a key of its metadata, which the index has as far as its entries may be long.
_METADATA = re.compile(r"CASE json_type\((\w*\.?metadata), '\$\.\"([^\"]+)\"'\).*? END(?: = (:\w+))?")
INDEXED_CHARACTERS = 256  # an entry may have 2,704 bytes

_LISTS = re.compile(r"json_each\(:(\w+)\)")
_KEYS = re.compile(r"\(VALUES (\([?, ]+\))(?:, \1)*\)")  # of many rows that are looked up together
_NAMED = re.compile(r"(?<![:\w]):([a-z_]\w*)")

# What can be done for many rows at once. Where a row's own words look something up, it is done one by one.
_INSERT = re.compile(r"\s*(INSERT INTO \w+ \([^)]*\))\s+VALUES \(([^)]*)\)(?:\s+(ON CONFLICT [^$]*))?\s*")
_UPDATE = re.compile(
    r"\s*(UPDATE \w+ SET (?:(?!SELECT|DEFAULT).)*?)\s+(WHERE (?:(?!RETURNING).)*)", re.DOTALL
)
_DELETE = re.compile(r"\s*(DELETE FROM \w+)\s+(WHERE (?:(?!RETURNING).)*)", re.DOTALL)
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]\w*)|\?")
_NUMBER = re.compile(r"\$(\d+)")


class Statement(NamedTuple):
    """A statement as psycopg takes it."""

    text: str
    lists: frozenset[str]  # of its parameters those that are lists, in JSON
    key_width: int  # of the keys that all its parameters are, to be handed over as arrays; 0: they are none


class ForMany(NamedTuple):
    """A statement that is run for many rows of values, in a form that takes each of them as an array."""

    alone: str  # for one row, its parameters numbered: from this the server tells their types
    names: tuple[str | int, ...]  # of the parameters, in that order, or their places
    identifying: tuple[int, ...]  # which of them say what row is changed, so that none may come twice
    before: str
    after: str

    def text(self) -> str:
        """As psycopg takes it."""
        columns = ", ".join(f"p{number}" for number in range(1, len(self.names) + 1))
        arrays = ", ".join(["%s"] * len(self.names))
        return f"{self.before} unnest({arrays}) WITH ORDINALITY AS given ({columns}, place) {self.after}"


@cache
def translate(sql: str) -> Statement:
    lists = frozenset(_LISTS.findall(sql))
    sql = _in_words(sql.replace("%", "%%"))
    width = 0
    if keys := _KEYS.search(sql):
        width = keys[1].count("?")
        sql = _KEYS.sub(f"(SELECT * FROM unnest({', '.join('?' * width)}))", sql)  # noqa: S608
    return Statement(_NAMED.sub(r"%(\1)s", sql).replace("?", "%s"), lists, width)


@cache
def for_many(sql: str) -> ForMany | None:
    """The form of a statement for many rows; None where it has none, and is run for one after the other."""
    names: dict[str | int, str] = {}

    def number(match: re.Match[str]) -> str:
        return names.setdefault(match[1] or len(names), f"${len(names) + 1}")

    alone = _PARAMETER.sub(number, _in_words(sql))
    if insert := _INSERT.fullmatch(alone):
        # Numbers rise in the order of the rows.
        into, values, conflict = insert.groups()
        before, after, where = f"{into} SELECT {values} FROM", f"ORDER BY given.place {conflict or ''}", ""
    elif update := _UPDATE.fullmatch(alone):
        before, after, where = f"{update[1]} FROM", update[2], update[2]
    elif delete := _DELETE.fullmatch(alone):
        before, after, where = f"{delete[1]} USING", delete[2], delete[2]
    else:
        return None
    identifying = sorted({int(place) - 1 for place in _NUMBER.findall(where)})
    before, after = (_NUMBER.sub(r"given.p\1", part.replace("%", "%%")) for part in (before, after))
    return ForMany(alone, tuple(names), tuple(identifying), before, after)


def _in_words(sql: str) -> str:
    sql = _METADATA.sub(_of_metadata, sql)
    for pattern, words in (*_ADVICE, *_WORDS):
        sql = pattern.sub(words, sql)
    return sql


def metadata_value(column: str, key: str) -> tuple[str, str]:
    """The SQL of what a row has under a key of its metadata, and of its beginning, which is in the index."""
    value = f"metadata_value({column}, '{key}')"
    return value, f"left({value}, {INDEXED_CHARACTERS})"


def _of_metadata(match: re.Match[str]) -> str:
    column, key, wanted = match.groups()
    value, beginning = metadata_value(column, key)
    if wanted is None:
        return value
    return f"{beginning} = left({wanted}, {INDEXED_CHARACTERS}) AND {value} = {wanted}"
