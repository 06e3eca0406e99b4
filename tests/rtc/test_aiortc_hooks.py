"""Contracts with aiortc and aioice: each hooked private part exists, and the hook has its effect.

If one of these tests fails after an upgrade, read ``peer/rtc/aiortc_hooks.py`` first.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any, cast

import pytest
from aioice import ice as aioice_ice
from aioice.candidate import Candidate
from aiortc import RTCSessionDescription
from aiortc.codecs import CODECS
from aiortc.rtcdtlstransport import SRTP_PROFILES
from aiortc.rtp import DYNAMIC_PAYLOAD_TYPES, RtcpPsfbPacket
from OpenSSL import SSL

from peer.rtc import aiortc_hooks
from peer.rtc.liveness import Liveness
from tests.rtc.loopback import ice_connection, loopback
from tests.waiting import until


async def test_empty_datagram_from_a_stranger_is_dropped() -> None:
    """Without the hook: the engine reads its first byte, and the exception closes the transport."""
    async with loopback() as pair:
        aiortc_hooks.ignore_malformed_rtcp(pair.near)
        live = Liveness(pair.near)
        for protocol in ice_connection(pair.near)._protocols:
            address = (protocol.local_candidate.host, protocol.local_candidate.port)
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"", address)
        seen = live.datagrams
        await pair.send_until(lambda: live.datagrams > seen + 5)
        assert pair.near.connectionState == "connected"


async def test_datagram_above_the_limit_is_dropped_unread() -> None:
    """Without the hook: aioice parses up to 65,507 bytes as STUN, for anyone."""
    async with loopback() as pair:
        received: list[int] = []
        limit = aiortc_hooks.MAX_DATAGRAM
        for protocol in ice_connection(pair.near)._protocols:
            protocol.datagram_received = lambda data, address: received.append(len(data))
            aiortc_hooks.limit_datagrams(protocol)
            aiortc_hooks.limit_datagrams(protocol)
            address = (protocol.local_candidate.host, protocol.local_candidate.port)
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as stranger:
                for size in (limit, limit + 1, 60_000, limit - 1):
                    for first in (0x00, 0x80):  # STUN, RTP
                        stranger.sendto(bytes([first]) * size, address)
            await until(lambda: received[-2:] == [limit - 1] * 2)
            assert [size for size in received if size > 1500] == [limit] * 2 + [limit - 1] * 2
            received.clear()


@pytest.mark.parametrize("relay_only", [False, True])
async def test_relay_only_resolves_no_mdns_names(relay_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[str] = []

    class Mdns:
        async def resolve(self, name: str) -> None:
            resolved.append(name)

    async def create(connection: object) -> Mdns:
        return Mdns()

    monkeypatch.setattr(aioice_ice, "get_or_create_mdns_protocol", create)
    pc = aiortc_hooks.open_peer_connection(relay_only=relay_only)
    pc.addTransceiver("audio")
    candidate = Candidate.from_sdp("1 1 udp 1 0b0f9e2a-5f2c-4c3e-9d3e-0f6f2d6b7c11.local 9 typ host")
    await ice_connection(pc).add_remote_candidate(candidate)
    assert resolved == ([] if relay_only else [candidate.host])
    await aiortc_hooks.close(pc)


async def test_truncated_remb_is_dropped() -> None:
    """Without the hook: a REMB for five streams that lists no SSRC closes the transport."""
    async with loopback() as pair:
        aiortc_hooks.ignore_malformed_rtcp(pair.near)
        live = Liveness(pair.near)
        await pair.send_until(lambda: pair.first_frames)
        remb = RtcpPsfbPacket(fmt=15, ssrc=1, media_ssrc=0, fci=b"REMB\x05\0\0\0")
        await cast(Any, pair.sender.transport)._send_rtp(bytes(remb))
        seen = live.datagrams
        await pair.send_until(lambda: live.datagrams > seen + 5)
        assert pair.near.connectionState == "connected"


class _Never(asyncio.Event):
    def set(self) -> None:
        """Stay unset."""


async def _closed() -> None:
    """Replaces a ``close`` that would never return."""


async def test_close_with_a_dead_engine_task_releases_sockets(caplog: pytest.LogCaptureFixture) -> None:
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        tasks = asyncio.all_tasks()
        receiver: Any = pair.near.getReceivers()[0]
        receiver._RTCRtpReceiver__rtcp_exited = _Never()  # the task that sets it is dead
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aiortc_hooks, "CLOSE_TIMEOUT", 0.2)
            await aiortc_hooks.close(pair.near)
        assert "taken apart" in caplog.text
        assert ice_connection(pair.near)._protocols == []
        assert len(asyncio.all_tasks()) < len(tasks)
        pair.near.close = _closed  # type: ignore[method-assign]


async def test_dtls_client_offers_ecdhe_rsa_suites() -> None:
    """Without the hook: no suite that works with an RSA certificate."""
    connection = aiortc_hooks.open_peer_connection()
    certificate = connection._RTCPeerConnection__certificates[0]  # type: ignore[attr-defined]
    context = certificate._create_ssl_context(srtp_profiles=SRTP_PROFILES)
    suites = SSL.Connection(context).get_cipher_list()
    assert "ECDHE-RSA-AES128-GCM-SHA256" in suites
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" in suites
    await connection.close()


_BASELINE_PROFILES = ["42001f", "42e01f"]


def _profiles(sdp: str) -> list[str]:
    return re.findall(r"profile-level-id=(\w+)", sdp)


async def test_main_high_and_mode_0_are_negotiated_after_baseline() -> None:
    """Without the hook: Baseline and Constrained Baseline, in mode 1 only."""
    near, far = aiortc_hooks.open_peer_connection(), aiortc_hooks.open_peer_connection()
    near.addTransceiver("video")
    offer = await near.createOffer()
    assert _profiles(offer.sdp) == [*_BASELINE_PROFILES, *aiortc_hooks.H264_PROFILES] * 2
    assert re.findall(r"packetization-mode=(\d)", offer.sdp) == ["1"] * 6 + ["0"] * 6
    types = re.findall(r"^a=rtpmap:(\d+) ", offer.sdp, re.MULTILINE)
    assert len(types) == len(set(types))
    assert all(int(payload_type) in DYNAMIC_PAYLOAD_TYPES for payload_type in types)
    await far.setRemoteDescription(offer)
    assert _profiles((await far.createAnswer()).sdp) == _profiles(offer.sdp)
    await near.close()
    await far.close()


async def test_payload_type_below_96_is_kept_in_the_answer() -> None:
    """Chromium uses such numbers for the last of many codecs. Without the hook: the answer has a different one."""
    near, far = aiortc_hooks.open_peer_connection(), aiortc_hooks.open_peer_connection()
    near.addTransceiver("video")
    offer = await near.createOffer()
    high = re.search(r"^a=fmtp:(\d+) .*profile-level-id=64001f", offer.sdp, re.MULTILINE)
    assert high is not None
    moved = re.sub(rf"(?<=[ :=]){high[1]}(?=[ \r])", "41", offer.sdp)
    await far.setRemoteDescription(RTCSessionDescription(moved, "offer"))
    answer = await far.createAnswer()
    assert "a=rtpmap:41 H264/90000" in answer.sdp
    assert re.search(r"^a=fmtp:41 .*profile-level-id=64001f", answer.sdp, re.MULTILINE)
    await near.close()
    await far.close()


async def test_remote_without_main_and_high_negotiates_baseline() -> None:
    near, far = aiortc_hooks.open_peer_connection(), aiortc_hooks.open_peer_connection()
    near.addTransceiver("video")
    offer = await near.createOffer()
    with pytest.MonkeyPatch.context() as patch:  # the engine without our codecs
        patch.setitem(CODECS, "video", [codec for codec in CODECS["video"] if (codec.payloadType or 0) < 103])
        await far.setRemoteDescription(offer)
        answer = await far.createAnswer()
    assert _profiles(answer.sdp) == _BASELINE_PROFILES
    await near.setLocalDescription(offer)
    await far.setLocalDescription(answer)
    await near.setRemoteDescription(answer)
    (transceiver,) = near.getTransceivers()
    negotiated = [codec.parameters.get("profile-level-id", codec.name) for codec in transceiver._codecs]
    assert [name for name in negotiated if name != "rtx"] == ["VP8", *_BASELINE_PROFILES]
    await near.close()
    await far.close()
