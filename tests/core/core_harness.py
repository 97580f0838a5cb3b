"""The firmware core under test: compiled once per session, called as a shared library or as a sanitized process."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen import emit
from tinymetafed_codegen.messages.level_format import LevelFormat
from tinymetafed_codegen.optional_messages.coded_messages import CodedDelta
from tinymetafed_codegen.optional_messages.level_messages import LevelDelta, LoadLevels
from tinymetafed_codegen.options import optional_headers
from tinymetafed_codegen.options.log_mel_cpp import log_mel_header
from tinymetafed_codegen.options.log_mel_facts import facts
from tinymetafed_codegen.protocol import Delta, Dtype, Recipe, Selection, Status
from tinymetafed_codegen.spec import SoundOptions
from tinymetafed_codegen.toolchain import compiler_flags

REPOSITORY = Path(__file__).resolve().parents[2]
CORE = REPOSITORY / "firmware" / "core"
UNITS = ("crc32", "frame", "half", "prng", "delta_codec")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
NEXT = 0xFFFFFFFF  # as a rank: the chunk after the previous one; no answer when there is none

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
Message = TypeVar("Message", Delta, CodedDelta, LevelDelta)
SOUND = facts(SoundOptions(longest_seconds=0.6), rate=8000, bands=32, frames=20, source="pytest")
TENSORS = (7, 1, 32)  # sizes of the tensors whose weights the harness receives
_OPERATIONS = (
    "CRC FRAME_ENCODE FRAME_DECODE TO_HALF FROM_HALF EXP SIN TANH SQRT EXPM1 LOG1P ERF THREEFRY DRAW SELECT SELECT_BY_BIT "
    "DELTA DELTA_OF_3 RECEIVED_F32 RECEIVED_F16 RECEIVED_I8"
)
Operation = IntEnum(
    "Operation",
    f"{_OPERATIONS} SCALED DOUBLE_PRODUCT LOG2 SOUNDS BLAKE2S POLY1305 X25519 CHACHA20 CODED CODED_OF_3 ROUNDED PACKED "
    "LEVELS_8 LEVELS_4 LEVELS_3 LEVELS_2 LEVELS_4_PACKED LEVELS_4_OF_3 "
    "LOAD_8 LOAD_4 LOAD_3 LOAD_2 LOAD_4_PACKED",
    start=0,
)


def write_protocol_header(folder: Path) -> None:
    """Renders the headers that the harness includes into ``folder``."""
    (folder / "log_mel_facts.hpp").write_text(log_mel_header(SOUND, "pytest"))
    (folder / "status.hpp").write_text(emit.status_header("pytest"))
    (folder / "protocol.hpp").write_text(emit.protocol_header("pytest"))
    (folder / "level_facts.hpp").write_text(optional_headers.level_facts_header("pytest"))
    (folder / "coded_facts.hpp").write_text(optional_headers.coded_facts_header("pytest"))


def compile_harness(folder: Path, output: str, *flags: str) -> Path:
    """Builds the harness into ``folder``; raises CalledProcessError with the compiler's messages."""
    write_protocol_header(folder)
    sources = [Path(__file__).with_name("harness.cpp"), *(CORE / f"{unit}.cpp" for unit in UNITS)]
    flags = (*compiler_flags(), "-g1", *flags, f"-I{CORE}", f"-I{folder}")
    subprocess.run(["g++", *flags, *map(str, sources), "-o", str(folder / output)], check=True)
    return folder / output


class Backend(Protocol):
    """Runs one operation."""

    def call(self, operation: Operation, question: bytes) -> bytes:
        """The operation's answer."""
        ...


class SharedLibrary:
    """The core in this process."""

    def __init__(self, path: Path) -> None:
        self._call = ctypes.CDLL(str(path)).core_call
        self._call.argtypes = [ctypes.c_uint8, ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)]
        self._call.restype = ctypes.c_size_t

    def call(self, operation: Operation, question: bytes) -> bytes:
        """The operation's answer."""
        answer = ctypes.c_void_p()
        size = self._call(operation, question, len(question), ctypes.byref(answer))
        return ctypes.string_at(answer.value or 0, size) if size else b""


