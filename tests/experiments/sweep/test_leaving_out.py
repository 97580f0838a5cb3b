"""Sweeps that leave clients out: each client is unseen in one run of every seed, and the table has a row for each."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import SINE
from typer.testing import CliRunner

import tinymetafed as tmf
from tinymetafed.cli import app
from tinymetafed.experiments import SweepError, sweep
from tinymetafed.experiments.sweep.folds import folds
from tinymetafed.federation.meta_test import confidence
from tinymetafed.runs.store import read_run

PEOPLE = ("anna", "bert", "carl", "dora", "emil")


@pytest.fixture
def planned(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a sweep over five people's files, with more lines."""
    (tmp_path / "data").mkdir()
    for shift, person in enumerate(PEOPLE):
        (tmp_path / "data" / f"{person}.csv").write_text("".join(f"{i % 2 + shift / 10},{i % 2}\n" for i in range(60)))
    (tmp_path / "experiment.toml").write_text("""
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
    """)

    def write(lines: str) -> Path:
        (tmp_path / "people.toml").write_text(f'experiment = "experiment.toml"\n{lines}')
        return tmp_path / "people.toml"

    return write


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_every_client_is_in_one_group(size: int) -> None:
    names = [f"s{i:02}" for i in range(1, 8)]
    groups = folds(names, size, 4)
    assert sorted(name for group in groups for name in group) == names
    assert max(map(len, groups)) <= size and max(map(len, groups)) - min(map(len, groups)) <= 1
    assert all(list(group) == sorted(group) for group in groups)
    assert groups == folds(names, size, 4)
    assert (folds(names, size, 5) == groups) is (size in (1, 7))


def test_each_client_is_unseen_once_and_has_its_row(planned: Callable[[str], Path], tmp_path: Path) -> None:
    file = planned("leave_out = 2\nseeds = [1]\n")
    done = tmf.sweep(file, out=tmp_path / "out", jobs=1, progress=False)
    assert sorted(client.client for client in done.clients) == list(PEOPLE)
    by_person: dict[str, float] = {}
    for row in done.rows:
        run = read_run(tmp_path / "out" / "runs" / row.cell.folder / "seed-1")
        held_out = run.experiment().task.held_out  # type: ignore[attr-defined]
        assert held_out == row.cell.left_out
        for i, person in enumerate(held_out):
            scores = [after for _, after in run.evaluations[-1].per_task[i :: len(held_out)]]
            by_person[person] = sum(scores) / len(scores)  # type: ignore[arg-type]
    assert {client.client: client.after for client in done.clients} == pytest.approx(by_person)
    mean, interval, count = done.client_cells()[-3:]
    assert mean[2] == f"{20 * sum(by_person.values()):.1f}" and count[2] == "5"
    assert interval[2] == f"± {100 * (confidence(list(by_person.values())) or 0):.1f}"
    assert all(f"| {person} |" in (tmp_path / "out" / "table.md").read_text() for person in PEOPLE)
    lines = list(csv.DictReader((tmp_path / "out" / "clients.csv").open()))
    assert sorted(line["client"] for line in lines) == list(PEOPLE)


def test_the_option_leaves_one_out_of_any_sweep(planned: Callable[[str], Path], tmp_path: Path) -> None:
    file = planned('seeds = [1, 2]\n[[variant]]\nname = "untrained"\nset = { run.rounds = 0 }\n')
    words = ["sweep", str(file), "-o", str(tmp_path / "out"), "--jobs", "1", "--leave-out", "1", "--json"]
    clients = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)["clients"]
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
    ],
)
def test_what_cannot_be_left_out_is_refused(planned: Callable[[str], Path], lines: str, message: str) -> None:
    with pytest.raises(SweepError, match=message):
        sweep.load(planned(lines))


def test_clients_without_names_cannot_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "waves.toml").write_text(f'experiment = "{SINE}"\nseeds = [1]\nleave_out = 1\n')
    with pytest.raises(SweepError, match=r"leave_out needs clients that have names, .* task\.kind = 'sine'; remove leave_out"):
        sweep.load(tmp_path / "waves.toml")
