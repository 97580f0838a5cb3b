"""One board as typed calls: deadlines, retries, uploads with several messages under way, and a count of every byte."""

from __future__ import annotations

import os
import struct
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen import protocol
from tinymetafed_codegen.protocol import Dtype, State, Status

from .frame import Decoder, Frame, encode
from .transport import LinkError, Transport

FloatArray = npt.NDArray[np.float32]
ArrayLike = npt.NDArray[Any]
AnswerT = TypeVar("AnswerT", bound=protocol.Record)

DEADLINE_SECONDS = 0.5  # doubled at every retry
RETRIES = 4
START_SECONDS = 8.0  # an emulator among fifty others, or a board that waits in its boot loader
HELLO_SECONDS = 0.06
REPORT_SECONDS = 0.5  # between two progress answers of a training board
STALL_SECONDS = 120.0  # no single step takes this long
NOISE_BYTES = 24  # of what came instead of an answer, for the message
PATIENCE = 4  # an answer may take this many times as long as the last one of its kind
MAX_UNDER_WAY = 64  # well below the 256 sequence numbers
LOAD_BYTES = 1024  # framing costs under 2 % from here on, so larger windows carry two chunks at once

ELEMENT_BYTES = {Dtype.F32: 4, Dtype.F16: 2, Dtype.I8: 1, Dtype.U8: 1}
_WIRE_TYPES = {"float32": Dtype.F32, "float16": Dtype.F16, "int8": Dtype.I8, "uint8": Dtype.U8}
_NUMPY_TYPES = {Dtype.F32: "<f4", Dtype.F16: "<f2", Dtype.I8: "i1", Dtype.U8: "u1"}

_SMALLER = "send uint8 levels with a scale, use smaller inputs, or a board with more memory"

_MEANING = {
    Status.UNKNOWN_TYPE: "it does not know this message",
    Status.BAD_LENGTH: "the message is too short or too long",
    Status.BAD_STATE: "it is not in a state in which it can do that",
    Status.BAD_ROUND: "it is in round {detail}",
    Status.BAD_OFFSET: "it expects offset, rank or index {detail}",
    Status.BAD_VALUE: "a field is outside its domain",
    Status.NOT_FINITE: "a value is NaN or infinite",
    Status.OVERFLOW: "a value does not fit its wire type",
    Status.TOO_LARGE: "it has no room for that much",
}


class DeviceSilent(LinkError):
    """No byte came back."""


class DeviceGarbled(LinkError):
    """Bytes came back that are no answer."""


class DeviceRefused(LinkError):
    """The device said no: ``status`` and ``detail`` (see protocol.Status), and the request's ``message`` type."""

    def __init__(self, name: str, message: type[protocol.Request], status: int, detail: int) -> None:
        known = status in set(Status)
        label = Status(status).name if known else f"status {status}"
        meaning = _MEANING[Status(status)].format(detail=detail) if known and status else f"detail {detail}"
        super().__init__(f"{name}: refused {message.__name__} ({label}): {meaning}")
        self.status = status
        self.detail = detail
        self.message = message


class WrongFirmware(LinkError):
    """The firmware on the board is not the one this host and experiment need."""


