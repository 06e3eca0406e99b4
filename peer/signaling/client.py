"""The WebSocket to the relay: connect, join, send, receive, and come back for ever.

What ``websockets`` raises while it connects is put into words in ``unreachable``. Nothing is kept here of peers or
calls: what it learns it hands to ``deliver``, in the event loop, as one of the events below.

What is sent while the relay is away waits, for at most ``KEEP`` seconds, and goes out in order once we are back:
a hang-up or a candidate still finds its call, and everything older has met its deadline anyway.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from ..errors import ConfigError, ProtocolError, redacted
from . import messages
from .backoff import Backoff
from .diagnosis import NOT_YET, SILENT, Trouble, diagnose, is_refusal, too_many
from .messages import Join, Message

log = logging.getLogger(__name__)


class _WarningsOnly(logging.LoggerAdapter[logging.Logger]):
    """websockets at DEBUG writes whole frames and headers: token and key of the join, passwords of TURN servers."""

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.WARNING and super().isEnabledFor(level)


_WEBSOCKETS_LOG: Final = _WarningsOnly(logging.getLogger("websockets.client"), {})

KEEP: Final = 15.0
MAX_KEPT: Final = 256

OPEN_TIMEOUT: Final = 5.0
PING_INTERVAL: Final = 10.0
PING_TIMEOUT: Final = 10.0

_FATAL: Final = {
    messages.CLOSE_REPLACED: ("replaced", "another program took our seat with the same id and key"),
    messages.CLOSE_BAD_JOIN: ("bad-join", "the join was refused"),
    messages.CLOSE_UNAUTHORIZED: ("unauthorized", "the token was refused"),
    messages.CLOSE_ID_TAKEN: ("id-taken", "the id is taken"),
}


_FOR_NOW: Final = frozenset({"room-full", "rate-limited"})
"""Codes of a refusal that may be another one the next time, whatever the close code says."""


@dataclass(frozen=True, slots=True)
class Up:
    """We are in the room. ``peers`` is who else is."""

    peers: messages.PeerList


@dataclass(frozen=True, slots=True)
class Down:
    """The relay is out of reach; the next attempt comes by itself."""

    trouble: Trouble
    refused: tuple[str, str] | None = None
    """Code and message, when it is there and does not want us now."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The relay does not want us, and will not want us the next time: ``run`` has ended."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Received:
    message: Message


SignalingEvent = Up | Down | Refused | Received


