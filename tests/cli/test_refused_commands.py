"""What is refused before anything is written: options, experiments, models, data."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import SHORT, Command
from small_runs import DATA, OMNIGLOT, SINE, needs_data


def test_a_folder_in_use_is_refused_and_untouched(command: Command, run_copy: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run_copy.iterdir()}
    said = command("train", SINE, *SHORT, "--device", "native:1", "--out", run_copy)
    assert said.code == 1
    assert str(run_copy) in said.error and "not empty" in said.error and "--out" in said.error
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run_copy.iterdir()}


@pytest.mark.parametrize(
    ("override", "culprit", "remedy"),
    [
        ("run.rouns=3", "run.rouns", "did you mean 'rounds'?"),
        ("run.rounds=ten", "run.rounds", "integer"),
        ("run.rounds=-1", "run.rounds", "greater than or equal to 0"),
        ("run.rounds=99999999999", "run.rounds", "less than or equal"),
        ("strategy.top_p=0", "strategy.top_p", "greater than 0"),
        ("model.input=[0]", "model.input", "greater than or equal to 1"),
        ('model.layers=[{op="dense",units=99999999}]', "units", "less than or equal"),
        ('model.layers=[{op="dense",units=1,local=true}]', "every layer is local", "leave 'local' out"),
        ('model.layers=[{op="relu"}]', "nothing to train", "add a dense or conv2d layer"),
        ('model.layers=[{op="dense",units=2},{op="dense",units=2,local=true}]', "task 'sine'", "= 1"),
        ("model.input=[2]", "task 'sine'", "[1]"),
        ("model.loss=softmax_cross_entropy", "softmax_cross_entropy", "at least 2 outputs"),
        ("nonsense", "--set nonsense", "run.rounds=50"),
    ],
)
def test_a_bad_experiment_is_wrong_usage(refused: Callable[..., str], override: str, culprit: str, remedy: str) -> None:
    text = refused(2, SINE, "--set", override, "--device", "native:1")
    assert culprit in text and remedy in text


OWN_DATA = """
[task]
kind = "folder"
path = "data"
held_out = ["carol"]
label = "activity"
support = 2
query = 2
adapt = 2
[model]
input = [2]
loss = "softmax_cross_entropy"
layers = [ { op = "dense", units = 4 }, { op = "dense", units = 2, local = true } ]
"""
ROWS = ["t,ax,ay,activity", *(f"{i / 50},{i % 7}.5,{i * i % 5},{'run' if i % 8 < 4 else 'idle'}" for i in range(32))]
GOOD = "\n".join(ROWS)
EQUAL = ROWS[0] + "\n1,2,3,run\n1,2,3,idle" * 8


def changed(cell: str, to: str) -> str:
    """The rows with another cell in the place of all that are equal."""
    return re.sub(rf"(?m)(?<=,){re.escape(cell)}(?=,|$)", to, GOOD)


# The rows of bob and carol, who is held out; options; the error.
BAD_DATA: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "one class": (changed("run", "idle"), changed("run", "idle"), (), r"1 class \(idle\), but the model's last layer has 2"),
    "a class that nobody trains on": (
        GOOD, changed("run", "walk"), ("model.layers.1.units=3",), r"carol\.csv: class 'walk' is in held-out clients only",
    ),
    "a window longer than every run": (
        GOOD, GOOD, ("task.time=t", "task.window=8", "model.input=[16]"), r"the longest run of one label .* has 4 rows; lower",
    ),
    "beyond float32": (GOOD, changed("0.5", "1e39"), (), r"carol\.csv: row 2, column 2 \('ax'\) '1e39' is not a finite number"),
    "NaN": (GOOD, changed("0.5", "NaN"), (), r"carol\.csv: row 2, column 2 \('ax'\) 'NaN' .*set task\.missing"),
    "too large to compute with": (GOOD, changed("0.5", "3e38"), (), r"carol\.csv: 'ax' = 3e\+38 is too large .* normalised"),
    "infinite once it is normalised": (
        GOOD, changed("0.5", "3e38"), ("data.shift=[0,0]", "data.scale=[9,1]"), r"'ax' = 3e\+38 is NaN or infinite once",
    ),
    "nothing but constants": (EQUAL, EQUAL, (), r"data: all samples are equal, so they tell no classes"),
    "no rows": (ROWS[0], GOOD, (), r"bob\.csv: no rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD_DATA))
def test_bad_data_are_refused_before_anything_is_written(refused: Callable[..., str], tmp_path: Path, case: str) -> None:
    bob, carol, keys, said = BAD_DATA[case]
    (tmp_path / "data").mkdir()
    for name, rows in (("alice", GOOD if bob == ROWS[0] else bob), ("bob", bob), ("carol", carol)):
        (tmp_path / "data" / f"{name}.csv").write_text(rows)
    (tmp_path / "own.toml").write_text(OWN_DATA)
    options = [word for key in (*keys, *["task.ignore=[1]"] * ("task.time=t" not in keys)) for word in ("--set", key)]
    assert re.search(said, refused(1, "own.toml", *options, "--device", "native:1"))


def test_a_missing_experiment_file_is_wrong_usage(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "examples/sine.toml" in refused(2, tmp_path / "none.toml")


@pytest.mark.parametrize("arguments", [["train"], ["trian", "x.toml"], ["train", SINE, "--rounds", "5"]])
def test_a_mistyped_command_is_wrong_usage(command: Command, arguments: list[object]) -> None:
    said = command(*arguments)
    assert said.code == 2 and said.error


LARGE = (
    'model.layers=[{op="dense",units=300,activation="relu"},{op="dense",units=300,activation="relu"},'
    '{op="dense",units=1,local=true}]'
)


def test_a_model_too_large_for_the_board_is_refused_with_the_map(refused: Callable[..., str], command: Command) -> None:
    for text in (
        refused(2, SINE, "--set", LARGE, "--device", "qemu:1"),
        command("codegen", SINE, "--set", LARGE, "--board", "mps2", "-o", "out").error,
    ):
        assert "262,144" in text and "dense2.kernel [300, 300]" in text and "received weights" in text
        assert "or choose a larger board" in text
    assert not Path("out").exists()


def test_an_unknown_board_is_wrong_usage(command: Command) -> None:
    said = command("codegen", SINE, "--board", "mps3", "-o", "out")
    assert said.code == 2 and "mps2" in said.error


@pytest.mark.parametrize("url", ["native:0", "nativ:2", "qemu:1@native"])
def test_an_invalid_device_is_wrong_usage(refused: Callable[..., str], url: str) -> None:
    assert f"device '{url}'" in refused(2, SINE, "--device", url)


# Data


def test_omniglot_needs_its_data(
    refused: Callable[..., str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pooch", reason="pooch is not installed: nothing can be downloaded")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # no network
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    text = refused(1, OMNIGLOT)
    assert "small1.zip: cannot be downloaded" in text and f"put it into {cache / 'tinymetafed' / 'data'}" in text
    missing = tmp_path / "nowhere"
    text = refused(1, OMNIGLOT, "--data", missing)
    assert str(missing) in text and "brendenlake/omniglot" in text


@needs_data
def test_a_truncated_archive_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    cut = tmp_path / "omniglot_background_small1.zip"
    cut.write_bytes((DATA / cut.name).read_bytes()[:500_000])
    text = refused(1, OMNIGLOT, "--data", tmp_path)
    assert str(cut) in text and "damaged, or another version" in text


def test_another_data_set_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    other = tmp_path / "digits.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("recordings/0_jackson_0.wav", b"RIFF")
    text = refused(1, OMNIGLOT, "--data", other)
    assert str(other) in text and "another data set" in text


@pytest.mark.parametrize(("words", "meant"), [(("trian",), "train"), (("bench", "kernls"), "kernels")])
def test_a_command_that_was_meant_is_named_once(command: Command, words: tuple[str, ...], meant: str) -> None:
    said = command(*words)
    assert said.code == 2 and said.error.count(f"'{meant}'") == 1, said.error
