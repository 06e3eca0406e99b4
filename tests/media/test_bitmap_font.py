"""Letters made of dots."""

from __future__ import annotations

import numpy as np

from peer.media.bitmap_font import draw_text, text_mask


def test_letters_are_what_they_look_like() -> None:
    picture = ["".join(".#"[dot] for dot in row) for row in text_mask("T1")]
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
    assert np.array_equal(text_mask("ab"), text_mask("AB"))
    assert not text_mask("€").any()
    assert text_mask("").shape == (8, 6)


def test_what_does_not_fit_is_cut_off() -> None:
    plane = np.zeros((10, 10), np.uint8)
    draw_text(plane, "WIDE", top=5, left=7, scale=3, value=200)
    assert plane[5:, 7:].any()
    assert not plane[:5].any()
