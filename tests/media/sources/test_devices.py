"""Lists of devices, read from copies of /sys and /proc of real machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.media.sources import v4l2
from peer.media.sources.devices import AudioDevice, Camera, list_cameras, list_microphones, list_speakers
from peer.media.sources.v4l2 import Capabilities, Mode
from tests.media.sources.camera_tree import CameraTree

_PCM = """\
00-00: ALC257 Analog : ALC257 Analog : playback 1 : capture 1
00-03: HDMI 0 : HDMI 0 : playback 1
01-00: USB Audio : USB Audio : capture 1
"""

_CARDS = """\
 0 [PCH            ]: HDA-Intel - HDA Intel PCH
                      HDA Intel PCH at 0xb1218000 irq 155
 1 [Webcam         ]: USB-Audio - HD Webcam C525
                      HD Webcam C525 at usb-0000:00:14.0-1, high speed
"""


@pytest.fixture
def asound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PULSE_SERVER", "PULSE_RUNTIME_PATH", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pcm").write_text(_PCM)
    (tmp_path / "cards").write_text(_CARDS)
    for card, identity in ((0, "PCH"), (1, "Webcam")):
        (tmp_path / f"card{card}").mkdir()
        (tmp_path / f"card{card}" / "id").write_text(f"{identity}\n")
    return tmp_path


def test_list_microphones_uses_stable_card_names(asound: Path) -> None:
    assert list_microphones(asound) == [
        AudioDevice("plughw:CARD=PCH,DEV=0", "HDA Intel PCH, ALC257 Analog"),
        AudioDevice("plughw:CARD=Webcam,DEV=0", "HD Webcam C525, USB Audio"),
    ]


def test_list_speakers_lists_playback_devices(asound: Path) -> None:
    assert [speaker.device for speaker in list_speakers(asound)] == ["plughw:CARD=PCH,DEV=0", "plughw:CARD=PCH,DEV=3"]


@pytest.mark.sound
def test_list_devices_sound_server_comes_first(asound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (asound / "pulse").mkdir()
    (asound / "pulse" / "native").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(asound))
    assert list_microphones(asound)[0].device == "pulse"
    assert list_speakers(asound)[0].device == "pulse"


def test_list_devices_without_hardware_is_empty(tmp_path: Path, asound: Path) -> None:
    assert list_microphones(tmp_path / "none") == []
    assert list_speakers(tmp_path / "none") == []
    assert list_cameras(tmp_path, tmp_path / "none") == []


def test_list_cameras_sorted_without_other_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = CameraTree(tmp_path)
    for number in (10, 0, 2, 1):
        tree.plug(number, f"Camera {number}", port=f"1-{number}", serial=f"S{number}")
    mode = Mode("mjpeg", ((640, 480),), (30.0,))

    def query(path: str) -> Capabilities:
        if path.endswith("/video2"):
            raise PermissionError(13, "Permission denied")
        captures = not path.endswith("/video1")
        return Capabilities(path[-7:], captures, (mode,) if captures else ())

    monkeypatch.setattr(v4l2, "query", query)
    by_id = f"{tree.dev}/v4l/by-id/usb-Camera_"
    assert list_cameras(tree.dev, tree.sysfs) == [
        Camera(f"{tree.dev}/video0", "/video0", (mode,), f"{by_id}0-S0-video-index0", "S0"),
        Camera(f"{tree.dev}/video2", "Camera 2", (), f"{by_id}2-S2-video-index0", "S2", "Permission denied"),
        Camera(f"{tree.dev}/video10", "video10", (mode,), f"{by_id}10-S10-video-index0", "S10"),
    ]
