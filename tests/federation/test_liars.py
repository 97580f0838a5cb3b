"""One board among three lies in one of many ways: every run ends on the weights of honest boards, and says who lied."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from lying_boards import (
    HONEST,
    LIAR,
    Boards,
    Events,
    Liar,
    Lie,
    after_a_silence,
    bytes_at,
    changed,
    check,
    entry,
    in_dtype,
    in_turn,
    payload,
    refused,
    starting,
)
from small_runs import DATA, needs_data, omniglot, sine

from tinymetafed.learn.strategies import Diverged
from tinymetafed.learn.tasks import HELD_OUT
from tinymetafed.learn.weights import sha256
from tinymetafed.wire.frame import Frame, encode
from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import Coding, Delta, Dtype, LoadAnswer, Progress, Record, State, Status

ROUNDS = 4

LIES: dict[str, Lie] = {
    "a scale of infinity": changed(Delta, scale=float("inf")),
    "a negative scale": entry(scale=lambda delta: -delta.scale),
    "no entries": changed(Delta, count=0),
    "no data": changed(Delta, data=b""),
    "one entry too few": entry(count=lambda delta: delta.count - 1),
    "one entry too many": entry(count=lambda delta: delta.count + 1),
    "a byte left over": entry(data=lambda delta: delta.data + b"\0"),
    "a byte too few": entry(data=lambda delta: delta.data[:-1]),
    "a value of -128": entry(data=lambda delta: delta.data[:-1] + b"\x80"),
    "all indices moved beyond the end": entry(base=lambda delta: delta.base + 10_000),
    "another token in the delta": entry(token=lambda delta: delta.token + 1),
    "a delta in a dtype that does not exist": bytes_at(protocol.Pull, protocol.Delta.place("dtype"), b"\x77"),
    "a delta in a coding that does not exist": bytes_at(protocol.Pull, protocol.Delta.place("coding"), b"\x77"),
    "done at step 0": changed(Progress, state=State.DONE, step=0),
    "done beyond the last step": changed(Progress, state=State.DONE, step=2**32 - 1),
    "failed without a fault": changed(Progress, state=State.FAILED, fault=Status.OK),
    "failed: TOO_LARGE": changed(Progress, state=State.FAILED, fault=Status.TOO_LARGE),
    "a state that does not exist": bytes_at(protocol.Train, Progress.place("state"), b"\x63"),
    "a fault that does not exist": bytes_at(protocol.Await, Progress.place("fault"), b"\xee"),
    "step 0 for ever": in_turn(0),
    "one step more each time, then back": in_turn(*range(80)),
    "no weight arrives": changed(LoadAnswer, next_offset=0),
    "an odd number of weights arrives": changed(LoadAnswer, next_offset=1),
    "a window of 65,535 bytes after a silence": after_a_silence(receive_window=0xFFFF),
    "a window of 1 byte after a silence": after_a_silence(receive_window=1),
    "a name of escape sequences after a silence": after_a_silence(board=b"\x1b[2J\x1b[31m"),
    "no name after a silence": after_a_silence(board=b""),
    "a path as its name after a silence": after_a_silence(board=b"/tmp/board.json"),
    "the path of a device as its name after a silence": after_a_silence(board=b"/dev/tty/.json"),
    **{
        f"{question.__name__} answered with {what}": payload(question, change)
        for question in (protocol.Load, protocol.Train, protocol.Await, protocol.Pull)
        for what, change in {
            "nothing": lambda said: b"",
            "a byte too many": lambda said: said + b"\xff",
            "200 zeros": lambda said: bytes(200),
        }.items()
    },
    "weights of 3e38": changed(Delta, scale=2e36),
    "weights of 1e5": changed(Delta, scale=4e3),
    "weights of 60,000 at first": changed(Delta, scale=1e3),
    "a delta in F32": in_dtype(Dtype.F32),
    "a delta in F16": in_dtype(Dtype.F16),
    "a scale of NaN": changed(Delta, scale=float("nan")),
    "a delta of another cycle": changed(Delta, token=999),
    "a delta of another rank": changed(Delta, rank=3),
    "more entries than asked for": changed(Delta, count=0xFFFF),
    "an index beyond the weights": changed(Delta, base=2**31),
    "another coding": changed(Delta, coding=Coding.RICE_20),
    "training failed: NOT_FINITE": changed(Progress, state=State.FAILED, fault=Status.NOT_FINITE),
    "training failed: OVERFLOW": changed(Progress, state=State.FAILED, fault=Status.OVERFLOW),
    "training failed: BAD_VALUE": changed(Progress, state=State.FAILED, fault=Status.BAD_VALUE),
    "step 5,000 of 80": changed(Progress, state=State.TRAINING, step=5000),
    "steps 0, 1, 0, 1": in_turn(0, 1),
    "steps 2, 1, 2, 1": in_turn(2, 1),
    "done at step 1": changed(Progress, state=State.DONE, step=1),
    "the progress of another cycle": changed(Progress, token=77),
    "back to IDLE": changed(Progress, state=State.IDLE),
    "more weights than were sent": changed(LoadAnswer, next_offset=2**31),
    "another board after a silence": after_a_silence(board=b"toaster"),
    "a board that the experiment is not built for after a silence": after_a_silence(board=b"uno"),
    "another model after a silence": after_a_silence(model_hash=b"otherone"),
    "another id after a silence": after_a_silence(unique_id=b"somebody"),
    "another protocol after a silence": after_a_silence(schema_hash=b"otherone"),
    **{
        f"{question.__name__} refused with {status}": refused(question, status)
        for question, statuses in {
            protocol.Configure: (Status.UNKNOWN_TYPE, Status.BAD_VALUE, 99),
            protocol.Load: (Status.BAD_VALUE, Status.TOO_LARGE, Status.NOT_FINITE, Status.BAD_LENGTH, Status.BAD_OFFSET, 77),
            protocol.Train: (Status.UNKNOWN_TYPE, Status.BAD_STATE, Status.BAD_VALUE, 0),
            protocol.Await: (Status.OVERFLOW, Status.BAD_TOKEN, Status.BAD_LENGTH, 200),
            protocol.Pull: (Status.TOO_LARGE, Status.BAD_OFFSET, Status.NOT_FINITE, 0),
        }.items()
        for status in statuses
    },
}


NOISES = {
    "a flood of whole frames": encode(0x7F, 1, bytes(200)) * 50,
    "a flood of damaged frames": (b"\x02\x01" * 20 + b"\0") * 50,
    "garbage without a zero": b"\xff" * 4096,
    "text": b"panic at 0x4000\r\n" * 20,
}


@pytest.fixture(scope="module")
def boards(built_once_for_module: None) -> Iterator[Boards]:
    experiment = sine(f"run.rounds={ROUNDS}", "run.devices_per_round=3", "strategy.uplink=i8")
    with starting(experiment, None) as started:
        yield started


@pytest.fixture(scope="module")
def streamed(built_once_for_module: None) -> Iterator[Boards]:
    experiment = omniglot(
        "run.rounds=1", "run.devices_per_round=3", "strategy.selection=layer", "task.support=5", "task.query=5"
    )
    with starting(experiment, DATA) as started:
        yield started


@pytest.fixture(scope="module")
def honest(boards: Boards) -> str:
    """The weights after all rounds of honest boards."""
    return sha256(boards.train(Events(), HONEST)[-1].weights)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_run_with_a_liar_ends_on_the_weights_of_honest_boards(boards: Boards, lie: Lie, honest: str) -> None:
    check(boards, Liar(lie), honest)


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES.keys())
def test_a_run_with_endless_noise_ends_on_the_weights_of_honest_boards(boards: Boards, noise: bytes, honest: str) -> None:
    check(boards, Liar(payload(protocol.Train, lambda said: b""), noise), honest)


def test_the_update_of_an_only_board_is_checked_before_its_round_is_stored(boards: Boards) -> None:
    with pytest.raises(Diverged, match=rf"in round 0, which is not stored; .* came from client \d+ on {LIAR}; continue"):
        boards.train(Events(), Liar(changed(Delta, scale=4e3)), count=1)


def of_sample(**fields: Callable[[Progress], Any]) -> Lie:
    """Changes fields of every answer to a Sample."""

    def lie(answer: Record, frame: Frame) -> Record:
        if not isinstance(answer, Progress) or frame.type_id != protocol.Sample.type_id | protocol.ANSWER_BIT:
            return answer
        return dataclasses.replace(answer, **{name: change(answer) for name, change in fields.items()})

    return lie


STREAMED_LIES: dict[str, Lie] = {
    "a step beyond the samples": of_sample(step=lambda progress: progress.step + 7),
    "no step": of_sample(step=lambda progress: 0),
    "one step back": of_sample(step=lambda progress: max(0, progress.step - 2)),
    "another cycle": of_sample(token=lambda progress: progress.token + 1),
    "failed": of_sample(state=lambda progress: State.FAILED, fault=lambda progress: Status.NOT_FINITE),
    "done at once": of_sample(state=lambda progress: State.DONE),
    "the entries of another layer": entry(base=lambda delta: delta.base + 1),
    **{f"Sample refused with {status}": refused(protocol.Sample, status) for status in (6, 9, 5, 99)},
}


@pytest.fixture(scope="module")
def honestly_streamed(streamed: Boards) -> str:
    """The weights of honest boards."""
    return sha256(streamed.train(Events(), HONEST)[-1].weights)


@needs_data
@pytest.mark.parametrize("lie", STREAMED_LIES.values(), ids=STREAMED_LIES.keys())
def test_a_run_with_streamed_samples_ends_on_the_weights_of_honest_boards(
    streamed: Boards, lie: Lie, honestly_streamed: str
) -> None:
    check(streamed, Liar(lie), honestly_streamed)


def outputs(change: Callable[[Any], Any], *, only: int = 1) -> Lie:
    """Changes the predictions, those of every ``only``-th request."""
    asked = 0

    def lie(answer: Record, frame: Frame) -> Record:
        nonlocal asked
        if not isinstance(answer, protocol.Outputs):
            return answer
        asked += 1
        values = np.frombuffer(answer.data, "<f4")
        return protocol.Outputs(change(values).astype("<f4").tobytes()) if asked % only == 0 else answer

    return lie


FALSE_PREDICTIONS: dict[str, Lie] = {
    "zeros": outputs(np.zeros_like),
    "other signs": outputs(np.negative),
    "the smallest change": outputs(lambda values: np.nextafter(values, np.float32(9))),
    "1e30": outputs(lambda values: values + 1e30),
    "NaN": outputs(lambda values: values * np.nan),
    "infinity": outputs(lambda values: values + np.inf),
    "one number too few": outputs(lambda values: values[:-1]),
    "the best scores after adaptation only": outputs(np.sign, only=2),
    "training failed": changed(Progress, state=State.FAILED, fault=Status.NOT_FINITE),
    "not trained": changed(Progress, state=State.DONE, step=1),
    "step 0 for ever": in_turn(0),
}


@pytest.mark.parametrize("lie", FALSE_PREDICTIONS.values(), ids=FALSE_PREDICTIONS.keys())
def test_false_predictions_do_not_reach_a_score(boards: Boards, lie: Lie) -> None:
    clients = [HELD_OUT + n for n in range(12)]  # so many that the liar gets some, too
    with boards.clients(Events(), HONEST, count=1) as on_one:
        expected = on_one.adapt(boards.first, clients, 10)
    events = Events()
    liar = Liar(lie)
    with boards.clients(events, liar) as on_three:
        found = on_three.adapt(boards.first, clients, 10)
    assert liar.lied.is_set()
    assert [each.after.tobytes() for each in found] == [each.after.tobytes() for each in expected]
    assert [each.before.tobytes() for each in found] == [each.before.tobytes() for each in expected]
    assert any(LIAR in line for line in events.seen)


def test_two_boards_that_differ_are_both_named(boards: Boards) -> None:
    events = Events()
    with boards.clients(events, Liar(outputs(np.negative)), count=2) as on_two:
        on_two.adapt(boards.first, [HELD_OUT, HELD_OUT + 1], 10)
    assert any("native#1" in line and "native#2" in line and "a further board would show" in line for line in events.seen)
