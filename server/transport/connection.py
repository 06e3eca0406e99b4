"""One TCP connection of the relay: HTTP, then a WebSocket, with a bounded send queue.

``FrameReader`` cuts the received data into frames. Whole text messages and pongs go to the relay directly. All other
frames go through the sans-I/O protocol of websockets. A connection creates that object only when it needs one, and
does not keep the one of its handshake, which holds the whole request of up to 16 kB.

Sent frames go into the send queue, and from there to the socket with the relay's next flush: when many peers join at
once, their notices leave in one write. The size of the queue includes the bytes in the transport (rule 7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from http import HTTPStatus
from time import monotonic
from typing import Final, Protocol, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Opening
from websockets.protocol import OPEN
from websockets.protocol import Protocol as WebSocket

from peer.signaling.message_json import dump
from peer.signaling.messages import CLOSE_BAD_JOIN, CLOSE_PROTOCOL_ERROR, CLOSE_TOO_SLOW, Error

from ..admission.admission import ConnectionRecord
from ..admission.proxies import Hop
from ..admission.rate_limits import BURST
from ..config import MAX_HEAD, RelayConfig
from ..http import Request, read_request, response
from ..memory_budget import MemoryBudget
from ..observability.counters import Counters
from . import websocket
from .frame_reader import FrameReader, Kind, text_frame
from .message_assembler import MessageAssembler
from .send_queue import SendQueue

_PING: Final = Frame(Opcode.PING, b"").serialize(mask=False)
_MAX_UNCOUNTED: Final = 64 * 1024
"""Maximum bytes that are received between two frames and not yet counted against the rate limits. Without it, an
endless frame would never be counted."""
_TOO_SLOW: Final = "too slow: the send queue is full"


class Phase(IntEnum):
    """Progress of a connection."""

    HEAD = 0
    """An HTTP request is arriving."""
    JOINING = 1
    """The WebSocket is open; its first message is the join."""
    CLAIMING = 2
    """Its id is taken, and the answer waits for the holder's pong (rule 3)."""
    JOINED = 3
    CLOSING = 4
    """The close frame or the last HTTP response was sent, or the client has closed."""


class RelayInterface(Protocol):
    """The interface of the relay to its clients."""

    config: RelayConfig
    read_buffer: memoryview
    """Receive buffer shared by all clients, which read one after the other."""
    counters: Counters
    memory_budget: MemoryBudget[Client]

    def client_connected(self, client: Client) -> None: ...
    def client_disconnected(self, client: Client) -> None: ...
    def http_request(self, client: Client, request: Request) -> bytes: ...
    def check_handshake(self, client: Client, header: Callable[[str], Sequence[str]]) -> bytes | None: ...
    def message_received(self, client: Client, data: bytes) -> None: ...
    def reject(self, client: Client, code: str, message: str) -> None: ...
    def rate_exceeded(self, client: Client, ahead: float) -> None: ...
    def pong_received(self, client: Client) -> None: ...
    def client_left(self, client: Client, *, clean: bool) -> None: ...
    def request_flush(self, queue: SendQueue) -> None: ...
    def flush(self) -> None: ...


