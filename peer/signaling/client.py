"""WebSocket client of the relay: connects, joins, sends, receives, and reconnects.

The client keeps no state about peers or calls. It passes everything it receives to ``on_event``, in the event loop,
as one of the events below.

While the relay is unreachable, outgoing messages are queued for up to ``MAX_QUEUE_AGE`` seconds and sent in order
after the next join. A hang-up or a candidate then still reaches its call. A hang-up that names its call is kept
longer: it cannot end another one (docs/protocol.md, peer rule 0 h).
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from ..errors import ProtocolError
from ..log_limit import LimitedLogger
from . import message_json, messages
from .backoff import Backoff
from .diagnosis import (
    JOIN_UNANSWERED,
    NO_ANSWER,
    Diagnosis,
    diagnose,
    is_connection_refused,
    is_loopback,
    rate_limit_rejection,
)
from .messages import Join, Message
from .relay_url import check_url, without_zone

log = logging.getLogger(__name__)
limited_log = LimitedLogger(log)


class _WarningsOnly(logging.LoggerAdapter[logging.Logger]):
    """The log of ``websockets`` without its debug lines, which hold whole messages: tokens, keys and passwords of
    TURN servers."""

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.WARNING and super().isEnabledFor(level)


_WEBSOCKETS_LOG: Final = _WarningsOnly(logging.getLogger("websockets.client"), {})

MAX_QUEUE_AGE: Final = 15.0
"""Maximum age of a queued message, in seconds. It equals the default time-out of a call, so older messages
belong to calls that have ended."""

MAX_QUEUED: Final = 256
"""Maximum number of queued messages. When the queue is full, the oldest message is dropped."""

ATTEMPT_DELAY: Final = 0.25
"""Time after which the next address of the relay's name is tried as well, in seconds (RFC 8305, section 5)."""

MAX_PEER_LIST: Final = 4 * 1024 * 1024
"""Maximum size of a message from the relay, in bytes. ``peer-list`` is the largest: 2,000 peers with the longest ids
and instances take 1.8 MB, and the relay's send queue holds 4 MB."""

OPEN_TIMEOUT: Final = 5.0
"""Maximum time to open the WebSocket, and again to join, in seconds."""

PING_INTERVAL: Final = 10.0
PING_TIMEOUT: Final = 10.0
"""Keepalive, in seconds: a dead connection is detected after at most the sum of both."""

_FINAL_CLOSE_CODES: Final = {
    messages.CLOSE_REPLACED: ("replaced", "another program with the same id and key has taken its place"),
    messages.CLOSE_BAD_JOIN: ("bad-join", "the join was rejected"),
    messages.CLOSE_UNAUTHORIZED: ("unauthorized", "the token was rejected"),
    messages.CLOSE_ID_TAKEN: ("id-taken", "the id is taken"),
}
"""Close codes after which the client does not reconnect: the next attempt would end in the same way."""

_TEMPORARY: Final = frozenset({"room-full", "rate-limited"})
"""Error codes after which the client reconnects, whatever the close code: the next attempt may succeed."""


@dataclass(frozen=True, slots=True)
class Joined:
    """We have joined. ``peers`` holds the other peers in the room, and the relay's ICE servers."""

    peers: messages.PeerList


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection was lost, or an attempt failed. The client retries."""

    diagnosis: Diagnosis
    rejection: tuple[str, str] | None = None
    """Error code and message if the relay rejected us for now."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The relay rejected us for good; ``run`` returns."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """The relay sent ``message``."""

    message: Message


SignalingEvent = Joined | Disconnected | Rejected | MessageReceived


