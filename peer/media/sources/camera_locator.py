"""Which device node is the camera that ``--video`` names. It is looked up at each opening, because a camera that is
plugged in again may get another number.

A camera that delivered once is recognized by its identity: serial number, else model and USB port, else model. If it
is missing, another camera at the same path, or for ``auto`` any other one, is taken only after ``REPLACED_AFTER``.
USB hubs that reset bring their cameras back in any order, and no viewer may see another room for that.

Must never: open a device. Called from the capture thread and, for ``present``, from the event loop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

from peer.errors import MediaError
from peer.media.sources.camera_nodes import CameraNode, list_nodes

REPLACED_AFTER: Final = 10.0
"""Time for which a known camera must be missing before another one takes its place, in seconds."""

ListNodes = Callable[[], list[CameraNode]]


class CameraLocator:
    """Finder of the camera ``target``: a path, a link, a name or a serial number; empty for any camera.

    ``nodes`` returns the device nodes of now, ``clock`` the time in seconds.
    """

    def __init__(
        self, target: str, nodes: ListNodes = list_nodes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._target = target
        self._nodes = nodes
        self._clock = clock
        self._known: CameraNode | None = None
        self._others: frozenset[str] = frozenset()
        """Ports of the other cameras that were there when the known one last delivered."""
        self._missing_since: float | None = None
        self._tried = ""
        """Path of the last attempt, as long as it has not delivered."""
        self.current = ""
        """Path of the device that was opened last."""

    def candidates(self) -> list[str]:
        """Return the paths to open, in this order, until one works.

        Raises:
            MediaError: there is no such camera.
        """
        nodes = self._nodes()
        found = self._recognized(nodes)
        if found or self._awaits_known():
            return [node.path for node in found] or self._nothing()
        named = self._named(nodes)
        # One that was opened and never delivered is tried last: the next one may work.
        return sorted(named, key=lambda path: path == self._tried) or self._nothing()

    def opening(self, path: str) -> None:
        """Note that ``path`` is opened now."""
        self.current = self._tried = path

    def delivers(self, path: str) -> None:
        """Note that ``path`` delivers: from now on this is the camera."""
        real, nodes = os.path.realpath(path), self._nodes()
        self._known = next((node for node in nodes if os.path.realpath(node.path) == real), None)
        self._others = frozenset(node.port for node in nodes if self._known is not None and node != self._known)
        self._missing_since, self._tried = None, ""

    def present(self) -> bool:
        """Whether the camera that delivered last is still there; before that, whether any candidate is."""
        nodes = self._nodes()
        if self._known is not None:
            return bool(self._recognized(nodes))
        return any(os.path.exists(path) for path in self._named(nodes))

    def _recognized(self, nodes: list[CameraNode]) -> list[CameraNode]:
        known = self._known
        if known is None:
            return []
        same = [node for node in nodes if node.is_same_camera(known)]
        if not same and not known.serial:
            same = [node for node in nodes if node.is_same_model(known) and node.port not in self._others]
        if same:
            self._missing_since = None
        return sorted(same, key=lambda node: node.path != known.path)

    def _awaits_known(self) -> bool:
        if self._known is None:
            return False
        if self._missing_since is None:
            self._missing_since = self._clock()
        return self._clock() - self._missing_since < REPLACED_AFTER

    def _named(self, nodes: list[CameraNode]) -> list[str]:
        if not self._target:
            return [node.path for node in nodes]
        if self._target.startswith("/"):
            return [self._target]
        name = self._target.casefold()
        return [node.path for node in nodes if name in (node.name.casefold(), node.serial.casefold())]

    def _nothing(self) -> list[str]:
        hint = "check whether it was unplugged; `peer devices` lists cameras"
        if self._known is not None:
            raise MediaError(self._target or self._known.name, "the device is gone", hint, cause="gone")
        if not self._target:
            raise MediaError(
                "camera", "no camera found", "plug one in; --video test sends a test pattern", cause="missing"
            )
        raise MediaError(
            self._target, "no camera has this name or serial number", "`peer devices` lists cameras", cause="missing"
        )
