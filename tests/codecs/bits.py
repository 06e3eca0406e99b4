"""Writing of fixed-length and Exp-Golomb codes."""

from __future__ import annotations


def ue(value: int) -> str:
    """Return the unsigned Exp-Golomb code, as digits."""
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def se(value: int) -> str:
    """Return the signed Exp-Golomb code, as digits."""
    return ue(2 * value - 1 if value > 0 else -2 * value)


def to_bytes(bits: str) -> bytes:
    """Return the bits as bytes, padded with zeros."""
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)
