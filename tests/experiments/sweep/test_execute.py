"""A sweep's runs equal those of `simulate`, a killed sweep can be continued, and it never takes runs of another sweep."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clocks import wait_until
from small_runs import SINE, Quiet, halting

import tinymetafed as tmf
from tinymetafed.experiments import SweepFailed, sweep
from tinymetafed.experiments.sweep import sweep_file
from tinymetafed.experiments.sweep.execute import together
from tinymetafed.runs import training
from tinymetafed.runs.run_data import StoreError
from tinymetafed.runs.setup import set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen.files import LockedError, locked

SWEEP = f"""
experiment = "{SINE}"
seeds = [1, 2]

[[variant]]
name = "short"
set = {{ run.rounds = 5, evaluation.every = 0, evaluation.tasks = 4 }}

[[variant]]
name = "long"
set = {{ run.rounds = 120, run.devices_per_round = 3, evaluation.every = 0, evaluation.tasks = 4, strategy.average_last = 0.5 }}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tried.toml"
    path.write_text(SWEEP)
    return path


@pytest.mark.parametrize(
    ("seeds", "per_round", "jobs", "sizes"),
    [
        (8, 1, 1, [8]),
        (8, 1, 2, [1] * 8),  # two calls with four of eight lanes would take as long as eight runs alone
        (16, 1, 2, [8, 8]),
        (14, 1, 2, [7, 7]),
        (11, 1, 1, [8, 1, 1, 1]),
        (3, 3, 1, [2, 1]),
        (4, 8, 1, [1] * 4),
    ],
)
def test_runs_share_lanes_that_they_fill(tmp_path: Path, seeds: int, per_round: int, jobs: int, sizes: list[int]) -> None:
    path = tmp_path / "many.toml"
    variant = f'[[variant]]\nname = "a"\nset = {{ run.devices_per_round = {per_round} }}\n'
    path.write_text(f'experiment = "{SINE}"\nseeds = {list(range(seeds))}\n{variant}')
    assert [len(group) for group in together(sweep_file.load(path).runs, jobs, lanes=8)] == sizes


def command(file: Path, out: Path, *more: str) -> list[str]:
    words = ["sweep", str(file), "-o", str(out), "--jobs", "2", *more]
    return [sys.executable, "-c", "from tinymetafed import cli; cli.main()", *words]


def cells(file: Path, out: Path) -> dict[str, Any]:
    done = subprocess.run(command(file, out, "--json"), capture_output=True, text=True, check=True)
    return {cell["name"]: cell for cell in json.loads(done.stdout)["cells"]}


def is_free(run: Path) -> bool:
    """Whether no process writes into the run's folder."""
    try:
        with locked(run / "lock", wait=False):
            return True
    except LockedError:
        return False


