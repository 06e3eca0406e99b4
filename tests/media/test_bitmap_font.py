"""Letters made of dots."""

from __future__ import annotations

import numpy as np

from peer.media.bitmap_font import dots, write


def test_letters_are_what_they_look_like() -> None:
    picture = ["".join(".#"[dot] for dot in row) for row in dots("T1")]
    assert picture == [
        "#####...#...",
        "..#....##...",
        "..#.....#...",
        "..#.....#...",
        "..#.....#...",
        "..#.....#...",
        "..#....###..",
        "............",
    ]


def test_small_letters_are_written_large_and_unknown_ones_are_blank() -> None:
    assert np.array_equal(dots("ab"), dots("AB"))
    assert not dots("€").any()
    assert dots("").shape == (8, 6)


def test_what_does_not_fit_is_cut_off() -> None:
    plane = np.zeros((10, 10), np.uint8)
    write(plane, "WIDE", top=5, left=7, scale=3, ink=200)
    assert plane[5:, 7:].any()
    assert not plane[:5].any()