def check_url(url: str) -> str:
    """``url`` if it can be one of a relay; a missing path becomes ``/ws``.

    Raises:
        ConfigError: it cannot.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("ws", "wss") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(
            f"{redacted(url)!r} is no relay; write ws://host:port/ws or wss://host/ws", where="--server"
        )
    return url if parts.path not in ("", "/") else parts._replace(path="/ws").geturl()


def trusting(cacert: str | None) -> ssl.SSLContext | None:
    """What checks a relay's certificate: against those in the PEM file ``cacert`` only, or as the system does (None).

    Raises:
        ConfigError: the file cannot be used.
    """
    if cacert is None:
        return None
    try:
        return ssl.create_default_context(cafile=cacert)
    except ssl.SSLError:
        raise ConfigError(f"{cacert}: no certificate in PEM", where="--cacert") from None
    except OSError as exc:
        raise ConfigError(f"{cacert}: {exc.strerror or exc}", where="--cacert") from None


class Signaling:
    """See the module. ``join`` is sent on every connection."""

    def __init__(
        self,
        url: str,
        join: Join,
        deliver: Callable[[SignalingEvent], None],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = check_url(url)
        self._join = join
        self._deliver = deliver
        secure = urlsplit(self._url).scheme == "wss"
        self._tls = (tls or ssl.create_default_context()) if secure else None
        self._socket: ClientConnection | None = None
        self._outbox: deque[tuple[float, str]] = deque(maxlen=MAX_KEPT)
        self._pending = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._refusal: tuple[str, str] | None = None
        self._open = False

    @property
    def url(self) -> str:
        return self._url

    @property
    def up(self) -> bool:
        """Whether we are in the room."""
        return self._socket is not None

    @property
    def silence(self) -> Trouble:
        """What it means when we wait for the relay and nothing has come."""
        return NOT_YET if self._open else SILENT

    def send(self, message: Message) -> None:
        """Put ``message`` in line. Never blocks and never fails."""
        self._outbox.append((asyncio.get_running_loop().time() + KEEP, messages.dump(message)))
        self._idle.clear()
        self._pending.set()
        log.debug("> %s", _summary(message))

    async def flushed(self) -> None:
        """Wait until everything in line is out; at once while the relay is away."""
        if self._socket is not None:
            await self._idle.wait()

    async def run(self) -> None:
        """Connect, and connect again, until cancelled or refused. Being cancelled leaves in good order."""
        backoff = Backoff()
        while True:
            trouble = Trouble("the relay closed the connection", None)
            answered = False
            refused: tuple[str, str] | None = None
            try:
                async with self._connect() as socket:
                    self._open = True
                    await self._enter(socket)
                    backoff.reached()
                    answered = True
                    await self._serve(socket)
            except ConnectionClosed as exc:
                if exc.rcvd is not None:
                    refused = self._refused_by(exc.rcvd.code, exc.rcvd.reason)
                    if refused is not None and refused[0] not in _FOR_NOW:
                        self._deliver(Refused(*refused))
                        return
                    why = refused[1] if refused else exc.rcvd.reason or f"closed with {exc.rcvd.code}"
                    trouble = Trouble(why, None)
            except TimeoutError:
                trouble = self.silence
            except (OSError, WebSocketException, ImportError, ValueError) as exc:  # the last two: an odd proxy
                trouble = diagnose(exc, self._url)
                answered = is_refusal(exc)
                refused = too_many(exc)
            now = asyncio.get_running_loop().time()
            delay = backoff.delay(now, answered=answered, asked_to_wait=refused is not None)
            self._open = False
            log.info("= relay away (%s), next try in %.1f s", trouble.why, delay)
            self._deliver(Down(trouble, refused))
            await asyncio.sleep(delay)

    def _refused_by(self, close: int, reason: str) -> tuple[str, str] | None:
        """Code and message of a refusal that ended with this close code; None: it is none."""
        if close != messages.CLOSE_RATE_LIMITED and close not in _FATAL:
            return None
        code, text = _FATAL.get(close, ("rate-limited", "we sent too much too fast"))
        return self._refusal or (code, reason or text)

    def _connect(self) -> connect:
        return connect(
            self._url,
            logger=_WEBSOCKETS_LOG,
            ssl=self._tls,
            compression=None,  # offers are sent once; deflate costs memory per connection and CPU per frame
            open_timeout=OPEN_TIMEOUT,
            close_timeout=1.0,
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_TIMEOUT,
            max_size=4 * messages.MAX_FRAME,
            proxy=None if _is_loopback(self._url) else True,
        )

    async def _enter(self, socket: ClientConnection) -> None:
        self._refusal = None
        async with asyncio.timeout(OPEN_TIMEOUT):
            await socket.send(messages.dump(self._join))
            while True:
                match _parse(await socket.recv()):
                    case messages.PeerList() as peers:
                        break
                    case messages.Error(code, message):
                        self._refusal = (code, message)  # the close code that follows says whether for good
        log.debug("< %s", _summary(peers))
        self._socket = socket
        self._deliver(Up(peers))

    async def _serve(self, socket: ClientConnection) -> None:
        closed: ConnectionClosed | None = None
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write(socket), name="signaling-writer")
                try:
                    while True:
                        message = _parse(await socket.recv())
                        if message is not None:
                            log.debug("< %s", _summary(message))
                            self._deliver(Received(message))
                except ConnectionClosed as exc:
                    closed = exc
                except asyncio.CancelledError:
                    await socket.close()  # 1000: we leave. The context manager alone would say 1011 and we'd be kept
                    raise
                writer.cancel()
        finally:
            self._socket = None
            self._idle.set()
        raise closed

    async def _write(self, socket: ClientConnection) -> None:
        now = asyncio.get_running_loop().time
        while True:
            await self._pending.wait()
            while self._outbox:
                until, text = self._outbox.popleft()
                if until > now():
                    try:
                        await socket.send(text)
                    except ConnectionClosed:
                        self._outbox.appendleft((until, text))
                        return  # the reader sees it too; the frame stays in line
            self._pending.clear()
            self._idle.set()


def _parse(frame: str | bytes) -> Message | None:
    if isinstance(frame, bytes):
        log.info("= a binary frame from the relay is ignored")
        return None
    try:
        return messages.parse(frame)
    except ProtocolError as exc:
        log.info("= a frame that cannot be read is ignored: %s", exc)
        return None


def _summary(message: Message) -> str:
    match message:
        case messages.Candidate(from_, to, candidate):
            return f"candidate {from_} to {to}: {candidate.candidate if candidate else 'end'}"
        case messages.Offer(from_, to) | messages.Answer(from_, to):
            return f"{type(message).__name__.lower()} {from_} to {to}"
        case messages.Join(peer_id, room):
            return f"join {peer_id} {room or ''}"
        case messages.PeerList(peers):
            return f"peer-list {' '.join(peers)}"
        case messages.IceServers(servers):  # without their passwords
            return f"ice-servers, {len(servers)}"
    return str(message)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
