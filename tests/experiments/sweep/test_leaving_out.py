"""Sweeps that leave clients out: each client is unseen in one run of every seed, and the table has a row for each."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import SINE, Quiet
from typer.testing import CliRunner

import tinymetafed as tmf
from tinymetafed.cli import application
from tinymetafed.experiments import SweepError, sweep
from tinymetafed.experiments.sweep.folds import folds
from tinymetafed.federation.meta_test import confidence
from tinymetafed.runs import training
from tinymetafed.runs.setup import set_up

PEOPLE = ("anna", "bert", "carl", "dora", "emil")


EXPERIMENT = """
[task]
kind = "folder"
path = "data"
held_out = ["anna"]
[data]
normalise = "none"           # that of other people would be another model to compile
[model]
input = [1]
loss = "softmax_cross_entropy"
layers = [ { op = "dense", units = 4 }, { op = "dense", units = 2, local = true } ]
[run]
rounds = 3
[evaluation]
tasks = 6
"""
TWO_VARIANTS = """
leave_out = 2
seeds = [1, 2]
baseline = "untrained"
[[variant]]
name = "trained"
[[variant]]
name = "untrained"
set = { run.rounds = 0 }
"""


def plan_in(folder: Path, lines: str) -> Path:
    """Writes a sweep over five people's files, with more lines."""
    (folder / "data").mkdir(exist_ok=True)
    for shift, person in enumerate(PEOPLE):
        (folder / "data" / f"{person}.csv").write_text("".join(f"{i % 2 + shift / 10},{i % 2}\n" for i in range(60)))
    (folder / "experiment.toml").write_text(EXPERIMENT)
    (folder / "people.toml").write_text(f'experiment = "experiment.toml"\n{lines}')
    return folder / "people.toml"


