"""What the log lines look like, what stays out of them, and that writing them never waits."""

import io
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from presence import logs
from presence.logs import LEVELS, BoundedQueueHandler, configure, get_logger

SECRET = "hunter2-canary-secret"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Takes the process's set-up aside (also pytest's own handlers) and puts it back."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    levels = {name: logger.level for name, logger in _loggers().items()}
    before = structlog.get_config()
    yield
    for handler in root.handlers:
        if isinstance(handler, BoundedQueueHandler):
            handler.queue.put(None)  # ends the writing thread
    root.handlers = handlers
    for name, logger in _loggers().items():
        logger.setLevel(levels.get(name, logging.NOTSET))
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


def _loggers() -> dict[str, logging.Logger]:
    known = {name: logging.getLogger(name) for name in list(logging.Logger.manager.loggerDict)}
    return known | {"": logging.getLogger()}


def written(stream: io.StringIO) -> str:
    """What is on the stream once the writing thread has taken every line."""
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, BoundedQueueHandler)
    handler.queue.join()
    return stream.getvalue()


def json_lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written(stream).splitlines()]


def test_a_line_is_one_json_object() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    get_logger("presence.agent.link").info("online", url="wss://x/agent/v1", attempt=3)
    (line,) = json_lines(stream)
    stamp = line.pop("timestamp")
    assert stamp.endswith("Z")
    assert line == {
        "event": "online",
        "logger": "presence.agent.link",
        "level": "info",
        "url": "wss://x/agent/v1",
        "attempt": 3,
    }


def test_lines_of_libraries_look_the_same() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    logging.getLogger("some.library").warning("lost %d of %s", 3, "many")
    (line,) = json_lines(stream)
    assert {"event": "lost 3 of many", "logger": "some.library", "level": "warning"}.items() <= line.items()
    assert "timestamp" in line


@pytest.mark.parametrize("style", ["json", "console"])
def test_line_breaks_in_values_do_not_make_lines(style: Any) -> None:
    stream = io.StringIO()
    configure("info", style, stream)
    get_logger("x").info("told", said="one\nlevel=error forged\r\n")
    assert len(written(stream).splitlines()) == 1


def test_context_of_the_caller_is_in_the_line() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    with structlog.contextvars.bound_contextvars(delivery="9ea1"):
        get_logger("x").info("settled")
    get_logger("x").info("after")
    first, second = json_lines(stream)
    assert first["delivery"] == "9ea1"
    assert "delivery" not in second


@pytest.mark.parametrize("level", LEVELS)
def test_level_is_a_threshold_for_ours_and_for_libraries(level: str) -> None:
    stream = io.StringIO()
    configure(level, "json", stream)
    for name in LEVELS:
        getattr(get_logger("ours"), name)("said")
        getattr(logging.getLogger("theirs"), name)("said")
    names = list(LEVELS)
    heard = names[names.index(level) :]
    assert [(line["logger"], line["level"]) for line in json_lines(stream)] == [
        (logger, name) for name in heard for logger in ("ours", "theirs")
    ]


