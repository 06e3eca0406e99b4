"""The fuzz targets, each driven for a moment without a fuzzer, so that none of them rots (docs/fuzzing.md)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from importlib import import_module

import pytest

from fuzz import TARGETS

INPUTS = 150
"""For each target: half a second or less."""


def inputs(seeds: list[bytes]) -> Iterator[bytes]:
    """The seeds, two of them one after the other, some of their bytes changed, and noise."""
    chance = random.Random(8)
    yield from seeds
    for _ in range(INPUTS):
        data = bytearray(chance.choice(seeds) + chance.choice((b"", chance.choice(seeds), chance.randbytes(20))))
        for _ in range(chance.randrange(6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        yield bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_and_finds_nothing(target: str) -> None:
    module = import_module(f"fuzz.{target}")
    test_one: Callable[[bytes], None] = module.test_one
    try:
        for data in (b"", *inputs(module.SEEDS)):
            test_one(data)
    finally:
        getattr(module, "close", lambda: None)()
