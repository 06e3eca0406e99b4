"""Checks that every pure module reaches 95% branch coverage: ``./setup.sh coverage`` runs it after the tests.

A module that reads no clock, no socket and no file has no branch that a test cannot reach, so it has no excuse but
the ones named here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .test_layering import PURE

MINIMUM = 95.0
"""Branch coverage that a pure module needs, in percent."""

EXCUSED: dict[str, str] = {}
"""Pure modules below the minimum, each with the reason."""


def main(report: Path) -> int:
    """Print the pure modules below the minimum in ``report``, which ``coverage json`` wrote. Return the exit code."""
    measured = {
        name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): entry["summary"]
        for name, entry in json.loads(report.read_text())["files"].items()
    }
    pure = {name for name in measured if any(name == root or name.startswith(f"{root}.") for root in PURE)}
    below = {name: measured[name]["percent_covered"] for name in pure if measured[name]["percent_covered"] < MINIMUM}
    for name, percent in sorted(below.items()):
        print(f"{name}: {percent:.1f}% {'(' + EXCUSED[name] + ')' if name in EXCUSED else 'is below the minimum'}")
    failed = sorted(below.keys() - EXCUSED.keys()) + sorted(set(EXCUSED) - below.keys())
    print(f"{len(pure)} pure modules, {len(failed)} of them against the rule of {MINIMUM:.0f}%")
    return 1 if failed or not pure else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
