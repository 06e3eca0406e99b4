"""The key frame gate: video after a loss is dropped until the next key frame."""

from __future__ import annotations

from peer.media.frames import EncodedFrame
from peer.media.recording.key_frame_gate import KeyFrameGate


def video(*, key: bool = False, gap: bool = False) -> EncodedFrame:
    return EncodedFrame("video", "vp8", b"frame", 0, 90_000, key, 0.0, None, gap)


AUDIO = EncodedFrame("audio", "opus", b"packet", 0, 48_000, True, 0.0, None)


def test_video_after_a_key_frame_passes() -> None:
    gate = KeyFrameGate()
    assert gate.accepts(video(key=True)) and gate.accepts(video())
    assert not gate.needs_key_frame and gate.dropped == 0


def test_video_after_a_gap_is_dropped_until_a_key_frame() -> None:
    gate = KeyFrameGate()
    assert gate.accepts(video(key=True))
    assert [gate.accepts(video(gap=True)), gate.accepts(video())] == [False, False]
    assert gate.needs_key_frame and gate.dropped == 2
    assert gate.accepts(video(key=True, gap=True)) and gate.accepts(video())
    assert not gate.needs_key_frame and gate.dropped == 2


def test_reported_loss_is_counted_and_needs_a_key_frame() -> None:
    gate = KeyFrameGate()
    assert gate.accepts(video(key=True))
    gate.report_loss(0)
    assert gate.accepts(video())
    gate.report_loss(3)
    assert gate.needs_key_frame and not gate.accepts(video())
    assert gate.dropped == 4


def test_frames_before_the_first_key_frame_are_not_counted() -> None:
    gate = KeyFrameGate()
    assert not gate.accepts(video(gap=True)) and not gate.accepts(video())
    assert gate.needs_key_frame and gate.dropped == 0


def test_audio_always_passes() -> None:
    gate = KeyFrameGate()
    gate.report_loss(1)
    assert gate.accepts(AUDIO) and gate.needs_key_frame
