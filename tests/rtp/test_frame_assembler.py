"""Pictures: whatever the network does, whole ones come out, once, in order, and with their last packet."""

from __future__ import annotations

import random
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.depacketizer import Piece
from peer.rtp.frame_assembler import MAX_OCTETS, Picture, Pictures

Packet = tuple[int, int, bool, Piece]
"""Extended number, timestamp, marker, piece."""


def piece(data: bytes, *, starts: bool = False, key: bool = False) -> Piece:
    return Piece(data, starts, key)


def stream(sizes: list[int], *, keys: Iterable[int] = (), marked: bool = True, tells: bool = True) -> list[Packet]:
    """Pictures of so many packets each; picture n has the timestamp 3000 n, and consists of the octets n."""
    packets: list[Packet] = []
    for n, size in enumerate(sizes):
        for part in range(size):
            first = part == 0
            held = piece(bytes([n % 256]), starts=first and tells, key=first and n in keys)
            packets.append((70_000 + len(packets), 3000 * n, marked and part == size - 1, held))
    return packets


def run(pictures: Pictures, packets: list[Packet]) -> list[Picture]:
    return [picture for packet in packets for picture in pictures.add(*packet)]


def numbers(pictures: list[Picture]) -> list[int]:
    return [picture.timestamp // 3000 for picture in pictures]


def test_a_picture_comes_out_with_its_last_packet() -> None:
    pictures = Pictures()
    first, second = stream([2])
    assert pictures.add(*first) == []
    (picture,) = pictures.add(*second)
    assert picture == Picture(b"\0\0", 0, False, True), "what was before it we have not seen"


def test_the_middle_of_a_picture_is_no_beginning() -> None:
    assert numbers(run(Pictures(), stream([3, 2])[1:])) == [1]


def test_a_sender_without_markers_gets_its_pictures_out_one_later() -> None:
    assert numbers(run(Pictures(), stream([2, 1, 3], marked=False))) == [0, 1]


def test_packets_in_any_order_make_the_same_picture() -> None:
    packets = stream([1, 3])
    assert run(Pictures(), [packets[0], packets[3], packets[2]]) == [Picture(b"\0", 0, False, True)]
    (_, picture) = run(Pictures(), [packets[0], packets[3], packets[2], packets[1]])
    assert picture == Picture(b"\1\1\1", 3000, False, False)


def test_pictures_behind_a_gap_come_out_when_it_is_filled() -> None:
    pictures = Pictures()
    one, lost, three, four = stream([1, 1, 1, 1])
    assert numbers(run(pictures, [one, three, four])) == [0]
    assert pictures.blocked and pictures.next == lost[0]
    assert numbers(pictures.add(*lost)) == [1, 2, 3]
    assert not pictures.blocked


def test_what_is_missing_is_given_up_with_its_picture_and_the_rest_stays() -> None:
    packets = stream([1, 3, 2])
    del packets[2]
    pictures = Pictures()
    assert numbers(run(pictures, packets)) == [0]
    (picture,) = pictures.skip()
    assert picture == Picture(b"\2\2", 6000, False, True)
    assert pictures.torn == 1
    assert pictures.skip() == [], "nothing is missing now"


def test_without_a_sure_beginning_the_picture_behind_a_gap_is_left_out() -> None:
    pictures = Pictures()
    packets = [(n, time, mark, piece(b"x", starts=n == 70_000)) for n, time, mark, _ in stream([1, 1, 2, 1])]
    del packets[1]
    run(pictures, packets)
    assert numbers(pictures.skip()) == [3]


def test_a_whole_key_frame_behind_a_gap_is_not_held_up() -> None:
    pictures = Pictures()
    packets = stream([1, 2, 3, 1], keys={0, 2})
    del packets[1]
    assert numbers(run(pictures, packets[:4])) == [0]
    assert [(p.timestamp, p.key, p.gap) for p in pictures.add(*packets[4])] == [(6000, True, True)]
    assert numbers(pictures.add(*packets[5])) == [3]
    assert not pictures.blocked


def test_padding_is_no_picture_and_tears_none() -> None:
    pictures = Pictures()
    one, two, three, four = stream([1, 1, 1, 1])
    padding = (two[0], one[1], False, piece(b""))  # RTX probes and padding carry the last timestamp
    assert numbers(run(pictures, [one, padding, three, four])) == [0, 2, 3]


def test_what_comes_twice_or_too_late_is_left_out() -> None:
    pictures = Pictures()
    packets = stream([2, 2])
    assert numbers(run(pictures, [packets[0], packets[0], *packets, packets[1], *packets])) == [0, 1]


def test_a_gap_larger_than_the_buffer_starts_anew() -> None:
    pictures = Pictures(capacity=16)
    packets = stream([1] * 40)
    assert numbers(run(pictures, packets[:2] + packets[30:])) == [0, 1, *range(30, 40)]
    assert pictures.torn == 1


def test_what_waits_is_bounded() -> None:
    pictures = Pictures(capacity=64)
    packets = stream([1] * 5000)
    del packets[1::70]
    run(pictures, packets)
    assert len(pictures._waiting) <= 64


def test_a_picture_without_end_is_given_up() -> None:
    pictures, part = Pictures(), bytes(1 << 20)
    for number in range(100):
        assert pictures.add(number, 0, False, piece(part, starts=number == 0, key=True)) == []
        assert sum(map(len, pictures._parts)) <= MAX_OCTETS
    assert pictures.torn == 1
    after = pictures.add(100, 3000, True, piece(b"x", starts=True))
    assert after == [Picture(b"x", 3000, False, True)]


SIZES = st.lists(st.integers(1, 6), min_size=2, max_size=30)


@given(SIZES, st.integers(0, 2**32), st.booleans())
def test_all_that_comes_in_whatever_order_comes_out_in_order(sizes: list[int], seed: int, tells: bool) -> None:
    """Reordered by up to 10 packets and repeated; the first packet comes first: nothing tells that it is not."""
    chance = random.Random(seed)
    packets = stream(sizes, tells=tells)
    packets[0] = (*packets[0][:3], piece(packets[0][3].data, starts=True))
    shuffled = [packets[0]]
    keyed = [(at + chance.uniform(0, 10), packet) for at, packet in enumerate(packets[1:])]
    shuffled += [packet for _, packet in sorted(keyed, key=lambda pair: pair[0])]
    repeated = [packet for packet in shuffled for _ in range(chance.choice((1, 1, 2)))]
    pictures = Pictures()
    came = run(pictures, repeated)
    assert [p.data for p in came] == [bytes([n]) * size for n, size in enumerate(sizes)]
    assert (pictures.torn, pictures.blocked) == (0, False)
    assert [p.gap for p in came[1:]] == [False] * (len(sizes) - 1)


@given(SIZES, st.sets(st.integers(0, 179)), st.sets(st.integers(0, 29)), st.booleans(), st.booleans())
def test_what_is_lost_costs_only_whole_pictures(
    sizes: list[int], lost: set[int], keys: set[int], tells: bool, marked: bool
) -> None:
    """Whatever comes out is whole, in order and once; one after a loss says so; all is well again afterwards."""
    packets = stream([*sizes, 1, 1, 1], keys=keys, tells=tells, marked=marked)
    packets[0] = (*packets[0][:3], piece(packets[0][3].data, starts=True))
    end = sum(sizes)
    arrived = [packet for at, packet in enumerate(packets) if at not in lost or at >= end]
    pictures, came = Pictures(), []
    for packet in arrived:
        came += pictures.add(*packet)
        if pictures.blocked and packet[0] % 3 == 0:
            came += pictures.skip()
    while pictures.blocked:
        came += pictures.skip()
    at = numbers(came)
    assert at == sorted(set(at))
    assert all(picture.data == bytes([n]) * [*sizes, 1, 1, 1][n] for n, picture in zip(at, came, strict=True))
    assert all(picture.gap for picture, n, before in zip(came[1:], at[1:], at, strict=False) if n != before + 1), (
        "pictures are missing, and nothing says so"
    )
    assert at[-1] >= len(sizes) + (1 if marked else 0)
