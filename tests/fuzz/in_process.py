"""The firmware core in this process: a device that answers bytes with bytes, and a line to it with random faults."""

from __future__ import annotations

import ctypes
import random
import subprocess
from enum import Enum, auto
from pathlib import Path
from typing import Self

import fuzzer
from clocks import FakeClock
from cobs import cobs

from tinymetafed.wire.frame import Decoder, Frame, encode
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import ANSWER_BIT, Configure, Hello, Load, Request
from tinymetafed_codegen.toolchain import compiler_flags

SOURCE = Path(__file__).with_name("in_process.cpp")
READ_SECONDS = 0.01  # time by the line's clock of a read without bytes
STEPS_PER_READ = 3  # trained between two reads of the line, so that requests arrive during training


def build(model: str, folder: Path) -> Path:
    """Builds the library of ``sine`` or ``streamed``; raises AssertionError with the compiler's messages."""
    folder.mkdir(parents=True, exist_ok=True)
    units = [SOURCE, *fuzzer.generate_sources(model, folder)]
    library = folder / "device.so"
    includes = [f"-I{folder}", f"-I{find('firmware') / 'core'}"]
    # Otherwise all models loaded later in this process would use the tables of the first.
    own_tables = "-fno-gnu-unique"
    command = [
        "g++",
        *compiler_flags(),
        "-O2",
        "-g1",
        own_tables,
        "-shared",
        "-fPIC",
        *includes,
        *map(str, units),
        "-o",
        str(library),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


class Device:
    """One device; a library can hold several."""

    def __init__(self, library: Path) -> None:
        self._core = ctypes.CDLL(str(library))
        self._core.device_new.restype = ctypes.c_void_p
        self._core.device_sent.restype = ctypes.c_size_t
        self._core.device_work.restype = ctypes.c_bool
        self._device: ctypes.c_void_p | None = None
        self.steps = 0  # steps on samples of its own, since the device was made
        self.reset()

    def reset(self) -> None:
        """Resets the device, which loses all state."""
        self.close()
        self._device = ctypes.c_void_p(self._core.device_new())

    def close(self) -> None:
        """Frees the device."""
        if self._device is not None:
            self._core.device_delete(self._device)
            self._device = None

    def receive(self, data: bytes) -> None:
        """Bytes from the line."""
        self._core.device_receive(self._device, data, ctypes.c_size_t(len(data)))

    def work(self) -> bool:
        """Trains a step if one is due, and answers an Await that is due. Returns whether it trained."""
        trained = bool(self._core.device_work(self._device))
        self.steps += trained
        return trained

    def sent(self) -> bytes:
        """Bytes sent since the last call."""
        buffer = ctypes.create_string_buffer(self._core.device_sent(self._device))
        self._core.device_take(self._device, buffer)
        return buffer.raw

    def ask(self, message: Request) -> Frame:
        """The answer to one message over a line without faults, after all training that is due."""
        self.receive(encode(message.type_id, 1, message.pack()))
        while self.work():
            pass
        (frame,) = Decoder().feed(self.sent())
        assert frame.type_id == message.type_id | ANSWER_BIT, frame
        return frame


class Fault(Enum):
    """A fault of one frame on the line."""

    DROP = auto()
    FLIP = auto()  # one bit flipped
    CUT = auto()  # its end is lost with the 0x00, so the next frame is lost too
    TWICE = auto()
    NOISE = auto()  # bytes that are no frame come first
    STALL = auto()  # the line stalls: deadlines pass, repeats queue up, then all arrive in order
    OVERTAKEN = auto()  # it comes behind up to MOST_OVERTAKING later frames
    AGAIN = auto()  # it comes now, and once more behind later frames


MOST_OVERTAKING = 3
LONGEST_RUN, REST = 2, 6  # frames with faults in a row, and frames then passed, so that retries succeed


def _begins(frame: bytes) -> bool:
    """Whether a frame is a request that makes a device forget its round, or a part of the weights that the round begins with.

    Without authentication a device cannot know that a copy is late (docs/network-boards.md). A late copy of the first kind is
    as a reset. One of the last part of the weights may end a second loading early. The host then begins the round again.
    """
    return cobs.decode(frame[:-1])[0] in (Hello.type_id, Configure.type_id, Load.type_id)


class Way:
    """One direction of a line: frames that have arrived, and frames that later ones overtake."""

    def __init__(self) -> None:
        self._arrived = bytearray()
        self._held: list[tuple[int, bytes]] = []  # frames that still overtake it, and the frame

    def put(self, frame: bytes) -> None:
        """A frame arrives, and behind it those whose time has come."""
        self._arrived += frame
        if len(frame) > 1:
            later, self._held = self._held, []
            for left, held in later:
                if left == 1:
                    self._arrived += held
                else:
                    self._held.append((left - 1, held))

    def hold(self, frame: bytes, overtaking: int) -> None:
        """A frame arrives once so many others have."""
        self._held.append((overtaking, frame))

    def take(self) -> bytes:
        """The bytes that have arrived since the last call."""
        arrived = bytes(self._arrived)
        self._arrived.clear()
        return arrived


class Line:
    """A transport to a device in this process; frames suffer ``faults`` at ``rate`` in either direction, from ``seed``."""

    name = "in-process"
    baud = 1_000_000_000

    def __init__(self, device: Device) -> None:
        self.device = device
        self.clock = FakeClock()
        self.faults: tuple[Fault, ...] = ()
        self.rate = 0.0
        self.happened = 0
        self._random = random.Random(0)
        self._down = Way()
        self._up = Way()
        self._rest = b""  # bytes of an incomplete answer
        self._stalled = 0  # number of reads
        self._run = 0

    def seed(self, seed: int) -> None:
        """Seeds the faults from here on."""
        self._random.seed(seed)

    def write(self, data: bytes) -> None:
        for piece in data.split(b"\0")[:-1]:
            self._suffer(piece + b"\0", self._down)

    def read(self, timeout: float) -> bytes:
        if self._stalled > 0:
            self._stalled -= 1
            self.clock.sleep(min(timeout, READ_SECONDS))
            return b""
        self.device.receive(self._down.take())
        for _ in range(STEPS_PER_READ):
            self.device.work()
        *frames, self._rest = (self._rest + self.device.sent()).split(b"\0")
        for frame in frames:
            self._suffer(frame + b"\0", self._up)
        arrived = self._up.take()
        if not arrived:
            self.clock.sleep(min(timeout, READ_SECONDS))
        return arrived

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _suffer(self, frame: bytes, way: Way) -> None:
        """Puts a frame on its way, with a fault or without."""
        if len(frame) == 1:  # the delimiter that precedes a repeat
            way.put(frame)
            return
        if self._run < 0 or not self.faults or self._random.random() >= self.rate:
            self._run = min(self._run + 1, 0)
            way.put(frame)
            return
        self._run = self._run + 1 if self._run + 1 < LONGEST_RUN else -REST
        self.happened += 1
        fault = self._random.choice(self.faults)
        if fault in (Fault.OVERTAKEN, Fault.AGAIN) and _begins(frame):
            fault = Fault.TWICE
        if fault in (Fault.OVERTAKEN, Fault.AGAIN):
            if fault == Fault.AGAIN:
                way.put(frame)
            way.hold(frame, self._random.randint(1, MOST_OVERTAKING))
            return
        way.put(self._damaged(frame, fault))

    def _damaged(self, frame: bytes, fault: Fault) -> bytes:
        if fault == Fault.DROP:
            return b""
        if fault == Fault.FLIP:
            at = self._random.randrange(len(frame))
            return frame[:at] + bytes([frame[at] ^ 1 << self._random.randrange(8)]) + frame[at + 1 :]
        if fault == Fault.CUT:
            return frame[: self._random.randrange(len(frame))]
        if fault == Fault.TWICE:
            return frame + frame
        if fault == Fault.NOISE:
            return self._random.randbytes(self._random.randrange(1, 40)) + frame
        self._stalled = self._random.randrange(1, 400)
        return frame
