"""The cost of hostile offers, counted in executed lines of Python, so that no other load can change the result.

``benchmarks/descriptions.py`` measures the same offers in CPU time and memory, through the engine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from aiortc.sdp import SessionDescription

from benchmarks.descriptions import OFFERS
from peer.rtc.answer import mirror
from peer.rtc.remote_description import normalize_offer
from peer.rtc.sdp import SdpError
from peer.rtc.sdp_transports import merge_answers, restrict, split_transports

from .descriptions import SUPPORTED, engine_answer

ORDINARY, *HOSTILE = OFFERS

MAX_RATIO = 7
"""Maximum ratio to Chromium's ordinary offer. The lines counted here take a fifth of its CPU time (1.8 of 9 ms). The
rest, in the engine, is the same for each connection, of which there are at most two."""


@contextmanager
def counted_lines() -> Iterator[list[int]]:
    """Yield a list of one number: how many lines have been executed."""
    count = [0]

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        count[0] += 1
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(previous)  # of a coverage run


def cost(sdp: str) -> int:
    """Return the lines executed to answer ``sdp``, in our modules and in the engine's parser."""
    with counted_lines() as count:
        parts = split_transports(sdp, SUPPORTED)
        answers = []
        for text in [restrict(sdp, part.indexes) for part in parts] or [sdp]:
            try:
                remote = normalize_offer(text, SUPPORTED)
            except SdpError:
                break
            SessionDescription.parse(remote.text)
            answers.append(mirror(engine_answer(remote), remote))
        if parts:
            merge_answers(parts, answers)
    return count[0]


@pytest.fixture(scope="module")
def ordinary() -> int:
    cost(OFFERS[ORDINARY])  # compiles regular expressions
    return cost(OFFERS[ORDINARY])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_offer_costs_a_few_times_an_ordinary_one(name: str, ordinary: int) -> None:
    assert cost(OFFERS[name]) <= MAX_RATIO * ordinary
