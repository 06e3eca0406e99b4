"""Runner of scripts. Each verb is one method of ``Agent`` or ``Call``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from .. import events
from ..errors import CallFailed, NotHere, PeerError, ScriptError
from . import steps as script_steps
from .expectations import measure

if TYPE_CHECKING:
    from ..agent import Agent
    from ..call import Call

_ENDED_TIMEOUT: Final = 5.0
"""Time limit of ``expect ended`` without ``within``, in seconds."""


@dataclass(frozen=True, kw_only=True)
class StepDone(events.Event):
    """A step ended after ``seconds``. ``message`` is the reason if it failed; then no further step runs."""

    event: ClassVar[str] = "step"
    line: int
    text: str
    status: Literal["passed", "failed"]
    seconds: float
    message: str | None = None


class Runner:
    """One run of a script. The caller passes every event of ``agent`` to ``on_event``.

    Args:
        file: name of the script, for errors.
        timeout: time limit of steps without one of their own, in seconds.
        on_step: called at the end of each step.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        file: str = "script",
        timeout: float = 15.0,
        on_step: Callable[[StepDone], None] = lambda step: None,
    ) -> None:
        self._agent = agent
        self._file = file
        self._timeout = timeout
        self._on_step = on_step
        self._calls: dict[str, Call] = {}  # the last call with each peer, even if it has ended
        self._call_started = asyncio.Event()
        self._failures: list[ScriptError] = []  # of background recordings

    def on_event(self, event: events.Event) -> None:
        """Remember each call that starts, in either direction."""
        if isinstance(event, events.Calling | events.Incoming | events.Connected):
            call = self._agent.calls.get(event.peer)
            if call is not None:
                self._calls[event.peer] = call
                self._call_started.set()

    async def run(self, steps: Sequence[script_steps.Step]) -> None:
        """Run ``steps`` up to the first that fails. Then hang up all calls, which closes the recordings.

        Raises:
            ScriptError: a step failed.
        """
        failure: ScriptError | None = None
        async with asyncio.TaskGroup() as recordings:
            for step in steps:
                failure = await self._run_one(step, recordings)
                if failure is not None or self._failures:
                    break
            for call in list(self._agent.calls.values()):
                await call.hang_up()
        for error in (failure, *self._failures):
            if error is not None:
                raise error

    async def _run_one(self, step: script_steps.Step, recordings: asyncio.TaskGroup) -> ScriptError | None:
        start = time.monotonic()
        try:
            await self._do(step, recordings)
        except PeerError as error:
            return self._failed(step, str(error), start)
        self._report(step, "passed", start)
        return None

    async def _do(self, step: script_steps.Step, recordings: asyncio.TaskGroup) -> None:
        """Run one step.

        Raises:
            PeerError: it failed.
        """
        match step:
            case script_steps.Wait():
                await self._agent.wait_for(step.peer, self._timeout_of(step.timeout))
            case script_steps.Call():
                present = step.peer in self._agent.peers
                call = self._agent.call(step.peer, timeout=self._timeout_of(step.timeout))
                self._calls[step.peer] = call
                try:
                    await call.connected()
                except CallFailed as error:
                    if error.reason == "peer-left" and not present:
                        raise NotHere(step.peer) from None
                    raise
            case script_steps.ExpectConnected():
                await self._expect_connected(step)
            case script_steps.ExpectMedia():
                await self._expect_media(step)
            case script_steps.ExpectEnded():
                await self._expect_ended(step)
            case script_steps.Snapshot():
                await self._call(step.peer).snapshot(step.path, **_given(timeout=step.timeout))
            case script_steps.Record(seconds=None):
                recordings.create_task(self._record(step, self._call(step.peer)))
            case script_steps.Record():
                await self._call(step.peer).record(step.path, step.seconds)
            case script_steps.HangUp():
                await self._call(step.peer).hang_up()
            case script_steps.Sleep():
                await asyncio.sleep(step.seconds)
            case _:
                raise AssertionError(f"unknown step: {step}")

    def _timeout_of(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout  # 0 is a valid time limit

    def _call(self, peer: str) -> Call:
        """Return the current call with ``peer``, otherwise the last one."""
        call = self._agent.calls.get(peer) or self._calls.get(peer)
        if call is None:
            raise PeerError(f"there is no call with {peer}; add a line before: call {peer}")
        return call

    async def _expect_connected(self, step: script_steps.ExpectConnected) -> None:
        timeout = self._timeout_of(step.timeout)
        try:
            async with asyncio.timeout(timeout):
                while (call := self._agent.calls.get(step.peer)) is None:
                    self._call_started.clear()
                    await self._call_started.wait()
                await call.connected()
        except TimeoutError:
            if step.peer not in self._agent.peers:
                raise NotHere(step.peer) from None
            raise CallFailed(step.peer, "timeout", f"not connected within {timeout:g} s") from None

    async def _expect_media(self, step: script_steps.ExpectMedia) -> None:
        call = self._call(step.peer)
        with call.frames() if step.kind == "video" else call.sound() as reader:
            why = await measure(step, reader)
        if why is not None:
            raise PeerError(f"{step.peer}: {why}" + (f" ({call.reason})" if call.reason else ""))

    async def _expect_ended(self, step: script_steps.ExpectEnded) -> None:
        timeout = _ENDED_TIMEOUT if step.timeout is None else step.timeout
        try:
            async with asyncio.timeout(timeout):
                reason = await self._call(step.peer).ended()
        except TimeoutError:
            raise PeerError(f"the call with {step.peer} did not end within {timeout:g} s") from None
        if step.reason is not None and reason != step.reason:
            raise PeerError(f"the call with {step.peer} ended with {reason}, expected {step.reason}")

    async def _record(self, step: script_steps.Record, call: Call) -> None:
        start = time.monotonic()
        try:
            await call.record(step.path)
        except PeerError as error:
            self._failures.append(self._failed(step, str(error), start))

    def _failed(self, step: script_steps.Step, message: str, start: float) -> ScriptError:
        self._report(step, "failed", start, message)
        return ScriptError(self._file, step.line, f"{step.text}: {message}")

    def _report(
        self, step: script_steps.Step, status: Literal["passed", "failed"], start: float, message: str | None = None
    ) -> None:
        seconds = round(time.monotonic() - start, 3)
        self._on_step(StepDone(line=step.line, text=step.text, status=status, seconds=seconds, message=message))


def _given(**values: float | None) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
