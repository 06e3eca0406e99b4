"""``peer`` as a process of its own: started, read line by line with a deadline, signalled, and never left behind."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from types import TracebackType
from typing import Any

DEADLINE = 20.0
"""Seconds for anything that is waited for; a loaded machine needs a second or two."""

QUIET = ("--video", "none", "--audio", "none", "--speaker", "none", "--no-show")
"""Options of a peer that only looks and listens, without a device."""

TEST = ("--video", "test", "--audio", "test", "--speaker", "none", "--no-show", "--size", "320x240", "--fps", "15")


class Program:
    """``peer ARGS`` running. ``events`` gathers what it wrote as JSON, ``text`` what was none."""

    def __init__(self, *args: str, script: str = "") -> None:
        self.events: list[dict[str, Any]] = []
        self.text: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stderr = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "peer", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(script)
        self._process.stdin.close()
        self._reader = threading.Thread(target=self._read, name="program output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._stderr.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def errors(self) -> str:
        """Standard error so far."""
        self._stderr.seek(0)
        return self._stderr.read()

    def expect(self, event: str, deadline: float = DEADLINE, **keys: Any) -> dict[str, Any]:
        """The next event of this name whose keys have these values."""
        until = time.monotonic() + deadline
        while True:
            body = self._next(until, f"{event} {keys}")
            if body.get("event") == event and all(body.get(key) == value for key, value in keys.items()):
                return body

    def _next(self, until: float, wanted: str) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"no {wanted} in time; {self.events[-5:]}; {self.errors[-2000:]}") from None
        if line is None:
            raise AssertionError(f"ended without {wanted}: {self.events[-5:]}; {self.errors[-2000:]}")
        return self._take(line)

    def _take(self, line: str) -> dict[str, Any]:
        try:
            body = json.loads(line)
        except ValueError:
            self.text.append(line.rstrip("\n"))
            return {}
        assert isinstance(body, dict)
        self.events.append(body)
        return body

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, deadline: float = DEADLINE) -> int:
        """The exit code, once it has ended; all output is read then."""
        try:
            code = self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running: {self.events[-5:]}; {self.errors[-2000:]}") from None
        while (line := self._lines.get(timeout=DEADLINE)) is not None:
            self._take(line)
        return code

    def names(self) -> list[str]:
        """The events so far, by name, without the statistics."""
        return [body["event"] for body in self.events if body["event"] != "stats"]
