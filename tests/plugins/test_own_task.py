"""The user's task of docs/own-task.md: from a wheel, outside the checkout; and the errors for faulty tasks."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from installed_wheel import WheelVenv
from small_runs import Quiet

import tinymetafed as tmf
from tinymetafed.learn.tasks.task_registry import open_task
from tinymetafed.runs import training
from tinymetafed.runs.run_errors import StoreError
from tinymetafed.runs.setup import set_up
from tinymetafed_codegen.locate import find, root
from tinymetafed_codegen.spec import SpecError, dump, load, parse

PAGE = find("docs/own-task.md").read_text(encoding="utf-8")
FILES = ("thermometers.py", "make_readings.py", "thermometers.toml", "sweep.toml")


def shown(file: str) -> str:
    """The first block after the paragraph that begins with the file's name."""
    (found,) = re.findall(rf"(?ms)^`{re.escape(file)}`.*?^```\w+\n(.*?)^```$", PAGE)
    return str(found)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the page's files, outside the checkout."""
    assert not tmp_path.resolve().is_relative_to(root())
    for name in FILES:
        (tmp_path / name).write_text(shown(name), encoding="utf-8")
    return tmp_path


@pytest.fixture
def with_data(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, with the data that the page's script makes."""
    monkeypatch.chdir(project)
    exec(shown("make_readings.py"), {})
    return project


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


# The page


def test_every_command_of_the_page_runs_from_a_wheel_and_all_runs_end_in_the_same_weights(
    project: Path, wheel_venv: WheelVenv
) -> None:
    (block,) = re.findall(r"(?ms)^```console\n(.*?)^```$", PAGE)
    said = {}
    for command in block.splitlines():
        done = wheel_venv.run(project, *shlex.split(command))
        assert done.returncode == 0, done.stderr
        said[command] = done.stdout
    begun = {key: text for key, text in said.items() if " --out " in key}
    weights = {digest for text in begun.values() for digest in re.findall(r"sha256 ([0-9a-f]{16})", text)}
    assert len(begun) == 3 and len(weights) == 1
    adapted = next(text for command, text in said.items() if " adapt " in command)
    assert all(name in adapted for name in ("t32", "t33", "t34"))  # the names from describe()
    assert "Thermometers" in (project / "report.html").read_text(encoding="utf-8")
    assert "support=8" in (project / "swept" / "table.md").read_text(encoding="utf-8")


def test_a_project_that_has_moved_reports_and_adapts_its_runs(with_data: Path, wheel_venv: WheelVenv) -> None:
    begun = ("tinymetafed", "simulate", "thermometers.toml", "--out", "runs/one", "--set", "run.rounds=3")
    assert wheel_venv.run(with_data, *begun).returncode == 0
    assert str(with_data) not in (with_data / "runs" / "one" / "experiment.toml").read_text(encoding="utf-8")
    moved = with_data.rename(with_data.with_name("moved"))
    done = wheel_venv.run(moved, "tinymetafed", "report", "runs/one")
    assert done.returncode == 0, done.stderr


def test_it_learns_what_the_page_promises(with_data: Path) -> None:
    run = tmf.simulate(tmf.load("thermometers.toml"), out="run", progress=False)
    test = run.result.meta_test
    assert test.before is not None and test.after is not None and test.after < test.before / 10


# The experiment's section


def test_a_loaded_experiment_has_the_classs_facts_and_survives_being_written(with_data: Path) -> None:
    experiment = load(with_data / "thermometers.toml")
    task = experiment.task
    assert (task.title, task.shapes, task.classes, task.bytes_per_input) == ("Thermometers", ((1,), 1, "mse"), 1, 4)
    assert dump(experiment)["task"]["options"] == {"held_out": 8, "degrees": 20.0}
    assert parse(dump(experiment), "again") == experiment
    opened = open_task(experiment, None)
    assert (opened.clients, opened.unseen_clients, opened.describe(tmf.HELD_OUT + 9)) == (32, 8, "t33")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("held_out = 8", "heldout = 8", r"options: unknown key 'heldout'; did you mean 'held_out'\?"),
        ("held_out = 8", "held_out = 'x'", r"options: 'held_out' = 'x': input should be a valid integer"),
        ("support = 8", "suport = 8", r"unknown key 'task\.suport'; did you mean 'support'\?"),
        ("rounds = 150", "rounds = 150\nclients = 5", r"run\.clients = 5, but task .* counts its clients"),
        ("input = [1]", "input = [2]", r"thermometers\.py:Thermometers' needs model\.input = \[1\], the model has \[2\]"),
        ('loss = "mse"', 'loss = "softmax_cross_entropy"', r"needs model\.loss = mse or mae or huber"),
        ('"thermometers.py:Thermometers"', '"thermo"', r"unknown value 'thermo'; expected one of: sine, .*FILE\.py:CLASS"),
        ("options = { held_out = 8 }", "options = 8", r"options is 8, expected a table of the keys held_out, degrees"),
    ],
)  # fmt: skip
def test_mistakes_in_the_section_are_named(with_data: Path, old: str, new: str, text: str) -> None:
    if "units = 1," in (with_data / "thermometers.toml").read_text() and "softmax" in new:
        replace(with_data / "thermometers.toml", "units = 1,", "units = 2,")
        text = r"needs outputs of the last layer = 1"
    replace(with_data / "thermometers.toml", old, new)
    with pytest.raises(SpecError, match=text):
        set_up(load(with_data / "thermometers.toml"), "thermometers.toml", None)


