"""Capture constraints."""

from __future__ import annotations

from dataclasses import dataclass, field

from peer.media.sources.v4l2_controls import CameraControls


@dataclass(frozen=True, slots=True)
class Constraints:
    """Capture constraints: media kinds, maximum size and frame rate (compare W3C MediaTrackConstraints)."""

    video: bool
    audio: bool
    size: tuple[int, int] | None = None
    """Maximum width and height, in pixels. Frames are scaled down to fit; the aspect ratio is kept."""
    fps: float | None = None
    """Maximum frame rate, in frames per second."""
    h264: bool = False
    """Whether a camera must deliver H.264 that it encoded itself."""
    controls: CameraControls = field(default_factory=lambda: CameraControls(()))
    """Controls that are set whenever a camera is opened."""
