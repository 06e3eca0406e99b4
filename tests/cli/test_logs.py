"""Log format and levels, by ``--log-format`` and verbosity."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest

from peer.cli import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Restore the logging configuration that other tests rely on."""
    loggers = [logging.getLogger(name) for name in (None, "peer", "server")]
    levels, handlers = [logger.level for logger in loggers], loggers[0].handlers[:]
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.parametrize(
    ("verbosity", "own", "libraries"),
    [
        (-3, "ERROR", "ERROR"),
        (-2, "ERROR", "ERROR"),
        (-1, "WARNING", "WARNING"),
        (0, "INFO", "WARNING"),
        (1, "DEBUG", "WARNING"),
        (2, "DEBUG", "DEBUG"),
        (3, "DEBUG", "DEBUG"),
    ],
)
def test_verbosity_sets_the_lowest_levels(verbosity: int, own: str, libraries: str) -> None:
    logs.configure("text", verbosity)
    for name in ("peer.agent", "server"):
        assert logging.getLevelName(logging.getLogger(name).getEffectiveLevel()) == own
    assert logging.getLevelName(logging.getLogger("aiortc").getEffectiveLevel()) == libraries


def test_text_line_has_time_logger_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", 0)
    assert not logs.are_json()
    logging.getLogger("peer.x").info("hello")
    logging.getLogger("peer.x").warning("careful")
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d peer\.x: hello", lines[0])
    assert lines[1].endswith(" peer.x: warning: careful")


def test_text_line_has_escaped_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", 0)
    logging.getLogger("peer.x").info("from %s", "a\x1b[2J\nforged: line\u202e\x9b")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"from a\x1b[2J\nforged: line\u202e\x9b")


def test_library_lines_are_limited_per_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", 0)
    for n in range(100):
        logging.getLogger("asyncio").error("exception was never retrieved: %d", n)
        logging.getLogger("peer.x").warning("own %d", n)
    lines = capsys.readouterr().err.splitlines()
    assert sum("never retrieved" in line for line in lines) == 1
    assert sum("own" in line for line in lines) == 100, "own modules limit theirs where a remote causes them"


def test_text_exception_has_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", 0)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("peer.x").exception("failed")
    err = capsys.readouterr().err
    assert "peer.x: error: failed\nTraceback" in err and err.endswith("ValueError: broken\n")


def test_json_line_has_facts_and_standard_keys(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", 0)
    assert logs.are_json()
    logging.getLogger("peer.x").info("hello\nworld", extra={"facts": {"peer": "door", "message": "overridden"}})
    try:
        raise ValueError("broken")
    except ValueError:
        logs.internal_error()
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first["peer"] == "door"
    assert (first["level"], first["logger"], first["message"]) == ("info", "peer.x", "hello\nworld")
    assert second["level"] == "critical" and "ValueError: broken" in second["traceback"]
