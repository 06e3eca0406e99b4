"""The command line, with one file per command in ``commands/``. No layer below it prints.

``peer --help`` must appear within 0.3 s. This file and ``root`` therefore import nothing heavier than click, and each
command imports the rest when it runs (tests/cli/test_start.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run the ``peer`` program and end the process with one of ``exit_codes``."""
    try:
        from .entry import start

        code = start(args)
    except KeyboardInterrupt:  # Ctrl-C before the command installed its signal handlers
        code = 130
    except Exception:
        from . import logs

        if not logs.are_json():
            raise
        logs.internal_error()
        code = 1
    sys.exit(code)
