"""The cost of idle peers: memory, and the CPU of the pings.

    python benchmarks/relay_idle.py [--peers 100,1000,10000] [--whole 1000]

``--peers`` are in rooms of ten; ``--whole`` are all in one room, where every join is reported to every peer: 10,000
peers cause 50 million notices, a minute of CPU. The other relays have one room only. RSS is read after the first
round of pings; ``peak`` is the maximum during the joins; ``per peer`` is the memory added by the peers. CPU is the
share of a core while only pings are exchanged; the other relays send none.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path

from lab import Window, machine
from swarm import RELAYS, Relay, Swarm, isolate, ours

ROOM = 10
KB = 1000


def status(relay: Relay, field: str) -> float:
    """Return a field of proc(5) status, VmRSS or VmHWM, in bytes."""
    lines = Path(f"/proc/{relay.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def measure(running: AbstractContextManager[Relay], peers: int, room: int, seconds: float) -> list[str]:
    """Measure one row of the table, for rooms of ``room`` peers."""
    with running as relay, Swarm() as swarm:
        empty = status(relay, "VmRSS")
        begin, before = time.monotonic(), relay.cpu()
        swarm.join(lambda _: relay.port, peers, room)
        joining = relay.cpu() - before
        took = time.monotonic() - begin
        window, begin, before = Window(relay.pid, os.getpid()), time.monotonic(), relay.cpu()
        swarm.read(0.05, at_least=seconds)
        cpu = (relay.cpu() - before) / (time.monotonic() - begin)
        rss, peak = status(relay, "VmRSS"), status(relay, "VmHWM")
        memory = [f"{size / KB**2:.0f} MB" for size in (empty, rss, peak)]
        share = f"{(rss - empty) / peers / KB:.1f} kB"
        return [*memory, share, f"{cpu:.1%}", f"{joining:.1f} s", f"{took:.1f} s", f"{window.cost().others:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="100,1000,10000")
    parser.add_argument("--whole", default="1000", help="peers of our relay, all in one room")
    parser.add_argument("--others", default="1000", help="peers of the plain and the Go relay")
    parser.add_argument("--seconds", type=float, default=13.0, help="idle time; a round of pings takes 12 s")
    options = parser.parse_args()
    isolate()
    print(f"{machine()}; {options.seconds:g} s each\n")
    print(
        "| relay | peers | per room | empty | RSS | peak | per peer | CPU idle | CPU of joins | join time | others |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    rows = [("ours", int(peers), ROOM) for peers in options.peers.split(",") if peers]
    rows += [("ours", int(peers), int(peers)) for peers in options.whole.split(",") if peers]
    rows += [
        (name, int(peers), int(peers)) for peers in options.others.split(",") if peers for name in ("plain", "go")
    ]
    for name, peers, room in rows:
        running = ours("--max-room-peers", str(room)) if name == "ours" else RELAYS[name]()
        found = measure(running, peers, room, options.seconds)
        print("|", " | ".join([name, f"{peers:,}", f"{room:,}", *found]), "|", flush=True)


if __name__ == "__main__":
    main()
