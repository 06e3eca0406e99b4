"""Runs inside the namespaces that ``go_server`` makes: ``namespace.py LISTENER_FD BINARY``.

A socket belongs to the namespace it was made in. The listener was made outside, so accepting on it and dialing
127.0.0.1:8080 in here joins the two worlds without a cable between them. Started with ``-I``: standard library only.
"""

import asyncio
import fcntl
import socket
import struct
import subprocess
import sys

OLD_SERVER = ("127.0.0.1", 8080)
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        try:
            from_server, to_server = await asyncio.open_connection(*OLD_SERVER)
            break
        except ConnectionRefusedError:  # it is starting
            await asyncio.sleep(0.01)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pump(reader, to_server))
        tasks.create_task(pump(from_server, writer))


async def main(listener: socket.socket) -> None:
    server = await asyncio.start_server(forward, sock=listener)
    await server.serve_forever()


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
subprocess.Popen([sys.argv[2]])
asyncio.run(main(socket.socket(fileno=int(sys.argv[1]))))
