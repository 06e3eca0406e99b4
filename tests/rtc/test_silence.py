"""Detection of a silent transport: silent, flowing again, lost."""

from __future__ import annotations

import pytest

from peer.rtc.silence import IDLE_LOST_AFTER, IDLE_SILENT_AFTER, LOST_AFTER, SILENT_AFTER, Change, SilenceDetector


@pytest.mark.parametrize(
    ("receives_media", "silent_after", "lost_after"),
    [(True, SILENT_AFTER, LOST_AFTER), (False, IDLE_SILENT_AFTER, IDLE_LOST_AFTER)],
)
def test_silence_is_reported_once_and_then_as_lost(
    receives_media: bool, silent_after: float, lost_after: float
) -> None:
    detector = SilenceDetector(7, 100.0, receives_media=receives_media)
    assert detector.update(7, 100.0 + silent_after - 0.01) is None
    assert detector.update(7, 100.0 + silent_after) is Change.SILENT
    assert detector.update(7, 100.0 + silent_after + 0.5) is None
    assert detector.update(7, 100.0 + lost_after - 0.01) is None
    assert detector.update(7, 100.0 + lost_after) is Change.LOST


def test_datagram_after_silence_is_reported_as_flowing() -> None:
    detector = SilenceDetector(0, 0.0, receives_media=True)
    assert detector.update(0, SILENT_AFTER) is Change.SILENT
    assert detector.update(1, SILENT_AFTER + 0.5) is Change.FLOWING
    assert detector.update(2, SILENT_AFTER + 1.0) is None
    assert detector.update(2, 2 * SILENT_AFTER + 1.0) is Change.SILENT


def test_steady_datagrams_change_nothing() -> None:
    detector = SilenceDetector(0, 0.0, receives_media=True)
    assert [detector.update(n, float(n)) for n in range(1, 30)] == [None] * 29


def test_call_on_hold_is_lost_later_and_resumes_in_time() -> None:
    detector = SilenceDetector(0, 0.0, receives_media=True)
    detector.set_receives_media(False, 1.0)
    assert detector.update(0, SILENT_AFTER + 1.0) is None
    detector.set_receives_media(True, IDLE_SILENT_AFTER - 1.0)
    assert detector.update(0, IDLE_SILENT_AFTER) is None
    detector.set_receives_media(True, IDLE_SILENT_AFTER)
    assert detector.update(0, IDLE_SILENT_AFTER - 1.0 + SILENT_AFTER) is Change.SILENT
    assert detector.update(0, IDLE_SILENT_AFTER - 1.0 + LOST_AFTER) is Change.LOST
