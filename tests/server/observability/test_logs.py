"""Structured facts in log records, and lines limited in rate."""

from __future__ import annotations

import logging

import pytest

from server.observability.logs import LOG_INTERVAL, RateLimitedLogger, facts


def test_facts_are_an_extra_with_the_event() -> None:
    assert facts("joined", peer="a", room="") == {"facts": {"event": "joined", "peer": "a", "room": ""}}


def test_each_kind_is_logged_once_per_interval(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = RateLimitedLogger(logging.getLogger("server"))
    for now in (0.0, 0.5, LOG_INTERVAL, 1.5, 1.9, 9.0):
        log.info("messages", now, f"at {now}", "limited", address="192.0.2.1")
    log.info("octets", 0.5, "another kind", "limited")
    assert [record.getMessage() for record in caplog.records] == [
        "at 0.0",
        "at 1.0, and 1 more",
        "at 9.0, and 2 more",
        "another kind",
    ]
    assert [record.__dict__["facts"]["more"] for record in caplog.records] == [0, 1, 2, 0]
