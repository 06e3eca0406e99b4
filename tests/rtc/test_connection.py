"""Life of a connection with a scripted engine that raises, hangs, fails or is closed at every step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from aioice.candidate import Candidate

from peer import negotiation as n
from peer.media.incoming.track import IncomingMedia
from peer.rtc import aiortc_hooks, ice_gathering, ice_session, liveness, sdp, transceivers
from peer.rtc.connection import Connection, ConnectionOptions
from peer.rtc.ice_gathering import NoTurnServerError
from peer.rtc.outgoing_tracks import OutgoingTracks
from peer.rtc.rtcp_stats import TransportStats
from peer.rtc.silence import Change
from peer.signaling.messages import IceCandidate
from tests.rtc.scripted_engine import DESCRIPTION, HANG, Outcome, ScriptedPeerConnection

GENERATION = 3

OFFER_STEPS = ("createOffer", "setLocalDescription", "gather")
ANSWER_STEPS = ("setRemoteDescription", "createAnswer", "setLocalDescription", "gather")

NOT_SDP = n.DescriptionFailed(GENERATION, detail="description without a media section (RFC 8866 5): 'no description'")

HOST = IceCandidate("candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host", "0", 0)


class Tracks(OutgoingTracks):
    """No tracks; counts the calls of ``stop``."""

    stopped = 0

    def stop(self) -> None:
        type(self).stopped += 1


class Media:
    """An outgoing track; records its calls."""

    profile_level_id = None

    def __init__(self) -> None:
        self.calls: list[str] = []

    def open(self) -> None:
        self.calls.append("open")

    def stop(self) -> None:
        self.calls.append("stop")


class Session:
    """A connection on a scripted engine, and the events that it posts."""

    def __init__(self, script: dict[str, Outcome], options: ConnectionOptions, tracks: OutgoingTracks | None) -> None:
        self.engine = ScriptedPeerConnection(script)
        self.events: asyncio.Queue[n.Event] = asyncio.Queue()
        self.incoming = IncomingMedia(lambda first: None)
        self.tracks = type("Tracks", (Tracks,), {})
        self.connection = Connection(
            GENERATION,
            self.tracks() if tracks is None else tracks,
            self.incoming,
            options,
            self.events.put_nowait,
            self.engine.open,
        )
        self.task: asyncio.Task[None]

    async def event(self) -> n.Event:
        """Return the next event."""
        async with asyncio.timeout(10):
            return await self.events.get()

    async def finished(self) -> None:
        """Wait until ``run`` has returned."""
        async with asyncio.timeout(10):
            await self.task

    async def create_offer(self) -> None:
        """Create an offer."""
        self.connection.create_offer()
        assert isinstance(await self.event(), n.OfferCreated)

    def assert_released(self) -> None:
        assert self.events.empty()
        assert self.engine.steps.count("close") == 1
        assert self.tracks.stopped == 1


@asynccontextmanager
async def open_session(
    script: dict[str, Outcome] | None = None,
    options: ConnectionOptions | None = None,
    tracks: OutgoingTracks | None = None,
) -> AsyncIterator[Session]:
    """Run a connection; at the end close it and check that nothing is left of it."""
    before = asyncio.all_tasks()
    session = Session(script or {}, options or ConnectionOptions(), tracks)
    session.task = asyncio.get_running_loop().create_task(session.connection.run())
    try:
        yield session
        session.connection.close()
        await session.finished()
    finally:
        if not session.task.done():
            session.task.cancel()
    assert asyncio.all_tasks() == before


# --- offers and answers ---


async def test_create_offer_posts_a_trickle_offer() -> None:
    async with open_session() as session:
        session.connection.create_offer()
        event = await session.event()
        assert event == n.OfferCreated(GENERATION, sdp.announce_trickle(DESCRIPTION))
        assert [t.kind for t in session.engine.getTransceivers()] == ["audio", "video"]
        assert [t.preferences[0].name for t in session.engine.getTransceivers()[1:]] == ["VP8"]
        assert session.engine.steps == ["open", *OFFER_STEPS]


async def test_create_answer_applies_the_offer_without_candidates() -> None:
    async with open_session() as session:
        session.connection.create_answer(DESCRIPTION)
        assert await session.event() == n.AnswerCreated(GENERATION, sdp.announce_trickle(DESCRIPTION))
        assert session.engine.remote is not None
        assert session.engine.remote.type == "offer" and "candidate" not in session.engine.remote.sdp
        assert [candidate.host for candidate in session.engine.ice.added] == ["192.0.2.1"]
        assert session.connection.receives == {"audio", "video"}


async def test_renegotiate_answers_on_the_same_connection() -> None:
    async with open_session() as session:
        session.connection.create_answer(DESCRIPTION)
        assert isinstance(await session.event(), n.AnswerCreated)
        session.connection.renegotiate(DESCRIPTION, ice_restart=False)
        assert isinstance(await session.event(), n.AnswerCreated)
        assert session.engine.steps.count("open") == 1
        assert session.engine.steps.count("gather") == 1


async def test_renegotiate_with_a_bad_offer_posts_a_failure() -> None:
    async with open_session() as session:
        session.connection.create_answer(DESCRIPTION)
        assert isinstance(await session.event(), n.AnswerCreated)
        session.connection.renegotiate("no description", ice_restart=False)
        assert await session.event() == NOT_SDP
    session.assert_released()


async def test_apply_answer_posts_nothing_on_success() -> None:
    async with open_session() as session:
        await session.create_offer()
        session.connection.apply_answer(DESCRIPTION)
        session.connection.apply_answer("no description")
        assert await session.event() == NOT_SDP
        assert session.engine.remote is not None and session.engine.remote.type == "answer"


@pytest.mark.parametrize("step", OFFER_STEPS)
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("bad"), "media-error"),
        (AssertionError(), "media-error"),
        (ConnectionError("gone"), "transport-failed"),
        (TimeoutError(), "transport-failed"),
    ],
)
async def test_offer_step_that_raises_posts_its_reason(step: str, error: Exception, reason: Any) -> None:
    async with open_session({step: error}) as session:
        session.connection.create_offer()
        assert await session.event() == n.DescriptionFailed(GENERATION, reason)
    session.assert_released()


@pytest.mark.parametrize("step", ANSWER_STEPS)
async def test_answer_step_that_raises_posts_a_failure(step: str) -> None:
    async with open_session({step: ValueError("bad")}) as session:
        session.connection.create_answer(DESCRIPTION)
        assert await session.event() == n.DescriptionFailed(GENERATION, "media-error")
    session.assert_released()


async def test_operations_after_a_failed_one_still_run() -> None:
    async with open_session({"createAnswer": ValueError("bad")}) as session:
        session.connection.create_answer(DESCRIPTION)
        session.connection.create_offer()
        assert await session.event() == n.DescriptionFailed(GENERATION)
        assert isinstance(await session.event(), n.OfferCreated)


async def test_video_without_common_codec_costs_only_the_video(caplog: pytest.LogCaptureFixture) -> None:
    async with open_session(options=ConnectionOptions(video_codecs=("h264",))) as session:
        session.connection.create_answer(DESCRIPTION)
        event = await session.event()
        assert isinstance(event, n.AnswerCreated)
        assert "m=audio 9 " in event.sdp and "m=video 0 UDP/TLS/RTP/SAVPF 96" in event.sdp
        assert [t.kind for t in session.engine.getTransceivers()] == ["audio"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no common codec, offered: VP8/90000, ours: h264; try --video-codec vp8,h264 at both ends" in caplog.text


async def test_offer_of_nothing_acceptable_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with open_session(options=ConnectionOptions(video_codecs=("h264",))) as session:
        session.connection.create_answer(DESCRIPTION.replace("opus", "speex"))
        event = await session.event()
        assert isinstance(event, n.DescriptionFailed) and "offered: speex/48000" in event.detail
        assert session.engine.steps == ["open"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "m=audio (line 8): no common codec, offered: speex/48000" in caplog.text


async def test_unsupported_h264_is_named_with_profile_and_mode(caplog: pytest.LogCaptureFixture) -> None:
    h264 = DESCRIPTION.replace("VP8/90000", "H264/90000\r\na=fmtp:96 packetization-mode=2").replace("opus", "speex")
    async with open_session() as session:
        session.connection.create_answer(h264)
        event = await session.event()
    assert isinstance(event, n.DescriptionFailed)
    assert "offered: H264 Constrained Baseline (42e01f) packetization-mode 2" in event.detail
    assert "packetization-mode 2" in caplog.text


async def test_rejected_data_channel_costs_no_call_without_media() -> None:
    async with open_session() as session:
        data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
        silent = DESCRIPTION.replace("a=mid", "a=inactive\r\na=mid")
        session.connection.create_answer(silent + data)
        assert isinstance(await session.event(), n.AnswerCreated)


async def test_relay_only_without_turn_server_fails_quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with open_session(options=ConnectionOptions(relay_only=True)) as session:
        session.connection.create_offer()
        assert await session.event() == n.DescriptionFailed(GENERATION, "transport-failed")
        assert session.engine.relay_only
    assert issubclass(NoTurnServerError, ConnectionError)
    assert caplog.records == []


# --- closing ---


@pytest.mark.parametrize("step", OFFER_STEPS)
async def test_close_while_an_offer_step_hangs_ends_run(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_gathering, "SETTLE_TIMEOUT", 0.01)
    async with open_session({step: HANG}) as session:
        session.connection.create_offer()
        await session.engine.hanging.wait()
        session.connection.close()
        await session.finished()
    session.assert_released()


@pytest.mark.parametrize("step", ANSWER_STEPS)
async def test_close_while_an_answer_step_hangs_ends_run(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_gathering, "SETTLE_TIMEOUT", 0.01)
    async with open_session({step: HANG}) as session:
        session.connection.create_answer(DESCRIPTION)
        await session.engine.hanging.wait()
        session.connection.close()
        await session.finished()
    session.assert_released()


async def test_close_twice_closes_the_engine_once() -> None:
    async with open_session() as session:
        await session.create_offer()
        session.connection.close()
        session.connection.close()
        await session.finished()
        session.connection.close()
    session.assert_released()


async def test_close_before_run_opens_nothing() -> None:
    async with open_session() as session:
        session.connection.create_offer()
        session.connection.close()
        await session.finished()
    assert session.engine.steps == []
    assert session.tracks.stopped == 1


async def test_close_while_the_engine_is_closing_does_not_cancel_it() -> None:
    async with open_session({"close": HANG}) as session:
        await session.create_offer()
        session.connection.close()
        await session.engine.hanging.wait()
        session.connection.close()
        assert not session.task.cancelling()
        session.engine.released.set()
        await session.finished()
    session.assert_released()


@pytest.mark.parametrize("outcome", [ConnectionError("dead"), HANG])
async def test_engine_that_does_not_close_is_taken_apart(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(aiortc_hooks, "CLOSE_TIMEOUT", 0.01)
    async with open_session({"close": outcome, "stop ice": outcome}) as session:
        await session.create_offer()
    session.assert_released()
    assert session.engine.steps[-1] == "stop ice"
    assert all(transceiver.decoder_stopped for transceiver in session.engine.getTransceivers())
    assert "is taken apart" in caplog.text and "may have left sockets open" in caplog.text


async def test_cancelled_run_raises_and_releases_everything() -> None:
    async with open_session() as session:
        await session.create_offer()
        session.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await session.finished()
        session.assert_released()
        session.task = asyncio.get_running_loop().create_task(asyncio.sleep(0))


async def test_cancelled_and_closed_run_raises() -> None:
    async with open_session() as session:
        await session.create_offer()
        session.connection.close()
        session.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await session.finished()
        session.assert_released()
        session.task = asyncio.get_running_loop().create_task(asyncio.sleep(0))


# --- candidates ---


class ScriptedGatherer:
    """A gatherer of one candidate at once, and further ones by ``on_candidate``. ``run`` raises ``error``."""

    error: Exception | None = None

    def __init__(self, ice: Any, servers: object, *, relay_only: bool, on_candidate: Callable[[Candidate], None]):
        async def gather_candidates() -> None:
            on_candidate(Candidate.from_sdp("1 1 udp 1 192.0.2.7 7 typ host"))

        ice.gather_candidates = gather_candidates
        self.on_candidate = on_candidate

    async def run(self) -> None:
        if self.error is not None:
            raise self.error

    async def settle(self) -> None:
        """Nothing is being opened."""


@pytest.fixture
def gatherer(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedGatherer]:
    session = type("IceGatherer", (ScriptedGatherer,), {})
    monkeypatch.setattr(ice_session, "IceGatherer", session)
    return session


async def test_candidates_are_posted_after_the_description(gatherer: type[ScriptedGatherer]) -> None:
    async with open_session() as session:
        await session.create_offer()
        first = await session.event()
        assert isinstance(first, n.LocalCandidate)
        assert first.candidate == IceCandidate("candidate:1 1 udp 1 192.0.2.7 7 typ host", "0", 0, "ufrag")
        assert session.connection._session is not None
        running: Any = session.connection._session._gatherer
        running.on_candidate(Candidate.from_sdp("2 1 udp 1 192.0.2.8 8 typ host"))
        second = await session.event()
        assert isinstance(second, n.LocalCandidate)
        assert second.candidate.candidate == "candidate:2 1 udp 1 192.0.2.8 8 typ host"
        session.connection.close()
        running.on_candidate(Candidate.from_sdp("3 1 udp 1 192.0.2.9 9 typ host"))
    session.assert_released()


async def test_background_task_that_raises_ends_the_connection(
    gatherer: type[ScriptedGatherer], caplog: pytest.LogCaptureFixture
) -> None:
    gatherer.error = RuntimeError("a bug")
    async with open_session({"createOffer": HANG}) as session:
        session.connection.create_offer()
        assert await session.event() == n.DescriptionFailed(GENERATION)
        await session.finished()
    session.assert_released()
    assert f"generation {GENERATION} failed" in caplog.text and "a bug" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        "candidate:1 1 udp",
        "",
        "candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
        "candidate:1 2 udp 1 192.0.2.1 5000 typ host",
        "candidate:1 1 udp 1 192.0.2.1 0 typ host",
        "candidate:1 1 udp 1 192.0.2.1 65536 typ host",
    ],
)
async def test_unusable_remote_candidate_is_dropped(line: str) -> None:
    async with open_session() as session:
        await session.create_offer()
        session.connection.add_candidate(IceCandidate(line, "0", 0))
        session.connection.add_candidate(HOST)
        session.connection.create_offer()
        assert isinstance(await session.event(), n.OfferCreated)
        assert [candidate.port for candidate in session.engine.ice.added] == [5000]


@pytest.mark.parametrize("outcome", [OSError("no such name"), HANG])
async def test_remote_candidate_that_fails_or_hangs_delays_nothing(outcome: Outcome) -> None:
    async with open_session({"add 192.0.2.1": outcome}) as session:
        await session.create_offer()
        session.connection.add_candidate(HOST)
        session.connection.create_offer()
        assert isinstance(await session.event(), n.OfferCreated)
        assert len(session.engine.ice.added) == 1
    session.assert_released()


async def test_remote_candidate_without_a_transport_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with open_session() as session:
        session.connection.add_candidate(HOST)
        session.connection.apply_answer("no description")
        assert await session.event() == NOT_SDP
        assert "dropped a candidate, because there is no description" in caplog.text
    session.assert_released()


async def test_remote_candidates_beyond_the_limit_are_dropped() -> None:
    async with open_session() as session:
        await session.create_offer()
        for port in range(5000, 5000 + sdp.MAX_CANDIDATES + 20):
            session.connection.add_candidate(IceCandidate(HOST.candidate.replace("5000", str(port)), "0", 0))
        session.connection.create_offer()
        assert isinstance(await session.event(), n.OfferCreated)
        assert len(session.engine.ice.added) == sdp.MAX_CANDIDATES


# --- the transport ---


async def test_connected_state_is_posted_once() -> None:
    async with open_session() as session:
        await session.create_offer()
        for state in ("connecting", "connected", "connected"):
            session.engine.change_state(state)
        assert await session.event() == n.TransportConnected(GENERATION)
    session.assert_released()


@pytest.mark.parametrize("state", ["failed", "closed"])
async def test_failed_or_closed_transport_is_posted(state: str) -> None:
    async with open_session() as session:
        await session.create_offer()
        session.engine.change_state(state)
        assert await session.event() == n.TransportClosed(GENERATION, "transport-failed")
    session.assert_released()


async def test_transport_closed_by_remote_is_posted_as_a_hang_up() -> None:
    async with open_session() as session:
        await session.create_offer()
        session.engine.dtls.close_by_remote()
        session.engine.change_state("closed")
        assert await session.event() == n.TransportClosed(GENERATION, "remote-hang-up")


async def test_failure_to_connect_is_posted() -> None:
    async with open_session() as session:
        await session.create_offer()
        session.engine.connecting_failed()
        assert await session.event() == n.TransportClosed(GENERATION, "transport-failed")


async def test_nothing_is_posted_after_close() -> None:
    async with open_session() as session:
        await session.create_offer()
        session.connection.close()
        session.engine.change_state("closed")
        session.engine.connecting_failed()
    session.assert_released()


async def test_silence_is_posted_until_the_transport_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = iter([None, Change.SILENT, None, Change.FLOWING, Change.LOST])

    class Detector:
        def __init__(self, datagrams: int, now: float, *, receives_media: bool) -> None:
            assert (datagrams, receives_media) == (0, False)

        def set_receives_media(self, receives_media: bool, now: float) -> None:
            assert not receives_media

        def update(self, datagrams: int, now: float) -> Change | None:
            return next(changes)

    monkeypatch.setattr(liveness, "INTERVAL", 0)
    monkeypatch.setattr(liveness, "SilenceDetector", Detector)
    async with open_session() as session:
        await session.create_offer()
        session.engine.change_state("connected")
        assert [await session.event() for _ in range(4)] == [
            n.TransportConnected(GENERATION),
            n.MediaSilent(GENERATION),
            n.MediaFlowing(GENERATION),
            n.TransportClosed(GENERATION, "transport-failed"),
        ]
    assert list(changes) == []


# --- media ---


class Attached:
    """A stand-in for a receiver or a sender of ours."""

    instances: ClassVar[list[Attached]] = []

    def __init__(self, receiver: object, track: Any) -> None:
        self.rtp_receiver, self.track, self.kind = receiver, track, getattr(track, "kind", "")
        self.received, self.lost = 100 + len(self.instances), len(self.instances)
        self.instances.append(self)


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[Attached]:
    monkeypatch.setattr(Attached, "instances", [])
    monkeypatch.setattr(transceivers, "Receiver", Attached)
    monkeypatch.setattr(transceivers, "Sender", Attached)
    return Attached.instances


async def test_only_the_first_receiver_of_a_kind_feeds_the_call(attached: list[Attached]) -> None:
    async with open_session() as session:
        session.engine.tracks = ["audio", "video", "audio"]
        session.connection.create_answer(DESCRIPTION)
        assert isinstance(await session.event(), n.AnswerCreated)
        session.connection.apply_answer(DESCRIPTION)  # attaches none twice
        session.connection.create_offer()
        assert isinstance(await session.event(), n.OfferCreated)
        audio, video, second_audio = attached
        assert (audio.track, video.track) == (session.incoming.audio, session.incoming.video)
        assert second_audio.kind == "audio" and second_audio.track is not session.incoming.audio
        stats = await session.connection.stats()
        assert stats.packets_received == {"audio": 100, "video": 101}
        assert stats.packets_lost == {"audio": 0, "video": 1}


async def test_outgoing_tracks_are_sent_and_stopped(attached: list[Attached]) -> None:
    audio: Any = Media()
    tracks = OutgoingTracks(audio=audio)
    tracks.open()
    async with open_session(tracks=tracks) as session:
        await session.create_offer()
        assert [t.direction for t in session.engine.getTransceivers()] == ["sendrecv", "recvonly"]
        assert [one.track for one in attached] == [audio]
    assert set(audio.calls[:-1]) == {"open"} and audio.calls[-1] == "stop"


async def test_stats_of_a_connection_without_media_are_empty() -> None:
    async with open_session() as session:
        await session.create_offer()
        stats = await session.connection.stats()
        assert stats == TransportStats(None, {}, {}, {}, None)
