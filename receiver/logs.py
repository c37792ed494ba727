"""structlog and the standard library's logging through one pipeline that ends in redaction."""

import atexit
import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from types import NoneType
from typing import BinaryIO, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

FLUSH_SECONDS = 0.1

# Redaction is a safety net: code does not log these in the first place.
_MASK = "***"
_SECRET_KEYS = frozenset(
    {
        "authorization",
        "body",
        "callback_url",
        "prompt",
        "signature",
        "token",
        "secret",
        "url",
        "password",
        "api_key",
    }
)
_SECRET_ENDINGS = (
    "_token",
    "_tokens",
    "_secret",
    "_secrets",
    "_signature",
    "_prompt",
    "_password",
    "_api_key",
)
_SECRET_TEXT = re.compile(
    r"(/callbacks/[^/\s]+/)[^\s\"'?#]+"
    r"|(://)[^\s\"'<>]+"
    r"|([Bb]earer )\S+"
    r"|((?:signature|token|secret|key)=)[^\s&\"']+"
    r"|(\b[sp]\.)(?:[\w-]+\.)?[\w-]{32}(?![\w-])"  # a callback token on its own
)
# Every one of these patterns needs one of these, and JSON leaves them as they are.
_SUSPICIOUS = ("/", "=", "s.", "p.", "earer ")
_PLAIN = frozenset({str, int, float, bool, NoneType})
_OURS = frozenset({"timestamp", "level"})  # made here: nothing to hide
_LEVELS = {"warn": "warning", "exception": "error"}  # structlog's methods that are not their level's name
_format_exception = structlog.processors.format_exc_info
_DEPTH = 6  # deeper than anything we log; bounds the work on anything else

# What the server says at every start and stop is said by a line of ours.
_CHATTY = ("uvicorn.error",)


def configure_logs(level: str, log_format: str, stream: TextIO) -> None:
    """Send every log line of this process to ``stream``.

    ``level`` is debug, info, warning or error. ``log_format`` is json (an object per line), text, or
    auto: text where the stream is a terminal. Only a terminal gets colours.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    as_text = log_format == "text" or (log_format == "auto" and stream.isatty())
    structlog.configure(
        processors=[*_text_renderers(colours=stream.isatty())] if as_text else [_render_json],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Lines(stream.buffer),
        cache_logger_on_first_use=True,
    )
    _forward_standard_library(number)


class _Lines:
    """Writes lines through the stream's own buffer: good news within a moment, bad news at once.

    A system call for every callback would cost as much as verifying it. The record is in the database;
    of the log a SIGKILL may take the last tenth of a second. What cannot be written, as on a full disk, is
    dropped: it must not hold up what it tells of.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._due = threading.Event()
        atexit.register(self._flush)
        threading.Thread(target=self._flush_when_due, name="receiver-log", daemon=True).start()

    def __call__(self, *_args: object) -> "_Lines":
        return self  # structlog asks its factory for a logger; one serves all

    def info(self, line: str | bytes) -> None:
        self._write(line)
        if not self._due.is_set():
            self._due.set()

    def error(self, line: str | bytes) -> None:
        self._write(line)
        self._flush()

    debug = info
    warning = critical = exception = error

    def _write(self, line: str | bytes) -> None:
        encoded = line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")
        with suppress(ValueError, OSError):
            self._stream.write(encoded + b"\n")

    def _flush_when_due(self) -> None:
        while True:
            self._due.wait()
            time.sleep(FLUSH_SECONDS)
            self._due.clear()
            self._flush()

    def _flush(self) -> None:
        with suppress(ValueError, OSError):  # closed, full, or nobody reads any more
            self._stream.flush()


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask what is named like a secret, and what looks like a link or a token in any text."""
    return {
        key: value if key in _OURS or value is None else _masked(key, value, _DEPTH)
        for key, value in event.items()
    }


def _masked(key: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, int | float):
        return value
    if depth == 0 or _is_secret(key):
        return _MASK
    if isinstance(value, str):
        return _masked_text(value)
    if isinstance(value, Mapping):
        return {str(name): _masked(str(name), inner, depth - 1) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(key, inner, depth - 1) for inner in value]
    return _masked_text(str(value))


@lru_cache(1024)  # a program logs few different names
def _is_secret(key: str) -> bool:
    return key in _SECRET_KEYS or key.endswith(_SECRET_ENDINGS)


def _masked_text(text: str) -> str:
    return _SECRET_TEXT.sub(_mask_match, text)


def _mask_match(match: re.Match[str]) -> str:
    return (match[match.lastindex] if match.lastindex else "") + _MASK


def _render_json(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    """Time, level and event first."""
    if "exc_info" in event:
        event = _format_exception(logger, method, event)
    head: EventDict = {"timestamp": _timestamp(), "level": _LEVELS.get(method, method), "event": None}
    # Every callback pays for a line: where one look at the whole shows nothing to hide, the parts need none.
    if _PLAIN.issuperset(map(type, event.values())) and not _names_secret(tuple(event)):
        line = _encode({**head, **event})
        if not any(map(line.decode().__contains__, _SUSPICIOUS)):
            return line
    return _encode({**head, **redact(logger, method, event)})


def _encode(line: EventDict) -> bytes:
    try:
        return msgspec.json.encode(line)
    except (ValueError, OverflowError):  # a lone surrogate, a number beyond 64 bits
        return json.dumps(line).encode()


@lru_cache(1024)  # a program logs few different kinds of line
def _names_secret(keys: tuple[str, ...]) -> bool:
    return any(map(_is_secret, keys))


def _timestamp() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds // 1000:06d}Z"


@lru_cache(1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _text_renderers(*, colours: bool) -> tuple[Processor, ...]:
    pretty = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return _format_exception, structlog.processors.add_log_level, stamp, redact, _escape_controls, pretty


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A provider's words must not move the cursor or pass for a line of ours; JSON escapes by itself."""
    return {
        key: _escaped(value, keep="\n" if key == "exception" else "") if isinstance(value, str) else value
        for key, value in event.items()
    }


def _escaped(text: str, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def _forward_standard_library(level: int) -> None:
    root = logging.getLogger()
    others = [handler for handler in root.handlers if not isinstance(handler, _Forward)]
    root.handlers = [*others, _Forward()]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(level if level < logging.INFO else max(level, logging.WARNING))


class _Forward(logging.Handler):
    """Hands the standard library's records (uvicorn's, asyncio's) to the same pipeline."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL),
                record.getMessage(),
                logger=record.name,
                **({"exc_info": record.exc_info} if record.exc_info else {}),
            )
        except Exception:  # noqa: BLE001 - logging must not break what it tells of
            self.handleError(record)
