"""A catalog's file: read whole, with every problem told by line and key, and what to do about it."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from receiver.errors import Misconfigured
from receiver.gateway.catalog.entries import (
    BilledBy,
    Catalog,
    Fields,
    ModelEntry,
    PriceRow,
    Refunds,
    Rule,
)
from receiver.models import RuleClass
from receiver.toml_lines import TomlLines, parse_toml, read_toml, shown
from receiver.usd import MICROS

Word = TypeVar("Word", bound=StrEnum)

_HERE = Path(__file__).parent
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
OLDER_TODO = (
    "compare it with what `receiver gateway catalog --file PROVIDER` prints, and set its as_of to the day of"
    " its prices"
)
MOST_MICROS = 1_000_000_000  # no image costs a thousand dollars: it is a wrong unit

_KEYS = (
    "as_of", "source", "credit_usd", "tiers", "wide", "refunds", "fields", "rules", "models",
)  # fmt: skip
_OF_MODEL = ("billed_by", "rules", "credits", "usd")
_FIELDS = Fields.__struct_fields__
_FLOOR = "from"

# Which limits a rule has; those with a ? may be left out.
RULES: Mapping[str, tuple[str, ...]] = {
    "prompt-missing": (),
    "prompt-long": ("most",),
    "quality": ("one_of", "default?"),
    "size": ("one_of",),
    "resolution": (),
    "auto-is-1k": (),
    "not-true-4k": (),
    "4k-needs-wide": (),
    "custom-form": (),
    "custom-needs-2k": (),
    "custom-16": (),
    "custom-edge": ("most",),
    "custom-ratio": ("most",),
    "custom-pixels": ("least", "most"),
    "3840-needs-4k": (),
    "refs-missing": ("mode?",),
    "refs-not-taken": ("mode?",),
    "refs-many": ("most",),
    "refs-url": (),
    "n": ("least?", "most?"),
}


def shipped_providers() -> list[str]:
    """The providers of which this release has a catalog."""
    return sorted(path.stem for path in _HERE.glob("*.toml"))


def shipped_path(provider: str) -> Path:
    return _HERE / f"{provider}.toml"


def load_catalogs(own: Path | None) -> dict[str, Catalog]:
    """Our own catalogs, and in place of some of them those of an operator's file or folder.

    Raises Misconfigured with every problem in it.
    """
    found = {name: read_catalog(shipped_path(name), name) for name in shipped_providers()}
    if own is None:
        return found
    problems: list[str] = []
    for path in _own_files(own):
        try:
            found[path.stem] = _own(path, found)
        except Misconfigured as exc:
            problems += exc.problems
    if problems:
        raise Misconfigured(*problems)
    return found


def check_catalogs(own: Path) -> list[str]:
    """What is wrong with an operator's file or folder."""
    try:
        load_catalogs(own)
    except Misconfigured as exc:
        return [*exc.problems]
    return []


def older_catalogs(catalogs: Mapping[str, Catalog]) -> list[str]:
    """One sentence for each catalog of the operator's that is older than the one it replaces."""
    said = []
    for name, catalog in catalogs.items():
        if catalog.file:
            shipped = read_catalog(shipped_path(name), name)
            if catalog.as_of < shipped.as_of:
                said.append(
                    f"{catalog.file} is of {catalog.as_of}, older than this release's own catalog of {name},"
                    f" which is of {shipped.as_of}"
                )
    return said


def read_catalog(path: Path, provider: str, file: str = "") -> Catalog:
    """One file. Raises Misconfigured with every problem in it; ``file`` is where it is said to stand."""
    text = read_toml(path)
    return _Reader(TomlLines(text, str(path))).catalog(parse_toml(text, str(path)), provider, file)


def _own_files(own: Path) -> Sequence[Path]:
    if not own.is_dir():
        return [own]
    files = sorted(own.glob("*.toml"))
    if not files:
        wanted = ", ".join(f"{name}.toml" for name in shipped_providers())
        raise Misconfigured(
            f"RECEIVER_GATEWAY_CATALOG: {own} has none of {wanted}; `receiver gateway catalog --file"
            " PROVIDER` prints one to begin with"
        )
    return files


def _own(path: Path, shipped: Mapping[str, Catalog]) -> Catalog:
    if path.stem not in shipped or path.suffix != ".toml":
        names = ", ".join(f"{name}.toml" for name in shipped_providers())
        raise Misconfigured(f"{path} is no catalog's name: it is one of {names}, and replaces that one")
    catalog = read_catalog(path, path.stem, str(path))
    missing = [name for name in shipped[path.stem].models if name not in catalog.models]
    if missing:
        lines = TomlLines(read_toml(path), str(path))
        said = (
            "is missing, and would be neither checked nor priced any more: copy it from"
            f" `receiver gateway catalog --file {path.stem}`"
        )
        raise Misconfigured(*(lines.problem(("models", name), said) for name in missing))
    return catalog


