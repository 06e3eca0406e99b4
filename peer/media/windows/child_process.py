"""The child process that shows the windows, as seen from the parent: start, messages, exit."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from ...timeouts import CleanupTimeout

_STDERR_BYTES: Final = 4096
"""Size of the end of the child's stderr that is kept for the exit reason, in bytes."""

_EXIT_TIMEOUT: Final = 1.0
"""Maximum time for the child to end after its socket is closed, in seconds."""


class ChildProcess:
    """The child process and the socket to it. ``child`` documents the messages."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._stderr = b""
        self._stderr_closed = asyncio.Event()
        self.screen: tuple[int, int] | None = None
        """Size of the screen in pixels, once the child is ready."""

    @classmethod
    async def start(cls) -> ChildProcess:
        """Start the child.

        Raises:
            OSError: the system cannot create the process.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(Path(__file__).parents[3])]))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", "peer.media.windows.child", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C must reach only the agent
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    def send(self, message: dict[str, str], descriptor: int | None = None) -> None:
        """Send one message, with a file descriptor if given. Errors are ignored: ``messages`` ends with the child."""
        try:
            socket.send_fds(
                self._control,
                [json.dumps(message).encode() + b"\n"],
                [] if descriptor is None else [descriptor],
            )
        except OSError:
            pass

    async def messages(self) -> AsyncIterator[dict[str, object]]:
        """Yield the child's messages until it closes the socket."""
        loop, pending = asyncio.get_running_loop(), b""
        while True:
            try:
                data = await loop.sock_recv(self._control, 4096)
            except ConnectionResetError:
                return
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                yield json.loads(line)

    async def collect_stderr(self) -> None:
        """Read stderr until the child ends, and keep the end of it."""
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(_STDERR_BYTES):
            self._stderr = (self._stderr + data)[-_STDERR_BYTES:]
        self._stderr_closed.set()

    async def exit_reason(self) -> str:
        """Wait for the child to end. Return its exit code or signal, and the last line of its stderr."""
        code = await self._process.wait()
        await self._stderr_closed.wait()
        lines = self._stderr.decode("utf-8", "replace").split("\n")
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{how}: {last}" if last else how

    async def close(self) -> None:
        """Close the socket, which ends the child. Kill it if it does not end in time."""
        self._control.close()
        try:
            async with CleanupTimeout(_EXIT_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
