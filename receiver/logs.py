"""structlog and the standard library's logging through one pipeline that ends in redaction."""

import json
import logging
import re
from collections.abc import Mapping
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

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
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            *(_text_renderers(colours=stream.isatty()) if as_text else (_render_json,)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=(
            structlog.WriteLoggerFactory(stream) if as_text else structlog.BytesLoggerFactory(stream.buffer)
        ),
        cache_logger_on_first_use=True,
    )
    _forward_standard_library(number)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask what is named like a secret, and what looks like a link or a token in any text."""
    return {
        key: value if key in _OURS or value is None else _masked(key, value, _DEPTH)
        for key, value in event.items()
    }


def _masked(key: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, int | float):
        return value
    if key in _SECRET_KEYS or key.endswith(_SECRET_ENDINGS) or depth == 0:
        return _MASK
    if isinstance(value, str):
        return _masked_text(value)
    if isinstance(value, Mapping):
        return {str(name): _masked(str(name), inner, depth - 1) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(key, inner, depth - 1) for inner in value]
    return _masked_text(str(value))


def _masked_text(text: str) -> str:
    # Every pattern needs one of these, and most values have none: it halves the price of a line.
    if "/" in text or "." in text or "=" in text or "earer " in text:
        return _SECRET_TEXT.sub(_mask_match, text)
    return text


def _mask_match(match: re.Match[str]) -> str:
    return (match[match.lastindex] if match.lastindex else "") + _MASK


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    line = {**{name: event.pop(name) for name in ("timestamp", "level", "event")}, **event}
    try:
        return msgspec.json.encode(line)
    except (ValueError, OverflowError):  # a lone surrogate, a number beyond 64 bits
        return json.dumps(line).encode()


def _text_renderers(*, colours: bool) -> tuple[Processor, ...]:
    pretty = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    return _escape_controls, pretty


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
