"""Clients from the user's files: exact values, a split without leaks, classes in turn, and errors with file, row and column."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymetafed.learn.tasks import HELD_OUT, DataError, Task
from tinymetafed.learn.tasks.folder import TEST_ROWS, Folder
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import FolderTask, TaskShapes

CLASSES = TaskShapes((2,), 3, "softmax_cross_entropy")
VALUES = TaskShapes((2,), 2, "mse")
NAMES = ("shake", "tilt", "wave")


def task_of(path: Path, shapes: TaskShapes = CLASSES, seed: int = 1, clients: int | None = None, **keys: Any) -> Folder:
    spec = FolderTask(kind="folder", path=str(path), **{"support": 6, "query": 6, "adapt": 5, **keys})
    return Folder.from_files(path, spec, shapes, seed, clients)


def csv_rows(client: int, rows: int = 18) -> list[str]:
    """Rows with labels in turn; all rows of all files differ."""
    return [f"{client}.{i:02},{-i},{NAMES[i % 3]}" for i in range(rows)]


def write(folder: Path, **files: str | list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        lines = [text] if isinstance(text, str) else text
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three clients of 18 rows."""
    return write(tmp_path / "data", alice=csv_rows(1), bob=csv_rows(2), carol=csv_rows(3))


def rows_of(task: Folder, client: int, round: int, sample_set: SampleSet, count: int) -> set[bytes]:
    return {row.tobytes() for row in task.samples(client, round, sample_set, count).inputs}


# Reading


def test_a_file_is_a_client_and_its_rows_are_exact(data: Path) -> None:
    task: Task = task_of(data, held_out=["carol"])
    assert (task.clients, task.unseen_clients, task.metric, task.target_size) == (2, 1, "accuracy", 1)
    samples = task.samples(1, 0, SampleSet.SUPPORT, 6)
    assert samples.inputs.dtype == samples.targets.dtype == np.float32
    for x, y in zip(samples.inputs, samples.targets, strict=True):
        i = int(-x[1])
        assert x[0] == np.float32(f"2.{i:02}") and y[0] == i % 3  # sorted names: shake, tilt, wave
    assert task.describe(1) == "bob" and task.describe(HELD_OUT + 2) == "carol, split 3"


def test_csv_may_have_a_header_spaces_blank_lines_a_mark_and_whole_number_classes(tmp_path: Path) -> None:
    plain = [f"{i},{-i},{i % 3}" for i in range(18)]
    dressed = ["\ufeffax, ay ,gesture", "", *(f" {i}.0 , {-i} ,{float(i % 3)}" for i in range(18)), ""]
    task = task_of(write(tmp_path / "data", a=plain, b=dressed), held_out=["a"])
    assert np.array_equal(task.trained[0].inputs, task.unseen[0].inputs)
    assert np.array_equal(task.trained[0].targets, task.unseen[0].targets)


def test_binary_labels_are_two_classes_for_one_output(data: Path) -> None:
    binary = TaskShapes((2,), 1, "binary_crossentropy")
    with pytest.raises(DataError, match=r"3 classes \(shake, tilt, wave\), but the model's loss binary_crossentropy is for 2"):
        task_of(data, binary)
    numbers = write(data.parent / "numbers", a=[f"{i},0,{i % 2}" for i in range(20)], b=[f"{i},1,{i % 2}" for i in range(20)])
    task = task_of(numbers, binary, held_out=["a"])
    assert (task.metric, task.target_size, task.output_size) == ("accuracy", 1, 1)
    test = task.test_samples(HELD_OUT, 0)
    assert set(test.targets[:, 0]) == {0.0, 1.0}
    logits = test.targets - 0.5  # a logit above 0 is a probability above 0.5
    assert task.score(logits, test) == 1 and task.score(-logits, test) == 0
    assert task.score(logits - 1, test) == np.mean(test.targets == 0)
    (numbers / "b.csv").write_text("\n".join(f"{i},1,{i % 2 + 1}" for i in range(20)))
    with pytest.raises(DataError, match=r"b\.csv: row 2, column 3: class 2, .* is for 2, for classes 0 to 1"):
        task_of(numbers, binary)


