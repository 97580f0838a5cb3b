"""The command `plan`: its tables and JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Command, CommandResult
from small_runs import SINE

import tinymetafed as tmf


def test_a_plan_for_each_number_of_boards(command: Command) -> None:
    said = command("plan", SINE, "--boards", "10,1000", "--boards-per-gateway", "100", "--form", "pre-summed", "--json")
    assert said.code == 0, said
    few, many = json.loads(said.out)
    assert (few["fleet"]["gateways"], many["fleet"]["gateways"]) == (1, 10)
    assert few["board_bytes"] == many["board_bytes"] and few["server_bytes"][1] < many["server_bytes"][1]
    assert few["rates"]["line"]["name"] == "serial" and few["rates"]["measured_on"]


def test_gateways_send_what_the_experiment_says_unless_another_form_is_asked_for(command: Command) -> None:
    summed = ("--set", "strategy.gateways=pre-summed")
    for options, form in (((), "forward"), (summed, "pre-summed"), ((*summed, "--form", "forward"), "forward")):
        said = command("plan", SINE, "--boards", "10", "--gateways", "2", "--json", *options)
        assert said.code == 0, said
        assert json.loads(said.out)[0]["fleet"]["form"] == form


def test_the_table_says_what_gives_way_and_what_is_assumed(command: Command) -> None:
    said = command("plan", SINE, "--boards", "10", "--line", "usb", "--set", "run.rounds=5")
    assert said.code == 0, said
    for text in ("takes longest", "energy of all boards", "time of 5 rounds", "boards on, ", "Assumed: usb", "Left out:"):
        assert text in said.out, said.out


def test_a_plan_counts_the_samples_that_a_host_streams_and_an_estimate_says_that_it_does_not(
    command: Command, tmp_path: Path
) -> None:
    tmf.new_project(tmp_path / "gestures")
    streamed = tmp_path / "gestures" / "experiment.toml"
    planned = command("plan", streamed, "--boards", "4")
    assert planned.code == 0 and "of these, samples that the host streams" in planned.out, planned
    assert "samples that the host streams" not in command("plan", SINE, "--boards", "4").out, "these boards make their own"
    estimated = command("estimate", streamed, "--board", "nano33ble")
    assert estimated.code == 0 and "without samples that a host streams" in " ".join(estimated.out.split()), estimated


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (("--boards", "0"), "--boards 0"),
        (("--boards", "ten"), "--boards ten"),
        (("--boards", "4", "--gateways", "5"), "--gateways 5"),
        (("--boards", "4", "--gateways", "2", "--boards-per-gateway", "2"), "--boards-per-gateway 2"),
        (("--line", "pigeon"), "--line pigeon"),
        (("--memory", "0"), "--memory 0"),
        (("--measured", "nowhere.json"), "--measured nowhere.json"),
        (("--board", "mps2"), "--board mps2"),
        (("--clients", "0"), "--clients 0"),
    ],
)
def test_wrong_options_are_named(command: Command, options: tuple[str, ...], culprit: str) -> None:
    said = command("plan", SINE, *options)
    assert said.code == 2 and culprit in said.error


def test_a_runs_experiment_is_planned_as_it_is(command: Command, finished: tuple[Path, CommandResult]) -> None:
    said = command("plan", finished[0], "--boards", "4", "--json")
    assert said.code == 0, said
    (found,) = json.loads(said.out)
    assert found["rounds"] == 5, "those of the run"
    refused = command("plan", finished[0], "--set", "run.rounds=3")
    assert refused.code == 2 and "--set run.rounds=3" in refused.error
