"""The command line: its help, JSON alone on standard output, the files in a run's folder, runs continued, a faulty line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import SHORT, Command, CommandResult, json_object
from small_runs import SINE, manifest, needs_board, needs_qemu, sine

import tinymetafed
from tinymetafed import cli
from tinymetafed.bench import stack
from tinymetafed.learn.weights import sha256 as weights_sha256
from tinymetafed.runs import run_figures, store
from tinymetafed_codegen.board import board_facts, board_requirements

RUN_FILES = {"experiment.toml", "run.db", "lock", "weights.npz", "report.html"}

# --- Help ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["new", "train", "adapt", "report", "codegen", "doctor", "bench", "demo"]),
        (["new"], ["tinymetafed new gestures", "DIR", "--board"]),
        (
            ["train"],
            ["tinymetafed train examples/sine.toml", "--device", "native:4", "qemu:4", "/dev/ttyACM0", "--data", "--set"],
        ),
        (["train"], ["[default: (native:2)]", "[default: (task.path; public data are downloaded once)]"]),
        (["sweep"], ["[default: (one per core)]", "[default: (runs/sweep-NAME)]"]),
        (["adapt"], ["tinymetafed adapt", "--tasks", "--samples", "--device"]),
        (["train"], ["--resume", "--fault", "flip=0.01", "--record"]),
        (["report"], ["RUN...", "report.html", "comparison.html"]),
        (["export"], ["tinymetafed export", "--output", "FILE.npz", "FILE.h"]),
        (["monitor"], ["tinymetafed monitor", "--baud", "recording"]),
        (["codegen"], ["tinymetafed codegen examples/sine.toml", "--board", "--output", "--explain"]),
        (["doctor"], ["Check this machine", "--json"]),
        (["bench"], ["kernels", "memory", "simulation", "wire", "all"]),
        (["bench", "kernels"], ["instructions", "cycles", "--board", "--optimization"]),
        (["bench", "memory"], ["stack", "--board", "--json"]),
        (["demo"], ["--rounds", "--out"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].isalpha() else "",
)
def test_help_explains_each_command(command: Command, arguments: list[str], words: list[str]) -> None:
    said = command(*arguments, "--help")
    assert said.code == 0
    text = " ".join(said.out.replace("│", " ").split())
    assert [word for word in words if word not in text] == []


def test_the_help_waits_for_no_large_library() -> None:
    """Its import of NumPy and of an experiment's classes would take three times as long as the rest of the command."""
    code = "import sys, typer; from tinymetafed import cli; typer.main.get_command(cli.application()); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "tinymetafed.cli" in loaded
    assert {"numpy", "jinja2", "tinymetafed_codegen.spec"} & set(loaded) == set()


def test_a_known_command_is_made_alone() -> None:
    def made(*words: str) -> tuple[int, int]:
        app = cli.application(words)
        benches = [group.typer_instance for group in app.registered_groups]
        return len(app.registered_commands), sum(len(each.registered_commands) for each in benches if each is not None)

    everything = len(cli.COMMANDS), len(cli.BENCH_COMMANDS)
    assert made("simulate", "file.toml") == (1, 0)
    assert made("bench", "wire") == (0, 1) and made("bench") == (0, everything[1])
    for words in ((), ("--help",), ("simulat",), ("bench", "wir")):
        assert made(*words)[1] == everything[1], words
    assert made() == made("simulat") == everything


def test_a_simulation_waits_for_no_devices() -> None:
    """They have ports, TLS, gateways and their messages, whose import takes a tenth of a short simulation."""
    code = "import sys; from tinymetafed import Run, load, simulate; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "tinymetafed.simulation.kernels" in loaded
    foreign = ("tinymetafed.devices.", "tinymetafed.gateways", "serial", "ssl")
    assert [name for name in loaded if name.startswith(foreign)] == []


