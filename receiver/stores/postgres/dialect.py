"""What the record's statements say in SQLite's words, said in PostgreSQL's.

A statement is translated once, when it first comes. What both understand is left alone: a rule stands here
only for what they have no common word for, or where a common word would cost SQLite its plan.
"""

import re
from functools import cache

# Advice to SQLite's planner, of which PostgreSQL's has no need: which index to take and, by a plus or the
# order of a CROSS JOIN, which not.
_ADVICE = (
    (re.compile(r" (?:INDEXED BY \w+|NOT INDEXED)"), ""),
    (re.compile(r"(?<=[\s(])\+(?=[a-z])"), ""),
    (re.compile(r"CROSS JOIN (\w+ \w+)(?=\s+ON)"), r"JOIN \1"),
)
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
    # A number behind all others: the sequence must know of it.
    (re.compile(r"\(SELECT max\(number\) \+ 1 FROM \w+\)"), "DEFAULT"),
)

# What a row has under a key of its metadata, which the index has as far as its entries may be long.
_METADATA = re.compile(r"CASE json_type\((\w*\.?metadata), '\$\.\"([^\"]+)\"'\).*? END(?: = (:\w+))?")
INDEXED_CHARACTERS = 256  # an entry may have 2,704 bytes

_LISTS = re.compile(r"json_each\(:(\w+)\)")
_NAMED = re.compile(r"(?<![:\w]):([a-z_]\w*)")


@cache
def translate(sql: str) -> tuple[str, frozenset[str]]:
    """A statement as psycopg takes it, and which of its parameters are lists, in JSON."""
    lists = frozenset(_LISTS.findall(sql))
    sql = _METADATA.sub(_of_metadata, sql.replace("%", "%%"))
    for pattern, words in (*_ADVICE, *_WORDS):
        sql = pattern.sub(words, sql)
    return _NAMED.sub(r"%(\1)s", sql).replace("?", "%s"), lists


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
