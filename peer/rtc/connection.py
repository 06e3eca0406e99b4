"""Life of one RTCPeerConnection: one generation of one call, from its first description until it is closed.

The only module that drives aiortc's connections. ``Negotiation`` decides what to do and in which order; results are
posted back as events with the generation of this connection.

``run`` owns all tasks and the transport, and releases them before it returns or is cancelled. Operations are queued
and run one at a time (the operations chain of W3C webrtc-pc 4.4.1.2); the methods that queue them return at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from aiortc import RTCPeerConnection, RTCSessionDescription

from .. import negotiation as n
from ..events import Reason
from ..log_limit import LimitedLogger
from ..media.incoming.track import IncomingMedia
from ..signaling.ice_servers import IceServer
from ..signaling.messages import IceCandidate
from . import aiortc_hooks, sdp
from .answer import mirror
from .codec_preferences import default_codecs
from .engine_sections import EngineSections
from .ice_gathering import NoTurnServerError
from .ice_session import IceSession
from .ice_transport import IceTransport
from .liveness import Liveness
from .outgoing_tracks import OutgoingTracks
from .remote_description import RemoteDescription, normalize_answer, normalize_offer
from .rtcp_stats import TransportStats
from .sdp_codecs import SupportedCodecs
from .silence import Change
from .transceivers import Transceivers

log = LimitedLogger(logging.getLogger(__name__))

OpenPeerConnection = Callable[[Callable[[], None], bool], RTCPeerConnection]
"""Opens an RTCPeerConnection. Arguments: a callback for the failure to connect the transport; ``relay_only``."""


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """Options shared by all connections of an agent."""

    ice_servers: tuple[IceServer, ...] = ()
    relay_only: bool = False
    """Use only candidates of TURN servers (W3C iceTransportPolicy ``relay``)."""
    video_codecs: tuple[str, ...] | None = None
    """Names in lower case, in order of preference. ``None``: see ``default_codecs``."""


class Connection:
    """One peer connection.

    Args:
        generation: the number of this connection among all connections with the remote.
        tracks: what is sent. Owned by the connection from now on.
        incoming: receives the remote's media. It outlives the connection.
        post: called in the event loop with each event for the negotiation; not after ``close``.
        open_peer_connection: replaced in tests.
    """

    def __init__(
        self,
        generation: int,
        tracks: OutgoingTracks,
        incoming: IncomingMedia,
        options: ConnectionOptions,
        post: Callable[[n.Event], None],
        open_peer_connection: OpenPeerConnection = aiortc_hooks.open_peer_connection,
    ) -> None:
        self.generation = generation
        self.ice_servers = options.ice_servers
        """STUN and TURN servers of the next ICE restart. May be assigned: credentials are renewed during a call."""
        self._tracks = tracks
        self._incoming = incoming
        self._options = options
        self._post = post
        self._open_peer_connection = open_peer_connection
        self._operations: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._trickled = 0  # candidates of the remote, since the last ICE restart
        self._task: asyncio.Task[Any] | None = None
        self._closing = False
        self._connected = False
        self._origin = sdp.Origin()
        self._sections = EngineSections()
        self._media: Transceivers | None = None
        self._ice: IceTransport | None = None
        self._session: IceSession | None = None
        self._liveness: Liveness | None = None
        self._pc: RTCPeerConnection | None = None
        self._group: asyncio.TaskGroup | None = None

    # --- operations, run in order ---

    def create_offer(self) -> None:
        """Create an offer. Posts ``OfferCreated`` or ``DescriptionFailed``."""
        self._operations.put_nowait(self._create_offer)

    def create_answer(self, offer: str) -> None:
        """Apply ``offer`` and create the answer. Posts ``AnswerCreated`` or ``DescriptionFailed``."""
        self._operations.put_nowait(lambda: self._create_answer(offer))

    def renegotiate(self, offer: str, *, ice_restart: bool) -> None:
        """Apply a further offer of the remote to this connection and create the answer.

        The DTLS association, the SRTP keys and our fingerprint stay. With ``ice_restart``, the offer has new ICE
        credentials, and so has the answer (RFC 8445 9); the old path is used until the new one is connected. Posts
        ``AnswerCreated`` or ``DescriptionFailed``, like ``create_answer``. After a failure the connection is unusable
        and has to be closed. A restart that does not connect posts ``TransportClosed``.
        """
        if ice_restart:
            self._trickled = 0
        self._operations.put_nowait(lambda: self._renegotiate(offer, ice_restart))

    def apply_answer(self, answer: str) -> None:
        """Apply the answer to our offer. Posts ``DescriptionFailed`` on failure."""
        self._operations.put_nowait(lambda: self._apply_answer(answer))

    def add_candidate(self, candidate: IceCandidate) -> None:
        """Add a remote candidate. A malformed one is dropped, and so is any beyond ``sdp.MAX_CANDIDATES``."""
        if self._trickled < sdp.MAX_CANDIDATES:
            self._trickled += 1
            self._operations.put_nowait(lambda: self._add_trickled(candidate))

    def close(self) -> None:
        """End ``run``, even while an operation hangs. No event is posted afterwards. Idempotent."""
        if not self._closing:
            self._closing = True
            if self._task is not None:
                self._task.cancel()

    @property
    def receives(self) -> frozenset[Literal["video", "audio"]]:
        """The media kinds that are negotiated for receiving. They change with each negotiation."""
        assert self._media is not None
        return self._media.receives

    async def stats(self) -> TransportStats:
        """Return the RTCP statistics of this connection."""
        assert self._media is not None
        return await self._media.stats()

    # --- running ---

    async def run(self) -> None:
        """Run operations until ``close``."""
        if self._closing:
            self._tracks.stop()
            return
        task = self._task = asyncio.current_task()
        assert task is not None
        pc = self._pc = self._open_peer_connection(self._connecting_failed, self._options.relay_only)
        self._media = Transceivers(pc, self._tracks, self._incoming, self._options.video_codecs)
        pc.on("connectionstatechange", self._connection_state_changed)
        try:
            await self._run_operations()
        except asyncio.CancelledError:
            if task.uncancel() or not self._is_closing():  # cancelled by the owner of the task, not by ``close``
                raise
        finally:
            self._closing = True
            self._tracks.stop()
            if self._session is not None:
                await self._session.settle()
            if self._ice is not None:
                await self._ice.close()
            await aiortc_hooks.close(pc)

    async def _run_operations(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                while True:
                    await self._run_operation(await self._operations.get())
        except Exception:  # a bug, ours or the engine's, ends this connection and not the program
            log.exception("generation %d failed", self.generation)
            self._task = None  # ``close`` must not cancel the clean-up in ``run``
            self._post_event(n.DescriptionFailed(self.generation))

    async def _run_operation(self, operation: Callable[[], Awaitable[None]]) -> None:
        try:
            await operation()
        except sdp.SdpError as exc:  # a warning, because often a user can do something about it
            detail = f"{exc}{_codec_hint(str(exc))}"
            log.warning("= generation %d: %s", self.generation, detail)
            self._post_event(n.DescriptionFailed(self.generation, detail=detail))
        except Exception as exc:  # the engine raises exceptions of any type, mostly for a bad remote description
            write = log.debug if isinstance(exc, NoTurnServerError) else log.info
            write("= generation %d: %s: %s", self.generation, type(exc).__name__, exc)
            log.debug("traceback of the failed operation", exc_info=True)
            reason: Reason = "transport-failed" if isinstance(exc, ConnectionError | TimeoutError) else "media-error"
            self._post_event(n.DescriptionFailed(self.generation, reason))

    def _is_closing(self) -> bool:
        return self._closing  # a method, because mypy does not expect the attribute to change during ``run``

    def _post_event(self, event: n.Event) -> None:
        if not self._closing:
            self._post(event)

    # --- descriptions ---

    async def _create_offer(self) -> None:
        assert self._pc is not None and self._media is not None
        self._media.add(("audio", "video"))
        session = self._start_ice()
        await self._pc.setLocalDescription(await self._pc.createOffer())
        offer = self._origin.write(sdp.announce_trickle(self._pc.localDescription.sdp))
        self._post_event(n.OfferCreated(self.generation, offer))
        session.local.description_posted()

    async def _create_answer(self, offer: str) -> None:
        assert self._media is not None
        remote = normalize_offer(offer, self._supported_codecs())
        if remote.refuses_media and not remote.carries_media(self._media.sent_kinds):
            raise sdp.SdpError(remote.explain())
        self._media.add(remote.kinds)
        await self._answer(remote, self._start_ice())

    async def _renegotiate(self, offer: str, ice_restart: bool) -> None:
        assert self._media is not None and self._session is not None and self._group is not None
        remote = normalize_offer(offer, self._supported_codecs())
        self._media.add(remote.kinds)
        if not ice_restart:
            await self._answer(remote, self._session)
            return
        assert self._ice is not None
        log.debug("= generation %d: ICE restarts", self.generation)
        await self._session.settle()
        session = self._session = self._open_session(self._ice.new_connection())
        self._ice.begin_restart(session.connection)
        await session.gather()
        await self._answer(remote, session)
        assert session.remote is not None
        self._group.create_task(self._ice.complete_restart(session.connection, session.remote))

    async def _answer(self, remote: RemoteDescription, session: IceSession) -> None:
        assert self._pc is not None and self._media is not None
        self._log_rejections(remote)
        session.local.section = remote.transport
        await self._apply(remote, "offer", session)
        await self._pc.setLocalDescription(await self._pc.createAnswer())
        self._media.update()
        answer = mirror(self._sections.select(self._pc.localDescription.sdp, remote), remote)
        self._post_event(n.AnswerCreated(self.generation, self._origin.write(sdp.announce_trickle(answer))))
        session.local.description_posted()

    async def _apply_answer(self, answer: str) -> None:
        assert self._pc is not None and self._media is not None
        remote = normalize_answer(answer, self._pc.localDescription.sdp, self._supported_codecs())
        assert self._session is not None
        self._log_rejections(remote)
        await self._apply(remote, "answer", self._session)
        self._media.update()

    async def _apply(self, remote: RemoteDescription, kind: Literal["offer", "answer"], session: IceSession) -> None:
        """Apply a remote description, then add its candidates one by one."""
        assert self._pc is not None and self._media is not None
        text, renamed = self._sections.apply(remote)
        self._media.rename(renamed)
        session.remote = sdp.ice_parameters(remote.text)
        await self._pc.setRemoteDescription(RTCSessionDescription(text, kind))
        self._media.attach_receivers()
        for index, candidate in remote.candidates:
            session.add_remote(IceCandidate(candidate, None, index))

    def _supported_codecs(self) -> SupportedCodecs:
        return aiortc_hooks.supported_codecs(self._options.video_codecs or default_codecs(None))

    def _log_rejections(self, remote: RemoteDescription) -> None:
        """Log why sections are rejected; a warning where other codecs, which a user can choose, would help."""
        if reasons := remote.explain():
            hint = _codec_hint(reasons)
            write = log.warning if hint else log.info
            write("= generation %d: not negotiated: %s%s", self.generation, reasons, hint)

    # --- ICE ---

    def _start_ice(self) -> IceSession:
        """Start gathering and install the hooks of the transport, which exists once there is a transceiver."""
        assert self._pc is not None
        self._ice = IceTransport.of(self._pc.getTransceivers()[0].receiver.transport)
        self._session = self._open_session(self._ice.connection)
        aiortc_hooks.ignore_malformed_rtcp(self._pc)
        aiortc_hooks.accept_any_fingerprint(self._pc)
        self._liveness = Liveness(self._pc)
        return self._session

    def _open_session(self, connection: Any) -> IceSession:
        assert self._group is not None
        return IceSession(
            connection,
            self.ice_servers,
            relay_only=self._options.relay_only,
            post=lambda candidate: self._post_event(n.LocalCandidate(self.generation, candidate)),
            tasks=self._group,
        )

    async def _add_trickled(self, candidate: IceCandidate) -> None:
        if self._session is None:
            log.info("= dropped a candidate, because there is no description")
        else:
            self._session.add_remote(candidate)

    # --- the transport ---

    def _connecting_failed(self) -> None:
        self._post_event(n.TransportClosed(self.generation, "transport-failed"))

    def _connection_state_changed(self) -> None:
        assert self._pc is not None and self._group is not None
        state = self._pc.connectionState
        if self._closing:
            return
        if state == "connected" and not self._connected:
            self._connected = True
            self._post_event(n.TransportConnected(self.generation))
            self._group.create_task(self._watch_liveness())
        elif state in ("failed", "closed"):
            assert self._liveness is not None
            reason: Reason = "remote-hang-up" if self._liveness.closed_by_remote else "transport-failed"
            self._post_event(n.TransportClosed(self.generation, reason))

    async def _watch_liveness(self) -> None:
        """Post ``MediaSilent``, ``MediaFlowing`` and ``TransportClosed`` as datagrams stop and resume."""
        assert self._liveness is not None
        async for change in self._liveness.watch(lambda: bool(self.receives)):
            match change:
                case Change.FLOWING:
                    self._post_event(n.MediaFlowing(self.generation))
                case Change.SILENT:
                    self._post_event(n.MediaSilent(self.generation))
                case Change.LOST:
                    self._post_event(n.TransportClosed(self.generation, "transport-failed"))


def _codec_hint(reasons: str) -> str:
    """Return what to try if a video section is rejected for its codecs, otherwise an empty text."""
    concerned = "m=video" in reasons and "no common codec" in reasons
    return "; try --video-codec vp8,h264 at both ends" if concerned else ""