class SignalingClient:
    """Client of one relay; see the module.

    Args:
        url: URL of the relay.
        join: sent first on every connection.
        on_event: called with every event.
        tls: checks the relay's certificate; ``None``: the system's trust.

    Raises:
        ConfigError: ``url`` is not the URL of a relay.
    """

    def __init__(
        self,
        url: str,
        join: Join,
        on_event: Callable[[SignalingEvent], None],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = check_url(url)
        self._join = join
        self._on_event = on_event
        secure = urlsplit(self._url).scheme == "wss"
        self._tls = (tls or ssl.create_default_context()) if secure else None
        self._socket: ClientConnection | None = None
        self._send_queue: deque[tuple[float, str]] = deque(maxlen=MAX_QUEUED)
        self._queued = asyncio.Event()
        self._flushed = asyncio.Event()
        self._flushed.set()
        self._rejection: tuple[str, str] | None = None
        self._open = False

    @property
    def url(self) -> str:
        return self._url

    @property
    def joined(self) -> bool:
        """Whether we are in the room now."""
        return self._socket is not None

    @property
    def timeout_diagnosis(self) -> Diagnosis:
        """Diagnosis of a time-out at this moment."""
        return JOIN_UNANSWERED if self._open else NO_ANSWER

    def send(self, message: Message) -> None:
        """Queue ``message``. Never blocks and never fails."""
        names_its_call = isinstance(message, messages.HangUp) and message.call is not None
        until = math.inf if names_its_call else asyncio.get_running_loop().time() + MAX_QUEUE_AGE
        self._send_queue.append((until, message_json.dump(message)))
        self._flushed.clear()
        self._queued.set()
        log.debug("> %s", _summary(message))

    async def flush(self) -> None:
        """Wait until the send queue is empty. Returns at once while the relay is unreachable."""
        if self._socket is not None:
            await self._flushed.wait()

    async def run(self) -> None:
        """Connect and reconnect until cancelled or rejected for good. On cancellation the peer leaves the room."""
        backoff = Backoff()
        quiet = False  # after a join or a logged failure; the program learns of all others from the events
        while True:
            diagnosis = Diagnosis("the relay closed the connection", None)
            answered = False
            rejection: tuple[str, str] | None = None
            try:
                async with self._connect() as socket:
                    self._open = True
                    await self._join_room(socket)
                    backoff.reset()
                    answered = True
                    quiet = True
                    await self._serve(socket)
            except ConnectionClosed as exc:
                if exc.rcvd is not None:
                    rejection = self._rejection_of(exc.rcvd.code, exc.rcvd.reason)
                    if rejection is not None and rejection[0] not in _TEMPORARY:
                        self._on_event(Rejected(*rejection))
                        return
                    why = rejection[1] if rejection else exc.rcvd.reason or f"closed with {exc.rcvd.code}"
                    diagnosis = Diagnosis(why, None)
            except TimeoutError:
                diagnosis = self.timeout_diagnosis
            except (OSError, WebSocketException, ImportError, ValueError) as exc:  # the last two: an unusable proxy
                diagnosis = diagnose(exc, self._url)
                answered = is_connection_refused(exc)
                rejection = rate_limit_rejection(exc)
            now = asyncio.get_running_loop().time()
            delay = backoff.delay(now, host_answered=answered, rejected=rejection is not None)
            self._open = False
            if not quiet and not diagnosis.permanent:
                log.info("= no connection to the relay yet (%s); trying until there is one", diagnosis.why)
                quiet = True
            log.debug("= next try in %.1f s (%s)", delay, diagnosis.why)
            self._on_event(Disconnected(diagnosis, rejection))
            await asyncio.sleep(delay)

    def _rejection_of(self, close: int, reason: str) -> tuple[str, str] | None:
        """Return code and message if this close code is a rejection, otherwise ``None``."""
        if close != messages.CLOSE_RATE_LIMITED and close not in _FINAL_CLOSE_CODES:
            return None
        code, text = _FINAL_CLOSE_CODES.get(close, ("rate-limited", "we exceeded its rate limits"))
        return self._rejection or (code, reason or text)

    def _connect(self) -> connect:
        url, address = without_zone(self._url)
        return connect(
            url,
            **address,
            logger=_WEBSOCKETS_LOG,
            ssl=self._tls,
            happy_eyeballs_delay=ATTEMPT_DELAY,
            compression=None,  # offers are sent once; deflate costs memory per connection and CPU per message
            open_timeout=OPEN_TIMEOUT,
            close_timeout=1.0,
            ping_interval=PING_INTERVAL,
            ping_timeout=PING_TIMEOUT,
            max_size=MAX_PEER_LIST,
            proxy=None if is_loopback(self._url) else True,
        )

    async def _join_room(self, socket: ClientConnection) -> None:
        self._rejection = None
        async with asyncio.timeout(OPEN_TIMEOUT):
            await socket.send(message_json.dump(self._join))
            while True:
                match _parse(await socket.recv()):
                    case messages.PeerList() as peers:
                        break
                    case messages.Error(code, message):
                        self._rejection = (code, message)  # the close code that follows decides whether to retry
        log.debug("< %s", _summary(peers))
        self._socket = socket
        self._on_event(Joined(peers))

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
                            self._on_event(MessageReceived(message))
                except ConnectionClosed as exc:
                    closed = exc
                except asyncio.CancelledError:
                    # Code 1000 leaves the room. The context manager alone would send 1011, which keeps our seat.
                    await socket.close()
                    raise
                writer.cancel()
        finally:
            self._socket = None
            self._flushed.set()
        raise closed

    def _put_back(self, until: float, text: str) -> None:
        """Queue a message again that was not sent. If the queue is full, drop it, because it is the oldest."""
        if len(self._send_queue) < MAX_QUEUED:
            self._send_queue.appendleft((until, text))

    async def _write(self, socket: ClientConnection) -> None:
        now = asyncio.get_running_loop().time
        while True:
            await self._queued.wait()
            while self._send_queue:
                until, text = self._send_queue.popleft()
                if until > now():
                    try:
                        await socket.send(text)
                    except ConnectionClosed:
                        self._put_back(until, text)
                        return  # _serve reads the same exception
                    except asyncio.CancelledError:  # _serve was first to notice the closed connection
                        self._put_back(until, text)
                        raise
            self._queued.clear()
            self._flushed.set()


def _parse(text: str | bytes) -> Message | None:
    if isinstance(text, bytes):
        limited_log.info("= ignored a binary message from the relay")
        return None
    try:
        return message_json.parse(text)
    except ProtocolError as exc:
        limited_log.info("= ignored an invalid message from the relay: %s", exc)
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
        case messages.IceServers(servers):  # without the passwords
            return f"ice-servers, {len(servers)}"
    return str(message)
