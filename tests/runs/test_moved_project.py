"""A project copied or cloned to another place with its runs: they can be continued, adapted and exported there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import Quiet

from tinymetafed.learn.tasks import HELD_OUT, DataError
from tinymetafed.runs import adapting, export, training, unchanged
from tinymetafed.runs.journal import RunResult
from tinymetafed.runs.run_errors import StoreError
from tinymetafed.runs.setup import set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen import spec
from tinymetafed_codegen.spec import anchored, portable, relative

EXPERIMENT = """
[task]
kind = "folder"
path = "../data"
support = 3
query = 3
adapt = 3
held_out = ["cleo"]
{source}
[model]
input = [2]
loss = "softmax_cross_entropy"
weights = "../given.npz"
layers = [
  {{ op = "dense", name = "below", units = 8, activation = "relu", frozen = true }},
  {{ op = "dense", name = "shared", units = 8, activation = "relu" }},
  {{ op = "dense", name = "own", units = 2, local = true }},
]
[strategy]
kind = "mine:Mine"
local_learning_rate = 0.05
local_passes = 1
global_learning_rate = 0.03
[adaptation]
local_passes = 60
local_learning_rate = 0.2
[run]
rounds = 6
[evaluation]
tasks = 2
"""
STRATEGY = """
from tinymetafed.learn.strategies import TinyMetaFed


class Mine(TinyMetaFed):
    pass
"""
SOURCE = """
#include "model.hpp"
#include "source.hpp"

