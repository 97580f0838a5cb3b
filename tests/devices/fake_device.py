"""A device in Python that speaks the protocol and fails on request, in the test's thread or behind a real line."""

from __future__ import annotations

import dataclasses
import os
import select
import socket
import struct
import threading
import tty
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Self

import numpy as np
from clocks import FakeClock

from tinymetafed.devices.link.clock import SYSTEM_CLOCK, Clock
from tinymetafed.devices.link.link_errors import PortError
from tinymetafed.devices.link.session import Session
from tinymetafed.wire.frame import Decoder, Frame, encode
from tinymetafed_codegen import protocol
from tinymetafed_codegen.optional_messages.coded_messages import CodedDelta, PullCoded, ValueCoding
from tinymetafed_codegen.protocol import Coding, Dtype, State, Status


class Fault(Enum):
    """What goes wrong with one request."""

    NONE = auto()
    DROP = auto()  # the request is lost
    LOSE_ANSWER = auto()
    DAMAGE = auto()  # one bit of the answer
    CUT = auto()  # the second half of the answer is lost, with its 0x00
    DUPLICATE = auto()  # the answer comes twice
    STALE = auto()  # an answer with another sequence number comes first
    GARBAGE = auto()  # bytes that are no frame come first
    GARBAGE_ONLY = auto()
    VANISH = auto()  # the line closes


MODEL_HASH = bytes(range(8))


