"""``peer`` with self-reporting: ``python benchmarks/observed.py [--trace] run …`` is ``peer run …``, and each SIGUSR1
prints a line ``{"event": "observed", "tasks": …}`` to standard error.

``--trace`` adds the code locations with the largest memory growth since the first line (tracemalloc; slow).
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
import tracemalloc

FRAMES = 8
"""Depth of the call stacks that ``--trace`` distinguishes."""


def observe(first: list[tracemalloc.Snapshot]) -> dict[str, object]:
    """Collect figures known only inside the process. ``first`` keeps the snapshot to compare later ones with."""
    gc.collect()
    loop = asyncio._get_running_loop()  # None before it runs; the signal handler may interrupt any code
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
