"""Print the brightness of a peer's video once per second, until the call ends: decoded frames as NumPy arrays."""

from __future__ import annotations

import asyncio
import sys
import time

from peer import Agent, PeerError


async def main(peer: str, server: str) -> None:
    async with Agent(server=server, join_timeout=15) as agent:
        await agent.wait_for(peer, timeout=30)
        async with agent.call(peer) as call:
            with call.frames() as frames:
                printed = 0.0
                async for frame in frames:
                    if time.monotonic() - printed >= 1:
                        printed = time.monotonic()
                        print(f"{frame.to_ndarray(format='gray').mean():.0f}", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "ws://127.0.0.1:8080/ws"))
    except IndexError:
        sys.exit("usage: brightness.py PEER [SERVER]")
    except KeyboardInterrupt:
        sys.exit(130)
    except PeerError as error:
        sys.exit(str(error))
