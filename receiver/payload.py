"""Reading a provider's JSON without trusting its shape: total functions that never raise.

Only ``decode`` raises. Every other function takes any decoded JSON value and gives back what an adapter
asked for, or nothing. What they return can be stored anywhere: no NUL and no lone surrogate survives.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from receiver.errors import Rejected
from receiver.links import base64_in, inline_link, is_data_url
from receiver.models import RemoteFile, Report, ReportState
from receiver.problem_types import ProblemType

MAX_TASK_ID_CHARS = 512
MAX_TEXT_CHARS = 4000  # of an error message; enough for any that a person wrote
MOST_VALUES = 50_000  # in one document and the texts in it; the longest callback known has about a hundred

# The most files any documented model returns is 15; a report that names more than these is not believed.
MOST_FILES = 100
MOST_CREDITS = 1_000_000  # of one task: more is another unit, or no charge
MAX_CREDITS_CHARS = 24

_BEFORE_VALUES = (b",", b"[", b"{")
_ESCAPED_BEFORE_VALUES = (b"\\u002c", b"\\u002C", b"\\u005b", b"\\u005B", b"\\u007b", b"\\u007B")

_WEB = ("https://", "http://")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_KINDS = {
    "image": ("png", "jpg", "jpeg", "webp", "gif", "avif", "bmp", "svg"),
    "video": ("mp4", "webm", "mov", "mkv", "avi"),
    "audio": ("mp3", "wav", "ogg", "flac", "m4a", "aac", "opus"),
    "model": ("glb", "gltf", "obj", "fbx", "stl", "usdz"),
}
_KIND_OF_EXTENSION = {extension: kind for kind, names in _KINDS.items() for extension in names}


def _short_decimal(text: str) -> Decimal | None:
    """A short one, such as a charge; msgspec can take 8 us to read a long one, and nobody asks for those."""
    if len(text) > MAX_CREDITS_CHARS:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent that not even a decimal number has
        return None


_decoder = msgspec.json.Decoder(float_hook=_short_decimal)


def decode(body: bytes) -> object:
    """The JSON value in ``body``, whatever its Content-Type said. Raises Rejected (NOT_JSON) if it is none.

    What is JSON and yet too wide or too deep to be read at a bounded price reads as null, so that it is
    kept. Fractions read as decimal numbers, long ones as null, and whole numbers that Python refuses to
    convert as their digits.
    """
    try:
        return _read(body)
    # msgspec's own errors and UnicodeDecodeError are ValueErrors; deep nesting is a RecursionError.
    except (ValueError, RecursionError) as exc:
        raise Rejected(ProblemType.NOT_JSON, "The body must be one JSON document in UTF-8.") from exc


def embedded(value: object) -> object:
    """JSON that travels as text inside JSON, decoded; None if it is broken. Anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return _read(value.encode())
    except (ValueError, RecursionError):
        return None


def decode_whole(body: bytes) -> object:
    """The JSON value in ``body`` with its fractions, and with half surrogate pairs as they are.

    For documents of backends, which may hold anything. Raises ValueError, also where there is too much to
    be read at a bounded price, and RecursionError.
    """
    if is_wide(body):
        raise ValueError("more values than are read")
    return json.loads(body.decode(), parse_constant=_refuse)


def storable(value: object) -> object:
    """A JSON value in which every half surrogate pair is a replacement character, as ``text`` has it."""
    match value:
        case str():
            return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
        case dict():
            return {storable(key): storable(inner) for key, inner in value.items()}
        case list():
            return [storable(inner) for inner in value]
        case _:
            return value


def _read(body: bytes) -> object:
    if is_wide(body):
        _check_ends(body)
        return None
    try:
        return _decoder.decode(body)
    except RecursionError:
        _check_ends(body)
        return None
    except ValueError:
        # Half a surrogate pair in escapes and thousands of digits are JSON all the same.
        return json.loads(body.decode(), parse_int=str, parse_float=_short_decimal, parse_constant=_refuse)


def is_wide(body: bytes) -> bool:
    """Whether it has too many values to be read at a bounded price."""
    if len(body) <= MOST_VALUES:
        return False
    values = sum(map(body.count, _BEFORE_VALUES))
    # As escapes they stand in texts, and some of these are read as documents of their own: see ``embedded``.
    if values + body.count(b"\\u00") > MOST_VALUES:
        values += sum(map(body.count, _ESCAPED_BEFORE_VALUES))
    return values > MOST_VALUES


