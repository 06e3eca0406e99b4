"""Hostile remotes, servers and programs: they may cost a call, never the agent."""

from __future__ import annotations

import asyncio
import os
import re
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.rtp import RTCP_PSFB_APP, RtcpPsfbPacket, unpack_remb_fci
from websockets.asyncio.client import ClientConnection, connect

from peer import Agent, CallFailed
from peer.signaling import message_json, messages
from server.config import RelayConfig
from server.relay import Relay
from tests.waiting import until


@pytest.fixture
async def relay() -> AsyncIterator[str]:
    relay = Relay(RelayConfig(port=0))
    await relay.start()
    yield f"ws://127.0.0.1:{relay.port}/ws"
    await relay.stop()


@pytest.fixture
async def stranger(relay: str) -> AsyncIterator[ClientConnection]:
    async with connect(relay) as socket:
        await socket.send(message_json.dump(messages.Join("stranger")))
        yield socket


@pytest.fixture
async def agent(relay: str) -> AsyncIterator[Agent]:
    async with Agent("agent", server=relay, video="test", audio="test", size=(160, 120)) as agent:
        yield agent


async def answer(socket: ClientConnection) -> messages.Answer | messages.HangUp:
    async with asyncio.timeout(10):
        while True:
            message = message_json.parse(str(await socket.recv()))
            if isinstance(message, messages.Answer | messages.HangUp):
                return message


