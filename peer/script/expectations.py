"""Expectations of a script on video and audio, measured on the decoded frames of a call."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from .steps import Condition, ExpectMedia

if TYPE_CHECKING:
    import av

    from ..media.fanout import Reader

FIRST_FRAME: Final = 5.0
"""Time limit for the first frame if the expectation has no ``within``, in seconds."""

_WINDOWS: Final = {"video": 1.0, "audio": 0.5}
"""Length of a measurement without ``for``, in seconds."""

_CHECK_INTERVAL: Final = 0.1
"""Maximum time between two checks of the conditions while no frame arrives, in seconds."""

_SILENCE_DB: Final = -120.0
"""Level of digital silence, whose logarithm would be infinite."""


class Meter(Protocol):
    """Quantities of decoded frames, measured over a sliding window."""

    def add(self, frame: Any, now: float, dropped: int = 0) -> None:
        """Add a frame decoded at ``now`` (seconds). ``dropped`` counts the frames that the reader lost so far."""

    def read(self, window: float, now: float) -> Mapping[str, float]:
        """Return the quantities over the last ``window`` seconds before ``now``; without frames, some are missing."""


class VideoMeter:
    """Meter of ``fps``, ``width`` and ``height`` in pixels, and ``brightness`` as mean luma, 0 to 255."""

    def __init__(self, *, brightness: bool = True) -> None:
        # time, width, height, luma, and 1 plus the number of frames lost before
        self._frames: deque[tuple[float, int, int, float, int]] = deque()
        self._brightness = brightness
        self._dropped = 0

    def add(self, frame: av.VideoFrame, now: float, dropped: int = 0) -> None:
        """See ``Meter``. The luma is computed only if needed, because it takes a pass over the frame."""
        luma = _luma(frame) if self._brightness else 0.0
        self._frames.append((now, frame.width, frame.height, luma, 1 + dropped - self._dropped))
        self._dropped = dropped

    def read(self, window: float, now: float) -> Mapping[str, float]:
        """See ``Meter``. Without a frame in the window, the result is only that ``fps`` is 0."""
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
    """Meter of ``level``: the root mean square of all channels, in dB below full scale."""

    def __init__(self) -> None:
        self._frames: deque[tuple[float, float, int]] = deque()  # time, energy, number of samples

    def add(self, frame: av.AudioFrame, now: float, dropped: int = 0) -> None:
        """See ``Meter``."""
        samples = frame.to_ndarray()
        scale = 1.0 if samples.dtype.kind == "f" else float(1 << (8 * samples.dtype.itemsize - 1))
        values = samples.astype(np.float64) / scale
        self._frames.append((now, float(np.square(values).sum()), values.size))

    def read(self, window: float, now: float) -> Mapping[str, float]:
        """See ``Meter``. Digital silence is -120 dB; without a frame in the window there is no ``level``."""
        while self._frames and self._frames[0][0] <= now - window:
            self._frames.popleft()
        energy = sum(frame[1] for frame in self._frames)
        count = sum(frame[2] for frame in self._frames)
        if count == 0:
            return {}
        if energy == 0:
            return {"level": _SILENCE_DB}
        return {"level": max(_SILENCE_DB, 10 * math.log10(energy / count))}


def _luma(frame: av.VideoFrame) -> float:
    plane = frame.reformat(format="gray").planes[0]
    memory: npt.NDArray[np.uint8] = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]  # any buffer is accepted
    rows = memory[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)
    return float(rows[:, : plane.width].mean())


async def measure(step: ExpectMedia, reader: Reader[Any]) -> str | None:
    """Read frames until all conditions of ``step`` hold for a whole window.

    Without conditions, one frame is enough. Without ``within`` there is one window, which starts at the first frame.
    In a window without frames, only a condition on ``fps`` can hold: a camera that stopped is not dark.

    Returns:
        ``None``, or the reason of the failure, with the values measured.
    """
    clock = asyncio.get_running_loop().time
    meter: Meter
    if step.kind == "video":
        meter = VideoMeter(brightness=any(condition.quantity == "brightness" for condition in step.conditions))
    else:
        meter = AudioMeter()
    window = (_WINDOWS[step.kind] if step.window is None else step.window) if step.conditions else 0.0
    deadline = clock() + (step.timeout if step.timeout is not None else FIRST_FRAME)
    if not await _read(reader, meter, deadline):
        return "the call ended" if reader.closed else f"no {step.kind} arrived"
    window_full = clock() + window
    if step.timeout is None:
        deadline = window_full
    while True:
        now = clock()
        values = meter.read(window, now) if step.conditions else {}
        if now >= window_full and all(_holds(condition, values) for condition in step.conditions):
            return None
        if now >= deadline:
            if now < window_full:
                return f"less than {window:g} s left to measure"
            return _failure(step.conditions, values, window)
        if not await _read(reader, meter, min(deadline, now + _CHECK_INTERVAL)) and reader.closed:
            return "the call ended"


def _holds(condition: Condition, values: Mapping[str, float]) -> bool:
    return condition.quantity in values and condition.holds(values[condition.quantity])


def _failure(conditions: tuple[Condition, ...], values: Mapping[str, float], window: float) -> str:
    failed = [condition for condition in conditions if not _holds(condition, values)]
    return ", ".join(f"{_value(item, values)} over {window:g} s, expected {item}" for item in failed)


def _value(condition: Condition, values: Mapping[str, float]) -> str:
    if condition.quantity not in values:
        return "nothing arrived"
    unit = " dB" if condition.quantity == "level" else ""
    return f"{condition.quantity} was {round(values[condition.quantity], 1):g}{unit}"


async def _read(reader: Reader[Any], meter: Meter, until: float) -> bool:
    try:
        async with asyncio.timeout_at(until):
            frame = await reader.get()
    except (TimeoutError, StopAsyncIteration):
        return False
    meter.add(frame, asyncio.get_running_loop().time(), reader.dropped)
    return True
