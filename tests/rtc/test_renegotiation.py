"""Further offers on a live connection: hold, tracks added and removed, ICE restart. A bent aiortc offers.

Ours is a whole ``Connection`` with its own tracks. The remote is aiortc with our ``IceTransport``, so that it can
restart ICE. The test writes its offers.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from aioice import Candidate
from aiortc import MediaStreamTrack, RTCRtpSender, RTCSessionDescription
from aiortc.rtp import RtpPacket

from peer import negotiation as n
from peer.media.fanout import Fanout
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, AUDIO_TIME_BASE, VIDEO_TIME_BASE, media_time
from peer.media.incoming.track import IncomingMedia
from peer.media.outgoing.audio_track import OutgoingAudio
from peer.media.outgoing.shared import SharedAudio, SharedVideo
from peer.media.outgoing.track import OutgoingVideo
from peer.rtc import aiortc_hooks, ice_gathering, ice_transport
from peer.rtc.connection import Connection, ConnectionOptions
from peer.rtc.ice_transport import IceTransport
from peer.rtc.outgoing_tracks import OutgoingTracks
from peer.rtc.remote_description import Place
from peer.rtc.sdp import ice_parameters
from peer.signaling.ice_servers import parse_ice_server
from peer.signaling.messages import IceCandidate
from tests.coturn import coturn
from tests.waiting import until

SIZE = (160, 120)


class Source(MediaStreamTrack):
    """Endless media of the remote, one frame per 20 ms."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._number = 0

    async def recv(self) -> Any:
        await asyncio.sleep(0.02)
        self._number += 1
        return _video(self._number) if self.kind == "video" else _audio(self._number)


