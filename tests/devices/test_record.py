"""Recordings: they hold every byte, are readable, can be replayed, and are reported when incomplete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clocks import FakeClock
from fake_device import FakeBoard, FakeDevice, FakeLine, Fault

from tinymetafed.devices.link import monitor
from tinymetafed.devices.link.link_errors import PortError
from tinymetafed.devices.link.record import DOWN, UP, Recorder, RecordingError, events, replay
from tinymetafed.devices.link.session import Session
from tinymetafed.wire.frame import Decoder, encode
from tinymetafed_codegen import optional_messages, protocol
from tinymetafed_codegen.optional_messages import store_messages
from tinymetafed_codegen.protocol import Program


@pytest.fixture
def recording(tmp_path: Path) -> tuple[Path, FakeBoard]:
    """A recording of a short session with a device that damages one answer and loses one."""
    path = tmp_path / "talk.jsonl"
    clock = FakeClock()
    board = FakeBoard(clock=clock, weights=60, faults=[Fault.NONE, Fault.NONE, Fault.DAMAGE, Fault.LOSE_ANSWER])
    board.weights[:] = np.arange(60)
    with Recorder(path, clock) as recorder:
        talk(Session(recorder.wrap(FakeLine(board, clock), "board"), deadline=0.1, clock=clock))
    return path, board


def talk(session: Session) -> np.ndarray:
    session.hello(2.0)
    session.train(1, Program.TRAIN, 1, 2, 3)
    return session.fetch(5, 20)


def test_a_recording_holds_every_byte(recording: tuple[Path, FakeBoard]) -> None:
    path, device = recording
    found = list(events(path))
    assert sum(len(e.data) for e in found if e.direction == DOWN) == device.received
    assert sum(len(e.data) for e in found if e.direction == UP) == device.sent
    assert [e.seconds for e in found] == sorted(e.seconds for e in found) and {e.device for e in found} == {"board"}


def test_a_recording_is_shown_as_readable_text(recording: tuple[Path, FakeBoard]) -> None:
    text = "\n".join(monitor.lines(str(recording[0])))
    for words in ("board > #", "Hello", "HelloAnswer", "board=native", "board < #", "program=TRAIN", "state=TRAINING", "Fetch"):
        assert words in text
    assert text.count("DAMAGED") == 1 and "does not end" not in text


def test_a_recording_can_be_replayed(recording: tuple[Path, FakeBoard]) -> None:
    clock = FakeClock()
    line = replay(recording[0], clock=clock)
    with Session(line, deadline=0.1, clock=clock) as session:
        assert np.array_equal(talk(session), np.arange(5, 25))
        assert session.damaged == 1 and session.traffic.retries == 2
    assert line.finished


def test_a_replay_that_differs_is_reported(recording: tuple[Path, FakeBoard]) -> None:
    clock = FakeClock()
    with Session(replay(recording[0], clock=clock), clock=clock) as session:
        session.hello(2.0)
        with pytest.raises(PortError, match="the host asks Pull, it was Train in the recording; make a new recording"):
            session.pull(1, 5)


def test_a_recording_cut_in_the_middle_is_shown_as_far_as_it_goes(recording: tuple[Path, FakeBoard]) -> None:
    path, _ = recording
    whole = list(monitor.lines(str(path)))
    path.write_bytes(path.read_bytes()[:-9])
    shown = list(monitor.lines(str(path)))
    assert shown[: len(whole) - 3] == whole[: len(whole) - 3]
    assert any("the recording was cut in its last line; everything before this line is shown" in line for line in shown)
    with pytest.raises(RecordingError, match=rf"{path}:\d+"):
        list(events(path))


def test_a_recording_that_ends_within_a_frame_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "short.jsonl"
    with Recorder(path) as recorder:
        recorder.note("board", UP, encode(1, 2, b"")[:5])
    assert list(monitor.lines(str(path)))[-1].endswith("board < 5 bytes of a frame that does not end")


@pytest.mark.parametrize("content", ["", "hello\n", '{"recording": "tinymetafed", "version": 99}\n'])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    with pytest.raises(RecordingError, match=str(path)):
        list(events(path))
    with pytest.raises(RecordingError, match=str(path)):
        replay(path)
    if "recording" not in content:
        with pytest.raises(RecordingError, match="is not a recording; give a serial port"):
            list(monitor.lines(str(path)))


def test_a_damaged_line_is_named(recording: tuple[Path, FakeBoard]) -> None:
    path, _ = recording
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], "[1, 2\n", *lines[3:]]))
    with pytest.raises(RecordingError, match=rf"{path}:4: the recording is damaged"):
        list(events(path))


def test_a_recording_holds_several_devices(tmp_path: Path) -> None:
    path = tmp_path / "two.jsonl"
    with Recorder(path) as recorder:
        recorder.note("native#1", DOWN, encode(protocol.Hello.type_id, 1, b""))
        recorder.note("native#2", DOWN, encode(protocol.Hello.type_id, 1, b""))
    assert ["native#1" in line for line in monitor.lines(str(path))] == [True, False]
    with pytest.raises(RecordingError, match="holds 2 devices, name one of native#1, native#2"):
        replay(path)
    with pytest.raises(RecordingError, match="has no device 'x'"):
        replay(path, "x")
    replay(path, "native#2")


def test_a_recording_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be written"):
        Recorder(tmp_path / "none" / "file")


def test_unknown_and_malformed_messages_are_shown() -> None:
    strange, short = Decoder().feed(encode(0x55, 1, b"abc") + encode(protocol.Train.type_id, 2, b"x"))
    assert "type 0x55" in monitor.describe(strange) and "unknown, 3 bytes" in monitor.describe(strange)
    assert "Train" in monitor.describe(short) and "MALFORMED" in monitor.describe(short)


def test_messages_of_a_live_line_are_shown(recording: tuple[Path, FakeBoard]) -> None:
    device = FakeDevice(noise=encode(protocol.ERROR_TYPE, 9, protocol.ErrorAnswer(protocol.Status.BAD_TOKEN, 7).pack()))
    try:
        line = next(monitor.lines(device.url))
        assert "< #9" in line and "ErrorAnswer" in line and "status=BAD_TOKEN detail=7" in line
    finally:
        device.close()


def named(record: protocol.Record) -> list[tuple[str, str]]:
    """Name and member of every code in a message, nested records included."""
    found: list[tuple[str, str]] = []
    for name in record.kinds():
        value = getattr(record, name)
        if isinstance(value, protocol.Code):
            found.append((name, value.name))
        for inner in value if isinstance(value, tuple) else [value]:
            found += named(inner) if isinstance(inner, protocol.Record) else []
    return found


STEP = protocol.Phase(protocol.Variant.GRADIENT, protocol.SampleSet.QUERY, 3, 2, 0.5, 1.0)
RECIPE = protocol.Recipe((STEP,), 4, protocol.Dtype.I8, protocol.Selection.RANDOM)


@pytest.mark.parametrize(
    "message",
    [
        protocol.Configure(1, Program.ADAPT, RECIPE),
        protocol.Load(1, 0, protocol.Dtype.F16, 0.0, b""),
        protocol.Train(1, Program.ADAPT, 1, 2, 3),
        protocol.Sample(1, 0, protocol.Dtype.U8, 1.0, b""),
        protocol.Predict(protocol.Dtype.U8, 1.0, b""),
        protocol.Progress(1, protocol.State.FAILED, protocol.Status.OVERFLOW, 1, 2),
        protocol.Delta(1, 0, 1, 0, protocol.Coding.BITMAP, protocol.Dtype.I8, 0.5, b""),
        protocol.ErrorAnswer(protocol.Status.BAD_TOKEN, 7),
        store_messages.StoreReport(store_messages.StoreState.WORN, 3, 2, 1, 9, 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_every_code_is_shown_by_name(message: protocol.Record) -> None:
    answers = {request.answer: request.type_id | protocol.ANSWER_BIT for request in optional_messages.ALL_REQUESTS}
    type_id = protocol.type_id(type(message))
    (frame,) = Decoder().feed(encode(answers[type(message)] if type_id is None else type_id, 1, message.pack()))
    shown = monitor.describe(frame)
    assert named(message) and all(f"{name}={member}" in shown for name, member in named(message))


def test_a_code_without_a_name_is_malformed_and_says_which() -> None:
    payload = protocol.Progress(1, protocol.State.DONE, protocol.Status.OK, 1, 2).pack()
    (frame,) = Decoder().feed(encode(protocol.Await.type_id | protocol.ANSWER_BIT, 1, payload[:4] + b"\x09" + payload[5:]))
    assert "MALFORMED: Progress.state = 9: expected one of IDLE, LOADING" in monitor.describe(frame)