@pytest.fixture
def planned(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a sweep over five people's files, with more lines."""
    return lambda lines: plan_in(tmp_path, lines)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tmf.SweepTable:
    """A sweep of two variants that leaves out two people at a time; all runs of a variant in lock-step."""
    folder = tmp_path_factory.mktemp("people")
    return tmf.sweep(plan_in(folder, TWO_VARIANTS), out=folder / "out", jobs=1, progress=False)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_every_client_is_in_one_group(size: int) -> None:
    names = [f"s{i:02}" for i in range(1, 8)]
    groups = folds(names, size, 4)
    assert sorted(name for group in groups for name in group) == names
    assert max(map(len, groups)) <= size and max(map(len, groups)) - min(map(len, groups)) <= 1
    assert all(list(group) == sorted(group) for group in groups)
    assert groups == folds(names, size, 4)
    assert (folds(names, size, 5) == groups) is (size in (1, 7))


def test_each_client_is_unseen_once_and_has_its_row(done: tmf.SweepTable) -> None:
    of_variant = {name: [each for each in done.clients if each.variant == name] for name in ("trained", "untrained")}
    assert all(sorted(client.client for client in clients) == list(PEOPLE) for clients in of_variant.values())
    by_person: dict[str, list[float]] = {}
    for row in done.rows[:3]:
        assert row.cell.variant == "trained"
        for run in row.runs.values():
            held_out = run.experiment().task.held_out  # type: ignore[attr-defined]
            assert held_out == row.cell.left_out
            for i, person in enumerate(held_out):
                scores = [after for _, after in run.evaluations[-1].per_task[i :: len(held_out)]]
                by_person.setdefault(person, []).append(sum(scores) / len(scores))  # type: ignore[arg-type]
    afters = {person: sum(scores) / 2 for person, scores in by_person.items()}
    assert {client.client: client.after for client in of_variant["trained"]} == pytest.approx(afters)
    mean, interval, count = done.client_cells()[-3:]
    assert mean[2] == f"{20 * sum(afters.values()):.1f}" and count[2] == "5"
    assert interval[2] == f"± {100 * (confidence(list(afters.values())) or 0):.1f}"
    gains = [(each.after or 0) - (each.before or 0) for each in of_variant["trained"]]
    assert mean[3] == f"{20 * sum(gains):.1f}" and interval[3] == f"± {100 * (confidence(gains) or 0):.1f}"
    page = (done.folder / "table.md").read_text()
    assert all(f"| {person} |" in page for person in PEOPLE)
    lines = list(csv.DictReader((done.folder / "clients.csv").open()))
    assert sorted(line["client"] for line in lines if line["variant"] == "trained") == sorted(2 * PEOPLE)


def test_variants_are_compared_client_by_client(done: tmf.SweepTable) -> None:
    after = {(each.variant, each.client): each.after or 0 for each in done.clients}
    apart = [after["trained", person] - after["untrained", person] for person in PEOPLE]
    head, line = done.comparisons()
    assert head.startswith("Against untrained, client by client;")
    sign = "-" if sum(apart) < 0 else "+"
    interval = f"{100 * (confidence(apart) or 0):.1f}"
    assert line.startswith(f"trained: {sign}{abs(20 * sum(apart)):.1f} ± {interval} over 5 clients, p = ")
    assert line.endswith("undecided: too few clients (5 of 8)")
    assert line in (done.folder / "table.md").read_text()


def test_the_curve_is_over_groups_of_clients(done: tmf.SweepTable) -> None:
    trained, untrained = done.curves
    assert (trained.name, untrained.name, trained.unit) == ("trained", "untrained", "groups of clients")
    assert len(trained.scores) == 3 and trained.numbers == [0, 1, 2, 4, 8]
    groups = []
    for row in done.rows[:3]:
        curves = [run.result.d_curve for run in row.runs.values() if run.result is not None]
        groups.append(sum(curve.mean[curve.d.index(4)] or 0 for curve in curves) / len(curves))
    assert trained.at(4).mean == pytest.approx(sum(groups) / 3) and trained.at(4).ci95 == pytest.approx(confidence(groups))
    assert "| D = 0 | D = 1 | D = 2 | D = 4 | D = 8 | gain |" in (done.folder / "table.md").read_text()
    lines = list(csv.DictReader((done.folder / "curve.csv").open()))
    assert len(lines) == 2 * 3 * 5 and {line["samples"] for line in lines} == {"0", "1", "2", "4", "8"}


def test_runs_that_train_in_lock_step_end_on_the_weights_of_each_alone(done: tmf.SweepTable, tmp_path: Path) -> None:
    for row in done.rows[:3]:
        run = sweep.Run(row.cell, 2)
        alone = training.simulate(set_up(run.experiment, str(run.cell.source), None), 1, tmp_path / row.cell.folder, Quiet())
        together = row.runs[2].result
        assert together is not None and alone.weights_sha256 == together.weights_sha256


def test_the_option_leaves_one_out_of_any_sweep(planned: Callable[[str], Path], tmp_path: Path) -> None:
    file = planned('seeds = [1, 2]\n[[variant]]\nname = "untrained"\nset = { run.rounds = 0 }\n')
    words = ["sweep", str(file), "-o", str(tmp_path / "out"), "--jobs", "1", "--leave-out", "1", "--json"]
    clients = json.loads(CliRunner().invoke(application(), words, catch_exceptions=False).stdout)["clients"]
    assert [(client["variant"], client["client"]) for client in clients] == [("untrained", person) for person in PEOPLE]
    assert all(client["after_by_seed"].keys() == {"1", "2"} for client in clients)


def test_clients_for_validation_are_never_left_out(planned: Callable[[str], Path]) -> None:
    lines = 'leave_out = 1\nseeds = [1]\n[[variant]]\nname = "chosen"\nset = { task.validation = ["bert"] }\n'
    cells = sweep.load(planned(lines)).cells
    assert [cell.left_out for cell in cells] == [("anna",), ("carl",), ("dora",), ("emil",)]
    assert all(cell.experiment.task.validation == ("bert",) for cell in cells)  # type: ignore[attr-defined]
    (first, *_) = sweep.load(planned("leave_out = 1\nseeds = [1]\n")).cells
    assert first.experiment.task.validation == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("leave_out = 5\nseeds = [1]", r"leave_out = 5 of 5 clients leaves nobody to train on"),
        ("leave_out = 0\nseeds = [1]", r"leave_out"),
        (
            'leave_out = 1\nseeds = [1]\n[grid]\n"task.held_out" = [["bert"]]',
            r"task\.held_out cannot be set, leave_out sets it",
        ),
        (
            'leave_out = 1\nseeds = [1]\nbaseline = "b"\n[[variant]]\nname = "a"',
            r"baseline = 'b' is not a row of this sweep; there are 'a'",
        ),
    ],
)
def test_what_cannot_be_left_out_is_refused(planned: Callable[[str], Path], lines: str, message: str) -> None:
    with pytest.raises(SweepError, match=message):
        sweep.load(planned(lines))


def test_clients_without_names_cannot_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "waves.toml").write_text(f'experiment = "{SINE}"\nseeds = [1]\nleave_out = 1\n')
    with pytest.raises(SweepError, match=r"leave_out needs clients that have names, .* task\.kind = 'sine'; remove leave_out"):
        sweep.load(tmp_path / "waves.toml")
