"""Fast path: RTP bypasses the engine, everything else does not, and datagrams of strangers are harmless."""

from __future__ import annotations

import socket
from typing import Any

from peer.rtc.aiortc_hooks import MAX_DATAGRAM
from peer.rtc.ice_transport import IceTransport
from peer.rtc.liveness import Liveness
from peer.rtc.rtp_fast_path import MAX_STREAMS, RtpFastPath
from peer.rtp.packet import Packet
from tests.rtc.loopback import ice_connection, loopback


async def test_rtp_bypasses_the_engine() -> None:
    async with loopback() as pair:
        passed: list[object] = []
        dtls: Any = pair.near.getReceivers()[0].transport
        handle = dtls._handle_rtp_data

        async def watch(data: bytes, arrival_time_ms: int) -> None:
            passed.append(data)
            await handle(data, arrival_time_ms=arrival_time_ms)

        dtls._handle_rtp_data = watch
        await pair.receive_frames(10)
        assert passed == []


async def test_packets_from_the_engine_are_received_too() -> None:
    """Packets that were in the engine's queue before the keys were known are not lost."""
    async with loopback() as pair:
        dtls: Any = pair.near.getReceivers()[0].transport
        IceTransport.of(dtls).receive_rtp = lambda data: False
        await pair.receive_frames(10)


async def test_datagrams_are_counted_as_in_the_engine() -> None:
    async with loopback() as pair:
        live = Liveness(pair.near)
        before = live.datagrams
        await pair.send_until(lambda: live.datagrams >= before + 20)
        entry = pair.near.getReceivers()[0].transport._get_stats()
        (transport,) = entry.values()
        assert transport.bytesReceived > 20 * 100


async def test_receive_buffer_has_room_for_one_datagram() -> None:
    async with loopback() as pair:
        await pair.receive_frames(3)
        sizes = [protocol.transport.max_size for protocol in ice_connection(pair.near)._protocols]
        assert sizes and set(sizes) == {MAX_DATAGRAM + 1}


async def test_transport_has_one_fast_path() -> None:
    async with loopback() as pair:
        dtls = pair.near.getReceivers()[0].transport
        assert RtpFastPath.of(dtls) is RtpFastPath.of(dtls)


async def test_datagrams_of_a_stranger_are_dropped() -> None:
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        (protocol, *_) = ice_connection(pair.near)._protocols
        address = (protocol.local_candidate.host, protocol.local_candidate.port)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as stranger:
            for data in (b"\x80", b"\x80" * 12, b"\x80\x60" + bytes(40), bytes([0xBF]) * 1400, b"\x90" * 9000):
                stranger.sendto(data, address)
        live = Liveness(pair.near)
        seen = live.datagrams
        await pair.send_until(lambda: live.datagrams > seen + 5)
        await pair.receive_frames(5)


async def test_routes_are_bounded() -> None:
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        path = RtpFastPath.of(pair.near.getReceivers()[0].transport)
        payload_type = pair.far.getTransceivers()[0]._codecs[0].payloadType
        for ssrc in range(5000, 5000 + 2 * MAX_STREAMS):
            path._route(Packet(payload_type, 1, 0, ssrc, b""))
        assert len(path._routes) == MAX_STREAMS
        await pair.receive_frames(3)