class FakeBoard:
    """Holds ``weights`` float32 values, pretends to train ``pace`` steps a second, and records its requests.

    Each request uses up one of ``faults``; after the last, it answers without faults, or not at all with ``silent``. It
    takes bytes by ``receive``, handles them in ``work``, and ``take`` returns its answers.
    """

    url = "/dev/fake"

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM_CLOCK,
        weights: int = 100,
        window: int = 256,
        faults: Iterable[Fault] = (),
        banner: bytes = b"",
        noise: bytes = b"",
        silent: bool = False,
        thinking: float = 0.0,
        steps: int = 0,
        pace: float = 1e9,
        fails_at: int | None = None,
        downlink: Dtype = Dtype.F32,
        **hello: Any,
    ) -> None:
        self.clock = clock
        self.weights = np.zeros(weights, np.float32)
        self.window = window
        self.faults = deque(faults)
        self.banner = banner  # sent on the first byte received, because the host discards earlier bytes when it opens the line
        self.noise = noise  # sent while a host is connected
        self.silent = silent
        self.thinking = thinking  # seconds that each request takes
        self.steps = steps  # steps of one program; streamed once a Sample has come
        self.pace = pace
        self.fails_at = fails_at
        self.downlink = downlink
        self.identity = protocol.HelloAnswer(
            protocol.PROTOCOL_VERSION, protocol.schema_hash(), MODEL_HASH, b"native", b"\0" * 7 + b"\1", window, 1000
        )
        self.identity = dataclasses.replace(self.identity, **hello)
        self.requests: list[Frame] = []
        self.configured: list[protocol.Configure] = []
        self.trained: list[protocol.Sample] = []
        self.most_pending = 0  # bytes received and not yet handled
        self.received = self.sent = 0
        self._loaded = 0
        self._token = 0
        self._state = State.IDLE
        self._step = 0
        self._began: float | None = None
        self._awaiting: tuple[int, int] | None = None  # sequence, step
        self.gone = False  # its line is closed
        self._pending = b""
        self._decoder = Decoder()
        self._said = bytearray()

    # --- The line ---

    def receive(self, data: bytes) -> None:
        """Bytes from the host."""
        if not self.received:
            self._said += self.banner
        self.received += len(data)
        self._pending += data
        self.most_pending = max(self.most_pending, len(self._pending))

    def work(self) -> bool:
        """Handles the bytes up to the next delimiter, and answers an Await that is due; False: there were no bytes."""
        busy = b"\0" in self._pending
        if busy:
            piece, self._pending = self._pending.split(b"\0", 1)
            for frame in self._decoder.feed(piece + b"\0"):
                self.clock.sleep(self.thinking)
                self._handle(frame)
        self._advance()
        return busy

    def take(self) -> bytes:
        """Bytes sent since the last call."""
        said = bytes(self._said) + self.noise
        self._said.clear()
        self.sent += len(said)
        return said

    @property
    def due(self) -> float | None:
        """The time at which training reaches the step that the host waits for."""
        if self._awaiting is None or self._began is None:
            return None
        step = min(self._awaiting[1], self.steps, self.steps if self.fails_at is None else self.fails_at)
        return self._began + (step + 0.5) / self.pace

    def _handle(self, frame: Frame) -> None:
        """Answers one request."""
        self.requests.append(frame)
        fault = self.faults.popleft() if self.faults else Fault.DROP if self.silent else Fault.NONE
        if fault == Fault.DROP:
            return
        if fault == Fault.GARBAGE_ONLY:
            self._said += b"\x55\xaa\x55"
            return
        if fault == Fault.VANISH:
            self.gone = True
            return
        answer = self._answer(frame)
        if answer is None:
            return
        is_error = isinstance(answer, protocol.ErrorAnswer)
        type_id = protocol.ERROR_TYPE if is_error else frame.type_id | protocol.ANSWER_BIT
        data = encode(type_id, frame.sequence, answer.encode())
        if fault == Fault.LOSE_ANSWER:
            return
        if fault == Fault.DAMAGE:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
        elif fault == Fault.CUT:
            data = data[: len(data) // 2]
        elif fault == Fault.DUPLICATE:
            data = data + data
        elif fault == Fault.STALE:
            data = encode(type_id, (frame.sequence - 100) & 0xFF, answer.encode()) + data
        elif fault == Fault.GARBAGE:
            data = b"boot: \xff\x13\x00\x01" + b"\0" + data
        self._said += data

    # --- The protocol ---

    def _advance(self) -> None:
        if self._began is not None and self._state == State.TRAINING:
            self._step = min(self.steps, int((self.clock.monotonic() - self._began) * self.pace))
            if self.fails_at is not None and self._step >= self.fails_at:
                self._step, self._state = self.fails_at, State.FAILED
            elif self._step == self.steps:
                self._state = State.DONE
        if self._awaiting is not None:
            sequence, step = self._awaiting
            if self._step >= step or self._state != State.TRAINING:
                self._awaiting = None
                self._said += encode(protocol.Await.type_id | protocol.ANSWER_BIT, sequence, self._progress().encode())

    def _progress(self) -> protocol.Progress:
        fault = Status.NOT_FINITE if self._state == State.FAILED else Status.OK
        return protocol.Progress(self._token, self._state, fault, self._step, 10 * self._step)

    def _answer(self, frame: Frame) -> protocol.Record | None:
        known = next((each for each in (*protocol.REQUESTS, PullCoded) if each.type_id == frame.type_id), None)
        if known is None:
            return protocol.ErrorAnswer(Status.UNKNOWN_TYPE, 0)
        message = known.unpack(frame.payload)
        if isinstance(message, protocol.Hello):
            return self.identity
        if isinstance(message, protocol.Configure):
            self.configured.append(message)
            return protocol.ConfigureAnswer()
        if isinstance(message, protocol.Load):
            return self._load(message)
        if isinstance(message, protocol.Train):
            if self._state != State.TRAINING and self._step == 0:
                self._token, self._state, self._began = message.token, State.TRAINING, self.clock.monotonic()
            return self._progress()
        if isinstance(message, protocol.Sample):
            return self._sample(message)
        if isinstance(message, protocol.Await):
            if message.token != self._token:
                return protocol.ErrorAnswer(Status.BAD_TOKEN, self._token)
            self._awaiting = (frame.sequence, message.step)
            return None
        if isinstance(message, protocol.Pull):
            count = min(7, len(self.weights) - message.rank)
            return protocol.Delta(message.token, message.rank, count, 0, Coding.RICE_0, Dtype.F32, 0.0, b"d" * count)
        if isinstance(message, PullCoded):
            count = min(7, len(self.weights) - message.rank)
            return CodedDelta(message.rank, count, Coding.RUN, ValueCoding.SIGNS, Dtype.I8, 1.0, b"d" * count)
        if isinstance(message, protocol.Fetch):
            part = self.weights[message.offset : message.offset + message.count]
            return protocol.Weights(message.offset, part.tobytes())
        assert isinstance(message, protocol.Predict)
        # Inputs of 4 numbers; two outputs each: their sum and twice that.
        inputs = np.frombuffer(message.data, message.dtype.layout).reshape(-1, 4).astype(np.float32)
        sums = inputs.sum(axis=1) * np.float32(message.scale)
        return protocol.Outputs(np.stack([sums, 2 * sums], axis=1).astype(np.float32).tobytes())

    def _load(self, message: protocol.Load) -> protocol.Record:
        if message.dtype != self.downlink:
            return protocol.ErrorAnswer(Status.BAD_VALUE, message.offset)
        if message.token != self._token:
            if message.offset != 0:
                return protocol.ErrorAnswer(Status.BAD_OFFSET, 0)
            self._token, self._loaded = message.token, 0
        if message.offset > self._loaded:
            return protocol.ErrorAnswer(Status.BAD_OFFSET, self._loaded)
        if message.offset == self._loaded:
            values = np.frombuffer(message.data, message.dtype.layout).astype(np.float32)
            if message.dtype == Dtype.I8:
                values = values * np.float32(message.scale)
            self.weights[message.offset : message.offset + len(values)] = values
            self._loaded += len(values)
            self._step = 0
        return protocol.LoadAnswer(self._loaded)

    def _sample(self, message: protocol.Sample) -> protocol.Record:
        self._began = None
        self._state = State.TRAINING
        self._token = message.token
        if message.step > self._step:
            return protocol.ErrorAnswer(Status.BAD_OFFSET, self._step)
        if message.step == self._step:
            self.trained.append(message)
            self._step += 1
            if self.fails_at is not None and self._step >= self.fails_at:
                self._state = State.FAILED
        return self._progress()


class FakeLine:
    """A transport to a board in the same thread; ``clock`` advances only while the host waits for bytes."""

    baud = 4_000_000  # the line itself adds almost no time

    def __init__(self, board: FakeBoard, clock: FakeClock) -> None:
        self.name = board.url
        self._board = board
        self._clock = clock

    def write(self, data: bytes) -> None:
        self._check()
        self._board.receive(data)

    def read(self, timeout: float) -> bytes:
        until = self._clock.now + max(timeout, 0.0)
        while True:
            self._check()
            busy = self._board.work()
            if said := self._board.take():
                self._clock.sleep(NOISE_SECONDS if self._board.noise else 0.0)
                return said
            if not busy:
                due = self._board.due
                if due is None or due > until:
                    self._clock.now = max(self._clock.now, until)
                    return b""
                self._clock.now = max(self._clock.now, due)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self) -> None:
        if self._board.gone:
            raise PortError(self.name, "the line went away")


