"""Steps of a script, and the conditions of its expectations. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Step:
    """Base of all steps. ``text`` is the line as written. Times are in seconds; ``None``: the runner's default."""

    line: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Wait(Step):
    peer: str
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class Call(Step):
    peer: str
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExpectConnected(Step):
    peer: str
    timeout: float | None = None


@dataclass(frozen=True)
class Condition:
    """A comparison of a quantity (one of ``VIDEO`` or ``AUDIO``) with a value, such as ``fps>=20``."""

    quantity: str
    operator: str
    value: float

    def holds(self, measured: float) -> bool:
        """Whether ``measured`` meets the condition."""
        match self.operator:
            case ">=":
                return measured >= self.value
            case "<=":
                return measured <= self.value
            case ">":
                return measured > self.value
            case "<":
                return measured < self.value
            case _:
                return measured == self.value

    def __str__(self) -> str:
        unit = "dB" if self.quantity == "level" else ""
        return f"{self.quantity}{self.operator}{self.value:g}{unit}"


@dataclass(frozen=True, kw_only=True)
class ExpectMedia(Step):
    """All ``conditions`` hold for ``window`` seconds within ``timeout`` seconds. ``kind`` is video or audio."""

    kind: str
    peer: str
    conditions: tuple[Condition, ...] = ()
    window: float | None = None
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExpectEnded(Step):
    peer: str
    reason: str | None = None
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot(Step):
    peer: str
    path: str
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class Record(Step):
    peer: str
    path: str
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class HangUp(Step):
    peer: str


@dataclass(frozen=True, kw_only=True)
class Sleep(Step):
    seconds: float


VIDEO: Final = ("fps", "width", "height", "brightness")
"""Quantities of decoded video: frames per second, size in pixels, mean luma from 0 (black) to 255 (white)."""

AUDIO: Final = ("level",)
"""Quantities of decoded audio: RMS level in dB; 0 dB is a full-scale square wave."""
