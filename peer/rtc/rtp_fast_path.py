"""A short way for RTP from the socket to its receiver.

Hook into the engine: each datagram waits in a queue, wakes a task, is read into a packet of many objects and goes
through as many coroutines; at eight calls of 720p that was most of a receiver's work. Here a datagram that holds RTP
is unprotected, read and taken at once, in the callback of its socket. Everything else (DTLS, RTCP, what comes before
the keys are there) goes the engine's way.

A home of hooks like ``engine``, with a contract test in ``tests/rtc/test_rtp_fast_path.py``. May be imported by
``reception`` only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, cast

import pylibsrtp
from aiortc import RTCDtlsTransport, RTCRtpReceiver
from aiortc.rtcdtlstransport import State

from ..rtp.packet import Packet, parse

log = logging.getLogger(__name__)

MAX_STREAMS: Final = 32
"""Streams whose receivers are known on one transport; beyond, the oldest has to be looked up again."""

MAX_DATAGRAM: Final = 65_535
"""Octets of the largest UDP datagram there can be."""

Take = Callable[[Packet], None]


class TransportPath:
    """One DTLS transport and the receivers on it. ``of`` finds or makes the one of a transport."""

    def __init__(self, dtls: RTCDtlsTransport) -> None:
        self._dtls = cast(Any, dtls)
        ice = self._dtls.transport._connection
        for owner, name in (
            (self._dtls, "_rx_srtp"),
            (self._dtls, "_RTCDtlsTransport__rx_packets"),
            (self._dtls, "_RTCDtlsTransport__rx_bytes"),
            (self._dtls._rtp_header_extensions_map, "_HeaderExtensionsMap__ids"),
            (self._dtls._rtp_router, "route_rtp"),
            (self._dtls._rtp_router, "ssrc_table"),
            (ice, "data_received"),
        ):
            assert hasattr(owner, name), f"the engine has no {name} any more"
        self._receivers: dict[RTCRtpReceiver, Take] = {}
        self._streams: dict[tuple[int, int], Take] = {}  # SSRC and payload type
        self._learnt: set[int] = set()  # SSRCs that no description named
        self._extensions = self._dtls._rtp_header_extensions_map._HeaderExtensionsMap__ids
        self._engines_way = ice.data_received
        ice.data_received = self._received

    @classmethod
    def of(cls, dtls: RTCDtlsTransport) -> TransportPath:
        """The one of this transport, made if there is none."""
        path = getattr(dtls, "_peer_transport_path", None)
        if path is None:
            path = cls(dtls)
            dtls._peer_transport_path = path  # type: ignore[attr-defined]
        return cast(TransportPath, path)

    def add(self, receiver: RTCRtpReceiver, take: Take) -> None:
        """What the engine would route to ``receiver`` goes to ``take``."""
        self._receivers[receiver] = take

    def _received(self, data: bytes, component: int) -> None:
        """A datagram that is no STUN. RTP or RTCP: RFC 7983 7, RFC 5761 4."""
        dtls = self._dtls
        if (
            len(data) < 12
            or not 127 < data[0] < 192
            or 192 <= data[1] <= 223
            or dtls._rx_srtp is None
            or dtls._state is not State.CONNECTED
        ):
            self._engines_way(data, component)
            return
        dtls._RTCDtlsTransport__rx_packets += 1
        dtls._RTCDtlsTransport__rx_bytes += len(data)
        try:
            packet = parse(dtls._rx_srtp.unprotect(data), self._extensions.abs_send_time)
        except (pylibsrtp.Error, ValueError) as exc:
            log.debug("< a datagram that is no RTP of this call: %s", exc)
            return
        take = self._streams.get((packet.ssrc, packet.payload_type)) or self._route(packet)
        if take is not None:
            try:
                take(packet)
            except Exception:  # a bug costs this packet, not the socket
                log.exception("a packet could not be taken")

    def _route(self, packet: Packet) -> Take | None:
        router = self._dtls._rtp_router
        named = packet.ssrc in router.ssrc_table
        take = self._receivers.get(router.route_rtp(packet))
        if take is not None:
            if len(self._streams) >= MAX_STREAMS:
                self._forget(next(iter(self._streams)))
            if not named:
                self._learnt.add(packet.ssrc)
            self._streams[packet.ssrc, packet.payload_type] = take
            for protocol in self._dtls.transport._connection._protocols:
                self._shorten(protocol)
        return take

    def _forget(self, stream: tuple[int, int]) -> None:
        """Hook: the engine keeps each SSRC that it ever met."""
        del self._streams[stream]
        ssrc = stream[0]
        if ssrc in self._learnt and not any(ssrc == other for other, _ in self._streams):
            self._learnt.discard(ssrc)
            self._dtls._rtp_router.ssrc_table.pop(ssrc, None)

    def _shorten(self, protocol: Any) -> None:
        """Hooks: ICE takes each datagram for STUN until an exception says that it is none; asyncio makes room for
        256 KiB for each, which takes the allocator 14 us of 30."""
        if hasattr(protocol.transport, "max_size"):  # a socket's, not a relay's
            protocol.transport.max_size = MAX_DATAGRAM
        if protocol.datagram_received.__name__ == "short":
            return
        stun, component = protocol.datagram_received, protocol.local_candidate.component

        def short(data: bytes, address: tuple[Any, ...]) -> None:
            if len(data) > 11 and 127 < data[0] < 192:  # RTP or RTCP (RFC 7983 7)
                self._received(data, component)
            else:
                stun(data, address)

        protocol.datagram_received = short
