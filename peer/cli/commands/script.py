"""``peer script FILE``: run a call sequence, and report each step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import exit_codes as exits
from ..command import Command, option
from ..options import join_options, media_options, output_options, sink_options, timeout_option
from ..settings import Settings

if TYPE_CHECKING:
    from ...script.steps import Step
    from ..output import Output


@click.command("script", cls=Command)
@click.argument("file")
@option("--check", is_flag=True, help="Only check the syntax of the script.")
@option("--junit", metavar="PATH", help="Write a JUnit XML report.")
@timeout_option("Time limit for joining, and for steps without one of their own.")
@join_options
@media_options(video="none", audio="none")
@sink_options(speaker="none")
@output_options
def command(file: str, check: bool, junit: str | None, **params: Any) -> int:
    """Run a call sequence from a file, or from standard input if FILE is -.

    Each line is a step. The first step that fails ends the script with exit code 1, and the error names the file and
    line. A script with a syntax error does not start (exit code 2).

    \b
    wait door 30s
    call door within 15s
    expect video door fps>=20 for 5s
    expect audio door level>-50dB within 3s
    snapshot door door.png
    record door door.mkv 10s
    hang-up door
    expect ended door hang-up
    """
    from ...errors import ScriptError
    from ...script.language import parse
    from ..entry import fail, run
    from ..output import Output

    settings = Settings.read(params)
    out = Output(as_json=settings.as_json, detail=settings.verbose > 0)
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        steps = parse(text, file)
        if not steps:
            raise ScriptError(file, 1, "the script has no steps; a test without steps must not pass")
    except ScriptError as error:
        _report(junit, file, str(error))
        fail(error, out)
        return exits.USAGE
    except (OSError, UnicodeDecodeError) as error:
        why = f"{file}: {getattr(error, 'strerror', None) or error}"
        _report(junit, file, why)
        raise click.UsageError(why) from None
    if check:
        out.text(f"{file}: {len(steps)} steps, syntax OK")
        return exits.DONE
    return run(lambda: _script(file, steps, junit, settings, out), out)


def _report(junit: str | None, file: str, why: str) -> None:
    """Write the report of a script that does not start. It replaces the report of an earlier run."""
    from ..junit import document, write

    if junit is not None:
        write(junit, document(file, (), (), why))


async def _script(file: str, steps: tuple[Step, ...], junit: str | None, settings: Settings, out: Output) -> int:
    from ... import events
    from ...errors import PeerError, ScriptError
    from ...script.runner import Runner, StepDone
    from ..joining import joined
    from ..junit import check, document, write

    if junit is not None:
        check(junit)
    done: list[StepDone] = []
    runner: list[Runner] = []
    why: str | None = "interrupted"

    def on_event(event: events.Event) -> None:
        if runner:
            runner[0].on_event(event)
        if out.as_json or settings.verbose > 0:
            out.event(event)

    def on_step(step: StepDone) -> None:
        done.append(step)
        out.object(step.to_json())
        out.text(f"{'ok' if step.status == 'passed' else 'FAILED':6} {step.seconds:6.1f} s  {step.text}")

    try:
        async with joined(settings, join_timeout=settings.timeout, on_event=on_event) as agent:
            runner.append(Runner(agent, file=file, timeout=settings.timeout, on_step=on_step))
            await runner[0].run(steps)
        why = None
    except* PeerError as group:
        leaf = _first(group)
        why = None if isinstance(leaf, ScriptError) else str(leaf)
        raise
    finally:
        if junit is not None:
            write(junit, document(file, steps, done, why))
    return exits.DONE


def _first(leaf: BaseException) -> BaseException:
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf
