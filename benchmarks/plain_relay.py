"""A plain relay, as anyone would write it with websockets in an hour; benchmarks/relay.py compares ours with it.

It implements the basic protocol (join, peer-list, peer-joined, peer-left, routing by ``to``) and none of its rules.
"""

import asyncio
import json
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

clients: dict[str, ServerConnection] = {}


def others(me: ServerConnection) -> list[ServerConnection]:
    return [client for client in clients.values() if client is not me]


async def peer(websocket: ServerConnection) -> None:
    join = json.loads(await websocket.recv())
    if join["type"] != "join" or join["peerId"] in clients:
        return
    peer_id = join["peerId"]
    await websocket.send(json.dumps({"type": "peer-list", "peers": list(clients)}))
    clients[peer_id] = websocket
    broadcast(others(websocket), json.dumps({"type": "peer-joined", "peerId": peer_id}))
    try:
        async for text in websocket:
            message = json.loads(text)
            to = message.get("to")
            if not to:
                broadcast(others(websocket), text)
            elif to in clients:
                await clients[to].send(text)
    except ConnectionClosed:
        pass
    finally:
        del clients[peer_id]
        broadcast(others(websocket), json.dumps({"type": "peer-left", "peerId": peer_id}))


async def main() -> None:
    async with serve(peer, "127.0.0.1", 0, ping_interval=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