def _check_ends(body: bytes) -> None:
    """Raises ValueError for what cannot be an array or an object, as far as its ends show."""
    inside = body.strip(b" \t\r\n")
    if inside[:1] + inside[-1:] not in {b"[]", b"{}"}:
        raise ValueError("neither an array nor an object")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def mapping(value: object) -> dict[str, object]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> Sequence[object]:
    """The array, or an empty one."""
    return value if isinstance(value, list) else ()


def text(value: object, max_chars: int | None = MAX_TEXT_CHARS) -> str | None:
    """Text that says something, cut to ``max_chars`` (None: whole); None for anything else."""
    if not isinstance(value, str) or not value or value.isspace():
        return None
    cut = value[:max_chars]
    if cut.isprintable():  # the usual way, without a look at every character
        return cut
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", cut)


def code(value: object) -> str | None:
    """An error code as text, whether it came as text or as a whole number."""
    return text(_decimal(value), 200)


def task_id(value: object) -> str | None:
    """An id that can name a task: text, or a whole number in decimal; None for anything else.

    Control characters and surrogates are refused, not repaired: two ids must never become one.
    """
    given = _decimal(value)
    if not isinstance(given, str) or not 0 < len(given) <= MAX_TASK_ID_CHARS:
        return None
    if given.isprintable():  # the usual way, without a look at every character
        return given
    return None if any(unicodedata.category(char) in {"Cc", "Cs"} for char in given) else given


def _decimal(value: object) -> object:
    # Booleans are ints in Python. Very long ints refuse to be printed (ValueError), so they are left alone.
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 1024:
        return str(value)
    return value


def credits_taken(value: object) -> str | None:
    """A provider's own charge for one task, as decimal text; None for what is no amount, or no task's."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    if isinstance(value, int) and value.bit_length() > 64:  # longer ones refuse to be printed
        return None
    amount = _short_decimal(str(value))
    if amount is None or not amount.is_finite() or not 0 <= amount <= MOST_CREDITS:
        return None
    text = f"{abs(amount).normalize():f}"
    return text if len(text) <= MAX_CREDITS_CHARS else None


def remote_file(url: object, kind: object = None) -> RemoteFile | None:
    """The file behind a link; None if there is no link. Whether the link may be followed is not asked here.

    ``kind`` is the provider's word, passed on as it is; without one the link's extension tells.
    """
    whole = text(url, max_chars=None)
    if whole is None:
        return None
    link = trimmed(whole)
    word = text(kind, 50)
    if word is None and is_data_url(link):
        word = _kind_of_media(link[len("data:") : 100]) or "unknown"
    if word is None:
        extension = link.partition("#")[0].partition("?")[0].rpartition(".")[2]
        word = _KIND_OF_EXTENSION.get(extension.lower(), "unknown")
    return RemoteFile(url=link, kind=word)


def base64_file(value: object, kind: str | None = None) -> RemoteFile | None:
    """The file that stands in the document as base64, or as a ``data:`` URL of it; None if none does.

    A link is a link here, too. Whether anything else is base64 is not asked.
    """
    found = text(value, max_chars=None)
    if found is None:
        return None
    link = trimmed(found)
    if _is_link(link):
        return remote_file(link, kind)
    return RemoteFile(url=f"data:;base64,{link}", kind=kind or "unknown")


def trimmed(link: str) -> str:
    """A link without the white space around it (as HTML defines it), which browsers drop."""
    return link.strip(" \t\n\f\r")


def file_of(item: object, kind: str | None = None) -> RemoteFile | None:
    """The file that an item of a list names: a link alone, or ``file_url`` or ``url`` of an object."""
    if isinstance(item, str):
        return remote_file(item, kind)
    fields = mapping(item)
    return remote_file(fields.get("file_url"), kind or fields.get("file_type")) or remote_file(
        fields.get("url"), kind or fields.get("file_type")
    )


def named_files(value: object) -> Iterator[RemoteFile]:
    """The files of a result whose shape depends on the model, in the order of the document.

    They are objects with a ``url``, whose ``content_type`` says the kind, links in a list, and fields whose
    names end in ``url`` or ``urls``. A link anywhere else may be a word of the order.
    """
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, dict):
            own = file_of(node, _kind_of_media(node.get("content_type")))
            if own is not None:
                yield own
            inside = reversed(node.items())
            waiting.extend(inside if own is None else [each for each in inside if each[0] not in _OWN_LINK])
        elif isinstance(node, list):
            waiting.extend([("url", inner) for inner in reversed(node)])
        elif isinstance(node, str) and name.endswith(("url", "urls")) and _is_link(trimmed(node)):
            file = remote_file(node)
            if file is not None:
                yield file


_OWN_LINK = ("url", "file_url")  # as ``file_of`` reads them


def _kind_of_media(media_type: object) -> str | None:
    kind = media_type.partition("/")[0] if isinstance(media_type, str) else ""
    return kind if kind in _KINDS else None


def links(value: object) -> list[str]:
    """Every web link and ``data:`` URL found anywhere in a JSON value, in the order of the document."""
    found: list[str] = []
    waiting = [value]  # a stack of our own: hostile nesting must not reach Python's limit
    while waiting:
        match waiting.pop():
            case str() as leaf if _is_link(link := trimmed(leaf)):
                found.append(link)
            case dict() as node:
                waiting.extend(reversed(node.values()))
            case list() as node:
                waiting.extend(reversed(node))
    return found


def _is_link(link: str) -> bool:
    return link.startswith(_WEB) or is_data_url(link)


def find_base64(document: object, link: str) -> str | None:
    """The base64 that an inline link names, wherever it stands in a document; None where it does not."""
    waiting = [document]
    while waiting:
        match waiting.pop():
            case str() as leaf if inline_link(found := trimmed(leaf)) == link:
                return base64_in(found)
            case str() as leaf if leaf.lstrip().startswith(("{", "[")):
                waiting.append(embedded(leaf))
            case dict() as node:
                waiting.extend(node.values())
            case list() as node:
                waiting.extend(node)
    return None


def is_empty(value: object) -> bool:
    """Whether nothing is there: no value, no text, an array without items, an object without values."""
    if isinstance(value, dict):
        return all(each is None or each in ("", [], {}) for each in value.values())
    return value is None or value in ("", [])


class ErrorWords(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says of a failure."""

    code: str | None = None
    message: str | None = None


