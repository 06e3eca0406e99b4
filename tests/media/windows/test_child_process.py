"""The child process as seen from the parent, with scripts in place of the real child."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from peer.media.windows import child_process
from peer.media.windows.child_process import ChildProcess


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to be run as the child, with ``control`` as its socket to the parent."""
    path = tmp_path / "peer" / "media" / "windows" / "child.py"
    path.parent.mkdir(parents=True)
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        (folder / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return path


def _write(script: Path, body: str) -> None:
    script.write_text(f"import os, socket, sys, time\ncontrol = socket.socket(fileno=int(sys.argv[1]))\n{body}\n")


async def _exit_reason(script: Path, body: str) -> str:
    _write(script, body)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        child = await ChildProcess.start()
        tasks.create_task(child.collect_stderr())
        reason = await child.exit_reason()
        await child.close()
    return reason


async def test_messages_are_split_at_newlines(script: Path) -> None:
    _write(script, r"""control.sendall(b'{"a": 1}\n{"b"'); time.sleep(0.1); control.sendall(b': 2}\n')""")
    child = await ChildProcess.start()
    async with asyncio.timeout(20):
        assert [message async for message in child.messages()] == [{"a": 1}, {"b": 2}]
    await child.close()


async def test_send_passes_message_and_descriptor(script: Path) -> None:
    _write(script, "data, fds, _, _ = socket.recv_fds(control, 4096, 4)\nos.write(fds[0], data)")
    child = await ChildProcess.start()
    reading, writing = os.pipe()
    child.send({"op": "show"}, writing)
    os.close(writing)
    async with asyncio.timeout(20):
        assert [message async for message in child.messages()] == []
    await child.close()
    assert os.read(reading, 100) == b'{"op": "show"}\n'
    os.close(reading)


async def test_send_to_an_ended_child_is_ignored(script: Path) -> None:
    _write(script, "")
    child = await ChildProcess.start()
    async with asyncio.timeout(20):
        assert [message async for message in child.messages()] == []
    child.send({"op": "hide"})
    await child.close()
    child.send({"op": "hide"})


async def test_exit_reason_has_code_and_last_line_of_stderr(script: Path) -> None:
    body = "sys.stderr.write('first\\nlast line\\n\\n'); sys.exit(3)"
    assert await _exit_reason(script, body) == "exit code 3: last line"


async def test_exit_reason_without_stderr_is_the_code(script: Path) -> None:
    assert await _exit_reason(script, "sys.exit(4)") == "exit code 4"


async def test_exit_reason_names_the_signal(script: Path) -> None:
    assert await _exit_reason(script, "os.kill(os.getpid(), 9)") == "killed by signal 9"


async def test_exit_reason_keeps_only_the_end_of_stderr(script: Path) -> None:
    body = "sys.stderr.write('x' * 100_000 + '\\nend\\n'); sys.exit(1)"
    assert await _exit_reason(script, body) == "exit code 1: end"


async def test_close_ends_a_child_that_reads_its_socket(script: Path) -> None:
    _write(script, "control.recv(1); sys.exit(7)")
    child = await ChildProcess.start()
    await child.close()
    assert child._process.returncode == 7


async def test_close_kills_a_child_that_does_not_end(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "_EXIT_TIMEOUT", 0.05)
    _write(script, "control.sendall(b'{}\\n'); time.sleep(60)")
    child = await ChildProcess.start()
    async with asyncio.timeout(20):
        assert await anext(child.messages()) == {}
        await child.close()
    assert child._process.returncode == -9


async def test_close_cancelled_kills_the_child(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "_EXIT_TIMEOUT", 30.0)
    _write(script, "control.sendall(b'{}\\n'); time.sleep(60)")
    child = await ChildProcess.start()
    async with asyncio.timeout(20):
        assert await anext(child.messages()) == {}
        closing = asyncio.ensure_future(child.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert child._process.returncode == -9


async def test_start_runs_the_child_in_its_own_session(script: Path) -> None:
    _write(script, "control.sendall(b'{\"session\": %d}\\n' % os.getsid(0))")
    child = await ChildProcess.start()
    async with asyncio.timeout(20):
        message = await anext(child.messages())
        assert message["session"] not in (os.getsid(0), 0)
        await child._process.wait()
    await child.close()


async def test_start_without_processes_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError):
        await ChildProcess.start()
