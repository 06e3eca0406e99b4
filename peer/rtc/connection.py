"""One RTCPeerConnection: one generation of one call, from its description to its end.

The only module that makes and drives aiortc's connections. It decides nothing: ``Negotiation`` says what to do,
in order, and what comes of it goes back as events carrying this connection's generation.

``run`` owns everything the connection needs (its tasks, its transport) and leaves nothing behind when it returns
or is cancelled. All other methods only put work in line and return at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from aioice.candidate import Candidate
from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription

from .. import negotiation as n
from ..events import Reason
from ..media.incoming.track import IncomingMedia, IncomingTrack
from ..media.outgoing.track import OutgoingAudio, OutgoingVideo
from ..signaling.ice_servers import IceServer
from ..signaling.messages import IceCandidate
from . import aiortc_hooks, sdp
from .codec_preferences import default_codecs, preferred_codecs
from .ice_gathering import Gathering, NoTurnServer
from .liveness import Liveness
from .receiver import Receiving
from .rtcp_stats import TransportStats, sending_stats
from .sender import Sending

log = logging.getLogger(__name__)

SILENT_AFTER: Final = 2.5
"""Seconds without a datagram after which a connection that should bring media counts as silent."""

DEAD_AFTER: Final = 10.0
"""Seconds without a datagram after which it counts as lost; ICE consent alone (RFC 7675) takes 30."""

QUIET_SILENT_AFTER: Final = 8.0
QUIET_DEAD_AFTER: Final = 20.0
"""The same where no media comes to us: then there are a report or a consent check each 5 s or so."""

KINDS: Final[tuple[Literal["video"], Literal["audio"]]] = ("video", "audio")


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What all connections of an agent have in common."""

    ice_servers: tuple[IceServer, ...] = ()
    relay_only: bool = False
    video_codecs: tuple[str, ...] | None = None
    """In order of preference; ``None``: H.264 first where the source delivers it, VP8 elsewhere."""


@dataclass(frozen=True, slots=True)
class OutgoingTracks:
    """What we send; ``None``: we only receive that kind. Each connection gets tracks of its own, and stops them."""

    video: OutgoingVideo | None = None
    audio: OutgoingAudio | None = None

    def open(self) -> None:
        """Start the sources: a camera takes a moment to warm up, while it rings."""
        for track in (self.video, self.audio):
            if track is not None:
                track.open()

    def stop(self) -> None:
        for track in (self.video, self.audio):
            if track is not None:
                track.stop()


