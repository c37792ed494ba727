"""A file of providers in TOML: read whole, with every problem told by line and key."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from receiver.declared.keys import KEYS, REQUIRED
from receiver.declared.provider import TASK_ID, Declaration, DeclaredProvider, Status
from receiver.declared.signatures import Scheme, Signature, parse_message
from receiver.errors import Misconfigured
from receiver.lazy_map import LazyMap
from receiver.models import ProviderFacts, ReportState
from receiver.toml_lines import TomlLines, parse_toml, read_toml, shown

# Prefixes of settings that are not a provider's.
_TAKEN = frozenset({"receiver", "aws", "bucketeer"})
_NAME = re.compile(r"[a-z][a-z0-9]{0,31}")
_TABLES = tuple(dict.fromkeys(key.name.partition(".")[0] for key in KEYS if "." in key.name))
_KNOWN = {key.name: key for key in KEYS}
_DEFAULTS = {key.name: key.default for key in KEYS if key.default is not REQUIRED}
_OF_SIGNATURE = [key for key in KEYS if key.name.startswith("signature.")]
_REQUIRED = [key for key in KEYS if key.default is REQUIRED]


def read_file(path: Path, taken: Collection[str] = ()) -> Mapping[str, DeclaredProvider]:
    """The providers of a file by name. Raises Misconfigured with every problem in it.

    All are checked now, and each is made when it is first asked for. ``taken`` are the names that are there
    already.
    """
    return read_text(read_toml(path), str(path), taken)


def read_text(text: str, file: str, taken: Collection[str] = ()) -> Mapping[str, DeclaredProvider]:
    """The same of what stands in the file, which is called ``file``."""
    document = parse_toml(text, file)
    lines = _Lines(text, file)
    found: dict[str, Mapping[str, Any]] = {}
    problems: list[str] = []
    for name, table in document.items():
        try:
            found[name] = _values(name, table, lines, taken)
        except Misconfigured as exc:
            problems += exc.problems
    if not document:
        problems.append(f"{file} has no table: write one as [NAME] for each provider")
    if problems:
        raise Misconfigured(*problems)
    return LazyMap(found, lambda name: DeclaredProvider(_declaration(name, found[name])))


class _Lines(TomlLines):
    """The same by a provider's name, and a key in its table."""

    def told(self, provider: str, key: str, said: str) -> str:
        return self.problem((provider, *key.split(".")) if key else (provider,), said)


def _values(name: str, table: Any, lines: _Lines, taken: Collection[str]) -> Mapping[str, Any]:
    """What the table says, key by key, and the defaults of all others. Raises Misconfigured."""
    if said := _why_no_provider(name, table):
        raise Misconfigured(lines.told(name, "", said))
    values, problems = dict(_DEFAULTS), list[str]()
    for key, given in _given(table):
        if (known := _KNOWN.get(key)) is None:
            problems.append(lines.told(name, key, _why_unknown(name, key, given)))
            continue
        try:
            values[key] = known.parse(given)
        except ValueError:
            problems.append(lines.told(name, key, f"must be {known.words}, not {shown(given)}"))
            values[key] = known.default
    for required in _REQUIRED:
        outer = required.name.partition(".")[0]
        if required.name not in values and isinstance(table.get(outer, {}), dict):
            problems.append(lines.told(name, required.name, f"is missing: {required.words}"))
    if not problems:
        problems = [lines.told(name, key, said) for key, said in _contradictions(name, values, taken)]
    if problems:
        raise Misconfigured(*problems)
    return values


def _why_no_provider(name: str, table: object) -> str | None:
    if isinstance(table, list):
        return f"is no table but a list of them: begin it with [{name}], in single brackets"
    if not isinstance(table, dict):
        return "stands in no table: begin with one, such as [lumen]"
    if not _NAME.fullmatch(name) or name in _TAKEN:
        said = "is no name for a provider: 1 to 32 lower-case letters and digits, a letter first"
        return f"{said}, and none of {', '.join(sorted(_TAKEN))}"
    return None


