"""The controls of a V4L2 camera (brightness, exposure, focus): listed, and set to what the user wants.

Structures and numbers are those of linux/videodev2.h. Names are those of ``v4l2-ctl``: ``exposure_time_absolute``.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)


def _request(number: int, size: int) -> int:
    return 3 << 30 | size << 16 | ord("V") << 8 | number


_QUERY: Final = struct.Struct("II32siiiiI8x")
_MENU: Final = struct.Struct("=II32s4x")
_VALUE: Final = struct.Struct("Ii")
_G_CTRL: Final = _request(27, _VALUE.size)
_S_CTRL: Final = _request(28, _VALUE.size)
_QUERYCTRL: Final = _request(36, _QUERY.size)
_QUERYMENU: Final = _request(37, _MENU.size)

_NEXT: Final = 1 << 31
"""V4L2_CTRL_FLAG_NEXT_CTRL: the control after the one with this id."""

_UNUSABLE: Final = 0x1 | 0x4 | 0x40
"""V4L2_CTRL_FLAG_DISABLED, READ_ONLY and WRITE_ONLY."""

_TYPES: Final = {1: "int", 2: "bool", 3: "menu", 8: "bitmask", 9: "intmenu"}
"""Types of controls that have a value of 32 bits."""

_MAX_CONTROLS: Final = 256
"""Maximum number of controls read: a broken driver may never end the list."""

_MAX_ITEMS: Final = 64
"""Maximum number of items read of one menu."""

_BOOLEANS: Final = {"true": 1, "on": 1, "yes": 1, "false": 0, "off": 0, "no": 0}


@dataclass(frozen=True, slots=True)
class Control:
    """One control of a camera, and its value now."""

    id: int
    name: str
    kind: str
    """``int``, ``bool``, ``menu``, ``intmenu`` or ``bitmask``."""
    minimum: int
    maximum: int
    step: int
    default: int
    value: int
    items: tuple[tuple[int, str], ...] = ()
    """Number and name of each item of a menu."""

    def parse(self, text: str) -> int:
        """Return the value that ``text`` stands for: a number, true or false, or the name of a menu's item.

        Raises:
            ValueError: it stands for none. The message names the values that exist.
        """
        named = {name.casefold(): number for number, name in self.items}
        if self.kind == "bool":
            named = named | _BOOLEANS
        value = named.get(text.casefold())
        if value is None and re.fullmatch(r"[+-]?\d{1,10}", text):
            value = int(text)
        possible = value is not None and self.minimum <= value <= max(self.maximum, self.minimum)
        if value is None or not possible or (self.items and value not in dict(self.items)):
            raise ValueError(f"{self.name} cannot be {text}; try {self.choices()}")
        return value

    def choices(self) -> str:
        """Return the possible values, for people."""
        if self.items:
            return ", ".join(f"{number} ({name})" for number, name in self.items)
        return "true, false" if self.kind == "bool" else f"{self.minimum} to {self.maximum}"


def list_controls(path: str) -> list[Control]:
    """List the controls of the camera at ``path`` that can be read and set.

    Raises:
        OSError: the device cannot be opened.
    """
    device = _open(path)
    try:
        return _list(device)
    finally:
        os.close(device)


class CameraControls:
    """The controls that the user wants, as pairs of name and value, set at each opening of the camera.

    A camera forgets them when it is unplugged. One that it does not have, or a value that it does not accept, is
    logged once, and the camera works without it.
    """

    def __init__(self, wanted: Sequence[tuple[str, str]]) -> None:
        self._wanted = tuple(wanted)
        self._logged: set[str] = set()

    def apply(self, path: str) -> None:
        """Set the controls of the camera at ``path``. Blocks for some milliseconds per control."""
        if not self._wanted:
            return
        try:
            device = _open(path)
        except OSError:  # reported when the camera is opened to capture
            return
        try:
            problems = self._set_all(path, device)
        finally:
            os.close(device)
        for problem in problems:
            if problem not in self._logged:
                self._logged.add(problem)
                log.warning("%s: %s", path, problem)

    def _set_all(self, path: str, device: int) -> list[str]:
        known = {control.name: control for control in _list(device)}
        problems, failed = [], []
        for name, text in self._wanted:
            control = known.get(name)
            if control is None:
                problems.append(f"it has no control {name}; `peer devices --controls` lists them")
                continue
            try:
                value = control.parse(text)
            except ValueError as problem:
                problems.append(str(problem))
                continue
            if not _set(device, control, value):
                failed.append((control, value))
        # A second time, because a control may wait for another one: exposure_time_absolute for manual auto_exposure.
        refused = [control.name for control, value in failed if not _set(device, control, value)]
        return problems + [f"it does not accept the value of {name} now" for name in refused]


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _list(device: int) -> list[Control]:
    found = []
    number = 0
    for _ in range(_MAX_CONTROLS):
        answer = bytearray(_QUERY.pack(number | _NEXT, 0, b"", 0, 0, 0, 0, 0))
        if not _ask(device, _QUERYCTRL, answer):
            break
        number, kind, label, minimum, maximum, step, default, flags = _QUERY.unpack(answer)
        value = bytearray(_VALUE.pack(number, 0))
        if kind in _TYPES and not flags & _UNUSABLE and _ask(device, _G_CTRL, value):
            items = _items(device, number, _TYPES[kind], minimum, maximum)
            current = _VALUE.unpack(value)[1]
            name = _name(_text(label))
            found.append(Control(number, name, _TYPES[kind], minimum, maximum, step, default, current, items))
    return found


def _items(device: int, number: int, kind: str, minimum: int, maximum: int) -> tuple[tuple[int, str], ...]:
    if kind not in ("menu", "intmenu"):
        return ()
    items = []
    for index in range(max(0, minimum), min(maximum, _MAX_ITEMS - 1) + 1):
        answer = bytearray(_MENU.pack(number, index, b""))
        if _ask(device, _QUERYMENU, answer):  # items may be missing in between
            content = _MENU.unpack(answer)[2]
            items.append((index, _text(content) if kind == "menu" else str(struct.unpack_from("q", content)[0])))
    return tuple(items)


def _set(device: int, control: Control, value: int) -> bool:
    return _ask(device, _S_CTRL, bytearray(_VALUE.pack(control.id, value)))


def _ask(device: int, request: int, answer: bytearray) -> bool:
    """Whether the driver answers the request, in place."""
    try:
        fcntl.ioctl(device, request, answer)
    except OSError as problem:
        if problem.errno == errno.ENODEV:
            raise
        return False
    return True


def _text(label: bytes) -> str:
    return label.split(b"\0")[0].decode(errors="replace").strip()


def _name(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", label.casefold()).strip("_")
