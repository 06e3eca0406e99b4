"""What an operator's programs ask, on a listener of its own: ``/metrics``, ``/healthz``, ``/readyz``.

Apart from the peers' port so that it can stay on loopback while that one is on the internet, and so that a crowd in
front of that one does not keep a probe waiting. Everything is bounded: connections, the head, the time for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from ..config import MAX_HEAD
from ..errors import CannotListen
from ..http import read_request, response

_JSON: Final = "application/json"
_DEADLINE: Final = 5.0  # seconds for a whole request and its answer
_MOST: Final = 64  # connections at once
_LAG_EVERY: Final = 0.5


class Ops:
    """The listener.

    Args:
        page: the text of ``/metrics``, and its content type.
        ready: why the relay takes no peers now, or None when it does.
        lag: told how many seconds late the event loop is, twice a second.
    """

    def __init__(
        self, page: Callable[[], tuple[bytes, str]], ready: Callable[[], str | None], lag: Callable[[float], None]
    ) -> None:
        self._page = page
        self._ready = ready
        self._lag = lag
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.host = ""
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    async def start(self, host: str, port: int) -> None:
        """Bind and listen; port 0 takes a free one.

        Raises:
            CannotListen: the address cannot be bound.
        """
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD)
        except OSError as exc:
            raise CannotListen(host, port, exc, metrics=True) from None
        except UnicodeError as exc:
            raise CannotListen(host, port, OSError(str(exc)), metrics=True) from None
        self.host, self.port = host, self._server.sockets[0].getsockname()[1]
        self._measure(asyncio.get_running_loop().time())

    async def stop(self) -> None:
        """Answer nobody any more; who has not asked yet is dropped."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
            for writer in self._open.values():
                writer.transport.abort()
            if self._open:
                await asyncio.wait(list(self._open))
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        task.add_done_callback(self._open.pop)
        try:
            if len(self._open) <= _MOST:
                async with asyncio.timeout(_DEADLINE):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a probe that gave up, or no HTTP
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> bytes:
        request = read_request(head)
        if request is None:
            return response(HTTPStatus.BAD_REQUEST)
        no_body = request.method == "HEAD"
        if request.path not in ("/metrics", "/healthz", "/readyz"):
            return response(HTTPStatus.NOT_FOUND, head=no_body)
        if request.method not in ("GET", "HEAD"):
            return response(HTTPStatus.METHOD_NOT_ALLOWED, extra="Allow: GET, HEAD\r\n")
        if request.path == "/metrics":
            body, kind = self._page()
            return response(HTTPStatus.OK, body, kind, head=no_body)
        why = self._ready() if request.path == "/readyz" else None
        status = HTTPStatus.OK if why is None else HTTPStatus.SERVICE_UNAVAILABLE
        return response(status, json.dumps({"status": why or "ok"}).encode() + b"\n", _JSON, head=no_body)

    def _measure(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        self._lag(max(0.0, loop.time() - due))
        due = loop.time() + _LAG_EVERY
        self._timer = loop.call_at(due, self._measure, due)