def test_a_killed_sweep_is_continued_to_the_same_results(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kind, go = halting(tmp_path, 10)  # both runs of "long" occupy both jobs until then
    file.write_text(SWEEP.replace("run.rounds = 120", f'run.rounds = 120, strategy.kind = "{kind}"'))
    go.touch()
    whole = cells(file, tmp_path / "whole")
    go.unlink()
    process = subprocess.Popen(command(file, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    longest = out / "runs" / "long" / "seed-1"
    wait_until(lambda: process.poll() is not None or ((longest / "run.db").exists() and read_run(longest).trained > 10))
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: all(map(is_free, longest.parent.iterdir())))  # its processes notice that it has ended
    go.touch()
    planned = sweep.load(file)
    partial = {row.cell.name: row for row in sweep.rows(planned, out)}
    assert not partial["short"].whole and "0 of 2" in sweep.table.markdown(list(partial.values()))
    shutil.copytree(whole_run := tmp_path / "whole" / "runs" / "short" / "seed-1", out / "runs" / "short" / "seed-1")
    finished = (out / "runs" / "short" / "seed-1" / "run.db").stat().st_mtime_ns
    (out / "runs" / "short" / "seed-2").mkdir()  # a run that has begun and holds nothing yet
    (out / "runs" / "short" / "seed-2" / "run.db.new").write_bytes(b"half")
    assert cells(file, out) == whole
    assert (out / "runs" / "short" / "seed-1" / "run.db").stat().st_mtime_ns == finished
    assert (out / "table.csv").read_text() == (tmp_path / "whole" / "table.csv").read_text()
    assert whole["long"]["seeds_done"] == 2 and read_run(longest).result is not None
    assert read_run(whole_run).header.seed == 1


def test_its_runs_are_those_of_simulate(file: Path, tmp_path: Path) -> None:
    planned = sweep.load(file)
    assert sweep.execute(planned, tmp_path / "out", 2, None, Quiet()) == {}
    run = planned.runs[1]
    training.simulate(set_up(run.experiment, str(SINE), None), 1, tmp_path / "alone", Quiet())
    alone, swept = read_run(tmp_path / "alone").result, read_run(tmp_path / "out" / run.folder).result
    assert alone is not None and swept is not None
    assert swept.weights_sha256 == alone.weights_sha256 and swept.meta_test == alone.meta_test
    row = sweep.rows(planned, tmp_path / "out")[0]
    assert row.scores[2] == alone.meta_test.after and row.bytes_up is not None and row.cost == pytest.approx(0.7285, abs=1e-4)


def test_another_sweep_or_process_is_refused(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(SWEEP.replace("120", "5"))
    out = tmp_path / "out"
    sweep.execute(sweep.load(file), out, 2, None, Quiet())
    file.write_text(SWEEP.replace("120", "6"))
    with pytest.raises(SweepFailed, match=r"long/seed-1: begun when 'long' was another .*: run\.rounds was 5 and is 6; remove"):
        sweep.execute(sweep.load(file), out, 2, None, Quiet())
    file.write_text(SWEEP.replace("120", "5"))
    with monkeypatch.context() as later:
        later.setattr(sys.modules["tinymetafed.experiments.sweep.finished_runs"], "__version__", "9.9")
        with pytest.raises(SweepFailed, match=r'tinymetafed was ".*" and is "9\.9"; remove'):
            sweep.execute(sweep.load(file), out, 2, None, Quiet())
    file.write_text(SWEEP.replace("120", "5").replace("[1, 2]", "[2, 3]"))  # runs that both sweeps share are kept
    before = (out / "runs" / "short" / "seed-2" / "run.db").stat().st_mtime_ns
    sweep.execute(sweep.load(file), out, 2, None, Quiet())
    assert (out / "runs" / "short" / "seed-2" / "run.db").stat().st_mtime_ns == before
    assert all(row.whole for row in sweep.rows(sweep.load(file), out))
    project = tmp_path / "project"  # a sweep has runs, and a run has a lock
    (project / "runs" / "one").mkdir(parents=True)
    (project / "runs" / "one" / "lock").touch()
    for folder in (project, project / "runs" / "one"):
        (folder / "experiment.toml").touch()
        there = sorted(project.rglob("*"))
        refused = subprocess.run(command(file, folder), capture_output=True, text=True)
        assert refused.returncode == 1 and "exists already and is not the folder of a sweep" in refused.stderr
        assert sorted(project.rglob("*")) == there


def test_runs_that_diverge_or_collapse_are_named_and_the_others_continue(tmp_path: Path) -> None:
    file = tmp_path / "tried.toml"
    file.write_text(f"""
        experiment = "{SINE}"
        seeds = [1]
        [[variant]]
        name = "diverges"
        set = {{ run.rounds = 5, strategy.output_clamp = 0, strategy.global_learning_rate = 10 }}
        [[variant]]
        name = "goes well"
        set = {{ run.rounds = 5, evaluation.tasks = 4 }}
    """)
    planned, out = sweep.load(file), tmp_path / "out"
    diverged = sweep.execute(planned, out, 2, None, Quiet())
    bad, good = sweep.rows(planned, out, diverged)
    assert good.whole and not bad.whole and bad.after.mean is None
    assert "Not complete: diverges." in sweep.table.notes([bad, good])
    assert any("seed 1 diverged: client" in note for note in sweep.table.notes([bad, good]))


_TWO_VARIANTS = """
experiment = "{experiment}"
seeds = [1, 2]
[[variant]]
name = "ours"
set = {{ run.rounds = 5, evaluation.tasks = 4{clients} }}
[[variant]]
name = "theirs"
set = {{ run.rounds = 5, evaluation.tasks = 4, strategy.kind = "fedavg"{clients} }}
"""
_DEFAULT = r"run.devices_per_round = 5 (the default of strategy.kind = 'fedavg')"


def test_a_variant_with_too_few_clients_is_named_and_the_others_run(tmp_path: Path) -> None:
    file, out = tmp_path / "tried.toml", tmp_path / "out"
    file.write_text(_TWO_VARIANTS.format(experiment=SINE, clients=", run.clients = 2"))
    table = tmf.sweep(file, out=out, jobs=2, progress=False)
    assert [(row.cell.name, row.whole) for row in table.rows] == [("ours", True)]
    assert [name for name, _ in table.left_out] == ["theirs"] and _DEFAULT in table.left_out[0][1]
    assert any("theirs: left out" in note and _DEFAULT in note for note in table.notes())
    assert _DEFAULT in (out / "table.md").read_text()
    file.write_text(file.read_text().replace('name = "ours"\nset = {', 'name = "ours"\nset = { strategy.kind = "reptile",'))
    with pytest.raises(tmf.SweepError, match=r"'ours': .*the default of strategy\.kind = 'reptile'"):
        tmf.sweep(file, out=tmp_path / "none", jobs=2, progress=False)


def test_a_variant_with_too_few_files_is_named_and_the_others_run(tmp_path: Path) -> None:
    file, out = tmp_path / "tried.toml", tmp_path / "out"
    (tmp_path / "data").mkdir()
    for client in ("anna", "bert", "carl"):
        (tmp_path / "data" / f"{client}.csv").write_text("".join(f"{i % 7},{i % 2}\n" for i in range(60)))
    experiment = tmp_path / "experiment.toml"
    experiment.write_text("""
        [task]
        kind = "folder"
        path = "data"
        [model]
        input = [1]
        loss = "softmax_cross_entropy"
        layers = [ { op = "dense", units = 4 }, { op = "dense", units = 2, local = true } ]
    """)
    file.write_text(_TWO_VARIANTS.format(experiment=experiment, clients=""))
    table = tmf.sweep(file, out=out, jobs=2, progress=False)
    ours, theirs = table.rows
    assert ours.whole and not theirs.scores
    assert [f"seed {seed} left out: {tmp_path / 'data'}: 2 training" in theirs.troubles[seed - 1] for seed in (1, 2)]
    assert all(_DEFAULT in trouble for trouble in theirs.troubles)


def test_a_damaged_run_ends_the_sweep_with_its_name(file: Path, tmp_path: Path) -> None:
    file.write_text(SWEEP.replace("120", "5"))
    out = tmp_path / "out"
    sweep.execute(sweep.load(file), out, 2, None, Quiet())
    store = out / "runs" / "short" / "seed-1" / "run.db"
    content = bytearray(store.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    store.write_bytes(content)
    with pytest.raises(StoreError, match=r"short/seed-1/run\.db: damaged"):
        sweep.execute(sweep.load(file), out, 2, None, Quiet())


# The files that a run depends on


STRATEGY = """
from tinymetafed.learn.strategies import TinyMetaFed


class Mine(TinyMetaFed):
    def update(self, weights, deltas, round):
        return super().update(weights, deltas, round) * FACTOR
"""
NET = """
[model]
input = [2]
loss = "softmax_cross_entropy"
weights = "given.npz"
layers = [
  { op = "dense", name = "dense0", units = 4, activation = "relu", frozen = true },
  { op = "dense", name = "dense1", units = 4, activation = "relu" },
  { op = "dense", units = 2, local = true },
]
[run]
rounds = 3
[evaluation]
tasks = 2
[strategy]
"""


def given(folder: Path, frozen: float = 0.5, first: float = 0.25) -> None:
    kernels = {"dense0.kernel": np.full((2, 4), frozen), "dense0.bias": np.zeros(4), "dense1.kernel": np.full((4, 4), first)}
    np.savez(folder / "given.npz", **kernels)


def rows(folder: Path, name: str, shift: float = 0.0) -> None:
    lines = [f"{i / 10 + shift:.2f},{-i / 7:.2f},{'ab'[i % 2]}" for i in range(12)]
    (folder / "data" / f"{name}.csv").write_text("\n".join(lines))


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over three experiments with the user's files: own data, own strategy, own sample source; all with own weights."""
    folder = tmp_path_factory.getbasetemp() / "project"  # always the same place, so that the own source is compiled once
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    for name in ("ann", "ben", "cleo"):
        rows(folder, name)
    given(folder)
    (folder / "mine.py").write_text(STRATEGY.replace("FACTOR", "1"))
    (folder / "source.cpp").write_text(SOURCE)
    task = '[task]\nkind = "folder"\npath = "data"\nsupport = 2\nquery = 2\nadapt = 2\nheld_out = ["cleo"]\n'
    (folder / "plain.toml").write_text(task + NET)
    (folder / "own.toml").write_text(
        task + NET + 'kind = "mine:Mine"\nlocal_learning_rate = 0.05\nlocal_passes = 1\nglobal_learning_rate = 0.03\n'
    )
    (folder / "source.toml").write_text(task + 'source = "source.cpp"\n' + NET)
    variants = [f'[[variant]]\nname = "{name}"\nexperiment = "{name}.toml"\n' for name in ("plain", "own", "source")]
    (folder / "sweep.toml").write_text("seeds = [1]\n" + "".join(variants))
    return folder


SOURCE = """
#include "model.hpp"
#include "source.hpp"

namespace tmf::source {
bool on_device() { return true; }
void make(const Key& key, float* input, float* target) {
  for (uint32_t i = 0; i < model::kInputSize; ++i) input[i] = 0.1f * static_cast<float>(key.index + i);
  target[0] = static_cast<float>(key.index % 2);
}
}  // namespace tmf::source
"""


class RecordingObserver(Quiet):
    """An observer that records events."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def event(self, text: str) -> None:
        self.told.append(text)


def sweep_it(project: Path, out: Path) -> tuple[dict[str, str], list[str]]:
    """Runs the sweep; returns each cell's weights and the events."""
    listener = RecordingObserver()
    planned = sweep.load(project / "sweep.toml")
    sweep.execute(planned, out, 2, None, listener)
    ended = {row.cell.name: row.runs[1].result for row in sweep.rows(planned, out)}
    return {name: result.weights_sha256 for name, result in ended.items() if result is not None}, listener.told


CHANGES: dict[str, tuple[Callable[[Path], object], set[str], str]] = {
    "data of a client that trains": (lambda project: rows(project, "ann", 0.5), {"plain", "own"}, "its data"),
    "data of a held-out client": (lambda project: rows(project, "cleo", 0.5), {"plain", "own", "source"}, "its data"),
    "a client more": (lambda project: rows(project, "dora"), {"plain", "own"}, "its data"),
    "own strategy": (
        lambda project: (project / "mine.py").write_text(STRATEGY.replace("FACTOR", "0.5")),
        {"own"},
        "the file of strategy.kind (",
    ),
    "own source": (
        lambda project: (project / "source.cpp").write_text(SOURCE.replace("0.1f", "0.2f")),
        {"source"},
        "task.source (",
    ),
    "frozen weights": (lambda project: given(project, frozen=0.75), {"plain", "own", "source"}, "model.weights ("),
    "first weights": (lambda project: given(project, first=0.5), {"plain", "own", "source"}, "model.weights ("),
}


@pytest.mark.xdist_group("sweep-files")
@pytest.mark.parametrize("change", CHANGES)
def test_a_run_whose_files_have_changed_runs_again_and_is_kept(project: Path, tmp_path: Path, change: str) -> None:
    edit, cells, what = CHANGES[change]
    out = tmp_path / "out"
    before, told = sweep_it(project, out)
    assert told == [] and sweep_it(project, out) == (before, [])
    written = {name: (out / "runs" / name / "seed-1" / "run.db").stat().st_mtime_ns for name in before}
    edit(project)
    fresh, _ = sweep_it(project, tmp_path / "fresh")
    after, told = sweep_it(project, out)
    assert after == fresh and len(told) == len(cells)
    for name, former in before.items():
        runs = out / "runs" / name
        if name not in cells:
            assert (runs / "seed-1" / "run.db").stat().st_mtime_ns == written[name]
            continue
        (line,) = [line for line in told if line.startswith(f"{name}, seed 1: ")]
        assert what in line and "runs again" in line and line.endswith(str(runs / "seed-1.former-1"))
        kept = read_run(runs / "seed-1.former-1").result
        assert kept is not None and kept.weights_sha256 == former
    assert sweep_it(project, out) == (after, [])


@pytest.mark.xdist_group("sweep-files")
def test_a_run_that_was_interrupted_before_its_data_changed_begins_anew(project: Path, tmp_path: Path) -> None:
    out, planned = tmp_path / "out", sweep.load(project / "sweep.toml")
    (run,) = [run for run in planned.runs if run.cell.name == "plain"]
    with pytest.raises(KeyboardInterrupt):
        training.simulate(set_up(run.experiment, "test", None), 1, out / run.folder, InterruptingObserver())
    (out / "lock").touch()
    rows(project, "ann", 0.5)
    assert not [row for row in sweep.rows(planned, out) if row.whole]
    fresh, _ = sweep_it(project, tmp_path / "fresh")
    after, told = sweep_it(project, out)
    assert after == fresh and len(told) == 1 and "plain, seed 1: its data changed" in told[0]


class InterruptingObserver(Quiet):
    """An observer that interrupts the run after its first round."""

    def advance(self) -> None:
        raise KeyboardInterrupt