_NO_WORDS = ErrorWords()


def error_of(value: object, *, number: object = None, message: object = None) -> ErrorWords:
    """An error as mere text, or as an object with ``code`` or ``type``, and ``message``.

    What a provider says in fields of their own, its ``number`` and ``message``, goes before it.
    """
    if not value and number is None and not message:  # the usual way
        return _NO_WORDS
    error = mapping(value)
    return ErrorWords(
        code=code(number) or code(error.get("code")) or text(error.get("type"), 200),
        message=text(message) or text(error.get("message")) or text(value),
    )


def build_report(
    *,
    task_id: str | None,
    word: str | None,
    states: Mapping[str, ReportState],
    files: Iterable[RemoteFile | None] = (),
    named: Sequence[object] = (),
    is_fileless: Callable[[object], bool] = lambda _: False,
    error: ErrorWords | Callable[[], ErrorWords] = _NO_WORDS,
) -> Report:
    """The Report on a body; ``word`` is the state as the provider spelled it.

    Without a task id or a known state it is UNCLEAR, never a failure. Files count only where the task
    completed, each link once; errors only where it failed, so they may come as a function that finds them.
    ``named`` holds whatever stands where files belong: if something does and no link was understood, the
    report is UNCLEAR, too, for the files may be there; unless any of it ``is_fileless``, since what was sold
    is not a file.
    """
    state = states.get(word or "", ReportState.UNCLEAR)
    found: tuple[RemoteFile, ...] = ()
    has_words = is_unread = False
    if state is ReportState.COMPLETED:
        first: dict[str, RemoteFile] = {}
        for file in files:
            if file is not None:
                first.setdefault(file.url, file)
            if len(first) > MOST_FILES:
                break  # it is not believed, however many more there are
        found = tuple(first.values())
        if not found:
            has_words = any(map(is_fileless, named))
            is_unread = not has_words and not all(map(is_empty, named))
    if note := _not_understood(task_id, word, state, is_unread=is_unread):
        return Report(task_id=task_id, state=ReportState.UNCLEAR, provider_state=word, note=note)
    words = _NO_WORDS
    if state is ReportState.FAILED:
        words = error() if callable(error) else error
    return Report(
        task_id=task_id,
        state=state,
        files=found,
        is_fileless=has_words,
        error_code=words.code,
        error_message=words.message,
        provider_state=word,
    )


def with_credits(report: Report, value: object) -> Report:
    """The same with what stands where its provider names its own charge; failures are charged for by none."""
    if value is None or report.state is not ReportState.COMPLETED:
        return report
    return msgspec.structs.replace(report, credits=credits_taken(value))


def names_no_files(report: Report) -> bool:
    """Whether it is a success without files, though files were sold."""
    return report.state is ReportState.COMPLETED and not report.files and not report.is_fileless


def _not_understood(
    task_id: str | None, word: str | None, state: ReportState, *, is_unread: bool
) -> str | None:
    if task_id is None:
        return "no usable task id"
    if state is ReportState.UNCLEAR:
        return "unknown state" if word else "no state"
    if is_unread:
        return "success without readable result links"
    return None
