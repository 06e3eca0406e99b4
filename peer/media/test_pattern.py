"""The test pattern and test tone of the ``test`` source, from which latency, loss and lip sync can be measured.

The format of the pattern:

- Frame ``n`` has the capture time ``n / fps`` of ``media_time()``. The frame counter therefore never goes back while
  the program runs, even when the source is closed and opened again.
- The upper two fifths hold a code of 16 x 5 blocks, row by row, most significant bit first; white is 1. It encodes
  the frame counter (32 bits, as a Gray code, so that counting flips one block), the sender's Unix time in
  milliseconds at which the frame was drawn (32 bits, modulo 2**32), and a CRC-16 of both. A torn or blurred frame
  therefore cannot be read, instead of being read wrongly.
- In the first tenth of each second of ``media_time()`` the panel in the lower right corner is white (the flash), and
  a beep of 2 kHz is added to the tone of 440 Hz. Flash and beep start at the same time.
"""

from __future__ import annotations

import binascii
import time
from dataclasses import dataclass
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

from peer.media import bitmap_font
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, AUDIO_TIME_BASE
from peer.media.picture import from_i420

TONE: Final = 440
"""Frequency of the continuous tone, in Hz; its level is -20 dB of full scale."""

BEEP: Final = 2_000
"""Frequency of the beep, in Hz, at -9 dB. It sounds in the first ``FLASH`` seconds of each second."""

FLASH: Final = 0.1
"""Duration of flash and beep, in seconds."""

_COLUMNS: Final = 16
_ROWS: Final = 5
_CODE_BOTTOM: Final = 0.4
_TEXT_TOP: Final = 0.42
_BARS_TOP, _BARS_BOTTOM = 0.54, 0.80
_TRACK_TOP, _TRACK_BOTTOM, _TRACK_RIGHT = 0.84, 0.96, 0.72
_PANEL_LEFT: Final = 0.76

_BLACK, _DARK, _WHITE = 24, 48, 224
"""Luma levels, within the limited range of 16 to 235."""

_SWEEP: Final = 2.0
"""Time that the moving block takes from left to right, in seconds."""

_BARS: Final = (
    (180, 128, 128),
    (162, 44, 142),
    (131, 156, 44),
    (112, 72, 58),
    (84, 184, 198),
    (65, 100, 212),
    (35, 212, 114),
)
"""The 75% color bars as Y, Cb, Cr (ITU-R BT.601): white, yellow, cyan, green, magenta, red, blue."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class PatternReading:
    """The contents of one frame of the pattern."""

    frame: int
    """Frame counter, modulo 2**32."""
    clock: int
    """The sender's Unix time at which the frame was drawn, in milliseconds modulo 2**32."""
    flash: bool
    """Whether the panel is white, as in the first tenth of each second."""

    def age(self, now: float | None = None) -> float:
        """Return the frame's age in seconds at Unix time ``now``. Sender and reader must share one clock."""
        milliseconds = round((time.time() if now is None else now) * 1000) - self.clock
        return ((milliseconds + 2**31) % 2**32 - 2**31) / 1000


