"""`tinymetafed check` and tmf.check: everything about a folder of data at once, as a table, as JSON, and as an exit code."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

import tinymetafed as tmf
from tinymetafed import cli
from tinymetafed.runs.setup import set_up

ROWS = "".join(f"{i / 10},{i % 7 - 3},{('idle', 'walk')[i // 20 % 2]}\n" for i in range(80))
CONV1D = '{ op = "conv1d", filters = 4, kernel = 3, activation = "relu" }, { op = "flatten" },'
EXPERIMENT = """
[task]
kind = "folder"
path = "data"
held_out = ["anna"]
window = 4
[model]
input = [4, 2]
loss = "softmax_cross_entropy"
layers = [ { op = "conv1d", filters = 4, kernel = 3, activation = "relu" }, { op = "flatten" },
  { op = "dense", units = 2, local = true } ]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("anna", "bob"):
        (tmp_path / "data" / f"{name}.csv").write_text("ax,ay,activity\n" + ROWS)
    (tmp_path / "experiment.toml").write_text(EXPERIMENT.replace("held_out", "adapt = 4\nsupport = 4\nquery = 4\nheld_out"))
    return tmp_path


def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["tinymetafed", "check", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_an_experiments_data_are_shown_with_what_the_board_needs(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = command(capsys, monkeypatch, project / "experiment.toml")
    assert code == 0 and err == ""
    for part in (
        "anna",
        "test",
        "training",
        "idle",
        "ax",
        "40 windows of 4 rows, one every 4",
        "UTF-8, columns separated by commas, the first row has names",
        "nano33ble: ",
        "no problems",
    ):
        assert part in out
    assert "client 'anna': 80 of 80 rows are in 'bob' too" in out
    result = tmf.check(project)  # the folder of an experiment
    assert result.ok and result.needs is not None and result.needs.sample == 4 * 8 + 4
    assert result.needs.weights == tmf.load(project / "experiment.toml").manifest("nano33ble").n_parameters
    assert 0 < result.needs.ram < result.needs.ram_available and 0 < result.needs.flash < result.needs.flash_available


def test_all_problems_are_in_the_json_and_the_exit_code(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "data" / "anna.csv").write_text("ax,ay,activity\n" + ROWS.replace("0.3,", "oops,").replace("0.5,", ",", 1))
    (project / "data" / "cleo.csv").write_text("ax,ay\n1,2\n")
    code, out, err = command(capsys, monkeypatch, project / "experiment.toml", "--json")
    found = json.loads(out)
    assert code == 1 and err == "" and found["problem_count"] == len(found["problems"]) == 3
    assert [(Path(each["file"]).name, each["row"], each["column"]) for each in found["problems"]] == [
        ("anna.csv", 5, 1),
        ("anna.csv", 7, 1),
        ("cleo.csv", 2, None),
    ]
    assert all(each["what"] and each["text"].startswith(each["file"]) for each in found["problems"])
    assert "correct it" in found["problems"][0]["remedy"]
    assert {client["name"] for client in found["facts"]["clients"]} == {"anna", "bob"}
    code, out, _ = command(capsys, monkeypatch, project / "experiment.toml")
    assert code == 1 and out.count("problem: ") == 3 and "3 problem(s)" in out


def test_a_folder_without_an_experiment_is_checked_with_keys_of_the_task(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = project / "data"
    result = tmf.check(data)
    assert result.ok and result.needs is None and result.facts is not None
    assert result.facts.sample_shape == (2,) and dict(result.facts.classes) == {"idle": 80, "walk": 80}
    windows = tmf.check(data, {"task.window": 10, "task.label": "activity"})
    assert windows.facts is not None and windows.facts.sample_shape == (10, 2) and len(windows.notes) == 2
    code, out, _ = command(capsys, monkeypatch, data, "--set", "task.window=10")
    assert code == 0 and "input = [10, 2], last layer with units = 2" in out
    for words, message in (
        (["--set", "task.labl=activity"], "unknown key 'labl'; did you mean 'label'?"),
        (["--set", "run.rounds=5"], "'run' is set, but a folder of data has keys of [task] only"),
        (["--set", "task.stride=5"], "task.stride = 5 needs task.window"),
    ):
        code, out, err = command(capsys, monkeypatch, data, *words)
        assert code == 2 and out == "" and message in err


def test_what_keeps_the_model_from_its_board_is_a_problem(project: Path) -> None:
    big = tmf.check(project / "experiment.toml", ["model.layers.0.filters=4096"])
    assert not big.ok and big.needs is None and big.facts is not None
    wrong = tmf.check(project / "experiment.toml", ["model.input=[5, 2]"])
    assert any("is not made of windows of task.window = 4" in problem.text for problem in wrong.problems)
    gone = tmf.check(project / "experiment.toml", data=project / "nowhere")
    assert gone.facts is None and "no such folder" in gone.problems[0].text
    with pytest.raises(tmf.UsageError, match=r"task\.kind = 'sine'; check is for the files of task 'folder'"):
        tmf.check(tmf.example("sine.toml"))
    with pytest.raises(tmf.UsageError, match=r"anna\.csv: a data file; give the folder"):
        tmf.check(project / "data" / "anna.csv")
    with pytest.raises(tmf.UsageError, match=r"nowhere: no such folder or experiment file"):
        tmf.check(project / "nowhere")
    with pytest.raises(tmf.BoardError):
        tmf.check(project / "experiment.toml", board="nano")


def test_what_was_decided_is_said_once_when_a_run_begins(project: Path, built_once: None) -> None:
    said: list[str] = []
    short = ["run.rounds=3", "evaluation.tasks=2", "evaluation.every=0"]
    experiment = tmf.load(project / "experiment.toml", short)
    run = tmf.simulate(experiment, out=project / "run", progress=lambda event: said.append(event.event))
    assert len([line for line in said if "windows of 4 rows" in line]) == 1
    assert run.finished


def _write(folder: Path, label: str, rows: int = 60) -> None:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(("anna", "bob", "cleo")):
        lines = [f"{i},{i % 7 + number},{eval(label, {'i': i})}" for i in range(rows)]
        (folder / f"{name}.csv").write_text("\n".join(["a,b,angle", *lines]))


@pytest.mark.parametrize(
    ("label", "units", "warning"),
    [
        ("i % 2 + 1", 3, "number the classes from 0 without gaps, or give the last layer units = 3"),
        ("(i % 3) * 2", 5, "class 1 has no samples"),
        ("i % 2 * 2 - 1", 2, "label -1: classes that are numbers begin at 0"),
        ("i % 2", 2, ""),
        ("'xy'[i % 2]", 2, ""),
    ],
)
def test_check_and_run_agree_on_the_numbers_of_classes(tmp_path: Path, label: str, units: int, warning: str) -> None:
    _write(tmp_path / "data", label)
    facts = tmf.check(tmp_path / "data").facts
    assert facts is not None and facts.units == units
    said = [each for each in facts.warnings if "class" in each and "number" in each]
    assert [warning in each for each in said] == ([True] if warning else [])


def test_a_class_beyond_the_last_layer_has_a_remedy(tmp_path: Path) -> None:
    _write(tmp_path / "data", "i % 2 + 1")
    (tmp_path / "experiment.toml").write_text(
        EXPERIMENT.replace("window = 4\n", "")
        .replace("[4, 2]", "[2]")
        .replace(
            '{ op = "conv1d", filters = 4, kernel = 3, activation = "relu" }, { op = "flatten" },',
            '{ op = "dense", units = 4 },',
        )
    )
    problem = tmf.check(tmp_path / "experiment.toml").problems[0]
    assert "number the classes from 0, or give the last layer units = 3" in problem.remedy
    assert tmf.check(tmp_path / "experiment.toml", ["model.layers.1.units=3"]).ok


@pytest.mark.parametrize("label", ["(i * 37 % 59) / 10 - 2.57", "i * 13"])
def test_values_to_predict_are_not_listed_as_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    _write(tmp_path / "data", label)
    code, out, _ = command(capsys, monkeypatch, tmp_path / "data")
    assert code == 0 and 'these look like values to predict; set model.loss = "mse" and task.label = ["angle"]' in out
    assert 'loss = "mse", last layer with units = 1' in out and max(map(len, out.splitlines())) < 200
    (heading,) = (row for row in out.splitlines() if "client" in row and "samples" in row)
    assert heading.rstrip("┃ ").endswith("samples")


def test_the_table_of_many_classes_is_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "data", "i % 30")
    code, out, _ = command(capsys, monkeypatch, tmp_path / "data")
    assert code == 0 and "… and 20 classes more; --json lists all" in out and "last layer with units = 30" in out


@pytest.mark.parametrize("broken", ["first", "all"])
def test_an_unreadable_image_is_a_problem_among_others(tmp_path: Path, broken: str) -> None:
    for client in ("anna", "bob"):
        for label in ("cat", "dog"):
            folder = tmp_path / client / label
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("L", (4, 5), 40 * number).save(folder / f"{number}.png")
    names = sorted(tmp_path.rglob("*.png"))
    for file in names if broken == "all" else names[:1]:
        file.write_bytes(b"no image")
    result = tmf.check(tmp_path)
    found = [each for each in result.problems if "it is not an image" in each.text]
    assert len(found) == (12 if broken == "all" else 1) and found[0].file == str(names[0])
    assert all(each.remedy == "save it again, or remove it" for each in found)
    if broken == "first":
        assert result.facts is not None and result.facts.sample_shape == (5, 4, 1)


def test_a_gap_is_named_with_its_folder_and_an_empty_folder_with_all_forms(tmp_path: Path) -> None:
    for client in ("anna", "bob"):
        (tmp_path / "data" / client).mkdir(parents=True)
        for number in (1, 2):
            rows = "".join(f"{i + 50 * (i > 20)},{i % 5},{'xy'[i % 2]}\n" for i in range(40))
            (tmp_path / "data" / client / f"{number}.csv").write_text("t,a,label\n" + rows)
    facts = tmf.check(tmp_path / "data", {"task.time": "t", "task.window": 2, "task.time_unit": "s"}).facts
    assert facts is not None and {gap.file for gap in facts.gaps} == {f"{c}/{n}.csv" for c in ("anna", "bob") for n in (1, 2)}
    (tmp_path / "empty").mkdir()
    text = tmf.check(tmp_path / "empty").problems[0].text
    assert "no CSV or NPZ file in this folder, and no images or sounds" in text and "CLIENT/CLASS/FILE" in text


def test_a_wrong_option_is_an_error_of_whole_sentences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, err = command(capsys, monkeypatch, "data", "--bord", "x")
    assert re.search(r"[.?] See --help\.", " ".join(err.split())) and ".. See" not in err  # typer's versions differ


def test_problems_with_one_cause_are_shown_once_with_their_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    good = "ax,ay,activity\n" + ROWS
    for number in range(12):
        words = good.replace("0.1,", f"word {'abcdefghijkl'[number]},").replace("0.2,", "other,").replace("0.3,", ",")
        (data / f"p{number:02d}.csv").write_text(words if number < 11 else good + "1,2,3,4\n")
    (data / "q.csv").write_text("".join(f"{number % 7},nothing,idle\n" for number in range(40)))
    result = tmf.check(data)
    assert [cause.count for cause in result.causes] == [22, 11, 1, 40] and result.problem_count == 74
    assert sum(cause.count for cause in result.causes) == result.problem_count
    assert dict(result.causes[0].files) == {f"p{number:02d}.csv": 2 for number in range(11)}
    code, out, _ = command(capsys, monkeypatch, data)
    assert code == 1 and out.count("problem: ") == 4 and "word b'" not in out
    assert "  22 like it in 11 files: p00.csv (2), p01.csv (2)," in out and "p07.csv (2) and 3 more; --json lists all" in out
    assert "is empty, not a finite number" in out and "\n  11 like it in 11 files: p00.csv, p01.csv," in out
    assert "\n  39 more like it in this file\n" in out and "74 problem(s)" in out
    _, out, _ = command(capsys, monkeypatch, data, "--json")
    found = json.loads(out)
    assert len(found["problems"]) == 33 + 1 + 6 and [cause["count"] for cause in found["causes"]] == [22, 11, 1, 40]


def test_warnings_are_said_when_a_run_begins_too(project: Path) -> None:
    for file in (project / "data").iterdir():
        file.write_text(file.read_text().replace("walk", "Idle"))
    said = "'Idle' and 'idle' differ only in case, blanks or encoding, and are 2 classes; write them alike if they are one"
    facts = tmf.check(project).facts
    assert facts is not None and said in facts.warnings
    assert said in set_up(tmf.load(project / "experiment.toml").spec, "test", None).task.notes


def test_a_sample_that_no_message_holds_comes_in_parts(project: Path) -> None:
    checked = tmf.check(project, ["task.window=2000", "model.input=[2000, 2]"])
    assert checked.needs is not None and checked.needs.sample == 4 * 2000 * 2 + 4 > 3 * 1024
    assert not any("in one message" in problem.text for problem in checked.problems)


@pytest.mark.parametrize("persons", [("anna", "bob", "cleo"), ("s01", "s02", "s03"), ("1", "2", "3")])
def test_a_column_that_says_whose_row_it_is_leads_to_the_key_for_it(tmp_path: Path, persons: tuple[str, ...]) -> None:
    rows = "".join(f"{person},{i / 7:.3f},{i % 5},{'xy'[i % 2]}\n" for person in persons for i in range(40))
    (tmp_path / "all.csv").write_text(f"subject_id,ax,ay,activity\n{rows}")
    asked = 'set task.client = "subject_id"'
    found = tmf.check(tmp_path)
    assert not found.ok and found.facts is not None
    assert any(asked in said for said in (*found.facts.warnings, *(each.remedy for each in found.problems)))
    helped = tmf.check(tmp_path, ["task.client=subject_id"])
    assert helped.ok and helped.facts is not None and not any("task.client" in said for said in helped.facts.warnings)
    assert [client.name for client in helped.facts.clients] == list(persons)


def test_features_that_were_chosen_are_no_clients(tmp_path: Path) -> None:
    for name in ("anna", "bob"):
        rows = "".join(f"{i % 7},{i / 7:.3f},{'xy'[i % 2]}\n" for i in range(40))
        (tmp_path / f"{name}.csv").write_text(f"users nearby,superuser,activity\n{rows}")
    facts = tmf.check(tmp_path, ['task.features=["users nearby","superuser"]']).facts
    assert facts is not None and not any("task.client" in said for said in facts.warnings)
    facts = tmf.check(tmp_path).facts
    assert facts is not None and not any("superuser" in said for said in facts.warnings)
