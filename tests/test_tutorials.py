"""Tutorials and examples of the documentation, run literally: every block as it stands, in an empty folder.

A fenced block is a shell command, a Python program or expected output. A command that starts with ``peer serve``, or
with ``peer run`` without ``--duration``, keeps running in a terminal of its own. Such a block interrupts an earlier
one of the same command first, as the page says. Expected output has to appear line by line on standard output, or on
standard error, of the last command or of a running one; numbers may differ, and a line ``…`` stands for any others.
The relay's port comes from the environment, so that the tests can share a machine.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.front import free_ports

ROOT = Path(__file__).parent.parent
DEADLINE = 60.0
"""Seconds for one command or one output; a loaded machine starts a program in three or four."""

DOCUMENTED_RELAY = "ws://127.0.0.1:8080/ws"
INSTALLATION = ("./setup.sh\n", ". .venv/bin/activate\n")
"""Blocks that set up what the tests run in."""

TUTORIALS = sorted((ROOT / "docs").glob("tutorial-*.md"))
WITH_LIBRARY = [ROOT / "README.md", ROOT / "docs" / "interface.md", *TUTORIALS]


@dataclass(frozen=True)
class Block:
    """``name`` is the file that the text before a program tells the reader to save it as."""

    language: str
    text: str
    name: str | None
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of ``page``."""
    text = page.read_text()
    found = []
    end = 0
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        names = re.findall(r"Save this program as `([\w.]+)`", text[end : match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[1], match[2], names[-1] if names else None, line))
        end = match.end()
    return found


def programs(page: Path) -> list[str]:
    return [block.text for block in blocks(page) if block.language == "python"]


class Terminal:
    """One command in a shell of its own, in a process group of its own. Its output is read as it comes."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str], printed: threading.Condition) -> None:
        self.command = command
        self.lines: list[str] = []
        self.log: list[str] = []
        self._printed = printed
        self._process = subprocess.Popen(
            ["sh", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        streams = ((self._process.stdout, self.lines), (self._process.stderr, self.log))
        self._readers = [threading.Thread(target=self._read, args=each, daemon=True) for each in streams]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Iterator[str], lines: list[str]) -> None:
        for line in stream:
            with self._printed:
                lines.append(line.strip())
                self._printed.notify_all()

    def wait(self) -> int:
        """The exit code, once the command has ended and all its output is read."""
        code = self._process.wait(DEADLINE)
        self._close()
        return code

    def interrupt(self) -> int:
        """Press Ctrl-C; the exit code."""
        os.killpg(self._process.pid, signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._close()

    def _close(self) -> None:
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


class Desk:
    """A reader's terminals: an empty folder, the running commands, and the last one that was typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, Terminal] = {}
        self.last: Terminal | None = None
        (port,) = free_ports(1)
        self.relay = f"ws://127.0.0.1:{port}/ws"
        own = {name: value for name, value in os.environ.items() if not name.startswith("PEER_")}
        for display in ("DISPLAY", "WAYLAND_DISPLAY"):
            own.pop(display, None)
        self._environment = own | {
            "HOME": str(folder / "home"),
            "PATH": f"{Path(sys.executable).parent}:{own['PATH']}",
            "PEER_PORT": str(port),
            "PEER_SERVER": self.relay,
            "PEER_SPEAKER": "none",
        }
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            self._environment.pop(name, None)
        self._printed = threading.Condition()

    def close(self) -> None:
        for terminal in self.running.values():
            terminal.kill()

    def type(self, block: Block) -> None:
        """Do with ``block`` what a reader does."""
        match block.language:
            case "sh" if block.text not in INSTALLATION:
                self.run(block.text)
            case "python":
                assert block.name is not None, f"line {block.line}: the page names no file for this program"
                (self.folder / block.name).write_text(block.text.replace(DOCUMENTED_RELAY, self.relay))
            case "":
                self.expect(block)

    def run(self, command: str) -> None:
        if not keeps_running(command):
            self.last = self._open(command)
            code = self.last.wait()
            assert code == 0, f"{command}: exit code {code}\n{self._report(self.last)}"
            return
        service = " ".join(command.split()[:2])
        if service in self.running:
            assert self.running.pop(service).interrupt() == 130
        self.last = self.running[service] = self._open(f"exec {command}")  # Ctrl-C reaches it, not a shell around it
        self._wait(lambda: bool(self.running[service].lines), f"{command} printed nothing", self.last)

    def expect(self, block: Block) -> None:
        """Wait until the last command, or a running one, has printed what ``block`` shows."""
        shown = [line.strip() for line in block.text.splitlines() if line.strip() != "…"]
        assert self.last is not None
        terminals = [self.last, *self.running.values()]
        problem = f"line {block.line} of the page: no command printed\n{block.text}"
        outputs = [output for terminal in terminals for output in (terminal.lines, terminal.log)]
        self._wait(lambda: any(shows(output, shown) for output in outputs), problem, *terminals)

    def clean_up(self) -> None:
        """Press Ctrl-C everywhere, clients first."""
        for terminal in reversed(self.running.values()):
            assert terminal.interrupt() == 130, self._report(terminal)
        self.running.clear()

    def _open(self, command: str) -> Terminal:
        return Terminal(command, self.folder, self._environment, self._printed)

    def _wait(self, condition: Callable[[], bool], problem: str, *terminals: Terminal) -> None:
        with self._printed:
            ended = self._printed.wait_for(condition, DEADLINE)
        assert ended, "\n".join([problem, *map(self._report, terminals)])

    def _report(self, terminal: Terminal) -> str:
        return "\n".join([f"$ {terminal.command}", *terminal.lines, *terminal.log])


