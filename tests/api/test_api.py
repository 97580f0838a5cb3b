"""The public API as a notebook or script uses it; errors have the same text as on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinymetafed as tmf
from tinymetafed import cli

SINE = tmf.example("sine.toml")
SHORT = {"run.rounds": 12, "evaluation.every": 6, "evaluation.every_tasks": 3, "evaluation.tasks": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tmf.Run:
    return tmf.simulate(tmf.load(SINE, SHORT), out=tmp_path_factory.mktemp("api") / "run", progress=False)


def test_an_experiment_is_loaded_with_keys_changed() -> None:
    experiment = tmf.load(SINE, set={"run.rounds": 500})
    assert experiment.spec.run.rounds == 500 and experiment.name == "sine"
    assert experiment.spec == tmf.load(str(SINE), set=["run.rounds=500"]).spec


def test_the_cost_on_a_board_is_known_before_anything_is_built() -> None:
    manifest = tmf.load(SINE).manifest("nano33ble")
    assert manifest.board == "nano33ble" and 0 < manifest.memory.ram_total < manifest.memory.ram_available


def test_a_run_has_its_weights_as_named_arrays(run: tmf.Run) -> None:
    assert {name: array.shape for name, array in run.weights.items()} == {
        "dense1.kernel": (1, 32), "dense1.bias": (32,), "dense2.kernel": (32, 32), "dense2.bias": (32,)
    }  # fmt: skip
    assert all(array.dtype == np.float32 for array in run.weights.values())


def test_a_runs_history_is_arrays(run: tmf.Run) -> None:
    history = run.history
    assert history.round.tolist() == list(range(12)) and history.alpha[0] == pytest.approx(0.5)
    assert history.evaluated_after.tolist() == [6, 12] and history.metric == "mse"
    assert (history.bytes_down > 0).all() and (history.bytes_up > 0).all() and np.isfinite(history.after).all()


def test_a_run_opens_again(run: tmf.Run) -> None:
    again = tmf.open_run(run.path)
    assert again.finished and again.rounds == 12 and again.weights_sha256 == run.weights_sha256
    assert again.result == run.result and again.experiment.spec == tmf.load(SINE, SHORT).spec
    assert "finished" in repr(again)


def test_devices_end_with_the_simulations_weights(run: tmf.Run, tmp_path: Path, built_once: None) -> None:
    trained = tmf.train(tmf.load(SINE, SHORT), devices=["native:2"], out=tmp_path / "run", progress=False)
    assert trained.weights_sha256 == run.weights_sha256


def test_unseen_clients_adapt(run: tmf.Run, built_once: None) -> None:
    adapted = run.adapt(devices=["native:1"], tasks=3, progress=False)
    assert [client.client for client in adapted.clients] == [0, 1, 2] and adapted.samples == 8


@pytest.mark.parametrize("given", [{"tasks": 0}, {"tasks": -3}, {"first": -1}, {"first": 1 << 31}], ids=str)
def test_impossible_numbers_of_clients_are_refused_before_a_board_is_started(run: tmf.Run, given: dict[str, int]) -> None:
    with pytest.raises(tmf.UsageError, match=r"^--(tasks|first) -?\d+: expected [01] to "):
        run.adapt(**given)  # type: ignore[arg-type]
    with pytest.raises(tmf.UsageError, match=r"^--threads -1: expected 1 to 1,024$"):
        run.verify(threads=-1)


@pytest.mark.parametrize("output", ["", ".", "..", "/"])
def test_an_export_into_a_folder_is_refused(run: tmf.Run, output: str) -> None:
    with pytest.raises(tmf.ExportError, match=r"a folder|no suffix"):
        run.export(output)


def test_one_device_needs_no_list_and_none_is_refused(run: tmf.Run, tmp_path: Path) -> None:
    for call in (
        lambda devices: tmf.train(run.experiment, devices, out=tmp_path / "run"),
        lambda devices: run.adapt(devices=devices),
        lambda devices: tmf.started(run.experiment, devices).__enter__(),
    ):
        with pytest.raises(tmf.UsageError, match="no device is given"):
            call([])
        with pytest.raises(tmf.LaunchError, match="device 'native:0'"):
            call("native:0")
    with pytest.raises(tmf.DataError, match="client 'anna'"):
        run.adapt(clients="anna", devices="native:1")
    assert not (tmp_path / "run").exists()


def test_a_report_and_an_export_are_written_where_they_are_asked_for(run: tmf.Run, tmp_path: Path) -> None:
    assert run.report(tmp_path / "page.html").read_text().lstrip().lower().startswith("<!doctype html>")
    with np.load(run.export(tmp_path / "weights.npz")) as file:
        assert (file["dense2.kernel"] == run.weights["dense2.kernel"]).all()


def test_runs_are_compared(run: tmf.Run, tmp_path: Path) -> None:
    other = tmf.simulate(tmf.load(SINE, SHORT | {"strategy.top_p": 10}), out=tmp_path / "other", progress=False)
    assert tmf.compare([run, other.path], tmp_path / "page.html") == []
    assert (tmp_path / "page.html").is_file()


def test_code_is_generated(tmp_path: Path) -> None:
    made = tmf.codegen(tmf.load(SINE), "mps2", tmp_path)
    assert {path.name for path in made.changed} == {
        "adaptation.hpp", "board.hpp", "device_facts.hpp", "model.hpp", "op_headers.hpp", "own_program.hpp", "protocol.hpp",
        "sine_waves.hpp", "status.hpp", "manifest.json"
    }  # fmt: skip
    assert tmf.codegen(tmf.load(SINE), "mps2", tmp_path).changed == ()


def test_an_interrupted_run_is_continued_to_the_same_weights(run: tmf.Run, tmp_path: Path) -> None:
    def stop(event: tmf.ProgressEvent) -> None:
        if event.stage == "meta-training" and event.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tmf.simulate(tmf.load(SINE, SHORT), out=tmp_path / "run", progress=stop)
    stopped = tmf.open_run(tmp_path / "run")
    assert not stopped.finished and 0 < stopped.rounds <= 8 and "so far" in repr(stopped)
    assert stopped.resume(progress=False).weights_sha256 == run.weights_sha256
    assert stopped.reload().finished


def test_progress_calls_a_function(tmp_path: Path) -> None:
    events: list[tmf.ProgressEvent] = []
    tmf.simulate(tmf.load(SINE, SHORT), out=tmp_path / "run", progress=events.append)
    trained = [event for event in events if event.stage == "meta-training"]
    assert trained[0].total == 12 and max(event.done for event in trained) == 12
    assert any(event.note.startswith("after 6 rounds") for event in events)


@pytest.mark.parametrize("progress", [True, False])
def test_results_never_mix_with_progress(progress: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tmf.simulate(tmf.load(SINE, SHORT), out=tmp_path / "run", progress=progress)
    said = capfd.readouterr()
    assert said.out == "" and ("meta-training" in said.err) == progress


def test_every_name_of_the_api_is_there_and_every_error_has_one_base() -> None:
    assert len(set(tmf.__all__)) == len(tmf.__all__) and all(hasattr(tmf, name) for name in tmf.__all__)
    errors = [getattr(tmf, name) for name in tmf.__all__ if name.endswith(("Error", "Failed", "Collapsed"))]
    assert len(errors) > 15 and all(issubclass(error, tmf.Error) for error in errors)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["simulate", "absent.toml"], lambda: tmf.load("absent.toml")),
        (["simulate", str(SINE), "--set", "run.round=5"], lambda: tmf.load(SINE, ["run.round=5"])),
        (["report", "absent"], lambda: tmf.open_run("absent").report()),
        (["codegen", str(SINE), "--board", "nano33", "-o", "out"], lambda: tmf.codegen(tmf.load(SINE), "nano33", "out")),
        (["train", str(SINE), "-d", "quemu:4"], lambda: tmf.train(tmf.load(SINE), ["quemu:4"], out="run")),
        (["train", str(SINE), "--fault", "flop=1"], lambda: tmf.train(tmf.load(SINE), out="run", fault="flop=1")),
        (["monitor", "absent.record"], lambda: list(tmf.monitor("absent.record"))),
        (["bench", "simulation", "--unit", "mmx"], lambda: tmf.bench_simulation(unit="mmx")),
        (["import", "absent.keras", "-o", "new.toml"], lambda: tmf.import_model("absent.keras", "new.toml")),
        (["sweep", "absent.toml"], lambda: tmf.sweep("absent.toml")),
        (["new", "full"], lambda: tmf.new_project("full")),
        (["simulate", str(SINE), "--threads", "0"], lambda: tmf.simulate(tmf.load(SINE), threads=0)),
        (["sweep", "absent.toml", "--jobs", "2000"], lambda: tmf.sweep("absent.toml", jobs=2000)),
        (["tune", str(SINE), "--budget", "1", "--seed=-1"], lambda: tmf.tune(tmf.load(SINE), trials=1, seed=-1)),
        (["estimate", str(SINE), "--board", "nano33ble", "--rounds=-1"],
         lambda: tmf.estimate_day(tmf.load(SINE), "nano33ble", tmf.Day(rounds=-1))),
        (["bench", "simulation", "--clients", "0"], lambda: tmf.bench_simulation(clients=0)),
        (["bench", "gains", str(SINE), "--clients", "0"], lambda: tmf.bench_gains(tmf.load(SINE), clients=0)),
        (["bench", "gateways", str(SINE), "--gateways", "0"], lambda: tmf.bench_gateways(tmf.load(SINE), gateways=0)),
        (["bench", "soak", "--minutes", "nan"], lambda: tmf.bench_soak(minutes=float("nan"))),
    ],
    ids=lambda value: " ".join(value[:2]).replace(str(SINE), "SINE") if isinstance(value, list) else "",
)  # fmt: skip
def test_the_api_fails_with_the_command_lines_words(
    words: list[str], call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    monkeypatch.setattr(sys, "argv", ["tinymetafed", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err.replace("\n", " ")
    with pytest.raises(tmf.Error) as raised:
        call()
    assert f"Error: {raised.value}".replace("\n", " ") in said
    assert ended.value.code == (2 if isinstance(raised.value, tmf.UsageError) else 1)


def test_the_module_is_a_command(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tinymetafed", "codegen", SINE, "--board", "mps2", "-o", tmp_path, "--json"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert json.loads(done.stdout)["board"] == "mps2"


def test_a_run_without_a_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to("a disk that is not there")
    with pytest.raises(tmf.StoreError, match="runs: not a folder, so no run folder can be made in it; choose one with --out"):
        tmf.simulate(tmf.load(SINE, SHORT), progress=False)
