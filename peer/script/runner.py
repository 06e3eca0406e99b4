"""Runs a script's steps on the library: each verb is one method of ``Agent`` or ``Call``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from .. import events
from ..errors import CallFailed, PeerError, ScriptError
from . import language
from .expectations import measure

if TYPE_CHECKING:
    from ..agent import Agent
    from ..call import Call

_ENDED: Final = 5.0
"""Seconds ``expect ended`` waits when the script does not say ``within``."""


@dataclass(frozen=True, kw_only=True)
class StepDone(events.Event):
    """A step of a script is over after ``seconds``. A failed one says why in ``message``, and is the last."""

    event: ClassVar[str] = "step"
    line: int
    text: str
    status: Literal["passed", "failed"]
    seconds: float
    message: str | None = None


class Runner:
    """One run of one script. Give it every event of ``agent`` by ``on_event``, then ``run`` the steps."""

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
        self._calls: dict[str, Call] = {}  # the last call with each peer, also when it has ended
        self._began = asyncio.Event()
        self._failures: list[ScriptError] = []  # of recordings, which go on beside the script

    def on_event(self, event: events.Event) -> None:
        """Take notice of calls that begin, ours and theirs."""
        if isinstance(event, events.Calling | events.Incoming | events.Connected):
            call = self._agent.calls.get(event.peer)
            if call is not None:
                self._calls[event.peer] = call
                self._began.set()

    async def run(self, steps: Sequence[language.Step]) -> None:
        """Run ``steps``; at the end hang up what is still connected, which closes the recordings.

        Raises:
            ScriptError: a step failed; it was the last.
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

    async def _run_one(self, step: language.Step, recordings: asyncio.TaskGroup) -> ScriptError | None:
        began = time.monotonic()
        try:
            await self._do(step, recordings)
        except PeerError as error:
            return self._failed(step, str(error), began)
        self._tell(step, "passed", began)
        return None

    async def _do(self, step: language.Step, recordings: asyncio.TaskGroup) -> None:
        """Run one step. Raises a ``PeerError`` when it fails."""
        match step:
            case language.Wait():
                await self._agent.wait_for(step.peer, self._patience(step.timeout))
            case language.Call():
                call = self._agent.call(step.peer, timeout=self._patience(step.timeout))
                self._calls[step.peer] = call
                await call.connected()
            case language.ExpectConnected():
                await self._expect_connected(step)
            case language.ExpectMedia():
                await self._expect_media(step)
            case language.ExpectEnded():
                await self._expect_ended(step)
            case language.Snapshot():
                await self._call(step.peer).snapshot(step.path, **_given(timeout=step.timeout))
            case language.Record(seconds=None):
                recordings.create_task(self._record(step, self._call(step.peer)))
            case language.Record():
                await self._call(step.peer).record(step.path, step.seconds)
            case language.HangUp():
                await self._call(step.peer).hang_up()
            case language.Sleep():
                await asyncio.sleep(step.seconds)
            case _:
                raise AssertionError(f"a step without a runner: {step}")

    def _patience(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout  # 0 s is a time: what is not so now, fails

    def _call(self, peer: str) -> Call:
        """The call with ``peer``: the live one, else the last one."""
        call = self._agent.calls.get(peer) or self._calls.get(peer)
        if call is None:
            raise PeerError(f"there is no call with {peer}; write a line before: call {peer}")
        return call

    async def _expect_connected(self, step: language.ExpectConnected) -> None:
        timeout = self._patience(step.timeout)
        try:
            async with asyncio.timeout(timeout):
                while (call := self._agent.calls.get(step.peer)) is None:
                    self._began.clear()
                    await self._began.wait()
                await call.connected()
        except TimeoutError:
            raise CallFailed(step.peer, "timeout", f"not connected within {timeout:g} s") from None

    async def _expect_media(self, step: language.ExpectMedia) -> None:
        call = self._call(step.peer)
        with call.frames() if step.kind == "video" else call.sound() as reader:
            why = await measure(step, reader)
        if why is not None:
            raise PeerError(f"{step.peer}: {why}" + (f" ({call.reason})" if call.reason else ""))

    async def _expect_ended(self, step: language.ExpectEnded) -> None:
        timeout = _ENDED if step.timeout is None else step.timeout
        try:
            async with asyncio.timeout(timeout):
                reason = await self._call(step.peer).ended()
        except TimeoutError:
            raise PeerError(f"the call with {step.peer} did not end within {timeout:g} s") from None
        if step.reason is not None and reason != step.reason:
            raise PeerError(f"the call with {step.peer} ended by {reason}, expected {step.reason}")

    async def _record(self, step: language.Record, call: Call) -> None:
        began = time.monotonic()
        try:
            await call.record(step.path)
        except PeerError as error:
            self._failures.append(self._failed(step, str(error), began))

    def _failed(self, step: language.Step, message: str, began: float) -> ScriptError:
        self._tell(step, "failed", began, message)
        return ScriptError(self._file, step.line, f"{step.text}: {message}")

    def _tell(
        self, step: language.Step, status: Literal["passed", "failed"], began: float, message: str | None = None
    ) -> None:
        seconds = round(time.monotonic() - began, 3)
        self._on_step(StepDone(line=step.line, text=step.text, status=status, seconds=seconds, message=message))


def _given(**values: float | None) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
