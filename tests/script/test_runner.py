"""Scripts run with the library, a real relay and a real node, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peer import Agent
from peer.errors import ScriptError
from peer.script.language import parse
from peer.script.runner import Runner, StepDone
from server.relay import Relay, RelayConfig


@pytest.fixture
async def relay() -> AsyncIterator[str]:
    running = Relay(RelayConfig(port=0))
    await running.start()
    yield running.url
    await running.stop()


@pytest.fixture
async def door(relay: str) -> AsyncIterator[Agent]:
    async with Agent("door", server=relay, video="test", audio="test", size=(160, 120), fps=15) as agent:
        yield agent


@pytest.fixture
async def lobby(relay: str) -> AsyncIterator[Agent]:
    async with Agent("lobby", server=relay, join_timeout=5) as agent:
        yield agent


async def run(agent: Agent, text: str) -> list[StepDone]:
    """Run a script and return the result of each step."""
    steps: list[StepDone] = []
    runner = Runner(agent, file="ring.peer", timeout=5, on_step=steps.append)

    async def watch() -> None:
        async for event in agent.events():
            runner.on_event(event)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        watcher = group.create_task(watch())
        try:
            await runner.run(parse(text, "ring.peer"))
        except ScriptError as error:
            failed = [step for step in steps if step.status == "failed"]
            assert error.line == failed[0].line
            assert str(error).startswith(f"ring.peer:{error.line}: ")
        watcher.cancel()
    assert agent.calls == {}
    return steps


async def failure(agent: Agent, text: str) -> str:
    (failed,) = [step for step in await run(agent, text) if step.status == "failed"]
    assert failed.message is not None
    return failed.message


async def test_steps_run_in_order(lobby: Agent, door: Agent, tmp_path: Path) -> None:
    text = f"""
    wait door
    call door within 5s
    expect connected door
    expect video door fps>5 width==160 for 400ms within 5s
    expect audio door level>-50dB within 5s
    snapshot door {tmp_path}/door.png within 5s
    hang-up door
    expect ended door hang-up
    """
    steps = await run(lobby, text)
    assert [step.status for step in steps] == ["passed"] * 8
    assert [step.line for step in steps] == list(range(2, 10))
    assert (tmp_path / "door.png").exists()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("wait nobody 100ms", "nobody is not in the room; see"),
        ("wait nobody 0s", "nobody is not in the room; see"),
        ("expect connected door within 0s", "not connected within 0 s"),
        ("call door\nexpect ended door within 0s", "did not end within 0 s"),
        ("call nobody within 5s", "nobody is not in the room; see"),
        ("expect connected nobody within 100ms", "nobody is not in the room; see"),
        ("call lobby", "it is this agent's own id"),
        ("hang-up door", "there is no call with door; add a line before: call door"),
        ("expect connected door within 100ms", "not connected within 0.1 s"),
        ("call door\nexpect ended door within 100ms", "did not end within 0.1 s"),
        ("call door\nhang-up door\nexpect ended door declined", "ended with hang-up, expected declined"),
        ("call door\nexpect video door width>=640 for 1s", "width was 160 over 1 s, expected width>=640"),
        ("call door\nhang-up door\nexpect video door", "the call ended (hang-up)"),
        ("call door\nhang-up door\nsnapshot door x.png", "call with door ended: hang-up"),
        ("call door\nsnapshot door /dev/null/x.png", "/dev/null/x.png"),
        ("call door\nrecord door /dev/null/x.mkv 1s", "/dev/null/x.mkv"),
    ],
)
async def test_failed_step_names_the_cause(lobby: Agent, door: Agent, text: str, cause: str) -> None:
    assert cause in await failure(lobby, text)


async def test_expectation_already_met_passes_at_once(lobby: Agent, door: Agent) -> None:
    text = """
    wait door
    wait door 0s
    call door
    expect connected door within 0s
    hang-up door
    expect ended door within 0s
    """
    assert [step.status for step in await run(lobby, text)] == ["passed"] * 6


async def test_zero_time_does_not_mean_the_default(lobby: Agent, door: Agent) -> None:
    (step,) = await run(lobby, "wait nobody 0s")
    assert step.status == "failed" and step.seconds < 1


async def test_no_step_runs_after_a_failure(lobby: Agent, door: Agent) -> None:
    steps = await run(lobby, "call door\nwait nobody 50ms\nhang-up door\n")
    assert [step.status for step in steps] == ["passed", "failed"]


async def test_recording_without_length_runs_in_the_background(lobby: Agent, door: Agent, tmp_path: Path) -> None:
    video = tmp_path / "door.mkv"
    steps = await run(lobby, f"call door\nrecord door {video}\nexpect video door fps>5 for 1s\n")
    assert [step.status for step in steps] == ["passed"] * 3
    assert video.stat().st_size > 1_000


async def test_failed_background_recording_fails_the_script(lobby: Agent, door: Agent) -> None:
    text = "call door\nrecord door /dev/null/x.mkv\nsleep 200ms\nwait nobody\n"
    assert "/dev/null/x.mkv" in await failure(lobby, text)


async def test_incoming_call_and_its_end_can_be_expected(lobby: Agent, door: Agent) -> None:
    async def call_lobby() -> None:
        await door.wait_for("lobby", 5)
        async with door.call("lobby") as call:
            await call.stats()

    async with asyncio.TaskGroup() as group:
        group.create_task(call_lobby())
        steps = await run(lobby, "expect connected door within 5s\nexpect ended door remote-hang-up within 5s\n")
    assert [step.status for step in steps] == ["passed"] * 2
