"""Reordering of audio packets: in order, at once, and with a short wait for a missing one."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.reorder_buffer import CAPACITY, MAX_WAIT, AudioPacket, ReorderBuffer
from peer.rtp.sequence import SequenceUnwrapper


def run(numbers: list[int], interval: float = 0.02) -> tuple[list[tuple[int, bool]], ReorderBuffer]:
    buffer, delivered = ReorderBuffer(), []
    for at, number in enumerate(numbers):
        done = buffer.add(number, number * 960, b"x", at * interval)
        delivered += [(packet.timestamp // 960, packet.gap) for packet in done]
    return delivered, buffer


def test_packet_in_order_is_delivered_at_once() -> None:
    buffer = ReorderBuffer()
    for number in range(5, 50):
        assert buffer.add(number, number, b"x", 0.0) == [AudioPacket(b"x", number, False)]


def test_overtaken_packet_is_put_in_order() -> None:
    delivered, _ = run([1, 3, 2, 4])
    assert delivered == [(1, False), (2, False), (3, False), (4, False)]


def test_lost_packet_delays_others_for_a_limited_time() -> None:
    delivered, _ = run([1, 3, 4, 5, 6, 7])
    assert delivered == [(1, False), (3, True), (4, False), (5, False), (6, False), (7, False)]
    buffer = ReorderBuffer()
    buffer.add(1, 1, b"x", 0.0)
    assert buffer.add(3, 3, b"x", 0.02) == []
    assert [packet.timestamp for packet in buffer.add(4, 4, b"x", 0.02 + MAX_WAIT)] == [3, 4]


def test_late_duplicate_and_padding_packets_are_dropped() -> None:
    delivered, buffer = run([1, 2, 2, 1, 3])
    assert [number for number, _ in delivered] == [1, 2, 3]
    assert buffer.add(4, 9, b"", 1.0) == []
    assert [packet.timestamp for packet in buffer.add(5, 10, b"x", 1.0)] == [10]


def test_restart_of_the_sender_loses_nothing() -> None:
    sequence = SequenceUnwrapper()
    numbers = [sequence.unwrap(number) for number in (1, 2, 3, 40_000, 40_001, 40_002, 40_003, 40_004, 40_005)]
    delivered, buffer = run([number for number in numbers if number is not None])
    assert len(delivered) == 8
    assert [gap for _, gap in delivered].count(True) == 1
    assert buffer.lost == 0


@given(st.integers(0, 2**32), st.integers(2, 400))
def test_loss_and_reordering_keep_order_and_bounds(seed: int, count: int) -> None:
    chance = random.Random(seed)
    sent = [(at + chance.choice((0, 0, 0, 1.5, 2.5)), at) for at in range(count) if at == 0 or chance.random() > 0.1]
    delivered, buffer = run([number for _, number in sorted(sent)])
    numbers = [number for number, _ in delivered]
    assert numbers == sorted(set(numbers))
    assert len(buffer._waiting) <= CAPACITY
    assert len(numbers) >= len(sent) - CAPACITY - count // 5
    gaps = [later for (sooner, _), (later, _) in itertools.pairwise(delivered) if later != sooner + 1]
    assert [number for number, gap in delivered if gap] == gaps
    assert buffer.lost == numbers[-1] + 1 - numbers[0] - len(numbers)