class Client(asyncio.BufferedProtocol):
    """A connection, from accept to its end."""

    __slots__ = (
        "_active",
        "_assembler",
        "_discards_input",
        "_frames",
        "_head",
        "_partial_size",
        "_relay",
        "_send_queue",
        "_timer",
        "_transport",
        "_uncounted",
        "_ws",
        "address",
        "host",
        "join_received_at",
        "phase",
        "rate_limited_at",
        "record",
        "secure",
    )

    def __init__(self, relay: RelayInterface, record: ConnectionRecord) -> None:
        self._relay = relay
        self.record = record
        self.phase = Phase.HEAD
        self.address = "?"  # address and port, for the log
        self.host = "?"  # the address; behind a trusted proxy, that of the client
        self.secure = False  # whether it uses TLS, up to here or up to the proxy
        self.join_received_at = 0.0  # by the event loop's clock
        self.rate_limited_at = 0.0  # when `rate-limited` was last sent
        self._head = bytearray()
        self._frames = FrameReader(relay.config.max_frame_before_join)
        self._assembler = MessageAssembler()
        self._partial_size = 0  # bytes held here of incomplete requests and messages
        self._uncounted = 0  # bytes read since the last frame
        self._active = True  # whether data has arrived since the last ping
        self._discards_input = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self._send_queue: SendQueue
        self._ws: WebSocket | None = None

    # --- asyncio ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        limit = self._relay.config.max_send_queue
        self._send_queue = SendQueue(self._transport, limit, self._relay.request_flush, self._update_memory)
        # With high=1, "paused" means that the transport holds data. With high=0 an empty TLS transport counts as
        # full. The queue must exist first, because a transport that still holds TLS session tickets pauses at once.
        self._transport.set_write_buffer_limits(high=1, low=0)
        host = transport.get_extra_info("peername")
        if host:
            self.host, self.address = host[0], f"{host[0]}:{host[1]}"
        self.secure = transport.get_extra_info("sslcontext") is not None
        loop = asyncio.get_running_loop()
        deadline = self.record.accepted_at + self._relay.config.join_timeout
        self._timer = loop.call_at(deadline, self._join_timed_out)
        self._relay.client_connected(self)
        if self.record.refusal is not None:
            self._respond(self.record.refusal)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._relay.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._discards_input:
            return
        self._active = True
        self._relay.counters.bytes_in += nbytes
        self._uncounted += nbytes
        data = bytes(self._relay.read_buffer[:nbytes])
        if self.phase is Phase.HEAD:
            self._read_head(data)
            self._update_partial_size()
        else:
            self._frames.feed(data)
            self._read_frames()
            if self._frames.buffer or self._partial_size or self._assembler:
                self._update_partial_size()
        self._relay.flush()

    def eof_received(self) -> bool:
        return False  # the transport sends its buffer and closes

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._leave(clean=False)
        finally:  # release everything, even if the relay raised
            if self._ws is not None:
                websocket.release(self._ws)
                self._ws = None
            self._send_queue.close()
            self._relay.memory_budget.set_usage(self, 0)
            self._relay.client_disconnected(self)
        self._relay.flush()

    def pause_writing(self) -> None:
        self._send_queue.pause()

    def resume_writing(self) -> None:
        self._relay.counters.note_send_queue(self._send_queue.size)
        self._send_queue.resume()

    @property
    def queued(self) -> int:
        """Size of the send queue, in bytes."""
        return self._send_queue.size

    # --- called by the relay ----------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Queue a WebSocket frame. If the queue is full, close this client, and only this one."""
        if self.phase is not Phase.CLOSING and not self._send_queue.put(frame):
            self.close(CLOSE_TOO_SLOW, _TOO_SLOW)

    def set_forwarded(self, hop: Hop) -> None:
        """Take the client's address and scheme from ``hop``, reported by a trusted proxy."""
        self.host, self.secure = hop.address, hop.scheme == "https"
        self.address = f"{hop.address} by {self.address}"

    def admit(self) -> None:
        """Mark the client as joined: raise its message limit, and cancel the join time-out."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._frames.limit = self._relay.config.max_frame
        claiming, self.phase = self.phase is Phase.CLAIMING, Phase.JOINED
        if claiming:
            self._transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._resume)

    def claim(self) -> None:
        """Stop reading until the claim is decided: the holder of the id answers a ping, or its time is over."""
        self.phase = Phase.CLAIMING
        self._transport.pause_reading()

    def keepalive(self) -> bool:
        """Send a ping and return True; or return False if no data has arrived since the last one, so it is dead."""
        if not self._active:
            return False
        self._active = False
        self.ping()
        return True

    def ping(self) -> None:
        """Send a ping."""
        self.send(_PING)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame. The client has ``close_timeout`` seconds to answer it."""
        if self.phase is Phase.HEAD:
            self._transport.abort()
        elif self.phase is not Phase.CLOSING and (ws := self._websocket()).state is OPEN:
            self._relay.counters.closed[code] += 1
            ws.send_close(code, reason)
            self._send_last(b"".join(ws.data_to_send()))

    def evict(self, code: int, reason: str) -> None:
        """Close a connection that has exceeded its limits: discard its queue and its input."""
        if self.phase in (Phase.HEAD, Phase.CLOSING):
            self.abort()
            return
        self._send_queue.flush()
        self._send_queue.drop()
        self.close(code, reason)
        self._discard_partial()
        self._update_memory()
        self._transport.pause_reading()
        self._end()

    def abort(self) -> None:
        """Drop the connection without a close frame."""
        self._transport.abort()
        self._discard_partial()
        self._relay.memory_budget.set_usage(self, 0)

    # --- reading ----------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4:
            if not self._head[:1].isalpha():  # not a method: a TLS ClientHello (0x16), for example, expects an answer
                self._respond(response(HTTPStatus.BAD_REQUEST))
            elif len(self._head) > MAX_HEAD:
                self._respond(response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
            return
        head, rest = bytes(self._head[:end]), bytes(self._head[end:])
        self._head.clear()
        request = read_request(head)
        if request is None:
            self._respond(response(HTTPStatus.BAD_REQUEST))
        elif request.path == "/ws":
            if request.method == "GET":
                self._open(head, rest)
            else:
                self._respond(response(HTTPStatus.METHOD_NOT_ALLOWED, extra="Allow: GET\r\n"))
        else:
            self._respond(self._relay.http_request(self, request))

    def _open(self, head: bytes, rest: bytes) -> None:
        handshake = websocket.handshake()
        handshake.receive_data(head)
        opening = next(iter(handshake.events_received()), None)
        if not isinstance(opening, Opening):
            self._respond(response(HTTPStatus.BAD_REQUEST))
        elif (rejection := self._relay.check_handshake(self, opening.headers.get_all)) is not None:
            self._respond(rejection)
        else:
            handshake.send_response(handshake.accept(opening))
            if handshake.state is OPEN:
                self.phase = Phase.JOINING
                self._send_all(handshake.data_to_send())
            else:
                self._respond(b"".join(handshake.data_to_send()))
        websocket.release(handshake)
        if rest and self.phase is Phase.JOINING:
            self._frames.feed(rest)
            self._read_frames()

    def _respond(self, data: bytes) -> None:
        self._send_last(data)
        self._end()

    def _resume(self) -> None:
        if self._transport.is_closing():
            return  # aborted in the iteration of the event loop that admitted it; its memory is no longer counted
        self._read_frames()
        self._update_partial_size()
        self._relay.flush()

    def _read_frames(self) -> None:
        pull, meter, now = self._frames.pull, self.record.meter, monotonic()
        while self.phase is not Phase.CLAIMING and not self._discards_input and (found := pull()) is not None:
            kind, data = found
            size, self._uncounted = self._uncounted, 0
            if (ahead := meter.count_message(size, now)) > BURST:
                self._relay.rate_exceeded(self, ahead)
                if kind is Kind.TEXT or self._discards_input:
                    continue
            if kind is Kind.PONG:
                self._relay.pong_received(self)
            elif kind is Kind.ILLEGAL:
                self.close(CLOSE_PROTOCOL_ERROR, "invalid frame length: its most significant bit is set")
                self._end()
            elif kind is not Kind.TEXT:
                self._read_other_frame(data, too_large=kind is Kind.TOO_LARGE)
            elif self.phase is not Phase.CLOSING:
                self._relay.message_received(self, data)
        if self._uncounted > _MAX_UNCOUNTED:  # the payload of a frame that is too large
            size, self._uncounted = self._uncounted, 0
            if (ahead := meter.count_bytes(size, now)) > BURST:
                self._relay.rate_exceeded(self, ahead)

    def _websocket(self) -> WebSocket:
        if self._ws is None:
            self._ws = websocket.opened()
        return self._ws

    def _read_other_frame(self, data: bytes, *, too_large: bool) -> None:
        """Pass a frame that is not a whole text message or a pong through websockets."""
        ws = self._websocket()
        ws.receive_data(data)
        for frame in cast(Iterable[Frame], ws.events_received()):
            match frame.opcode:
                case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                    self._add_to_message(frame, too_large=too_large)
                case Opcode.CLOSE:
                    self._leave(clean=True)
        self._send_all(ws.data_to_send())
        if ws.eof_sent:
            self._send_last()
            self._end()

    def _add_to_message(self, frame: Frame, *, too_large: bool) -> None:
        message = self._assembler.add(frame, self._frames.limit, too_large=too_large)
        if message is None or self.phase is Phase.CLOSING:
            return
        if self.record.meter.ahead(monotonic()) > BURST:
            return  # `rate-limited` was sent when the last frame arrived
        if message.rejection is None:
            self._relay.message_received(self, message.data)
        else:
            self._relay.reject(self, *message.rejection)

    def _update_partial_size(self) -> None:
        self._partial_size = len(self._frames.buffer) + len(self._assembler) + len(self._head)
        self._update_memory()

    def _update_memory(self) -> None:
        self._relay.memory_budget.set_usage(self, self._partial_size + self._send_queue.blocked)

    def _discard_partial(self) -> None:
        self._frames = FrameReader(self._frames.limit)
        self._assembler.discard()
        self._head.clear()
        self._partial_size = 0

    # --- writing and ending -----------------------------------------------------------------------------------

    def _send_all(self, frames: Iterable[bytes]) -> None:
        for data in frames:
            if data and not self._send_queue.put(data):  # the client sends pings and does not read the pongs
                self.close(CLOSE_TOO_SLOW, _TOO_SLOW)
                return

    def _send_last(self, last: bytes = b"") -> None:
        """Send ``last``, and nothing more after it. It has ``close_timeout`` seconds to arrive."""
        self._leave(clean=False)
        self.phase = Phase.CLOSING
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._relay.config.close_timeout, self.abort)
        self._send_queue.finish(last)

    def _end(self) -> None:
        """Half-close and wait for the client. Closing at once could cause a reset, which discards data sent."""
        self._discards_input = True
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _leave(self, *, clean: bool) -> None:
        if self.phase in (Phase.CLAIMING, Phase.JOINED):
            if self.phase is Phase.CLAIMING:
                self._transport.resume_reading()
            self.phase = Phase.CLOSING
            self._relay.client_left(self, clean=clean)

    def _join_timed_out(self) -> None:
        match self.phase:
            case Phase.HEAD:
                self._respond(response(HTTPStatus.REQUEST_TIMEOUT))
            case Phase.JOINING:
                self.send(text_frame(dump(Error("bad-join", "no join in time")).encode()))
                self.close(CLOSE_BAD_JOIN, "no join in time")