def test_python_m_tinymetafed_runs_the_command(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        module = [sys.executable, "-m", "tinymetafed", *words]
        return subprocess.run(module, capture_output=True, text=True, check=False, cwd=tmp_path)

    shown = run("--help")
    assert shown.returncode == 0 and "Usage: tinymetafed [OPTIONS]" in shown.stdout
    assert run("--version").stdout.strip() == tinymetafed.__version__
    assert "Usage: tinymetafed bench" in run("bench", "--help").stdout
    # With some pairs of typer's and click's versions, arguments have no help.
    assert "Experiment file, for instance" in run("train", "--help").stdout
    wrong = run("simulate", "nowhere.toml")
    assert wrong.returncode == 2 and "nowhere.toml: no such experiment file" in wrong.stderr


def test_version(command: Command) -> None:
    assert command("--version").out.strip() == run_figures.versions()["tinymetafed"]


def test_new_prints_next_steps_and_overwrites_nothing(command: Command) -> None:
    said = command("new", "my gestures")
    assert said.code == 0 and "cd 'my gestures'" in said.out and "tinymetafed train experiment.toml" in said.out
    assert "my gestures: exists and is not empty" in command("new", "my gestures").error
    assert "did you mean 'native'?" in command("new", "other", "--board", "natve").error
    assert [path.name for path in Path().iterdir()] == ["my gestures"]


def test_an_invalid_path_is_refused_before_anything_is_written(command: Command) -> None:
    Path("taken").write_text("a file")
    for refused, name in (
        (command("new", "taken/gestures"), "taken/gestures: cannot be made: Not a directory"),
        (command("new", "missing/gestures"), "missing/gestures: cannot be made: No such file or directory"),
        (command("codegen", SINE, "--board", "mps2", "-o", "taken"), "--output taken: cannot be a folder of generated files"),
        (command("bench", "all", "-o", "missing"), "--output missing: no such folder"),
        (command("bench", "memory", "--board", "native"), "board 'native' does not run in QEMU"),
    ):
        assert (refused.code, refused.out) == (cli.WRONG_USAGE, "") and name in refused.error and "Errno" not in refused.error
    assert [path.name for path in Path().iterdir()] == ["taken"]


# --- Files and results of a run ---


def test_train_prints_one_json_object_and_nothing_else(finished: tuple[Path, CommandResult]) -> None:
    result = json_object(finished[1])
    assert result["rounds"] == 5
    assert len(result["weights_sha256"]) == 64
    assert 5 * 4 * 1120 == result["bytes_up_dense"] > result["bytes_up"] > 0
    assert result["bytes_down"] > 5 * 2 * 1120  # float16 values and the bytes of frames
    assert result["bytes_samples"] == 0
    assert result["seconds"] > 0
    assert {"metric", "before", "after", "n_tasks"} <= set(result["meta_test"])
    assert (result["meta_test"]["metric"], result["meta_test"]["n_tasks"]) == ("mse", 3)


# Keys of the JSON that scripts rely on.
RESULT_KEYS = {
    "task", "rounds", "seed", "weights_sha256", "bytes_down", "bytes_up", "bytes_up_dense", "bytes_samples", "retries",
    "redone", "skipped", "sessions", "seconds", "training_seconds", "start_seconds", "meta_test", "d_curve", "example",
    "estimate", "collapsed", "devices", "versions", "run", "report", "untrained", "deltas",
}  # fmt: skip
INDEPENDENT = {"n_independent", "unit", "per_unit", "group"}
NESTED_KEYS = {
    "meta_test": {"metric", "before", "after", "after_ci95", "n_tasks", "n_clients", "per_task", "spread", *INDEPENDENT},
    "untrained": {"metric", "before", "after", "after_ci95", "n_tasks", "n_clients", "per_task", *INDEPENDENT},
    "d_curve": {"metric", "samples", "d", "mean", "ci95", "n_tasks", "n_clients", "n_independent", "unit"},
    "example": {"client", "x", "truth", "before", "after", "samples_x", "samples_y"},
    "estimate": {"basis", "bytes", "multiply_accumulates", "boards"},
}


def test_the_json_result_has_the_documented_keys(finished: tuple[Path, CommandResult]) -> None:
    result = json_object(finished[1])
    assert set(result) == RESULT_KEYS
    assert {key: set(result[key]) for key in NESTED_KEYS} == NESTED_KEYS
    spread = result["meta_test"]["spread"]
    assert set(spread) == {"percentiles", "best", "worst"} and list(spread["percentiles"]) == ["10", "25", "50", "75", "90"]
    assert set(spread["best"]) == set(spread["worst"]) == {"client", "task", "before", "after"}
    assert {"url", "board", "unique_id", "receive_window", "rounds"} == set(result["devices"][0])
    board = next(iter(result["estimate"]["boards"].values()))
    assert set(board) == {"title", "wire_seconds", "training_seconds", "seconds", "joules"}


def test_a_run_folder_holds_the_whole_run(finished: tuple[Path, CommandResult]) -> None:
    folder, said = finished
    result = json_object(said)
    assert {path.name for path in folder.iterdir()} == RUN_FILES
    run = store.read_run(folder)
    assert run.result is not None
    kept = json.loads(json.dumps(run.result.as_json()))
    assert kept == {key: value for key, value in result.items() if key not in ("run", "report")}
    assert [entry.round for entry in run.rounds] == list(range(5))
    for key in ("bytes_down", "bytes_up", "bytes_samples"):
        assert sum(getattr(entry, key) for entry in run.rounds) == result[key]
    for entry in run.rounds:
        (part,) = entry.contributions
        assert part.status == "accepted" and part.device in ("native#1", "native#2") and len(part.digest) == 64
    experiment = run.experiment()
    assert experiment.run.rounds == 5 and experiment.model == sine().model
    assert weights_sha256(run.weights) == run.rounds[-1].weights_sha256 == result["weights_sha256"]
    with np.load(folder / "weights.npz") as arrays:
        assert int(arrays["rounds"]) == 5 and arrays["dense1.bias"].tobytes() == run.weights[32:64].tobytes()


def test_a_run_repeated_from_its_own_experiment_file_gives_its_weights(
    command: Command, finished: tuple[Path, CommandResult]
) -> None:
    folder, said = finished
    again = json_object(command("train", folder / "experiment.toml", "--out", "again", "--json", "--test-device", "native:1"))
    assert again["weights_sha256"] == json_object(said)["weights_sha256"]


@pytest.mark.parametrize("name", ["train", "simulate"])
def test_a_run_that_cannot_begin_leaves_no_folder(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "own.toml").write_text(
        '[task]\nkind = "folder"\npath = "nowhere"\n[model]\ninput = [2]\nloss = "mse"\n'
        'layers = [{ op = "dense", units = 3 }, { op = "dense", units = 1, local = true }]\n'
    )
    assert "nowhere: no such folder" in command(name, "own.toml").error
    assert not list(tmp_path.glob("runs/*"))


def test_report_writes_the_page_of_a_run(command: Command, run_copy: Path) -> None:
    (run_copy / "report.html").unlink()
    said = command("report", run_copy)
    assert said.code == 0 and said.out.strip() == str(run_copy / "report.html")
    assert (run_copy / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_report_of_several_runs_names_the_runs_left_out(
    command: Command, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    twin = shutil.copytree(run_copy, tmp_path / "twin")
    said = command("report", run_copy, twin, tmp_path / "absent")
    assert said.code == 0 and said.out.strip() == "comparison.html"
    assert f"left out: {tmp_path / 'absent'}: not a run folder" in said.err
    assert "not a run folder" in Path("comparison.html").read_text()
    said = command("report", run_copy, tmp_path / "absent", "-o", "other.html")
    assert said.code == 1 and "two are needed" in said.err and not Path("other.html").exists()


def test_adapt_shows_unseen_clients_before_and_after(command: Command, finished: tuple[Path, CommandResult]) -> None:
    result = json_object(command("adapt", finished[0], "--tasks", 3, "--json"))
    assert (result["metric"], result["samples"]) == ("mse", 8)
    assert [client["client"] for client in result["clients"]] == [0, 1, 2]
    # the same clients as in the meta-test
    pairs = json_object(finished[1])["meta_test"]["per_task"]
    assert [[client["before"], client["after"]] for client in result["clients"]] == pairs
    one = json_object(command("adapt", finished[0], "--tasks", 1, "--first", 2, "--samples", 5, "--json"))
    assert [client["client"] for client in one["clients"]] == [2] and one["samples"] == 5
    table = command("adapt", finished[0], "--tasks", 1)
    assert "sin(x" in table.out and "mean" in table.out


def test_codegen_draws_the_arena_over_time(command: Command, tmp_path: Path) -> None:
    said = command("codegen", SINE, "--board", "mps2", "-o", tmp_path / "out", "--explain")
    arena = manifest(sine()).arena
    rows = [line for line in said.out.splitlines() if "█" in line]
    assert said.code == 0 and len(rows) == len(arena.tensors)
    for row in rows:
        tensor = next(each for each in arena.tensors if f" {each.name} " in row)
        assert row.count("█") == tensor.last - tensor.first + 1
        assert row.count("█") + row.count("·") == len(arena.steps)


def test_codegen_prints_its_manifest(command: Command, tmp_path: Path) -> None:
    found = json_object(command("codegen", SINE, "--board", "mps2", "-o", tmp_path / "out", "--json"))
    assert found["board"] == "mps2" and found["ram_total"] < found["ram_available"]
    written = {"protocol.hpp", "status.hpp", "board.hpp", "model.hpp", "op_headers.hpp", "manifest.json"}
    written |= {"device_facts.hpp", "adaptation.hpp", "own_program.hpp", "sine_waves.hpp"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written


def test_codegen_and_estimate_print_the_layers_that_a_budget_picks(command: Command, tmp_path: Path) -> None:
    start = tmp_path / "start.npz"
    np.savez(start, **{"dense1.kernel": np.zeros((1, 32), np.float32), "dense1.bias": np.zeros(32, np.float32)})
    budget = ("--set", "model.trainable=budget:14B", "--set", f"model.weights={start}")
    refused = command("codegen", SINE, "--board", "mps2", "-o", tmp_path / "out", *budget)
    smallest = refused.error.partition("the smallest budget that works is 'budget:")[2].partition("'")[0]
    assert smallest.endswith("B")
    whole = manifest(sine()).memory.ram_total
    for made, text in (
        (("codegen", SINE, "--board", "mps2", "-o", tmp_path / "out"), f"RAM {whole:,} → "),
        (("estimate", SINE, "--board", "nano33ble"), "dense2, dense3"),
    ):
        said = command(*made, "--set", f"model.trainable=budget:{whole - 1}B", "--set", f"model.weights={start}")
        assert said.code == 0 and text in said.out and "trains 2 of 3 layers" in said.out, said


def test_doctor_prints_json_and_nothing_else(command: Command) -> None:
    said = command("doctor", "--json")
    assert said.code == 0 and said.out.count("\n") == 1
    assert {"name", "ok", "remedy"} <= set(json.loads(said.out)[0])


@pytest.mark.parametrize(
    ("board", "fewest", "most", "estimate"),
    [
        pytest.param("mps2", 1_000, 100_000, "never checked on silicon", marks=needs_board("mps2")),
        # this board computes floating point in software
        pytest.param("rv32", 100_000, 1_000_000, "no cycles", marks=needs_board("rv32")),
    ],
)
@pytest.mark.xdist_group("emulator-qemu")
@pytest.mark.usefixtures("few_steps")
def test_bench_prints_the_counted_instructions(
    command: Command, monkeypatch: pytest.MonkeyPatch, board: str, fewest: int, most: int, estimate: str
) -> None:
    if board == "rv32":  # single steps of floating point in software take long; mps2 measures the stack
        monkeypatch.setattr(stack, "deepest", lambda *_: 0)
    figures = json_object(command("bench", "kernels", SINE, "--board", board, "--json"))
    if board == "mps2":
        assert 256 < figures["stack_bytes"] < board_facts.STACK_BYTES and figures["textbook"]["stack_bytes"] > 256
    counts = figures["instructions_per_step"]
    assert set(counts) == {"local", "global", "full"} and fewest < counts["local"] < counts["global"] <= counts["full"] < most
    assert 0 < figures["ram_bytes"] < 262_144
    assert counts["full"] < figures["textbook"]["instructions_per_step"]["full"] and estimate in figures["estimate"]


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
def test_the_demo_prints_its_figures(command: Command, tmp_path: Path) -> None:
    said = command("demo", "--rounds", 4, "--out", tmp_path / "demo")
    assert said.code == 0
    for words in ("before adaptation", "after", "dense float32", "instructions per training step", "report.html"):
        assert words in said.out
    result = store.read_run(tmp_path / "demo").result
    assert result is not None and result.devices[3].url == "qemu#4"
    assert result.instructions_per_step is not None and "full" in result.instructions_per_step


def test_the_demo_without_an_emulator_says_so(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = board_requirements.Requirement("qemu-system-arm", True, "running", "qemu-system-arm", None, to_build=False)
    genuine = board_facts.Board.missing_tools
    monkeypatch.setattr(board_facts.Board, "missing_tools", lambda board: [lacking] if board.name == "mps2" else genuine(board))
    said = command("demo", "--rounds", 2, "--out", tmp_path / "demo")
    assert said.code == 0 and "qemu-system-arm missing" in said.err
    assert store.read_run(tmp_path / "demo").devices[3].url == "native#4"


# --- Continued ---


def test_resuming_a_finished_run_prints_its_result_again(
    command: Command, finished: tuple[Path, CommandResult], run_copy: Path
) -> None:
    said = command("train", "--resume", run_copy, "--json")
    again, result = json_object(said), json_object(finished[1])
    assert "finished already, with all of its 5 rounds" in said.err
    assert {**again, "run": "", "report": ""} == {**result, "run": "", "report": ""}
    assert store.read_run(run_copy).sessions == store.read_run(finished[0]).sessions


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "run.seed=9"], "leave --set run.seed=9 out"),
        (["--out", "elsewhere"], "leave --out out"),
        ([], "give an experiment file"),
    ],
)
def test_resume_refuses_options_that_change_the_run(command: Command, run_copy: Path, arguments: list[str], words: str) -> None:
    said = command("train", *(["--resume", run_copy] if arguments else []), *arguments)
    assert said.code == 2 and words in said.error


def test_another_experiment_is_refused(command: Command, run_copy: Path) -> None:
    said = command("train", SINE, "--resume", run_copy)  # 3000 rounds, not 5
    assert said.code == 1 and str(SINE) in said.error and "not the experiment of" in said.error
    assert command("train", run_copy / "experiment.toml", "--resume", run_copy).code == 0


def test_a_run_in_use_is_refused_with_its_process(command: Command, run_copy: Path) -> None:
    with store.reopen(run_copy):
        said = command("train", "--resume", run_copy)
        assert said.code == 1 and f"{run_copy}: process {os.getpid()} is training" in said.error
        assert command("report", run_copy).code == 0  # reading is allowed meanwhile


# --- The serial line ---


def test_faults_change_no_bit_and_a_recording_is_readable(command: Command, finished: tuple[Path, CommandResult]) -> None:
    arguments = [
        *SHORT,
        "--device",
        "native:2",
        "--fault",
        "flip=0.01",
        "--fault",
        "seed=3",
        "--record",
        "line.record",
        "--json",
    ]
    result = json_object(command("train", SINE, "--out", "run", *arguments))
    assert result["weights_sha256"] == json_object(finished[1])["weights_sha256"]
    said = command("monitor", "line.record")
    assert said.code == 0 and "Configure" in said.out and "Pull" in said.out
    assert command("monitor", SINE).code == 1


def test_an_invalid_fault_is_wrong_usage(refused: Callable[..., str]) -> None:
    assert "did you mean 'flip'?" in refused(2, SINE, "--fault", "flp=0.1")
