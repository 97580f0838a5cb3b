"""Recordings become windows: within one label, never over a gap, at a constant rate, in the model's shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import reading_of, spec_of, task_of, write
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.learn.tasks import DataError
from tinymetafed.learn.tasks.own_data import windows
from tinymetafed.learn.tasks.own_data.npz_file import is_reshape
from tinymetafed.learn.tasks.own_data.windows import Recording
from tinymetafed_codegen.spec import SpecError, TaskShapes

WINDOW = TaskShapes((4, 2), 2, "softmax_cross_entropy")
SMALL: dict[str, Any] = {"window": 4, "support": 2, "query": 2, "adapt": 2}


def recording(labels: list[int], time: list[float] | None = None) -> Recording:
    n = len(labels)
    values = np.stack([np.arange(n), -np.arange(n)], axis=1).astype(np.float32)
    targets = np.array(labels, np.float32)[:, None]
    return Recording(values, targets, None if time is None else np.array(time, np.float64), np.zeros(n, bool))


def csv(labels: str, times: list[float] | None = None, first: int = 0) -> str:
    """Rows numbered from ``first`` with one letter per label, and times in seconds."""
    moments = [i / 10 for i in range(len(labels))] if times is None else times
    rows = [f"{moment:.4f},{first + i},{-i},{label}" for i, (moment, label) in enumerate(zip(moments, labels, strict=True))]
    return "time_s,x,y,activity\n" + "\n".join(rows)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.1, 0.1, 0.1, 5.0, -1.0])), min_size=1, max_size=60),
    st.integers(1, 7),
    st.integers(1, 9),
    st.sampled_from(["pure", "majority"]),
)
def test_no_window_crosses_a_gap_or_a_label(rows: list[tuple[int, float]], window: int, stride: int, label: Any) -> None:
    whole = recording([target for target, _ in rows], np.cumsum([step for _, step in rows]).tolist())
    found = [windows.cut(part, window, stride, label) for part in windows.segments(whole, 0.5)]
    x, y = (np.concatenate(parts) for parts in zip(*found, strict=True))
    assert whole.time is not None
    expected = []
    for each, target in zip(x, y, strict=True):
        at = each[:, 0].astype(int)
        assert (np.diff(at) == 1).all() and (each[:, 1] == -each[:, 0]).all()
        assert (np.abs(np.diff(whole.time[at]) - 0.1) < 1e-6).all()
        own = whole.targets[at, 0].astype(int)
        assert target[0] == np.bincount(own).argmax() and (label == "majority" or len(set(own.tolist())) == 1)
        expected.append(at[0])
    assert expected == sorted(expected)
    if stride == 1 and label == "pure":  # then every possible window is there
        possible = [
            i
            for i in range(len(rows) - window + 1)
            if len({target for target, _ in rows[i : i + window]}) == 1
            and all(step == 0.1 for _, step in rows[i + 1 : i + window])
        ]
        assert expected == possible


def test_windows_have_the_models_shape_and_begin_every_stride(tmp_path: Path) -> None:
    write(tmp_path, anna=csv("a" * 20 + "b" * 20), bob=csv("a" * 10 + "b" * 13 + "a" * 9))
    task = task_of(tmp_path, WINDOW, **SMALL, stride=3, time="time_s")
    own = task.trained[0]
    assert own.inputs.shape == (9, 4, 2) and own.inputs.dtype == np.float32
    assert own.inputs[:, 0, 0].tolist() == [0, 3, 6, 10, 13, 16, 19, 23, 26]
    assert own.targets[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0]
    flat = task_of(tmp_path, TaskShapes((8,), 2, "softmax_cross_entropy"), **SMALL, stride=3, time="time_s").trained[0]
    assert np.array_equal(flat.inputs, own.inputs.reshape(-1, 8))
    assert any("one every 3, each within rows of one label" in note and "share 1 rows" in note for note in task.notes)


def test_a_window_of_the_majority_begins_at_the_segment(tmp_path: Path) -> None:
    write(tmp_path, anna=csv("abbbaaab" * 2), bob=csv("aababbbaaabb"))
    counts = {**SMALL, "support": 1, "query": 1}
    own = task_of(tmp_path, WINDOW, **counts, window_label="majority", ignore=["time_s"]).trained[0]
    assert own.inputs[:, 0, 0].tolist() == [0, 4, 8]
    assert own.targets[:, 0].tolist() == [0, 1, 0]  # aaba, bbba, aabb: of equals the first class


def test_gaps_are_found_by_five_median_steps_or_as_set(tmp_path: Path) -> None:
    times = [i / 10 + (0.35 if i >= 7 else 0) + (3 if i >= 15 else 0) for i in range(30)]
    write(tmp_path, anna=csv("a" * 15 + "b" * 15), bob=csv("a" * 30, times), cleo=csv("b" * 30))
    usual = task_of(tmp_path, WINDOW, **SMALL, time="time_s").trained[0]
    assert usual.inputs[:, 0, 0].tolist() == [0, 4, 8, 15, 19, 23]  # 0.45 s is no gap, 3.1 s is one
    strict = task_of(tmp_path, WINDOW, **SMALL, time="time_s", largest_gap=0.3).trained[0]
    assert strict.inputs[:, 0, 0].tolist() == [0, 7, 11, 15, 19, 23]
    lenient = task_of(tmp_path, WINDOW, **SMALL, time="time_s", largest_gap=10).trained[0]
    assert lenient.inputs[:, 0, 0].tolist() == list(range(0, 25, 4))


def test_rows_left_out_and_repeated_headers_are_gaps(tmp_path: Path) -> None:
    rows = csv("a" * 8 + "b" * 8).splitlines()
    rows[6] = rows[6].replace(",-5,", ",NaN,")
    rows.insert(14, rows[0])
    write(tmp_path, anna=csv("a" * 12 + "b" * 12), bob="\n".join(rows))
    own = task_of(tmp_path, WINDOW, **{**SMALL, "query": 1, "support": 1}, ignore=["time_s"], missing="drop").trained[0]
    assert own.inputs[:, 0, 0].tolist() == [0, 8]  # 6, 7 and 13, 14, 15 are too short
    write(tmp_path, bob=csv("a" * 8 + "b" * 8).replace(",-5,", ",NaN,"))
    filled = task_of(tmp_path, WINDOW, **{**SMALL, "query": 1, "support": 1}, time="time_s", missing="interpolate").trained[0]
    assert filled.inputs[1, :, 1].tolist() == [-4, -5, -6, -7]


def test_recordings_are_resampled_linearly(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(2).uniform(0.02, 0.09, 400))
    text = "".join(f"{1e12 + 1000 * t:.3f},{5 * t:.6f},{-3 * t:.6f},{'ab'[i // 200]}\n" for i, t in enumerate(times))
    write(tmp_path, anna=text, bob=text)
    task = task_of(tmp_path, WINDOW, **SMALL, time=1, rate=25.0)
    own = task.trained[0]
    steps = np.diff(own.inputs[..., 0].astype(np.float64), axis=1)
    assert steps == pytest.approx(np.full(steps.shape, 5 / 25), abs=1e-4)
    assert len(own.inputs) == pytest.approx(25 * (times[-1] - times[0]) / 4, abs=2)
    assert "times are in ms, because they count since 1970" in task.notes[0] and "resampled to 25 Hz" in task.notes[1]


@given(st.floats(0.5, 200), st.integers(2, 50), st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_resampling_keeps_first_and_last_times(rate: float, n: int, seed: int) -> None:
    time = np.cumsum(np.random.default_rng(seed).uniform(0.001, 0.1, n))
    made = windows.resampled(recording([0] * n, time.tolist()), rate)
    assert made.time is not None and made.time[0] == time[0]
    assert made.time[-1] <= time[-1] + 1e-6 and made.time[-1] + 1 / rate > time[-1] - 1e-6
    assert np.interp(made.time, time, np.arange(n)) == pytest.approx(made.values[:, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("column", "times", "unit"),
    [
        ("t_us", [0, 10, 20], "us"),
        ("Time (ms)", [0, 10, 20], "ms"),
        ("time [s]", [0, 10, 20], "s"),
        ("timestamp", [1.7e9, 1.7e9 + 1], "s"),
        ("timestamp", [1.7e12, 1.7e12 + 10], "ms"),
        ("timestamp", [1.7e15, 1.7e15 + 10], "us"),
        ("timestamp", [1.7e18, 1.7e18 + 1e7], "ns"),
        ("t", [0, 0.01, 0.02], "s"),
        ("t", [5, 15, 25], "ms"),
        ("t", [0, 10_000, 20_000], "us"),
        ("events", [0, 0.5, 1], "s"),
    ],
)
def test_the_unit_of_times_is_found(tmp_path: Path, column: str, times: list[float], unit: str) -> None:
    text = f"{column},x,y,label\n" + "".join(f"{moment!r},1,2,a\n" for moment in times)
    notes = reading_of(write(tmp_path, bob=text), WINDOW, **SMALL, time=column).notes
    assert any(note.startswith(f"times are in {unit}, ") for note in notes)
    assert not reading_of(tmp_path, WINDOW, **SMALL, time=column, time_unit="s").notes


def test_dates_and_times_of_day_are_times(tmp_path: Path) -> None:
    clock = [f"2026-03-01T12:00:{i // 10:02}.{i % 10}00" for i in range(40)]
    for stamps in (clock, [stamp.split("T")[1] for stamp in clock], [stamp.replace("T", " ") for stamp in clock]):
        text = "when,x,y,label\n" + "".join(f"{stamp},{i},{-i},{'ab'[i // 20]}\n" for i, stamp in enumerate(stamps))
        task = task_of(write(tmp_path, anna=text, bob=text), WINDOW, **SMALL, time="when", rate=10.0)
        assert task.trained[0].inputs[1, :, 0].tolist() == pytest.approx([4, 5, 6, 7], abs=1e-6)
    text = text.replace(stamps[3], "noon")
    with pytest.raises(DataError, match=r"bob\.csv: row 5, column 1 \('when'\) 'noon' is not a time"):
        task_of(write(tmp_path, bob=text), WINDOW, **SMALL, time="when")


def test_values_to_predict_are_those_of_the_last_row(tmp_path: Path) -> None:
    text = "x,y,next\n" + "".join(f"{i},{-i},{10 * i}\n" for i in range(40))
    task = task_of(write(tmp_path, anna=text, bob=text), TaskShapes((4, 2), 1, "mse"), **SMALL)
    assert task.trained[0].targets[:, 0].tolist() == [30.0 + 40 * i for i in range(10)]


def test_clients_of_one_file_are_separate_recordings(tmp_path: Path) -> None:
    rows = [f"{i / 10},{'ab'[i % 2]}nn,{i},{-i},{'st'[i // 40]}\n" for i in range(80)]
    write(tmp_path, all="t,who,x,y,label\n" + "".join(rows))
    own = {"client": "who", "held_out": ["ann"]}
    task = task_of(tmp_path, WINDOW, **SMALL, **own, time="t")
    assert task.trained[0].inputs[0, :, 0].tolist() == [1, 3, 5, 7]
    with pytest.raises(DataError, match=r"no window of 4 rows fits: the longest run of one label without a gap has 1 rows"):
        task_of(tmp_path, WINDOW, **SMALL, **own, ignore=["t"])  # without times, neighbours in the file belong together


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 2), r"model\.input = \[5, 2\] is not made of windows of task\.window = 4 rows; make it \[4, 2\] for conv1d"),
        ((7,), r"model\.input = \[7\] is not made of windows .*\[4, CHANNELS\] for conv1d, or \[4\*CHANNELS\] for dense"),
        ((4, 3), r"row 2 has 4 columns, expected 5: 3 features \(of each of the 4 rows of a window, model\.input = \[4, 3\]\)"),
    ],
)
def test_a_shape_that_does_not_fit_is_named(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    write(tmp_path, anna=csv("a" * 20), bob=csv("b" * 20))
    with pytest.raises(DataError, match=message):
        task_of(tmp_path, TaskShapes(shape, 2, "softmax_cross_entropy"), **SMALL, time="time_s")


def test_a_window_longer_than_every_run_of_a_label_is_named(tmp_path: Path) -> None:
    write(tmp_path, anna=csv("a" * 20 + "bb"), bob=csv("a" * 20 + "bbb"))
    with pytest.raises(DataError, match=r"no window of 4 rows fits into class .b.: its longest run has 3 rows; lower"):
        task_of(tmp_path, WINDOW, **SMALL, time="time_s")
    with pytest.raises(
        DataError, match=r"no window of 4 rows has most of its rows in class .b.; lower task\.window or task\.stride"
    ):
        task_of(tmp_path, WINDOW, **SMALL, time="time_s", window_label="majority")
    write(tmp_path, bob=csv("ab" * 20))
    with pytest.raises(DataError, match=r"bob\.csv: no window of 4 rows fits: the longest run of one label .* has 1 rows"):
        task_of(tmp_path, WINDOW, **SMALL, time="time_s")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stride": 3}, r"task\.stride = 3 needs task\.window"),
        ({"rate": 50.0, "window": 4}, r"task\.rate = 50\.0 needs task\.time"),
        ({"largest_gap": 1.0}, r"task\.largest_gap = 1\.0 needs task\.time"),
        ({"delimiter": ",", "decimal": ","}, r"task\.delimiter and task\.decimal are both ','"),
    ],
)
def test_keys_that_need_another_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_of(**keys).check("experiment.toml")


def test_npz_recordings_become_windows(tmp_path: Path) -> None:
    x = np.stack([np.arange(40), -np.arange(40)], axis=1)
    for name in ("anna", "bob"):
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(40) // 20, t=np.arange(40) / 10)
    task = task_of(tmp_path, WINDOW, **SMALL, time="t", stride=2)
    assert task.trained[0].inputs.shape == (18, 4, 2)


def test_npz_arrays_are_reshaped_with_a_word(tmp_path: Path) -> None:
    x = np.random.default_rng(1).random((20, 8)).astype(np.float32)
    for name, own in (("anna", x), ("bob", x.reshape(20, 4, 2, 1))):
        np.savez(tmp_path / f"{name}.npz", x=own, y=np.arange(20) % 2)
    task = task_of(tmp_path, WINDOW, support=2, query=2, adapt=2)
    assert np.array_equal(task.trained[0].inputs, task.unseen[0].inputs)
    assert task.notes[0] == "anna.npz: x of shape [20, 8] is read as [20, 4, 2]"
    np.savez(tmp_path / "bob.npz", x=x.reshape(20, 2, 4), y=np.arange(20) % 2)
    with pytest.raises(DataError, match=r"bob\.npz: x has shape \[20, 2, 4\], expected \[rows, 4, 2\].*transpose"):
        task_of(tmp_path, WINDOW, support=2, query=2, adapt=2)


@pytest.mark.parametrize(
    ("own", "wanted", "clear"),
    [
        ((784,), (28, 28), True),
        ((28, 28), (28, 28, 1), True),
        ((1, 28, 28), (28, 28), True),
        ((50, 6), (6, 50), False),
        ((4, 6), (2, 12), False),
    ],
)
def test_only_shapes_whose_order_is_clear_are_reshaped(own: tuple[int, ...], wanted: tuple[int, ...], clear: bool) -> None:
    assert is_reshape(own, wanted) == clear


@pytest.mark.parametrize(
    ("times", "keys", "message"),
    [
        (lambda i: -i / 10, {}, r"bob\.csv: time runs backwards from row to row; sort the rows by time"),
        (lambda i: 7.0, {"rate": 10}, r"bob\.csv: all 20 rows have the same time; correct the times"),
        (lambda i: i * 1e7, {"rate": 10}, r"bob\.csv: 20 rows without a gap become 1,900,000,000 at task\.rate = 10; lower"),
        (lambda i: i * 1e200, {"rate": 10}, r"bob\.csv: 20 rows without a gap become 1,0+(,0+)+ at task\.rate = 10"),
    ],
)  # fmt: skip
def test_times_that_cannot_be_meant_are_named(
    tmp_path: Path, times: Callable[[int], float], keys: dict[str, Any], message: str
) -> None:
    write(tmp_path, anna=csv("a" * 20), bob=csv("b" * 20, [times(i) for i in range(20)]))
    with pytest.raises(DataError, match=message):
        task_of(tmp_path, WINDOW, **SMALL, time="time_s", **keys)