def test_npz_and_csv_of_the_same_rows_are_the_same_client(data: Path) -> None:
    read = task_of(data, held_out=["carol"]).trained[0]
    for labels in (np.array(NAMES)[np.arange(18) % 3], np.arange(18) % 3):
        (data / "alice.csv").unlink(missing_ok=True)
        np.savez(data / "alice.npz", x=read.inputs.astype(np.float64), y=labels)
        if labels.dtype.kind == "i":
            for other in ("bob", "carol"):
                np.savez(data / f"{other}.npz", x=read.inputs, y=labels[:, None].astype(np.float32))
                (data / f"{other}.csv").unlink()
        again = task_of(data, held_out=["carol"]).trained[0]
        assert np.array_equal(again.inputs, read.inputs) and np.array_equal(again.targets, read.targets)


def test_targets_are_the_last_columns_and_inputs_take_the_models_shape(tmp_path: Path) -> None:
    rows = [f"{i},{i + 0.5},{10 * i},{-i}" for i in range(20)]
    csv_task = task_of(write(tmp_path / "csv", a=rows, b=rows), VALUES)
    assert (csv_task.metric, csv_task.target_size) == ("mse", 2)
    drawn = csv_task.samples(0, 3, SampleSet.QUERY, 6)
    assert np.array_equal(drawn.targets, np.stack([10 * drawn.inputs[:, 0], -drawn.inputs[:, 0]], axis=1))
    images = tmp_path / "npz"
    images.mkdir()
    x = np.arange(20 * 8, dtype=np.uint8).reshape(20, 2, 2, 2)
    for name in "ab":
        np.savez(images / f"{name}.npz", x=x, y=np.arange(20.0))
    task = task_of(images, TaskShapes((2, 2, 2), 1, "mse"))
    assert np.array_equal(task.trained[0].inputs, x) and task.trained[0].targets.shape == (20, 1)


def test_other_files_are_ignored(data: Path) -> None:
    (data / "README.md").write_text("not data")
    (data / "._alice.csv").write_bytes(b"\x00\x01")
    (data / "more.csv").mkdir()
    assert task_of(data).clients == 2


# The split


def test_a_quarter_is_held_out_by_the_seed_and_at_least_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", **{f"client{i:02}": csv_rows(i) for i in range(10)})
    chosen = []
    for seed in range(12):
        task = task_of(folder, seed=seed)
        names = [client.name for client in (*task.trained, *task.unseen)]
        assert (task.clients, task.unseen_clients) == (7, 3) and sorted(names) == [f"client{i:02}" for i in range(10)]
        chosen.append(tuple(client.name for client in task.unseen))
        assert chosen[-1] == tuple(client.name for client in task_of(folder, seed=seed).unseen)
    assert len(set(chosen)) > 3
    assert task_of(write(tmp_path / "two", a=csv_rows(1), b=csv_rows(2))).unseen_clients == 1


def test_with_a_cpp_source_all_files_are_held_out(data: Path) -> None:
    task = task_of(data, source="source.cpp", clients=50)
    assert (task.clients, task.unseen_clients) == (50, 3)
    made = {sample_set: task.on_device(sample_set) for sample_set in SampleSet}
    assert made == {SampleSet.SUPPORT: True, SampleSet.QUERY: True, SampleSet.ADAPT: False, SampleSet.TEST: False}
    assert task_of(data, source="source.cpp", held_out=["bob"]).describe(HELD_OUT + 1) == "bob, split 2"


