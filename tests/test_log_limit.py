"""Limited log lines: one per second and cause, with a count of the suppressed ones."""

from __future__ import annotations

import logging

import pytest

from peer.log_limit import MAX_CAUSES, LimitedLogger, RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_limiter_allows_one_event_per_interval_and_counts() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    assert [limiter.allow("a") for _ in range(4)] == [0, None, None, None]
    clock.now += 0.99
    assert limiter.allow("a") is None
    clock.now += 0.01
    assert limiter.allow("a") == 4
    assert limiter.allow("a") is None


def test_limiter_separates_causes_and_remembers_few() -> None:
    limiter = RateLimiter(Clock())
    assert [limiter.allow(n) for n in range(1000)] == [0] * 1000
    assert limiter.allow(999) is None
    assert len(limiter._causes) == MAX_CAUSES


def test_logger_limits_by_message_before_formatting(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    clock = Clock()
    log = LimitedLogger(logging.getLogger("peer.x"), RateLimiter(clock))
    for n in range(2000):
        log.info("dropped %d", n)
        log.debug("ignored %d", n)
        log.warning("%s failed", ("a", "b")[n % 2], cause=n % 2)
    assert caplog.messages == ["dropped 0", "ignored 0", "a failed", "b failed"]
    clock.now += 1
    log.info("dropped %d", 2000)
    assert caplog.messages[-1] == "dropped 2000 (and 1999 more, suppressed)"


def test_logger_counts_only_lines_of_an_enabled_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    log = LimitedLogger(logging.getLogger("peer.x"), RateLimiter(clock))
    for _ in range(3):
        log.debug("ignored")
    caplog.set_level("DEBUG")
    log.debug("ignored")
    assert caplog.messages == ["ignored"]


def test_logger_exception_has_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    log = LimitedLogger(logging.getLogger("peer.x"), RateLimiter(Clock()))
    for _ in range(2):
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("failed")
    (record,) = caplog.records
    assert record.levelname == "ERROR" and record.exc_info is not None