class Connection:
    """See the module. ``post`` takes events for the negotiation, in the event loop."""

    def __init__(
        self,
        generation: int,
        tracks: OutgoingTracks,
        incoming: IncomingMedia,
        options: ConnectionOptions,
        post: Callable[[n.Event], None],
    ) -> None:
        self.generation = generation
        self._tracks = tracks
        self._incoming = incoming
        self._options = options
        self._post = post
        self._work: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._task: asyncio.Task[Any] | None = None
        self._candidates = 0
        self._early: list[IceCandidate] = []  # found before our description was made
        self._described = False
        self._fragment = ""
        self._closing = False
        self._connected = False
        self._receiving: list[Receiving] = []
        self._liveness: Liveness | None = None
        self._gathering: Gathering | None = None
        self._pc: RTCPeerConnection | None = None
        self._group: asyncio.TaskGroup | None = None

    # --- what to do, in order ---

    def create_offer(self) -> None:
        """Make an offer; posts ``OfferCreated`` or ``DescriptionFailed``."""
        self._work.put_nowait(self._create_offer)

    def create_answer(self, offer: str) -> None:
        """Answer ``offer``; posts ``AnswerCreated`` or ``DescriptionFailed``."""
        self._work.put_nowait(lambda: self._create_answer(offer))

    def apply_answer(self, answer: str) -> None:
        """Apply the answer to our offer; posts ``DescriptionFailed`` if that fails."""
        self._work.put_nowait(lambda: self._apply(answer, "answer"))

    def add_candidate(self, candidate: IceCandidate) -> None:
        """A remote candidate of the remote description. A bad one costs only itself, and so does one too many."""
        if self._candidates >= sdp.MAX_CANDIDATES:
            return
        self._candidates += 1
        self._work.put_nowait(lambda: self._add_candidate(candidate))

    def close(self) -> None:
        """Let ``run`` end, whatever it waits for. Nothing is posted any more."""
        if not self._closing:
            self._closing = True
            if self._task is not None:
                self._task.cancel()

    @property
    def receives(self) -> frozenset[Literal["video", "audio"]]:
        """The kinds of media that were negotiated to come to us."""
        assert self._pc is not None
        kinds = {t.kind for t in self._pc.getTransceivers() if "recv" in (t.currentDirection or "")}
        return frozenset(kind for kind in KINDS if kind in kinds)

    async def stats(self) -> TransportStats:
        """What RTCP knows of this connection."""
        assert self._pc is not None
        sent = await sending_stats(self._pc)
        received: dict[str, int] = {
            r.kind: r.received for r in reversed(self._receiving)
        }  # of two of a kind the first one counts
        lost: dict[str, int] = {r.kind: r.lost for r in reversed(self._receiving)}
        pictures = self._tracks.video.figures() if self._tracks.video is not None else None
        return TransportStats(sent.rtt, received, lost, sent.octets, pictures)

    # --- running ---

    async def run(self) -> None:
        """Work until ``close``."""
        if self._closing:
            self._tracks.stop()
            return
        task = self._task = asyncio.current_task()
        assert task is not None
        pc = self._pc = aiortc_hooks.open_peer_connection(self._not_connected)
        pc.on("connectionstatechange", self._state_changed)
        try:
            await self._work_off()
        except asyncio.CancelledError:
            if task.uncancel() or not self._was_closed():  # by somebody else
                raise
        finally:
            self._closing = True
            self._tracks.stop()
            if self._gathering is not None:
                await self._gathering.settle()
            await aiortc_hooks.close(pc)

    async def _work_off(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                while True:
                    await self._do(await self._work.get())
        except Exception:  # a bug, ours or the engine's, ends this connection and not the program
            log.exception("generation %d failed", self.generation)
            self._task = None  # what follows must not cancel the clean-up
            self._emit(n.DescriptionFailed(self.generation))

    def _not_connected(self) -> None:
        self._emit(n.TransportClosed(self.generation, "transport-failed"))

    def _was_closed(self) -> bool:
        return self._closing

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except sdp.NoCommonCodecError as exc:  # what somebody chose, and can choose otherwise
            log.warning("%s", exc)
            self._emit(n.DescriptionFailed(self.generation))
        except Exception as exc:  # the engine raises whatever it finds; a bad description is the remote's doing
            told = logging.DEBUG if isinstance(exc, NoTurnServer) else logging.INFO
            log.log(told, "= generation %d: %s: %s", self.generation, type(exc).__name__, exc)
            log.debug("the engine's trace", exc_info=True)
            unreachable = isinstance(exc, ConnectionError | TimeoutError)
            self._emit(n.DescriptionFailed(self.generation, "transport-failed" if unreachable else "media-error"))

    def _emit(self, event: n.Event) -> None:
        if not self._closing:
            self._post(event)

    async def _create_offer(self) -> None:
        assert self._pc is not None
        self._add_transceivers(("audio", "video"))
        self._prepare()
        await self._pc.setLocalDescription(await self._pc.createOffer())
        self._emit(n.OfferCreated(self.generation, self._local_sdp()))
        self._send_early()

    async def _create_answer(self, offer: str) -> None:
        assert self._pc is not None
        offered = sdp.parse(offer)
        sdp.check_video_codecs(offered.sections, self._options.video_codecs or default_codecs(None))
        self._add_transceivers(offered.media_kinds)
        await self._apply(offer, "offer")
        self._prepare()
        await self._pc.setLocalDescription(await self._pc.createAnswer())
        self._emit(n.AnswerCreated(self.generation, self._local_sdp()))
        self._send_early()

    def _add_transceivers(self, kinds: Sequence[str]) -> None:
        assert self._pc is not None
        for kind in kinds:
            track = self._tracks.video if kind == "video" else self._tracks.audio
            direction = "sendrecv" if track is not None else "recvonly"
            transceiver = self._pc.addTransceiver(kind, direction=direction)
            if track is not None:
                Sending(transceiver.sender, track)
            if kind == "video":
                own = self._tracks.video.profile_level_id if self._tracks.video is not None else None
                codecs = self._options.video_codecs or default_codecs(own)
                known = RTCRtpSender.getCapabilities("video").codecs
                transceiver.setCodecPreferences(preferred_codecs(known, codecs, own))

    def _prepare(self) -> None:
        """Hook up gathering and the counters, once there is a transport."""
        assert self._pc is not None and self._group is not None
        ice = aiortc_hooks.ice_connection(self._pc)
        self._fragment = ice.local_username
        self._gathering = Gathering(
            ice,
            self._options.ice_servers,
            relay_only=self._options.relay_only,
            on_candidate=self._found,
        )
        self._group.create_task(self._gathering.run())
        self._liveness = Liveness(self._pc)

    async def _apply(self, text: str, kind: str) -> None:
        """Apply a remote description, then add its candidates one by one."""
        assert self._pc is not None
        description = sdp.read_remote(text)
        await self._pc.setRemoteDescription(RTCSessionDescription(description.text, kind))
        self._attach_receivers()
        for index, candidate in description.candidates:
            await self._add_candidate(IceCandidate(candidate, None, index))

    def _attach_receivers(self) -> None:
        assert self._pc is not None
        for transceiver in self._pc.getTransceivers():
            receiver = transceiver.receiver
            attached = any(r.receiver is receiver for r in self._receiving)
            if receiver.track is not None and not attached:
                kind_taken = any(r.kind == transceiver.kind for r in self._receiving)
                track = self._incoming.track(transceiver.kind)
                self._receiving.append(Receiving(receiver, IncomingTrack(track.kind) if kind_taken else track))

    def _local_sdp(self) -> str:
        assert self._pc is not None
        return sdp.announce_trickle(self._pc.localDescription.sdp)

    # --- candidates ---

    async def _add_candidate(self, candidate: IceCandidate) -> None:
        assert self._group is not None
        try:
            parsed = Candidate.from_sdp(candidate.candidate.removeprefix("candidate:"))
        except ValueError as exc:
            log.info("= a candidate that cannot be read: %r (%s)", candidate.candidate, exc)
            return
        if parsed.component != 1 or parsed.transport.lower() != "udp" or not 0 < parsed.port < 65536:
            return  # of TCP, of another component, or of nothing: we have no use for it
        self._group.create_task(self._add_resolved(parsed))  # resolving a .local name takes up to a second

    async def _add_resolved(self, candidate: Candidate) -> None:
        assert self._pc is not None
        try:
            await aiortc_hooks.ice_connection(self._pc).add_remote_candidate(candidate)
        except Exception as exc:  # the engine's, resolving a name or pairing it: it costs this candidate
            log.info("= a candidate that cannot be used: %s", exc or type(exc).__name__)

    def _found(self, candidate: Candidate) -> None:
        found = IceCandidate(f"candidate:{candidate.to_sdp()}", "0", 0, self._fragment)
        if self._described:
            self._emit(n.LocalCandidate(self.generation, found))
        else:
            self._early.append(found)

    def _send_early(self) -> None:
        self._described = True
        for candidate in self._early:
            self._emit(n.LocalCandidate(self.generation, candidate))
        self._early.clear()

    # --- the transport ---

    def _state_changed(self) -> None:
        assert self._pc is not None and self._group is not None
        state = self._pc.connectionState
        if self._closing:
            return
        if state == "connected" and not self._connected:
            self._connected = True
            self._emit(n.TransportConnected(self.generation))
            self._group.create_task(self._watch())
        elif state in ("failed", "closed"):
            assert self._liveness is not None
            reason: Reason = "remote-hang-up" if self._liveness.closed_by_remote else "transport-failed"
            self._emit(n.TransportClosed(self.generation, reason))

    async def _watch(self) -> None:
        """Tell when nothing comes any more, and when it does again."""
        assert self._liveness is not None
        quiet = not self.receives
        silent_after = QUIET_SILENT_AFTER if quiet else SILENT_AFTER
        dead_after = QUIET_DEAD_AFTER if quiet else DEAD_AFTER
        seen, since, silent = self._liveness.datagrams, time.monotonic(), False
        while not self._closing:
            await asyncio.sleep(0.5)
            now, count = time.monotonic(), self._liveness.datagrams
            if count != seen:
                seen, since = count, now
                if silent:
                    silent = False
                    self._emit(n.MediaFlowing(self.generation))
            elif now - since >= dead_after:
                self._emit(n.TransportClosed(self.generation, "transport-failed"))
                return
            elif now - since >= silent_after and not silent:
                silent = True
                self._emit(n.MediaSilent(self.generation))