NOISE_SECONDS = 0.001  # between two bursts of noise


class FakeDevice(FakeBoard, threading.Thread):
    """A FakeBoard at the other end of a real pseudo-terminal or TCP line, in a thread of its own, until ``close``."""

    def __init__(self, *, tcp: bool = False, **board: Any) -> None:
        FakeBoard.__init__(self, **board)
        threading.Thread.__init__(self, daemon=True)
        self._ending = False
        if tcp:
            self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
            self._fd, self._line = -1, -1
            self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = None
            self._fd, self._line = os.openpty()
            tty.setraw(self._line)
            self.url = os.ttyname(self._line)
        self.start()

    def close(self) -> None:
        """Ends the thread and the line."""
        self._ending = True
        self.join()
        self._hang_up()
        if self._listener is not None:
            self._listener.close()

    def run(self) -> None:
        if self._listener is not None:
            while not select.select([self._listener], [], [], IDLE_SECONDS)[0]:
                if self._ending:
                    return
            self._fd = self._listener.accept()[0].detach()
        os.set_blocking(self._fd, False)
        unsent, busy = b"", False
        while not self._ending:
            if select.select([self._fd], [], [], 0 if busy else IDLE_SECONDS)[0]:
                try:
                    data = os.read(self._fd, 1 << 16)
                except OSError:
                    return
                if not data:
                    return
                self.receive(data)
            busy = self.work()
            if self.gone:
                self._hang_up()
                return
            unsent = unsent or self.take()
            with suppress(BlockingIOError):
                unsent = unsent[os.write(self._fd, unsent) :]

    def _hang_up(self) -> None:
        for fd in {self._fd, self._line} - {-1}:
            os.close(fd)
        self._fd = self._line = -1


IDLE_SECONDS = 0.002


def boot_banner(rng: np.random.Generator, size: int) -> bytes:
    """What an ESP32 prints before our firmware runs, read at the wrong speed."""
    return rng.integers(0, 256, size, dtype=np.uint8).tobytes() + struct.pack("<I", 0)


Connect = Callable[..., tuple[FakeBoard, Session]]  # the type of the fixture `connect`
