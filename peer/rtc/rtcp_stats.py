"""RTCP statistics of a connection."""

from __future__ import annotations

from dataclasses import dataclass

from aiortc import RTCPeerConnection

from ..media.outgoing.track import OutgoingStats


@dataclass(frozen=True, slots=True)
class TransportStats:
    """Statistics of one connection since it was opened. Mappings are by media kind."""

    rtt: float | None
    """Round-trip time in seconds, if the remote has reported one."""
    packets_received: dict[str, int]
    packets_lost: dict[str, int]
    bytes_sent: dict[str, int]
    video: OutgoingStats | None = None
    """The video that is sent, if any."""


@dataclass(frozen=True, slots=True)
class SenderStats:
    """Statistics of the senders. ``rtt`` in seconds; ``bytes_sent`` by media kind."""

    rtt: float | None
    bytes_sent: dict[str, int]


async def sender_stats(connection: RTCPeerConnection) -> SenderStats:
    """Read the W3C statistics of all senders. Of several round-trip times the shortest one counts."""
    rtt: float | None = None
    bytes_sent: dict[str, int] = {}
    for sender in connection.getSenders():
        for entry in (await sender.getStats()).values():
            match entry.type:
                case "remote-inbound-rtp" if entry.roundTripTime is not None:
                    rtt = entry.roundTripTime if rtt is None else min(rtt, entry.roundTripTime)
                case "outbound-rtp":
                    bytes_sent[entry.kind] = bytes_sent.get(entry.kind, 0) + entry.bytesSent
    return SenderStats(rtt, bytes_sent)
