"""Life of one RTCPeerConnection: one generation of one call, from its first description until it is closed.

The only module that drives aiortc's connections. ``Negotiation`` decides what to do and in which order; results are
posted back as events with the generation of this connection.

``run`` owns all tasks and the transport, and releases them before it returns or is cancelled. Operations are queued
and run one at a time (the operations chain of W3C webrtc-pc 4.4.1.2); the methods that queue them return at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription

from .. import negotiation as n
from ..events import Reason
from ..log_limit import LimitedLogger
from ..media.incoming.track import IncomingMedia, IncomingTrack
from ..media.outgoing.audio_track import OutgoingAudio
from ..media.outgoing.track import OutgoingVideo
from ..signaling.ice_servers import IceServer
from ..signaling.messages import IceCandidate
from . import aiortc_hooks, sdp
from .answer import mirror
from .candidates import LocalCandidates, RemoteCandidates
from .codec_preferences import default_codecs, preferred_codecs
from .ice_gathering import IceGatherer, NoTurnServerError
from .liveness import Liveness
from .receiver import Receiver
from .remote_description import Kind, RemoteDescription, normalize_answer, normalize_offer
from .rtcp_stats import TransportStats, sender_stats
from .sdp_codecs import SupportedCodecs
from .sender import Sender
from .silence import Change, SilenceDetector

log = LimitedLogger(logging.getLogger(__name__))

LIVENESS_INTERVAL: Final = 0.5
"""Interval between two checks for received datagrams, in seconds. A fifth of the shortest time-out."""

KINDS: Final[tuple[Literal["video"], Literal["audio"]]] = ("video", "audio")

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


@dataclass(frozen=True, slots=True)
class OutgoingTracks:
    """Tracks that one connection sends, and stops when it closes. ``None``: that kind is only received."""

    video: OutgoingVideo | None = None
    audio: OutgoingAudio | None = None

    def open(self) -> None:
        """Start the sources before the call connects: a camera needs time to warm up."""
        for track in (self.video, self.audio):
            if track is not None:
                track.open()

    def stop(self) -> None:
        """Stop all tracks."""
        for track in (self.video, self.audio):
            if track is not None:
                track.stop()


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
        self._tracks = tracks
        self._incoming = incoming
        self._options = options
        self._post = post
        self._open_peer_connection = open_peer_connection
        self._operations: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._task: asyncio.Task[Any] | None = None
        self._local_candidates = LocalCandidates(lambda one: self._post_event(n.LocalCandidate(generation, one)))
        self._remote_candidates = RemoteCandidates()
        self._closing = False
        self._connected = False
        self._receivers: list[Receiver] = []
        self._liveness: Liveness | None = None
        self._gatherer: IceGatherer | None = None
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
        credentials, and so has the answer (RFC 8445 9). Posts ``AnswerCreated`` or ``DescriptionFailed``, like
        ``create_answer``. After a failure the connection is unusable and has to be closed.
        """
        self._operations.put_nowait(lambda: self._renegotiate(offer, ice_restart))

    def apply_answer(self, answer: str) -> None:
        """Apply the answer to our offer. Posts ``DescriptionFailed`` on failure."""
        self._operations.put_nowait(lambda: self._apply_answer(answer))

    def add_candidate(self, candidate: IceCandidate) -> None:
        """Add a remote candidate. A malformed one is dropped, and so is any beyond ``sdp.MAX_CANDIDATES``."""
        if self._remote_candidates.accept():
            self._operations.put_nowait(lambda: self._add_trickled(candidate))

    def close(self) -> None:
        """End ``run``, even while an operation hangs. No event is posted afterwards. Idempotent."""
        if not self._closing:
            self._closing = True
            if self._task is not None:
                self._task.cancel()

    @property
    def receives(self) -> frozenset[Literal["video", "audio"]]:
        """The media kinds that were negotiated for receiving."""
        assert self._pc is not None
        kinds = {t.kind for t in self._pc.getTransceivers() if "recv" in (t.currentDirection or "")}
        return frozenset(kind for kind in KINDS if kind in kinds)

    async def stats(self) -> TransportStats:
        """Return the RTCP statistics of this connection. Of two receivers of one kind the first one counts."""
        assert self._pc is not None
        sent = await sender_stats(self._pc)
        received: dict[str, int] = {r.kind: r.received for r in reversed(self._receivers)}
        lost: dict[str, int] = {r.kind: r.lost for r in reversed(self._receivers)}
        video = self._tracks.video.stats() if self._tracks.video is not None else None
        return TransportStats(sent.rtt, received, lost, sent.bytes_sent, video)

    # --- running ---

    async def run(self) -> None:
        """Run operations until ``close``."""
        if self._closing:
            self._tracks.stop()
            return
        task = self._task = asyncio.current_task()
        assert task is not None
        pc = self._pc = self._open_peer_connection(self._connecting_failed, self._options.relay_only)
        pc.on("connectionstatechange", self._connection_state_changed)
        try:
            await self._run_operations()
        except asyncio.CancelledError:
            if task.uncancel() or not self._is_closing():  # cancelled by the owner of the task, not by ``close``
                raise
        finally:
            self._closing = True
            self._tracks.stop()
            if self._gatherer is not None:
                await self._gatherer.settle()
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
            level = logging.DEBUG if isinstance(exc, NoTurnServerError) else logging.INFO
            log.log(level, "= generation %d: %s: %s", self.generation, type(exc).__name__, exc)
            log.log(logging.DEBUG, "traceback of the failed operation", exc_info=True)
            reason: Reason = "transport-failed" if isinstance(exc, ConnectionError | TimeoutError) else "media-error"
            self._post_event(n.DescriptionFailed(self.generation, reason))

    def _is_closing(self) -> bool:
        return self._closing  # a method, because mypy does not expect the attribute to change during ``run``

    def _post_event(self, event: n.Event) -> None:
        if not self._closing:
            self._post(event)

    # --- descriptions ---

    async def _create_offer(self) -> None:
        assert self._pc is not None
        self._add_transceivers(("audio", "video"))
        self._start_gathering()
        await self._pc.setLocalDescription(await self._pc.createOffer())
        self._post_event(n.OfferCreated(self.generation, sdp.announce_trickle(self._pc.localDescription.sdp)))
        self._local_candidates.description_posted()

    async def _create_answer(self, offer: str) -> None:
        assert self._pc is not None
        remote = normalize_offer(offer, self._supported_codecs())
        if remote.refuses_media and not remote.carries_media(self._sent_kinds()):
            raise sdp.SdpError(remote.explain())
        self._log_rejections(remote)
        self._local_candidates.section = remote.transport
        self._add_transceivers(remote.kinds)
        await self._apply(remote, "offer")
        self._start_gathering()
        await self._pc.setLocalDescription(await self._pc.createAnswer())
        self._release_unsent()
        answer = mirror(self._pc.localDescription.sdp, remote)
        self._post_event(n.AnswerCreated(self.generation, sdp.announce_trickle(answer)))
        self._local_candidates.description_posted()

    async def _renegotiate(self, offer: str, ice_restart: bool) -> None:
        assert self._pc is not None
        remote = normalize_offer(offer, self._supported_codecs())
        if ice_restart:
            raise sdp.SdpError("an ICE restart is not supported yet")
        self._log_rejections(remote)
        self._local_candidates.section = remote.transport
        await self._apply(remote, "offer")
        await self._pc.setLocalDescription(await self._pc.createAnswer())
        self._release_unsent()
        answer = mirror(self._pc.localDescription.sdp, remote)
        self._post_event(n.AnswerCreated(self.generation, sdp.announce_trickle(answer)))

    def _add_transceivers(self, kinds: Sequence[str]) -> None:
        assert self._pc is not None
        for kind in kinds:
            track = self._tracks.video if kind == "video" else self._tracks.audio
            direction = "sendrecv" if track is not None else "recvonly"
            transceiver = self._pc.addTransceiver(kind, direction=direction)
            if track is not None:
                Sender(transceiver.sender, track)
            if kind == "video":
                h264 = self._tracks.video.profile_level_id if self._tracks.video is not None else None
                codecs = self._options.video_codecs or default_codecs(h264)
                known = RTCRtpSender.getCapabilities("video").codecs
                transceiver.setCodecPreferences(preferred_codecs(known, codecs, h264))

    async def _apply_answer(self, answer: str) -> None:
        assert self._pc is not None
        remote = normalize_answer(answer, self._pc.localDescription.sdp, self._supported_codecs())
        self._log_rejections(remote)
        await self._apply(remote, "answer")
        self._release_unsent()

    async def _apply(self, remote: RemoteDescription, kind: Literal["offer", "answer"]) -> None:
        """Apply a remote description, then add its candidates one by one."""
        assert self._pc is not None
        await self._pc.setRemoteDescription(RTCSessionDescription(remote.text, kind))
        self._attach_receivers()
        for index, candidate in remote.candidates:
            self._add_candidate(IceCandidate(candidate, None, index))

    def _sent_kinds(self) -> tuple[Kind, ...]:
        kinds: dict[Kind, object] = {"video": self._tracks.video, "audio": self._tracks.audio}
        return tuple(kind for kind, track in kinds.items() if track is not None)

    def _supported_codecs(self) -> SupportedCodecs:
        return aiortc_hooks.supported_codecs(self._options.video_codecs or default_codecs(None))

    def _release_unsent(self) -> None:
        """Stop the tracks that are not negotiated for sending: a camera must not stay open for them."""
        assert self._pc is not None
        sent = {t.kind for t in self._pc.getTransceivers() if "send" in (t.currentDirection or "")}
        for track in (self._tracks.video, self._tracks.audio):
            if track is not None and track.kind not in sent:
                track.stop()

    def _log_rejections(self, remote: RemoteDescription) -> None:
        """Log why sections are rejected; a warning where other codecs, which a user can choose, would help."""
        if reasons := remote.explain():
            hint = _codec_hint(reasons)
            level = logging.WARNING if hint else logging.INFO
            log.log(level, "= generation %d: not negotiated: %s%s", self.generation, reasons, hint)

    def _attach_receivers(self) -> None:
        """Feed ``incoming`` from the first receiver of each kind; further receivers are only counted."""
        assert self._pc is not None
        for transceiver in self._pc.getTransceivers():
            receiver = transceiver.receiver
            attached = any(r.rtp_receiver is receiver for r in self._receivers)
            if receiver.track is not None and not attached:
                kind_taken = any(r.kind == transceiver.kind for r in self._receivers)
                track = self._incoming.track(transceiver.kind)
                self._receivers.append(Receiver(receiver, IncomingTrack(track.kind) if kind_taken else track))

    # --- ICE ---

    def _start_gathering(self) -> None:
        """Start gathering and install the hooks of the transport, which exists once there is a transceiver."""
        assert self._pc is not None and self._group is not None
        ice = aiortc_hooks.ice_connection(self._pc)
        self._local_candidates.username_fragment = ice.local_username
        self._gatherer = IceGatherer(
            ice,
            self._options.ice_servers,
            relay_only=self._options.relay_only,
            on_candidate=self._local_candidates.add,
        )
        self._group.create_task(self._gatherer.run())
        aiortc_hooks.ignore_malformed_rtcp(self._pc)
        self._liveness = Liveness(self._pc)

    async def _add_trickled(self, candidate: IceCandidate) -> None:
        self._add_candidate(candidate)

    def _add_candidate(self, candidate: IceCandidate) -> None:
        pc, group = self._pc, self._group
        assert pc is not None and group is not None
        self._remote_candidates.add(candidate, lambda: aiortc_hooks.ice_connection(pc), group)

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
        detector = SilenceDetector(self._liveness.datagrams, time.monotonic(), receives_media=bool(self.receives))
        while not self._closing:
            await asyncio.sleep(LIVENESS_INTERVAL)
            match detector.update(self._liveness.datagrams, time.monotonic()):
                case Change.FLOWING:
                    self._post_event(n.MediaFlowing(self.generation))
                case Change.SILENT:
                    self._post_event(n.MediaSilent(self.generation))
                case Change.LOST:
                    self._post_event(n.TransportClosed(self.generation, "transport-failed"))
                    return


def _codec_hint(reasons: str) -> str:
    """Return what to try if a video section is rejected for its codecs, otherwise an empty text."""
    concerned = "m=video" in reasons and "no common codec" in reasons
    return "; try --video-codec vp8,h264 at both ends" if concerned else ""
