"""Assembly of frames: complete, in order, once, and with their last packet, whatever the network does."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.depacketizer import ParsedPayload
from peer.rtp.frame_assembler import MAX_BYTES, AssembledFrame, FrameAssembler

Packet = tuple[int, int, bool, ParsedPayload]
"""Extended number, timestamp, marker, payload."""


def payload(data: bytes, *, starts: bool = False, key: bool = False) -> ParsedPayload:
    return ParsedPayload(data, starts, key)


def stream(
    sizes: list[int], *, keys: Iterable[int] = (), marked: bool = True, starts_shown: bool = True
) -> list[Packet]:
    """Frames of ``sizes`` packets each. Frame n has the timestamp 3000 n and consists of the bytes n.

    ``marked``: the last packets have markers. ``starts_shown``: the first payloads show that they start a frame.
    """
    packets: list[Packet] = []
    for n, size in enumerate(sizes):
        for part in range(size):
            first = part == 0
            held = payload(bytes([n % 256]), starts=first and starts_shown, key=first and n in keys)
            packets.append((70_000 + len(packets), 3000 * n, marked and part == size - 1, held))
    return packets


def run(assembler: FrameAssembler, packets: list[Packet]) -> list[AssembledFrame]:
    return [frame for packet in packets for frame in assembler.add(*packet)]


def numbers(assembler: list[AssembledFrame]) -> list[int]:
    return [frame.timestamp // 3000 for frame in assembler]


def test_frame_is_delivered_with_its_last_packet() -> None:
    assembler = FrameAssembler()
    first, second = stream([2])
    assert assembler.add(*first) == []
    (frame,) = assembler.add(*second)
    assert frame == AssembledFrame(b"\0\0", 0, False, True), "frames before it were not received"


def test_stream_that_begins_inside_a_frame_drops_that_frame() -> None:
    assert numbers(run(FrameAssembler(), stream([3, 2])[1:])) == [1]


def test_frame_without_marker_is_delivered_with_the_next() -> None:
    assert numbers(run(FrameAssembler(), stream([2, 1, 3], marked=False))) == [0, 1]


def test_reordered_packets_make_the_same_frame() -> None:
    packets = stream([1, 3])
    assert run(FrameAssembler(), [packets[0], packets[3], packets[2]]) == [AssembledFrame(b"\0", 0, False, True)]
    (_, frame) = run(FrameAssembler(), [packets[0], packets[3], packets[2], packets[1]])
    assert frame == AssembledFrame(b"\1\1\1", 3000, False, False)


def test_frames_behind_a_gap_are_delivered_when_it_is_filled() -> None:
    assembler = FrameAssembler()
    one, lost, three, four = stream([1, 1, 1, 1])
    assert numbers(run(assembler, [one, three, four])) == [0]
    assert assembler.blocked and assembler.next_number == lost[0]
    assert numbers(assembler.add(*lost)) == [1, 2, 3]
    assert not assembler.blocked


def test_skip_missing_drops_only_the_incomplete_frame() -> None:
    packets = stream([1, 3, 2])
    del packets[2]
    assembler = FrameAssembler()
    assert numbers(run(assembler, packets)) == [0]
    (frame,) = assembler.skip_missing()
    assert frame == AssembledFrame(b"\2\2", 6000, False, True)
    assert assembler.incomplete == 1
    assert assembler.skip_missing() == [], "nothing is missing"


def test_frame_behind_a_gap_without_certain_start_is_dropped() -> None:
    assembler = FrameAssembler()
    packets = [(n, time, mark, payload(b"x", starts=n == 70_000)) for n, time, mark, _ in stream([1, 1, 2, 1])]
    del packets[1]
    run(assembler, packets)
    assert numbers(assembler.skip_missing()) == [3]


def test_complete_key_frame_behind_a_gap_is_delivered() -> None:
    assembler = FrameAssembler()
    packets = stream([1, 2, 3, 1], keys={0, 2})
    del packets[1]
    assert numbers(run(assembler, packets[:4])) == [0]
    assert [(p.timestamp, p.key, p.gap) for p in assembler.add(*packets[4])] == [(6000, True, True)]
    assert numbers(assembler.add(*packets[5])) == [3]
    assert not assembler.blocked


def test_padding_is_no_frame_and_breaks_none() -> None:
    assembler = FrameAssembler()
    one, two, three, four = stream([1, 1, 1, 1])
    padding = (two[0], one[1], False, payload(b""))  # RTX probes and padding carry the last timestamp
    assert numbers(run(assembler, [one, padding, three, four])) == [0, 2, 3]


def test_duplicate_and_late_packets_are_dropped() -> None:
    assembler = FrameAssembler()
    packets = stream([2, 2])
    assert numbers(run(assembler, [packets[0], packets[0], *packets, packets[1], *packets])) == [0, 1]


def test_gap_larger_than_the_buffer_restarts_assembly() -> None:
    assembler = FrameAssembler(capacity=16)
    packets = stream([1] * 40)
    assert numbers(run(assembler, packets[:2] + packets[30:])) == [0, 1, *range(30, 40)]
    assert assembler.incomplete == 1


def test_buffered_packets_are_bounded() -> None:
    assembler = FrameAssembler(capacity=64)
    packets = stream([1] * 5000)
    del packets[1::70]
    run(assembler, packets)
    assert len(assembler._buffered) <= 64


def test_frame_larger_than_the_limit_is_given_up() -> None:
    assembler, part = FrameAssembler(), bytes(1 << 20)
    for number in range(100):
        assert assembler.add(number, 0, False, payload(part, starts=number == 0, key=True)) == []
        assert sum(map(len, assembler._parts)) <= MAX_BYTES
    assert assembler.incomplete == 1
    after = assembler.add(100, 3000, True, payload(b"x", starts=True))
    assert after == [AssembledFrame(b"x", 3000, False, True)]


@pytest.mark.parametrize("size", [1, 30, 1200, 2000, 60_000])
def test_packets_behind_a_missing_one_take_at_most_8_mib(size: int) -> None:
    """All but one packet arrive, in frames without end, as fast as the sender can."""
    assembler = FrameAssembler()
    tracemalloc.start()
    try:
        for number in range(30_000 if size < 1000 else 6_000):
            if number % 1000 != 1:
                assembler.add(number, 0, False, payload(bytes(size), starts=number % 1000 == 0))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= peak <= MAX_BYTES + (1 << 20)


def test_frames_behind_a_full_buffer_are_delivered() -> None:
    assembler = FrameAssembler()
    assembler.add(0, 0, True, payload(b"x", starts=True))
    for number in range(2, 200):
        assembler.add(number, 3000, False, payload(bytes(60_000), starts=number == 2))
    assert assembler.incomplete > 0
    assembler.add(200, 3000, True, payload(b"x"))
    assert numbers(assembler.add(201, 6000, True, payload(b"x", starts=True))) == [2]


SIZES = st.lists(st.integers(1, 6), min_size=2, max_size=30)


@given(SIZES, st.integers(0, 2**32), st.booleans())
def test_complete_stream_in_any_order_is_delivered_in_order(sizes: list[int], seed: int, starts_shown: bool) -> None:
    """Packets are reordered by up to 10 places and repeated.

    The first packet stays first, because nothing would show that it is not.
    """
    rng = random.Random(seed)
    packets = stream(sizes, starts_shown=starts_shown)
    packets[0] = (*packets[0][:3], payload(packets[0][3].data, starts=True))
    shuffled = [packets[0]]
    keyed = [(at + rng.uniform(0, 10), packet) for at, packet in enumerate(packets[1:])]
    shuffled += [packet for _, packet in sorted(keyed, key=lambda pair: pair[0])]
    repeated = [packet for packet in shuffled for _ in range(rng.choice((1, 1, 2)))]
    assembler = FrameAssembler()
    delivered = run(assembler, repeated)
    assert [p.data for p in delivered] == [bytes([n]) * size for n, size in enumerate(sizes)]
    assert (assembler.incomplete, assembler.blocked) == (0, False)
    assert [p.gap for p in delivered[1:]] == [False] * (len(sizes) - 1)


@given(SIZES, st.sets(st.integers(0, 179)), st.sets(st.integers(0, 29)), st.booleans(), st.booleans())
def test_lost_packets_cost_only_incomplete_frames(
    sizes: list[int], lost: set[int], keys: set[int], starts_shown: bool, marked: bool
) -> None:
    """Delivered frames are complete, in order and unique; gaps are flagged; after the last loss all is delivered."""
    packets = stream([*sizes, 1, 1, 1], keys=keys, starts_shown=starts_shown, marked=marked)
    packets[0] = (*packets[0][:3], payload(packets[0][3].data, starts=True))
    end = sum(sizes)
    arrived = [packet for at, packet in enumerate(packets) if at not in lost or at >= end]
    assembler, delivered = FrameAssembler(), []
    for packet in arrived:
        delivered += assembler.add(*packet)
        if assembler.blocked and packet[0] % 3 == 0:
            delivered += assembler.skip_missing()
    while assembler.blocked:
        delivered += assembler.skip_missing()
    at = numbers(delivered)
    assert at == sorted(set(at))
    assert all(frame.data == bytes([n]) * [*sizes, 1, 1, 1][n] for n, frame in zip(at, delivered, strict=True))
    assert all(frame.gap for frame, n, before in zip(delivered[1:], at[1:], at, strict=False) if n != before + 1), (
        "frames are missing without a gap flag"
    )
    assert at[-1] >= len(sizes) + (1 if marked else 0)
