"""Fast path of received RTP from the socket to its receiver.

Hook: in the engine every datagram waits in a queue, wakes a task, is parsed into many objects and passes through many
coroutines. At eight calls of 720p this was most of a receiver's work. Here a datagram with RTP is decrypted,
parsed and processed within the callback of its socket. Everything else (DTLS, RTCP, packets before the keys are
known) is left to the engine.

Contract tests are in ``tests/rtc/test_rtp_fast_path.py``. Only ``receiver`` imports this module.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, cast

import pylibsrtp
from aiortc import RTCDtlsTransport, RTCRtpReceiver
from aiortc.rtcdtlstransport import State

from ..log_limit import LimitedLogger
from ..rtp.packet import Packet, parse
from .aiortc_hooks import MAX_DATAGRAM, attached, limit_datagrams
from .ice_transport import IceTransport

log = LimitedLogger(logging.getLogger(__name__))

MAX_STREAMS: Final = 32
"""Maximum number of routed streams per transport. Beyond it, the oldest one is routed anew with its next packet."""

PacketHandler = Callable[[Packet], None]


class RtpFastPath:
    """Route from the RTP of one DTLS transport to its receivers. ``of`` installs it, or returns the installed one."""

    def __init__(self, dtls: RTCDtlsTransport) -> None:
        self._dtls = cast(Any, dtls)
        self._ice = IceTransport.of(dtls)
        for owner, name in (
            (self._dtls, "_rx_srtp"),
            (self._dtls, "_RTCDtlsTransport__rx_packets"),
            (self._dtls, "_RTCDtlsTransport__rx_bytes"),
            (self._dtls._rtp_header_extensions_map, "_HeaderExtensionsMap__ids"),
            (self._dtls._rtp_router, "route_rtp"),
            (self._dtls._rtp_router, "ssrc_table"),
            (self._ice.connection, "_protocols"),
        ):
            assert hasattr(owner, name), f"the engine no longer has {name}"
        self._handlers: dict[RTCRtpReceiver, PacketHandler] = {}
        self._routes: dict[tuple[int, int], PacketHandler] = {}  # by SSRC and payload type
        self._learned_ssrcs: dict[int, None] = {}  # SSRCs that no description declared, the oldest first
        self._extension_ids = self._dtls._rtp_header_extensions_map._HeaderExtensionsMap__ids
        self._ice.receive_rtp = self._receive
        self._ice.on_replaced = self.forget_routes  # so that the sockets of the new connection are hooked

    @classmethod
    def of(cls, dtls: RTCDtlsTransport) -> RtpFastPath:
        """Return the fast path of a transport. The first call installs it."""
        return attached(dtls, cls)

    def add_receiver(self, receiver: RTCRtpReceiver, handler: PacketHandler) -> None:
        """Call ``handler`` with the packets that the engine would route to ``receiver``."""
        self._handlers[receiver] = handler

    def forget_routes(self) -> None:
        """Route each stream anew with its next packet. SSRCs that no description declared keep their receiver."""
        self._routes.clear()

    def _receive(self, data: bytes) -> bool:
        """Process a datagram if it is RTP, which is recognized by RFC 7983 7 and RFC 5761 4. Return whether it is."""
        if len(data) > MAX_DATAGRAM:
            return True
        dtls = self._dtls
        if (
            len(data) < 12
            or not 127 < data[0] < 192
            or 192 <= data[1] <= 223
            or dtls._rx_srtp is None
            or dtls._state is not State.CONNECTED
        ):
            return False
        dtls._RTCDtlsTransport__rx_packets += 1
        dtls._RTCDtlsTransport__rx_bytes += len(data)
        try:
            packet = parse(dtls._rx_srtp.unprotect(data), self._extension_ids.abs_send_time)
        except (pylibsrtp.Error, ValueError) as exc:
            log.debug("< dropped a datagram that is not RTP of this call: %s", exc)
            return True
        handler = self._routes.get((packet.ssrc, packet.payload_type)) or self._route(packet)
        if handler is not None:
            try:
                handler(packet)
            except Exception:  # a bug costs this packet, not the socket
                log.exception("failed to process a received packet")
        return True

    def _route(self, packet: Packet) -> PacketHandler | None:
        router = self._dtls._rtp_router
        is_declared = packet.ssrc in router.ssrc_table
        handler = self._handlers.get(router.route_rtp(packet))
        if handler is not None:
            if len(self._routes) >= MAX_STREAMS:
                self._remove_route(next(iter(self._routes)))
            if not is_declared:
                self._learned_ssrcs[packet.ssrc] = None
                if len(self._learned_ssrcs) > MAX_STREAMS:  # also those of earlier descriptions
                    self._forget_ssrc(next(iter(self._learned_ssrcs)))
            self._routes[packet.ssrc, packet.payload_type] = handler
            for protocol in self._ice.connection._protocols:
                self._bypass_stun_parser(protocol)
        return handler

    def _remove_route(self, stream: tuple[int, int]) -> None:
        del self._routes[stream]
        if stream[0] in self._learned_ssrcs and not any(stream[0] == other for other, _ in self._routes):
            self._forget_ssrc(stream[0])

    def _forget_ssrc(self, ssrc: int) -> None:
        """Remove the engine's entry of an SSRC. Its next packet is routed by payload type.

        Hook: the engine keeps every SSRC that it ever received.
        """
        del self._learned_ssrcs[ssrc]
        self._dtls._rtp_router.ssrc_table.pop(ssrc, None)

    def _bypass_stun_parser(self, protocol: Any) -> None:
        """Pass RTP directly from the socket to the ICE transport.

        Hook: aioice parses every datagram as STUN, until an exception shows that it is not.
        """
        limit_datagrams(protocol)
        if protocol.datagram_received.__name__ == "datagram_or_rtp_received":
            return
        engine_datagram_received = protocol.datagram_received

        def datagram_or_rtp_received(data: bytes, address: tuple[Any, ...]) -> None:
            if len(data) > 11 and 127 < data[0] < 192:  # RTP or RTCP (RFC 7983 7)
                self._ice.receive(data)
            else:
                engine_datagram_received(data, address)

        protocol.datagram_received = datagram_or_rtp_received
