"""structlog and the standard library's logging through one pipeline that ends in redaction."""

import atexit
import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
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
_OURS = frozenset({"timestamp", "level"})  # made here: nothing to hide
_LEVELS = {"warn": "warning", "exception": "error"}  # structlog's methods that are not their level's name
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
        processors=[
            structlog.processors.format_exc_info,
            *(_text_renderers(colours=stream.isatty()) if as_text else (_render_json,)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=(structlog.WriteLoggerFactory(stream) if as_text else _Lines(stream.buffer)),
        cache_logger_on_first_use=True,
    )
    _forward_standard_library(number)


class _Lines:
    """Writes lines through the stream's own buffer: good news within a moment, bad news at once.

    A system call for every callback would cost as much as verifying it. The record is in the database;
    of the log a SIGKILL may take the last tenth of a second.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._due = threading.Event()
        atexit.register(self._flush)
        threading.Thread(target=self._flush_when_due, name="receiver-log", daemon=True).start()

    def __call__(self, *_args: object) -> "_Lines":
        return self  # structlog asks its factory for a logger; one serves all

    def info(self, line: bytes) -> None:
        self._stream.write(line + b"\n")
        if not self._due.is_set():
            self._due.set()

    def error(self, line: bytes) -> None:
        self._stream.write(line + b"\n")
        self._flush()

    debug = info
    warning = critical = exception = error

    def _flush_when_due(self) -> None:
        while True:
            self._due.wait()
            time.sleep(FLUSH_SECONDS)
            self._due.clear()
            self._flush()

    def _flush(self) -> None:
        with suppress(ValueError, OSError):  # closed, or nobody reads any more
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


@lru_cache(1024)  # and often the same words under them
def _masked_text(text: str) -> str:
    # Every pattern needs one of these, and most values have none: it halves the price of a line.
    if "/" in text or "." in text or "=" in text or "earer " in text:
        return _SECRET_TEXT.sub(_mask_match, text)
    return text


def _mask_match(match: re.Match[str]) -> str:
    return (match[match.lastindex] if match.lastindex else "") + _MASK


def _render_json(_logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    """Time, level and event first. In one pass, for every callback pays for it."""
    line: EventDict = {"timestamp": _timestamp(), "level": _LEVELS.get(method, method), "event": None}
    for key, value in event.items():
        if type(value) is str:
            line[key] = _MASK if _is_secret(key) else _masked_text(value)
        else:
            line[key] = _masked(key, value, _DEPTH)
    try:
        return msgspec.json.encode(line)
    except (ValueError, OverflowError):  # a lone surrogate, a number beyond 64 bits
        return json.dumps(line).encode()


def _timestamp() -> str:
    return datetime.now(UTC).isoformat()[:-6] + "Z"


def _text_renderers(*, colours: bool) -> tuple[Processor, ...]:
    pretty = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return structlog.processors.add_log_level, stamp, redact, _escape_controls, pretty


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