# Classes that cannot be used


def broken(old: str, new: str) -> Callable[[Path], None]:
    return lambda project: replace(project / "thermometers.py", old, new)


FACTS = 'title="Thermometers", input_shape=(1,), output_size=1, loss="mse", counts_clients=True'


@pytest.mark.parametrize(
    ("damage", "at", "why"),
    [
        (lambda project: (project / "thermometers.py").unlink(), "", "cannot be read"),
        (lambda project: replace(project / "thermometers.toml", ":Thermometers", ":Sensors"), "", "has no class Sensors"),
        (broken("Thermometers(tmf.Task)", "Thermometers"), ":18", "Thermometers is not derived from tinymetafed.Task"),
        (broken("import csv", "import cvs"), ":3", "No module named 'cvs'"),
        (broken("import csv", "raise SystemExit(1)"), ":3", "SystemExit"),
        (broken("def samples(self,", "def samples(self, self,"), r":\d+", "SyntaxError"),
        (broken("def facts(", "def fact("), ":18", "Thermometers lacks facts()"),
        (broken("options_class = ThermometerOptions", "options_class = dict"), ":18", "options_class is <class 'dict'>"),
        (broken("return tmf.TaskFacts(", "return dict("), ":18", "facts() gives dict, expected tinymetafed.TaskFacts"),
        (broken("return tmf.TaskFacts(", "return options.no or tmf.TaskFacts("), ":27", "no attribute 'no'"),
        (broken("input_shape=(1,)", "input_shape=(0,)"), ":27", "'input_shape[0]' = 0: input should be greater than"),
        (broken("output_size=1", "outputs=1"), ":27", "unknown key 'outputs'; did you mean 'output_size'?"),
        (broken('loss="mse"', 'loss="hinge"'), ":27", "'loss' = 'hinge'"),
        (broken('loss="mse"', 'loss="softmax_cross_entropy"'), ":18", "output_size = 1 with loss = 'softmax_cross_entropy'"),
        (broken("counts_clients=True", "per_class=True"), ":18", "per_class = True with loss = 'mse', which has no classes"),
    ],
)  # fmt: skip
def test_an_unusable_class_is_refused_when_the_experiment_is_read(
    with_data: Path, damage: Callable[[Path], None], at: str, why: str
) -> None:
    damage(with_data)
    with pytest.raises(SpecError) as caught:
        load(with_data / "thermometers.toml")
    text = str(caught.value)
    assert text.startswith(f"{with_data}/thermometers.toml: task: kind = '{with_data}/thermometers.py:"), text
    assert re.search(rf"{re.escape(str(with_data))}/thermometers\.py{at}: ", text) and why in text, text


def test_a_class_without_samples_is_refused(with_data: Path) -> None:
    replace(with_data / "thermometers.py", "def samples(", "def sample(")
    with pytest.raises(SpecError, match=r"thermometers\.py:18: Thermometers lacks samples\(\)"):
        load(with_data / "thermometers.toml")


