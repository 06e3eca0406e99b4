"""The state machine of the released version, as a counterpart in the model: upgrades roll.

It is read from the history of this repository. It sends neither ``call`` nor ``round``, and ignores both.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import peer.events
from peer import negotiation as n
from peer.signaling import messages
from tests.negotiation.model import Message, Side, ufrag_of

RELEASED = "7816085"
"""The commit of the released version."""

_ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def _core() -> Any:
    """Return the module ``peer.negotiation.core`` of the released version, under another name."""
    names = {"events": peer.events, "protocol": messages}
    for name, module in names.items():
        sys.modules[f"_released.{name}"] = module
    sys.modules["_released"] = types.ModuleType("_released")
    sys.modules["_released.negotiation"] = package = types.ModuleType("_released.negotiation")
    package.__path__ = []
    for name in ("messages", "core"):
        shown = subprocess.run(
            ["git", "show", f"{RELEASED}:peer/negotiation/{name}.py"], cwd=_ROOT, capture_output=True, text=True
        )
        if shown.returncode:
            pytest.fail(f"the commit {RELEASED} is missing: clone the whole history", pytrace=False)
        module = types.ModuleType(f"_released.negotiation.{name}")
        module.__package__ = "_released.negotiation"
        sys.modules[module.__name__] = module
        exec(compile(shown.stdout, f"{RELEASED}/{name}.py", "exec"), module.__dict__)
    return sys.modules["_released.negotiation.core"]


class ReleasedNegotiation:
    """The released ``Negotiation``, with our events and commands."""

    def __init__(self, me: str, remote: str) -> None:
        self.released = _core().Negotiation(me, remote)
        self.remote = remote

    def __copy__(self) -> ReleasedNegotiation:
        other = object.__new__(ReleasedNegotiation)
        other.released, other.remote = copy.copy(self.released), self.remote
        return other

    @property
    def phase(self) -> n.Phase:
        return n.Phase(self.released.phase.value)

    @property
    def deadline(self) -> float | None:
        deadline: float | None = self.released.deadline
        return deadline

    @property
    def _generation(self) -> int:
        generation: int = self.released._generation
        return generation

    @_generation.setter
    def _generation(self, generation: int) -> None:
        self.released._generation = generation

    def handle(self, event: n.Event, now: float) -> list[n.Command]:
        theirs = getattr(_core(), type(event).__name__, None)
        if theirs is None:
            return []  # PeerRestarted
        fields = {field.name: getattr(event, field.name) for field in dataclasses.fields(theirs)}
        return [_ours(command) for command in self.released.handle(theirs(**fields), now)]


def _ours(command: Any) -> Any:
    fields = {field.name: getattr(command, field.name) for field in dataclasses.fields(command)}
    return getattr(n, type(command).__name__)(**fields)


class ReleasedPeer(Side):
    """A peer of the released version."""

    __slots__ = ()

    def __init__(
        self, me: str, negotiation: ReleasedNegotiation, *, lossless: bool = False, named: bool = False
    ) -> None:
        super().__init__(me, negotiation, lossless=lossless, named=named)

    def can_repeat(self) -> bool:
        return False

    def _forget_reply(self) -> None:
        pass  # it keeps none

    def receive(self, message: Message) -> list[Message]:
        assert message[:2] != ("hang-up", "unknown-call"), "an old peer is never continued (rule 0 f)"
        return super().receive(message)

    def _describe_negotiation(self) -> str:
        state, parts = self.negotiation.released, []
        for slot in state.__slots__:
            value = getattr(state, slot)
            if slot in ("_current", "_unanswered", "_answering"):
                parts.append(f"{self.me}{value}" if value else "-")
            elif slot == "phase":
                parts.append(value.value)
            elif slot == "_fate":
                parts.append(value.value if state._answering else "-")
            elif slot == "_offers":
                parts.append(",".join(ufrag_of(text) + fate.value for text, fate in value))
            elif slot in ("_fragments", "_early", "_held"):
                parts.append(",".join(sorted(map(str, value))) if value else "-")
            elif slot.endswith("_deadline"):
                parts.append("T" if value is not None else "-")
            elif slot == "_silent":
                parts.append("y" if value else "n")
        return " ".join(parts)
