"""The command line: one file a command. It prints; nothing below it does.

``peer --help`` must come within 0.3 s, so this file and ``group`` import click and nothing heavier; a command's body
imports what it needs (tests/cli/test_start.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """The ``peer`` program. Ends the process with one of the codes in ``exit``."""
    try:
        from .entry import start

        code = start(args)
    except KeyboardInterrupt:  # Ctrl-C before a command has taken the signals over
        code = 130
    sys.exit(code)
