"""A recording for which the disk has no room: the run ends with that error, and no device is blamed."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clocks import FakeClock
from fake_device import FakeBoard, FakeLine

from tinymetafed.devices.link.link_errors import LinkError
from tinymetafed.devices.link.record import Recorder, RecordingError
from tinymetafed.devices.link.session import Session


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """No file of this process becomes longer than ``count`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_that_takes_no_byte_is_named() -> None:
    with pytest.raises(RecordingError, match=r"/dev/full: the recording cannot be written: No space left.*--record"):
        Recorder(Path("/dev/full"))


@pytest.mark.parametrize("count", [100, 137, 200])
def test_a_full_disk_is_no_fault_of_a_device(tmp_path: Path, count: int) -> None:
    clock, path = FakeClock(), tmp_path / "talk.record"
    board = FakeBoard(clock=clock, weights=60)
    with Recorder(path, clock) as recorder:
        session = Session(recorder.wrap(FakeLine(board, clock), "board"), deadline=0.1, clock=clock)
        with room_for(count), pytest.raises(RecordingError, match=rf"{path}: .*(File too large|No space)") as refused:
            session.hello(2.0)
            session.fetch(5, 20)
        assert not isinstance(refused.value, LinkError)
        session.fetch(5, 20)  # the other lines are not disturbed by the closed file
    assert path.stat().st_size <= count
