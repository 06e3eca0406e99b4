"""``peer`` with one more ear: ``python benchmarks/observed.py [--trace] run …`` is ``peer run …``; each SIGUSR1 makes
it print a line ``{"event": "observed", "tasks": …}`` to standard error.

``--trace``: with the places in the code where memory grew most since the first line (tracemalloc; slow).
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
import tracemalloc

FRAMES = 8
"""Calls deep that ``--trace`` tells places apart."""


def observe(first: list[tracemalloc.Snapshot]) -> dict[str, object]:
    """What only the process itself knows. ``first`` keeps the snapshot that later ones are compared with."""
    gc.collect()
    loop = asyncio._get_running_loop()  # None before it runs; the handler interrupts it wherever it is
    found: dict[str, object] = {
        "event": "observed",
        "tasks": len(asyncio.all_tasks(loop)) if loop is not None else 0,
        "objects": len(gc.get_objects()),
    }
    if tracemalloc.is_tracing():
        snapshot = tracemalloc.take_snapshot()
        if first:
            grown = snapshot.compare_to(first[0], "traceback")[:10]
            found["grown"] = [[s.size_diff, s.count_diff, [str(f) for f in reversed(s.traceback)]] for s in grown]
        else:
            first.append(snapshot)
    return found


def main() -> None:
    if "--trace" in sys.argv:
        sys.argv.remove("--trace")
        tracemalloc.start(FRAMES)
    first: list[tracemalloc.Snapshot] = []

    def answer(*_: object) -> None:
        print(json.dumps(observe(first)), file=sys.stderr, flush=True)

    signal.signal(signal.SIGUSR1, answer)
    from peer.cli import main as peer

    peer()


if __name__ == "__main__":
    main()
