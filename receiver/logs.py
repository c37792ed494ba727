"""structlog and the standard library's logging through one pipeline that ends in redaction."""

import atexit
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from queue import SimpleQueue
from types import NoneType
from typing import Any, BinaryIO, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from receiver.escapes import escape_json, printable, printable_lines

FLUSH_SECONDS = 0.1
AGAIN_SECONDS = 1.0  # until writing is tried again where it failed
END_SECONDS = 1.0  # how long an end waits for a reader that takes nothing
MOST_WAITING = 10_000  # lines; and as many that are being written

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
_EACH = "each"
_PLAIN = frozenset({str, int, float, bool, NoneType})
_OURS = frozenset({"timestamp", "level"})  # made here: nothing to hide
_LEVELS = {"warn": "warning", "exception": "error"}  # structlog's methods that are not their level's name
_format_exception = structlog.processors.format_exc_info
_DEPTH = 6  # deeper than anything we log; bounds the work on anything else

# What the server logs at every start and stop, a line of ours says already.
_CHATTY = ("uvicorn.error",)


def configure_logs(level: str, log_format: str, stream: TextIO) -> Callable[[], None]:
    """Send every log line of this process to ``stream``.

    ``level`` is debug, info, warning or error. ``log_format`` is json (an object per line), text, or
    auto: text where the stream is a terminal. Only a terminal gets colours. Returns a function that
    waits, a second at most, until all that was logged so far is written.

    An event with ``each``, a list of fields, is one line for each of them: a batch of hundreds would spend
    most of its time on telling of itself one by one.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    as_text = log_format == "text" or (log_format == "auto" and stream.isatty())
    lines = _Lines(stream.buffer, stream.encoding)
    for_people = _for_each(
        _format_exception,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
        _escape_controls,
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    )
    structlog.configure(
        processors=[for_people if as_text else _render_json],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lines,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    others = [handler for handler in root.handlers if not isinstance(handler, _Forward)]
    root.handlers = [*others, _Forward()]
    root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(number if number < logging.INFO else max(number, logging.WARNING))
    return lines.flush


class _Lines:
    """Writes lines in a thread of its own: good news within a moment, bad news at once.

    A system call for every callback would cost as much as verifying it, and a slow reader of the log must
    not hold up the service. While the reader takes nothing, or the disk is full, lines wait; beyond
    ``MOST_WAITING`` they are dropped and counted, and a line says how many once there is room. The record
    is in the database; a SIGKILL may lose the last tenth of a second of the log.
    """

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._encoding = encoding  # of lines for people; JSON comes as bytes
        # Without the buffer: the interpreter cannot end while a thread hangs with its lock.
        self._stream = getattr(stream, "raw", stream)
        # Both may be used anywhere, even where the collector interrupts their own use.
        self._waiting: SimpleQueue[bytes | str | threading.Event] = SimpleQueue()
        self._calm = threading.Lock()  # let go of when it is urgent
        self._calm.acquire()
        self._dropped = self._told = 0  # since the start
        self._is_ending = False
        atexit.register(self._end)
        threading.Thread(target=self._run, name="receiver-log", daemon=True).start()

    def __call__(self, *_args: object) -> "_Lines":
        return self  # structlog asks its factory for a logger; one serves all

    def info(self, line: str | bytes | list[str | bytes]) -> None:
        if isinstance(line, list):
            for each in line:
                self.info(each)
        elif self._waiting.qsize() < MOST_WAITING:
            self._waiting.put(line)
        else:
            self._dropped += 1

    def error(self, line: str | bytes | list[str | bytes]) -> None:
        self.info(line)
        self._hurry()

    debug = info
    warning = critical = exception = error

    def flush(self) -> None:
        """Wait until what was logged so far is written, for ``END_SECONDS`` at most."""
        written = threading.Event()
        self._waiting.put(written)
        self._hurry()
        written.wait(END_SECONDS)

    def _end(self) -> None:
        self._is_ending = True
        self.flush()

    def _hurry(self) -> None:
        with suppress(RuntimeError):  # it is urgent already
            self._calm.release()

    def _pause(self, seconds: float) -> None:
        self._calm.acquire(timeout=seconds)

    def _run(self) -> None:
        while True:
            with suppress(Exception):  # short of memory it may be anything
                batch = [self._waiting.get()]
                self._pause(FLUSH_SECONDS)
                batch += [self._waiting.get() for _ in range(self._waiting.qsize())]
                if self._dropped > self._told:  # between these lines and those that find room from now on
                    lost, self._told = self._dropped - self._told, self._dropped
                    structlog.get_logger().error("log.overflowed", lines=lost)
                text = bytearray()
                for line in batch:
                    if isinstance(line, str):
                        text += line.encode(self._encoding, "backslashreplace") + b"\n"
                    elif isinstance(line, bytes):
                        text += escape_json(line) + b"\n"
                self._write(bytes(text))
                for written in batch:
                    if isinstance(written, threading.Event):
                        written.set()

    def _write(self, text: bytes) -> None:
        left = memoryview(text)
        while left:
            try:
                taken = self._stream.write(left)
            except (ValueError, BrokenPipeError):  # closed, at this end or the other
                return
            except OSError:  # full: there may be room again
                if self._is_ending:
                    return
                self._pause(AGAIN_SECONDS)
                continue
            left = left[taken or 0 :]
            if not taken:  # it does not wait by itself
                self._pause(FLUSH_SECONDS)


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
    return _SECRET_TEXT.sub(lambda found: (found[found.lastindex] if found.lastindex else "") + _MASK, text)


def _for_each(*processors: Processor) -> Processor:
    """One processor that is all of these in turn, for an event or for each line of one."""

    def render(logger: WrappedLogger, method: str, event: EventDict) -> Any:
        if _EACH in event:
            return _as_lines(
                [render(logger, method, {"event": event["event"], **fields}) for fields in event[_EACH]]
            )
        line: Any = event
        for processor in processors:
            line = processor(logger, method, line)
        return line

    return render


def _render_json(logger: WrappedLogger, method: str, event: EventDict) -> Any:
    """Time, level and event first."""
    if "exc_info" in event:
        event = _format_exception(logger, method, event)
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    timestamp = f"{_second(seconds)}.{nanoseconds // 1000:06d}Z"
    head: EventDict = {"timestamp": timestamp, "level": _LEVELS.get(method, method), "event": None}
    if _EACH in event:
        return _as_lines(_render_each(logger, method, {**head, "event": event["event"]}, event[_EACH]))
    # Every callback pays for a line: where one look at the whole shows nothing to hide, the parts need none.
    if _is_plain(event):
        line = _encode({**head, **event})
        if not _is_suspicious(line.decode()):
            return line
    return _encode({**head, **redact(logger, method, event)})


def _render_each(
    logger: WrappedLogger, method: str, head: EventDict, lines: Sequence[EventDict]
) -> list[bytes]:
    """Lines that begin alike: one look at all of them may be enough."""
    if all(map(_is_plain, lines)):
        begin = _encode(head)[:-1] + b","
        rendered = [begin + _encode(fields)[1:] for fields in lines]
        if not _is_suspicious(b"".join(rendered).decode()):
            return rendered
    return [_encode({**head, **redact(logger, method, fields)}) for fields in lines]


def _as_lines(lines: Sequence[str | bytes]) -> tuple[tuple[Sequence[str | bytes]], dict[str, object]]:
    """What structlog hands on to ``_Lines`` as it is."""
    return (lines,), {}


def _is_plain(fields: EventDict) -> bool:
    """Whether no field has a shape of its own, or a secret's name."""
    return _PLAIN.issuperset(map(type, fields.values())) and not _names_secret(tuple(fields))


def _is_suspicious(line: str) -> bool:
    for part in _SUSPICIOUS:  # noqa: SIM110 - any() takes four times as long
        if part in line:
            return True
    return False


def _encode(line: EventDict) -> bytes:
    try:
        return msgspec.json.encode(line)
    except (ValueError, OverflowError):  # a lone surrogate, a number beyond 64 bits
        return json.dumps(line).encode()


@lru_cache(1024)  # a program logs few different kinds of line
def _names_secret(keys: tuple[str, ...]) -> bool:
    return any(map(_is_secret, keys))


@lru_cache(1)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A provider's words must not move the cursor or pass for a line of ours."""
    return {
        key: (printable_lines if key == "exception" else printable)(value)
        if isinstance(value, str)
        else value
        for key, value in event.items()
    }


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
