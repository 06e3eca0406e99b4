"""The language of call sequences: one verb per line, parsed into steps. Pure; runner.py runs the steps.

    wait PEER [TIME]                                     wait until PEER is in the room
    call PEER [within TIME]                              call PEER and wait until connected
    expect connected PEER [within TIME]                  in either direction
    expect video PEER [COND… [for TIME]] [within TIME]   fps, width, height, brightness
    expect audio PEER [COND… [for TIME]] [within TIME]   level
    expect ended PEER [REASON] [within TIME]
    snapshot PEER PATH [within TIME]
    record PEER PATH [TIME]                              without TIME: in the background, until the call ends
    hang-up PEER
    sleep TIME

COND is a condition such as ``fps>=20`` or ``level>-50dB``, with ``>=``, ``<=``, ``>``, ``<`` or ``==``. ``#``
starts a comment. TIME is written as in options: ``500ms``, ``10s``, ``2m``, ``1h``, or plain seconds. A path with
spaces needs quotes. Every error names the file and the line, and suggests a fix.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection
from typing import Final, NoReturn, TypedDict

from .. import events
from ..errors import ScriptError, first_of
from ..media.sources.spec import parse_seconds
from ..signaling.messages import is_valid_id
from .steps import (
    AUDIO,
    VIDEO,
    Call,
    Condition,
    ExpectConnected,
    ExpectEnded,
    ExpectMedia,
    HangUp,
    Record,
    Sleep,
    Snapshot,
    Step,
    Wait,
)

_BYTE_ORDER_MARK: Final = "\ufeff"
"""Some editors write it at the beginning of a UTF-8 file."""


def parse(text: str, file: str = "script") -> tuple[Step, ...]:
    """Parse a script.

    Raises:
        ScriptError: for the first invalid line, with those for further lines in its ``others``. Suggests a fix.
    """
    steps: list[Step] = []
    mistakes: list[ScriptError] = []
    for number, line in enumerate(text.removeprefix(_BYTE_ORDER_MARK).splitlines(), start=1):
        try:
            words = _words(line, file, number)
            if words:
                steps.append(_Line(file, number, line.strip(), words).step())
        except ScriptError as error:
            mistakes.append(error)
    if mistakes:
        raise first_of(mistakes)
    return tuple(steps)


_TOKEN = re.compile(r'"([^"]*)"|\'([^\']*)\'|(\S+)')


def _words(line: str, file: str, number: int) -> list[str]:
    words: list[str] = []
    for match in _TOKEN.finditer(line):
        bare = match[3]
        if bare is not None and bare.startswith("#"):
            break
        if bare is not None and bare[0] in "\"'":
            raise ScriptError(file, number, f"the quote in {bare} is not closed")
        words.append(next(group for group in match.groups() if group is not None))
    return words


_MAX_TIME: Final = 1000 * 3600.0
"""Maximum time in a script, in seconds. A longer one is a typing error."""
_CONDITION = re.compile(r"([A-Za-z]+)(>=|<=|==|>|<)([+-]?\d{1,12}(?:\.\d+)?)(dB|dBFS)?", re.ASCII | re.IGNORECASE)
_OPERATOR = re.compile(r"[<>=]+|.*[<>=]")


class _Position(TypedDict):
    line: int
    text: str


class _Line:
    """A parser for one line, which consumes its words from the left."""

    def __init__(self, file: str, number: int, text: str, words: list[str]) -> None:
        self._file = file
        self._line = number
        self._text = text
        self._words = words

    def step(self) -> Step:
        verb = self._words.pop(0)
        if verb not in _VERBS:
            self._fail(f'unknown verb "{verb}"{_closest(verb, _VERBS)}')
        step = _VERBS[verb](self)
        if self._words:
            self._fail(f'unexpected "{self._words[0]}"; write: {_USAGE[verb]}')
        return step

    # --- one method per verb

    def _wait(self) -> Step:
        if len(self._words) == 1 and not self._words[0].isdigit() and parse_seconds(self._words[0]) is not None:
            self._fail(f"wait needs the id of a peer; to pause, write: sleep {self._words[0]}")
        peer = self._peer("wait")
        timeout = self._within()
        if timeout is None and self._words:
            timeout = self._time(self._words.pop(0))
        return Wait(peer=peer, timeout=timeout, **self._position)

    def _call(self) -> Step:
        return Call(peer=self._peer("call"), timeout=self._within(positive=True), **self._position)

    def _expect(self) -> Step:
        what = self._word("expect")
        match what:
            case "connected":
                return ExpectConnected(peer=self._peer("expect"), timeout=self._within(), **self._position)
            case "video":
                return self._media(what, VIDEO)
            case "audio":
                return self._media(what, AUDIO)
            case "ended":
                peer = self._peer("expect")
                reason = self._words.pop(0) if self._words and self._words[0] != "within" else None
                if reason is not None and reason not in events.REASONS:
                    self._fail(f'unknown reason "{reason}"{_closest(reason, events.REASONS)}')
                return ExpectEnded(peer=peer, reason=reason, timeout=self._within(), **self._position)
            case _:
                kinds = ("connected", "video", "audio", "ended")
                self._fail(f'cannot expect "{what}"{_closest(what, kinds)}')

    def _media(self, kind: str, quantities: Collection[str]) -> Step:
        peer = self._peer("expect")
        conditions: list[Condition] = []
        window = timeout = None
        while self._words:
            match self._words[0]:
                case "for":
                    window = self._after("for", positive=True)
                case "within":
                    timeout = self._after("within", positive=True)
                case _:
                    conditions.append(self._condition(kind, quantities))
        if window is not None and not conditions:
            self._fail(
                f"for {window:g}s needs a condition, such as {'fps>=20' if kind == 'video' else 'level>-50dB'}"
            )
        if window is not None and timeout is not None and window > timeout:
            self._fail(f"a measurement for {window:g}s does not fit within {timeout:g}s")
        return ExpectMedia(
            kind=kind, peer=peer, conditions=tuple(conditions), window=window, timeout=timeout, **self._position
        )

    def _snapshot(self) -> Step:
        peer, path = self._peer("snapshot"), self._word("snapshot")
        return Snapshot(peer=peer, path=path, timeout=self._within(positive=True), **self._position)

    def _record(self) -> Step:
        peer, path = self._peer("record"), self._word("record")
        if self._words and self._words[0] == "for":
            self._words.pop(0)
        seconds = self._time(self._words.pop(0), positive=True) if self._words else None
        return Record(peer=peer, path=path, seconds=seconds, **self._position)

    def _hang_up(self) -> Step:
        return HangUp(peer=self._peer("hang-up"), **self._position)

    def _sleep(self) -> Step:
        return Sleep(seconds=self._time(self._word("sleep")), **self._position)

    # --- parts of a line

    @property
    def _position(self) -> _Position:
        return {"line": self._line, "text": self._text}

    def _fail(self, message: str) -> NoReturn:
        raise ScriptError(self._file, self._line, message)

    def _word(self, verb: str) -> str:
        if not self._words:
            self._fail(f"the line is incomplete; write: {_USAGE[verb]}")
        return self._words.pop(0)

    def _peer(self, verb: str) -> str:
        peer = self._word(verb)
        if not is_valid_id(peer):
            self._fail(f'"{peer}" is not a valid id: use 1 to 64 of A-Z a-z 0-9 . _ ~ -; write: {_USAGE[verb]}')
        return peer

    def _time(self, word: str, *, positive: bool = False) -> float:
        """Parse a time, in seconds. With ``positive``, 0 is an error: recording, measuring and connecting take
        time."""
        seconds = parse_seconds(word)
        if seconds is None:
            self._fail(f'"{word}" is not a time; write it like 500ms, 10s, 2m or 1h')
        if seconds > _MAX_TIME:
            self._fail(f'"{word[:40]}" is too long; the maximum is {_MAX_TIME / 3600:g}h')
        if positive and seconds == 0:
            self._fail(f'"{word}" is too short; write a time like 500ms or 5s')
        return seconds

    def _after(self, keyword: str, *, positive: bool = False) -> float:
        self._words.pop(0)
        if not self._words:
            self._fail(f"{keyword} needs a time: {keyword} 5s")
        return self._time(self._words.pop(0), positive=positive)

    def _within(self, *, positive: bool = False) -> float | None:
        return self._after("within", positive=positive) if self._words and self._words[0] == "within" else None

    def _condition(self, kind: str, quantities: Collection[str]) -> Condition:
        word = self._words.pop(0)
        while self._words and (_OPERATOR.fullmatch(word) or re.match(r"[<>=]", self._words[0])):  # fps >= 20
            word += self._words.pop(0)
        match = _CONDITION.fullmatch(word)
        if match is None:
            example = "fps>=20" if kind == "video" else "level>-50dB"
            self._fail(f'"{word}" is not a condition on {kind}; write it like {example}, or: for 5s, within 3s')
        quantity, operator, value, unit = match[1].lower(), match[2], float(match[3]), match[4]
        if quantity not in quantities:
            self._fail(f"unknown quantity {quantity} of {kind}{_closest(quantity, quantities)}")
        if unit and quantity != "level":
            self._fail(f"{quantity} is not measured in {unit}")
        return Condition(quantity, operator, value)


_VERBS: Final[dict[str, Callable[[_Line], Step]]] = {
    "wait": _Line._wait,
    "call": _Line._call,
    "expect": _Line._expect,
    "snapshot": _Line._snapshot,
    "record": _Line._record,
    "hang-up": _Line._hang_up,
    "sleep": _Line._sleep,
}

VERBS: Final = tuple(_VERBS)

_USAGE: Final = {
    "wait": "wait PEER [TIME]",
    "call": "call PEER [within TIME]",
    "expect": "expect video|audio|connected|ended PEER …",
    "snapshot": "snapshot PEER PATH [within TIME]",
    "record": "record PEER PATH [TIME]",
    "hang-up": "hang-up PEER",
    "sleep": "sleep TIME",
}


def _closest(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; use one of {', '.join(known)}"
