"""A call whose media have a transport each, because the remote offers no BUNDLE group (RFC 8843 7.3).

GStreamer's webrtcbin does so unless told otherwise, and so do rtpengine and SIP phones. One ``Connection`` per
transport answers its part of the offer; to the negotiation they are one connection.

We never make such an offer.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Literal

from aiortc import RTCPeerConnection

from .. import negotiation as n
from ..media.incoming.track import IncomingMedia
from ..negotiation.description_identity import read_identity
from ..signaling.messages import IceCandidate
from . import aiortc_hooks
from .codec_preferences import default_codecs
from .connection import Connection, ConnectionOptions
from .outgoing_tracks import OutgoingTracks
from .rtcp_stats import TransportStats
from .sdp_transports import Part, merge_answers, restrict, split_transports, uses_transport


def split_offer(offer: str, options: ConnectionOptions) -> list[Part]:
    """Return the parts of ``offer``, for an ``UnbundledConnection``. Empty if a ``Connection`` can answer it."""
    return split_transports(offer, aiortc_hooks.supported_codecs(options.video_codecs or default_codecs(None)))


class UnbundledConnection:
    """Several connections of one call. The interface is that of ``Connection``, for the answering side.

    ``parts``: at least two, from ``split_offer``. The other parameters are those of ``Connection``.
    """

    def __init__(
        self,
        generation: int,
        tracks: OutgoingTracks,
        incoming: IncomingMedia,
        options: ConnectionOptions,
        post: Callable[[n.Event], None],
        parts: Sequence[Part],
    ) -> None:
        self.generation = generation
        self.ice_servers = options.ice_servers
        """See ``Connection``."""
        self._parts = parts
        self._live = set(range(len(parts)))
        """Parts whose sections the remote has not removed since. The others' connections are closed."""
        self._post = post
        self._connections: list[Connection] = []
        for number, part in enumerate(parts):
            video = tracks.video if "video" in part.kinds else None
            audio = tracks.audio if "audio" in part.kinds else None
            self._connections.append(
                Connection(
                    generation,
                    OutgoingTracks(video, audio),
                    incoming,
                    options,
                    functools.partial(self._posted, number),
                    self._open_peer_connection,
                )
            )
        self._first: RTCPeerConnection | None = None
        """The peer connection opened first. The others share its identity."""
        self._answers: dict[int, str] = {}
        """Answers that wait for those of the other connections."""
        self._candidates: list[n.LocalCandidate] | None = []
        """Candidates that wait for the answer."""
        self._ufrags: list[frozenset[str]] = []
        """ICE user name fragments of the remote, for each connection."""
        self._connected: set[int] = set()
        self._silent: set[int] = set()

    def _open_peer_connection(self, on_failure: Callable[[], None], relay_only: bool) -> RTCPeerConnection:
        opened = aiortc_hooks.open_peer_connection(on_failure, relay_only)
        if self._first is None:
            self._first = opened
        else:
            aiortc_hooks.share_identity(opened, self._first)
        return opened

    def create_answer(self, offer: str) -> None:
        """Apply ``offer`` and create the answer. Posts ``AnswerCreated`` or ``DescriptionFailed``."""
        for connection, text in self._restricted(offer):
            connection.create_answer(text)

    def renegotiate(self, offer: str, *, ice_restart: bool) -> None:
        """See ``Connection.renegotiate``. A section with a further transport is rejected.

        ``ice_restart`` is not used: the remote may restart any of its transports (RFC 8839 4.4.3.1.1), so each
        connection compares its own credentials. A transport without any section left is closed, and its sections
        stay rejected.
        """
        previous = self._ufrags
        restricted = self._restricted(offer)
        if remaining := {number for number in self._live if uses_transport(restricted[number][1])}:
            self._remove(self._live - remaining)
        for number in self._live:
            connection, text = restricted[number]
            connection.ice_servers = self.ice_servers
            connection.renegotiate(text, ice_restart=self._ufrags[number] != previous[number])

    def _remove(self, numbers: set[int]) -> None:
        was_connected = self._live <= self._connected
        self._live -= numbers
        for number in numbers:
            self._connections[number].close()
        if not was_connected and self._live <= self._connected:
            self._post(n.TransportConnected(self.generation))

    def _restricted(self, offer: str) -> list[tuple[Connection, str]]:
        self._answers, self._candidates = {}, []
        texts = [restrict(offer, part.indexes) for part in self._parts]
        self._ufrags = [read_identity(text).ufrags for text in texts]
        return list(zip(self._connections, texts, strict=True))

    def create_offer(self) -> None:
        """Never called, because this side makes no offer of this kind."""
        raise AssertionError("an unbundled connection makes no offer")

    def apply_answer(self, answer: str) -> None:
        """Never called; see ``create_offer``."""
        raise AssertionError("an unbundled connection makes no offer")

    def add_candidate(self, candidate: IceCandidate) -> None:
        """Add a remote candidate to the connection of its section. One without such a section is dropped."""
        mid, index = candidate.sdp_mid, candidate.sdp_m_line_index
        by_mid = any(mid in part.mids for part in self._parts)
        for number in self._live:
            part, connection = self._parts[number], self._connections[number]
            if mid in part.mids or (not by_mid and index in part.indexes):
                connection.add_candidate(candidate)

    def close(self) -> None:
        """End ``run``. No event is posted afterwards. Idempotent."""
        for connection in self._connections:
            connection.close()

    @property
    def receives(self) -> frozenset[Literal["video", "audio"]]:
        """The media kinds that were negotiated for receiving."""
        return frozenset(kind for number in self._live for kind in self._connections[number].receives)

    async def stats(self) -> TransportStats:
        """Return the statistics of all connections. Of several round-trip times the longest one counts."""
        found = [await self._connections[number].stats() for number in sorted(self._live)]
        return TransportStats(
            max((one.rtt for one in found if one.rtt is not None), default=None),
            {kind: count for one in found for kind, count in one.packets_received.items()},
            {kind: count for one in found for kind, count in one.packets_lost.items()},
            {kind: count for one in found for kind, count in one.bytes_sent.items()},
            next((one.video for one in found if one.video is not None), None),
        )

    async def run(self) -> None:
        """Run all connections until ``close``."""
        async with asyncio.TaskGroup() as tasks:
            for connection in self._connections:
                tasks.create_task(connection.run())

    def _posted(self, number: int, event: n.Event) -> None:
        """Pass on an event of one connection when it is true of all of them; a failure at once."""
        match event:
            case n.AnswerCreated(_, answer):
                self._answers[number] = answer
                if self._live <= self._answers.keys():
                    self._post_answer()
            case n.LocalCandidate() if self._candidates is not None:
                self._candidates.append(event)
            case n.TransportConnected():
                self._connected.add(number)
                if self._live <= self._connected:
                    self._post(event)
            case n.MediaSilent():
                self._silent.add(number)
                if self._live <= self._silent:
                    self._post(event)
            case n.MediaFlowing():
                was_silent = self._live <= self._silent
                self._silent.discard(number)
                if was_silent:
                    self._post(event)
            case _:
                self._post(event)

    def _post_answer(self) -> None:
        live = sorted(self._live)
        parts, answers = [self._parts[number] for number in live], [self._answers[number] for number in live]
        waiting, self._candidates = self._candidates or [], None
        self._post(n.AnswerCreated(self.generation, merge_answers(parts, answers)))
        for candidate in waiting:
            self._post(candidate)
