"""Transceivers of a connection, before anything is negotiated. ``test_renegotiation`` tests what follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiortc import RTCPeerConnection

from peer.media.fanout import Fanout
from peer.media.incoming.track import IncomingMedia
from peer.media.outgoing.audio_track import OutgoingAudio
from peer.media.outgoing.shared import SharedAudio
from peer.rtc import aiortc_hooks
from peer.rtc.outgoing_tracks import OutgoingTracks
from peer.rtc.transceivers import Transceivers


@pytest.fixture
async def pc() -> AsyncIterator[RTCPeerConnection]:
    opened = aiortc_hooks.open_peer_connection()
    yield opened
    await opened.close()


def _transceivers(pc: RTCPeerConnection, tracks: OutgoingTracks, *video_codecs: str) -> Transceivers:
    return Transceivers(pc, tracks, IncomingMedia(lambda first: None), video_codecs or None)


def _audio() -> OutgoingTracks:
    tasks: Any = None
    return OutgoingTracks(audio=OutgoingAudio(SharedAudio(tasks, Fanout())))


async def test_one_transceiver_is_added_per_kind(pc: RTCPeerConnection) -> None:
    transceivers = _transceivers(pc, _audio())
    transceivers.add(("audio",))
    transceivers.add(("video", "audio"))
    added = [(one.kind, one.direction) for one in pc.getTransceivers()]
    assert added == [("audio", "sendrecv"), ("video", "recvonly")]
    assert transceivers.sent_kinds == ("audio",)
    assert transceivers.receives == frozenset()


async def test_video_codecs_are_preferred_as_configured(pc: RTCPeerConnection) -> None:
    _transceivers(pc, OutgoingTracks(), "h264").add(("video",))
    (transceiver,) = pc.getTransceivers()
    assert {codec.name for codec in transceiver._preferred_codecs} == {"H264", "rtx"}


async def test_track_that_is_not_negotiated_is_stopped(pc: RTCPeerConnection) -> None:
    tracks = _audio()
    tracks.open()
    assert tracks.audio is not None and tracks.audio._held
    transceivers = _transceivers(pc, tracks)
    transceivers.add(("video",))
    transceivers.update()
    assert not tracks.audio._held


async def test_stats_without_media_are_empty(pc: RTCPeerConnection) -> None:
    transceivers = _transceivers(pc, OutgoingTracks())
    transceivers.add(("audio",))
    stats = await transceivers.stats()
    assert (stats.rtt, stats.packets_received, stats.packets_lost, stats.video) == (None, {}, {}, None)


async def test_renamed_section_has_another_mid(pc: RTCPeerConnection) -> None:
    transceivers = _transceivers(pc, OutgoingTracks())
    transceivers.add(("audio",))
    await pc.setLocalDescription(await pc.createOffer())
    transceivers.rename({"0": "new", "1": "other"})
    assert [one.mid for one in pc.getTransceivers()] == ["new"]
