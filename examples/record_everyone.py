"""Call every peer in the room and every peer that joins later, and record ten seconds of each. Runs until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
import time

from peer import Agent, Call, PeerError, events


async def record(call: Call) -> None:
    try:
        async with call:
            recorded = await call.record(time.strftime(f"{call.peer}-%Y%m%d-%H%M%S.mkv"), seconds=10)
            print(f"{recorded.seconds:.1f} s of {call.peer} in {recorded.path}")
    except PeerError as error:
        print(error, file=sys.stderr)


async def main(server: str) -> None:
    async with Agent("recorder", server=server, join_timeout=15) as agent, asyncio.TaskGroup() as group:
        for peer in agent.peers:
            group.create_task(record(agent.call(peer)))
        async for event in agent.events():
            if isinstance(event, events.PeerJoined):
                group.create_task(record(agent.call(event.peer)))


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8080/ws"))
    except KeyboardInterrupt:
        sys.exit(130)
    except PeerError as error:
        sys.exit(str(error))
