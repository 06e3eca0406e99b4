"""What RTCP knows of a connection."""

from __future__ import annotations

from dataclasses import dataclass

from aiortc import RTCPeerConnection

from ..media.outgoing.track import SendingFigures


@dataclass(frozen=True, slots=True)
class TransportStats:
    """What RTCP knows. ``rtt`` in seconds; packets as counted here, and octets sent, by kind of media. ``pictures``:
    what we send of them, if we do."""

    rtt: float | None
    received: dict[str, int]
    lost: dict[str, int]
    octets_sent: dict[str, int]
    pictures: SendingFigures | None = None


@dataclass(frozen=True, slots=True)
class SendingStats:
    """What the receivers of our media report. ``rtt`` in seconds; octets sent by kind of media."""

    rtt: float | None
    octets: dict[str, int]


async def sending_stats(connection: RTCPeerConnection) -> SendingStats:
    """A W3C stats report of our senders, as far as anyone asks for it."""
    rtt: float | None = None
    octets: dict[str, int] = {}
    for sender in connection.getSenders():
        for entry in (await sender.getStats()).values():
            match entry.type:
                case "remote-inbound-rtp" if entry.roundTripTime is not None:
                    rtt = entry.roundTripTime if rtt is None else min(rtt, entry.roundTripTime)
                case "outbound-rtp":
                    octets[entry.kind] = octets.get(entry.kind, 0) + entry.bytesSent
    return SendingStats(rtt, octets)
