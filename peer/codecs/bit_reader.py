"""Reader for the bits of a parameter set or slice header (ITU-T H.264 7.2, 9.1; the same in H.265). Pure."""

from __future__ import annotations


class BitReader:
    """A reader of an RBSP, from its first bit. Every method raises ``ValueError`` at the end of the data."""

    def __init__(self, rbsp: bytes) -> None:
        self._value = int.from_bytes(rbsp)
        self._remaining = len(rbsp) * 8

    def read(self, count: int) -> int:
        """Read ``count`` bits as an unsigned integer, u(n)."""
        if count > self._remaining:
            raise ValueError("truncated bitstream")
        self._remaining -= count
        return self._value >> self._remaining & (1 << count) - 1

    def read_ue(self) -> int:
        """Read an unsigned Exp-Golomb code, ue(v)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("Exp-Golomb code longer than 32 bits")
        return (1 << zeros) - 1 + self.read(zeros)

    def read_se(self) -> int:
        """Read a signed Exp-Golomb code, se(v)."""
        code = self.read_ue()
        return (code + 1) // 2 if code % 2 else -code // 2


def unescape(data: bytes) -> bytes:
    """Return the RBSP: ``data`` without emulation prevention bytes (ITU-T H.264 7.4.1)."""
    return data.replace(b"\0\0\3", b"\0\0")
