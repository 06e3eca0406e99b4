"""Lists of this machine's cameras, microphones and speakers, from sysfs, /proc/asound and the kernel.

Listing starts no device.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from peer.media.audio.alsa import prepare_environment
from peer.media.sources import v4l2
from peer.media.sources.camera_nodes import DEV, SYSFS, list_nodes, stable_names

ASOUND: Final = Path("/proc/asound")


@dataclass(frozen=True, slots=True)
class Camera:
    """A V4L2 capture device. ``device`` is the path of its node, which changes with the order of plugging."""

    device: str
    name: str
    modes: tuple[v4l2.Mode, ...]
    stable: str = ""
    """The value for ``--video`` that names this camera after a replug and a restart, too."""
    serial: str = ""
    """USB serial number, or empty."""
    problem: str | None = None
    """Why the device cannot be queried, usually for lack of permission; else ``None``."""


@dataclass(frozen=True, slots=True)
class AudioDevice:
    """An ALSA device, or the sound server. ``device`` is the value for ``--audio`` or ``--speaker``."""

    device: str
    name: str


def list_cameras(dev: Path = DEV, sysfs: Path = SYSFS) -> list[Camera]:
    """List the cameras, ordered by number. Device nodes for metadata or output are left out."""
    cameras = []
    nodes = list_nodes(dev, sysfs)
    stable = stable_names(nodes)
    for node in nodes:
        camera = Camera(node.path, node.name, (), stable[node.path], node.serial)
        try:
            capabilities = v4l2.query(node.path)
        except OSError as problem:
            cameras.append(replace(camera, problem=os.strerror(problem.errno or 0)))
            continue
        if capabilities.captures and capabilities.modes:
            cameras.append(replace(camera, name=capabilities.name, modes=capabilities.modes))
    return cameras


def list_microphones(asound: Path = ASOUND) -> list[AudioDevice]:
    """List the devices that capture audio; the sound server first, because it occupies sound cards while it runs."""
    return _sound_server() + _pcm_devices(asound, "capture")


def list_speakers(asound: Path = ASOUND) -> list[AudioDevice]:
    """List the devices that play audio; the sound server first."""
    return _sound_server() + _pcm_devices(asound, "playback")


def _pcm_devices(asound: Path, direction: str) -> list[AudioDevice]:
    """Return the PCM devices of all sound cards, from /proc/asound/pcm.

    Its lines look like ``01-00: USB Audio : USB Audio : playback 1 : capture 1``.
    """
    found = []
    for line in _read(asound / "pcm").splitlines():
        match = re.match(r"(\d+)-(\d+): ([^:]*)", line)
        if match is not None and f": {direction} " in line + " ":
            card, pcm = int(match[1]), int(match[2])
            identity = _read(asound / f"card{card}" / "id") or str(card)
            name = f"{_sound_card_name(asound, card)}, {match[3].strip()}"
            found.append(AudioDevice(f"plughw:CARD={identity},DEV={pcm}", name))
    return found


def _sound_card_name(asound: Path, card: int) -> str:
    """Return the name in `` 1 [Webcam         ]: USB-Audio - HD Webcam`` of /proc/asound/cards."""
    match = re.search(rf"^\s*{card} \[[^]]*\]: \S+ - (.+)$", _read(asound / "cards"), re.MULTILINE)
    return match[1].strip() if match is not None else f"card {card}"


def _sound_server() -> list[AudioDevice]:
    """Return PulseAudio, or PipeWire in its place, if it runs and ALSA's plugin for it is installed."""
    prepare_environment()
    plugin = Path(os.environ.get("ALSA_PLUGIN_DIR", "/nowhere")) / "libasound_module_pcm_pulse.so"
    runtime = os.environ.get("PULSE_RUNTIME_PATH") or f"{os.environ.get('XDG_RUNTIME_DIR', '/nowhere')}/pulse"
    runs = "PULSE_SERVER" in os.environ or (Path(runtime) / "native").exists()
    return [AudioDevice("pulse", "the sound server (PulseAudio or PipeWire)")] if runs and plugin.exists() else []


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
