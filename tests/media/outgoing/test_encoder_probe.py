"""Hardware encoders are tried in a child process, which may crash or hang, once per boot and set of devices."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from peer.media.outgoing.encoder_probe import NODES, EncoderProbe
from peer.media.outgoing.encoder_trial import main

NVENC, QSV, V4L2 = NODES

SAY = """\
import json, os, signal, sys, time
say = lambda name, problem=None: print(json.dumps(dict(encoder=name, problem=problem)), flush=True)
"""
"""The beginning of each child: ``say(name)`` means that an encoder works, ``say(name, why)`` that it does not."""


class Machine:
    """A machine with a device for each encoder, whose child runs ``code`` and counts its starts."""

    def __init__(self, root: Path, code: str, timeout: float = 20.0) -> None:
        self.dev, self.cache, self._starts = root / "dev", root / "cache" / "encoders.json", root / "starts"
        (self.dev / "dri").mkdir(parents=True)
        for node in ("nvidia0", "dri/renderD128", "video20"):
            (self.dev / node).touch()
        self._code = f"{SAY}open({str(self._starts)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n{code}"
        self._timeout = timeout

    def probe(self) -> EncoderProbe:
        return EncoderProbe((sys.executable, "-c", self._code), self.cache, self.dev, self._timeout)

    @property
    def starts(self) -> list[str]:
        """The encoders that each child was given."""
        return self._starts.read_text().splitlines() if self._starts.exists() else []


def working(probe: EncoderProbe) -> list[str]:
    return [name for name in NODES if probe.works(name)]


def test_working_encoders_are_those_that_the_child_names(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"say({NVENC!r}, 'no driver'); say({QSV!r}); say({V4L2!r}, 'no device')")
    probe = machine.probe()
    assert (working(probe), working(probe), machine.starts) == ([QSV], [QSV], [f"{NVENC} {QSV} {V4L2}"])


def test_encoder_that_crashes_its_trial_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    machine = Machine(
        tmp_path, f"for name in sys.argv[1:]: os.kill(os.getpid(), signal.SIGSEGV) if name == {QSV!r} else say(name)"
    )
    assert working(machine.probe()) == [NVENC, V4L2]
    assert machine.starts == [f"{NVENC} {QSV} {V4L2}", V4L2]
    assert f"encoder {QSV} is not used: its trial ended with signal 11" in caplog.messages


def test_encoder_that_hangs_its_trial_is_not_used(tmp_path: Path) -> None:
    machine = Machine(
        tmp_path,
        f"for name in sys.argv[1:]: time.sleep(60) if name == {QSV!r} else say(name)",
        timeout=2.0,
    )
    began = time.monotonic()
    assert working(machine.probe()) == [NVENC, V4L2]
    assert time.monotonic() - began < 30


def test_child_that_answers_nonsense_or_nothing_proves_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "print('no JSON'); print('[1]'); say('libx264')")
    assert working(machine.probe()) == []
    assert len(machine.starts) == len(NODES)


def test_missing_child_proves_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "")
    assert working(EncoderProbe(("/nowhere/python",), machine.cache, machine.dev)) == []


def test_answer_is_kept_until_the_devices_change(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"say({NVENC!r}, 'x'); say({QSV!r}); say({V4L2!r}, 'x')")
    assert working(machine.probe()) == working(machine.probe()) == [QSV]
    assert len(machine.starts) == 1
    (machine.dev / "video21").touch()
    assert working(machine.probe()) == [QSV]
    assert len(machine.starts) == 2


def test_answer_of_another_boot_is_not_used(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"say({NVENC!r}, 'x'); say({QSV!r}); say({V4L2!r}, 'x')")
    working(machine.probe())
    body = json.loads(machine.cache.read_text())
    body["key"]["boot"] = "another"
    body["works"][V4L2] = True
    machine.cache.write_text(json.dumps(body))
    assert working(machine.probe()) == [QSV]


@pytest.mark.parametrize("text", ["", "[]", '{"key": 1}', "{" * 100_000])
def test_damaged_cache_is_ignored(tmp_path: Path, text: str) -> None:
    machine = Machine(tmp_path, f"say({NVENC!r}, 'x'); say({QSV!r}); say({V4L2!r}, 'x')")
    machine.cache.parent.mkdir()
    machine.cache.write_text(text)
    assert working(machine.probe()) == [QSV]


def test_unwritable_cache_folder_costs_only_the_cache(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"say({NVENC!r}, 'x'); say({QSV!r}); say({V4L2!r}, 'x')")
    machine.cache.parent.touch()  # a file in place of the folder
    assert working(machine.probe()) == [QSV]


def test_machine_without_devices_starts_no_child(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "")
    probe = EncoderProbe((sys.executable, "-c", "1/0"), machine.cache, tmp_path / "nowhere")
    assert working(probe) == []
    assert not machine.cache.exists()


def test_encoder_that_fails_later_is_not_used_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, f"say({NVENC!r}, 'x'); say({QSV!r}); say({V4L2!r}, 'x')")
    probe = machine.probe()
    assert probe.works(QSV)
    probe.disable(QSV)
    assert not probe.works(QSV)
    assert machine.probe().works(QSV), "the next process tries again"


def test_trial_prints_one_line_per_encoder(capsys: pytest.CaptureFixture[str]) -> None:
    main(list(NODES))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["encoder"] for line in lines] == list(NODES)
    assert all(line["problem"] for line in lines), "this machine has hardware encoders"
