"""What firmware with a sensor does with rows, whatever they are: windows as on the host, records, labels, faults by name."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from core_harness import CORE
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.learn.tasks.own_data.windows import Recording, cut, segments
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.optional_messages import sensor_messages
from tinymetafed_codegen.optional_messages.sensor_messages import (
    AskColumns,
    AskSensor,
    Columns,
    LabelSample,
    PullRows,
    Rows,
    SensorReport,
    SensorState,
)
from tinymetafed_codegen.protocol import Record, Request, Status
from tinymetafed_codegen.toolchain import compiler_flags

EXPERIMENT = """
[task]
kind = "folder"
path = "nothing"
features = ["ax", "ay", "az"]
label = "activity"
time = "ms"
time_unit = "ms"
rate = 20
window = 4
stride = 2

[data]
normalise = "none"

[model]
input = [12]
loss = "softmax_cross_entropy"
layers = [{ op = "dense", units = 3 }]

[board]
sensor = "imu.cpp"
"""
SENSOR = "class Sensor {};\n"
NOTHING, ROW, AFTER_GAP, FAULT, END = range(5)
CAPACITY = 400
# Rows of a window, stride, numbers of a row, majority, of each kind in the harness.
KINDS = ((5, 2, 3, False), (5, 2, 3, True), (4, 7, 2, False), (6, 6, 1, True), (1, 1, 4, False))
TICKS = 1_000_000  # per second, as the board nano33ble has


@dataclass
class Harness:
    """The compiled pipeline."""

    library: ctypes.CDLL
    ticks: int = 0

    def begin(self, *, there: bool = True, weights: bool = True) -> None:
        self.ticks = 0
        self.library.sensing_begin(there, weights)

    def row(self, row: Sequence[float] = (1, 2, 3), label: int = -1, reading: int = ROW, seconds: float = 0.05) -> bool:
        self.ticks = (self.ticks + round(seconds * TICKS)) % (1 << 32)
        return bool(self.library.sensing_work(reading, (ctypes.c_float * 3)(*row), label, self.ticks))

    def rows(self, count: int, label: int = -1, seconds: float = 0.05) -> None:
        for i in range(count):
            self.row((i, -i, 0.5), label, seconds=seconds)

    def ask(self, request: Request) -> Record | Status:
        payload, answer = request.encode(), ctypes.create_string_buffer(CAPACITY)
        size = self.library.sensing_answer(request.type_id, payload, len(payload), answer, CAPACITY)
        return Status(-size) if size < 0 else request.answer.decode(answer.raw[:size])

    def report(self) -> SensorReport:
        answer = self.ask(AskSensor())
        assert isinstance(answer, SensorReport)
        return answer

    def pull(self, recording: int, row: int) -> Rows:
        answer = self.ask(PullRows(recording, row))
        assert isinstance(answer, Rows), answer
        return answer


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    folder = tmp_path_factory.mktemp("sensor")
    (folder / "imu.cpp").write_text(SENSOR)
    (folder / "e.toml").write_text(EXPERIMENT)
    design = design_of(spec.load(folder / "e.toml"), "test", "nano33ble")
    for name, text in emit.headers(design, "pytest").items():
        (folder / name).write_text(text)
    flags = [*compiler_flags(), "-O1", "-g1", "-shared", "-fPIC", f"-I{folder}", f"-I{CORE}"]
    source = Path(__file__).with_name("sensor_harness.cpp")
    subprocess.run(["g++", *flags, str(source), "-o", str(folder / "sensor.so")], check=True)
    library = ctypes.CDLL(str(folder / "sensor.so"))
    library.sensing_begin.argtypes = [ctypes.c_bool, ctypes.c_bool]
    library.sensing_work.restype = ctypes.c_bool
    library.sensing_answer.argtypes = [ctypes.c_uint8, ctypes.c_char_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_int32]
    return Harness(library)


@settings(max_examples=150)
@given(
    kind=st.sampled_from(range(len(KINDS))),
    runs=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12), st.booleans()), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
)
def test_windows_are_those_of_the_host(harness: Harness, kind: int, runs: list[tuple[int, int, bool]], seed: int) -> None:
    window, stride, numbers, majority = KINDS[kind]
    labels = np.concatenate([np.full(length, label) for label, length, _ in runs]).astype(np.int32)
    gaps = np.concatenate([np.arange(length) == (0 if gap else -1) for _, length, gap in runs])
    values = np.random.default_rng(seed).normal(size=(len(labels), numbers)).astype(np.float32)
    recording = Recording(values, labels[:, None].astype(np.float32), None, gaps)
    pairs = [cut(part, window, stride, "majority" if majority else "pure") for part in segments(recording, None)]
    wanted = np.concatenate([windows for windows, _ in pairs])
    found = np.full((len(labels), window, numbers), np.nan, np.float32)
    found_labels = np.full(len(labels), -7, np.int32)
    count = harness.library.windows_cut(
        kind, values.ctypes, labels.ctypes, gaps.astype(np.uint8).ctypes, len(labels), found.ctypes, found_labels.ctypes
    )
    assert count == len(wanted)
    assert found[:count].tobytes() == wanted.tobytes()
    np.testing.assert_array_equal(found_labels[:count], np.concatenate([targets for _, targets in pairs])[:, 0])


def test_a_button_labels_the_windows_that_have_its_row(harness: Harness) -> None:
    harness.begin()
    for i in range(12):
        harness.row((i, 0, 0), label=2 if i == 5 else -1)
    # Windows end with rows 3, 5, 7, 9, 11; row 5 is in those that end with 5 and 7.
    assert (harness.report().samples, harness.report().learned, harness.library.sensing_learned()) == (5, 2, 2)


def test_the_state_of_a_sensor_has_a_name(harness: Harness) -> None:
    harness.begin(there=False)
    assert harness.row() and harness.report().state == SensorState.MISSING
    harness.begin()
    assert harness.report().state == SensorState.WAITING
    harness.rows(2)
    assert harness.report().state == SensorState.OK
    harness.row(reading=FAULT)
    assert harness.report().state == SensorState.MISSING
    harness.rows(1)
    assert harness.report().state == SensorState.OK, "it came back"
    harness.row((1, float("nan"), 2))
    assert harness.report().state == SensorState.NOT_FINITE
    harness.row((1, float("inf"), 2))
    assert harness.report().rows == 3, "rows that are not finite are left out"
    harness.row((1, 1, 2), label=3)
    assert (harness.report().state, harness.report().refused) == (SensorState.BAD_LABEL, 1)
    harness.row((1, 1, 3), label=-2)
    assert (harness.report().state, harness.report().refused) == (SensorState.BAD_LABEL, 2)
    harness.row((1, 1, 4), label=2)
    assert harness.report().state == SensorState.OK
    harness.row(reading=END)
    assert harness.report().state == SensorState.ENDED


def test_a_silent_sensor_is_missing(harness: Harness) -> None:
    harness.begin()
    harness.ticks = (1 << 32) - TICKS
    harness.rows(2)
    for _ in range(9):
        harness.row(reading=NOTHING, seconds=0.1)
    assert harness.report().state == SensorState.OK
    for _ in range(3):
        harness.row(reading=NOTHING, seconds=0.1)
    assert harness.report().state == SensorState.MISSING
    harness.rows(1)
    assert harness.report().state == SensorState.OK


def test_a_sensor_that_is_there_later_is_started_then(harness: Harness) -> None:
    harness.begin(there=False)
    harness.ticks = (1 << 32) - TICKS  # the counter wraps meanwhile
    for _ in range(40):
        assert harness.row(), "asked again soon, so that the board does not sleep"
    assert (harness.report().state, harness.report().rows, harness.library.sensing_begun()) == (SensorState.MISSING, 0, 2)
    harness.library.sensing_appears()
    for _ in range(15):
        harness.row(reading=NOTHING)
    assert harness.report().state == SensorState.WAITING
    harness.rows(4)
    assert (harness.report().state, harness.report().samples) == (SensorState.OK, 1)


def test_a_stuck_sensor_is_predicted_and_not_learned(harness: Harness) -> None:
    harness.begin()
    for _ in range(32):
        harness.row((1, 2, 3), label=1)
    before = harness.report()
    assert before.state == SensorState.STUCK
    for _ in range(8):
        harness.row((1, 2, 3), label=1)
    after = harness.report()
    assert after.samples == before.samples + 4 and after.learned == before.learned and after.label == 1
    harness.row((1, 2, 4), label=1)
    assert harness.report().state == SensorState.OK


@pytest.mark.parametrize(
    ("seconds", "state"), [(0.05, "OK"), (0.0529, "OK"), (0.057, "RATE_OFF"), (0.04, "RATE_OFF"), (0, "RATE_OFF")]
)
def test_the_rate_is_measured(harness: Harness, seconds: float, state: str) -> None:
    harness.begin()
    harness.ticks = (1 << 32) - TICKS // 3  # the counter wraps meanwhile
    harness.rows(60, seconds=seconds)
    report = harness.report()
    assert report.state.name == state
    assert report.rate < float("inf")
    if seconds:
        assert report.rate == pytest.approx(1 / seconds, rel=1e-5)


def test_rows_that_are_missing_separate_windows(harness: Harness) -> None:
    for lose in (lambda: harness.row(reading=FAULT), lambda: harness.row((0, float("nan"), 0)), None):
        harness.begin()
        harness.rows(3)
        if lose is None:
            harness.row(reading=AFTER_GAP)
        else:
            lose()
            harness.rows(1)
        assert harness.report().samples == 0
        harness.rows(3)
        assert harness.report().samples == 1


def test_a_recording_is_fetched_in_order_and_again_when_an_answer_is_lost(harness: Harness) -> None:
    harness.begin()
    harness.rows(5)
    assert harness.pull(7, 0).data == b"", "a recording begins when it is asked for"
    for i in range(3):
        harness.row((i, 0.1, -0.0), label=i if i < 2 else -1, reading=AFTER_GAP if i == 1 else ROW)
    layout = np.dtype([("mark", "<u2"), ("values", "<f4", (3,))])
    first = harness.pull(7, 0)
    rows = np.frombuffer(first.data, layout)
    assert rows["mark"].tolist() == [1, 0x8000 | 2, 0] and rows["values"][2].tobytes() == np.float32([2, 0.1, -0.0]).tobytes()
    assert harness.pull(7, 0) == first
    assert (harness.pull(7, 2).first, len(harness.pull(7, 2).data)) == (2, layout.itemsize)
    assert harness.ask(PullRows(7, 4)) == Status.BAD_OFFSET
    assert harness.ask(PullRows(8, 3)) == Status.BAD_STATE, "a recording that the board knows nothing of"
    assert harness.pull(0, 0).data == b""
    harness.rows(1)
    assert harness.pull(9, 0).data == b"", "nothing is kept without a recording"


def test_rows_that_are_fetched_too_late_are_counted(harness: Harness) -> None:
    harness.begin()
    harness.pull(7, 0)
    harness.rows(25)  # 20 are kept: those of a second
    late = harness.pull(7, 0)
    assert (late.first, late.dropped) == (5, 5) and harness.pull(7, 0) == late
    size = len(late.data) // 14
    assert size == 20
    harness.pull(7, 25)
    harness.rows(20)
    assert (harness.pull(7, 25).first, harness.pull(7, 25).dropped) == (25, 5)


def test_the_host_labels_the_newest_sample_once(harness: Harness) -> None:
    harness.begin()
    assert harness.ask(LabelSample(1, 3)) == Status.BAD_VALUE
    assert harness.ask(LabelSample(1, 2)) == Status.BAD_STATE, "no sample yet"
    harness.rows(4)
    harness.library.sensing_refuse(Status.BAD_STATE)
    assert harness.ask(LabelSample(1, 2)) == Status.BAD_STATE
    harness.library.sensing_refuse(Status.OK)
    assert isinstance(harness.ask(LabelSample(1, 2)), SensorReport) and harness.library.sensing_learned() == 2
    harness.library.sensing_refuse(Status.BAD_STATE)
    assert isinstance(harness.ask(LabelSample(1, 2)), SensorReport), "the answer was lost; nothing is learned again"
    assert harness.ask(LabelSample(2, 2)) == Status.BAD_STATE


def test_without_weights_there_is_no_prediction(harness: Harness) -> None:
    harness.begin(weights=False)
    harness.rows(6)
    assert (harness.report().samples, harness.report().label, harness.report().confidence) == (2, 0xFFFF, 0)


def test_columns_and_bad_requests(harness: Harness) -> None:
    assert harness.ask(AskColumns()) == Columns(3, sensor_messages.RowFormat.F32, 20, 1000, b"ms,ax,ay,az,activity")
    answer = ctypes.create_string_buffer(CAPACITY)
    assert harness.library.sensing_answer(PullRows.type_id, b"\0" * 7, 7, answer, CAPACITY) == -Status.BAD_LENGTH
    assert harness.library.sensing_answer(0x4F, b"", 0, answer, CAPACITY) == -Status.UNKNOWN_TYPE
