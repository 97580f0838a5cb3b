"""CSV files as newcomers have them: each is read to the values it means, or refused with one line that says what to do."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import BODY, HEADER, LABELS, ROWS, VALUES, reading_of, task_of, write
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinymetafed.learn.tasks import DataError
from tinymetafed.learn.tasks.own_data import csv_file
from tinymetafed.learn.tasks.own_data.numbers import decimal_mark


def lines(form: str, decimal: str = ".") -> str:
    """All rows in a form with {0}, {1} for the features and {2} for the label."""
    return "".join(form.format(*(cell.replace(".", decimal) for cell in row[:2]), row[2]) + "\n" for row in ROWS)


LABEL_FIRST = "activity,ax,ay\n" + lines("{2},{0},{1}")
NUMBERED = "ax,activity,ay\n" + "".join(f"{a},{LABELS.index(label)},{b}\n" for a, b, label in ROWS)
PAUSE = "\n".join(BODY.splitlines()[:10]) + "\n{}\n" + "\n".join(BODY.splitlines()[10:])


@pytest.mark.parametrize(
    ("content", "keys", "said"),
    [
        (LABEL_FIRST, {"label": "activity"}, ""),
        (lines("{2},{0},{1}"), {"label": 1}, ""),
        (NUMBERED, {"label": "activity"}, ""),
        ("t,ay,ax,activity\n" + lines("1,{1},{0},{2}"), {"features": ["ax", "ay"]}, ""),
        ("t,ax,ay,activity\n" + lines("1,{0},{1},{2}"), {"ignore": ["t"]}, ""),
        (",ax,ay,activity\n" + lines("7,{0},{1},{2}"), {"ignore": [1]}, ""),
        (lines("{0};{1};{2}"), {}, "semicolons"),
        (lines("{0};{1};{2}", ","), {}, "semicolons, numbers with a decimal comma"),
        (lines("{0}\t{1}\t{2}"), {}, "tabs"),
        (lines("{0}\t{1}\t{2}", ","), {}, "tabs, numbers with a decimal comma"),
        (lines("{0}|{1}|{2}"), {}, "vertical bars"),
        (lines("  {0}   {1} {2}"), {}, "spaces"),
        (lines("{0}!{1}!{2}"), {"delimiter": "!"}, "'!'"),
        (lines('"{0}","{1}",{2}', ","), {}, "decimal comma"),
        ("sep=;\n" + lines("{0};{1};{2}"), {}, "semicolons"),
        ((HEADER + BODY).encode("utf-16"), {}, "UTF-16"),
        ((HEADER + BODY).encode("utf-16-le"), {}, "UTF-16"),
        ((HEADER + BODY).encode("utf-16-be"), {}, "UTF-16"),
        ((HEADER + BODY).encode("utf-32"), {}, "UTF-32"),
        ((HEADER + BODY).encode("utf-8-sig"), {}, ""),
        ("# recorded 5.5.\n" + HEADER + PAUSE.format('// a 7" pause'), {}, "comments left out"),
        (HEADER + PAUSE.format(HEADER.strip()), {}, "repeated headers left out"),
        (HEADER + "m/s^2,m/s^2,\n" + BODY, {}, "a row of units left out"),
        (HEADER + "[g],[g],-\n" + BODY, {}, "a row of units left out"),
        (lines("{0},{1},{2},"), {}, ""),
        ("ax,ay,activity,\n" + lines("{0},{1},{2},"), {}, ""),
        ((HEADER + BODY).replace("\n", "\r\n"), {}, ""),
        ((HEADER + BODY).replace("\n", "\r"), {}, ""),
        (lines('"{0}", "{1}","{2}"'), {}, ""),
    ],
)
def test_a_file_is_read_to_the_values_it_means(tmp_path: Path, content: str | bytes, keys: dict[str, Any], said: str) -> None:
    task = task_of(write(tmp_path, anna=content, bob=content), **keys)
    assert np.array_equal(task.trained[0].inputs, VALUES.astype(np.float32))
    assert task.trained[0].targets[:, 0].tolist() == [i // 15 for i in range(45)]
    assert said in " ".join(task.notes) and bool(said) == bool(task.notes)


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        (LABEL_FIRST, {}, r"labels go in the last column, or name it: label = 'activity'"),
        (lines("{2},{0},{1}"), {}, r"column 1 holds texts such as 'idle'.*, or name it: label = 1"),
        (HEADER + BODY, {"label": "none"}, r"task\.label = 'none': no such column, .* without labels .* \(ax, ay, activity\)"),
        (HEADER + BODY, {"label": "activty"}, r"task\.label = 'activty': no column has this name; did you mean 'activity'\?"),
        (BODY, {"label": "activity"}, r"the first row has no names; add a first row of names, or give the column's number"),
        (HEADER + BODY, {"label": 4}, r"task\.label = 4, but there are 3 columns"),
        (HEADER + BODY, {"features": ["ax", "ax"]}, r"column 1 has two roles"),
        (HEADER + BODY, {"features": ["ax"]}, r"task\.features names 1 columns, but model\.input = \[2\] takes 2"),
        ("ax,ax,activity\n" + BODY, {"features": ["ax", "ay"]}, r"'ax' names columns 1 and 2; rename one of them"),
        ("i,ax,ay,activity\n" + lines("1,{0},{1},{2}"), {}, r"row 2 has 4 columns, expected 3: .* task\.ignore"),
        (BODY.replace("walk\n", "walk,7\n", 1), {}, r"bob\.csv: row 31 has 4 columns, expected 3"),
        (BODY + "1.5,2", {}, r"bob\.csv: row 46 has 2 columns, expected 3"),
        ("Recorded by Anna\n" + BODY, {}, r"bob\.csv: row 1 has 1 columns, expected 3.*begin it with #"),
        (lines('"1,{1}","{0}",{2}').replace("-", ""), {}, r"row 1, column 1 '1,\d\.\d+' is not a finite number"),
        (lines('"1,234.5",{1},{2}'), {}, r"'1,234\.5' is not .*; write it without thousands separators"),
        (lines("1.234,5;{1};{2}", ","), {}, r"'1\.234,5' is not .*; write it without thousands separators"),
        (lines('"1,234","5,678",{2}'), {}, r"'1,234' may be a decimal number or have a thousands separator; set task\.decimal"),
        (lines("1'234.5,{1},{2}"), {}, r"without thousands separators"),
        (
            lines("{0};{1};{2}").replace(ROWS[44][0], "1,5"),
            {},
            r"row 45, column 1 '1,5' .* has a decimal comma and others",
        ),
        (
            BODY.replace(ROWS[3][0], "N/A", 1),
            {},
            r"row 4, column 1 'N/A' .* or set task\.missing = \"drop\"",
        ),
        (BODY.replace(ROWS[3][0], "1e39", 1), {}, r"row 4, column 1 '1e39' is not a finite number.*; the largest is 3\.4e\+38"),
        ("1,2,idle\n1,2,run\n1,2,walk\n" * 15, {"held_out": ["bob"]}, r"all samples are equal, so they tell no classes"),
        (BODY.replace(ROWS[3][0], "inf", 1), {"missing": "drop"}, r"row 4, column 1 'inf' is not a finite number"),
        (BODY.replace("walk", '"walk', 1), {}, r"bob\.csv: cannot be read as CSV .*quote"),
        (BODY.replace("walk", "fällt").encode("latin-1"), {}, r"bob\.csv: cannot be read as CSV in UTF-8 .*; save it as UTF-8"),
        (bytes(range(256)) * 9, {}, r"bob\.csv: cannot be read as CSV in UTF-8"),
        (b"PK\x03\x04" + bytes(300), {}, r"it is an Excel or ZIP file\); save it as CSV"),
        ("", {}, r"bob\.csv: no rows"),
        ("1,2,idle\n", {}, r"bob\.csv: 1 row\(s\) of class 'idle'"),
    ],
)
def test_what_cannot_be_read_is_answered_in_one_line(
    tmp_path: Path, content: str | bytes, keys: dict[str, Any], message: str
) -> None:
    good = HEADER + BODY if not keys else content
    with pytest.raises(DataError, match=message) as refused:
        task_of(write(tmp_path, zoe=good, bob=content), **{"held_out": ["zoe"], **keys})
    assert "\n" not in str(refused.value)


def test_labels_that_are_no_classes_are_told_from_values(tmp_path: Path) -> None:
    content = "".join(f"{a},{b},{i / 7:.3f}\n" for i, (a, b, _) in enumerate(ROWS))
    with pytest.raises(DataError, match=r"45 different values such as .*, which are not classes; labels go in the last column"):
        task_of(write(tmp_path, anna=content, bob=content))


def test_data_of_one_class_are_refused(tmp_path: Path) -> None:
    content = lines("{0},{1},idle")
    with pytest.raises(DataError, match=r"1 class \(idle\), but the model's last layer has 3 units; add rows of another class"):
        task_of(write(tmp_path, anna=content, bob=content))


def test_a_class_that_nobody_trains_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"anna\.csv: class 'run' is in held-out clients only, nobody trains on it; hold out"):
        task_of(write(tmp_path, anna=BODY, bob=BODY.replace("run", "walk"), cleo=BODY.replace("run", "idle")))


def test_missing_values_are_dropped_or_interpolated_and_counted(tmp_path: Path) -> None:
    content = BODY.replace(ROWS[3][0], "NaN", 1).replace(ROWS[7][1], "?", 1).replace(ROWS[9][0], "", 1)
    write(tmp_path, anna=BODY, bob=content)
    dropped = task_of(tmp_path, missing="drop")
    assert np.array_equal(dropped.trained[0].inputs, np.delete(VALUES, [3, 7, 9], axis=0).astype(np.float32))
    assert dropped.notes == ("3 rows with missing values left out, of 1 file",)
    filled = task_of(tmp_path, missing="interpolate")
    assert filled.trained[0].inputs[3, 0] == pytest.approx((VALUES[2, 0] + VALUES[4, 0]) / 2)
    assert filled.notes == ("3 missing values interpolated, of 1 file",)
    write(tmp_path, bob=lines("{0},,{2}"))
    with pytest.raises(DataError, match=r"bob\.csv: feature 2 has no value"):
        task_of(tmp_path, missing="interpolate")


def test_all_problems_of_all_files_are_listed(tmp_path: Path) -> None:
    many = BODY.replace(".", ".x")
    reading = reading_of(write(tmp_path, anna=BODY.replace(ROWS[3][0], "oops", 1), bob="1,2\n" * 9, cleo=BODY, dora=many))
    assert {problem.place.file.stem for problem in reading.problems} == {"anna", "bob", "dora"}
    assert len(reading.problems) < 20 < reading.problem_count
    assert any("more like it" in str(problem) for problem in reading.problems)
    first = reading.problems[0].place
    assert (first.row, first.column) == (4, 1)
    with pytest.raises(
        DataError, match=rf"'oops'.* \({reading.problem_count - 1} more problems; `tinymetafed check` lists all\)"
    ):
        reading.require()


def test_one_file_with_many_clients(tmp_path: Path) -> None:
    rows = [f"{('bob', 'anna', 'cleo')[i % 3]},{a},{b},{LABELS[i // 3 % 3]}\n" for i, (a, b, _) in enumerate(ROWS)]
    write(tmp_path, everybody="who,ax,ay,activity\n" + "".join(rows[:30]), more="who,ax,ay,activity\n" + "".join(rows[30:]))
    task = task_of(tmp_path, client="who")
    assert [client.name for client in (*task.trained, *task.unseen)] == ["bob", "cleo", "anna"]
    assert np.array_equal(task.trained[0].inputs, VALUES[::3].astype(np.float32))
    with pytest.raises(DataError, match=r"task\.held_out names 'ana', which is no client here; did you mean 'anna'\?"):
        task_of(tmp_path, client="who", held_out=["ana"])


def test_a_folder_of_files_is_a_client(tmp_path: Path) -> None:
    half = BODY.splitlines(keepends=True)
    write(tmp_path, anna__1="".join(half[:20]), anna__2="".join(half[20:]), bob=BODY)
    task = task_of(tmp_path)
    assert [client.name for client in task.trained] == ["bob"] and task.describe(1 << 20) == "anna, split 1"
    assert np.array_equal(task.unseen[0].inputs, VALUES.astype(np.float32))


NUMBERS = st.sampled_from(["1", "-2.5", " 7 ", "NaN", "", "-", "none", "?"])
CELLS = st.sampled_from(
    [
        "1",
        "-2.5",
        "3e-4",
        ".5",
        "NaN",
        "",
        "x",
        "1,5",
        "1_0",
        "0x1",
        "inf",
        "1e39",
        " 7 ",
        "'",
        "#",
        "1.2.3",
        "-",
        "none",
        '"x"',
    ]
)
READ_ROWS = st.lists(st.tuples(NUMBERS | CELLS, NUMBERS | CELLS, NUMBERS | CELLS), min_size=1, max_size=6)


@settings(max_examples=300)
@given(
    READ_ROWS,
    st.sampled_from([",", ";", "\t", " "]),
    st.booleans(),
    st.sampled_from([".", ","]),
    st.sampled_from(["refuse", "drop", "interpolate"]),
)
@example([("1", "", "x"), ("1", "1", "none")], ",", False, ".", "drop")  # a class, though also a word for a missing number
@example([("1", "1", '"x"'), ("1", "1", "")], " ", False, ".", "drop")
@example([("inf", "1", "1_0"), ("-", "1", "0x1"), ("1", "-", "1_0")], ",", False, ".", "interpolate")
def test_blocks_and_single_rows_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    delimiter: str,
    padded: bool,
    decimal: str,
    missing: str,
) -> None:
    """The fast way of reading gives what reading row by row gives: the same values, labels, problems and notes."""
    form = [delimiter.join(row) + delimiter * padded for row in (("ax", "ay", "activity"), ("1", "2.5", "idle"), *rows)]
    content = "\n".join(form) + "\n"
    folder = write(tmp_path_factory.mktemp("data"), bob=content if delimiter == "," else content.replace(".", decimal))
    fast = reading_of(folder, missing=missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_file._Reader, "_take_block", lambda *_: False)
        slow = reading_of(folder, missing=missing)
    assert list(map(str, fast.problems)) == list(map(str, slow.problems)) and fast.notes == slow.notes
    assert [client.inputs.tobytes() for client in fast.clients] == [client.inputs.tobytes() for client in slow.clients]
    assert [client.targets.tobytes() for client in fast.clients] == [client.targets.tobytes() for client in slow.clients]


def test_a_class_named_like_a_missing_number_is_kept(tmp_path: Path) -> None:
    content = BODY.replace("idle", "null").replace(ROWS[20][0], "", 1)
    task = task_of(write(tmp_path, anna=content, bob=content), missing="drop")
    assert task.trained[0].targets[:, 0].tolist() == [0] * 15 + [1] * 14 + [2] * 15


def test_a_quoted_text_between_spaces_is_one_cell(tmp_path: Path) -> None:
    content = lines('{0}  {1}\t"{2} fast" ')
    assert np.array_equal(task_of(write(tmp_path, anna=content, bob=content)).trained[0].inputs, VALUES.astype(np.float32))


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["1.5", "1,234"], (".", "")),
        (["1,5", "1,234"], (",", "")),
        (["0,123"], (",", "")),
        (["1,234", "12"], (".", "1,234")),
        (["1,234,567"], (".", "1,234,567")),
        (["12", "walk"], (".", "")),
    ],
)
def test_a_decimal_comma_is_told_from_thousands(cells: list[str], mark: tuple[str, str]) -> None:
    assert decimal_mark(cells) == mark


def test_many_rows_take_little_memory(tmp_path: Path) -> None:
    """Blocks become float32 while the file is read: 200,000 rows take less than 100 bytes each at the peak."""
    content = "".join(f"{i % 977}.25,{i % 13},{LABELS[i // 100 % 3]}\n" for i in range(200_000))
    folder = write(tmp_path, anna=BODY, bob=content)
    tracemalloc.start()
    task = task_of(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(task.trained[0].inputs) == 200_000 and peak < 100 * 200_000


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("\u22121.5", "write its minus sign as -"),
        ("1.5%", "write it without '%'"),
        ("1.5 m/s2", "write it without 'm/s2'"),
        ("2026-03-01 12:30:05", "it is a time: name its column in task.time, or leave that out with task.ignore"),
        ("sensor", "leave a column of texts out with task.ignore"),
        ('"two\nlines"', "'two lines' is not a finite number"),
        ("x" * 200, "'" + "x" * 60 + "…' is"),
    ],
)
def test_what_to_do_about_a_cell_depends_on_what_it_looks_like(tmp_path: Path, cell: str, said: str) -> None:
    reading = reading_of(write(tmp_path, anna=BODY, bob=f"{cell},1.0,idle\n" * 3 + BODY))
    assert said in str(reading.problems[0]) and "\n" not in str(reading.problems[0])


def test_tables_under_another_name_are_named(tmp_path: Path) -> None:
    for name, said in (
        ("anna.txt", "There is anna.txt: if it is a table of text, name it .csv"),
        ("bob.xlsx", "save its table as CSV"),
    ):
        (tmp_path / name).touch()
        with pytest.raises(DataError, match=said):
            task_of(tmp_path)
        (tmp_path / name).unlink()
