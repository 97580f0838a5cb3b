"""Recordings: everything that passed is there, people can read it, a test can replay it, and a cut one says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_device import FakeDevice, Fault

from tinymetafed.devices.link import monitor
from tinymetafed.devices.link.errors import PortError
from tinymetafed.devices.link.record import DOWN, UP, Recorder, RecordingError, events, replay
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import open_transport
from tinymetafed.wire.frame import Decoder, encode
from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import Program


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[tuple[Path, FakeDevice]]:
    """A short talk with a device that damages one answer and loses one."""
    path = tmp_path / "talk.jsonl"
    device = FakeDevice(weights=60, faults=[Fault.NONE, Fault.NONE, Fault.DAMAGE, Fault.LOSE_ANSWER])
    device.weights[:] = np.arange(60)
    with Recorder(path) as recorder, Session(recorder.wrap(open_transport(device.url), "board"), deadline=0.1) as session:
        talk(session)
    yield path, device
    device.close()


def talk(session: Session) -> np.ndarray:
    session.hello(2.0)
    session.train(1, Program.TRAIN, 1, 2, 3)
    return session.fetch(5, 20)


def test_every_byte_is_there(recording: tuple[Path, FakeDevice]) -> None:
    path, device = recording
    found = list(events(path))
    assert sum(len(e.data) for e in found if e.direction == DOWN) == device.received
    assert sum(len(e.data) for e in found if e.direction == UP) == device.sent
    assert [e.seconds for e in found] == sorted(e.seconds for e in found) and {e.device for e in found} == {"board"}


def test_people_can_read_it(recording: tuple[Path, FakeDevice]) -> None:
    text = "\n".join(monitor.lines(str(recording[0])))
    for words in ("board > #", "Hello", "HelloAnswer", "board=native", "board < #", "program=TRAIN", "state=TRAINING", "Fetch"):
        assert words in text
    assert text.count("DAMAGED") == 1 and "does not end" not in text


def test_a_recording_replays(recording: tuple[Path, FakeDevice]) -> None:
    line = replay(recording[0])
    with Session(line, deadline=0.1) as session:
        assert np.array_equal(talk(session), np.arange(5, 25))
        assert session.damaged == 1 and session.traffic.retries == 2
    assert line.finished


def test_a_replay_of_something_else_says_what_differs(recording: tuple[Path, FakeDevice]) -> None:
    with Session(replay(recording[0])) as session:
        session.hello(2.0)
        with pytest.raises(PortError, match="the host asks Pull, it was Train in the recording; record it again"):
            session.pull(1, 5)


def test_a_recording_cut_in_the_middle_is_shown_as_far_as_it_goes(recording: tuple[Path, FakeDevice]) -> None:
    path, _ = recording
    whole = list(monitor.lines(str(path)))
    path.write_bytes(path.read_bytes()[:-9])
    shown = list(monitor.lines(str(path)))
    assert shown[: len(whole) - 3] == whole[: len(whole) - 3]
    assert any("the recording was cut in its last line; all before is shown" in line for line in shown)
    with pytest.raises(RecordingError, match=rf"{path}:\d+"):
        list(events(path))


def test_a_recording_that_ends_within_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "short.jsonl"
    with Recorder(path) as recorder:
        recorder.note("board", UP, encode(1, 2, b"")[:5])
    assert list(monitor.lines(str(path)))[-1].endswith("board < 5 bytes of a frame that does not end")


@pytest.mark.parametrize("content", ["", "hello\n", '{"recording": "tinymetafed", "version": 99}\n'])
def test_what_is_no_recording_is_said_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    with pytest.raises(RecordingError, match=str(path)):
        list(events(path))
    with pytest.raises(RecordingError, match=str(path)):
        replay(path)
    if "recording" not in content:
        with pytest.raises(RecordingError, match="is no recording; give a serial port"):
            list(monitor.lines(str(path)))


def test_a_damaged_line_is_named(recording: tuple[Path, FakeDevice]) -> None:
    path, _ = recording
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], "[1, 2\n", *lines[3:]]))
    with pytest.raises(RecordingError, match=rf"{path}:4: the recording is damaged"):
        list(events(path))


def test_several_devices_in_one_recording(tmp_path: Path) -> None:
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


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be written"):
        Recorder(tmp_path / "none" / "file")


def test_unknown_and_malformed_messages_are_shown() -> None:
    strange, short = Decoder().feed(encode(0x55, 1, b"abc") + encode(protocol.Train.type_id, 2, b"x"))
    assert "type 0x55" in monitor.describe(strange) and "unknown, 3 bytes" in monitor.describe(strange)
    assert "Train" in monitor.describe(short) and "MALFORMED" in monitor.describe(short)


def test_a_live_line(recording: tuple[Path, FakeDevice]) -> None:
    device = FakeDevice(noise=encode(protocol.ERROR_TYPE, 9, protocol.ErrorAnswer(4, 7).pack()))
    try:
        line = next(monitor.lines(device.url))
        assert "< #9" in line and "ErrorAnswer" in line and "status=BAD_ROUND detail=7" in line
    finally:
        device.close()
