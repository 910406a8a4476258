"""Logs: structlog in front, one line per event on standard error, JSON or for a person.

Lines of the libraries (standard library loggers) take the same way and look the same. Writing happens
in a thread of its own behind a bounded queue, so that a blocked pipe never stalls the event loop:
what does not fit is dropped and counted, and a line says how much as soon as there is room again.
Secrets are kept out at the source: they are typed (`SecretStr`, fields without repr), and exceptions
are rendered without local variables.
"""

import atexit
import logging
import queue
import sys
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

Format = Literal["json", "console", "auto"]
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
QUEUE_LINES = 10_000

# Libraries whose info lines repeat what ours say.
_QUIET = ("websockets", "uvicorn.access", "uvicorn.error", "aiosqlite", "alembic", "asyncio")


class BoundedQueueHandler(QueueHandler):
    """Never waits for the reader of the log; `dropped` counts what was lost by that, `told` of it in the log."""

    def __init__(self, lines: "queue.Queue[Any]") -> None:
        super().__init__(lines)
        self.dropped = self.told = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record goes to a thread of this process: it needs no flattening into text here."""
        return record


class _Writer(QueueListener):
    """The thread that writes what `source` queues. It tells what was dropped once half of the queue is free."""

    def __init__(self, lines: "queue.Queue[Any]", output: logging.Handler, source: BoundedQueueHandler) -> None:
        super().__init__(lines, output)
        self._lines, self._source = lines, source

    def handle(self, record: logging.LogRecord) -> None:
        super().handle(record)
        source = self._source
        count = source.dropped - source.told
        if count and self._lines.qsize() <= self._lines.maxsize // 2:
            source.told += count
            log.warning("log lines dropped", count=count, reason="the reader of the log was too slow")

    def end(self, timeout: float) -> bool:
        """Writes what is queued. False if the reader of the log did not take it in `timeout` seconds."""
        try:
            self._lines.put(None, timeout=timeout)
        except queue.Full:
            return False
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()


_listeners: list[_Writer] = []
_loggers: list[FilteringBoundLogger] = []


def close(timeout: float = 2.0) -> bool:
    """Writes what is queued. False if the reader of the log did not take it in `timeout` seconds."""
    while _listeners:
        if not _listeners.pop().end(timeout):
            return False
    return True


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger that names its module as `logger`."""
    logger = cast(FilteringBoundLogger, structlog.get_logger(name))
    _loggers.append(logger)
    return logger


log = get_logger(__name__)


def dropped() -> int:
    """Lines that this process could not write, because their reader was too slow."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, BoundedQueueHandler))


def set_level(level: str) -> None:
    """From now on lines of this level and above are written, by every logger that `get_logger` gave."""
    logging.getLogger().setLevel(LEVELS[level])
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))
    for logger in _loggers:
        # What it has remembered of its first use, its level included, is made anew at the next one.
        vars(logger).pop("bind", None)


def configure(level: str = "info", style: Format = "auto", stream: TextIO | None = None) -> None:
    """Sets up logging for the process. `auto` is `console` where the stream is a terminal, else `json`."""
    stream = stream or sys.stderr
    console = style == "console" or (style == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
        if not console
        else structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
            if console
            else structlog.processors.JSONRenderer(),
        ],
    )
    output = logging.StreamHandler(stream)
    output.setFormatter(formatter)
    lines: queue.Queue[Any] = queue.Queue(QUEUE_LINES)
    source = BoundedQueueHandler(lines)
    listener = _Writer(lines, output, source)
    listener.start()
    atexit.register(close)
    _listeners.append(listener)
    logging.basicConfig(level=LEVELS[level], handlers=[source], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
