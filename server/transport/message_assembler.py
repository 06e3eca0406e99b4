"""Messages that arrive in several frames, or as binary (RFC 6455, section 5.4). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from websockets.frames import Frame, Opcode


@dataclass(frozen=True, slots=True)
class Assembled:
    """A complete message, or the error code and the text of the ``error`` that answers it."""

    data: bytes = b""
    rejection: tuple[str, str] | None = None


class MessageAssembler:
    """The message of one client that is incomplete, if there is one. Holds at most as many bytes as it may have."""

    __slots__ = ("_data", "_opcode", "_too_large")

    def __init__(self) -> None:
        self._data = bytearray()
        self._opcode = Opcode.TEXT
        self._too_large = False

    def __len__(self) -> int:
        """Size of the parts held, in bytes."""
        return len(self._data)

    def add(self, frame: Frame, limit: int, *, too_large: bool = False) -> Assembled | None:
        """Add a text, binary or continuation frame. Return the message that it completes, if it does.

        Args:
            limit: maximum size of the message, in bytes. A larger one is discarded as it arrives.
            too_large: whether the frame had more payload than ``frame.data``, which was discarded.
        """
        if frame.opcode is not Opcode.CONT:
            self._opcode, self._too_large = frame.opcode, False
        self._data += frame.data
        if too_large or self._too_large or len(self._data) > limit:
            self._too_large = True
            self._data.clear()
        if not frame.fin:
            return None
        data = bytes(self._data)
        self._data.clear()
        if self._too_large:
            return Assembled(rejection=("too-large", f"the message is larger than {limit} bytes"))
        if self._opcode is Opcode.BINARY:
            return Assembled(rejection=("bad-message", "messages must be text, not binary"))
        return Assembled(data)

    def discard(self) -> None:
        """Discard the parts held."""
        self._data.clear()
