"""Samples in parts: the bits of whole samples, wherever they wait, and nothing is trained on what is out of place."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import in_process
import numpy as np
import pytest
from in_process import Device, Fault, Line

from tinymetafed.devices import asked_board
from tinymetafed.devices.asked_board import AskError
from tinymetafed.devices.link.link_errors import DeviceRefused, LinkError
from tinymetafed.devices.link.session import Session
from tinymetafed.learn.codecs import downlink
from tinymetafed.wire.frame import Decoder, encode
from tinymetafed.wire.messages import Example
from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.calls import Call
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.ops import WindowsOfBytes
from tinymetafed_codegen.optional_messages.part_messages import InputPart, SamplePart
from tinymetafed_codegen.protocol import ERROR_TYPE, Dtype, ErrorAnswer, Phase, Program, Recipe, SampleSet, Status, Variant
from tinymetafed_codegen.toolchain import compiler_flags

SHAPE = (41, 36, 3)
COUNT = 3
SCALE = float(np.float32(1 / 255))
VARIANTS = (Variant.LOCAL, Variant.GLOBAL, Variant.FULL)
PHASES = tuple(Phase(variant, SampleSet.SUPPORT, COUNT, 2, 0.05, 0.0) for variant in VARIANTS)
# 21 rows of outputs are no whole number of bands, 7 filters no whole tile; the last row and column read beyond the image.
EXPERIMENT: dict[str, Any] = {
    "task": {"kind": "folder", "path": "none", "held_out": ["b"], "dtype": "uint8"},
    "data": {"normalise": "standard", "shift": [0.4, 0.5, 0.6], "scale": [3.0, 4.0, 5.0]},
    "board": {"keep_activations": False},
    "model": {
        "input": list(SHAPE),
        "loss": "softmax_cross_entropy",
        "layers": [
            {"op": "conv2d", "filters": 7, "kernel": 3, "stride": 2, "activation": "relu"},
            {"op": "max_pool"},
            {"op": "flatten"},
            {"op": "dense", "units": 3, "local": True},
        ],
    },
}


# The first convolution takes few enough products to be computed again, from the bytes.
POINTWISE = [{"op": "conv2d", "filters": filters, "kernel": 1} for filters in (4, 8)]
IN_LESS_MEMORY = {"activations": "f16", "layers": [*POINTWISE, *EXPERIMENT["model"]["layers"]]}


# Other first layers that read bytes: 41 rows are no whole number of bands; windows reach beyond the image or leave out its end.
FIRST: dict[str, dict[str, Any]] = {
    "depthwise": {"op": "depthwise_conv2d", "kernel": 3, "activation": "relu"},
    "max pool": {"op": "max_pool", "size": 3, "stride": 2, "padding": "same"},
    "avg pool": {"op": "avg_pool"},
}


def designed(window: int, memory: str = "fastest", **model: Any) -> Design:
    board = dataclasses.replace(boards.load("native"), receive_window=window)
    given = {"board": EXPERIMENT["board"] | {"memory": memory}, "model": EXPERIMENT["model"] | model}
    return design(spec.parse(EXPERIMENT | given, "test"), board, "test")


def built(made: Design, folder: Path) -> Path:
    """The core as one unit, with the functions of in_process.cpp."""
    emit.write(made, folder, "pytest")
    core = find("firmware") / "core"
    units = [*sorted(core.glob("*.cpp")), find("firmware") / "app/source_streamed.cpp", in_process.SOURCE]
    (folder / "whole.cpp").write_text("".join(f'#include "{unit}"\n' for unit in units))
    flags = [*compiler_flags(), "-O0", "-g0", "-fno-gnu-unique", "-shared", "-fPIC", f"-I{folder}", f"-I{core}"]
    subprocess.run(["g++", *flags, str(folder / "whole.cpp"), "-o", str(folder / "device.so")], check=True)
    return folder / "device.so"


class Board:
    """A device in this process, and what it is trained on."""

    def __init__(self, library: Path, made: Design) -> None:
        self.line = Line(Device(library))
        self.session = Session(self.line, clock=self.line.clock)
        self.session.hello()
        self.given(made.manifest)

    def given(self, manifest: ModelManifest) -> None:
        """Makes the samples and weights for it."""
        self.manifest = manifest
        random = np.random.default_rng(3)
        self.levels = random.integers(0, 256, (COUNT, *SHAPE)).astype(np.uint8)
        start = random.normal(0, 0.2, manifest.n_global).astype(np.float32)
        self.weights = downlink.encode(start, Dtype[manifest.downlink], [t.size for t in manifest.global_tensors])
        self.token = 0

    def begin(self) -> None:
        """Begins a program of all phases."""
        self.session.configure(Program.ADAPT, Recipe(PHASES))
        self.token = self.session.next_token()
        self.session.load(self.token, self.weights)
        self.session.train(self.token, Program.ADAPT, 1, 2, 3)

    def examples(self, *, as_floats: bool = False) -> list[Example]:
        """The samples of all steps."""
        inputs = self.levels.astype(np.float32) * np.float32(SCALE) if as_floats else self.levels
        one = [Example(np.array([i], np.float32), each, 1.0 if as_floats else SCALE) for i, each in enumerate(inputs)]
        return one * 6

    def train(self, *, as_floats: bool = False) -> bytes:
        """The weights after the program, and predictions with them."""
        self.begin()
        return self.finish(as_floats=as_floats)

    def finish(self, *, as_floats: bool = False) -> bytes:
        """The same for a program that has begun."""
        self.session.stream(self.token, self.examples(as_floats=as_floats))
        inputs = self.levels.astype(np.float32) * np.float32(SCALE) if as_floats else self.levels
        outputs = self.session.predict(inputs, 3, 1.0 if as_floats else SCALE)
        return self.session.fetch(0, self.manifest.n_parameters).tobytes() + outputs.tobytes()

    def status(self, message: SamplePart | InputPart) -> tuple[Status, int]:
        """What the board answers to one message: OK, or why it refuses it, with the detail."""
        device = self.line.device
        device.receive(encode(message.type_id, 1, message.pack()))
        (frame,) = Decoder().feed(device.sent())
        if frame.type_id != ERROR_TYPE:
            return Status.OK, 0
        error = ErrorAnswer.unpack(frame.payload)
        return error.status, error.detail


@pytest.fixture(scope="module")
def reading_bytes(tmp_path_factory: pytest.TempPathFactory) -> Board:
    made = designed(256)
    assert made.manifest.takes_parts and made.reads_bytes and made.manifest.receive_window == 256
    return Board(built(made, tmp_path_factory.mktemp("bytes")), made)


@pytest.fixture(scope="module")
def reading_floats(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """The same in parts, with an input of floats."""
    made = designed(256).reading_floats()
    assert made.manifest.takes_parts and not made.reads_bytes
    return Board(built(made, tmp_path_factory.mktemp("floats")), made)


def test_bytes_and_floats_train_to_the_same_bits(reading_bytes: Board, reading_floats: Board) -> None:
    expected = reading_bytes.train()
    assert reading_floats.train() == reading_floats.train(as_floats=True) == expected
    assert reading_bytes.train() == expected
    with pytest.raises(DeviceRefused) as caught:
        reading_bytes.train(as_floats=True)
    assert caught.value.status is Status.BAD_VALUE
    assert reading_bytes.train() == expected


def test_bytes_and_floats_train_to_the_same_bits_with_activations_in_less_memory(tmp_path: Path) -> None:
    made = designed(256, "least", **IN_LESS_MEMORY)
    floats = made.reading_floats()
    assert made.reads_bytes and not floats.reads_bytes
    again = [call.op for call in made.lowered.backward[Variant.FULL] if isinstance(call, Call) and call.again]
    assert any(isinstance(op, WindowsOfBytes) for op in again)
    lives = {slot.tensor.name: (slot.first, slot.last) for slot in made.plan.slots}
    assert lives["rows_forward"][1] < lives["rows_forward_again"][0], "the place of rows is free between the two"
    found = [Board(built(each, tmp_path / name), each).train() for each, name in ((made, "bytes"), (floats, "floats"))]
    assert found[0] == found[1]


@pytest.mark.parametrize("first", FIRST)
def test_other_layers_with_windows_train_to_the_same_bits(first: str, tmp_path: Path) -> None:
    made = designed(256, layers=[FIRST[first], *EXPERIMENT["model"]["layers"]])
    floats = made.reading_floats()
    assert made.reads_bytes and not floats.reads_bytes
    assert isinstance(made.lowered.forward[0].op, WindowsOfBytes)
    found = [Board(built(each, tmp_path / name), each).train() for each, name in ((made, "bytes"), (floats, "floats"))]
    assert found[0] == found[1]


def test_the_input_waits_in_one_byte_per_value(reading_bytes: Board, reading_floats: Board) -> None:
    def input_floats(board: Board) -> int:
        return next(tensor.size for tensor in board.manifest.arena.tensors if tensor.name == "x0")

    assert input_floats(reading_bytes) == 1 + -(-np.prod(SHAPE) // 4), "the scale, then the bytes"
    assert input_floats(reading_floats) == np.prod(SHAPE)
    assert reading_bytes.manifest.arena.floats < reading_floats.manifest.arena.floats


def test_lost_and_repeated_parts_change_nothing(reading_bytes: Board) -> None:
    expected = reading_bytes.train()
    line = reading_bytes.line
    line.seed(1)
    line.faults, line.rate = (Fault.DROP, Fault.TWICE, Fault.CUT), 0.05
    try:
        for _ in range(3):
            assert reading_bytes.train() == expected
        assert line.happened > 20
    finally:
        line.faults = ()


def test_a_part_out_of_place_is_refused_and_nothing_of_it_is_used(reading_bytes: Board) -> None:
    expected = reading_bytes.train()
    board = reading_bytes
    board.begin()
    sample = np.float32([0]).tobytes() + board.levels[0].tobytes()
    size = len(sample)

    def part(position: int, data: bytes, **changed: Any) -> SamplePart:
        return dataclasses.replace(SamplePart(board.token, position, Dtype.U8, SCALE, data), **changed)

    assert board.status(part(7, sample[7:100])) == (Status.BAD_OFFSET, 0), "its beginning is missing"
    assert board.status(part(0, b"")) == (Status.BAD_LENGTH, 0)
    assert board.status(part(0, sample[:100])) == (Status.OK, 0)
    assert board.status(part(99, bytes(50))) == (Status.OK, 0), "a part that came again is not written again"
    for at in (101, size, 2 * size):
        assert board.status(part(at, sample[101:150])) == (Status.BAD_OFFSET, 100)
    assert board.status(part(100, sample[100:150], dtype=Dtype.F32)) == (Status.BAD_VALUE, 0)
    assert board.status(part(100, sample[100:150], scale=0.5)) == (Status.BAD_VALUE, 0)
    assert board.status(part(100, sample[100:150], token=board.token + 1)) == (Status.BAD_TOKEN, board.token)
    for at in range(100, size - 50, 150):
        assert board.status(part(at, sample[at : min(at + 150, size - 50)])) == (Status.OK, 0)
    assert board.status(part(size - 50, sample[-50:] + b"\0")) == (Status.BAD_LENGTH, 0), "beyond the sample's end"
    assert board.finish() == expected


def test_a_prediction_drops_a_sample_that_has_come_in_part(reading_bytes: Board) -> None:
    board = reading_bytes
    expected = board.train()
    board.begin()
    sample = np.float32([0]).tobytes() + board.levels[0].tobytes()
    assert board.status(SamplePart(board.token, 0, Dtype.U8, SCALE, sample[:200])) == (Status.OK, 0)
    assert board.status(InputPart(9, 100, Dtype.U8, SCALE, bytes(9))) == (Status.BAD_OFFSET, 0), "of another input"
    board.session.predict(board.levels[:1], 3, SCALE)
    assert board.status(SamplePart(board.token, 200, Dtype.U8, SCALE, sample[200:300])) == (Status.BAD_OFFSET, 0)
    assert board.finish() == expected


@pytest.mark.parametrize(("target", "scale", "status"), [(3.0, SCALE, Status.BAD_VALUE), (0.0, 3e38, Status.NOT_FINITE)])
def test_a_sample_that_must_not_be_trained_is_dropped_whole(
    reading_bytes: Board, target: float, scale: float, status: Status
) -> None:
    expected = reading_bytes.train()
    board = reading_bytes
    board.begin()
    with pytest.raises(LinkError) as caught:
        board.session.stream(board.token, [Example(np.float32([target]), board.levels[0], scale)])
    assert isinstance(caught.value, DeviceRefused) and caught.value.status is status
    assert board.finish() == expected


def test_a_board_that_reads_bytes_is_asked_with_numbers_of_a_file(
    reading_bytes: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = reading_bytes
    board.train()

    @contextlib.contextmanager
    def asked(url: str, known: Catalogue) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(session=board.session, url=url)

    monkeypatch.setattr(asked_board, "_asked", asked)

    def scores(*rows: Any) -> Any:
        return asked_board.predict("PORT", rows, boards.INSTALLED)

    flat = board.levels.reshape(COUNT, -1)
    expected = board.session.predict(board.levels, 3, SCALE)
    decimal = np.round(flat / 255, 4)  # as a file may have it
    assert scores(*decimal).tobytes() == expected.tobytes()
    assert scores(flat[0]).tobytes() == board.session.predict(board.levels[:1], 3, 1.0).tobytes()  # levels as they are
    for wrong in (flat[0][:-1], np.append(flat[0], 0)):
        with pytest.raises(AskError, match=f"does not take {wrong.size} features"):
            scores(wrong)
    with pytest.raises(AskError, match="sample 2 has a feature that is not a byte; give whole numbers from 0 to 255"):
        scores(flat[0], np.where(np.arange(flat[0].size) == 7, -0.5, flat[0]))