# Draws


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 8), st.integers(0, 2**32 - 1), st.integers(0, 10**6), st.booleans())
def test_nothing_is_shared_and_classes_take_turns(
    tmp_path_factory: pytest.TempPathFactory, support: int, query: int, adapt: int, seed: int, round: int, classes: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"own{classes}"
    if not folder.exists():
        rows = csv_rows(1, 60) if classes else [f"{i},{i},{i},{-i}" for i in range(60)]
        write(folder, a=rows, b=rows)
    task = task_of(folder, CLASSES if classes else VALUES, seed, support=support, query=query, adapt=adapt)
    client = 0
    parts = [rows_of(task, client, round, SampleSet.SUPPORT, support), rows_of(task, client, round, SampleSet.QUERY, query)]
    assert len(parts[0] | parts[1]) == support + query
    unseen = HELD_OUT + 7
    test = task.test_samples(unseen, 0)
    adapting = task.samples(unseen, 0, SampleSet.ADAPT, adapt)
    assert len({row.tobytes() for row in np.concatenate([adapting.inputs, test.inputs])}) == 60
    if classes:
        drawn = [task.samples(client, round, SampleSet(s), n) for s, n in ((0, support), (1, query))]
        for samples in (*drawn, adapting, test):
            counts = np.bincount(samples.targets[:, 0].astype(int), minlength=3)
            assert counts.max() - counts.min() <= 1


def test_draws_are_a_function_of_seed_client_and_round(data: Path) -> None:
    task, again = task_of(data), task_of(data)

    def first(of: Folder, client: int, round: int) -> bytes:
        return of.samples(client, round, SampleSet.SUPPORT, 6).inputs.tobytes()

    assert first(task, 0, 4) == first(again, 0, 4)
    assert len({first(task, 0, 4), first(task, 0, 5), first(task, 1, 4), first(task_of(data, seed=2), 0, 4)}) == 4
    fewer = task.samples(0, 4, SampleSet.SUPPORT, 2).inputs
    assert np.array_equal(fewer, task.samples(0, 4, SampleSet.SUPPORT, 6).inputs[:2])


def test_held_out_clients_take_the_held_out_files_in_turn_with_a_new_split_each(data: Path) -> None:
    task = task_of(data, held_out=["alice", "carol"])
    assert [task.describe(HELD_OUT + t) for t in range(4)] == [
        "alice, split 1",
        "carol, split 1",
        "alice, split 2",
        "carol, split 2",
    ]
    tests = [task.test_samples(HELD_OUT + t, 0) for t in range(4)]
    assert [int(test.inputs[0, 0]) for test in tests] == [1, 3, 1, 3]
    assert {row.tobytes() for row in tests[0].inputs} != {row.tobytes() for row in tests[2].inputs}


def test_a_rare_class_drops_out_of_the_test_rows_when_it_is_used_up(tmp_path: Path) -> None:
    rare = [f"{i},0,{0 if i < 40 else 1 if i < 80 else 2}" for i in range(83)]
    task = task_of(write(tmp_path / "data", a=rare, b=rare), adapt=6, support=3, query=3)
    assert np.bincount(task.test_samples(HELD_OUT, 0).targets[:, 0].astype(int)).tolist() == [38, 38, 1]
    many = [f"{i},0,{i % 3}" for i in range(300)]
    assert len(task_of(write(tmp_path / "many", a=many, b=many)).test_samples(HELD_OUT, 0)) == TEST_ROWS


def test_more_samples_than_the_experiment_sets_are_refused(data: Path) -> None:
    task = task_of(data)
    for sample_set, count in ((SampleSet.SUPPORT, 7), (SampleSet.ADAPT, 6), (SampleSet.TEST, 1)):
        with pytest.raises(ValueError, match=sample_set.name):
            task.samples(HELD_OUT, 0, sample_set, count)


def test_scores(data: Path, tmp_path: Path) -> None:
    task = task_of(data)
    test = task.test_samples(HELD_OUT, 0)
    right = np.eye(3, dtype=np.float32)[test.targets[:, 0].astype(int)]
    assert task.score(right, test) == 1 and task.score(np.roll(right, 1, axis=1), test) == 0
    rows = [f"{i},0,{i},{i}" for i in range(20)]
    values = task_of(write(tmp_path / "values", a=rows, b=rows), VALUES)
    test = values.test_samples(HELD_OUT, 0)
    assert values.score(test.targets + np.float32([1, 3]), test) == 5
    assert values.score(test.targets + np.float32(np.nan), test) == float("inf")


# Errors


def replaced(row: int, text: str) -> Callable[[Path], None]:
    """Replaces a line (numbered from 1) of bob.csv."""

    def change(data: Path) -> None:
        lines = csv_rows(2)
        lines[row - 1] = text
        write(data, bob=lines)

    return change


def saved(**arrays: Any) -> Callable[[Path], None]:
    """Replaces bob.csv by bob.npz."""

    def change(data: Path) -> None:
        (data / "bob.csv").unlink()
        np.savez(data / "bob.npz", **arrays)

    return change


X, Y = np.arange(36.0).reshape(18, 2), np.array(NAMES * 6)
BAD_X = np.where(X == 7, np.inf, X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced(5, "nan,1,tilt"), r"bob\.csv: row 5, column 1 'nan' is not a finite number"),
        (replaced(5, "1,-inf,tilt"), r"bob\.csv: row 5, column 2 '-inf' is not a finite number"),
        (replaced(5, "1,1e39,tilt"), r"bob\.csv: row 5, column 2 '1e39' is not a finite number"),
        (replaced(5, "1,x,tilt"), r"bob\.csv: row 5, column 2 'x' is not a finite number"),
        (replaced(5, "1,,tilt"), r"bob\.csv: row 5, column 2 is empty, not a finite number"),
        (replaced(1, "1,O,tilt"), r"bob\.csv: row 1, column 2 'O' is not a finite number"),
        *(
            (
                replaced(5, f"1,{cell},tilt"),
                rf"bob\.csv: row 5, column 2 '{re.escape(cell)}' is not a finite number, written like",
            )
            for cell in ("1_000", "٣", "１", "1٣", "0x10", "1 0", "infinity", "Inf", "1e", "1.e+", "--1", ".", "1.2.3", "1e1_0")
        ),
        (replaced(1, "1_0,٣,tilt"), r"bob\.csv: row 1, column 1 '1_0' is not a finite number"),  # no header either
        (replaced(1, "0x10,1 0,tilt"), r"bob\.csv: row 1, column 1 '0x10' is not a finite number"),
        (replaced(1, '"1,5","2,5",tilt'), r"bob\.csv: row 1, column 1 '1,5' is not a finite number"),
        (replaced(1, ",,tilt"), r"bob\.csv: row 1, column 1 is empty, not a finite number"),
        (replaced(5, "1,2, "), r"bob\.csv: row 5, column 3 has no label"),
        (replaced(5, "1,2"), r"bob\.csv: row 5 has 2 columns, expected 3: 2 features \(model\.input = \[2\]\), then a label"),
        (replaced(5, "1,2,3,tilt"), r"bob\.csv: row 5 has 4 columns, expected 3"),
        (lambda data: write(data, bob="1!2!tilt"), r"bob\.csv: row 1 has 1 columns, .* separated by commas"),
        (lambda data: write(data, bob=["a,b,label", "1,?,tilt"]), r"bob\.csv: row 2, column 2 \('b'\) '\?' is not"),
        (lambda data: write(data, bob=["1,2,3,tilt"] * 20), r"bob\.csv: row 1 has 4 columns, expected 3: 2 features"),
        (lambda data: write(data, bob=""), r"bob\.csv: no rows"),
        (lambda data: write(data, bob="a,b,label"), r"bob\.csv: no rows"),
        (lambda data: (data / "bob.csv").write_bytes(b"1,2,\xff\n"), r"bob\.csv: cannot be read as CSV in UTF-8"),
        (
            replaced(5, "1,2,titl"),
            r"data: 4 classes \(shake, tilt, titl, wave\).* 3 units;.*'titl', .*bob\.csv: row 5, column 3",
        ),
        (
            lambda data: write(data, bob=csv_rows(2, 11)),
            r"bob\.csv: 3 row\(s\) of class 'wave', but task\.support = 6 and .* need 4 of each class",
        ),
        (
            lambda data: write(data, carol=csv_rows(3, 8)),
            r"carol\.csv: 2 row\(s\) of class 'wave', but task\.adapt = 5, and one to test, need 3",
        ),
        (lambda data: np.savez(data / "bob.npz", x=X, y=Y), r"data: bob\.csv and bob\.npz would be one client"),
        (saved(x=X), r"bob\.npz: no array y, only x"),
        (saved(a=X), r"bob\.npz: no array x and y, only a"),
        (saved(x=BAD_X, y=Y), r"bob\.npz: x\[3, 1\] = inf is not a finite number"),
        (saved(x=X.astype(str), y=Y), r"bob\.npz: x is of type <U32, expected numbers"),
        (saved(x=X[:, :1], y=Y), r"bob\.npz: x has shape \[18, 1\], expected \[rows, 2\] as in model\.input"),
        (saved(x=X, y=Y[:17]), r"bob\.npz: y has shape \[17\], expected \[18\] or \[18, 1\]"),
        (saved(x=X, y=np.array([None] * 18)), r"bob\.npz: damaged, or arrays of objects"),
        (saved(x=X, y=np.where(np.arange(18) == 4, "", Y)), r"bob\.npz: y\[4\] = '' is not a label"),
        (saved(x=X, y=np.where(np.arange(18) == 4, np.nan, 1.0)), r"bob\.npz: y\[4\] = 'nan' is not a label"),
    ],
)
def test_bad_input_is_named(data: Path, change: Callable[[Path], object], message: str) -> None:
    change(data)
    with pytest.raises(DataError, match=message):
        task_of(data, held_out=["carol"])


