"""RTP takes the short way, everything else the engine's; nothing a stranger sends does harm."""

from __future__ import annotations

import socket
from typing import Any

from peer.rtc import aiortc_hooks
from peer.rtc.liveness import Liveness
from peer.rtc.rtp_fast_path import MAX_DATAGRAM, MAX_STREAMS, TransportPath
from peer.rtp.packet import Packet
from tests.line import line


async def test_rtp_does_not_pass_through_the_engine() -> None:
    async with line() as made:
        passed: list[object] = []
        dtls: Any = made.near.getReceivers()[0].transport
        handle = dtls._handle_rtp_data

        async def watch(data: bytes, arrival_time_ms: int) -> None:
            passed.append(data)
            await handle(data, arrival_time_ms=arrival_time_ms)

        dtls._handle_rtp_data = watch
        await made.pictures(10)
        assert passed == []


async def test_without_it_the_engine_hands_packets_over_all_the_same() -> None:
    """What waited in the engine's queue when the keys came is not lost."""
    async with line() as made:
        dtls: Any = made.near.getReceivers()[0].transport
        ice = aiortc_hooks.ice_connection(made.near)
        ice.data_received = TransportPath.of(dtls)._engines_way
        await made.pictures(10)


async def test_datagrams_are_counted_as_before() -> None:
    async with line() as made:
        live = Liveness(made.near)
        before = live.datagrams
        await made.until(lambda: live.datagrams >= before + 20)
        entry = made.near.getReceivers()[0].transport._get_stats()
        (transport,) = entry.values()
        assert transport.bytesReceived > 20 * 100


async def test_no_more_room_is_made_for_a_datagram_than_it_can_take() -> None:
    async with line() as made:
        await made.pictures(3)
        rooms = [protocol.transport.max_size for protocol in aiortc_hooks.ice_connection(made.near)._protocols]
        assert rooms and set(rooms) == {MAX_DATAGRAM}


async def test_a_transport_has_one_path() -> None:
    async with line() as made:
        dtls = made.near.getReceivers()[0].transport
        assert TransportPath.of(dtls) is TransportPath.of(dtls)


async def test_what_a_stranger_sends_ends_nothing() -> None:
    async with line() as made:
        await made.until(lambda: made.firsts)
        (protocol, *_) = aiortc_hooks.ice_connection(made.near)._protocols
        address = (protocol.local_candidate.host, protocol.local_candidate.port)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as stranger:
            for data in (b"\x80", b"\x80" * 12, b"\x80\x60" + bytes(40), bytes([0xBF]) * 1400, b"\x90" * 9000):
                stranger.sendto(data, address)
        live = Liveness(made.near)
        seen = live.datagrams
        await made.until(lambda: live.datagrams > seen + 5)
        await made.pictures(5)


async def test_streams_are_bounded() -> None:
    async with line() as made:
        await made.until(lambda: made.firsts)
        path = TransportPath.of(made.near.getReceivers()[0].transport)
        payload_type = made.far.getTransceivers()[0]._codecs[0].payloadType
        for ssrc in range(5000, 5000 + 2 * MAX_STREAMS):
            path._route(Packet(payload_type, 1, 0, ssrc, b""))
        assert len(path._streams) == MAX_STREAMS
        await made.pictures(3)