def _video(number: int) -> av.VideoFrame:
    image = np.full((SIZE[1], SIZE[0], 3), number % 255, np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = round(media_time() / VIDEO_TIME_BASE), VIDEO_TIME_BASE
    return frame


def _audio(number: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.full((1, 2 * AUDIO_FRAME_SAMPLES), 99, np.int16), "s16", "stereo")
    frame.pts, frame.time_base, frame.sample_rate = round(media_time() * AUDIO_RATE), AUDIO_TIME_BASE, AUDIO_RATE
    return frame


class Pair:
    """``connection`` is ours; ``remote`` offers. ``answer`` is our last answer as it was sent."""

    def __init__(self, tasks: asyncio.TaskGroup, options: ConnectionOptions) -> None:
        self.remote: Any = aiortc_hooks.open_peer_connection()
        self.media = IncomingMedia(lambda first: None)
        self.video_source: Fanout[av.VideoFrame] = Fanout()
        self.audio_source: Fanout[av.AudioFrame] = Fanout()
        video = OutgoingVideo(SharedVideo(tasks, self.video_source, size=SIZE))
        audio = OutgoingAudio(SharedAudio(tasks, self.audio_source))
        self.tracks = OutgoingTracks(video, audio)
        self.tracks.open()
        self.events: asyncio.Queue[n.Event] = asyncio.Queue()
        self.candidates: list[IceCandidate] = []
        self.connection = Connection(1, self.tracks, self.media, options, self._posted)
        self.answer = ""
        self.received: dict[str, int] = {"audio": 0, "video": 0}
        self.arrivals: list[float] = []
        self.remote.on("track", self._count)
        self._tasks = tasks
        self._counting: list[asyncio.Task[None]] = []
        tasks.create_task(self.connection.run())
        self._feeding = tasks.create_task(self._feed())

    def _posted(self, event: n.Event) -> None:
        if isinstance(event, n.LocalCandidate):
            self.candidates.append(event.candidate)
        else:
            self.events.put_nowait(event)

    def _count(self, track: MediaStreamTrack) -> None:
        async def read() -> None:
            while True:
                await track.recv()
                self.received[track.kind] += 1
                self.arrivals.append(asyncio.get_running_loop().time())

        async def count() -> None:
            await asyncio.gather(read(), return_exceptions=True)  # it raises when the track ends

        self._counting.append(self._tasks.create_task(count()))

    async def _feed(self) -> None:
        for number in itertools.count():
            self.video_source.put(_video(number))
            self.audio_source.put(_audio(number))
            await asyncio.sleep(0.02)

    async def event(self, kind: type[n.Event]) -> Any:
        """Return the next event, which must be of ``kind``."""
        async with asyncio.timeout(20):
            event = await self.events.get()
        assert isinstance(event, kind), event
        return event

    async def negotiate(
        self,
        bend: Callable[[str], str] = lambda offer: offer,
        *,
        restart: bool | None = False,
        applied: bool = True,
    ) -> str:
        """Exchange an offer, bent on its way, and the answer. Return our answer.

        ``restart`` is ``None`` for the first offer. ``applied``: whether the remote applies the answer.
        """
        await self.remote.setLocalDescription(await self.remote.createOffer())
        plain = self.remote.localDescription.sdp
        offer = bend(plain)
        if restart is None:
            self.connection.create_answer(offer)
        else:
            self.connection.renegotiate(offer, ice_restart=restart)
        self.answer = (await self.event(n.AnswerCreated)).sdp
        if applied:
            await self.remote.setRemoteDescription(
                RTCSessionDescription(_engine_answer(self.answer, plain), "answer")
            )
        return self.answer

    async def dial(self) -> None:
        """Exchange an offer of ours and the remote's answer."""
        self.connection.create_offer()
        self.answer = (await self.event(n.OfferCreated)).sdp
        await self.remote.setRemoteDescription(RTCSessionDescription(self.answer, "offer"))
        await self.remote.setLocalDescription(await self.remote.createAnswer())
        self.connection.apply_answer(self.remote.localDescription.sdp)

    async def flowing(self, *kinds: str) -> None:
        """Wait until each kind is received at both ends, another ten frames."""
        theirs = dict(self.received)
        ours = {kind: self.media.track(kind).counters.frames for kind in kinds}
        await until(lambda: all(self.received[kind] >= theirs[kind] + 10 for kind in kinds), 20)
        await until(lambda: all(self.media.track(k).counters.frames >= ours[k] + 10 for k in kinds), 20)

    async def close(self) -> None:
        self._feeding.cancel()
        self.connection.close()
        await IceTransport.of(self.remote.getTransceivers()[0].sender.transport).close()
        await aiortc_hooks.close(self.remote)
        for task in self._counting:
            task.cancel()


def _engine_answer(answer: str, offer: str) -> str:
    """Return ``answer`` for the engine, which does not support rejected sections: they are inactive instead."""
    head, *sections = re.split("^(?=m=)", answer, flags=re.MULTILINE)
    offered = re.split("^(?=m=)", offer, flags=re.MULTILINE)[1:]
    live = next(section for section in sections if not re.match(r"m=\w+ 0 ", section))
    lines = "".join(f"{line}\r\n" for line in live.splitlines() if line.startswith(("a=ice", "a=fing", "a=setup")))
    for index, section in enumerate(sections):
        if re.match(r"m=\w+ 0 ", section):
            own = re.sub(r"^a=(ice|fing|setup|cand|end).*\r\n", "", offered[index], flags=re.MULTILINE)
            sections[index] = re.sub("^a=(sendrecv|sendonly|recvonly)", "a=inactive", own, flags=re.MULTILINE) + lines
    mids = re.findall(r"^a=mid:(\S+)", "".join(sections), re.MULTILINE)
    head = re.sub("a=group:BUNDLE.*\r\n", f"a=group:BUNDLE {' '.join(mids)}\r\n", head)
    return head + "".join(sections)


@asynccontextmanager
async def connected(
    *kinds: str,
    bend: Callable[[str], str] = lambda offer: offer,
    dial: bool = False,
    wait: bool = True,
    options: ConnectionOptions | None = None,
) -> AsyncIterator[Pair]:
    """Connect a pair. The remote sends ``kinds``; its first offer is bent. ``wait``: until it is connected.

    ``options`` are ours. With ``dial``, the first offer is ours.
    """
    async with asyncio.TaskGroup() as tasks:
        pair = Pair(tasks, options or ConnectionOptions())
        try:
            for kind in kinds:
                pair.remote.addTrack(Source(kind))
            IceTransport.of(pair.remote.getTransceivers()[0].sender.transport)
            await (pair.dial() if dial else pair.negotiate(bend, restart=None))
            if wait:
                await pair.event(n.TransportConnected)
            yield pair
        finally:
            await pair.close()


def _lines(sdp: str, start: str) -> list[str]:
    return [line for line in sdp.splitlines() if line.startswith(start)]


def _identity(sdp: str) -> list[str]:
    """What must not change without a restart, and the session id."""
    origin = _lines(sdp, "o=")[0].split()[1]
    return [
        origin,
        *(line for start in ("a=ice-ufrag", "a=ice-pwd", "a=fingerprint") for line in _lines(sdp, start)[:1]),
    ]


def _rejected(offer: str, kind: str) -> str:
    """Return the offer with the sections of a kind removed (port 0)."""
    return re.sub(rf"m={kind} \d+", f"m={kind} 0", offer)


def _direction(direction: str) -> Callable[[str], str]:
    return lambda offer: re.sub(r"^a=(sendrecv|sendonly|recvonly|inactive)", f"a={direction}", offer, flags=re.M)


# --- the same transport ---


async def test_repeated_offer_is_answered_alike_without_a_gap() -> None:
    async with connected("audio", "video") as pair:
        reader = pair.media.encoded.read(1000)
        await pair.flowing("audio", "video")
        while reader.get_nowait() is not None:
            pass  # the first frames, before which packets are missing
        first = pair.answer
        for _ in range(3):
            second = await pair.negotiate()
        await pair.flowing("audio", "video")
        assert _identity(second) == _identity(first)
        versions = [int(_lines(sdp, "o=")[0].split()[2]) for sdp in (first, second)]
        assert versions[1] == versions[0] + 3
        assert _lines(second, "m=") == _lines(first, "m=")
        frames = []
        while (frame := reader.get_nowait()) is not None:
            assert not frame.gap
            frames.append(frame.arrival)
        assert max(after - before for before, after in itertools.pairwise(frames)) < 1


@pytest.mark.parametrize("direction", ["sendonly", "inactive"])
async def test_hold_releases_the_sources_until_it_is_resumed(direction: str) -> None:
    async with connected("audio", "video") as pair:
        await pair.flowing("audio", "video")
        for transceiver in pair.remote.getTransceivers():
            transceiver.direction = direction
        await pair.negotiate()
        await until(lambda: pair.video_source.readers == pair.audio_source.readers == 0)
        assert pair.connection.receives == ({"audio", "video"} if direction == "sendonly" else set())
        held = dict(pair.received)
        for transceiver in pair.remote.getTransceivers():
            transceiver.direction = "sendrecv"
        await pair.negotiate()
        assert pair.connection.receives == {"audio", "video"}
        await pair.flowing("audio", "video")
        assert all(pair.received[kind] > held[kind] for kind in held)
        assert pair.events.empty()


async def test_remote_that_only_receives_is_still_sent_to() -> None:
    async with connected("audio", "video") as pair:
        for transceiver in pair.remote.getTransceivers():
            transceiver.direction = "recvonly"
        await pair.negotiate()
        assert pair.connection.receives == set()
        received = dict(pair.received)
        await until(lambda: all(pair.received[kind] > received[kind] + 10 for kind in received))


async def test_call_on_hold_from_its_start_is_resumed() -> None:
    async with connected("audio", "video", bend=_direction("sendonly")) as pair:
        await until(lambda: pair.video_source.readers == pair.audio_source.readers == 0)
        await pair.negotiate()
        await pair.flowing("audio", "video")


@pytest.mark.parametrize(("first", "second"), [("audio", "video"), ("video", "audio")])
async def test_added_track_is_received_and_answered(first: str, second: str) -> None:
    async with connected(first) as pair:
        await pair.flowing(first)
        assert pair.connection.receives == {first}
        source = pair.video_source if second == "video" else pair.audio_source
        await until(lambda: source.readers == 0)
        identity = _identity(pair.answer)
        pair.remote.addTrack(Source(second))
        await pair.negotiate()
        assert _identity(pair.answer) == identity
        assert pair.connection.receives == {"audio", "video"}
        await pair.flowing("audio", "video")
        assert source.readers == 2  # the encoder, and what keeps a camera open as in a call that began with it
        stats = await pair.connection.stats()
        assert stats.packets_received.keys() == {"audio", "video"} == stats.bytes_sent.keys()


async def test_removed_section_costs_only_its_medium() -> None:
    async with connected("audio", "video") as pair:
        await pair.flowing("audio", "video")
        await pair.negotiate(lambda offer: _rejected(offer, "audio"))
        assert [line.split()[1] == "0" for line in _lines(pair.answer, "m=")] == [True, False]
        assert _lines(pair.answer, "a=group:BUNDLE") == ["a=group:BUNDLE 1"]
        await until(lambda: pair.audio_source.readers == 0)
        assert pair.connection.receives == {"video"}
        await pair.flowing("video")
        await pair.negotiate()
        assert pair.connection.receives == {"audio", "video"}
        await pair.flowing("audio", "video")


async def test_candidates_name_the_section_that_has_the_transport() -> None:
    async with connected("audio", "video") as pair:
        session = pair.connection._session
        assert session is not None and session.local.section == Place(0, "0")
        await pair.negotiate(lambda offer: _rejected(offer, "audio"))
        assert session.local.section == Place(1, "1")


async def test_recycled_section_uses_the_same_transceiver() -> None:
    async with connected("audio", "video") as pair:
        await pair.flowing("audio", "video")

        def remove(offer: str) -> str:
            return _rejected(offer, "video").replace("BUNDLE 0 1", "BUNDLE 0")

        def recycle(offer: str) -> str:
            return offer.replace("a=mid:1", "a=mid:new").replace("BUNDLE 0 1", "BUNDLE 0 new")

        for _ in range(3):
            await pair.negotiate(remove)
            assert "m=video 0" in pair.answer
            await pair.negotiate(recycle, applied=False)
            assert "m=video 0" not in pair.answer and "a=mid:new" in pair.answer
            await pair.remote.setRemoteDescription(
                RTCSessionDescription(pair.answer.replace("a=mid:new", "a=mid:1").replace("0 new", "0 1"), "answer")
            )
            await pair.flowing("audio", "video")
            await pair.negotiate()
        assert pair.connection._pc is not None
        assert len(pair.connection._pc.getTransceivers()) == 2


async def test_many_sections_are_added_and_limited_to_eight() -> None:
    async with connected("audio") as pair:
        for _ in range(9):
            pair.remote.addTransceiver("video", direction="sendonly")
        await pair.negotiate()
        rejected = [line.split()[1] == "0" for line in _lines(pair.answer, "m=")]
        assert rejected == [False] * 8 + [True] * 2
        await pair.flowing("audio")


async def test_second_video_feeds_the_call_while_the_first_is_held() -> None:
    async with connected("video", "video") as pair:
        await pair.flowing("video")
        first, second = pair.remote.getTransceivers()
        for held, live in ((first, second), (second, first)):
            held.direction, live.direction = "inactive", "sendrecv"
            await pair.negotiate()
            frames = pair.media.video.counters.frames
            await until(lambda frames=frames: pair.media.video.counters.frames > frames + 10)
            assert pair.connection.receives == {"video"}
        stats = await pair.connection.stats()
        assert stats.packets_received["video"] > 10


async def test_section_whose_kind_changes_is_refused() -> None:
    async with connected("audio", "video") as pair:
        await pair.remote.setLocalDescription(await pair.remote.createOffer())
        offer = pair.remote.localDescription.sdp.replace("a=mid:0", "a=mid:x").replace("a=mid:1", "a=mid:0")
        pair.connection.renegotiate(offer.replace("BUNDLE 0 1", "BUNDLE x 0"), ice_restart=False)
        failed = await pair.event(n.DescriptionFailed)
        assert failed.detail == "a=mid:0 is video now, and was audio before (RFC 9429 5.2.2)"


async def test_changed_payload_types_are_used() -> None:
    """H.264 instead of VP8, and other numbers of header extensions."""
    async with connected("audio", "video") as pair:
        await pair.flowing("audio", "video")
        transceiver = pair.remote.getTransceivers()[1]
        known = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([codec for codec in known if codec.name == "H264"][:1])

        def renumber(offer: str) -> str:
            number = _lines(offer, "m=video")[0].split()[3]
            offer = re.sub(rf"(?<=[ :=]){number}(?=[ \r])", "119", offer)
            return re.sub(r"a=extmap:(\d+)", lambda match: f"a=extmap:{int(match[1]) + 5}", offer)

        received: set[int] = set()
        remote: Any = transceiver.receiver.transport
        handle = remote._handle_rtp_data

        async def watch(data: bytes, arrival_time_ms: int) -> None:
            received.add(RtpPacket.parse(data).payload_type)
            await handle(data, arrival_time_ms=arrival_time_ms)

        remote._handle_rtp_data = watch
        await pair.negotiate(renumber)
        assert _lines(pair.answer, "m=video")[0].split()[3:] == ["119"]
        await until(lambda: 119 in received)
        assert pair.connection._media is not None
        video = next(receiver for receiver in pair.connection._media._receivers if receiver.kind == "video")
        codec = video._find_codec(119)
        assert codec is not None and codec.name == "h264"
        count = pair.media.video.counters.frames  # aiortc still sends VP8 under the old number
        await until(lambda: pair.media.video.counters.frames > count + 10)


# --- DTLS ---

OTHER = ":".join(["A1"] * 32)
OTHER_512 = ":".join(["A1"] * 64)


def _fingerprints(*names: str) -> Callable[[str], str]:
    """Keep the fingerprints with these hash functions, behind one of another certificate with the last of them."""

    def bend(offer: str) -> str:
        kept = [line for line in dict.fromkeys(_lines(offer, "a=fingerprint:")) if line.split()[0][14:] in names]
        other = f"a=fingerprint:{names[-1]} {OTHER_512 if names[-1] == 'sha-512' else OTHER}"
        offer = re.sub("a=fingerprint:.*\r\n", "", offer)
        return offer.replace("\r\na=setup", "".join(f"\r\n{line}" for line in (other, *kept)) + "\r\na=setup")

    return bend


@pytest.mark.parametrize("names", [("sha-256",), ("sha-256", "sha-512")])
async def test_certificate_that_matches_one_of_two_connects(names: tuple[str, ...]) -> None:
    """RFC 8122 5. Without the hook: all fingerprints have to match."""
    async with connected("audio", bend=_fingerprints(*names)) as pair:
        await pair.flowing("audio")


async def test_certificate_that_matches_only_a_weaker_hash_is_refused() -> None:
    def bend(offer: str) -> str:
        offer = re.sub("a=fingerprint:sha-384.*\r\n", "", offer)
        return re.sub("a=fingerprint:sha-512.*\r\n", f"a=fingerprint:sha-512 {OTHER_512}\r\n", offer)

    async with connected("audio", bend=bend, wait=False) as pair:
        assert await pair.event(n.TransportClosed) == n.TransportClosed(1, "transport-failed")


# --- ICE restart ---


class Restart:
    """Restarts the remote's ICE: ``offer`` bends its next offer, which has the new credentials and candidates."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.transport = IceTransport.of(pair.remote.getTransceivers()[0].sender.transport)
        self.ice = self.transport.new_connection()
        self.task: asyncio.Task[None] | None = None

    async def negotiate(self, bend: Callable[[str], str] = lambda offer: offer) -> str:
        await self.ice.gather_candidates()
        self.transport.begin_restart(self.ice)
        return await self.pair.negotiate(bend, restart=True)

    async def connect(self) -> None:
        """Connect the remote with the candidates of our answer, and wait until both ends use the new path."""
        answer = self.pair.answer
        for line in _lines(answer, "a=candidate:"):
            await self.ice.add_remote_candidate(Candidate.from_sdp(line.removeprefix("a=candidate:")))
        restarting = self.transport.complete_restart(self.ice, ice_parameters(answer))
        self.task = asyncio.get_running_loop().create_task(restarting)
        ours = self.pair.connection._ice
        assert ours is not None
        await until(lambda: self.transport.connection is self.ice and ours.connection is ours.newest)


@pytest.fixture
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_transport, "LINGER", 0.1)


async def test_ice_restart_keeps_dtls_and_the_session_id(no_linger: None) -> None:
    async with connected("audio", "video") as pair:
        reader = pair.media.encoded.read(1000)
        await pair.flowing("audio", "video")
        while reader.get_nowait() is not None:
            pass
        before, arrivals = pair.answer, len(pair.arrivals)
        restart = Restart(pair)
        old = pair.connection._ice and pair.connection._ice.connection
        await restart.negotiate()
        await restart.connect()
        assert _lines(pair.answer, "a=fingerprint") == _lines(before, "a=fingerprint")
        assert _lines(pair.answer, "a=setup") == _lines(before, "a=setup")
        assert not set(_lines(pair.answer, "a=ice-ufrag")) & set(_lines(before, "a=ice-ufrag"))
        assert not set(_lines(pair.answer, "a=ice-pwd")) & set(_lines(before, "a=ice-pwd"))
        assert _identity(pair.answer)[0] == _identity(before)[0]
        assert restart.task is not None
        await restart.task
        await until(lambda: old._closed)
        await pair.flowing("audio", "video")
        frames = []
        while (frame := reader.get_nowait()) is not None:
            assert not frame.gap
            frames.append(frame.arrival)
        gaps = [max(b - a for a, b in itertools.pairwise(times)) for times in (frames, pair.arrivals[arrivals:])]
        assert max(gaps) < 1, gaps
        assert pair.events.empty()


async def test_offers_of_the_peer_that_we_called_are_answered(no_linger: None) -> None:
    async with connected("audio", "video", dial=True) as pair:
        await pair.flowing("audio", "video")
        identity = _identity(pair.answer)
        await pair.negotiate()
        assert _identity(pair.answer) == identity
        pair.remote.getTransceivers()[1].direction = "inactive"
        await pair.negotiate()
        await until(lambda: pair.video_source.readers == 0)
        pair.remote.getTransceivers()[1].direction = "sendrecv"
        restart = Restart(pair)
        await restart.negotiate()
        await restart.connect()
        assert _identity(pair.answer)[0] == identity[0] and _identity(pair.answer)[3] == identity[3]
        await pair.flowing("audio", "video")
        await pair.negotiate(lambda offer: _rejected(offer, "video"))
        await pair.flowing("audio")
        assert pair.connection.receives == {"audio"}


async def test_second_ice_restart_before_the_first_connects_wins(no_linger: None) -> None:
    async with connected("audio", "video") as pair:
        await pair.flowing("audio", "video")
        first = Restart(pair)
        await first.negotiate()
        second = Restart(pair)
        await second.negotiate()
        await second.connect()
        await pair.flowing("audio", "video")
        assert pair.events.empty()


async def test_flood_of_ice_restarts_holds_few_sockets() -> None:
    """At most those of three connections: the one in use, the newest one, and one that is being closed."""
    async with connected("audio") as pair:
        ice = pair.connection._ice
        assert ice is not None
        sockets = len(ice.connection._protocols)
        await pair.remote.setLocalDescription(await pair.remote.createOffer())
        offer = re.sub("a=candidate.*\r\n", "", pair.remote.localDescription.sdp)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(20):
            pair.connection.renegotiate(re.sub("ice-ufrag:", f"ice-ufrag:{number}", offer), ice_restart=True)
            await pair.event(n.AnswerCreated)
            assert len(os.listdir("/proc/self/fd")) <= before + 2 * sockets
        await pair.flowing("audio")
        assert len(ice._connecting) == 2


async def test_ice_restart_that_does_not_connect_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_transport, "RESTART_TIMEOUT", 0.3)
    async with connected("audio", "video") as pair:
        await pair.flowing("audio", "video")
        await Restart(pair).negotiate(lambda offer: re.sub("a=candidate.*\r\n", "", offer))
        assert await pair.event(n.TransportClosed) == n.TransportClosed(1, "transport-failed")


async def test_path_that_ends_during_an_ice_restart_is_replaced(no_linger: None) -> None:
    async with connected("audio", "video") as pair:
        await pair.flowing("audio", "video")
        ice = pair.connection._ice
        assert ice is not None
        restart = Restart(pair)
        await restart.negotiate()
        await ice.connection.close()  # as when consent expires
        video = pair.tracks.video
        assert video is not None
        before = video.stats()
        assert before is not None
        await until(lambda: (now := video.stats()) is not None and now.frames > before.frames + 5)
        await restart.connect()
        await pair.flowing("audio", "video")
        assert pair.events.empty()


async def test_track_added_with_an_ice_restart_is_received(no_linger: None) -> None:
    async with connected("audio") as pair:
        await pair.flowing("audio")
        pair.remote.addTrack(Source("video"))
        restart = Restart(pair)
        await restart.negotiate()
        await restart.connect()
        await pair.flowing("audio", "video")


async def test_ice_restart_before_the_first_connection_replaces_it(no_linger: None) -> None:
    async with connected("audio", bend=lambda offer: re.sub("a=candidate.*\r\n", "", offer), wait=False) as pair:
        restart = Restart(pair)
        await restart.negotiate()
        await restart.connect()
        await pair.event(n.TransportConnected)
        await pair.flowing("audio")


async def test_close_during_an_ice_restart_releases_everything() -> None:
    async with connected("audio", "video") as pair:
        await Restart(pair).negotiate(lambda offer: re.sub("a=candidate.*\r\n", "", offer))
        ice = pair.connection._ice
        assert ice is not None
        both = [ice.connection, ice.newest]
        pair.connection.close()
        await until(lambda: all(one._closed and not one._protocols for one in both))


async def test_candidates_after_an_ice_restart_have_the_new_fragment(no_linger: None) -> None:
    async with connected("audio") as pair:
        restart = Restart(pair)
        await restart.negotiate(lambda offer: re.sub("a=candidate.*\r\n", "", offer))
        session = pair.connection._session
        assert session is not None
        session.local.add(Candidate.from_sdp("1 1 udp 1 192.0.2.1 9 typ srflx raddr 0.0.0.0 rport 9"))
        (ours,) = pair.candidates
        assert ours.username_fragment == ice_parameters(pair.answer).username_fragment
        for fragment, port in (("old", 1001), (restart.ice.local_username, 1002), (None, 1003)):
            line = f"candidate:1 1 udp 1 192.0.2.1 {port} typ host"
            pair.connection.add_candidate(IceCandidate(line, "0", 0, fragment))
        await until(lambda: {c.port for c in session.connection.remote_candidates} == {1002, 1003})


async def test_ice_restart_over_turn_uses_the_newest_credentials(tmp_path: Path, no_linger: None) -> None:
    """With ``relay_only``, so the answer has to wait for the TURN server."""
    async with coturn(tmp_path, "--lt-cred-mech", "--user=first:pass", "--user=second:pass") as turn:
        servers = [parse_ice_server(f"turn:{user}:pass@127.0.0.1:{turn.port}") for user in ("first", "second")]
        options = ConnectionOptions(ice_servers=(servers[0],), relay_only=True)
        async with connected("audio", options=options) as pair:
            await pair.flowing("audio")
            assert turn.allocations() == ["first"]
            pair.connection.ice_servers = (servers[1],)
            restart = Restart(pair)
            await restart.negotiate()
            assert {line.split()[7] for line in _lines(pair.answer, "a=candidate:")} == {"relay"}
            await restart.connect()
            await pair.flowing("audio")
            await until(lambda: turn.allocations() == ["first", "second"])


async def test_ice_restart_without_its_turn_server_ends_the_call(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(ice_gathering, "TURN_TIMEOUT", 0.2)
    async with coturn(tmp_path, "--lt-cred-mech", "--user=first:pass") as turn:
        server = parse_ice_server(f"turn:first:pass@127.0.0.1:{turn.port}")
        async with connected("audio", options=ConnectionOptions((server,), relay_only=True)) as pair:
            pair.connection.ice_servers = ()
            await pair.remote.setLocalDescription(await pair.remote.createOffer())
            pair.connection.renegotiate(pair.remote.localDescription.sdp, ice_restart=True)
            assert await pair.event(n.DescriptionFailed) == n.DescriptionFailed(1, "transport-failed")