@pytest.mark.parametrize("label", ["1_0", "٣", "2٠"])
def test_a_label_that_is_an_unusual_number_is_named(tmp_path: Path, label: str) -> None:
    rows = [f"{i},0,{i % 3}" for i in range(18)]
    data = write(tmp_path / "data", alice=rows, bob=[*rows[:4], f"1,2,{label}", *rows[5:]])
    with pytest.raises(DataError, match=rf"bob\.csv: row 5, column 3: label '{label}' is neither a whole number"):
        task_of(data)


def test_usual_notations_of_numbers_are_read(data: Path) -> None:
    texts = ["+1", "-1.", ".5", "1e5", "2E-3", "007", "-0.0", "1.25e+1"]
    write(data, alice=csv_rows(1, 24), bob=[f"{texts[i % len(texts)]},{i},{NAMES[i % 3]}" for i in range(24)])
    task = task_of(data, held_out=["carol"], support=12, query=12)
    found = np.concatenate([task.samples(1, 0, which, 12).inputs for which in (SampleSet.SUPPORT, SampleSet.QUERY)])
    assert {(float(x), int(i)) for x, i in found} == {
        (float(np.float32(x)), i) for i, x in enumerate([1, -1, 0.5, 1e5, 2e-3, 7, 0, 12.5] * 3)
    }