def keeps_running(command: str) -> bool:
    return command.startswith("peer serve") or (command.startswith("peer run") and "--duration" not in command)


def shows(printed: list[str], shown: list[str]) -> bool:
    """Whether all lines ``shown`` are among those ``printed``, in this order."""
    lines = iter(list(printed))
    return all(any(alike(line, wanted) for line in lines) for wanted in shown)


def alike(line: str, wanted: str) -> bool:
    """Whether two lines are equal but for numbers and spaces."""
    number = r"\d+(?:\.\d+)?"
    pattern = re.sub(rf"{number}|\s+|.", lambda part: _general(part[0], number), wanted)
    return re.fullmatch(pattern, line) is not None


def _general(part: str, number: str) -> str:
    return number if part[0].isdigit() else r"\s+" if part.isspace() else re.escape(part)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    try:
        yield desk
    finally:
        desk.close()


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_tutorial_typed_block_by_block_works(page: Path, desk: Desk) -> None:
    for block in blocks(page):
        desk.type(block)
    desk.clean_up()


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_tutorial_has_every_kind_of_block(page: Path) -> None:
    found = blocks(page)
    assert {"sh", ""} <= {block.language for block in found}
    assert {block.language for block in found} <= {"sh", "", "python"}
    assert [block.text for block in found[:2]] == list(INSTALLATION)
    assert any(keeps_running(block.text) for block in found)


@pytest.mark.parametrize("page", WITH_LIBRARY, ids=lambda page: page.stem)
def test_library_example_ends_and_runs_twice(page: Path, desk: Desk) -> None:
    examples = programs(page)
    if not examples:
        assert page in TUTORIALS
        return
    desk.run("peer serve")
    desk.run("peer run --id door --video test --audio test --size 320x240")
    for number, text in enumerate(examples):
        path = desk.folder / f"example{number}.py"
        path.write_text(text.replace(DOCUMENTED_RELAY, desk.relay))
        for _ in range(2):
            desk.run(f"python {path.name}")
    desk.clean_up()


def test_readme_script_runs_twice(desk: Desk) -> None:
    (script,) = [block.text for block in blocks(ROOT / "README.md") if "peer script" in block.text]
    desk.run("peer serve")
    desk.run("peer run --id door --video test --audio test --size 320x240")
    for _ in range(2):
        desk.run(script)
    desk.clean_up()


def test_readme_demo_output_is_what_the_demo_prints(desk: Desk) -> None:
    (shown,) = [block for block in blocks(ROOT / "README.md") if block.language == ""]
    desk.run("peer demo --duration 2s")
    desk.expect(shown)
