"""What a script can expect of pictures and sound, measured on what was really decoded.

``measure`` reads the decoded frames of a call until a whole window of them meets every condition.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from .language import Condition, ExpectMedia

if TYPE_CHECKING:
    import av

    from ..media.fanout import Reader

FIRST_FRAME: Final = 5.0
"""Seconds an expectation without ``within`` waits for the first frame before it gives up."""

_WINDOWS: Final = {"video": 1.0, "audio": 0.5}
"""Seconds measured when the script does not say ``for``."""

_TICK: Final = 0.1
_SILENCE_DB: Final = -120.0


class Meter(Protocol):
    """Takes frames as they come, and tells their quantities over the last ``window`` seconds."""

    def add(self, frame: Any, now: float, dropped: int = 0) -> None:
        """One more decoded frame, at ``now`` seconds; ``dropped`` were missed so far: we were not fast enough."""

    def read(self, window: float, now: float) -> Mapping[str, float]:
        """The quantities over ``window`` seconds until ``now``, without those that nothing came to measure on."""


class VideoMeter:
    """fps, width and height in pixels, brightness as mean luma, 0 to 255."""

    def __init__(self, *, brightness: bool = True) -> None:
        self._frames: deque[tuple[float, int, int, float, int]] = deque()  # the last: it, and those before we missed
        self._brightness = brightness
        self._dropped = 0

    def add(self, frame: av.VideoFrame, now: float, dropped: int = 0) -> None:
        """See ``Meter``. Brightness is looked at only where it was asked for: it costs a pass over the picture."""
        luma = _luma(frame) if self._brightness else 0.0
        self._frames.append((now, frame.width, frame.height, luma, 1 + dropped - self._dropped))
        self._dropped = dropped

    def read(self, window: float, now: float) -> Mapping[str, float]:
        """See ``Meter``. Without a frame in the window there is no more to say than that fps is 0."""
        while self._frames and self._frames[0][0] <= now - window:
            self._frames.popleft()
        if not self._frames:
            return {"fps": 0.0}
        _, width, height, _, _ = self._frames[-1]
        mean = sum(item[3] for item in self._frames) / len(self._frames)
        return {
            "fps": sum(item[4] for item in self._frames) / window,
            "width": width,
            "height": height,
            "brightness": mean,
        }


class AudioMeter:
    """level: root mean square of all channels, in dB below full scale."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[float, float, int]] = deque()

    def add(self, frame: av.AudioFrame, now: float, dropped: int = 0) -> None:
        """See ``Meter``."""
        samples = frame.to_ndarray()
        scale = 1.0 if samples.dtype.kind == "f" else float(1 << (8 * samples.dtype.itemsize - 1))
        values = samples.astype(np.float64) / scale
        self._blocks.append((now, float(np.square(values).sum()), values.size))

    def read(self, window: float, now: float) -> Mapping[str, float]:
        """See ``Meter``. Silence is -120 dB; where no sound came, not even silence did."""
        while self._blocks and self._blocks[0][0] <= now - window:
            self._blocks.popleft()
        energy = sum(block[1] for block in self._blocks)
        count = sum(block[2] for block in self._blocks)
        if count == 0:
            return {}
        if energy == 0:
            return {"level": _SILENCE_DB}
        return {"level": max(_SILENCE_DB, 10 * math.log10(energy / count))}


def _luma(frame: av.VideoFrame) -> float:
    plane = frame.reformat(format="gray").planes[0]
    memory: npt.NDArray[np.uint8] = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]  # a buffer it is
    rows = memory[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)
    return float(rows[:, : plane.width].mean())


async def measure(step: ExpectMedia, reader: Reader[Any]) -> str | None:
    """Read frames until ``step`` holds; ``None``, or in words what was measured instead.

    Without conditions one frame is enough. Without ``within`` there is one window, from the first frame on. A
    window that no frame came in meets no condition but those on fps: a camera that died is not dark.
    """
    clock = asyncio.get_running_loop().time
    meter: Meter
    if step.kind == "video":
        meter = VideoMeter(brightness=any(condition.quantity == "brightness" for condition in step.conditions))
    else:
        meter = AudioMeter()
    window = (_WINDOWS[step.kind] if step.window is None else step.window) if step.conditions else 0.0
    deadline = clock() + (step.timeout if step.timeout is not None else FIRST_FRAME)
    if not await _take(reader, meter, deadline):
        return "the call ended" if reader.closed else f"no {step.kind} came"
    full = clock() + window
    if step.timeout is None:
        deadline = full
    while True:
        now = clock()
        values = meter.read(window, now) if step.conditions else {}
        if now >= full and all(_holds(condition, values) for condition in step.conditions):
            return None
        if now >= deadline:
            return (
                _report(step.conditions, values, window) if full <= now else f"no {window:g} s were left to measure"
            )
        if not await _take(reader, meter, min(deadline, now + _TICK)) and reader.closed:
            return "the call ended"


def _holds(condition: Condition, values: Mapping[str, float]) -> bool:
    return condition.quantity in values and condition.holds(values[condition.quantity])


def _report(conditions: tuple[Condition, ...], values: Mapping[str, float], window: float) -> str:
    broken = [condition for condition in conditions if not _holds(condition, values)]
    return ", ".join(f"{_value(item, values)} over {window:g} s, expected {item}" for item in broken)


def _value(condition: Condition, values: Mapping[str, float]) -> str:
    if condition.quantity not in values:
        return "nothing came"
    unit = " dB" if condition.quantity == "level" else ""
    return f"{condition.quantity} was {round(values[condition.quantity], 1):g}{unit}"


async def _take(reader: Reader[Any], meter: Meter, until: float) -> bool:
    try:
        async with asyncio.timeout_at(until):
            frame = await reader.get()
    except (TimeoutError, StopAsyncIteration):
        return False
    meter.add(frame, asyncio.get_running_loop().time(), reader.dropped)
    return True
