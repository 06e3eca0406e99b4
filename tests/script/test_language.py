"""The call-sequence language: what each line becomes, and what a mistake is told."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import ScriptError
from peer.script import language
from peer.script.language import (
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
    parse,
)


def one(line: str) -> Step:
    (step,) = parse(line)
    return step


def refusal(text: str) -> str:
    with pytest.raises(ScriptError) as caught:
        parse(text, "ring.peer")
    return str(caught.value)


def test_the_script_of_the_interface_document_parses() -> None:
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


def test_a_step_keeps_its_line_and_its_text() -> None:
    assert one("  hang-up   door # done") == HangUp(line=1, text="hang-up   door # done", peer="door")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("500ms", 0.5), ("10s", 10.0), ("1.5s", 1.5), ("2m", 120.0), ("2min", 120.0), ("1h", 3600.0)],
)
def test_times_carry_their_unit(written: str, seconds: float) -> None:
    step = one(f"sleep {written}")
    assert isinstance(step, Sleep)
    assert step.seconds == seconds


def test_wait_takes_its_time_with_or_without_within() -> None:
    for line in ("wait door 30s", "wait door within 30s"):
        step = one(line)
        assert isinstance(step, Wait)
        assert step.timeout == 30.0
    step = one("wait door")
    assert isinstance(step, Wait)
    assert step.timeout is None


def test_no_time_is_a_time_where_something_may_be_so_already() -> None:
    for line in ("wait door 0s", "expect connected door within 0s", "expect ended door within 0s"):
        step = one(line)
        assert isinstance(step, Wait | ExpectConnected | ExpectEnded)
        assert step.timeout == 0


def test_an_editors_byte_order_mark_is_no_part_of_the_first_verb() -> None:
    assert isinstance(one("\ufeffwait door"), Wait)


def test_conditions_may_have_spaces_and_there_may_be_several() -> None:
    step = one("expect video door fps >= 20 width==640 height > 100 for 2s within 10s")
    assert isinstance(step, ExpectMedia)
    assert step.conditions == (
        Condition("fps", ">=", 20.0),
        Condition("width", "==", 640.0),
        Condition("height", ">", 100.0),
    )
    assert (step.window, step.timeout) == (2.0, 10.0)


def test_quotes_hold_a_path_together() -> None:
    step = one('snapshot door "front door #1.png" within 2s')
    assert isinstance(step, Snapshot)
    assert (step.path, step.timeout) == ("front door #1.png", 2.0)
    step = one("record door 'a b.mkv'")
    assert isinstance(step, Record)
    assert (step.path, step.seconds) == ("a b.mkv", None)


def test_a_hash_inside_a_word_is_no_comment() -> None:
    step = one("snapshot door shot#1.png # the first")
    assert isinstance(step, Snapshot)
    assert step.path == "shot#1.png"


def test_a_call_of_the_other_side_can_be_expected() -> None:
    step = one("expect connected lobby within 30s")
    assert isinstance(step, ExpectConnected)
    assert step.timeout == 30.0


def test_expect_ended_takes_any_reason_and_a_time() -> None:
    step = one("expect ended door remote-hang-up within 1s")
    assert isinstance(step, ExpectEnded)
    assert (step.reason, step.timeout) == ("remote-hang-up", 1.0)
    step = one("expect ended door within 1s")
    assert isinstance(step, ExpectEnded)
    assert step.reason is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("cal door", 'unknown verb "cal"; did you mean call?'),
        ("hangup door", 'unknown verb "hangup"; did you mean hang-up?'),
        ("Call door", 'unknown verb "Call"; did you mean call?'),
        ("teleport door", "there are wait, call, expect, snapshot, record, hang-up, sleep"),
        ("call", "the line ends too early; write: call PEER [within TIME]"),
        ("call door 15s", '"15s" is too much here; write: call PEER [within TIME]'),
        ("call door within", "within needs a time: within 5s"),
        ("call door within 15", '"15" is no time; write it with its unit: 500ms, 10s, 2m'),
        ("call front/door", '"front/door" is no peer id'),
        ("wait 5s", "to pause, write: sleep 5s"),
        ("sleep soon", '"soon" is no time'),
        ("expect vidio door", 'cannot expect "vidio"; did you mean video?'),
        ("expect video door fsp>=20", "video has no fsp; did you mean fps?"),
        ("expect video door fps", '"fps" is no condition on video; write it like fps>=20'),
        ("expect video door fps=20", '"fps=20" is no condition on video'),
        ("expect video door fps>=20dB", "fps is not measured in dB"),
        ("expect audio door fps>=20", "audio has no fps"),
        ("expect audio door loud", "write it like level>-50dB"),
        ("expect video door fps>1 for 5s within 2s", "for 5s cannot end within 2s"),
        ("expect audio door for 5s", "for 5s needs a condition: level>-50dB"),
        ("expect ended door hangup", '"hangup" is no reason; did you mean hang-up?'),
        ("snapshot door", "the line ends too early; write: snapshot PEER PATH"),
        ('snapshot door "door.png', "is never closed"),
        ("record door door.mkv forever", '"forever" is no time'),
        ("record door door.mkv 0s", '"0s" is too short for anything to come'),
        ("expect video door fps>=20 for 0s", '"0s" is too short'),
        ("expect audio door within 0ms", '"0ms" is too short'),
        ("snapshot door door.png within 0s", '"0s" is too short'),
        ("call door within 0.0s", '"0.0s" is too short'),
        ("sleep 2000h", '"2000h" is too long; 1000h is the most'),
        (f"wait door {'9' * 400}h", "is too long; 1000h is the most"),
        (f"expect video door fps>{'9' * 400}", "is no condition on video"),
    ],
)
def test_a_mistake_is_told_what_to_try(line: str, told: str) -> None:
    message = refusal(f"# head\n\n{line}\n")
    assert message.startswith("ring.peer:3: ")
    assert told in message


def test_the_first_mistake_is_the_one_that_is_told() -> None:
    assert refusal("sleep 1s\nfoo\nbar").startswith("ring.peer:2: ")


def test_a_script_of_comments_has_no_steps() -> None:
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
def test_conditions_compare(operator: str, below: bool, equal: bool, above: bool) -> None:
    condition = Condition("fps", operator, 20.0)
    assert [condition.holds(value) for value in (19.0, 20.0, 21.0)] == [below, equal, above]


def test_a_condition_reads_as_it_was_written() -> None:
    assert str(Condition("fps", ">=", 20.0)) == "fps>=20"
    assert str(Condition("level", ">", -50.5)) == "level>-50.5dB"


@given(st.text(alphabet=string.printable + "äß€\u2028", max_size=60))
def test_any_text_parses_or_is_refused_with_its_line(text: str) -> None:
    try:
        parse(text, "f")
    except ScriptError as error:
        assert 1 <= error.line <= max(1, len(text.splitlines()))


@given(
    st.lists(st.sampled_from([*language.VERBS, "video", "door", "5s", "within", "for", "fps>=1", ">", "'", '"', "#"]))
)
def test_any_words_parse_or_are_refused(words: list[str]) -> None:
    try:
        parse(" ".join(words), "f")
    except ScriptError as error:
        assert error.message
