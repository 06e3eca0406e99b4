"""Counters and histograms, with labels that no client can extend."""

from __future__ import annotations

from server.observability.counters import MESSAGE_TYPES, Counters, Histogram


def test_unknown_message_type_is_counted_as_other() -> None:
    counters = Counters()
    for kind in [*MESSAGE_TYPES, "wave", "x" * 1000, "peer-list"]:
        counters.count_received(kind)
    assert counters.messages == {kind: 1 for kind in MESSAGE_TYPES} | {"other": 3}


def test_histogram_bounds_are_inclusive() -> None:
    histogram = Histogram(0.1, 1.0)
    for seconds in (0.0, 0.1, 0.5, 1.0, 7.0):
        histogram.add(seconds)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 8.6


def test_send_queue_high_is_the_maximum() -> None:
    counters = Counters()
    for waiting in (5, 900, 3):
        counters.note_send_queue(waiting)
    assert counters.send_queue_high == 900
