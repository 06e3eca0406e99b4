"""``peer`` as a process: reads its output line by line, with a deadline, and never leaves it running."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

DEADLINE = 20.0
"""Time limit of every wait, in seconds. A loaded machine needs a second or two."""

QUIET = ("--video", "none", "--audio", "none", "--speaker", "none", "--no-show")
"""Options of a peer that only receives, without any device."""

TEST = ("--video", "test", "--audio", "test", "--speaker", "none", "--no-show", "--size", "320x240", "--fps", "15")


class Program:
    """A running ``peer ARGS``. ``events`` collects the JSON objects that it printed, ``text`` all other lines.

    Args:
        source: folder of another version of the packages; ``None``: the installed ones.
    """

    def __init__(self, *args: str, script: str = "", source: Path | None = None) -> None:
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
            cwd=source,  # Python looks there first
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
        """Process id."""
        return self._process.pid

    @property
    def errors(self) -> str:
        """Standard error so far."""
        self._stderr.seek(0)
        return self._stderr.read()

    def expect(self, event: str, deadline: float = DEADLINE, **keys: Any) -> dict[str, Any]:
        """Wait for the next event with this name and these values, and return it."""
        until = time.monotonic() + deadline
        while True:
            body = self._next(until, f"{event} {keys}")
            if body.get("event") == event and all(body.get(key) == value for key, value in keys.items()):
                return body

    def expect_all(self, *names: str, deadline: float = DEADLINE) -> None:
        """Wait until each of these events has come, in any order, since the start of the program or in the future."""
        until, seen = time.monotonic() + deadline, {body.get("event") for body in self.events}
        while missing := set(names) - seen:
            seen.add(self._next(until, str(missing)).get("event"))

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
        """Send a signal to the process."""
        self._process.send_signal(number)

    def wait(self, deadline: float = DEADLINE) -> int:
        """Wait until the process ends, read all its output, and return the exit code."""
        try:
            code = self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running: {self.events[-5:]}; {self.errors[-2000:]}") from None
        while (line := self._lines.get(timeout=DEADLINE)) is not None:
            self._take(line)
        return code

    def names(self) -> list[str]:
        """Names of the events so far, without the statistics."""
        return [body["event"] for body in self.events if body["event"] != "stats"]