namespace tmf::source {
bool on_device() { return true; }
void make(const Key& key, float* input, float* target) {
  for (uint32_t i = 0; i < model::kInputSize; ++i) input[i] = (key.index + i) % 2 == 0 ? 0.0f : 1.0f;
  target[0] = static_cast<float>(key.index % 2);
}
}  // namespace tmf::source
"""


class Interrupts(Quiet):
    """An observer that raises KeyboardInterrupt after three rounds."""

    def __init__(self) -> None:
        self.left = 3

    def advance(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def project(folder: Path, source: bool) -> Path:
    """The file of an experiment that refers to files in every possible way."""
    (folder / "data").mkdir(parents=True)
    (folder / "experiments").mkdir()
    for shift, name in enumerate(("ann", "ben", "cleo")):
        rows = [f"{i % 2 + shift / 10:.2f},{1 - i % 2 + i / 100:.2f},{'ab'[i % 2]}" for i in range(12)]
        (folder / "data" / f"{name}.csv").write_text("\n".join(rows))
    draws = np.random.default_rng(1)
    given = {"below.kernel": draws.normal(size=(2, 8)), "below.bias": np.zeros(8), "shared.kernel": draws.normal(size=(8, 8))}
    np.savez(folder / "given.npz", **given)
    (folder / "experiments" / "mine.py").write_text(STRATEGY)
    (folder / "source.cpp").write_text(SOURCE)
    file = folder / "experiments" / "experiment.toml"
    file.write_text(EXPERIMENT.format(source='source = "../source.cpp"' if source else ""))
    return file


def begin(file: Path, out: Path, on: str, observer: Quiet, data: Path | None = None) -> RunResult:
    setup = set_up(spec.load(file), str(file), data)
    if on == "simulation":
        return training.simulate(setup, 1, out, observer)
    return training.train(setup, [on], [on], out, observer)


def resume(run: Path, on: str) -> RunResult:
    return training.resume_simulated(run, 1, Quiet()) if on == "simulation" else training.resume(run, Quiet())


def move(old: Path, new: Path) -> Path:
    """Copies a project, as a clone would, and removes the original."""
    shutil.copytree(old, new)
    shutil.rmtree(old)
    return new


@pytest.mark.parametrize(("on", "source"), [("simulation", False), ("simulation", True), ("native:1", True)])
def test_a_run_goes_on_where_its_project_has_been_copied_to(tmp_path: Path, on: str, source: bool) -> None:
    first, second, third = tmp_path / "first", tmp_path / "second" / "deeper", tmp_path / "third"
    file = project(first, source)
    undisturbed = begin(file, tmp_path / "whole", on, Quiet())
    with pytest.raises(KeyboardInterrupt):
        begin(file, first / "runs" / "one", on, Interrupts())
    assert 0 < read_run(first / "runs" / "one").trained < 6
    second.parent.mkdir()
    run = move(first, second) / "runs" / "one"
    assert str(tmp_path) not in (run / "experiment.toml").read_text()
    assert resume(run, on).weights_sha256 == undisturbed.weights_sha256
    run = move(second, third) / "runs" / "one"
    ended = read_run(run)
    begun = spec.load(third / "experiments" / "experiment.toml")
    assert ended.experiment() == spec.load(run / "experiment.toml") and ended.experiment().as_asked(begun) == begun
    setup = set_up(ended.experiment(), str(run / "experiment.toml"), ended.data)
    unchanged.same_model(setup, ended)
    if on == "native:1":
        assert adapting.adapt(setup, [on], ended.weights, [HELD_OUT], Quiet()).clients[0].task.startswith("cleo")
    export.write(ended, run / "weights.h")
    again = begin(run / "experiment.toml", third / "runs" / "two", on, Quiet())
    assert again.weights_sha256 == undisturbed.weights_sha256


def test_a_run_folder_that_moves_alone_finds_its_files_where_they_were(tmp_path: Path) -> None:
    file = project(tmp_path / "project", source=True)
    undisturbed = begin(file, tmp_path / "whole", "simulation", Quiet())
    with pytest.raises(KeyboardInterrupt):
        begin(file, tmp_path / "project" / "runs" / "one", "simulation", Interrupts())
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    run = move(tmp_path / "project" / "runs" / "one", tmp_path / "a" / "b" / "c" / "one")
    assert resume(run, "simulation").weights_sha256 == undisturbed.weights_sha256


def test_data_beside_the_experiment_are_found_after_a_move(tmp_path: Path) -> None:
    file = project(tmp_path / "first", source=False)
    shutil.move(tmp_path / "first" / "data", tmp_path / "first" / "elsewhere")
    run = tmp_path / "first" / "runs" / "one"
    with pytest.raises(KeyboardInterrupt):
        begin(file, run, "simulation", Interrupts(), data=tmp_path / "first" / "elsewhere")
    run = move(tmp_path / "first", tmp_path / "second") / "runs" / "one"
    assert read_run(run).data == tmp_path / "second" / "elsewhere"
    assert resume(run, "simulation").rounds == 6


def test_missing_files_are_named_with_their_expected_path(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        begin(project(tmp_path / "first", False), tmp_path / "first" / "runs" / "one", "simulation", Interrupts())
    run = move(tmp_path / "first", tmp_path / "second") / "runs" / "one"
    shutil.rmtree(tmp_path / "second" / "data")
    with pytest.raises(DataError, match=f"{tmp_path / 'second' / 'data'}: no such folder"):
        resume(run, "simulation")
    (run / "experiment.toml").write_text((run / "experiment.toml").read_text().replace("rounds = 6", "rounds = 7"))
    with pytest.raises(StoreError, match="not the experiment that this run was begun with"):
        resume(run, "simulation")


# The rule for relative paths


def test_a_path_is_relative_where_a_folder_holds_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = tmp_path / "home"
    assert relative(home / "p" / "data", home / "p" / "runs" / "one") == "../../data"
    assert relative(home / "p" / "runs" / "one", home / "p" / "runs" / "one") == "."
    assert relative(home / "data", home / "p") == str(home / "data")  # only the home folder contains both
    assert relative(tmp_path / "data", home / "p") == str(tmp_path / "data")
    assert relative(Path("/opt/data"), home / "p") == "/opt/data"
    assert relative(tmp_path / "q" / "data", tmp_path / "q" / "run") == "../data"


def test_a_written_path_reads_back_as_the_same_path(tmp_path: Path) -> None:
    for source in (False, True):
        loaded = spec.dump(spec.load(project(tmp_path / str(source), source)))
        for run in (tmp_path / str(source) / "run", tmp_path / str(source) / "a" / "b"):
            written = portable(loaded, run)
            assert str(tmp_path) not in str(written) and anchored(written, run) == loaded


def test_texts_that_are_no_paths_stay_unchanged(tmp_path: Path) -> None:
    for kind in ("tinymetafed", "package.module:Class", "nonsense"):
        raw: dict[str, Any] = {"strategy": {"kind": kind}, "task": {"kind": "sine", "path": "x"}, "model": {"weights": 3}}
        assert anchored(raw, tmp_path) == raw == portable(raw, tmp_path)
    assert anchored({"task": 7, "model": []}, tmp_path) == {"task": 7, "model": []}
    (tmp_path / "module.py").touch()
    assert anchored({"strategy": {"kind": "module:C"}}, tmp_path)["strategy"]["kind"] == f"{tmp_path / 'module.py'}:C"
