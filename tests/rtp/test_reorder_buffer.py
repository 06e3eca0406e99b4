"""Sound comes out at once, in order, and nothing waits for long for what is lost."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.reorder_buffer import MOST, PATIENCE, Sound, Sounds
from peer.rtp.sequence import Sequence


def run(numbers: list[int], distance: float = 0.02) -> tuple[list[tuple[int, bool]], Sounds]:
    sounds, came = Sounds(), []
    for at, number in enumerate(numbers):
        done = sounds.add(number, number * 960, b"x", at * distance)
        came += [(sound.timestamp // 960, sound.gap) for sound in done]
    return came, sounds


def test_each_packet_comes_out_at_once() -> None:
    sounds = Sounds()
    for number in range(5, 50):
        assert sounds.add(number, number, b"x", 0.0) == [Sound(b"x", number, False)]


def test_what_was_overtaken_is_put_back_in_its_place() -> None:
    came, _ = run([1, 3, 2, 4])
    assert came == [(1, False), (2, False), (3, False), (4, False)]


def test_what_is_lost_is_waited_for_no_longer_than_it_can_be_under_way() -> None:
    came, _ = run([1, 3, 4, 5, 6, 7])
    assert came == [(1, False), (3, True), (4, False), (5, False), (6, False), (7, False)]
    sounds = Sounds()
    sounds.add(1, 1, b"x", 0.0)
    assert sounds.add(3, 3, b"x", 0.02) == []
    assert [sound.timestamp for sound in sounds.add(4, 4, b"x", 0.02 + PATIENCE)] == [3, 4]


def test_too_late_twice_and_padding_are_no_sound() -> None:
    came, sounds = run([1, 2, 2, 1, 3])
    assert [number for number, _ in came] == [1, 2, 3]
    assert sounds.add(4, 9, b"", 1.0) == []
    assert [sound.timestamp for sound in sounds.add(5, 10, b"x", 1.0)] == [10]


def test_a_sender_that_starts_anew_has_lost_nothing() -> None:
    sequence = Sequence()
    numbers = [sequence.extend(number) for number in (1, 2, 3, 40_000, 40_001, 40_002, 40_003, 40_004, 40_005)]
    came, sounds = run([number for number in numbers if number is not None])
    assert len(came) == 8
    assert [gap for _, gap in came].count(True) == 1
    assert sounds.lost == 0


@given(st.integers(0, 2**32), st.integers(2, 400))
def test_after_an_hour_of_loss_and_disorder_no_more_waits_than_before(seed: int, count: int) -> None:
    chance = random.Random(seed)
    sent = [(at + chance.choice((0, 0, 0, 1.5, 2.5)), at) for at in range(count) if at == 0 or chance.random() > 0.1]
    came, sounds = run([number for _, number in sorted(sent)])
    numbers = [number for number, _ in came]
    assert numbers == sorted(set(numbers))
    assert len(sounds._waiting) <= MOST
    assert len(numbers) >= len(sent) - MOST - count // 5
    gaps = [later for (sooner, _), (later, _) in itertools.pairwise(came) if later != sooner + 1]
    assert [number for number, gap in came if gap] == gaps
    assert sounds.lost == numbers[-1] + 1 - numbers[0] - len(numbers)
