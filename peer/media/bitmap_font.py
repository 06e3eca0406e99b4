"""A 5 by 7 bitmap font for text in generated video frames, so that no drawing library is needed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

_COLUMNS: Final = {
    " ": "0000000000", "-": "0808080808", ".": "0060600000", ":": "0036360000", "/": "2010080402",
    "0": "3E5149453E", "1": "00427F4000", "2": "4261514946", "3": "2141454B31", "4": "1814127F10",
    "5": "2745454539", "6": "3C4A494930", "7": "0171090503", "8": "3649494936", "9": "064949291E",
    "A": "7E1111117E", "B": "7F49494936", "C": "3E41414122", "D": "7F4141221C", "E": "7F49494941",
    "F": "7F09090901", "G": "3E4149497A", "H": "7F0808087F", "I": "00417F4100", "J": "2040413F01",
    "K": "7F08142241", "L": "7F40404040", "M": "7F020C027F", "N": "7F0408107F", "O": "3E4141413E",
    "P": "7F09090906", "Q": "3E4151215E", "R": "7F09192946", "S": "4649494931", "T": "01017F0101",
    "U": "3F4040403F", "V": "1F2040201F", "W": "3F4038403F", "X": "6314081463", "Y": "0708700807",
    "Z": "6151494543",
}  # fmt: skip
"""Five columns per letter, two hex digits per column, lowest bit on top."""

CELL_HEIGHT: Final = 8
"""Height of a line in dots, including the empty row below."""

CELL_WIDTH: Final = 6
"""Width of a letter in dots, including the empty column after it."""


def _glyph(columns: str) -> npt.NDArray[np.uint8]:
    bits = np.frombuffer(bytes.fromhex(columns) + b"\0", np.uint8)
    return np.unpackbits(bits[np.newaxis, :], axis=0, bitorder="little")


_GLYPHS: Final = {letter: _glyph(columns) for letter, columns in _COLUMNS.items()}


def text_mask(text: str) -> npt.NDArray[np.uint8]:
    """Return ``text`` as a mask of ones and zeros, shape (8, 6 * letters). Unsupported letters are blank."""
    return np.concatenate([_GLYPHS.get(letter, _GLYPHS[" "]) for letter in text.upper()] or [_GLYPHS[" "]], axis=1)


def draw_text(plane: npt.NDArray[Any], text: str, *, top: int, left: int, scale: int, value: int) -> None:
    """Draw ``text`` into ``plane`` in ``value``, ``scale`` pixels per dot. Text is cropped at the edges."""
    mask = text_mask(text).repeat(scale, axis=0).repeat(scale, axis=1)
    target = plane[top : top + mask.shape[0], left : left + mask.shape[1]]
    target[mask[: target.shape[0], : target.shape[1]] == 1] = value
