"""Logging to standard error, as text or as one JSON object per line. No other module configures logging."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

from ..log_limit import RateLimiter
from .output import escaped

_OWN_LOGGERS: Final = ("peer", "server")

_LEVELS: Final = {
    2: (logging.DEBUG, logging.DEBUG),
    1: (logging.DEBUG, logging.WARNING),
    0: (logging.INFO, logging.WARNING),
    -1: (logging.WARNING, logging.WARNING),
    -2: (logging.ERROR, logging.ERROR),
}
"""Lowest level shown of the own loggers and of the libraries', by verbosity (``-v`` adds 1, ``-q`` subtracts 1)."""


class _JsonFormatter(logging.Formatter):
    """One JSON object per record: the standard keys, and its ``facts`` (the ``extra`` of a log call)."""

    def format(self, record: logging.LogRecord) -> str:
        body: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        body = getattr(record, "facts", {}) | body
        if record.exc_info:
            body["traceback"] = self.formatException(record.exc_info)
        return json.dumps(body)


class _TextFormatter(logging.Formatter):
    """One line per record, and its traceback. A message may contain text of a remote, such as an escape sequence."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        line = f"{clock} {record.name}: {level}{escaped(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _LibraryLimit(logging.Filter):
    """A limit on the lines of libraries, which a remote can cause too: one per second and message before formatting.

    Our own modules limit theirs with ``LimitedLogger``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._limiter = RateLimiter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or record.name.partition(".")[0] in _OWN_LOGGERS:
            return True
        cause = str(record.msg).partition("\n")[0]  # asyncio appends lines with addresses of objects
        suppressed = self._limiter.allow((record.name, cause))
        if suppressed:
            record.msg = f"{record.msg} (and {suppressed} more, suppressed)"
        return suppressed is not None


def are_json() -> bool:
    """Whether ``configure`` was last called with ``json``."""
    return any(isinstance(handler.formatter, _JsonFormatter) for handler in logging.getLogger().handlers)


def internal_error() -> None:
    """Log the exception being handled, with its traceback, instead of Python's own text on standard error."""
    logging.getLogger(__name__).critical("internal error", exc_info=True)


def configure(style: str, verbosity: int) -> None:
    """Send logs to standard error in ``style``, ``text`` or ``json``. 0 is the default ``verbosity``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if style == "json" else _TextFormatter())
    handler.addFilter(_LibraryLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    own, libraries = _LEVELS[max(min(_LEVELS), min(max(_LEVELS), verbosity))]
    root.setLevel(libraries)
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(own)
    logging.captureWarnings(True)
