"""A microphone through the sound server, as on a desktop: PulseAudio's ALSA plugin, and a server that restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from peer.media.frames import media_time
from peer.media.sources.devices import list_microphones
from peer.media.sources.local_media import open_sources
from peer.media.sources.source import SourceBack, SourceLost
from peer.media.sources.spec import parse_audio, parse_video
from peer.media.test_pattern import dominant_frequency
from tests.waiting import on_this_machine

from ..sound_server import SoundServer, running

pytestmark = pytest.mark.sound


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    """A sound server whose only microphone delivers a tone of 660 Hz."""
    device = "module-sine-source rate=48000 frequency=660 source_name=room"
    with running(tmp_path_factory.mktemp("pulse"), device, monkeypatch) as it:
        yield it


async def test_pulse_is_first_microphone_and_survives_restart(server: SoundServer) -> None:
    assert list_microphones()[0].device == "pulse"
    media = await open_sources(parse_video("none"), parse_audio("auto"))
    assert media.notices == ()
    assert media.audio is not None
    (source,) = media.sources
    with media.audio.read(100) as audio, source.failures.read(4) as failures:
        async with asyncio.timeout(20):
            frames = [await audio.get() for _ in range(60)][10:]
            assert media_time() - frames[-1].time < 0.3
            samples = np.concatenate([frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in frames])
            assert dominant_frequency(samples) == pytest.approx(660, abs=2)
            server.kill()
            lost = await failures.get()
            assert isinstance(lost, SourceLost)
            assert "the device is gone" in str(lost.error)
            server.start()
            returned = media_time()
            assert isinstance(await failures.get(), SourceBack)
            await audio.get()
            assert media_time() - returned < on_this_machine(3.0)  # docs/node.md
    await media.close()