class TrainingFailed(LinkError):
    """Training on the device ended before its last step; ``status`` is the device's reason (protocol.Status)."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class SampleTooLarge(LinkError):
    """One sample, or one answer to it, does not fit the device's receive window."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes on the wire with framing, retries and damage; ``samples_*``: those of Sample, Predict and their answers."""

    down: int = 0
    up: int = 0
    samples_down: int = 0
    samples_up: int = 0
    retries: int = 0

    def __sub__(self, earlier: Traffic) -> Traffic:
        """What came on top since ``earlier``."""
        return Traffic(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)))

    def __add__(self, other: Traffic) -> Traffic:
        """Both together, e.g. of two boards."""
        return Traffic(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


class Segment(Protocol):
    """Consecutive weights that share a wire type: first index, Dtype, scale of I8, little-endian bytes."""

    @property
    def offset(self) -> int: ...  # noqa: D102  # the class says it
    @property
    def dtype(self) -> int: ...  # noqa: D102
    @property
    def scale(self) -> float: ...  # noqa: D102
    @property
    def data(self) -> bytes: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Example:
    """One streamed sample: float32 ``targets``; ``inputs`` float32, float16, or int8 and uint8 that count ``scale``."""

    targets: ArrayLike
    inputs: ArrayLike
    scale: float = 1.0


# --- Message sizes: all arithmetic about what fits where ---


def wire_size(payload: int) -> int:
    """Most bytes that ``payload`` bytes take on the wire: COBS's worst case, and a delimiter at either end."""
    body = protocol.FRAME_HEADER_BYTES + payload + protocol.FRAME_CRC_BYTES
    return 1 + body + body // 254 + 1 + 1


def payload_capacity(window: int) -> int:
    """Largest payload whose ``wire_size`` is at most ``window`` (negative: not even an empty one)."""
    room = window - 3
    body = room - (room + 1) // 255
    return body - protocol.FRAME_HEADER_BYTES - protocol.FRAME_CRC_BYTES


def tail_capacity(record: type[protocol.Record], window: int) -> int:
    """Largest tail of ``record`` that fits a receive window of ``window`` bytes."""
    return payload_capacity(window) - record.fixed_size()


def load_chunk(segments: Sequence[Segment], round: int, position: int, window: int) -> tuple[protocol.Load, int]:
    """The Load from weight ``position`` on, with as many weights of its segment as fit; and the position after it."""
    index = bisect_right(segments, position, key=lambda segment: segment.offset) - 1
    segment = segments[index]
    size = ELEMENT_BYTES[Dtype(segment.dtype)]
    first = (position - segment.offset) * size
    if index < 0 or not 0 <= first < len(segment.data):
        raise ValueError(f"no segment holds weight {position}")
    share = min(window, max(LOAD_BYTES, window // 2))
    data = segment.data[first : first + tail_capacity(protocol.Load, share) // size * size]
    return protocol.Load(round, position, segment.dtype, segment.scale, data), position + len(data) // size


def predict_batch(input_bytes: int, output_size: int, window: int) -> int:
    """Whole inputs per Predict, so that both it and its answer fit ``window``; 0: not even one does."""
    return min(
        tail_capacity(protocol.Predict, window) // input_bytes,
        tail_capacity(protocol.Outputs, window) // (4 * output_size),
    )


# --- The session ---


@dataclass(slots=True)
class _Sent:
    """A request under way."""

    sequence: int
    message: protocol.Request
    frame: bytes
    after: int  # the position that its answer should report
    since: float


class Session:
    """One board behind an open line; one thread at a time. All calls raise LinkError's subclasses, naming ``name``."""

    def __init__(
        self,
        transport: Transport,
        *,
        name: str | None = None,
        deadline: float = DEADLINE_SECONDS,
        retries: int = RETRIES,
    ) -> None:
        self.name = name if name is not None else transport.name
        self.deadline = deadline
        self.retries = retries
        self.window = protocol.MIN_RECEIVE_WINDOW  # until hello() has asked
        self.session = int.from_bytes(os.urandom(4), "little")
        self._round = 0
        self._transport = transport
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        self._sequence = os.urandom(1)[0]  # a late answer to an earlier program is unlikely to match
        self._pace: dict[int, float] = {}  # seconds that the last answer to a request type took
        self._noise = bytearray()  # first bytes since the request that were no valid frame
        self._down = [0, 0]  # bytes; [1]: of samples
        self._up = [0, 0]
        self._retries = 0

    def close(self) -> None:
        """Closes the line."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def traffic(self) -> Traffic:
        """All bytes so far; subtract an earlier snapshot to get a round's."""
        return Traffic(sum(self._down), sum(self._up), self._down[1], self._up[1], self._retries)

    @property
    def damaged(self) -> int:
        """Damaged frames received and dropped."""
        return self._decoder.damaged

    # --- One request ---

    def request(self, message: protocol.Request) -> protocol.Record:
        """Sends ``message`` until its answer comes. Raises DeviceSilent, DeviceGarbled, DeviceRefused, PortError."""
        return self._ask(message, message.answer)

    def _ask(self, message: protocol.Request, answer: type[AnswerT]) -> AnswerT:
        sent = self._prepare(message)
        self._noise.clear()
        patience = self._patience(sent)
        for attempt in range(self.retries + 1):
            self._send(sent, repeated=attempt > 0)
            frame = self._receive((sent.sequence,), message.type_id, time.monotonic() + patience * 2**attempt)
            if frame is not None:
                return self._open(frame, sent, answer)
        raise self._no_answer(message, patience * (2 ** (self.retries + 1) - 1), self.retries)

    def _prepare(self, message: protocol.Request, after: int = 0) -> _Sent:
        self._sequence = (self._sequence + 1) & 0xFF
        return _Sent(self._sequence, message, encode(message.type_id, self._sequence, message.pack()), after, 0.0)

    def _send(self, sent: _Sent, *, repeated: bool = False) -> None:
        # A delimiter in front of a repeated frame ends whatever a lost byte has left open on the other side.
        data = b"\0" + sent.frame if repeated else sent.frame
        sent.since = time.monotonic()
        self._transport.write(data)
        self._down[_is_sample(sent.message.type_id)] += len(data)
        self._retries += repeated

    def _patience(self, sent: _Sent) -> float:
        """Seconds to wait for an answer: twice the line's own time for question and answer, and the device's."""
        on_the_line = 10 * (len(sent.frame) + self.window) / self._transport.baud
        return max(self.deadline, PATIENCE * self._pace.get(sent.message.type_id, 0.0)) + on_the_line

    def _receive(self, sequences: Collection[int], type_id: int, until: float) -> Frame | None:
        """The next answer to one of ``sequences``, or None at the time ``until``; anything else is dropped."""
        answers = (type_id | protocol.ANSWER_BIT, protocol.ERROR_TYPE)
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame.sequence in sequences and frame.type_id in answers:
                    return frame
            remaining = until - time.monotonic()
            if remaining <= 0:
                return None
            data = self._transport.read(remaining)
            self._up[_is_sample(type_id)] += len(data)
            found = self._decoder.feed(data)
            self._frames.extend(found)
            if not found and len(self._noise) < NOISE_BYTES:
                self._noise += data

    def _open(self, frame: Frame, sent: _Sent, answer: type[AnswerT]) -> AnswerT:
        """The answer in ``frame``. Raises DeviceRefused or DeviceGarbled."""
        self._pace[sent.message.type_id] = time.monotonic() - sent.since
        try:
            if frame.type_id == protocol.ERROR_TYPE:
                error = protocol.ErrorAnswer.unpack(frame.payload)
                raise DeviceRefused(self.name, type(sent.message), error.status, error.detail)
            return answer.unpack(frame.payload)
        except protocol.WireError as error:
            question = type(sent.message).__name__
            raise DeviceGarbled(f"{self.name}: answered {question} with something else: {error}") from error

    def _no_answer(self, message: protocol.Request, seconds: float, retries: int) -> LinkError:
        what = f"{type(message).__name__} in {seconds:.1f} s and {retries} {'retry' if retries == 1 else 'retries'}"
        if not self._noise:
            return DeviceSilent(f"{self.name}: no answer to {what}; reset the board, check cable and power, try again")
        return DeviceGarbled(
            f"{self.name}: no valid answer to {what}, only bytes like {bytes(self._noise[:NOISE_BYTES])!r}; "
            f"another program is on the board, its speed is not {self._transport.baud} bit/s, or the cable is bad: "
            "flash this experiment's firmware, then try another cable"
        )

    # --- Who is there ---

    def hello(self, start: float = START_SECONDS) -> protocol.HelloAnswer:
        """Who the device is; asks again and again for ``start`` seconds, through boot banners and boot time.

        Raises WrongFirmware when the answer is of another protocol, DeviceSilent or DeviceGarbled when none comes.
        """
        message = protocol.Hello()
        asked: dict[int, _Sent] = {}
        end = time.monotonic() + start
        self._noise.clear()
        while time.monotonic() < end:
            # Each has its own sequence and any answer counts: the first may wait in a board that is still booting.
            sent = self._prepare(message)
            self._transport.write(b"\0")  # ends whatever noise the opening of the line has left in the decoder
            self._down[0] += 1
            self._send(sent)
            asked[sent.sequence] = sent
            pause = HELLO_SECONDS + 10 * 2 * len(sent.frame) / self._transport.baud
            frame = self._receive(asked, message.type_id, min(end, time.monotonic() + pause))
            if frame is not None:
                return self._welcome(frame, asked[frame.sequence])
        raise self._no_answer(message, start, len(asked) - 1)

    def _welcome(self, frame: Frame, sent: _Sent) -> protocol.HelloAnswer:
        ours = protocol.HelloAnswer
        fixed = struct.calcsize("<H8s")  # protocol version and schema hash never change their place
        if frame.type_id != protocol.ERROR_TYPE and fixed <= len(frame.payload) != ours.fixed_size():
            version, schema = struct.unpack_from("<H8s", frame.payload)
            raise self._wrong_protocol(version, schema, "")
        hello = self._open(frame, sent, ours)
        self.window = hello.receive_window
        if payload_capacity(self.window) < payload_capacity(protocol.MIN_RECEIVE_WINDOW):
            raise DeviceGarbled(
                f"{self.name}: announces a receive window of {self.window} bytes, "
                f"expected at least {protocol.MIN_RECEIVE_WINDOW}"
            )
        return hello

    def _wrong_protocol(self, version: int, schema: bytes, board: str) -> WrongFirmware:
        return WrongFirmware(
            f"{self.name}: the firmware speaks protocol {version}, schema {schema.hex()}; this host speaks protocol "
            f"{protocol.PROTOCOL_VERSION}, schema {protocol.schema_hash().hex()}; {self._flash_again(board)}"
        )

    def _flash_again(self, board: str) -> str:
        command = f"pio run -e {board or 'BOARD'}"
        if not self.name.startswith(("/dev/", "COM")):  # a process or a network address: nothing to flash
            return f"build the firmware of this experiment again: `{command}`"
        return f"build and flash the firmware of this experiment again: `{command} -t upload --upload-port {self.name}`"

    def check(self, hello: protocol.HelloAnswer, manifest: Mapping[str, Any]) -> None:
        """Raises WrongFirmware unless protocol, board and model are those of this host and ``manifest``."""
        board = board_name(hello)
        if (hello.protocol_version, hello.schema_hash) != (protocol.PROTOCOL_VERSION, protocol.schema_hash()):
            raise self._wrong_protocol(hello.protocol_version, hello.schema_hash, board)
        if board != manifest["board"]:
            raise WrongFirmware(
                f"{self.name}: the firmware is of board {board}, the experiment was built for {manifest['board']}; "
                f"{self._flash_again(str(manifest['board']))}"
            )
        if hello.model_hash.hex() != manifest["model_hash"]:
            raise WrongFirmware(
                f"{self.name}: the firmware holds model {hello.model_hash.hex()}, the experiment has model "
                f"{manifest['model_hash']}; {self._flash_again(board)}"
            )

    # --- A round ---

    def configure(self, program: int, phases: Sequence[protocol.Phase], top_k: int, uplink: int) -> None:
        """Sets ``program``: up to MAX_PHASES phases, the delta's entries (0: none) and the Dtype of its values."""
        if len(phases) > protocol.MAX_PHASES:
            raise ValueError(f"{len(phases)} phases in one program, the device holds {protocol.MAX_PHASES}")
        end = protocol.Phase(0, 0, 0, 0, 0.0, 0.0)
        filled = (*phases, *[end] * (protocol.MAX_PHASES - len(phases)))
        self._ask(protocol.Configure(self.session, program, filled, top_k, uplink), protocol.ConfigureAnswer)

    def load(self, round: int, segments: Iterable[Segment]) -> None:
        """Writes the global weights: ``segments`` follow each other from weight 0 on without a gap.

        Raises ValueError when they do not, or hold NaN or infinity.
        """
        parts = [segment for segment in segments if segment.data]
        total = _checked_length(parts)

        def chunk_at(position: int) -> tuple[protocol.Request, int] | None:
            return load_chunk(parts, round, position, self.window) if position < total else None

        for _ in self._in_order(chunk_at, protocol.LoadAnswer, lambda answer: answer.next_offset):
            pass

    def next_round(self) -> int:
        """A round number for this device above all before, so that a late message of an earlier one is told apart."""
        self._round += 1
        return self._round

    def train(self, round: int, program: int, seed: int, client: int, draw: int) -> protocol.Progress:
        """Starts ``program`` with the samples ``draw`` of ``client``; again: only reports."""
        return self._trained(self._ask(protocol.Train(round, program, seed, client, draw), protocol.Progress))

    def await_done(
        self, round: int, total_steps: int, on_progress: Callable[[protocol.Progress], None] | None = None
    ) -> protocol.Progress:
        """Waits until the device has trained, calling ``on_progress`` about twice a second. Raises TrainingFailed.

        The device is asked to answer at the step that it should reach in REPORT_SECONDS at its measured pace, so that
        a short training costs one message; one that is slower than thought is asked where it stands.
        """
        target = total_steps
        began = moved = time.monotonic()
        first: int | None = None
        last = -1
        while True:
            progress = self._await(round, target)
            now = time.monotonic()
            if on_progress is not None:
                on_progress(progress)
            if self._trained(progress).state == State.DONE:
                return progress
            if progress.state != State.TRAINING:
                raise TrainingFailed(
                    f"{self.name}: stands at {_state(progress.state)} in round {round}, expected TRAINING or DONE; "
                    "it was reset or never told to train: start the round again", Status.BAD_STATE
                )  # fmt: skip
            if first is None:
                first, began = progress.step, now
            if progress.step != last:
                last, moved = progress.step, now
            elif now - moved > STALL_SECONDS:
                raise TrainingFailed(
                    f"{self.name}: has stood at step {last} of {total_steps} for {STALL_SECONDS:g} s; reset the board",
                    Status.BAD_STATE,
                )
            pace = (progress.step - first) / (now - began) if now > began else 0.0
            target = min(total_steps, progress.step + max(1, int(pace * REPORT_SECONDS)))

    def _await(self, round: int, target: int) -> protocol.Progress:
        sent = self._prepare(protocol.Await(round, target))
        self._send(sent)
        frame = self._receive((sent.sequence,), sent.message.type_id, time.monotonic() + 2 * REPORT_SECONDS)
        if frame is not None:
            return self._open(frame, sent, protocol.Progress)
        self._pace.pop(sent.message.type_id, None)  # how long a target took says nothing about an answer at once
        return self._ask(protocol.Await(round, 0), protocol.Progress)

    def _trained(self, progress: protocol.Progress) -> protocol.Progress:
        if progress.state != State.FAILED:
            return progress
        known = progress.fault in set(Status)
        reason = Status(progress.fault).name if known else f"status {progress.fault}"
        raise TrainingFailed(
            f"{self.name}: training failed at step {progress.step} of round {progress.round}: {reason}; "
            "a learning rate that is too high is the usual cause", progress.fault
        )  # fmt: skip

    def sample(self, round: int, step: int, targets: ArrayLike, inputs: ArrayLike, scale: float = 1.0) -> protocol.Progress:
        """Trains one streamed sample: ``targets`` as float32, ``inputs`` in their own type (see Example)."""
        message = self._sample(round, step, Example(targets, inputs, scale))
        return self._trained(self._ask(message, protocol.Progress))

    def stream(
        self,
        round: int,
        samples: Iterable[Example],
        on_progress: Callable[[protocol.Progress], None] | None = None,
        start: int = 0,
    ) -> protocol.Progress:
        """Trains ``samples`` as steps ``start``, ``start`` + 1, ...; as many are under way as the receive window holds.

        A device that is further already is not sent what it has trained. Raises TrainingFailed, SampleTooLarge,
        ValueError (a NaN or infinity, naming its step).
        """
        source = iter(samples)
        kept: deque[protocol.Sample] = deque()  # not yet acknowledged, from step `first` on
        first = start

        def sample_at(step: int) -> tuple[protocol.Request, int] | None:
            while first + len(kept) <= step:
                example = next(source, None)
                if example is None:
                    return None
                kept.append(self._sample(round, first + len(kept), example))
            return kept[step - first], step + 1

        progress: protocol.Progress | None = None
        for progress in self._in_order(sample_at, protocol.Progress, lambda answer: answer.step, start):
            while kept and first < self._trained(progress).step:
                kept.popleft()
                first += 1
            if on_progress is not None:
                on_progress(progress)
        if progress is None:  # nothing was sent: only report
            progress = self._trained(self._ask(protocol.Await(round, 0), protocol.Progress))
        return progress

    def _sample(self, round: int, step: int, example: Example) -> protocol.Sample:
        targets = np.ascontiguousarray(example.targets, dtype="<f4")
        dtype, data = _levels(example.inputs)
        for what, values in (("target", targets), ("input", example.inputs), ("scale", np.float32(example.scale))):
            if not np.isfinite(values).all():
                raise ValueError(f"sample {step} of round {round}: its {what} is NaN or infinite; clean the data")
        payload = targets.tobytes() + data
        capacity = tail_capacity(protocol.Sample, self.window)
        if len(payload) > capacity:
            raise SampleTooLarge(
                f"{self.name}: sample {step} takes {len(payload)} bytes, this board's receive window of {self.window} "
                f"bytes holds samples of {capacity}; {_SMALLER}"
            )
        return protocol.Sample(round, step, dtype, example.scale, payload)

    def pull(self, round: int, count: int) -> list[protocol.Delta]:
        """The frozen delta's chunks, in order, until ``count`` entries. Raises DeviceGarbled for a wrong one."""
        chunks: list[protocol.Delta] = []
        rank = 0
        while rank < count:
            delta = self._ask(protocol.Pull(round, rank), protocol.Delta)
            if delta.round != round or delta.rank != rank or not 1 <= delta.count <= count - rank:
                raise DeviceGarbled(
                    f"{self.name}: asked for entries from {rank} of {count} of round {round}'s delta, "
                    f"got {delta.count} from {delta.rank} of round {delta.round}"
                )
            chunks.append(delta)
            rank += delta.count
        return chunks

    # --- Reading and using weights ---

    def fetch(self, offset: int, count: int) -> FloatArray:
        """Current weights [count] from ``offset`` on, in manifest order."""
        most = min(tail_capacity(protocol.Weights, self.window) // 4, 0xFFFF)
        parts: list[bytes] = []
        got = 0
        while got < count:
            wanted = min(count - got, most)
            answer = self._ask(protocol.Fetch(offset + got, wanted), protocol.Weights)
            size = len(answer.data)
            if answer.offset != offset + got or size % 4 or not 4 <= size <= 4 * wanted:
                raise DeviceGarbled(
                    f"{self.name}: asked for {wanted} weights from {offset + got}, got {size} bytes from {answer.offset}"
                )
            parts.append(answer.data)
            got += size // 4
        return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)

    def predict(self, inputs: ArrayLike, output_size: int, scale: float = 1.0) -> FloatArray:
        """The network's outputs [n, output_size] for ``inputs`` [n, *shape] with the device's current weights.

        ``inputs`` travel in their own type (see Example). Raises ValueError naming a sample that is not finite,
        SampleTooLarge when one input does not fit the receive window.
        """
        dtype, data = _levels(inputs)
        if len(inputs) == 0:
            return np.zeros((0, output_size), np.float32)
        finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
        if not finite.all():
            raise ValueError(f"sample {int(np.argmin(finite))}: its input is NaN or infinite; clean the data")
        if not np.isfinite(scale):
            raise ValueError(f"scale {scale} is not finite")
        each = len(data) // len(inputs)
        batch = predict_batch(each, output_size, self.window)
        if batch == 0:
            raise SampleTooLarge(
                f"{self.name}: an input of {each} bytes with {output_size} outputs does not fit this board's receive "
                f"window of {self.window} bytes; {_SMALLER}"
            )
        rows: list[bytes] = []
        for at in range(0, len(inputs), batch):
            count = min(batch, len(inputs) - at)
            message = protocol.Predict(dtype, scale, data[at * each : (at + count) * each])
            answer = self._ask(message, protocol.Outputs).data
            if len(answer) != 4 * count * output_size:
                raise DeviceGarbled(
                    f"{self.name}: asked for {count} predictions of {output_size} outputs, got {len(answer)} bytes"
                )
            rows.append(answer)
        return np.frombuffer(b"".join(rows), "<f4").astype(np.float32).reshape(len(inputs), output_size)

    # --- Many messages in order ---

    def _in_order(
        self,
        message_at: Callable[[int], tuple[protocol.Request, int] | None],
        answer: type[AnswerT],
        reached: Callable[[AnswerT], int],
        start: int = 0,
    ) -> Iterator[AnswerT]:
        """Sends messages by position, several at once while the receive window holds them, and yields their answers.

        ``message_at`` gives the message that starts at a position and the position after it, None at the end;
        ``reached`` reads from an answer how far the device is. The device takes them in order and says where it is,
        so after a loss we wait for what is still under way and go on from there.
        """
        position = following = furthest = start  # acknowledged; to be sent next; ever sent
        ready: _Sent | None = None
        under_way: deque[_Sent] = deque()
        refused: DeviceRefused | None = None
        failures = 0
        lost = False
        self._noise.clear()
        while True:
            while not lost and len(under_way) < MAX_UNDER_WAY:
                if ready is None and (entry := message_at(following)) is not None:
                    ready = self._prepare(*entry)
                used = sum(len(other.frame) + 1 for other in under_way)  # + 1: the delimiter in front of a repeat
                if ready is None or (under_way and used + len(ready.frame) + 1 > self.window):
                    break
                self._send(ready, repeated=following < furthest)
                under_way.append(ready)
                following = ready.after
                furthest = max(furthest, following)
                ready = None
            if not under_way:
                return
            oldest = under_way[0]
            patience = self._patience(oldest) * 2**failures
            frame = self._receive([sent.sequence for sent in under_way], oldest.message.type_id, time.monotonic() + patience)
            before = position
            if frame is None:
                under_way.clear()
            else:
                while (sent := under_way.popleft()).sequence != frame.sequence:
                    pass  # an earlier one without an answer: the message or its answer was lost
                if under_way:
                    under_way[0].since = time.monotonic()  # the device starts with it now
                try:
                    record = self._open(frame, sent, answer)
                    refused, position = None, reached(record)
                except DeviceRefused as refusal:
                    if refusal.status != Status.BAD_OFFSET:
                        raise
                    record, refused, position = None, refusal, refusal.detail
                if position < before:
                    raise refused or DeviceGarbled(
                        f"{self.name}: went back from {before} to {position} in {type(sent.message).__name__}; "
                        "it was reset: start the round again"
                    )
                lost = lost or position != sent.after
                if record is not None:
                    yield record
            if position > before:
                failures = 0
            if frame is None or (lost and not under_way):
                if position == before and (failures := failures + 1) > self.retries:
                    raise refused or self._no_answer(oldest.message, patience, self.retries)
                lost, ready, following = False, None, position


# --- Small readings ---


def board_name(hello: protocol.HelloAnswer) -> str:
    """The board's name as text."""
    return hello.board.rstrip(b"\0").decode("ascii", "backslashreplace")


def _is_sample(type_id: int) -> bool:
    return type_id in (protocol.Sample.type_id, protocol.Predict.type_id)


def _state(state: int) -> str:
    return State(state).name if state in set(State) else f"state {state}"


def _levels(inputs: ArrayLike) -> tuple[Dtype, bytes]:
    """Wire type and little-endian bytes of ``inputs``. Raises ValueError for a type that does not travel."""
    dtype = _WIRE_TYPES.get(inputs.dtype.name)
    if dtype is None:
        raise ValueError(f"inputs of type {inputs.dtype.name}, expected one of {', '.join(_WIRE_TYPES)}")
    return dtype, np.ascontiguousarray(inputs, dtype=_NUMPY_TYPES[dtype]).tobytes()


def _checked_length(segments: Sequence[Segment]) -> int:
    """Weights in all ``segments``. Raises ValueError unless they follow each other from 0 on, whole and finite."""
    position = 0
    for segment in segments:
        dtype = Dtype(segment.dtype)
        if segment.offset != position:
            raise ValueError(f"a segment of weights starts at {segment.offset}, expected {position}")
        if len(segment.data) % ELEMENT_BYTES[dtype]:
            raise ValueError(f"the segment at weight {position} has {len(segment.data)} bytes, not whole {dtype.name} values")
        values = np.frombuffer(segment.data, _NUMPY_TYPES[dtype])
        if not (np.isfinite(values).all() and np.isfinite(segment.scale)):
            raise ValueError(f"weights from {position} on hold NaN or infinity; training has diverged")
        position += len(values)
    return position
