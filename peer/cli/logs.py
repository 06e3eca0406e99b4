"""Logs: to standard error, as text or as one JSON object a line. The only place that configures logging."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

_OURS: Final = ("peer", "server")


class _Json(logging.Formatter):
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


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        line = f"{clock} {record.name}: {level}{record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(style: str, verbosity: int) -> None:
    """Send logs to standard error in ``style`` (text or json).

    ``verbosity`` 0 shows our notes and everybody's warnings, 1 the wire too, 2 the libraries as well; -1 warnings,
    -2 errors only.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    others = logging.DEBUG if verbosity >= 2 else logging.ERROR if verbosity <= -2 else logging.WARNING
    root.setLevel(others)
    ours = {-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.ERROR if verbosity < 0 else logging.DEBUG)
    for name in _OURS:
        logging.getLogger(name).setLevel(ours)
    logging.captureWarnings(True)
