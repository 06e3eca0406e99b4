"""Senders and receivers of one connection, through all its negotiations.

The first sender of each kind sends our track. Of the receivers of one kind, one feeds the call: the first, until only
another one receives. Further receivers are only counted.

Must never: read a description, or know about ICE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

from aiortc import RTCPeerConnection, RTCRtpSender

from ..media.incoming.track import IncomingMedia, IncomingTrack
from .codec_preferences import default_codecs, preferred_codecs
from .outgoing_tracks import OutgoingTracks
from .receiver import Receiver
from .remote_description import Kind
from .rtcp_stats import TransportStats, sender_stats
from .sender import Sender

KINDS: Final[tuple[Literal["video"], Literal["audio"]]] = ("video", "audio")


class Transceivers:
    """Senders and receivers of ``connection``, started and stopped as negotiated.

    ``video_codecs``: see ``ConnectionOptions``.
    """

    def __init__(
        self,
        connection: RTCPeerConnection,
        tracks: OutgoingTracks,
        incoming: IncomingMedia,
        video_codecs: Sequence[str] | None,
    ) -> None:
        self._connection = connection
        self._tracks = tracks
        self._incoming = incoming
        self._video_codecs = video_codecs
        self._senders: dict[str, tuple[Any, Sender]] = {}  # by kind, with the engine's transceiver
        self._receivers: list[Receiver] = []

    @property
    def sent_kinds(self) -> tuple[Kind, ...]:
        """The kinds that have a track to send."""
        return tuple(kind for kind in KINDS if self._tracks.of(kind) is not None)

    @property
    def receives(self) -> frozenset[Literal["video", "audio"]]:
        """The media kinds that are negotiated for receiving."""
        kinds = {t.kind for t in self._connection.getTransceivers() if _receives(t)}
        return frozenset(kind for kind in KINDS if kind in kinds)

    def add(self, kinds: Sequence[str]) -> None:
        """Add a transceiver of each kind that has none yet, with its codec preferences and its sender."""
        present = {transceiver.kind for transceiver in self._connection.getTransceivers()}
        for kind in kinds:
            if kind in present:
                continue
            track = self._tracks.of(kind)
            direction = "sendrecv" if track is not None else "recvonly"
            transceiver = self._connection.addTransceiver(kind, direction=direction)
            if track is not None:
                track.open()  # ``update`` has stopped it, if an earlier negotiation was without this kind
                self._senders[kind] = transceiver, Sender(transceiver.sender, track)
            if kind == "video":
                h264 = self._tracks.video.profile_level_id if self._tracks.video is not None else None
                codecs = self._video_codecs or default_codecs(h264)
                known = RTCRtpSender.getCapabilities("video").codecs
                transceiver.setCodecPreferences(preferred_codecs(known, codecs, h264))

    def rename(self, mids: Mapping[str, str]) -> None:
        """Give transceivers another ``a=mid``, because the remote uses their sections for other media now."""
        for transceiver in self._connection.getTransceivers():
            if transceiver.mid is not None and transceiver.mid in mids:
                cast(Any, transceiver)._set_mid(mids[transceiver.mid])
                for receiver in self._receivers:
                    if receiver.rtp_receiver is transceiver.receiver:
                        receiver.reset()

    def attach_receivers(self) -> None:
        """Create the receivers of new tracks. Call it after each ``setRemoteDescription``, without waiting."""
        for transceiver in self._connection.getTransceivers():
            receiver = transceiver.receiver
            if receiver.track is not None and not any(r.rtp_receiver is receiver for r in self._receivers):
                track = self._incoming.track(transceiver.kind)
                is_taken = any(r.kind == transceiver.kind for r in self._receivers)
                self._receivers.append(Receiver(receiver, IncomingTrack(track.kind) if is_taken else track))

    def update(self) -> None:
        """Start and stop sending as negotiated now: on hold, a camera must not stay open.

        If the receiver that feeds the call no longer receives, another one of its kind that does takes its place.
        """
        for kind in KINDS:
            if kind in self._senders:
                transceiver, sender = self._senders[kind]
                if "send" in (transceiver.currentDirection or ""):
                    sender.resume()
                else:
                    sender.hold()
            elif (track := self._tracks.of(kind)) is not None:
                track.stop()
            self._choose_receiver(kind)

    def _choose_receiver(self, kind: str) -> None:
        receiving = [t.receiver for t in self._connection.getTransceivers() if _receives(t)]
        usable = [r for r in self._receivers if r.kind == kind and any(r.rtp_receiver is one for one in receiving)]
        track = self._incoming.track(kind)
        feeding = next((r for r in self._receivers if r.track is track), None)
        if feeding is None or feeding in usable:
            return
        if usable:
            spare = usable[0].track
            usable[0].feed(track)
            feeding.feed(spare)
        else:
            track.freezes.pause()  # on hold

    async def stats(self) -> TransportStats:
        """Return the RTCP statistics. Of several receivers of one kind, the one that feeds the call counts."""
        sent = await sender_stats(self._connection)
        feeding = [r for r in self._receivers if r.track is self._incoming.track(r.kind)]
        received: dict[str, int] = {r.kind: r.received for r in feeding}
        lost: dict[str, int] = {r.kind: r.lost for r in feeding}
        video = self._tracks.video.stats() if self._tracks.video is not None else None
        return TransportStats(sent.rtt, received, lost, sent.bytes_sent, video)


def _receives(transceiver: Any) -> bool:
    return "recv" in (transceiver.currentDirection or "")
