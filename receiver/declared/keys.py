"""Every key of a provider's table: what it accepts, in words and as a parser, and what it means."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from receiver.declared import json_paths
from receiver.declared.json_paths import Path, parse_path
from receiver.declared.provider import MODEL, MOST_WORD_CHARS, TASK_ID, FilePlace, Find
from receiver.declared.signatures import Encoding, Scheme, parse_message
from receiver.models import Signing
from receiver.signing import WINDOW_SECONDS

T = TypeVar("T")

DAY_SECONDS = 86_400
REQUIRED = object()

_PRINTABLE = re.compile(r"[!-~]+(?: [!-~]+)*")
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")


class Key(msgspec.Struct, frozen=True):
    """``parse`` raises ValueError for anything but what ``words`` says; ``name`` has its table before it."""

    name: str
    words: str
    parse: Callable[[Any], Any]
    default: Any
    help: str
    shown: str = ""  # what the manual says of the default


def _of(kind: type[T], value: object) -> T:
    if type(value) is not kind:  # a boolean is no number here
        raise ValueError(value)
    return value


def _text(value: object) -> str:
    text = _of(str, value)
    if not text.strip() or not text.isprintable() or len(text) > 500:
        raise ValueError(value)
    return text


def _title(value: object) -> str:
    title = _text(value)
    if not title[0].isalpha():
        raise ValueError(value)
    return title


def _plain(value: object) -> str:
    """Text that a header carries."""
    text = _of(str, value)
    if not _PRINTABLE.fullmatch(text.strip(" ")):
        raise ValueError(value)
    return text


def _words(value: object) -> tuple[str, ...]:
    words = [_text(each) for each in ([value] if isinstance(value, str) else _of(list, value))]
    if any(len(word) > MOST_WORD_CHARS for word in words):
        raise ValueError(value)
    return tuple(words)


def _some_words(value: object) -> tuple[str, ...]:
    if not (words := _words(value)):
        raise ValueError(value)
    return words


def _flag(value: object) -> bool:
    return _of(bool, value)


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        number = _of(int, value)
        if not low <= number <= high:
            raise ValueError(value)
        return number

    return parse


def _one_of(choices: Mapping[str, T]) -> Callable[[object], T]:
    def parse(value: object) -> T:
        word = _of(str, value)
        if word not in choices:
            raise ValueError(value)
        return choices[word]

    return parse


def _https(value: object) -> str:
    text = _of(str, value)
    parts = urlsplit(text)
    _ = parts.port  # raises ValueError for a port that is none
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        raise ValueError(value)
    if parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", text):
        raise ValueError(value)
    return text.rstrip("/")


def _paths(value: object) -> tuple[Path, ...]:
    paths = [value] if isinstance(value, str) else _of(list, value)
    if not paths:
        raise ValueError(value)
    return tuple(parse_path(_of(str, path)) for path in paths)


def _files(value: object) -> tuple[FilePlace, ...]:
    places = value if isinstance(value, list) else [value]
    if not places:
        raise ValueError(value)
    return tuple(map(_place, places))


def _place(value: object) -> FilePlace:
    if isinstance(value, str):
        return FilePlace(at=parse_path(value))
    table = _of(dict, value)
    if "at" not in table or not table.keys() <= {"at", "find", "kind"}:
        raise ValueError(value)
    return FilePlace(
        at=parse_path(_of(str, table["at"])),
        find=Find(table.get("find", Find.LISTED)),
        kind=_text(table["kind"]) if "kind" in table else None,
    )


def _path_of_url(value: object) -> str:
    text = _of(str, value)
    if not re.fullmatch(r"/[!-~]*", text) or re.search(r"[?#\\]|//|/\.", text):
        raise ValueError(value)
    return _with_places(text)


def _with_places(text: str) -> str:
    if any(each not in {TASK_ID, MODEL} for each in _BRACES.findall(text)):
        raise ValueError(text)
    return text


def _query(value: object) -> dict[str, str]:
    return {_plain(name): _with_places(_plain(text)) for name, text in _of(dict, value).items()}


def _headers(value: object) -> dict[str, str]:
    return {_header(name): _plain(text) for name, text in _of(dict, value).items()}


def _header(value: object) -> str:
    text = _of(str, value)
    if not _HEADER.fullmatch(text):
        raise ValueError(value)
    return text


def _lower_header(value: object) -> str:
    return _header(value).lower()


def _auth(value: object) -> tuple[str, str]:
    """The header of our key, and what stands before the key in it."""
    header, colon, rest = _of(str, value).partition(": ")
    if not colon or not rest.endswith("{key}") or "{" in rest.removesuffix("{key}"):
        raise ValueError(value)
    prefix = rest.removesuffix("{key}")
    return _header(header), _plain(prefix) if prefix else ""


_PATHS = f"{json_paths.WORDS}, or a list of them, of which the first that leads somewhere counts"
_STATE_WORDS = "a list of the provider's words"
_HEADER_WORDS = "the name of a header"

KEYS = (
    Key("title", "text that begins with a letter", _title, None, "as people write it", "the table's name"),
    Key(
        "base_url",
        "an https URL without user, password, query and fragment",
        _https,
        REQUIRED,
        "where its API is",
    ),
    Key("pushes", "true or false", _flag, True, "whether it sends callbacks; else its tasks are polled only"),
    Key(
        "callback_rules",
        "text",
        _text,
        "Not documented.",
        "what it asks of a callback URL, and how it retries",
    ),
    Key(
        "link_life_seconds",
        "a whole number from 60 to 2592000",
        _whole(60, 30 * DAY_SECONDS),
        REQUIRED,
        "how long its links live: files are fetched before",
    ),
    Key("id", _PATHS, _paths, REQUIRED, "the task's id"),
    Key("state", _PATHS, _paths, REQUIRED, "the task's state: text, a number or a boolean"),
    Key("states.progress", _STATE_WORDS, _words, (), "words of a task that goes on", "none"),
    Key("states.completed", _STATE_WORDS, _some_words, REQUIRED, "words of one that is done"),
    Key(
        "states.failed",
        _STATE_WORDS,
        _words,
        (),
        "words of one that failed; any other word ends nothing",
        "none",
    ),
    Key(
        "files",
        '"PATH", {at = "PATH", find = "listed|base64|named|links", kind = "image"}, or a list of these',
        _files,
        REQUIRED,
        "where the files are. `listed`: a link, an object with `url` or `file_url`, or an array of these;"
        " `base64`: the file itself as base64, or an array of these;"
        " `named`: fields named `…url` or `…urls`, however deep; `links`: every link, however deep",
    ),
    Key(
        "files_optional",
        "true or false",
        _flag,
        False,
        "whether a task may be done without files; else that is kept as `unrecognised`",
    ),
    Key(
        "tells_all",
        "true or false",
        _flag,
        True,
        "whether a callback has the whole result; else, as with one for each image, its end counts once the"
        " provider is asked",
    ),
    Key("error", _PATHS, _paths, (), "what went wrong: text, or an object with `code` and `message`", "none"),
    Key("error_code", _PATHS, _paths, (), "the code of a failure, where it stands elsewhere", "none"),
    Key("error_message", _PATHS, _paths, (), "the words of a failure, where they stand elsewhere", "none"),
    Key(
        "status.path",
        "a path that begins with /, with {task_id} or {model} in it",
        _path_of_url,
        REQUIRED,
        "where a task is asked about, below `base_url`",
    ),
    Key(
        "status.query",
        "a table of texts",
        _query,
        {},
        "the query; values may have {task_id} or {model}",
        "none",
    ),
    Key("status.headers", "a table of headers", _headers, {}, "headers besides our key", "none"),
    Key(
        "status.otherwise",
        "a path that begins with /, with {task_id} or {model} in it",
        _path_of_url,
        None,
        "where to ask if no such task is known there (404)",
        "none",
    ),
    Key(
        "status.most_bytes",
        "a whole number from 1 to 67108864",
        _whole(1, 2**26),
        0,
        "how large an answer may be that has files in it",
        "2 MiB",
    ),
    Key(
        "status.auth",
        'text such as "x-key: {key}", with {key} at its end',
        _auth,
        ("Authorization", "Bearer "),
        "how our key goes there",
        "`Authorization: Bearer {key}`",
    ),
    Key(
        "poll.first_seconds",
        "a whole number from 1 to 86400",
        _whole(1, DAY_SECONDS),
        300,
        "how long after its submission a task is asked about",
    ),
    Key(
        "poll.spacing_seconds",
        "a whole number from 1 to 86400",
        _whole(1, DAY_SECONDS),
        15,
        "and how long after that again",
    ),
    Key(
        "poll.per_minute",
        "a whole number from 1 to 6000",
        _whole(1, 6000),
        30,
        "how often it is asked at most, about all tasks together",
    ),
    Key(
        "signature.scheme",
        "one of " + ", ".join(Scheme),
        _one_of({each.value: each for each in Scheme}),
        None,
        "how callbacks are signed; `secret` is one that is sent in clear",
        "unsigned",
    ),
    Key("signature.header", _HEADER_WORDS, _lower_header, "", "the header with the signature", "none"),
    Key(
        "signature.prefix", "text that a header carries", _plain, "", "what stands before it there", "nothing"
    ),
    Key(
        "signature.encoding",
        "one of " + ", ".join(Encoding),
        _one_of({each.value: each for each in Encoding}),
        Encoding.HEX,
        "how its bytes are written",
    ),
    Key(
        "signature.several",
        "true or false",
        _flag,
        False,
        "whether the header is a list by blanks; only those with the prefix count",
    ),
    Key(
        "signature.fields",
        "true or false",
        _flag,
        False,
        "whether the header is a list of fields by commas or semicolons, such as `t=1758798328,v1=5257a8…`:"
        " then `prefix` is `v1=`, of which there may be several, and names in `message` and `timestamp` are"
        " fields of it",
    ),
    Key(
        "signature.message",
        "text with {body}, {body_sha256} or {a-header} in it",
        lambda value: parse_message(_of(str, value)),
        None,
        "what is signed: the body, its SHA-256 in lower-case hexadecimal, headers",
        "`{body}`",
    ),
    Key(
        "signature.key",
        "one of text, base64",
        _one_of({"text": Signing.TEXT, "base64": Signing.BASE64}),
        Signing.TEXT,
        "whether an HMAC's secret is its key, or the base64 of it",
    ),
    Key(
        "signature.secret_prefix",
        "text that a header carries",
        _plain,
        "",
        "what stands before a secret and is no part of its key",
        "nothing",
    ),
    Key(
        "signature.timestamp",
        _HEADER_WORDS,
        _lower_header,
        "",
        "the header with the time in Unix seconds; it must be part of `message`",
        "none",
    ),
    Key(
        "signature.window_seconds",
        "a whole number from 1 to 3600",
        _whole(1, 3600),
        WINDOW_SECONDS,
        "how far off that time may be",
    ),
    Key(
        "signature.keys_url",
        "an https URL without user, password, query and fragment",
        _https,
        None,
        "where it says that its public keys are; they are fetched from `<PROVIDER>_WEBHOOK_KEYS_URL`",
        "none",
    ),
    Key(
        "replaces",
        "true or false",
        _flag,
        False,
        "whether this table stands in for the provider of its name that this release has",
    ),
)


def keys_table() -> str:
    """Every key as a Markdown table, for the manual."""
    rows = [f"| `{key.name}` | {_default(key)} | {_cell(key.words)} | {_cell(key.help)} |" for key in KEYS]
    return "\n".join(["| key | default | accepts | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _default(key: Key) -> str:
    if key.default is REQUIRED:
        return "**must be set**"
    return key.shown or f"`{str(key.default).lower() if isinstance(key.default, bool) else key.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