@pytest.mark.parametrize("name", ["websockets", "websockets.client", "uvicorn.access", "uvicorn.error", "asyncio"])
@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_chatty_libraries_are_heard_from_warning_on(name: str, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A server that ran in this process has cut uvicorn's access log off (access_log=False).
    monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    stream = io.StringIO()
    configure(level, "json", stream)
    logging.getLogger(name).info("repeats what we say")
    logging.getLogger(name).warning("worth it")
    assert [line["event"] for line in json_lines(stream)] == ["worth it"]


def test_chatty_libraries_follow_a_higher_level() -> None:
    stream = io.StringIO()
    configure("error", "json", stream)
    logging.getLogger("websockets").warning("not now")
    assert json_lines(stream) == []


@pytest.mark.parametrize(
    ("style", "stream", "is_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
    ],
)
def test_auto_is_console_on_a_terminal_only(style: Any, stream: io.StringIO, is_json: bool) -> None:
    configure("info", style, stream)
    get_logger("x").info("hello", answer=42)
    line = written(stream)
    assert line.startswith("{") is is_json
    assert "hello" in line


def test_console_without_a_terminal_has_no_colours() -> None:
    stream = io.StringIO()
    configure("info", "console", stream)
    get_logger("x").info("hello", answer=42)
    assert "\x1b" not in written(stream)
    assert "answer=42" in written(stream)


def _fail_with_a_secret_in_a_local() -> None:
    key = SECRET
    raise ValueError(f"a key of {len(key)} characters")


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("logger", [get_logger, logging.getLogger])
def test_exceptions_are_shown_without_local_variables(style: Any, logger: Callable[[str], Any]) -> None:
    stream = io.StringIO()
    configure("debug", style, stream)
    try:
        _fail_with_a_secret_in_a_local()
    except ValueError:
        logger("x").exception("broken")
    text = written(stream)
    assert f"a key of {len(SECRET)} characters" in text
    assert "_fail_with_a_secret_in_a_local" in text
    assert SECRET not in text


def test_json_exception_is_one_line_with_type_and_frames() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    try:
        _fail_with_a_secret_in_a_local()
    except ValueError:
        get_logger("x").exception("broken")
    (line,) = json_lines(stream)
    (shown,) = line["exception"]
    assert shown["exc_type"] == "ValueError"
    assert shown["frames"][-1]["name"] == "_fail_with_a_secret_in_a_local"
    assert not any("locals" in frame for frame in shown["frames"])


@dataclass
class _Enrolled:
    name: str
    key: str = field(repr=False)


@pytest.mark.parametrize("style", ["json", "console"])
def test_typed_secrets_stay_out(style: Any) -> None:
    stream = io.StringIO()
    configure("debug", style, stream)
    get_logger("x").info("enrolled", key=SecretStr(SECRET), presence=_Enrolled("p", SECRET))
    logging.getLogger("y").info("enrolled %s %s", SecretStr(SECRET), _Enrolled("p", SECRET))
    text = written(stream)
    assert text.count("enrolled") == 2
    assert SECRET not in text


def test_full_queue_drops_and_counts_and_never_waits() -> None:
    lines: queue.Queue[Any] = queue.Queue(2)
    handler = BoundedQueueHandler(lines)
    records = [logging.LogRecord("x", logging.INFO, __file__, 1, str(number), (), None) for number in range(5)]
    for record in records:
        handler.handle(record)
    assert handler.dropped == 3
    assert [lines.get_nowait() for _ in range(2)] == records[:2]
    handler.handle(records[4])
    assert (lines.get_nowait(), handler.dropped) == (records[4], 3)


class Stuck(io.StringIO):
    """Takes nothing before `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.reached = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.go.wait(20)
        return super().write(text)


def test_what_was_dropped_is_told_once_when_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE_LINES", 10)
    stream = Stuck()
    configure("info", "json", stream)
    get_logger("x").info("0")
    assert stream.reached.wait(20)
    for number in range(1, 15):
        get_logger("x").info(str(number))
    assert logs.dropped() == 4
    stream.go.set()
    lines = json_lines(stream)
    assert [line["event"] for line in lines] == [*map(str, range(11)), "log lines dropped"]
    assert (lines[-1]["count"], lines[-1]["level"], lines[-1]["logger"]) == (4, "warning", "presence.logs")
    get_logger("x").info("after")
    assert [line["event"] for line in json_lines(stream)][-2:] == ["log lines dropped", "after"]
    assert logs.dropped() == 4


def test_the_end_does_not_wait_for_a_reader_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "QUEUE_LINES", 3)
    stream = Stuck()
    configure("info", "json", stream)
    get_logger("x").info("0")
    assert stream.reached.wait(20)
    for number in range(5):
        get_logger("x").info(str(number))
    assert not logs.close(timeout=0.05)
    stream.go.set()


def test_configuring_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("info", "json", first)
    (handler,) = logging.getLogger().handlers
    configure("debug", "json", second)
    get_logger("x").debug("once")
    assert [line["event"] for line in json_lines(second)] == ["once"]
    assert first.getvalue() == ""
    assert isinstance(handler, BoundedQueueHandler)
    handler.queue.put(None)
