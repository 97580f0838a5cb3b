"""Recordings of serial lines: every byte with its direction and time, for the monitor and for replay in tests."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tinymetafed_codegen import optional_messages
from tinymetafed_codegen.errors import Error

from ...wire.frame import Decoder, encode
from .clock import SYSTEM_CLOCK, Clock
from .link_errors import PortError
from .transport import DEFAULT_BAUD, Transport

_FORMAT = {"recording": "tinymetafed", "version": 1}
DOWN, UP = ">", "<"  # host to device, device to host


class RecordingError(Error):
    """A recording that cannot be written or read; no LinkError, because no device is at fault."""


@dataclass(frozen=True, slots=True)
class Event:
    """Bytes that were sent: ``seconds`` since the recording began, the device's name, DOWN or UP."""

    seconds: float
    device: str
    direction: str
    data: bytes


class Recorder:
    """Writes the traffic of several lines to one file: a JSON array per read or write, flushed at once."""

    def __init__(self, path: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        """Raises RecordingError when the file cannot be written."""
        try:
            self._file = path.open("wb", buffering=0)  # no buffer: after a failure nothing is left to be written at the end
        except OSError as error:
            raise RecordingError(f"{path}: cannot be written: {error.strerror}; name another file") from error
        self._path = path
        self._lock = threading.Lock()
        self._clock = clock
        self._began = clock.monotonic()
        self._write(json.dumps(_FORMAT))

    def note(self, device: str, direction: str, data: bytes) -> None:
        """Appends one read or write."""
        if not data:
            return
        line = json.dumps([round(self._clock.monotonic() - self._began, 6), device, direction, data.hex()])
        with self._lock:
            if not self._file.closed:
                self._write(line)

    def _write(self, line: str) -> None:
        """Appends a line; after a failure the file is closed and stays as it is."""
        rest = memoryview(line.encode("ascii") + b"\n")
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            self._file.close()
            raise RecordingError(
                f"{self._path}: the recording cannot be written: {error.strerror}; make room, or leave --record out"
            ) from error

    def wrap(self, transport: Transport, device: str) -> Transport:
        """``transport``, recorded under the device's name."""
        return _Recorded(transport, self, device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._file.close()


class _Recorded:
    """A line that is being recorded."""

    def __init__(self, inner: Transport, recorder: Recorder, device: str) -> None:
        self.name, self.baud = inner.name, inner.baud
        self._inner, self._recorder, self._device = inner, recorder, device

    def read(self, timeout: float) -> bytes:
        data = self._inner.read(timeout)
        self._recorder.note(self._device, UP, data)
        return data

    def write(self, data: bytes) -> None:
        self._recorder.note(self._device, DOWN, data)
        self._inner.write(data)

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def is_recording(path: Path) -> bool:
    """Whether a file begins like a recording."""
    try:
        with path.open("rb") as file:
            return file.read(len('{"recording"')) == b'{"recording"'
    except OSError:
        return False


def events(path: Path) -> Iterator[Event]:
    """Yields the recorded events in order. Raises RecordingError at the first damaged or incomplete line, naming it."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    lines = text.split(b"\n")
    try:
        head: Any = json.loads(lines[0])
    except (ValueError, RecursionError):
        head = None
    if head != _FORMAT:
        raise RecordingError(f"{path}: is not a recording of this version; record one with --record")
    for number, line in enumerate(lines[1:], 2):
        if not line and number == len(lines):
            return
        try:
            seconds, device, direction, data = json.loads(line)
            event = Event(float(seconds), str(device), direction, bytes.fromhex(data))
        except (ValueError, TypeError, OverflowError, RecursionError):
            where = "was cut in its last line" if number == len(lines) else "is damaged"
            raise RecordingError(f"{path}:{number}: the recording {where}; everything before this line is shown") from None
        if direction not in (DOWN, UP):
            raise RecordingError(f"{path}:{number}: direction '{direction}', expected '{DOWN}' or '{UP}'")
        yield event


def replay(path: Path, device: str | None = None, clock: Clock = SYSTEM_CLOCK) -> Replay:
    """A transport that plays back what a device sent in a recording.

    Args:
        path: The recording.
        device: Name of the device; None for the only one.
        clock: Clock to wait with.

    Returns:
        The transport.

    Raises:
        RecordingError: The recording is damaged or does not have the device, or has several and ``device`` is None.
    """
    found = list(events(path))
    names = list(dict.fromkeys(event.device for event in found))
    if device is None and len(names) > 1:
        raise RecordingError(f"{path}: holds {len(names)} devices, name one of {', '.join(names)}")
    if device is not None and device not in names:
        raise RecordingError(f"{path}: has no device '{device}', it holds {', '.join(names) or 'none'}")
    return Replay(f"{path}", [event for event in found if event.device == (device or event.device)], clock)


class Replay:
    """Plays back the device's side of a recording: an answer is sent once the host has sent the recorded request.

    Sequence numbers begin at a random number, so answers get the numbers of the new requests; damaged frames stay damaged.
    """

    def __init__(self, name: str, recorded: list[Event], clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self.name, self.baud = name, DEFAULT_BAUD
        self._script: deque[tuple[str, bytes]] = deque()  # whole frames; from the device also other bytes
        pending = {DOWN: b"", UP: b""}
        for event in recorded:
            *pieces, pending[event.direction] = (pending[event.direction] + event.data).split(b"\0")
            self._script.extend((event.direction, piece + b"\0") for piece in pieces if piece)
        if pending[UP]:
            self._script.append((UP, pending[UP]))
        self._then_to_now: dict[int, int] = {}  # sequence numbers
        self._written = Decoder()
        self._last_asked: int | None = None

    @property
    def finished(self) -> bool:
        """Whether everything was played back."""
        return not self._script

    def read(self, timeout: float) -> bytes:
        """See Transport; waits only where nothing was received in the recording."""
        data = b""
        while self._script and self._script[0][0] == UP:
            data += self._translate(self._script.popleft()[1])
        if not data:
            self._clock.sleep(max(timeout, 0.0))
        return data

    def write(self, data: bytes) -> None:
        """See Transport. Raises PortError if the host sends another request than in the recording."""
        for frame in self._written.feed(data):
            expected = next(((at, wire) for at, (way, wire) in enumerate(self._script) if way == DOWN), None)
            then = Decoder().feed(expected[1]) if expected is not None else []
            if expected is None or not then or then[0].type_id != frame.type_id:
                if frame.type_id == self._last_asked:
                    continue  # a retry that the recording does not have, because the host is faster now
                was = "the recording has ended" if not then else f"it was {_request_name(then[0].type_id)} in the recording"
                raise PortError(self.name, f"the host asks {_request_name(frame.type_id)}, {was}; make a new recording")
            del self._script[expected[0]]
            self._then_to_now[then[0].sequence] = frame.sequence
            self._last_asked = frame.type_id

    def close(self) -> None:
        """See Transport."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _translate(self, wire: bytes) -> bytes:
        whole = Decoder().feed(wire)
        if not whole or whole[0].sequence not in self._then_to_now:
            return wire
        return encode(whole[0].type_id, self._then_to_now[whole[0].sequence], whole[0].payload)


def _request_name(type_id: int) -> str:
    return next((each.__name__ for each in optional_messages.ALL_REQUESTS if each.type_id == type_id), f"type {type_id}")
