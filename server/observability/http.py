"""HTTP server for monitoring, with a port of its own: ``/metrics``, ``/healthz``, ``/readyz``.

A separate port can stay on loopback while the peers' port is on the internet, and an overloaded peers' port does not
delay a probe. The number of connections, the size of a request and the time for it are bounded.
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
_REQUEST_TIMEOUT: Final = 5.0
"""Maximum time for a request and its response, in seconds. A probe answers faster or has failed."""
_MAX_CONNECTIONS: Final = 64
"""Maximum number of connections. A monitoring system needs a few; each costs a descriptor."""
_LAG_INTERVAL: Final = 0.5
"""Time between two measurements of the event loop's lag, in seconds."""


class MonitoringServer:
    """HTTP server of the three paths.

    Args:
        page: returns the text of ``/metrics`` and its content type.
        why_not_ready: returns why the relay accepts no new peers, or ``None`` if it does.
        report_lag: called with the lag of the event loop in seconds, twice per second.
    """

    def __init__(
        self,
        page: Callable[[], tuple[bytes, str]],
        why_not_ready: Callable[[], str | None],
        report_lag: Callable[[float], None],
    ) -> None:
        self._page = page
        self._why_not_ready = why_not_ready
        self._report_lag = report_lag
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.host = ""
        self.port = 0

    @property
    def url(self) -> str:
        """The URL of its root."""
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
        self._measure_lag(asyncio.get_running_loop().time())

    async def stop(self) -> None:
        """Stop listening, and drop connections without a response."""
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
            if len(self._open) <= _MAX_CONNECTIONS:
                async with asyncio.timeout(_REQUEST_TIMEOUT):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a probe that gave up, or not HTTP
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
        why = self._why_not_ready() if request.path == "/readyz" else None
        status = HTTPStatus.OK if why is None else HTTPStatus.SERVICE_UNAVAILABLE
        return response(status, json.dumps({"status": why or "ok"}).encode() + b"\n", _JSON, head=no_body)

    def _measure_lag(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        self._report_lag(max(0.0, loop.time() - due))
        due = loop.time() + _LAG_INTERVAL
        self._timer = loop.call_at(due, self._measure_lag, due)