DRAWN = "return tmf.Samples(inputs=rows[:, :1], targets=rows[:, 1:])"


@pytest.mark.parametrize(
    ("old", "new", "at", "why"),
    [
        (DRAWN, "return rows", 18, r"test_samples\(client=1048576, round=0\) gives ndarray, expected tinymetafed\.Samples"
         r"|sample_set=ADAPT, count=8\) gives ndarray, expected tinymetafed\.Samples"),
        (".astype(np.float32) / np.float32(", " / (", 18,
         r"count=8\): inputs are float64 \[8, 1\], expected float32 \[8, 1\]; end with \.astype\(numpy\.float32\)"),
        ("inputs=rows[:, :1]", "inputs=rows", 18, r"inputs are float32 \[8, 2\], expected float32 \[8, 1\]"),
        ("targets=rows[:, 1:]", "targets=rows[:, 1]", 18, r"targets are float32 \[8\], expected float32 \[8, 1\]"),
        ("start : start + count", "start : start + count - 1", 18, r"inputs are float32 \[7, 1\], expected float32 \[8, 1\]"),
        ("targets=rows[:, 1:]", "targets=rows[:, 1:] * np.float32('nan')", 18, r"targets\[0, 0\] is nan, expected a finite"),
        ("targets=rows[:, 1:])", "targets=rows[:, 1:], levels=rows)", 18, r"has levels, expected none; say bytes_per_input"),
        ("self.spec.support if", "0 if", 18, r"SUPPORT samples of client 0 and its QUERY samples share 8 sample\(s\)"),
        ("self.spec.support if", "5 if", 18, r"SUPPORT samples of client 0 and its QUERY samples share 3 sample\(s\)"),
        ("ADAPT, self.spec.adapt, len", "ADAPT, 7, len", 18, r"ADAPT samples and test samples share 1 sample\(s\)"),
        ("client if client < tmf.HELD_OUT else self.clients + (client - tmf.HELD_OUT) % self.unseen_clients",
         "client % self.clients", 18, r"of client 0 and .* samples of held-out client 1048576 share \d+ sample"),
        ("self.order(client, round, order, len(rows))", "np.random.permutation(len(rows))", 18,
         r"share \d+ sample|gives other samples when it is called again"),
        ("return self.names[self.place(client)]", "return 7", 18, r"describe\(client=0\) gives 7, expected a line of text"),
        ("self.clients = len(rows)", "self.clients = 3.5 + len(rows)", 18, r"clients is 35\.5, expected a whole number"),
        ("self.clients = len(rows)", "self.client = len(rows)", 18, r"clients is 0, expected a whole number from 1 to"),
        ("self.clients = len(rows) - self", "self.clients = 8 - self", 18, r"clients is 0, expected a whole number from 1 to"),
        ("self.unseen_clients = self.options.held_out", "self.unseen_clients = 0", 18, r"unseen_clients is 0, expected a"),
        ("self.clients = len(rows)", "self.adapt_limit = 7; self.clients = len(rows)", 18, r"adapt_limit is 7, .* from 8"),
        ('float(row["truth"])', 'float(row["true"])', 36, r"KeyError: 'true' \(in Thermometers\.read\(\)\)"),
        ("rows[self.order(", "rows[self.ordered(", 64, r"AttributeError: .*ordered.* \(in Thermometers\.samples\(client"),
        ("% self.unseen_clients", "% 99", 63, r"IndexError: .*samples\(client=1048584, "),
        ("len(self.rows[self.place(client)])", "0", 18, r"test_samples\(client=1048584, round=0\) gives no samples"),
        ("self.clients = len(rows)", "self.adapt_limit = 16; self.clients = len(rows)", 18, r"ADAPT .* test samples share 8"),
        ("def describe(self", "def data_files(self, data):\n        return 1 // 0\n\n    def describe(self", 54,
         r"ZeroDivisionError: .* \(in Thermometers\.data_files\(\)\)"),
    ],
)  # fmt: skip
def test_an_invalid_return_value_is_named_with_file_and_line_before_training(
    with_data: Path, old: str, new: str, at: int, why: str
) -> None:
    replace(with_data / "thermometers.py", old, new)
    with pytest.raises(tmf.TaskError) as caught:
        open_task(load(with_data / "thermometers.toml"), None)
    text = str(caught.value)
    assert text.startswith(f"{with_data}/thermometers.py:{at}: ") and re.search(why, text), text


