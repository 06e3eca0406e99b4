"""A call with a transport per kind of media: with a plain engine, and event by event with scripted connections."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import av
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.sdp import candidate_from_sdp

from peer import negotiation as n
from peer.media.fanout import Fanout
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, AUDIO_TIME_BASE, VIDEO_TIME_BASE, media_time
from peer.media.incoming.track import IncomingMedia
from peer.media.outgoing.audio_track import OutgoingAudio
from peer.media.outgoing.shared import SharedAudio, SharedVideo
from peer.media.outgoing.track import OutgoingVideo
from peer.media.test_pattern import Pattern
from peer.rtc import unbundled
from peer.rtc.connection import ConnectionOptions
from peer.rtc.outgoing_tracks import OutgoingTracks
from peer.rtc.rtcp_stats import TransportStats
from peer.rtc.unbundled import UnbundledConnection, split_offer
from peer.signaling.messages import IceCandidate
from tests.waiting import until

from .descriptions import AUDIO, HEAD, VIDEO, media_lines, offer, replaced

OFFER = offer(AUDIO, VIDEO, head=HEAD)
OPTIONS = ConnectionOptions()


class ScriptedConnection:
    """A stand-in for ``Connection``."""

    def __init__(
        self,
        generation: int,
        tracks: OutgoingTracks,
        incoming: Any,
        options: ConnectionOptions,
        post: Callable[[n.Event], None],
        open_peer_connection: Any,
    ) -> None:
        self.tracks, self.post = tracks, post
        self.calls: list[tuple[str, Any]] = []
        self.candidates: list[IceCandidate] = []
        self.kind = "?"
        self.ended = asyncio.Event()

    def create_answer(self, sdp: str) -> None:
        self.calls.append(("answer", sdp))

    def renegotiate(self, sdp: str, *, ice_restart: bool) -> None:
        self.calls.append((f"renegotiate {ice_restart}", sdp))

    def add_candidate(self, candidate: IceCandidate) -> None:
        self.candidates.append(candidate)

    def close(self) -> None:
        self.ended.set()

    async def run(self) -> None:
        await self.ended.wait()

    @property
    def receives(self) -> frozenset[str]:
        return frozenset({self.kind})

    async def stats(self) -> TransportStats:
        audio = self.kind == "audio"
        return TransportStats(0.02 if audio else None, {self.kind: 1}, {self.kind: 2}, {self.kind: 3})


class Scripted:
    """An ``UnbundledConnection`` of two scripted ones, and what it has posted."""

    def __init__(self, tracks: OutgoingTracks | None = None) -> None:
        self.posted: list[n.Event] = []
        self.unbundled = UnbundledConnection(
            1,
            tracks or OutgoingTracks(),
            IncomingMedia(lambda _: None),
            OPTIONS,
            self.posted.append,
            split_offer(OFFER, OPTIONS),
        )
        self.audio, self.video = cast(list[ScriptedConnection], self.unbundled._connections)
        self.audio.kind, self.video.kind = "audio", "video"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scripted]:
    monkeypatch.setattr(unbundled, "Connection", ScriptedConnection)
    return Scripted


def answered(sdp: str) -> n.AnswerCreated:
    return n.AnswerCreated(1, sdp)


def test_each_connection_answers_its_part(scripted: Callable[..., Scripted]) -> None:
    made = scripted()
    made.unbundled.create_answer(OFFER)
    (audio,), (video,) = made.audio.calls, made.video.calls
    assert media_lines(audio[1]) == ["m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=video 0 UDP/TLS/RTP/SAVPF 96 97"]
    assert media_lines(video[1]) == ["m=audio 0 UDP/TLS/RTP/SAVPF 111", "m=video 9 UDP/TLS/RTP/SAVPF 96 97"]
    assert audio[0] == video[0] == "answer"


def test_answer_is_posted_once_and_before_candidates(scripted: Callable[..., Scripted]) -> None:
    made = scripted()
    made.unbundled.create_answer(OFFER)
    candidate = n.LocalCandidate(1, IceCandidate("candidate:1", "1", 1, "v"))
    made.video.post(answered("v=0\r\nm=audio 0 x 0\r\nm=video 7 x 0\r\n"))
    made.video.post(candidate)
    assert made.posted == []
    made.audio.post(answered("v=0\r\nm=audio 5 x 0\r\nm=video 0 x 0\r\n"))
    assert made.posted == [answered("v=0\r\nm=audio 5 x 0\r\nm=video 7 x 0\r\n"), candidate]
    made.audio.post(candidate)
    assert made.posted[2:] == [candidate]


@pytest.mark.parametrize("restarted", [(), ("audio",), ("video",), ("audio", "video")])
def test_further_offer_restarts_ice_where_credentials_differ(
    scripted: Callable[..., Scripted], restarted: tuple[str, ...]
) -> None:
    made = scripted()
    made.unbundled.create_answer(OFFER)
    sections = (
        replaced(section, "a=ice-ufrag", "a=ice-ufrag:new") if section[0][2:7] in restarted else section
        for section in (AUDIO, VIDEO)
    )
    made.unbundled.renegotiate(offer(*sections, head=HEAD), ice_restart="audio" in restarted)
    for kind, connection in (("audio", made.audio), ("video", made.video)):
        assert connection.calls[1][0] == f"renegotiate {kind in restarted}"


def test_renegotiation_is_answered_like_the_first_offer(scripted: Callable[..., Scripted]) -> None:
    made = scripted()
    test = answered("v=0\r\nm=audio 5 x 0\r\nm=video 7 x 0\r\n")
    made.unbundled.create_answer(OFFER)
    made.audio.post(test)
    made.video.post(test)
    made.unbundled.renegotiate(OFFER, ice_restart=False)
    assert made.audio.calls[1] == ("renegotiate False", made.audio.calls[0][1])
    made.audio.post(n.LocalCandidate(1, IceCandidate("candidate:1", "0", 0, "new")))
    made.audio.post(test)
    assert len(made.posted) == 1
    made.video.post(test)
    assert [type(event) for event in made.posted[1:]] == [n.AnswerCreated, n.LocalCandidate]


def test_removed_section_costs_only_its_transport(scripted: Callable[..., Scripted]) -> None:
    made = scripted()
    made.unbundled.create_answer(OFFER)
    made.audio.post(n.TransportConnected(1))
    without_video = offer(AUDIO, replaced(VIDEO, "m=video", "m=video 0 UDP/TLS/RTP/SAVPF 96"), head=HEAD)
    made.unbundled.renegotiate(without_video, ice_restart=False)
    assert made.video.ended.is_set() and not made.audio.ended.is_set()
    assert made.posted == [n.TransportConnected(1)]
    made.audio.post(answered("v=0\r\nm=audio 5 x 0\r\nm=video 0 x 0\r\n"))
    assert made.posted[1:] == [answered("v=0\r\nm=audio 5 x 0\r\nm=video 0 x 0\r\n")]
    assert made.unbundled.receives == {"audio"}
    made.unbundled.renegotiate(OFFER, ice_restart=False)
    assert [call for call, _ in made.audio.calls[1:]] == ["renegotiate False"] * 2
    assert len(made.video.calls) == 1


def test_offer_that_removes_all_sections_is_not_answered(scripted: Callable[..., Scripted]) -> None:
    made = scripted()
    made.unbundled.create_answer(OFFER)
    made.unbundled.renegotiate(re.sub(r"(?m)^(m=\w+) \d+", r"\1 0", OFFER), ice_restart=False)
    assert len(made.audio.calls) == len(made.video.calls) == 2  # the connections refuse it


def test_call_is_connected_when_all_transports_are(scripted: Callable[..., Scripted]) -> None:
    made = scripted()
    made.audio.post(n.TransportConnected(1))
    made.audio.post(n.TransportConnected(1))
    assert made.posted == []
    made.video.post(n.TransportConnected(1))
    assert made.posted == [n.TransportConnected(1)]


def test_call_is_silent_while_all_transports_are(scripted: Callable[..., Scripted]) -> None:
    made = scripted()
    made.audio.post(n.MediaSilent(1))
    made.audio.post(n.MediaFlowing(1))
    made.video.post(n.MediaSilent(1))
    assert made.posted == []
    made.audio.post(n.MediaSilent(1))
    assert made.posted == [n.MediaSilent(1)]
    made.video.post(n.MediaFlowing(1))
    made.audio.post(n.MediaFlowing(1))
    assert made.posted == [n.MediaSilent(1), n.MediaFlowing(1)]


@pytest.mark.parametrize("failure", [n.DescriptionFailed(1), n.TransportClosed(1, "transport-failed")])
def test_failure_of_one_transport_is_posted_at_once(scripted: Callable[..., Scripted], failure: n.Event) -> None:
    made = scripted()
    made.video.post(failure)
    assert made.posted == [failure]


def test_candidate_goes_to_the_connection_of_its_section(scripted: Callable[..., Scripted]) -> None:
    made = scripted()
    made.unbundled.create_answer(OFFER)
    for mid, index in (("1", None), (None, 1), ("1", 0), ("0", 1), (None, 0), (None, None), ("x", None), (None, 7)):
        made.unbundled.add_candidate(IceCandidate("candidate:1", mid, index))
    assert [(one.sdp_mid, one.sdp_m_line_index) for one in made.video.candidates] == [
        ("1", None),
        (None, 1),
        ("1", 0),
    ]
    assert [(one.sdp_mid, one.sdp_m_line_index) for one in made.audio.candidates] == [("0", 1), (None, 0)]


async def test_statistics_and_received_kinds_are_those_of_all(scripted: Callable[..., Scripted]) -> None:
    made = scripted()
    assert made.unbundled.receives == {"audio", "video"}
    stats = await made.unbundled.stats()
    assert (stats.rtt, stats.packets_received, stats.video) == (0.02, {"audio": 1, "video": 1}, None)
    assert (stats.packets_lost, stats.bytes_sent) == ({"audio": 2, "video": 2}, {"audio": 3, "video": 3})


async def test_close_ends_all_connections(scripted: Callable[..., Scripted]) -> None:
    made = scripted()
    running = asyncio.create_task(made.unbundled.run())
    made.unbundled.close()
    async with asyncio.timeout(5):
        await running


def test_unbundled_connection_makes_no_offer(scripted: Callable[..., Scripted]) -> None:
    for call in (scripted().unbundled.create_offer, lambda: scripted().unbundled.apply_answer("")):
        with pytest.raises(AssertionError, match="makes no offer"):
            call()


# --- with the engine ---


async def _hold_video(
    remote: RTCPeerConnection, connection: UnbundledConnection, posted: asyncio.Queue[n.Event], first: str
) -> None:
    """Renegotiate without video. The audio section and both transports stay as they are."""
    remote.getTransceivers()[1].direction = "inactive"
    await remote.setLocalDescription(await remote.createOffer())
    connection.renegotiate(re.sub(r"a=group:BUNDLE.*\r\n", "", remote.localDescription.sdp), ice_restart=False)
    async with asyncio.timeout(20):
        while not isinstance(event := await posted.get(), n.AnswerCreated):
            assert isinstance(event, n.LocalCandidate)
    audio, video = re.split(r"^(?=m=)", event.sdp, flags=re.MULTILINE)[1:]
    assert "a=sendrecv" in audio and "a=inactive" in video
    for attribute in ("ice-ufrag", "fingerprint", "mid"):
        lines = rf"^a={attribute}:.*"
        assert re.findall(lines, event.sdp, re.MULTILINE) == re.findall(lines, first, re.MULTILINE)
    await remote.setRemoteDescription(RTCSessionDescription(event.sdp, "answer"))


@asynccontextmanager
async def sources(tasks: asyncio.TaskGroup) -> AsyncIterator[OutgoingTracks]:
    """Tracks that send a test pattern and a constant sound."""
    video_frames: Fanout[av.VideoFrame] = Fanout()
    audio_frames: Fanout[av.AudioFrame] = Fanout()

    async def feed() -> None:
        pattern, number = Pattern(320, 180, 50), 0
        while True:
            frame = pattern.draw(number := number + 1)
            frame.pts, frame.time_base = round(media_time() / VIDEO_TIME_BASE), VIDEO_TIME_BASE
            video_frames.put(frame)
            sound = av.AudioFrame.from_ndarray(np.full((1, 2 * AUDIO_FRAME_SAMPLES), 99, np.int16), "s16", "stereo")
            sound.pts, sound.time_base = round(media_time() * AUDIO_RATE), AUDIO_TIME_BASE
            sound.sample_rate = AUDIO_RATE
            audio_frames.put(sound)
            await asyncio.sleep(0.02)

    feeding = tasks.create_task(feed())
    video = OutgoingVideo(SharedVideo(tasks, video_frames, size=(320, 180)))
    tracks = OutgoingTracks(video, OutgoingAudio(SharedAudio(tasks, audio_frames)))
    tracks.open()
    yield tracks
    feeding.cancel()


async def test_offer_without_a_bundle_group_connects_both_media() -> None:
    remote = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_COMPAT))
    received: set[str] = set()

    @remote.on("track")
    def _(track: Any) -> None:
        async def read() -> None:
            await track.recv()
            received.add(track.kind)

        reading.append(asyncio.ensure_future(read()))

    reading: list[asyncio.Future[None]] = []
    remote.addTrack(AudioStreamTrack())
    remote.addTrack(VideoStreamTrack())
    await remote.setLocalDescription(await remote.createOffer())
    sdp = re.sub(r"a=group:BUNDLE.*\r\n", "", remote.localDescription.sdp)
    posted: asyncio.Queue[n.Event] = asyncio.Queue()
    incoming = IncomingMedia(lambda _: None)
    async with asyncio.TaskGroup() as tasks, sources(tasks) as tracks:
        connection = UnbundledConnection(1, tracks, incoming, OPTIONS, posted.put_nowait, split_offer(sdp, OPTIONS))
        tasks.create_task(connection.run())
        connection.create_answer(sdp)
        async with asyncio.timeout(20):
            answer = await posted.get()
            assert isinstance(answer, n.AnswerCreated) and "BUNDLE" not in answer.sdp
            ports = [line.split()[1] for line in media_lines(answer.sdp)]
            assert len(set(ports)) == 2 and "0" not in ports
            for one_of_both in ("ice-ufrag", "ssrc"):
                assert len(set(re.findall(rf"a={one_of_both}:(\S+)", answer.sdp))) >= 2
            for shared in (r"fingerprint:sha-256 (\S+)", r"ssrc:\d+ cname:(\S+)", r"msid:(\S+)"):
                assert len(set(re.findall(f"a={shared}", answer.sdp))) == 1, shared
            await remote.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
            while not isinstance(event := await posted.get(), n.TransportConnected):
                assert isinstance(event, n.LocalCandidate)
                candidate = candidate_from_sdp(event.candidate.candidate.removeprefix("candidate:"))
                candidate.sdpMid = event.candidate.sdp_mid
                await remote.addIceCandidate(candidate)
        assert connection.receives == {"audio", "video"}
        await until(lambda: received == {"audio", "video"})
        await until(lambda: incoming.video.counters.frames and incoming.audio.counters.frames)
        stats = await connection.stats()
        assert all(stats.packets_received.values()) and all(stats.bytes_sent.values()) and stats.video is not None
        await _hold_video(remote, connection, posted, answer.sdp)
        await remote.close()
        while not isinstance(event, n.TransportClosed):
            async with asyncio.timeout(10):
                event = await posted.get()
        connection.close()
        await asyncio.gather(*reading)
