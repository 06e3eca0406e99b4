"""One TCP connection of the relay: HTTP, then a WebSocket, then its bounded outbox. The only user of websockets here.

What arrives is cut into frames by ``FrameReader``; whole text messages and pongs go to the hub, all else through
websockets' sans-I/O protocol, which a connection has only once it needs one: that of its handshake holds the whole
request, up to 16 kB. What is sent goes into the outbox, and to the socket with the hub's next flush: in a join storm
that is one write for many notices. The outbox counts what waits here and in the transport (rule 7).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from http import HTTPStatus
from time import monotonic
from typing import Final, Protocol, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Opening
from websockets.protocol import OPEN, SERVER
from websockets.protocol import Protocol as WebSocket
from websockets.server import ServerProtocol

from peer.signaling.messages import CLOSE_BAD_JOIN, CLOSE_TOO_SLOW, Error, dump

from ..admission.admission import Visit
from ..admission.proxies import Hop
from ..admission.rate_limits import BURST
from ..config import MAX_HEAD, RelayConfig
from ..http import Request, read_request, response
from ..memory_budget import Buffers
from ..observability.counters import Tally
from .frame_reader import FrameReader, Kind, text_frame
from .send_queue import Outbox


class _WarningsOnly(logging.LoggerAdapter[logging.Logger]):
    """websockets at DEBUG writes whole frames, and a join carries a token and a key; its INFO lines are ours."""

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.WARNING and super().isEnabledFor(level)


_PING: Final = Frame(Opcode.PING, b"").serialize(mask=False)
_UNCOUNTED: Final = 64 * 1024  # octets that may come between two frames before they are counted
_TOO_SLOW: Final = "too slow: the outbox is full"
_WEBSOCKETS_LOG: Final = _WarningsOnly(logging.getLogger("server.websockets"), {})


class Phase(IntEnum):
    """How far a connection has come."""

    HEAD = 0  # an HTTP request is arriving
    JOINING = 1  # a WebSocket; its first frame is the join
    CLAIMING = 2  # it asked for an id that is taken, and waits (rule 3)
    JOINED = 3
    CLOSING = 4  # we said goodbye, or the other side did


class Hub(Protocol):
    """What a client needs of its relay."""

    config: RelayConfig
    buffer: memoryview
    """Where all clients read to, one after the other."""
    tally: Tally
    buffers: Buffers[Client]

    def opened(self, client: Client) -> None: ...
    def ended(self, client: Client) -> None: ...
    def asked(self, client: Client, request: Request) -> bytes: ...
    def welcomes(self, client: Client, header: Callable[[str], Sequence[str]]) -> bytes | None: ...
    def text(self, client: Client, octets: bytes) -> None: ...
    def refuse(self, client: Client, code: str, message: str) -> None: ...
    def too_fast(self, client: Client, ahead: float) -> None: ...
    def pong(self, client: Client) -> None: ...
    def lost(self, client: Client, *, clean: bool) -> None: ...
    def touched(self, outbox: Outbox) -> None: ...
    def flush(self) -> None: ...


class Client(asyncio.BufferedProtocol):
    """A connection, from accept to its end."""

    __slots__ = (
        "_deaf",
        "_frames",
        "_head",
        "_heard",
        "_hub",
        "_huge",
        "_message",
        "_opcode",
        "_outbox",
        "_partial",
        "_timer",
        "_transport",
        "_uncounted",
        "_ws",
        "address",
        "asked_at",
        "host",
        "phase",
        "secure",
        "told_at",
        "visit",
    )

    def __init__(self, hub: Hub, visit: Visit) -> None:
        self._hub = hub
        self.visit = visit
        self.phase = Phase.HEAD
        self.address = "?"
        self.asked_at = 0.0  # when its join came, by the loop's clock
        self.host = "?"  # the address without the port; that of who is behind a proxy, once it is known
        self.secure = False  # whether it came by TLS, here or to the proxy
        self._head = bytearray()
        self._frames = FrameReader(hub.config.max_frame_before_join)
        self._message = bytearray()  # of the fragmented message under way
        self._opcode = Opcode.TEXT
        self._huge = False
        self._partial = 0  # octets here of what has come in part
        self._uncounted = 0  # octets read since the last frame
        self.told_at = 0.0  # when it was last told that it is too fast
        self._heard = True  # since the last ping
        self._deaf = False  # what still comes is thrown away
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self._outbox: Outbox
        self._ws: WebSocket | None = None

    # --- asyncio's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._outbox = Outbox(self._transport, self._hub.config.max_send_queue, self._hub.touched, self._hold)
        # paused means: it holds something. Not high=0, which an empty TLS transport takes for full; not before there
        # is an outbox, because one that holds its session tickets still says so at once
        self._transport.set_write_buffer_limits(high=1, low=0)
        host = transport.get_extra_info("peername")
        if host:
            self.host, self.address = host[0], f"{host[0]}:{host[1]}"
        self.secure = transport.get_extra_info("sslcontext") is not None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self.visit.since + self._hub.config.join_timeout, self._not_joined)
        self._hub.opened(self)
        if self.visit.refusal is not None:
            self._respond(self.visit.refusal)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._hub.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._deaf:
            return
        self._heard = True
        self._hub.tally.octets_in += nbytes
        self._uncounted += nbytes
        data = bytes(self._hub.buffer[:nbytes])
        if self.phase is Phase.HEAD:
            self._read_head(data)
            self._note_partial()
        else:
            self._frames.feed(data)
            self._read_frames()
            if self._frames.held or self._partial or self._message:
                self._note_partial()
        self._hub.flush()

    def eof_received(self) -> bool:
        return False  # the transport sends what it has and closes

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._lost(clean=False)
        finally:  # whatever that led to: who is gone is not counted any more
            if self._ws is not None:
                _release(self._ws)
                self._ws = None
            self._outbox.end()
            self._hub.buffers.hold(self, 0)
            self._hub.ended(self)
        self._hub.flush()

    def pause_writing(self) -> None:
        self._outbox.pause()

    def resume_writing(self) -> None:
        self._hub.tally.outbox(self._outbox.waiting)
        self._outbox.resume()

    @property
    def waiting(self) -> int:
        """Octets in its outbox."""
        return self._outbox.waiting

    # --- the hub's side ---------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Put a whole WebSocket frame into the outbox; a full one ends this client, and this client only."""
        if self.phase is not Phase.CLOSING and not self._outbox.put(frame):
            self.close(CLOSE_TOO_SLOW, _TOO_SLOW)

    def came_by(self, hop: Hop) -> None:
        """It came through a proxy that we trust, which says this of it."""
        self.host, self.secure = hop.address, hop.scheme == "https"
        self.address = f"{hop.address} by {self.address}"

    def admit(self) -> None:
        """It has joined: larger frames are welcome, and nobody waits for the join any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._frames.limit = self._hub.config.max_frame
        claiming, self.phase = self.phase is Phase.CLAIMING, Phase.JOINED
        if claiming:
            self._transport.resume_reading()
            asyncio.get_running_loop().call_soon(self._resume)

    def claim(self) -> None:
        """Its join waits for somebody else's pong: read no further until that is decided."""
        self.phase = Phase.CLAIMING
        self._transport.pause_reading()

    def ping(self) -> bool:
        """Send a ping, unless nothing was heard since the last one: then it is dead, and False."""
        if not self._heard:
            return False
        self._heard = False
        self.ask()
        return True

    def ask(self) -> None:
        """Send a ping."""
        self.send(_PING)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, and leave the socket ``close_timeout`` seconds to answer it."""
        if self.phase is Phase.HEAD:
            self._transport.abort()
        elif self.phase is not Phase.CLOSING and (ws := self._websocket()).state is OPEN:
            self._hub.tally.closed[code] += 1
            ws.send_close(code, reason)
            self._goodbye(b"".join(ws.data_to_send()))

    def expel(self, code: int, reason: str) -> None:
        """Close it, read no more of it, and forget what waits for it here: it has taken too much already."""
        if self.phase in (Phase.HEAD, Phase.CLOSING):
            self.abort()
            return
        self._outbox.flush()
        self._outbox.drop()
        self.close(code, reason)
        self._forget_partial()
        self._hold()
        self._transport.pause_reading()
        self._end()

    def abort(self) -> None:
        """Drop the connection now."""
        self._transport.abort()
        self._forget_partial()
        self._hub.buffers.hold(self, 0)

    # --- reading ----------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4:
            if not self._head[:1].isalpha():  # no method begins so: a TLS ClientHello, 0x16, waits for an answer
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
            self._respond(self._hub.asked(self, request))

    def _open(self, head: bytes, rest: bytes) -> None:
        # origins are the hub's; no compression: presence and SDP are small, and shared frames are cheaper
        handshake = ServerProtocol(origins=None, extensions=None, max_size=None, logger=_WEBSOCKETS_LOG)
        handshake.receive_data(head)
        opening = next(iter(handshake.events_received()), None)
        if not isinstance(opening, Opening):
            self._respond(response(HTTPStatus.BAD_REQUEST))
        elif (unwelcome := self._hub.welcomes(self, opening.headers.get_all)) is not None:
            self._respond(unwelcome)
        else:
            handshake.send_response(handshake.accept(opening))
            if handshake.state is OPEN:
                self.phase = Phase.JOINING
                self._take(handshake.data_to_send())
            else:
                self._respond(b"".join(handshake.data_to_send()))
        _release(handshake)
        if rest and self.phase is Phase.JOINING:
            self._frames.feed(rest)
            self._read_frames()

    def _respond(self, octets: bytes) -> None:
        self._goodbye(octets)
        self._end()

    def _resume(self) -> None:
        if self._transport.is_closing():
            return  # it was aborted in the turn that admitted it, and is not counted any more
        self._read_frames()
        self._note_partial()
        self._hub.flush()

    def _read_frames(self) -> None:
        pull, meter, now = self._frames.pull, self.visit.meter, monotonic()
        while self.phase is not Phase.CLAIMING and not self._deaf and (found := pull()) is not None:
            kind, octets = found
            octets_read, self._uncounted = self._uncounted, 0
            if (ahead := meter.frame(octets_read, now)) > BURST:
                self._hub.too_fast(self, ahead)
                if kind is Kind.TEXT or self._deaf:
                    continue
            if kind is Kind.PONG:
                self._hub.pong(self)
            elif kind is not Kind.TEXT:
                self._through_websockets(octets, huge=kind is Kind.HUGE)
            elif self.phase is not Phase.CLOSING:
                self._hub.text(self, octets)
        if self._uncounted > _UNCOUNTED:  # the payload of a huge frame, which is thrown away
            octets_read, self._uncounted = self._uncounted, 0
            if (ahead := meter.read(octets_read, now)) > BURST:
                self._hub.too_fast(self, ahead)

    def _websocket(self) -> WebSocket:
        if self._ws is None:
            self._ws = WebSocket(SERVER, state=OPEN, max_size=None, logger=_WEBSOCKETS_LOG)
        return self._ws

    def _through_websockets(self, octets: bytes, *, huge: bool) -> None:
        ws = self._websocket()
        ws.receive_data(octets)
        for frame in cast(Iterable[Frame], ws.events_received()):
            match frame.opcode:
                case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                    self._assemble(frame, huge=huge)
                case Opcode.CLOSE:
                    self._lost(clean=True)
        self._take(ws.data_to_send())
        if ws.eof_sent:
            self._goodbye()
            self._end()

    def _assemble(self, frame: Frame, *, huge: bool) -> None:
        if frame.opcode is not Opcode.CONT:
            self._opcode, self._huge = frame.opcode, False
        self._message += frame.data
        if huge or self._huge or len(self._message) > self._frames.limit:
            self._huge = True
            self._message.clear()
        if not frame.fin or self.phase is Phase.CLOSING:
            return
        message = bytes(self._message)
        self._message.clear()
        if self.visit.meter.ahead(monotonic()) > BURST:
            return  # it was told when its last fragment came
        if self._huge:
            self._hub.refuse(self, "too-large", f"a frame is at most {self._frames.limit} octets here")
        elif self._opcode is Opcode.BINARY:
            self._hub.refuse(self, "bad-message", "frames are text, not binary")
        else:
            self._hub.text(self, message)

    def _note_partial(self) -> None:
        self._partial = len(self._frames.held) + len(self._message) + len(self._head)
        self._hold()

    def _hold(self) -> None:
        self._hub.buffers.hold(self, self._partial + self._outbox.stuck)

    def _forget_partial(self) -> None:
        self._frames = FrameReader(self._frames.limit)
        self._message.clear()
        self._head.clear()
        self._partial = 0

    # --- writing and ending -----------------------------------------------------------------------------------

    def _take(self, writes: Iterable[bytes]) -> None:
        for octets in writes:
            if octets and not self._outbox.put(octets):  # it sends pings, and reads no pongs
                self.close(CLOSE_TOO_SLOW, _TOO_SLOW)
                return

    def _goodbye(self, last: bytes = b"") -> None:
        """Nothing more is sent after ``last``; it has ``close_timeout`` seconds to arrive."""
        self._lost(clean=False)
        self.phase = Phase.CLOSING
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._hub.config.close_timeout, self.abort)
        self._outbox.finish(last)

    def _end(self) -> None:
        """Half-close, so that our last words are not lost to a reset, and wait for the other side's end."""
        self._deaf = True
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _lost(self, *, clean: bool) -> None:
        if self.phase in (Phase.CLAIMING, Phase.JOINED):
            if self.phase is Phase.CLAIMING:
                self._transport.resume_reading()
            self.phase = Phase.CLOSING
            self._hub.lost(self, clean=clean)

    def _not_joined(self) -> None:
        match self.phase:
            case Phase.HEAD:
                self._respond(response(HTTPStatus.REQUEST_TIMEOUT))
            case Phase.JOINING:
                self.send(text_frame(dump(Error("bad-join", "no join in time")).encode()))
                self.close(CLOSE_BAD_JOIN, "no join in time")


def _release(ws: WebSocket) -> None:
    """Cut the circles that it is in, by its parser and its errors: it is gone at once, and no work for the garbage
    collector, which stops the relay while it looks at all there is. (An opening that websockets refuses is left.)"""
    vars(ws).clear()
