"""Scores on the way are of validation clients: test clients serve the final report alone, which does not depend on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import SINE
from test_adapted import EXPERIMENT, write_data

import tinymetafed as tmf
from tinymetafed.learn.client_groups import ClientGroup
from tinymetafed.simulation.simulated_clients import SimulatedClients

SMALL = {"run.rounds": 40, "evaluation.tasks": 12, "evaluation.every_tasks": 5}


@pytest.fixture
def adapted(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The clients of every call that adapts some."""
    asked: list[list[int]] = []
    adapt = SimulatedClients.adapt

    def noted(self: SimulatedClients, weights: Any, clients: Any, *rest: Any, **keys: Any) -> Any:
        asked.append(list(clients))
        return adapt(self, weights, clients, *rest, **keys)

    monkeypatch.setattr(SimulatedClients, "adapt", noted)
    return asked


def test_who_is_looked_at_on_the_way_is_not_in_the_report(tmp_path: Path, adapted: list[list[int]]) -> None:
    plain = tmf.simulate(tmf.load(SINE, SMALL), out=tmp_path / "plain", progress=False)
    at_the_end = {client for clients in adapted for client in clients}
    adapted.clear()
    looked = tmf.simulate(tmf.load(SINE, SMALL | {"evaluation.every": 10}), out=tmp_path / "looked", progress=False)
    assert [(len(clients), bool(at_the_end & set(clients))) for clients in adapted[:3]] == [(5, False)] * 3
    assert [test.group for test in looked.data.evaluations] == [ClientGroup.VALIDATION] * 3 + [ClientGroup.TEST]
    assert looked.result is not None and plain.result is not None
    assert looked.weights_sha256 == plain.weights_sha256 and looked.result.meta_test == plain.result.meta_test
    assert replace(looked.result.d_curve) == plain.result.d_curve and plain.result.meta_test.group is ClientGroup.TEST


def test_a_run_may_be_scored_by_validation_clients_alone(tmp_path: Path, adapted: list[list[int]]) -> None:
    settings = SMALL | {"evaluation.group": "validation", "evaluation.every": 20}
    run = tmf.simulate(tmf.load(SINE, settings), out=tmp_path / "run", progress=False)
    assert run.result is not None and run.result.meta_test.group is ClientGroup.VALIDATION
    assert min(client for clients in adapted for client in clients) >= 1_000_000_000


def people(folder: Path, names: tuple[str, ...], **keys: str) -> Path:
    """An experiment on people's data with carol held out, which trains on alice and bob, so that its model is compiled once."""
    write_data(folder / "data", names)
    more = "".join(f"{key} = {value}\n" for key, value in keys.items())
    (folder / "experiment.toml").write_text(
        EXPERIMENT.replace('"carol", "dave"', '"carol"').replace("adapt = 9\n", f"adapt = 9\n{more}")
    )
    return folder / "experiment.toml"


def test_a_single_held_out_client_is_not_looked_at_on_the_way(tmp_path: Path) -> None:
    said: list[str] = []
    experiment = tmf.load(people(tmp_path, ("alice", "bob", "carol")), {"evaluation.every": 20})
    run = tmf.simulate(experiment, out=tmp_path / "run", progress=lambda event: said.append(event.event))
    assert run.result is not None and run.result.meta_test.n_clients == 1 and len(run.data.evaluations) == 1
    assert any(
        "evaluation.every = 20: there are no validation clients" in text and "set task.validation" in text for text in said
    )


def test_people_for_validation_are_taken_from_training(tmp_path: Path) -> None:
    path = people(tmp_path, ("alice", "bob", "carol", "dave"), validation='["dave"]')
    run = tmf.simulate(tmf.load(path, {"evaluation.every": 20}), out=tmp_path / "run", progress=False)
    assert run.result is not None and run.result.meta_test.spread.best.task.startswith("carol")
    assert [test.group for test in run.data.evaluations] == [ClientGroup.VALIDATION] * 2 + [ClientGroup.TEST]
    assert max(part.client for entry in run.data.rounds for part in entry.contributions) == 1  # alice and bob
    facts = tmf.check(path).facts
    assert facts is not None and [client.group for client in facts.clients] == [*("training", "training", "test", "validation")]
    refused: tuple[tuple[list[str] | int, str], ...] = (
        (["davee"], "task.validation names 'davee', which is no file here.*did you mean 'dave'"),
        (["carol"], "task.held_out and task.validation both name 'carol'"),
        (5, "task.validation = 5, but 3"),
        (3, "all clients are held out.*task.held_out and task.validation"),
    )
    for value, why in refused:
        with pytest.raises(tmf.DataError, match=why):
            tmf.simulate(tmf.load(path, {"task.validation": value}), out=tmp_path / "refused", progress=False)