class Pattern:
    """The pattern at ``width`` x ``height`` (even) and ``fps``. The static parts are drawn once."""

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.width, self.height, self.fps = width, height, fps
        self._background = self._draw_background()
        self._edges_x = np.linspace(0, width, _COLUMNS + 1).astype(int)
        self._edges_y = np.linspace(0, height * _CODE_BOTTOM, _ROWS + 1).astype(int)

    def draw(self, frame: int, clock: int | None = None) -> av.VideoFrame:
        """Return frame number ``frame`` in yuv420p, captured at ``frame / fps``, with ``clock`` (default: now)."""
        if clock is None:
            clock = time.time_ns() // 1_000_000
        planes = self._background.copy()
        luma = planes[: self.height]
        self._draw_code(luma, _code_bits(frame, clock))
        self._draw_text(luma, frame, clock)
        self._draw_motion(luma, frame)
        return from_i420(planes, frame / self.fps)

    def _draw_background(self) -> Array:
        width, height = self.width, self.height
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        luma = planes[:height]
        luma[:] = _DARK
        # I420 is three planes in sequence; the chroma planes have half the width and height.
        chroma = planes[height:].reshape(2, height // 2, width // 2)
        top, bottom = int(height * _BARS_TOP), int(height * _BARS_BOTTOM)
        edges = np.linspace(0, width, len(_BARS) + 1).astype(int)
        for (y, cb, cr), left, right in zip(_BARS, edges[:-1], edges[1:], strict=True):
            luma[top:bottom, left:right] = y
            for plane, level in zip(chroma, (cb, cr), strict=True):
                plane[top // 2 : bottom // 2, left // 2 : right // 2] = level
        return planes

    def _draw_code(self, luma: Array, bits: Array) -> None:
        levels = np.where(bits, np.uint8(_WHITE), np.uint8(_BLACK)).reshape(_ROWS, _COLUMNS)
        across = np.repeat(levels, np.diff(self._edges_x), axis=1)
        for row, top, bottom in zip(across, self._edges_y[:-1], self._edges_y[1:], strict=True):
            luma[top:bottom] = row

    def _draw_text(self, luma: Array, frame: int, clock: int) -> None:
        seconds, milliseconds = divmod(clock, 1000)
        wall = time.strftime("%H:%M:%S", time.localtime(seconds))
        text = f"{frame:07d} {wall}.{milliseconds:03d}"
        by_height = self.height // 10 // bitmap_font.CELL_HEIGHT
        by_width = self.width // (bitmap_font.CELL_WIDTH * (len(text) + 1))
        scale = max(1, min(by_height, by_width))
        top, left = int(self.height * _TEXT_TOP), bitmap_font.CELL_WIDTH * scale // 2
        bitmap_font.draw_text(luma, text, top=top, left=left, scale=scale, value=_WHITE)

    def _draw_motion(self, luma: Array, frame: int) -> None:
        capture_time = frame / self.fps
        rows = slice(int(self.height * _TRACK_TOP), int(self.height * _TRACK_BOTTOM))
        size = self.width // _COLUMNS
        left = int(capture_time % _SWEEP / _SWEEP * (self.width * _TRACK_RIGHT - size))
        luma[rows, left : left + size] = _WHITE
        luma[rows, int(self.width * _PANEL_LEFT) :] = _WHITE if capture_time % 1 < FLASH - 1e-6 else _BLACK


def _code_bits(frame: int, clock: int) -> Array:
    """Return the 80 bits of the code as an array of zeros and ones."""
    frame %= 2**32
    body = (frame ^ frame >> 1).to_bytes(4, "big") + (clock % 2**32).to_bytes(4, "big")
    return np.unpackbits(np.frombuffer(body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big"), np.uint8))


def read_pattern(image: Array) -> PatternReading | None:
    """Read a complete frame of the pattern at any scale. Return ``None`` if it is torn or shows something else.

    Args:
        image: gray (height, width) or color (height, width, channels), 0 to 255.
    """
    height, width = image.shape[:2]
    if width < _COLUMNS * 4 or height < _ROWS * 10:
        return None
    block_height, block_width = _CODE_BOTTOM / _ROWS, 1 / _COLUMNS
    blocks = [
        _mean(image, (row + 0.5) * block_height, (column + 0.5) * block_width, block_height, block_width)
        for row in range(_ROWS)
        for column in range(_COLUMNS)
    ]
    darkest, brightest = min(blocks), max(blocks)
    if brightest - darkest < (_WHITE - _BLACK) / 4:
        return None
    threshold = (darkest + brightest) / 2
    data = np.packbits(np.array(blocks) > threshold).tobytes()
    body, checksum = data[:8], int.from_bytes(data[8:], "big")
    if binascii.crc_hqx(body, 0xFFFF) != checksum:
        return None
    panel = _mean(image, (_TRACK_TOP + _TRACK_BOTTOM) / 2, (1 + _PANEL_LEFT) / 2, 0.1, 0.2)
    frame, clock = _from_gray(int.from_bytes(body[:4], "big")), int.from_bytes(body[4:], "big")
    return PatternReading(frame, clock, flash=panel > threshold)


def _mean(image: Array, y: float, x: float, block_height: float, block_width: float) -> float:
    """Return the mean level of the inner half of the block around (x, y). Arguments are fractions of the image."""
    height, width = image.shape[:2]
    top, bottom = int((y - block_height / 4) * height), int(np.ceil((y + block_height / 4) * height))
    left, right = int((x - block_width / 4) * width), int(np.ceil((x + block_width / 4) * width))
    return float(image[top:bottom, left:right].mean())


def _from_gray(value: int) -> int:
    for shift in (16, 8, 4, 2, 1):
        value ^= value >> shift
    return value


def _synthesize_tone() -> Array:
    """Return one second of the tone, (48000, 2) s16. It repeats seamlessly: both frequencies are integers in Hz."""
    time = np.arange(AUDIO_RATE) / AUDIO_RATE
    ramp = 0.001
    envelope = np.clip(np.minimum(time / ramp, (FLASH - time) / ramp), 0, 1)
    wave = 0.1 * np.sin(2 * np.pi * TONE * time) + 0.35 * envelope * np.sin(2 * np.pi * BEEP * time)
    return np.repeat((wave * 32767).astype(np.int16)[:, np.newaxis], 2, axis=1)


_ONE_SECOND: Final = _synthesize_tone()


def tone_frame(pts: int) -> av.AudioFrame:
    """Return the 20 ms of the tone that start at sample ``pts`` of ``media_time()``, a multiple of 960."""
    start = pts % AUDIO_RATE
    frame = av.AudioFrame.from_ndarray(
        _ONE_SECOND[start : start + AUDIO_FRAME_SAMPLES].reshape(1, -1), format="s16", layout="stereo"
    )
    frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, pts, AUDIO_TIME_BASE
    return frame


def dominant_frequency(samples: Array, rate: int = AUDIO_RATE) -> float:
    """Return the strongest frequency of mono ``samples`` in Hz, or 0.0 for silence. Half a second resolves 1 Hz."""
    signal = np.asarray(samples, np.float64).ravel()
    if signal.size < 16 or not np.any(signal - signal.mean()):
        return 0.0
    padded = max(signal.size, rate)
    spectrum = np.abs(np.fft.rfft((signal - signal.mean()) * np.hanning(signal.size), padded))
    return float(np.argmax(spectrum) * rate / padded)


def beep_onsets(samples: Array, rate: int = AUDIO_RATE) -> list[float]:
    """Return where beeps start in mono ``samples``, in seconds from the first sample, accurate to some 2 ms."""
    signal = np.asarray(samples, np.float64).ravel()
    window = rate // 100
    if signal.size < 4 * window:
        return []
    wave = signal * np.exp(-2j * np.pi * BEEP * np.arange(signal.size) / rate)
    level = np.abs(np.convolve(wave, np.hanning(window) / window, mode="same"))
    loud = level > level.max() / 2
    if level.max() < 8 * np.median(level) or level.max() < signal.std() / 5 or level.max() == 0:
        return []
    rises = (np.flatnonzero(loud[1:] & ~loud[:-1]) + 1).tolist()
    onsets: list[float] = []
    for rise in rises:
        if not onsets or rise / rate - onsets[-1] > 0.5:
            onsets.append(rise / rate)
    return onsets