def test_data_errors_of_the_class_are_not_changed(with_data: Path) -> None:
    text = (with_data / "thermometers.toml").read_text(encoding="utf-8")
    (with_data / "without_path.toml").write_text(text.replace('path = "readings.csv"', ""), encoding="utf-8")
    with pytest.raises(tmf.DataError, match=r"^task\.path is missing, the CSV file with the readings$"):
        open_task(load(with_data / "without_path.toml"), None)
    (with_data / "readings.csv").unlink()
    with pytest.raises(tmf.DataError, match=r"readings\.csv: no such file or folder; task\.path or --data says where"):
        open_task(load(with_data / "thermometers.toml"), None)


CLASSES = '''
"""Whether a number is above the client's own threshold, as bytes."""

import numpy as np

import tinymetafed as tmf


class Threshold(tmf.Task):
    @classmethod
    def facts(cls, options):
        return tmf.TaskFacts(
            title="Thresholds", input_shape=(2,), output_size=2, loss="softmax_cross_entropy", per_class=True, bytes_per_input=1
        )

    def samples(self, client, round, sample_set, count):
        above = np.arange(count) % 2
        middle = 64 + 128 * self.uniform(client, 0, tmf.Stream.CLIENT_TASK, 1)
        drawn = self.uniform(client, round, sample_set, 2 * count).reshape(count, 2)
        level = np.where(above, middle + (255 - middle) * drawn[:, 0], middle * drawn[:, 0])
        levels = np.stack([level, 255 * drawn[:, 1]], axis=1).astype(np.uint8)
        return tmf.Samples.from_levels(levels, 1 / 255, above.astype(np.float32)[:, None])

    def test_samples(self, client, round):
        return self.samples(client, round, tmf.SampleSet.TEST, 40)
'''
CLASSES_TOML = """
[task]
kind = "threshold:Threshold"
support = 3
query = 3
adapt = 3
[model]
input = [2]
loss = "softmax_cross_entropy"
layers = [{ op = "dense", units = 8, activation = "relu" }, { op = "dense", units = 2, local = true }]
[run]
rounds = 6
clients = 9
[evaluation]
tasks = 3
"""


@pytest.fixture
def threshold(tmp_path: Path) -> Path:
    """A task of two classes in bytes, drawn without data."""
    (tmp_path / "threshold.py").write_text(CLASSES.lstrip())
    (tmp_path / "threshold.toml").write_text(CLASSES_TOML)
    return tmp_path


def test_bytes_and_samples_per_class_train_alike_in_a_simulation_and_on_devices(threshold: Path, wheel_venv: WheelVenv) -> None:
    weights = set()
    for command in ("simulate threshold.toml --out a --json", "train threshold.toml -d native:2 --out b --json"):
        done = wheel_venv.run(threshold, "tinymetafed", *command.split())
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        weights.add(result["weights_sha256"])
        assert result["d_curve"]["samples"] == "labelled samples per class" and max(result["d_curve"]["d"]) == 3
    assert len(weights) == 1


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("np.arange(count) % 2", "np.arange(count) % 3", r"targets\[2, 0\] is 2, expected a class from 0 to 1"),
        ("np.arange(count) % 2", "np.arange(count) % 2 * 0.5", r"targets\[1, 0\] is 0\.5, expected a class from 0 to 1"),
        ("np.arange(count) % 2", "np.arange(count) // 4", r"gives \[4, 2\] samples by class, expected 3 of each"),
        ("1 / 255, above", "1 / (255 + client), above", r"scale is .*, expected .* as in other samples; all share one"),
        ("1 / 255, above", "float('nan'), above", r"scale is nan, expected a float above 0"),
        ("tmf.Samples.from_levels(levels, 1 / 255, above", "tmf.Samples(levels.astype(np.float32), above",
         r"levels are NoneType, expected uint8 \[6, 2\]"),
        ("tmf.Samples.from_levels(levels, 1 / 255, above.astype(np.float32)[:, None])",
         "tmf.Samples(levels.astype(np.float32), above.astype(np.float32)[:, None], levels, 0.5)",
         r"inputs are not levels times scale; make them with Samples\.from_levels\(\)"),
    ],
)  # fmt: skip
def test_classes_and_bytes_are_checked(threshold: Path, old: str, new: str, why: str) -> None:
    replace(threshold / "threshold.py", old, new)
    with pytest.raises(tmf.TaskError, match=rf"threshold\.py:8: Threshold: .*{why}"):
        open_task(load(threshold / "threshold.toml"), None)


