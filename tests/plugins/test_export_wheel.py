"""From raw recordings to a sketch with an installed wheel: check, train, adapt, export, compile, and the host's numbers."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import exported
import numpy as np
from installed_wheel import WheelVenv

from tinymetafed_codegen.locate import root

CLASSES = ("idle", "run", "walk")
CHANNELS = "ax,gy,pressure"
WINDOW, ROWS, PAUSE = 10, 64, 25  # rows of a window, of each class, and of a class before a pause of the recording
DENSE = "{op='dense',units=11,activation='relu'},{op='dense',units=3,local=true}"
CONV1D = "{op='conv1d',filters=5,kernel=3,stride=2,activation='relu'},{op='flatten'},{op='dense',units=3,local=true}"
EXPERIMENT = """
[task]
kind = "folder"
path = "recordings"
label = "activity"
time = "timestamp"
window = 10
held_out = ["person4"]
support = 6
query = 6
adapt = 6
{client}
[model]
input = {input}
loss = "softmax_cross_entropy"
layers = [{layers}]
[run]
rounds = 60
devices_per_round = 2
[evaluation]
tasks = 1
[adaptation]
local_passes = 0
full_passes = 3
full_learning_rate = 0.05
"""
PROGRAM = """
#include <stdio.h>
#include "{name}.h"
static {name} model;
static const float kWindows[][{name}::kFeatures] = {{ {windows} }};
int main() {{
  if (model.begin() != {name}::Status::kOk) return 1;
  printf("begins with %08lx, predicts", static_cast<unsigned long>(model.checksum()));
  for (const float* window : kWindows) {{
    float scores[{name}::kScores];
    if (model.predict(window, scores) != {name}::Status::kOk) return 2;
    printf(" %s", {name}::class_name({name}::best(scores)));
  }}
  for (int pass = 0; pass < 3; ++pass)
    if (model.learn(kWindows[0], 0) != {name}::Status::kOk) return 3;
  printf(", learns to %08lx", static_cast<unsigned long>(model.checksum()));
}}
"""


@dataclass(frozen=True)
class Row:
    """A row of a recording, as it is written."""

    time: int
    values: tuple[str, ...]
    activity: int


def recordings() -> dict[str, list[Row]]:
    """Five people, each idle, running and walking, at 50 Hz and with sensors in units of very different size."""
    random = np.random.default_rng(4)
    people = {}
    for person in range(5):
        rows, time = [], 1_700_000_000_000 + person * 10_000_000
        for activity, (hertz, strength) in enumerate(((0.3, 0.1), (2.5, 2.0), (1.2, 1.0))):
            for i in range(ROWS):
                time += 900 if i == PAUSE else 20
                angle = 2 * np.pi * hertz * i * 0.02
                moved = (9.81 + strength * np.sin(angle), 300 * strength * np.cos(angle), 101325 + 50 * activity)
                values = np.array(moved) + random.normal(0, (0.1, 30, 20))
                rows.append(Row(time, tuple(f"{value:.2f}" for value in values), activity))
        people[f"person{person}"] = rows
    return people


def windows(rows: list[Row]) -> list[tuple[list[Row], int]]:
    """The windows of a recording and their classes: none crosses a pause or has rows of two classes."""
    found = []
    for start in range(0, len(rows), ROWS):
        for first, after in ((start, start + PAUSE), (start + PAUSE, start + ROWS)):
            found += [(rows[i : i + WINDOW], rows[i].activity) for i in range(first, after - WINDOW + 1, WINDOW)]
    return found


def write_project(folder: Path, model: str) -> None:
    """The recordings as a file of each person, or as one file with a column of people; a file of one window; the experiment."""
    assert not folder.resolve().is_relative_to(root())
    (folder / "recordings").mkdir()
    one_file = model == "dense"
    mark = ";" if one_file else ","
    header = mark.join([*CHANNELS.split(","), "timestamp", *["person"] * one_file, "activity"]) + "\n"

    def text(person: str, rows: list[Row]) -> str:
        lines = ([*row.values, str(row.time), *[person] * one_file, CLASSES[row.activity]] for row in rows)
        return "".join(mark.join(line) + "\n" for line in lines)

    people = recordings()
    if one_file:
        content = header + "".join(text(person, rows) for person, rows in people.items())
        (folder / "recordings" / "everybody.csv").write_text(content)
    else:
        for person, rows in people.items():
            (folder / "recordings" / f"{person}.csv").write_text(header + text(person, rows))
    (folder / "mine.csv").write_text(header + text("me", people["person4"][:WINDOW]))
    chosen = ("client = 'person'", [30], DENSE) if one_file else ("", [10, 3], CONV1D)
    asked = dict(zip(("client", "input", "layers"), chosen, strict=True))
    (folder / "steps.toml").write_text(EXPERIMENT.format(**asked))


def said_by(library: Path, rows: list[list[Row]]) -> str:
    """What a program prints that predicts windows with a library, and then learns the first one."""
    numbers = (", ".join(f"{float(value)!r}f" for row in window for value in row.values) for window in rows)
    program = library / "windows.cpp"
    name = f"{library.name}Model"
    program.write_text(PROGRAM.format(name=name, windows=", ".join(f"{{{each}}}" for each in numbers)))
    printed = exported.printed(exported.build(library, program, options=("-std=c++11", "-O0")))
    for file in library.glob("windows.*"):
        file.unlink()  # a folder with files that an export has not written is not replaced
    return printed


def check_sketch(library: Path) -> None:
    """Compiles a library for every processor; its test and its sketch must print what the host has computed."""
    source = library / "src" / f"{library.name}Model.cpp"
    for compiler, command in exported.compilers().items():
        strict = [*command, "-std=c++11", *exported.STRICT, "-fsyntax-only", source]
        done = subprocess.run(strict, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{compiler}: {done.stderr}"
    test = exported.printed(exported.build(library, library / "test" / "self_test.cpp", options=("-std=c++11", "-O0")))
    assert test == (library / "test" / "expected.txt").read_text()
    sketch = f"{library.name}ModelSelfTest"
    printed = exported.printed(exported.build_sketch(library, library / "examples" / sketch / f"{sketch}.ino"))
    assert printed.endswith("same as on the host\n")


def test_recordings_of_many_people_in_one_file_become_a_sketch_that_predicts_as_the_host(
    wheel_venv: WheelVenv, tmp_path: Path
) -> None:
    write_project(tmp_path, "dense")
    checked = json.loads(wheel_venv.tinymetafed(tmp_path, "check", "steps.toml", "--json"))
    assert checked["problems"] == [] and checked["facts"]["gap_count"] == 15
    wheel_venv.tinymetafed(tmp_path, "train", "steps.toml", "--device", "native:2", "--out", "run")
    wheel_venv.tinymetafed(tmp_path, "adapt", "run", "--client", "person4", "--save", "adapted")
    made = tmp_path / "libraries" / "Steps"
    wheel_venv.tinymetafed(tmp_path, "export", "run", "--client", "person4", "--format", "arduino", "-o", made)
    check_sketch(made)
    # The library's predictions for the rows of the file are those that `evaluate` counts, which leaves out the adapted ones.
    own = windows(recordings()["person4"])
    assert len(own) == 15
    scored = json.loads(wheel_venv.tinymetafed(tmp_path, "evaluate", "run", "--weights", "adapted", "--json"))["classes"]
    predicted = said_by(made, [rows for rows, _ in own]).split(", ")[1].removeprefix("predicts ").split()
    counts = np.zeros((3, 4), int)  # the last column counts scores of which none is the largest
    for (_, activity), name in zip(own, predicted, strict=True):
        counts[activity, CLASSES.index(name)] += 1
    adapted = counts - scored["confusion"]
    assert adapted.sum() == 6 and (adapted >= 0).all() and np.trace(counts) > 10


def test_recordings_in_a_file_of_each_person_become_a_sketch_that_learns_the_bits_of_the_host(
    wheel_venv: WheelVenv, tmp_path: Path
) -> None:
    write_project(tmp_path, "conv1d")
    wheel_venv.tinymetafed(tmp_path, "check", "steps.toml")
    wheel_venv.tinymetafed(tmp_path, "simulate", "steps.toml", "--out", "run")
    made = tmp_path / "libraries" / "Steps"
    wheel_venv.tinymetafed(tmp_path, "export", "run", "--format", "arduino", "-o", made)
    check_sketch(made)
    # Three steps on a window lead to the weights that the host has after adaptation to a file with this window.
    mine = tmp_path / "libraries" / "Mine"
    wheel_venv.tinymetafed(tmp_path, "export", "run", "--adapt", "mine.csv", "--format", "cpp", "-o", mine)
    first = [windows(recordings()["person4"])[0][0]]
    begun, _, learned = said_by(made, first).split(", ")
    adapted = said_by(mine, first).split(", ")[0]
    assert adapted == learned.replace("learns to", "begins with") != begun