class _Reader:
    """Reads one file, and gathers what is wrong with it."""

    def __init__(self, lines: TomlLines) -> None:
        self._lines = lines
        self._problems: list[str] = []

    def catalog(self, document: dict[str, Any], provider: str, file: str) -> Catalog:
        self._check_keys(document, _KEYS, ())
        tiers = self._texts(document, ("tiers",), exactly=3)
        credit = self._money(document["credit_usd"], ("credit_usd",)) if "credit_usd" in document else None
        common = self._rules(document, ("rules",))
        read: dict[str, Any] = {
            "provider": provider,
            "as_of": self._day(document),
            "source": self._texts(document, ("source",)),
            "tiers": tiers,
            "wide": self._texts(document, ("wide",)),
            "refunds": self._refunds(document),
            "fields": self._fields(document),
            "credit_usd": credit,
            "models": self._models(document, common, tiers, credit),
            "file": file,
        }
        if self._problems:
            raise Misconfigured(*self._problems)
        return Catalog(**read)

    def _models(
        self,
        document: dict[str, Any],
        common: Mapping[str, Rule],
        tiers: tuple[str, ...],
        credit: Decimal | None,
    ) -> dict[str, ModelEntry]:
        models = {}
        tables = self._table(document, ("models",))
        if not tables:
            self._add(("models",), "has no model: each has a table such as [models.gpt-image-2]")
        for name in tables:
            key = ("models", name)
            table = self._table(tables, key)
            self._check_keys(table, _OF_MODEL, key)
            rules = {**common, **(self._rules(table, (*key, "rules")) if "rules" in table else {})}
            if {"credits", "usd"} <= table.keys():
                self._add((*key, "usd"), "stands beside credits: a model's prices are in one of the two")
            unit = "usd" if "usd" in table else "credits"
            rows = self._rows(table, (*key, unit), rules, tiers, credit) if unit in table else []
            models[name] = ModelEntry(
                name=name,
                rules=rules,
                billed_by=self._word(table, (*key, "billed_by"), BilledBy),
                rows=tuple(rows),
                is_floor=_FLOOR in table.get(unit, {}),
            )
        return models

    # --- prices ---------------------------------------------------------------------------------------

    def _rows(
        self,
        table: dict[str, Any],
        key: tuple[str, ...],
        rules: Mapping[str, Rule],
        tiers: tuple[str, ...],
        credit: Decimal | None,
    ) -> Iterator[PriceRow]:
        is_credits = key[-1] == "credits"
        rows = self._table(table, key)
        if is_credits and credit is None:
            self._add(key, 'needs credit_usd at the top: what a credit costs, such as "0.005"')
            return
        if _FLOOR in rows and len(rows) > 1:
            self._add((*key, _FLOOR), "stands for all orders: leave the other prices out, or this one")
        for words, value in rows.items():
            place = (*key, words)
            amount = self._money(value, place)
            micros = amount * MICROS * (credit if is_credits and credit is not None else 1)
            if micros != int(micros) or micros > MOST_MICROS:
                self._add(place, "must come to whole millionths of a dollar, and to 1,000 dollars at most")
            where = {} if words == _FLOOR else self._where(words, place, rules, tiers)
            yield PriceRow(micros=int(micros), credits=amount if is_credits else None, **where)

    def _where(
        self, words: str, key: tuple[str, ...], rules: Mapping[str, Rule], tiers: tuple[str, ...]
    ) -> dict[str, Any]:
        """``high 16:9 4k``: a quality, a size and a tier, each where it matters."""
        found: dict[str, Any] = {}
        sizes, qualities = (rules[each].one_of if each in rules else () for each in ("size", "quality"))
        for word in words.split():
            if word in tiers and "tier" not in found:
                found["tier"] = tiers.index(word)
            elif word in qualities and "quality" not in found:
                found["quality"] = word
            elif word in sizes and "size" not in found:
                found["size"] = word
            else:
                known = ", ".join([*qualities, *sizes, *tiers])
                self._add(key, f"must be of a quality, a size and a tier, each once: some of {known}")
                break
        return found

    def _money(self, value: object, key: tuple[str, ...]) -> Decimal:
        """Whole numbers, and decimal ones in quotes: a float is not what stands there."""
        is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if is_whole or (isinstance(value, str) and _DECIMAL.fullmatch(value)):
            return Decimal(str(value))
        self._add(key, f'must be a whole number, or a decimal one in quotes ("0.02"), not {shown(value)}')
        return Decimal(0)

    # --- rules ----------------------------------------------------------------------------------------

    def _rules(self, document: dict[str, Any], key: tuple[str, ...]) -> dict[str, Rule]:
        rules = {}
        tables = self._table(document, key)
        self._check_keys(tables, RULES, key)
        for name in [each for each in RULES if each in tables]:
            place = (*key, name)
            limits = [each.removesuffix("?") for each in RULES[name]]
            table = self._table(tables, place)
            self._check_keys(table, ("class", *limits), place)
            needed = [each for each in RULES[name] if not each.endswith("?")]
            for missing in [each for each in needed if each not in table]:
                self._add(place, f"needs {missing}")
            rules[name] = self._rule(name, table, place)
        return rules

    def _rule(self, name: str, table: dict[str, Any], key: tuple[str, ...]) -> Rule:
        limits: dict[str, Any] = {}
        for limit in ("least", "most"):
            if limit in table:
                limits[limit] = self._whole(table[limit], (*key, limit))
        for word in ("default", "mode"):
            if word in table:
                limits[word] = self._text(table[word], (*key, word))
        if "one_of" in table:
            limits["one_of"] = self._texts(table, (*key, "one_of"), may_be_none=True)
            if "default" in limits and limits["default"] not in limits["one_of"]:
                self._add((*key, "default"), "must be one of one_of")
        return Rule(name=name, rule_class=self._word(table, (*key, "class"), RuleClass), **limits)

    # --- the rest -------------------------------------------------------------------------------------

    def _day(self, document: dict[str, Any]) -> date:
        value = document.get("as_of")
        try:
            return date.fromisoformat(value if isinstance(value, str) else "")
        except ValueError:
            given = "" if value is None else f", not {shown(value)}"
            self._add(("as_of",), f'must be the day of its prices, such as "2026-11-28"{given}')
            return date.min

    def _refunds(self, document: dict[str, Any]) -> Refunds:
        table = self._table(document, ("refunds",))
        self._check_keys(table, ("policy",), ("refunds",))
        return self._word(table, ("refunds", "policy"), Refunds)

    def _fields(self, document: dict[str, Any]) -> Fields:
        table = self._table(document, ("fields",))
        self._check_keys(table, _FIELDS, ("fields",))
        if "prompt" not in table:
            self._add(("fields",), 'needs prompt: where an order has it, such as "input.prompt"')
        places = {
            name: tuple(self._text(table[name], ("fields", name)).split("."))
            for name in _FIELDS
            if name in table
        }
        return Fields(**{"prompt": (), **places})

    def _table(self, document: dict[str, Any], key: tuple[str, ...]) -> dict[str, Any]:
        value = document.get(key[-1])
        if isinstance(value, dict):
            return value
        self._add(key, "is missing: a table" if value is None else f"must be a table, not {shown(value)}")
        return {}

    def _texts(
        self,
        document: dict[str, Any],
        key: tuple[str, ...],
        *,
        exactly: int | None = None,
        may_be_none: bool = False,
    ) -> tuple[str, ...]:
        value = document.get(key[-1])
        is_right = isinstance(value, list) and all(isinstance(each, str) and each for each in value)
        if not is_right or not (value or may_be_none) or len(value or ()) != (exactly or len(value or ())):
            many = f"{exactly} texts" if exactly else "texts"
            self._add(key, f"must be a list of {many}" + ("" if value is None else f", not {shown(value)}"))
            return ("",) * (exactly or 0)
        return tuple(value or ())

    def _text(self, value: object, key: tuple[str, ...]) -> str:
        if isinstance(value, str) and value:
            return value
        self._add(key, f"must be a text, not {shown(value)}")
        return ""

    def _whole(self, value: object, key: tuple[str, ...]) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        self._add(key, f"must be a whole number, not {shown(value)}")
        return 0

    def _word(self, table: dict[str, Any], key: tuple[str, ...], words: type[Word]) -> Word:
        value = table.get(key[-1])
        if value in list(words):
            return words(value)
        given = "is missing" if value is None else f"is {shown(value)}"
        self._add(key, f"{given}: it is one of {', '.join(words)}")
        return next(iter(words))

    def _check_keys(self, table: dict[str, Any], known: Iterable[str], key: tuple[str, ...]) -> None:
        names = [*known]
        for name in table:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1, 0.7)
                advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
                self._add((*key, name), f"is not a key; {advice}")

    def _add(self, key: tuple[str, ...], said: str) -> None:
        self._problems.append(self._lines.problem(key, said))
