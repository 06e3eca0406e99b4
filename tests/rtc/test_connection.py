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
from peer.rtc import aiortc_hooks, ice_gathering, sdp
from peer.rtc import connection as connection_module
from peer.rtc.connection import Connection, ConnectionOptions, OutgoingTracks
from peer.rtc.ice_gathering import NoTurnServerError
from peer.rtc.rtcp_stats import TransportStats
from peer.rtc.silence import Change
from peer.signaling.messages import IceCandidate
from tests.rtc.scripted_engine import DESCRIPTION, HANG, Outcome, ScriptedPeerConnection

GENERATION = 3

OFFER_STEPS = ("createOffer", "setLocalDescription", "gather")
ANSWER_STEPS = ("setRemoteDescription", "createAnswer", "setLocalDescription", "gather")

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

    async def offered(self) -> None:
        """Create an offer."""
        self.connection.create_offer()
        assert isinstance(await self.event(), n.OfferCreated)

    def assert_released(self) -> None:
        assert self.events.empty()
        assert self.engine.steps.count("close") == 1
        assert self.tracks.stopped == 1


@asynccontextmanager
async def session(
    script: dict[str, Outcome] | None = None,
    options: ConnectionOptions | None = None,
    tracks: OutgoingTracks | None = None,
) -> AsyncIterator[Session]:
    """Run a connection; at the end close it and check that nothing is left of it."""
    before = asyncio.all_tasks()
    made = Session(script or {}, options or ConnectionOptions(), tracks)
    made.task = asyncio.get_running_loop().create_task(made.connection.run())
    try:
        yield made
        made.connection.close()
        await made.finished()
    finally:
        if not made.task.done():
            made.task.cancel()
    assert asyncio.all_tasks() == before


# --- offers and answers ---


async def test_create_offer_posts_a_trickle_offer() -> None:
    async with session() as made:
        made.connection.create_offer()
        event = await made.event()
        assert event == n.OfferCreated(GENERATION, sdp.announce_trickle(DESCRIPTION))
        assert [t.kind for t in made.engine.getTransceivers()] == ["audio", "video"]
        assert [t.preferences[0].name for t in made.engine.getTransceivers()[1:]] == ["VP8"]
        assert made.engine.steps == ["open", *OFFER_STEPS]


async def test_create_answer_applies_the_offer_without_candidates() -> None:
    async with session() as made:
        made.connection.create_answer(DESCRIPTION)
        assert await made.event() == n.AnswerCreated(GENERATION, sdp.announce_trickle(DESCRIPTION))
        assert made.engine.remote is not None
        assert made.engine.remote.type == "offer" and "candidate" not in made.engine.remote.sdp
        assert [candidate.host for candidate in made.engine.ice.added] == ["192.0.2.1"]
        assert made.connection.receives == {"audio", "video"}


async def test_apply_answer_posts_nothing_on_success() -> None:
    async with session() as made:
        await made.offered()
        made.connection.apply_answer(DESCRIPTION)
        made.connection.apply_answer("no description")
        assert await made.event() == n.DescriptionFailed(GENERATION)
        assert made.engine.remote is not None and made.engine.remote.type == "answer"


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
    async with session({step: error}) as made:
        made.connection.create_offer()
        assert await made.event() == n.DescriptionFailed(GENERATION, reason)
    made.assert_released()


@pytest.mark.parametrize("step", ANSWER_STEPS)
async def test_answer_step_that_raises_posts_a_failure(step: str) -> None:
    async with session({step: ValueError("bad")}) as made:
        made.connection.create_answer(DESCRIPTION)
        assert await made.event() == n.DescriptionFailed(GENERATION, "media-error")
    made.assert_released()


async def test_operations_after_a_failed_one_still_run() -> None:
    async with session({"createAnswer": ValueError("bad")}) as made:
        made.connection.create_answer(DESCRIPTION)
        made.connection.create_offer()
        assert await made.event() == n.DescriptionFailed(GENERATION)
        assert isinstance(await made.event(), n.OfferCreated)


