"""The bitmap font."""

from __future__ import annotations

import numpy as np

from peer.media.bitmap_font import draw_text, text_mask


def test_text_mask_has_the_shape_of_the_letters() -> None:
    rows = ["".join(".#"[dot] for dot in row) for row in text_mask("T1")]
    assert rows == [
        "#####...#...",
        "..#....##...",
        "..#.....#...",
        "..#.....#...",
        "..#.....#...",
        "..#.....#...",
        "..#....###..",
        "............",
    ]


def test_text_mask_lower_case_is_upper_and_unknown_is_blank() -> None:
    assert np.array_equal(text_mask("ab"), text_mask("AB"))
    assert not text_mask("€").any()
    assert text_mask("").shape == (8, 6)


def test_draw_text_is_cropped_at_the_edges() -> None:
    plane = np.zeros((10, 10), np.uint8)
    draw_text(plane, "WIDE", top=5, left=7, scale=3, value=200)
    assert plane[5:, 7:].any()
    assert not plane[:5].any()