async def offer(*kinds: str, data: bool = False) -> str:
    """Return a real offer of aiortc, with host candidates."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    for kind in kinds:
        connection.addTransceiver(kind)
    if data:
        connection.createDataChannel("chat")
    await connection.setLocalDescription(await connection.createOffer())
    sdp = connection.localDescription.sdp
    await connection.close()
    return sdp


async def still_works(agent: Agent, relay: str) -> None:
    """Call the agent from another peer and wait for video."""
    async with Agent("friend", server=relay) as friend:
        await friend.wait_for("agent", 5)
        async with friend.call("agent") as call:
            await call.first_frame(10)
    await until(lambda: "friend" not in agent.calls)


async def test_offer_of_data_channel_only_is_declined(agent: Agent, stranger: ClientConnection, relay: str) -> None:
    await stranger.send(message_json.dump(messages.Offer("stranger", "agent", await offer(data=True))))
    reply = await answer(stranger)
    assert isinstance(reply, messages.HangUp) and reply.reason == "declined"
    await still_works(agent, relay)


EDITS: dict[str, Callable[[str], str]] = {
    "no video line": lambda sdp: re.sub(r"m=video .*\r\n", "", sdp),
    "no audio line": lambda sdp: re.sub(r"m=audio .*\r\n", "", sdp),
    "no fingerprint": lambda sdp: re.sub(r"a=fingerprint.*\r\n", "", sdp),
    "no setup": lambda sdp: re.sub(r"a=setup.*\r\n", "", sdp),
    "no ufrag": lambda sdp: re.sub(r"a=ice-ufrag.*\r\n", "", sdp),
    "no mid": lambda sdp: re.sub(r"a=mid.*\r\n", "", sdp),
    "one mid for both": lambda sdp: re.sub(r"a=mid:1", "a=mid:0", sdp),
    "bundle of unknown sections": lambda sdp: re.sub(r"a=group:BUNDLE.*", "a=group:BUNDLE 7 8", sdp),
    "first half only": lambda sdp: sdp[: len(sdp) // 2],
    "twice": lambda sdp: sdp + sdp,
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
async def test_broken_offer_gets_one_reply_and_leaks_nothing(
    agent: Agent, stranger: ClientConnection, relay: str, edit: Callable[[str], str]
) -> None:
    tasks, descriptors = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
    await stranger.send(message_json.dump(messages.Offer("stranger", "agent", edit(await offer("audio", "video")))))
    reply = await answer(stranger)
    if isinstance(reply, messages.Answer):
        await stranger.send(message_json.dump(messages.HangUp("stranger", "agent")))
    await until(lambda: not agent.calls and not agent._calls.remotes["stranger"].connections)
    await until(lambda: len(asyncio.all_tasks()) <= tasks and len(os.listdir("/proc/self/fd")) <= descriptors)
    await still_works(agent, relay)


async def test_offer_without_fingerprint_is_declined(agent: Agent, stranger: ClientConnection) -> None:
    broken = EDITS["no fingerprint"](await offer("audio", "video"))
    await stranger.send(message_json.dump(messages.Offer("stranger", "agent", broken)))
    reply = await answer(stranger)
    assert isinstance(reply, messages.HangUp) and reply.reason == "declined"


@pytest.mark.parametrize("kinds", [("audio", "video"), ("video",)])
async def test_offer_without_common_codec_costs_the_video(
    agent: Agent, stranger: ClientConnection, caplog: pytest.LogCaptureFixture, kinds: tuple[str, ...]
) -> None:
    foreign = re.sub("VP8|H264", "AV1", await offer(*kinds))
    await stranger.send(message_json.dump(messages.Offer("stranger", "agent", foreign)))
    reply = await answer(stranger)
    if "audio" in kinds:
        assert isinstance(reply, messages.Answer)
        assert re.findall(r"^m=(\w+) (?:0|\d+)", reply.sdp, re.MULTILINE) == ["audio", "video"]
        assert "m=video 0 " in reply.sdp and "m=audio 0 " not in reply.sdp
    else:
        assert isinstance(reply, messages.HangUp) and reply.reason == "declined"
        assert "m=video (line 7): no common codec, offered: AV1/90000" in reply.detail
    assert "no common codec, offered: AV1/90000" in caplog.text
    assert "ours: h264, vp8; try --video-codec" in caplog.text
    assert "OperationError" not in caplog.text


async def test_offer_of_100_sections_is_declined(agent: Agent, stranger: ClientConnection) -> None:
    threads = threading.active_count()
    await stranger.send(message_json.dump(messages.Offer("stranger", "agent", await offer(*["audio"] * 100))))
    reply = await answer(stranger)
    assert isinstance(reply, messages.HangUp) and reply.reason == "declined"
    assert threading.active_count() <= threads + 1


async def test_truncated_remb_does_not_end_the_call(agent: Agent, relay: str) -> None:
    """aiortc alone raises in its receiving task, which closes the connection (``peer/rtc/aiortc_hooks.py``)."""
    truncated = bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=b"REMB\x05\0\0\0"))
    with pytest.raises(struct.error):
        unpack_remb_fci(RtcpPsfbPacket.parse(truncated[4:], RTCP_PSFB_APP).fci)
    async with Agent("viewer", server=relay) as viewer:
        await viewer.wait_for("agent", 5)
        async with viewer.call("agent") as call:
            await call.first_frame(10)
            (connection,) = viewer._calls.remotes["agent"].connections.values()
            assert connection._pc is not None
            await connection._pc.getTransceivers()[0].receiver.transport._send_rtp(truncated)
            frames = call.media.video.counters.frames
            await until(lambda: call.media.video.counters.frames > frames + 60)
            assert call.reason is None and "viewer" in agent.calls


@pytest.mark.parametrize(("direction", "holders"), [("sendrecv", 1), ("sendonly", 0)])
async def test_call_that_sends_nothing_releases_the_source(
    agent: Agent, stranger: ClientConnection, direction: str, holders: int
) -> None:
    sdp = (await offer("audio", "video")).replace("a=sendrecv", f"a={direction}")
    await stranger.send(message_json.dump(messages.Offer("stranger", "agent", sdp)))
    assert isinstance(await answer(stranger), messages.Answer)
    assert agent._video_out is not None and agent._audio_out is not None
    assert [out._warm_up._holders for out in (agent._video_out, agent._audio_out)] == [holders] * 2


async def test_answer_that_receives_nothing_releases_the_source(agent: Agent, stranger: ClientConnection) -> None:
    agent.call("stranger")
    message = None
    while not isinstance(message, messages.Offer):
        message = message_json.parse(str(await stranger.recv()))
    assert agent._video_out is not None and agent._audio_out is not None
    assert [out._warm_up._holders for out in (agent._video_out, agent._audio_out)] == [1, 1]
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    await connection.setRemoteDescription(RTCSessionDescription(message.sdp, "offer"))
    for transceiver in connection.getTransceivers():
        transceiver.direction = "recvonly" if transceiver.kind == "audio" else "inactive"
    await connection.setLocalDescription(await connection.createAnswer())
    await stranger.send(message_json.dump(messages.Answer("stranger", "agent", connection.localDescription.sdp)))
    video, audio = agent._video_out._warm_up, agent._audio_out._warm_up
    await until(lambda: video._holders == 0)
    assert audio._holders == 1
    await connection.close()


async def test_flood_of_candidates_is_limited(agent: Agent, stranger: ClientConnection) -> None:
    await stranger.send(message_json.dump(messages.Offer("stranger", "agent", await offer("audio"))))
    assert isinstance(await answer(stranger), messages.Answer)
    for number in range(500):
        line = f"candidate:{number} 1 udp 1 127.0.0.{number % 250 + 1} {number % 60_000 + 1} typ host"
        await stranger.send(
            message_json.dump(messages.Candidate("stranger", "agent", messages.IceCandidate(line, "0", 0)))
        )
    for line in ("candidate:1 1 udp 1 127.0.0.1 99999 typ host", "candidate:1 2 udp 1 127.0.0.1 9 typ host"):
        await stranger.send(
            message_json.dump(messages.Candidate("stranger", "agent", messages.IceCandidate(line, "0", 0)))
        )
    connection = next(iter(agent._calls.remotes["stranger"].connections.values()))
    await until(lambda: connection._trickled == 100)


async def test_flood_of_invalid_messages_logs_few_lines(
    agent: Agent, stranger: ClientConnection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "peer")
    began = time.monotonic()
    for _ in range(2000):
        await stranger.send('{"type":"candidate","from":"stranger","to":"agent","candidate":5}')
        await stranger.send('{"type":"offer","from":"stranger","to":"agent"}')
    await stranger.send(message_json.dump(messages.Offer("stranger", "agent", "no SDP")))
    assert isinstance(await answer(stranger), messages.HangUp)
    lines = [line for line in caplog.messages if "ignored an invalid message" in line]
    assert 1 <= len(lines) <= 2 + time.monotonic() - began


async def test_policy_that_raises_declines_the_call(relay: str, stranger: ClientConnection) -> None:
    def broken(peer: str) -> bool:
        raise ZeroDivisionError

    async with Agent("agent", server=relay, accept=broken) as agent:
        await stranger.send(message_json.dump(messages.Offer("stranger", "agent", await offer("audio"))))
        reply = await answer(stranger)
        assert isinstance(reply, messages.HangUp) and reply.reason == "declined"
        assert agent.calls == {}


@pytest.mark.parametrize("to", ["agent", "nobody", "not a valid id", ""])
async def test_contradictory_server_messages_are_tolerated(to: str) -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def odd(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type": "peer-list", "peers": ["agent", "x"]}')
        await socket.send(message_json.dump(messages.Error("peer-not-found", "who?", to or None)))
        await socket.send('{"type": "peer-joined", "peerId": "agent"}')
        await socket.send('{"type": "peer-left", "peerId": "agent"}')
        await socket.send('{"type": "peer-joined", "peerId": "done"}')
        await socket.wait_closed()

    async with serve(odd, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Agent("agent", server=f"ws://127.0.0.1:{port}/ws") as agent:
            await agent.wait_for("done", 5)
            assert set(agent.peers) == {"x", "done"}


async def test_leaving_agent_starts_no_call(relay: str) -> None:
    async with Agent("b", server=relay):
        refused: list[str] = []
        async with Agent("a", server=relay) as a:
            await a.wait_for("b", 5)
            call = a.call("b")
            await call.connected()

            async def redial() -> None:
                await call.ended()
                try:
                    a.call("b")
                except CallFailed as error:
                    refused.append(error.reason)

            redialing = asyncio.ensure_future(redial())
        await redialing
        assert refused == ["shutdown"]
        with pytest.raises(CallFailed, match="shutdown"):
            await a.wait_for("nobody")
        async with asyncio.timeout(1):
            await a.closed()


@pytest.mark.parametrize("proxy", ["gopher://127.0.0.1:9", "socks5://127.0.0.1:9", "http://127.0.0.1:9"])
async def test_unusable_proxy_raises_server_unreachable(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from peer import ServerUnreachable

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ServerUnreachable):
        async with Agent("a", server="ws://relay.invalid/ws", join_timeout=0.5):
            pass