async def test_video_without_common_codec_costs_only_the_video(caplog: pytest.LogCaptureFixture) -> None:
    async with session(options=ConnectionOptions(video_codecs=("h264",))) as made:
        made.connection.create_answer(DESCRIPTION)
        event = await made.event()
        assert isinstance(event, n.AnswerCreated)
        assert "m=audio 9 " in event.sdp and "m=video 0 UDP/TLS/RTP/SAVPF 96" in event.sdp
        assert [t.kind for t in made.engine.getTransceivers()] == ["audio"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no common codec, offered: VP8/90000, ours: h264; try --video-codec vp8,h264 at both ends" in caplog.text


async def test_offer_of_nothing_acceptable_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with session(options=ConnectionOptions(video_codecs=("h264",))) as made:
        made.connection.create_answer(DESCRIPTION.replace("opus", "speex"))
        assert await made.event() == n.DescriptionFailed(GENERATION)
        assert made.engine.steps == ["open"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "m=audio (line 8): no common codec, offered: speex/48000" in caplog.text


async def test_relay_only_without_turn_server_fails_quietly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with session(options=ConnectionOptions(relay_only=True)) as made:
        made.connection.create_offer()
        assert await made.event() == n.DescriptionFailed(GENERATION, "transport-failed")
    assert issubclass(NoTurnServerError, ConnectionError)
    assert caplog.records == []


# --- closing ---


@pytest.mark.parametrize("step", OFFER_STEPS)
async def test_close_while_an_offer_step_hangs_ends_run(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_gathering, "SETTLE_TIMEOUT", 0.01)
    async with session({step: HANG}) as made:
        made.connection.create_offer()
        await made.engine.hanging.wait()
        made.connection.close()
        await made.finished()
    made.assert_released()


@pytest.mark.parametrize("step", ANSWER_STEPS)
async def test_close_while_an_answer_step_hangs_ends_run(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_gathering, "SETTLE_TIMEOUT", 0.01)
    async with session({step: HANG}) as made:
        made.connection.create_answer(DESCRIPTION)
        await made.engine.hanging.wait()
        made.connection.close()
        await made.finished()
    made.assert_released()


async def test_close_twice_closes_the_engine_once() -> None:
    async with session() as made:
        await made.offered()
        made.connection.close()
        made.connection.close()
        await made.finished()
        made.connection.close()
    made.assert_released()


async def test_close_before_run_opens_nothing() -> None:
    async with session() as made:
        made.connection.create_offer()
        made.connection.close()
        await made.finished()
    assert made.engine.steps == []
    assert made.tracks.stopped == 1


async def test_close_while_the_engine_is_closing_does_not_cancel_it() -> None:
    async with session({"close": HANG}) as made:
        await made.offered()
        made.connection.close()
        await made.engine.hanging.wait()
        made.connection.close()
        assert not made.task.cancelling()
        made.engine.released.set()
        await made.finished()
    made.assert_released()


@pytest.mark.parametrize("outcome", [ConnectionError("dead"), HANG])
async def test_engine_that_does_not_close_is_taken_apart(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(aiortc_hooks, "CLOSE_TIMEOUT", 0.01)
    async with session({"close": outcome, "stop ice": outcome}) as made:
        await made.offered()
    made.assert_released()
    assert made.engine.steps[-1] == "stop ice"
    assert all(transceiver.decoder_stopped for transceiver in made.engine.getTransceivers())
    assert "is taken apart" in caplog.text and "may have left sockets open" in caplog.text


async def test_cancelled_run_raises_and_releases_everything() -> None:
    async with session() as made:
        await made.offered()
        made.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await made.finished()
        made.assert_released()
        made.task = asyncio.get_running_loop().create_task(asyncio.sleep(0))


async def test_cancelled_and_closed_run_raises() -> None:
    async with session() as made:
        await made.offered()
        made.connection.close()
        made.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await made.finished()
        made.assert_released()
        made.task = asyncio.get_running_loop().create_task(asyncio.sleep(0))


# --- candidates ---


class ScriptedGatherer:
    """Gathers one candidate at once, and further ones by ``on_candidate``. ``run`` raises ``error``."""

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
    made = type("IceGatherer", (ScriptedGatherer,), {})
    monkeypatch.setattr(connection_module, "IceGatherer", made)
    return made


async def test_candidates_are_posted_after_the_description(gatherer: type[ScriptedGatherer]) -> None:
    async with session() as made:
        await made.offered()
        first = await made.event()
        assert isinstance(first, n.LocalCandidate)
        assert first.candidate == IceCandidate("candidate:1 1 udp 1 192.0.2.7 7 typ host", "0", 0, "ufrag")
        running: Any = made.connection._gatherer
        running.on_candidate(Candidate.from_sdp("2 1 udp 1 192.0.2.8 8 typ host"))
        second = await made.event()
        assert isinstance(second, n.LocalCandidate)
        assert second.candidate.candidate == "candidate:2 1 udp 1 192.0.2.8 8 typ host"
        made.connection.close()
        running.on_candidate(Candidate.from_sdp("3 1 udp 1 192.0.2.9 9 typ host"))
    made.assert_released()


async def test_background_task_that_raises_ends_the_connection(
    gatherer: type[ScriptedGatherer], caplog: pytest.LogCaptureFixture
) -> None:
    gatherer.error = RuntimeError("a bug")
    async with session({"createOffer": HANG}) as made:
        made.connection.create_offer()
        assert await made.event() == n.DescriptionFailed(GENERATION)
        await made.finished()
    made.assert_released()
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
    async with session() as made:
        await made.offered()
        made.connection.add_candidate(IceCandidate(line, "0", 0))
        made.connection.add_candidate(HOST)
        made.connection.create_offer()
        assert isinstance(await made.event(), n.OfferCreated)
        assert [candidate.port for candidate in made.engine.ice.added] == [5000]


@pytest.mark.parametrize("outcome", [OSError("no such name"), HANG])
async def test_remote_candidate_that_fails_or_hangs_delays_nothing(outcome: Outcome) -> None:
    async with session({"add 192.0.2.1": outcome}) as made:
        await made.offered()
        made.connection.add_candidate(HOST)
        made.connection.create_offer()
        assert isinstance(await made.event(), n.OfferCreated)
        assert len(made.engine.ice.added) == 1
    made.assert_released()


async def test_remote_candidate_without_a_transport_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with session() as made:
        made.connection.add_candidate(HOST)
        made.connection.apply_answer("no description")
        assert await made.event() == n.DescriptionFailed(GENERATION)
        assert "dropped an unusable candidate" in caplog.text
    made.assert_released()


async def test_remote_candidates_beyond_the_limit_are_dropped() -> None:
    async with session() as made:
        await made.offered()
        for _ in range(sdp.MAX_CANDIDATES + 20):
            made.connection.add_candidate(HOST)
        made.connection.create_offer()
        assert isinstance(await made.event(), n.OfferCreated)
        assert len(made.engine.ice.added) == sdp.MAX_CANDIDATES


# --- the transport ---


async def test_connected_state_is_posted_once() -> None:
    async with session() as made:
        await made.offered()
        for state in ("connecting", "connected", "connected"):
            made.engine.change_state(state)
        assert await made.event() == n.TransportConnected(GENERATION)
    made.assert_released()


@pytest.mark.parametrize("state", ["failed", "closed"])
async def test_failed_or_closed_transport_is_posted(state: str) -> None:
    async with session() as made:
        await made.offered()
        made.engine.change_state(state)
        assert await made.event() == n.TransportClosed(GENERATION, "transport-failed")
    made.assert_released()


async def test_transport_closed_by_remote_is_posted_as_a_hang_up() -> None:
    async with session() as made:
        await made.offered()
        made.engine.dtls.close_by_remote()
        made.engine.change_state("closed")
        assert await made.event() == n.TransportClosed(GENERATION, "remote-hang-up")


async def test_failure_to_connect_is_posted() -> None:
    async with session() as made:
        await made.offered()
        made.engine.connecting_failed()
        assert await made.event() == n.TransportClosed(GENERATION, "transport-failed")


async def test_nothing_is_posted_after_close() -> None:
    async with session() as made:
        await made.offered()
        made.connection.close()
        made.engine.change_state("closed")
        made.engine.connecting_failed()
    made.assert_released()


async def test_silence_is_posted_until_the_transport_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = iter([None, Change.SILENT, None, Change.FLOWING, Change.LOST])

    class Detector:
        def __init__(self, datagrams: int, now: float, *, receives_media: bool) -> None:
            assert (datagrams, receives_media) == (0, False)

        def update(self, datagrams: int, now: float) -> Change | None:
            return next(changes)

    monkeypatch.setattr(connection_module, "LIVENESS_INTERVAL", 0)
    monkeypatch.setattr(connection_module, "SilenceDetector", Detector)
    async with session() as made:
        await made.offered()
        made.engine.change_state("connected")
        assert [await made.event() for _ in range(4)] == [
            n.TransportConnected(GENERATION),
            n.MediaSilent(GENERATION),
            n.MediaFlowing(GENERATION),
            n.TransportClosed(GENERATION, "transport-failed"),
        ]
    assert list(changes) == []


# --- media ---


class Attached:
    """Stands in for a receiver or a sender of ours."""

    made: ClassVar[list[Attached]] = []

    def __init__(self, receiver: object, track: Any) -> None:
        self.rtp_receiver, self.track, self.kind = receiver, track, getattr(track, "kind", "")
        self.received, self.lost = 100 + len(self.made), len(self.made)
        self.made.append(self)


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[Attached]:
    monkeypatch.setattr(Attached, "made", [])
    monkeypatch.setattr(connection_module, "Receiver", Attached)
    monkeypatch.setattr(connection_module, "Sender", Attached)
    return Attached.made


async def test_only_the_first_receiver_of_a_kind_feeds_the_call(attached: list[Attached]) -> None:
    async with session() as made:
        made.engine.tracks = ["audio", "video", "audio"]
        made.connection.create_answer(DESCRIPTION)
        assert isinstance(await made.event(), n.AnswerCreated)
        made.connection.apply_answer(DESCRIPTION)  # attaches none twice
        made.connection.create_offer()
        assert isinstance(await made.event(), n.OfferCreated)
        audio, video, second_audio = attached
        assert (audio.track, video.track) == (made.incoming.audio, made.incoming.video)
        assert second_audio.kind == "audio" and second_audio.track is not made.incoming.audio
        stats = await made.connection.stats()
        assert stats.packets_received == {"audio": 100, "video": 101}
        assert stats.packets_lost == {"audio": 0, "video": 1}


async def test_outgoing_tracks_are_sent_and_stopped(attached: list[Attached]) -> None:
    audio: Any = Media()
    tracks = OutgoingTracks(audio=audio)
    tracks.open()
    async with session(tracks=tracks) as made:
        await made.offered()
        assert [t.direction for t in made.engine.getTransceivers()] == ["sendrecv", "recvonly"]
        assert [one.track for one in attached] == [audio]
    assert audio.calls == ["open", "stop"]


async def test_stats_of_a_connection_without_media_are_empty() -> None:
    async with session() as made:
        await made.offered()
        stats = await made.connection.stats()
        assert stats == TransportStats(None, {}, {}, {}, None)
