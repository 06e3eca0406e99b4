"""Command line of the package. Inputs that reach new code are kept; a finding ends the run and is saved as a file."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
from pathlib import Path

from . import TARGETS

INSTRUMENTED = ["peer", "server", "websockets", "jwt", "tomllib"]
"""Packages whose branch coverage guides the search."""


def main() -> None:
    parser = argparse.ArgumentParser("python -m fuzz", description="Coverage-guided fuzzing.")
    parser.add_argument("target", choices=TARGETS, nargs="?")
    parser.add_argument("--seconds", type=int, default=60, metavar="N")
    parser.add_argument("--once", type=Path, metavar="FILE", help="run this input only")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="default: .cache/fuzz/TARGET")
    asked = parser.parse_args()
    if asked.target is None:
        for name, about in TARGETS.items():
            print(f"{name:13} {about}")
        return
    if asked.once is not None:
        importlib.import_module(f"fuzz.{asked.target}").test_one(asked.once.read_bytes())
        return
    try:
        import atheris
    except ImportError:
        sys.exit("fuzz: atheris is missing; pip install -e '.[fuzz]'")
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"fuzz.{asked.target}")
    corpus = asked.corpus or Path(".cache/fuzz") / asked.target
    finds = corpus.with_name(f"{corpus.name}-finds")
    for folder in (corpus, finds):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in target.SEEDS:
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    flags = [f"-max_total_time={asked.seconds}", f"-artifact_prefix={finds}/", "-print_final_stats=1"]
    atheris.Setup(
        [sys.argv[0], *flags, "-timeout=10", "-max_len=1024", "-len_control=20", "-rss_limit_mb=2048", str(corpus)],
        target.test_one,
    )
    atheris.Fuzz()


main()