def test_equal_samples_are_accepted_if_the_class_sets_may_repeat(threshold: Path) -> None:
    replace(threshold / "threshold.py", "255 * drawn[:, 1]", "0 * drawn[:, 1]")
    replace(threshold / "threshold.py", "self.uniform(client, round, sample_set, 2 * count)", "np.ones(2 * count, np.float32)")
    with pytest.raises(tmf.TaskError, match=r"share \d+ sample\(s\).*say may_repeat = True in facts"):
        open_task(load(threshold / "threshold.toml"), None)
    replace(threshold / "threshold.py", "per_class=True", "may_repeat=True, per_class=True")
    assert open_task(load(threshold / "threshold.toml"), None).clients == 9


# A run


@pytest.mark.parametrize("command", ["simulate", "train -d native:2"])
def test_an_exception_of_the_class_during_a_run_is_reported_with_its_line(
    threshold: Path, wheel_venv: WheelVenv, command: str
) -> None:
    replace(
        threshold / "threshold.py",
        "        above = np.arange(count)",
        "        1 // (round - 4)\n        above = np.arange(count)",
    )
    done = wheel_venv.run(threshold, "tinymetafed", *command.split(), "threshold.toml", "--out", "run", "--json")
    assert done.returncode == 1 and done.stdout == "", done.stdout
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert error.startswith(f"Error: {threshold}/threshold.py:16: ZeroDivisionError: ") and "Traceback" not in done.stderr
    assert "(in Threshold.samples(client=" in error and "round=4" in error
    again = wheel_venv.run(threshold, "tinymetafed", "report", "run")  # finished rounds are kept
    assert again.returncode == 0, again.stderr


def test_a_run_is_not_continued_with_another_file_or_other_data(with_data: Path) -> None:
    class Impatient(Quiet):
        def advance(self) -> None:
            raise KeyboardInterrupt

    file, readings = with_data / "thermometers.py", with_data / "readings.csv"
    experiment = load(with_data / "thermometers.toml", ["run.rounds=4", "evaluation.tasks=1"])
    with pytest.raises(KeyboardInterrupt):
        training.simulate(set_up(experiment, "own", None), 1, with_data / "run", Impatient())
    for path, word in (
        (file, r"the file of task\.kind = '.*thermometers\.py:Thermometers' has changed"),
        (readings, "data have"),
    ):
        before = path.read_text()
        path.write_text(before.replace('"""Thermometers that err', '"""All thermometers err').replace("t00,", "t0,"))
        assert path.read_text() != before
        with pytest.raises(StoreError, match=word):
            training.resume_simulated(with_data / "run", 1, Quiet())
        path.write_text(before)
    assert training.resume_simulated(with_data / "run", 1, Quiet()).rounds == 4


def test_a_sweep_repeats_the_runs_that_depend_on_a_changed_file(with_data: Path, wheel_venv: WheelVenv) -> None:
    replace(with_data / "thermometers.toml", "rounds = 150", "rounds = 3")
    replace(with_data / "sweep.toml", "seeds = [1, 2]", "seeds = [1]")
    swept = ("tinymetafed", "sweep", "sweep.toml", "-o", "swept")
    assert wheel_venv.run(with_data, *swept).returncode == 0
    unchanged = wheel_venv.run(with_data, *swept)
    assert unchanged.returncode == 0 and "changed since" not in unchanged.stderr
    replace(with_data / "thermometers.py", "degrees: float = 20.0", "degrees: float = 20.00")
    changed = wheel_venv.run(with_data, *swept)
    said = " ".join(changed.stderr.split())
    assert changed.returncode == 0 and said.count("the file of task.kind (") == 2, said
