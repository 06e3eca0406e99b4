"""The language of call sequences: the step of each line, and the errors."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import ScriptError
from peer.script import language
from peer.script.language import parse
from peer.script.steps import (
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


def one(line: str) -> Step:
    (step,) = parse(line)
    return step


def error_of(text: str) -> str:
    with pytest.raises(ScriptError) as caught:
        parse(text, "ring.peer")
    return str(caught.value)


def test_parse_script_of_the_interface_document() -> None:
    text = """
# ring the door
wait door 30s
call door within 15s
expect video door fps>=20 for 5s
expect audio door level>-50dB within 3s
snapshot door door.png
record door door.mkv 10s
hang-up door
expect ended door hang-up
"""
    steps = parse(text)
    assert [type(step) for step in steps] == [
        Wait,
        Call,
        ExpectMedia,
        ExpectMedia,
        Snapshot,
        Record,
        HangUp,
        ExpectEnded,
    ]
    assert [step.line for step in steps] == list(range(3, 11))
    assert steps[2] == ExpectMedia(
        line=5,
        text="expect video door fps>=20 for 5s",
        kind="video",
        peer="door",
        conditions=(Condition("fps", ">=", 20.0),),
        window=5.0,
    )
    assert steps[3] == ExpectMedia(
        line=6,
        text="expect audio door level>-50dB within 3s",
        kind="audio",
        peer="door",
        conditions=(Condition("level", ">", -50.0),),
        timeout=3.0,
    )


def test_step_keeps_its_line_and_text() -> None:
    assert one("  hang-up   door # done") == HangUp(line=1, text="hang-up   door # done", peer="door")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("10s", 10.0), ("1.5s", 1.5), ("2m", 120.0), ("2min", 120.0), ("1h", 3600.0), ("30", 30.0)],
)
def test_time_units(written: str, seconds: float) -> None:
    step = one(f"sleep {written}")
    assert isinstance(step, Sleep)
    assert step.seconds == seconds


def test_wait_accepts_time_with_or_without_within() -> None:
    for line in ("wait door 30s", "wait door within 30s"):
        step = one(line)
        assert isinstance(step, Wait)
        assert step.timeout == 30.0
    step = one("wait door")
    assert isinstance(step, Wait)
    assert step.timeout is None


def test_zero_time_is_valid_for_wait_and_expect() -> None:
    for line in ("wait door 0s", "expect connected door within 0s", "expect ended door within 0s"):
        step = one(line)
        assert isinstance(step, Wait | ExpectConnected | ExpectEnded)
        assert step.timeout == 0


def test_byte_order_mark_is_ignored() -> None:
    assert isinstance(one("\ufeffwait door"), Wait)


def test_expect_accepts_several_conditions_with_spaces() -> None:
    step = one("expect video door fps >= 20 width==640 height > 100 for 2s within 10s")
    assert isinstance(step, ExpectMedia)
    assert step.conditions == (
        Condition("fps", ">=", 20.0),
        Condition("width", "==", 640.0),
        Condition("height", ">", 100.0),
    )
    assert (step.window, step.timeout) == (2.0, 10.0)


def test_quoted_path_may_contain_spaces() -> None:
    step = one('snapshot door "front door #1.png" within 2s')
    assert isinstance(step, Snapshot)
    assert (step.path, step.timeout) == ("front door #1.png", 2.0)
    step = one("record door 'a b.mkv'")
    assert isinstance(step, Record)
    assert (step.path, step.seconds) == ("a b.mkv", None)


def test_hash_inside_a_word_is_not_a_comment() -> None:
    step = one("snapshot door shot#1.png # the first")
    assert isinstance(step, Snapshot)
    assert step.path == "shot#1.png"


def test_expect_connected_parses() -> None:
    step = one("expect connected lobby within 30s")
    assert isinstance(step, ExpectConnected)
    assert step.timeout == 30.0


def test_expect_ended_accepts_reason_and_time() -> None:
    step = one("expect ended door remote-hang-up within 1s")
    assert isinstance(step, ExpectEnded)
    assert (step.reason, step.timeout) == ("remote-hang-up", 1.0)
    step = one("expect ended door within 1s")
    assert isinstance(step, ExpectEnded)
    assert step.reason is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cal door", 'unknown verb "cal"; did you mean call?'),
        ("hangup door", 'unknown verb "hangup"; did you mean hang-up?'),
        ("Call door", 'unknown verb "Call"; did you mean call?'),
        ("teleport door", "use one of wait, call, expect, snapshot, record, hang-up, sleep"),
        ("call", "the line is incomplete; write: call PEER [within TIME]"),
        ("call door 15s", 'unexpected "15s"; write: call PEER [within TIME]'),
        ("call door within", "within needs a time: within 5s"),
        ("call door within 15d", '"15d" is not a time; write it like 500ms, 10s, 2m or 1h'),
        ("call front/door", '"front/door" is not a valid id'),
        ("wait 5s", "to pause, write: sleep 5s"),
        ("sleep soon", '"soon" is not a time'),
        ("expect vidio door", 'cannot expect "vidio"; did you mean video?'),
        ("expect video door fsp>=20", "unknown quantity fsp of video; did you mean fps?"),
        ("expect video door fps", '"fps" is not a condition on video; write it like fps>=20'),
        ("expect video door fps=20", '"fps=20" is not a condition on video'),
        ("expect video door fps>=20dB", "fps is not measured in dB"),
        ("expect audio door fps>=20", "unknown quantity fps of audio"),
        ("expect audio door loud", "write it like level>-50dB"),
        ("expect video door fps>1 for 5s within 2s", "a measurement for 5s does not fit within 2s"),
        ("expect audio door for 5s", "for 5s needs a condition, such as level>-50dB"),
        ("expect ended door hangup", 'unknown reason "hangup"; did you mean hang-up?'),
        ("snapshot door", "the line is incomplete; write: snapshot PEER PATH"),
        ('snapshot door "door.png', "is not closed"),
        ("record door door.mkv forever", '"forever" is not a time'),
        ("record door door.mkv 0s", '"0s" is too short; write a time like'),
        ("expect video door fps>=20 for 0s", '"0s" is too short'),
        ("expect audio door within 0ms", '"0ms" is too short'),
        ("snapshot door door.png within 0s", '"0s" is too short'),
        ("call door within 0.0s", '"0.0s" is too short'),
        ("sleep 2000h", '"2000h" is too long; the maximum is 1000h'),
        (f"wait door {'9' * 400}h", "is too long; the maximum is 1000h"),
        (f"expect video door fps>{'9' * 400}", "is not a condition on video"),
    ],
)
def test_invalid_line_error_suggests_a_fix(line: str, message: str) -> None:
    error = error_of(f"# head\n\n{line}\n")
    assert error.startswith("ring.peer:3: ")
    assert message in error


def test_all_invalid_lines_are_reported() -> None:
    with pytest.raises(ScriptError) as caught:
        parse('sleep 1s\nfoo\nsleep 2s\nwait "door\n', "ring.peer")
    assert [error.line for error in (caught.value, *caught.value.others)] == [2, 4]


def test_comments_only_have_no_steps() -> None:
    assert parse("# nothing\n\n   \n\t# at all\n") == ()


@pytest.mark.parametrize(
    ("operator", "below", "equal", "above"),
    [
        (">=", False, True, True),
        ("<=", True, True, False),
        (">", False, False, True),
        ("<", True, False, False),
        ("==", False, True, False),
    ],
)
def test_condition_operators(operator: str, below: bool, equal: bool, above: bool) -> None:
    condition = Condition("fps", operator, 20.0)
    assert [condition.holds(value) for value in (19.0, 20.0, 21.0)] == [below, equal, above]


def test_condition_str_is_its_source() -> None:
    assert str(Condition("fps", ">=", 20.0)) == "fps>=20"
    assert str(Condition("level", ">", -50.5)) == "level>-50.5dB"


@given(st.text(alphabet=string.printable + "äß€\u2028", max_size=60))
def test_any_text_parses_or_raises_with_a_valid_line(text: str) -> None:
    try:
        parse(text, "f")
    except ScriptError as error:
        assert 1 <= error.line <= max(1, len(text.splitlines()))


@given(
    st.lists(st.sampled_from([*language.VERBS, "video", "door", "5s", "within", "for", "fps>=1", ">", "'", '"', "#"]))
)
def test_any_words_parse_or_raise(words: list[str]) -> None:
    try:
        parse(" ".join(words), "f")
    except ScriptError as error:
        assert error.message