def test_columns_in_another_order_are_named(data: Path) -> None:
    write(data, alice=["x,y,label", *csv_rows(1)], carol=["y,x,label", *csv_rows(3)])
    with pytest.raises(DataError, match=r"carol\.csv: column 1 is 'y', but 'x' in alice\.csv; give all files the same columns"):
        task_of(data, held_out=["carol"])
    write(data, carol=["x,y,label", *csv_rows(3)])
    assert task_of(data, held_out=["carol"]).clients == 2


@pytest.mark.parametrize("keep", [0, 30, -30, -200])
def test_a_damaged_npz_is_named(data: Path, keep: int) -> None:
    saved(x=X, y=Y)(data)
    content = bytearray((data / "bob.npz").read_bytes())
    if keep > 0:
        content[40 : 40 + keep] = bytes(keep)
    (data / "bob.npz").write_bytes(content[:keep] if keep <= 0 else content)
    with pytest.raises(DataError, match=r"bob\.npz: damaged"):
        task_of(data, held_out=["carol"])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("3", r"bob\.csv: row 5, column 3: class 3, but the model's last layer has 3 units, for classes 0 to 2"),
        ("-1", r"bob\.csv: row 5, column 3: class -1"),
    ],
)
def test_a_class_that_the_model_does_not_have_is_named(tmp_path: Path, label: str, message: str) -> None:
    rows = [f"{i},0,{i % 3}" for i in range(18)]
    data = write(tmp_path / "data", alice=rows, bob=[*rows[:4], f"1,2,{label}", *rows[5:]])
    with pytest.raises(DataError, match=message):
        task_of(data)


def test_fewer_classes_than_units_are_refused(tmp_path: Path) -> None:
    rows = [f"{i},0,{i % 2}" for i in range(18)]
    with pytest.raises(DataError, match=r"data: 2 classes \(0, 1\), but the model's last layer has 3 units; make it 2"):
        task_of(write(tmp_path / "data", a=rows, b=rows))


def test_a_client_of_one_class_may_train_but_not_test(data: Path) -> None:
    write(data, bob=[f"{i},0,tilt" for i in range(18)])
    assert len(task_of(data, held_out=["carol"]).samples(1, 0, SampleSet.QUERY, 6)) == 6
    with pytest.raises(DataError, match=r"bob\.csv: all rows are of class 'tilt'.*hold out another file"):
        task_of(data, held_out=["bob"])


def test_too_few_rows_of_a_regression_are_refused(tmp_path: Path) -> None:
    rows = [f"{i},0,{i},{i}" for i in range(11)]
    with pytest.raises(DataError, match=r"[ab]\.csv: 11 row\(s\), but task\.support = 6 and task\.query = 6 need 12; add rows"):
        task_of(write(tmp_path / "data", a=rows, b=rows), VALUES)


def test_folders_that_hold_no_clients_are_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "empty", "empty: no CSV or NPZ file in this folder"),
        (tmp_path / "absent", "absent: no such folder"),
        (data / "bob.csv", "a file, not a folder"),
    ):
        with pytest.raises(DataError, match=message):
            task_of(path)


def test_held_out_names_must_be_files_and_leave_some(data: Path) -> None:
    with pytest.raises(DataError, match=r"task\.held_out names 'carl', which is no file here; did you mean 'carol'\?"):
        task_of(data, held_out=["carl"])
    with pytest.raises(DataError, match="there are: alice, bob, carol"):
        task_of(data, held_out=["xyz"])
    with pytest.raises(DataError, match=r"all clients are held out \(alice, bob, carol\)"):
        task_of(data, held_out=["carol", "alice", "bob"])
    with pytest.raises(DataError, match=r"all clients are held out \(only\)"):
        task_of(write(data.parent / "one", only=csv_rows(1)))