class SanitizedProcess:
    """The core under the address and undefined-behaviour sanitizers, which end the process at the first fault."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call(self, operation: Operation, question: bytes) -> bytes:
        """The operation's answer. Raises EOFError when a sanitizer has ended the process."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(struct.pack("<BI", operation, len(question)) + question)
        process.stdin.flush()
        head = process.stdout.read(4)
        if len(head) < 4:
            raise EOFError(f"the core was ended by a sanitizer in {operation.name}; see standard error")
        return process.stdout.read(int.from_bytes(head, "little"))

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


class Core:
    """The core's functions with Python types."""

    def __init__(self, backend: Backend) -> None:
        self._call = backend.call

    def crc32(self, first: bytes, second: bytes) -> int:
        """CRC-32 of two pieces, computed in two calls."""
        return int.from_bytes(self._call(Operation.CRC, struct.pack("<I", len(first)) + first + second), "little")

    def blake2s(self, first: bytes, second: bytes, key: bytes, digest_bytes: int) -> bytes:
        """BLAKE2s of two pieces, added one after the other; with a key unless it is empty."""
        question = struct.pack("<BBH", digest_bytes, len(key), len(first)) + key + first + second
        return self._call(Operation.BLAKE2S, question)

    def poly1305(self, factor: bytes, message: bytes) -> bytes:
        """Poly1305 without the addition at its end."""
        return self._call(Operation.POLY1305, factor + message)

    def x25519(self, scalar: bytes, point: bytes, times: int = 1) -> bytes:
        """X25519 of a scalar and a point; each further time of the product and the scalar before it."""
        return self._call(Operation.X25519, struct.pack("<I", times) + scalar + point)

    def chacha20(self, key: bytes, index: int) -> bytes:
        """A block of the ChaCha20 stream of a key, with nonce 0."""
        return self._call(Operation.CHACHA20, struct.pack("<I", index) + key)

    def frame_encode(self, body: bytes) -> bytes:
        """The bytes of one frame on the wire."""
        return self._call(Operation.FRAME_ENCODE, body)

    def frame_decode(self, wire: bytes, capacity: int) -> tuple[list[bytes], int]:
        """Bodies of the valid frames, and the number of damaged frames."""
        answer = self._call(Operation.FRAME_DECODE, struct.pack("<I", capacity) + wire)
        frames, at = [], 0
        while at < len(answer) - 4:
            size = int.from_bytes(answer[at : at + 4], "little")
            frames.append(answer[at + 4 : at + 4 + size])
            at += 4 + size
        return frames, int.from_bytes(answer[at:], "little")

    def to_half(self, values: Floats) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        """Status and float16 bits of each number."""
        answer = np.frombuffer(self._call(Operation.TO_HALF, values.tobytes()), dtype=[("status", "u1"), ("bits", "<u2")])
        return answer["status"], answer["bits"]

    def from_half(self, bits: npt.NDArray[np.uint16]) -> Floats:
        """Values of float16 bits."""
        return np.frombuffer(self._call(Operation.FROM_HALF, bits.tobytes()), dtype="<f4")

    def rounded_to_half(self, values: Floats) -> Floats:
        """Each number rounded by the kernels to one that float16 represents."""
        return np.frombuffer(self._call(Operation.ROUNDED, values.tobytes()), dtype="<f4")

    def packed_and_unpacked(self, values: Floats) -> Floats:
        """Each number after it was packed as float16; a multiple of 7 numbers."""
        return np.frombuffer(self._call(Operation.PACKED, values.tobytes()), dtype="<f4")

    def exp(self, values: Floats) -> Floats:
        """tmf::exp of each number."""
        return np.frombuffer(self._call(Operation.EXP, values.tobytes()), dtype="<f4")

    def sin(self, values: Floats) -> Floats:
        """tmf::sin of each number."""
        return np.frombuffer(self._call(Operation.SIN, values.tobytes()), dtype="<f4")

    def tanh(self, values: Floats) -> Floats:
        """tmf::tanh of each number."""
        return np.frombuffer(self._call(Operation.TANH, values.tobytes()), dtype="<f4")

    def scaled(self, x: Integers, multiplier: Integers, shift: Integers) -> Integers:
        """tmf::kernels::scaled of each triple."""
        return self._integers(Operation.SCALED, x, multiplier, shift)

    def double_product(self, x: Integers, high: Integers, low: Integers, shift: Integers) -> Integers:
        """tmf::kernels::double_product of each four numbers."""
        return self._integers(Operation.DOUBLE_PRODUCT, x, high, low, shift)

    def _integers(self, operation: Operation, *columns: Integers) -> Integers:
        return np.frombuffer(self._call(operation, np.stack(columns, axis=1).astype("<i4").tobytes()), dtype="<i4")

    def sqrt(self, values: Floats) -> Floats:
        """tmf::sqrt of each number."""
        return np.frombuffer(self._call(Operation.SQRT, values.tobytes()), dtype="<f4")

    def expm1(self, values: Floats) -> Floats:
        """tmf::expm1 of each number."""
        return np.frombuffer(self._call(Operation.EXPM1, values.tobytes()), dtype="<f4")

    def log1p(self, values: Floats) -> Floats:
        """tmf::log1p of each number."""
        return np.frombuffer(self._call(Operation.LOG1P, values.tobytes()), dtype="<f4")

    def log2(self, values: Floats) -> Floats:
        """tmf::log2 of each number."""
        return np.frombuffer(self._call(Operation.LOG2, values.tobytes()), dtype="<f4")

    def sounds(self, *recordings: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
        """The spectrograms of the sounds in some recordings, one after the other; one of odd length is not finished."""
        question = struct.pack(f"<{1 + len(recordings)}I", len(recordings), *map(len, recordings))
        answer = self._call(Operation.SOUNDS, question + b"".join(each.astype("<i2").tobytes() for each in recordings))
        return np.frombuffer(answer, np.uint8).reshape(-1, SOUND.bands, SOUND.frames)

    def erf(self, values: Floats) -> Floats:
        """tmf::erf of each number."""
        return np.frombuffer(self._call(Operation.ERF, values.tobytes()), dtype="<f4")

    def threefry(self, key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
        """The two words of Threefry."""
        first, second = struct.unpack("<2I", self._call(Operation.THREEFRY, struct.pack("<4I", *key, *counter)))
        return first, second

    def draw(self, seed: int, client: int, round: int, stream: int, indices: Sequence[int]) -> list[tuple[int, int, float]]:
        """For each index: the two random words and the uniform number made of the first."""
        question = struct.pack(f"<3IB{len(indices)}I", seed, client, round, stream, *indices)
        return list(struct.iter_unpack("<2If", self._call(Operation.DRAW, question)))

    def select(self, delta: Floats, k: int) -> tuple[int, int, list[int]]:
        """Threshold bits, number of ties and selected indices; asserts that few bins and many give the same."""
        question = struct.pack("<I", k) + delta.tobytes()
        answer = self._call(Operation.SELECT, question)
        assert answer == self._call(Operation.SELECT_BY_BIT, question)
        threshold, ties, *indices = np.frombuffer(answer, dtype="<u4").tolist()
        return threshold, ties, indices

    def delta(
        self,
        delta: Floats,
        k: int,
        dtype: Dtype,
        pulls: Sequence[tuple[int, int]],
        selection: Selection = Selection.GLOBAL,
        key: tuple[int, int, int] = (0, 0, 0),
        layer_ends: Sequence[int] = (),
    ) -> tuple[Status, list[Delta | Status]]:
        """Result of freeze, then of each pull (rank, capacity): its message (token 0) or the status of the refusal.

        ``key`` is (seed, client, round); ``layer_ends`` has three entries, or none for a single layer.
        """
        operation = Operation.DELTA_OF_3 if layer_ends else Operation.DELTA
        return self._pulls(operation, Delta, delta, Recipe((), k, dtype, selection), pulls, key, layer_ends)

    def coded(
        self,
        delta: Floats,
        k: int,
        dtype: Dtype,
        pulls: Sequence[tuple[int, int]],
        selection: Selection = Selection.GLOBAL,
        key: tuple[int, int, int] = (0, 0, 0),
        layer_ends: Sequence[int] = (),
    ) -> tuple[Status, list[CodedDelta | Status]]:
        """As ``delta``, with coded values."""
        operation = Operation.CODED_OF_3 if layer_ends else Operation.CODED
        return self._pulls(operation, CodedDelta, delta, Recipe((), k, dtype, selection), pulls, key, layer_ends)

    def leveled(
        self,
        delta: Floats,
        k: int,
        levels: LevelFormat,
        pulls: Sequence[tuple[int, int]],
        selection: Selection = Selection.GLOBAL,
        key: tuple[int, int, int] = (0, 0, 0),
        layer_ends: Sequence[int] = (),
    ) -> tuple[Status, list[LevelDelta | Status]]:
        """As ``delta``, in messages with levels; those of 4 bits have layers or need not be in a range code."""
        name = f"LEVELS_{levels.bits}" + "_PACKED" * (not levels.is_ranged) + "_OF_3" * bool(layer_ends)
        recipe = Recipe((), k, Dtype.I8, selection)
        return self._pulls(Operation[name], LevelDelta, delta, recipe, pulls, key, layer_ends)

    def load_levels(self, levels: LevelFormat, messages: Sequence[LoadLevels | bytes]) -> tuple[list[Status], Floats, Floats]:
        """As ``received``, of messages with levels or their payloads."""
        payloads = [each if isinstance(each, bytes) else each.pack() for each in messages]
        question = b"".join(struct.pack("<I", len(payload)) + payload for payload in payloads)
        answer = self._call(Operation[f"LOAD_{levels.bits}" + "_PACKED" * (not levels.is_ranged)], question)
        written, kept = np.frombuffer(answer[len(payloads) :], dtype="<f4").reshape(2, -1)
        return [Status(code) for code in answer[: len(payloads)]], written, kept

    def _pulls(
        self,
        operation: Operation,
        message: type[Message],
        delta: Floats,
        recipe: Recipe,
        pulls: Sequence[tuple[int, int]],
        key: tuple[int, int, int],
        layer_ends: Sequence[int],
    ) -> tuple[Status, list[Message | Status]]:
        ends = layer_ends or (delta.size,)
        question = recipe.encode()
        question += struct.pack(f"<3I{len(ends)}II", *key, *ends, len(pulls))
        question += b"".join(struct.pack("<2I", *pull) for pull in pulls)
        answer = self._call(operation, question + delta.tobytes())
        at = 1
        outcomes: list[Message | Status] = []
        while at < len(answer):
            status = Status(answer[at])
            at += 1
            if status != Status.OK:
                outcomes.append(status)
                continue
            size = int.from_bytes(answer[at : at + 4], "little")
            outcomes.append(message.unpack(answer[at + 4 : at + 4 + size]))
            at += 4 + size
        return Status(answer[0]), outcomes

    def received(self, dtype: Dtype, loads: Sequence[tuple[int, float, bytes]]) -> tuple[list[Status], Floats, Floats]:
        """Result of each Load (offset, scale, data); then the device's weights (40,) and the stored received weights (40,)."""
        question = b"".join(struct.pack("<IfI", offset, scale, len(data)) + data for offset, scale, data in loads)
        answer = self._call(Operation[f"RECEIVED_{dtype.name}"], question)
        written, kept = np.frombuffer(answer[len(loads) :], dtype="<f4").reshape(2, -1)
        return [Status(code) for code in answer[: len(loads)]], written, kept

    def whole_delta(self, delta: Floats, k: int, dtype: Dtype, capacity: int, **choice: Any) -> list[Delta]:
        """All chunks in order, each of up to ``capacity`` data bytes; ``choice``: further arguments of ``delta``."""
        status, outcomes = self.delta(delta, k, dtype, [(NEXT, capacity)] * k, **choice)
        assert status == Status.OK
        return [outcome for outcome in outcomes if isinstance(outcome, Delta)]

    def whole_leveled(self, delta: Floats, k: int, levels: LevelFormat, capacity: int, **choice: Any) -> list[LevelDelta]:
        """As ``whole_delta``, in messages with levels."""
        status, outcomes = self.leveled(delta, k, levels, [(NEXT, capacity)] * k, **choice)
        assert status == Status.OK
        return [outcome for outcome in outcomes if isinstance(outcome, LevelDelta)]

    def whole_coded(self, delta: Floats, k: int, dtype: Dtype, capacity: int, **choice: Any) -> list[CodedDelta]:
        """As ``whole_delta``, with coded values."""
        status, outcomes = self.coded(delta, k, dtype, [(NEXT, capacity)] * k, **choice)
        assert status == Status.OK
        return [outcome for outcome in outcomes if isinstance(outcome, CodedDelta)]
