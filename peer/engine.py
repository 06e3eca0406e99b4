"""Everything the program needs of aiortc and aioice that they do not offer: their private parts, in one place.

Each hook says what the engine does without it (docs/engine.md has the measurements), and each has a contract
test in ``tests/test_engine.py`` that fails when a new release moves what is hooked.

The gathering is in ``ice``, the receiving in ``reception``. Must never: decide anything about calls. May be imported
by ``connection`` only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcconfiguration import RTCBundlePolicy
from OpenSSL import SSL

log = logging.getLogger(__name__)

CLOSE_TIMEOUT: Final = 3.0

_CIPHERS: Final = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    b"ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:"
    b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"
)


def open_peer_connection(on_failure: Callable[[], None] = lambda: None) -> RTCPeerConnection:
    """A connection with one transport for all media and no ICE servers of the engine's own: ``peer.ice`` gathers.

    Hook: the engine connects in a task that nobody watches; what it raises there (a description without a
    fingerprint) is told by ``on_failure``.

    Hook: as DTLS client the engine offers ECDSA suites only, so peers with an RSA certificate (GStreamer 1.22)
    cannot connect; ECDHE-RSA suites are added.
    """
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    certificate = connection._RTCPeerConnection__certificates[0]  # type: ignore[attr-defined]
    create = certificate._create_ssl_context

    def create_ssl_context(srtp_profiles: Any) -> Any:
        context = create(srtp_profiles)
        context.set_cipher_list(_CIPHERS)
        return context

    certificate._create_ssl_context = create_ssl_context
    engine = cast(Any, connection)
    connect = engine._RTCPeerConnection__connect

    async def watched_connect() -> None:
        try:
            await connect()
        except Exception as exc:
            log.info("= not connected: %s: %s", type(exc).__name__, exc)
            on_failure()

    engine._RTCPeerConnection__connect = watched_connect
    return connection


async def close(connection: RTCPeerConnection) -> None:
    """Close ``connection``, whatever it takes: what a description broke must not keep sockets and tasks.

    Hook: the engine's ``close`` raises or waits for ever when a task of its own had died before.
    """
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connection.close()
        return
    except Exception as exc:
        log.warning("a connection did not close in good order (%s); it is taken apart", exc or type(exc).__name__)
    engine = cast(Any, connection)
    tasks = []
    for transceiver in connection.getTransceivers():
        sender, receiver = cast(Any, transceiver.sender), cast(Any, transceiver.receiver)
        tasks += [sender._RTCRtpSender__rtp_task, sender._RTCRtpSender__rtcp_task]
        tasks += [receiver._RTCRtpReceiver__rtcp_task]
        receiver._RTCRtpReceiver__stop_decoder()
    for dtls in engine._RTCPeerConnection__dtlsTransports:
        tasks.append(dtls._task)
    for task in tasks:
        if task is not None:
            task.cancel()
    for ice in engine._RTCPeerConnection__iceTransports:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await ice.stop()
        except Exception as exc:
            log.warning("sockets of a connection may be left behind: %s", exc or type(exc).__name__)


def ice_connection(connection: RTCPeerConnection) -> Any:
    """The one ``aioice.Connection`` under all transceivers (MAX_BUNDLE)."""
    return connection.getTransceivers()[0].receiver.transport.transport._connection


class Liveness:
    """Counts what arrives on the transport, media and ICE checks alike.

    Hook: the engine notices a peer that vanished after 29 to 33 s; the counters tell within seconds.
    """

    def __init__(self, connection: RTCPeerConnection) -> None:
        self._dtls = connection.getTransceivers()[0].receiver.transport
        self._checks = 0
        ice = ice_connection(connection)
        request_received = ice.request_received

        def count(*args: Any) -> None:
            self._checks += 1
            request_received(*args)

        ice.request_received = count
        data_received = ice.data_received

        def guard(data: bytes, component: int) -> None:
            if data:  # anybody may send us an empty datagram, and the engine looks at its first octet
                data_received(data, component)

        ice.data_received = guard
        self.closed_by_remote = False
        """Whether DTLS ended with the other side's close_notify (RFC 8446 6.1), and by nothing else."""
        self._dtls.on("statechange", self._dtls_changed)

    @property
    def datagrams(self) -> int:
        """How many have come so far."""
        received: int = self._dtls._RTCDtlsTransport__rx_packets  # type: ignore[attr-defined]
        return received + self._checks

    def _dtls_changed(self) -> None:
        if self._dtls.state == "closed":
            tls = self._dtls._ssl
            self.closed_by_remote = tls is not None and bool(tls.get_shutdown() & SSL.RECEIVED_SHUTDOWN)


@dataclass(frozen=True, slots=True)
class TransportStats:
    """What RTCP knows. ``rtt`` in seconds; packets as counted here, and octets sent, by kind of media."""

    rtt: float | None
    received: dict[str, int]
    lost: dict[str, int]
    octets_sent: dict[str, int]


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


# --- sending --------------------------------------------------------------------------------------------------


def default_bitrate(width: int, height: int, fps: float = 30.0) -> int:
    """Bit/s at which a picture of this size looks good: 0.1 bit a pixel, within 300 kbit/s and 6 Mbit/s."""
    return int(min(max(width * height * fps * 0.1, 300_000), 6_000_000))


class _Bounded:
    """Hook: the engine clamps VP8 to 0.25 to 1.5 Mbit/s, H.264 to 0.5 to 3, and starts low, whatever the size."""

    max_bitrate = 0
    _bitrate = 0

    @property
    def target_bitrate(self) -> int:
        return self._bitrate

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self._bitrate = max(100_000, min(bitrate, self.max_bitrate))


class _BoundedVp8(_Bounded, Vp8Encoder):
    pass


class _BoundedH264(_Bounded, H264Encoder):
    pass


def bound_bitrate(sender: RTCRtpSender, codec: str, max_bitrate: int) -> None:
    """Give ``sender`` an encoder of our own limits. ``codec``: ``vp8`` or ``h264``; before it sends."""
    encoder = _BoundedVp8() if codec == "vp8" else _BoundedH264()
    encoder.max_bitrate = max_bitrate
    encoder.target_bitrate = 1_000_000
    sender._RTCRtpSender__encoder = encoder  # type: ignore[attr-defined]