def _given(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What stands in the table, and by longer keys in its tables."""
    for outer, value in table.items():
        if outer in _TABLES and isinstance(value, dict):
            for inner, given in value.items():
                yield f"{outer}.{inner}", given
        else:
            yield outer, value


def _why_unknown(name: str, key: str, given: object) -> str:
    if key in _TABLES:
        return f"must be a table, not {shown(given)}: begin it with [{name}.{key}]"
    return f"is not a key; {_advice(name, key)}"


def _advice(name: str, key: str) -> str:
    last = key.rpartition(".")[2]
    if last in {"secret", "secrets", "api_key", "token"}:
        variable = "API_KEY" if last in {"api_key", "token"} else "WEBHOOK_SECRET"
        return f"no secret stands in this file: set {name.upper()}_{variable}"
    table = key.rpartition(".")[0]
    beside = [each for each in _KNOWN if each.rpartition(".")[0] == table]
    if near := difflib.get_close_matches(last, [each.rpartition(".")[2] for each in beside], 1, 0.75):
        return f"did you mean {near[0]}?"
    return "there are " + ", ".join(beside if table else [*beside, *_TABLES])


def _contradictions(
    name: str, values: Mapping[str, Any], taken: Collection[str]
) -> Iterator[tuple[str, str]]:
    """What each key by itself may be, and all together may not."""
    if name in taken and not values["replaces"]:
        yield "", "is a provider of this release already: give yours another name, or set replaces = true"
    told: dict[str, str] = {}
    for state in ("progress", "completed", "failed"):
        for word in values[f"states.{state}"]:
            if told.setdefault(word, state) != state:
                yield f"states.{state}", f"has {word!r}, which is in states.{told[word]} already"
    asked = (values["status.path"], *values["status.query"].values())
    if not any(TASK_ID in text for text in asked):
        yield "status.path", f"must have {TASK_ID} in it, or in a value of status.query"
    if values["status.otherwise"] and TASK_ID not in values["status.otherwise"]:
        yield "status.otherwise", f"must have {TASK_ID} in it"
    yield from _contradictions_of_signature(values)


def _contradictions_of_signature(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    scheme, message = values["signature.scheme"], values["signature.message"]
    set_otherwise = [key.name for key in _OF_SIGNATURE if values[key.name] != key.default]
    if scheme is None:
        if set_otherwise:
            yield "signature.scheme", f"is missing: one of {', '.join(Scheme)}"
        return
    allowed = _KEYS_OF_SCHEME[scheme]
    for key in set_otherwise:
        if key.removeprefix("signature.") not in {"scheme", *allowed}:
            yield key, f"is of no use with {scheme}, which has {', '.join(allowed) or 'no other key'}"
    if "header" in allowed and not values["signature.header"]:
        yield "signature.header", "is missing: the name of the header with the signature"
    if values["signature.fields"] and not values["signature.prefix"].endswith("="):
        yield "signature.prefix", "must be the field of the signatures, such as v1=, where fields is true"
    stamp = values["signature.timestamp"]
    if stamp and (message is None or stamp not in message.names):
        yield (
            "signature.timestamp",
            f"must be part of signature.message, as {{{stamp}}}: else it proves nothing",
        )


_KEYS_OF_SCHEME = {
    Scheme.HMAC: (
        "header", "prefix", "encoding", "several", "fields", "message", "key", "secret_prefix", "timestamp",
        "window_seconds",
    ),
    Scheme.ED25519: ("header", "prefix", "encoding", "message", "timestamp", "window_seconds", "keys_url"),
    Scheme.SECRET: ("header", "prefix"),
    Scheme.STANDARD: (),
}  # fmt: skip


def _declaration(name: str, values: Mapping[str, Any]) -> Declaration:
    signature = _signature(values)
    key_header, key_prefix = values["status.auth"]
    return Declaration(
        facts=ProviderFacts(
            name=name,
            title=values["title"] or name.capitalize(),
            base_url=values["base_url"],
            pushes=values["pushes"],
            tells_all=values["tells_all"],
            callback_rules=values["callback_rules"],
            link_life_seconds=values["link_life_seconds"],
            first_poll_seconds=values["poll.first_seconds"],
            poll_spacing_seconds=values["poll.spacing_seconds"],
            polls_per_minute=values["poll.per_minute"],
            key_header=key_header,
            key_prefix=key_prefix,
            **(_facts_of(signature) if signature else {}),
        ),
        id=values["id"],
        state=values["state"],
        states={word: state for state in _STATES for word in values[f"states.{state}"]},
        files=values["files"],
        files_optional=values["files_optional"],
        error=values["error"],
        error_code=values["error_code"],
        error_message=values["error_message"],
        status=Status(
            path=values["status.path"],
            query=values["status.query"],
            headers=values["status.headers"],
            otherwise=values["status.otherwise"],
            most_bytes=values["status.most_bytes"],
        ),
        signature=signature,
        replaces=values["replaces"],
    )


_STATES = (ReportState.PROGRESS, ReportState.COMPLETED, ReportState.FAILED)


def _facts_of(signature: Signature) -> dict[str, Any]:
    return {
        "signing": signature.signing,
        "signs_body": signature.signs_body,
        "keys_url": signature.keys_url,
    }


def _signature(values: Mapping[str, Any]) -> Signature | None:
    own = {key.name.removeprefix("signature."): values[key.name] for key in _OF_SIGNATURE}
    if own["scheme"] is None:
        return None
    if own["scheme"] in {Scheme.HMAC, Scheme.ED25519}:
        own["message"] = own["message"] or parse_message("{body}")
    return Signature(**own)
