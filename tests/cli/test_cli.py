"""The command line: its help, JSON alone on standard output, the files in a run's folder, and errors with a remedy."""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clocks import HUNG_SECONDS, FakeClock, wait_until
from fake_device import FakeBoard, FakeLine, Fault
from small_runs import DATA, OMNIGLOT, SINE, manifest, needs_board, needs_data, needs_qemu, sine

import tinymetafed
from tinymetafed import cli
from tinymetafed.bench import stack
from tinymetafed.devices import launch, ports, running
from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.running import build_firmware
from tinymetafed.runs import run_figures, store, training
from tinymetafed.runs.setup import design_of
from tinymetafed_codegen import boards
from tinymetafed_codegen.protocol import Dtype

COMMAND = Path(sys.executable).with_name("tinymetafed")
SHORT = ("--set", "run.rounds=5", "--set", "evaluation.tasks=3", "--set", "evaluation.every=0", "--test-device", "native:1")
COLLAPSING = ("strategy.alpha_max=1", "strategy.global_learning_rate=0.5")
RUN_FILES = {"experiment.toml", "run.db", "lock", "weights.npz", "report.html"}


@dataclasses.dataclass(frozen=True)
class CommandResult:
    """Output and exit code of a command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error's text. Asserts that it is one error, without traceback, and that standard output is empty."""
        assert "Traceback" not in self.err and self.out == "", self
        assert self.code in (1, 2) and self.err.count("Error:") == 1, self
        return " ".join(self.err.split())


Command = Callable[..., CommandResult]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, built_once: None) -> Command:
    """``command("train", …)`` runs the installed entry point in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["tinymetafed", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        said = capsys.readouterr()
        return CommandResult(code, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CommandResult]:
    """A short run of the installed command in a process of its own: its folder and its result."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    arguments = [COMMAND, "train", SINE, "--device", "native:2", "--out", folder, "--json", *SHORT]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder.parent)
    return folder, CommandResult(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run_copy(finished: tuple[Path, CommandResult], tmp_path: Path) -> Path:
    """A copy of a finished run, which a test may damage."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


def json_object(said: CommandResult) -> dict[str, Any]:
    """The JSON object on standard output, which must hold nothing else."""
    assert said.code == 0, said
    found = json.loads(said.out)
    assert isinstance(found, dict)
    assert said.out.count("\n") <= 1
    return found


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


def test_python_m_tinymetafed_runs_the_command(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        module = [sys.executable, "-m", "tinymetafed", *words]
        return subprocess.run(module, capture_output=True, text=True, check=False, cwd=tmp_path)

    shown = run("--help")
    assert shown.returncode == 0 and "Usage: tinymetafed [OPTIONS] COMMAND" in shown.stdout
    assert run("--version").stdout.strip() == tinymetafed.__version__
    assert "Usage: tinymetafed bench" in run("bench", "--help").stdout
    wrong = run("simulate", "nowhere.toml")
    assert wrong.returncode == 2 and "nowhere.toml: no such experiment file" in wrong.stderr


def test_version(command: Command) -> None:
    assert command("--version").out.strip() == run_figures.versions()["tinymetafed"]


def test_new_prints_next_steps_and_overwrites_nothing(command: Command) -> None:
    said = command("new", "my gestures")
    assert said.code == 0 and "cd 'my gestures'" in said.out and "tinymetafed train experiment.toml" in said.out
    assert "my gestures: there is something already" in command("new", "my gestures").error
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
    "estimate", "collapsed", "devices", "versions", "run", "report", "untrained",
}  # fmt: skip
NESTED_KEYS = {
    "meta_test": {"metric", "before", "after", "after_ci95", "n_tasks", "n_clients", "per_task", "spread"},
    "untrained": {"metric", "before", "after", "after_ci95", "n_tasks", "n_clients", "per_task"},
    "d_curve": {"metric", "samples", "d", "mean", "ci95", "n_tasks", "n_clients"},
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
    assert training.sha256(run.weights) == run.rounds[-1].weights_sha256 == result["weights_sha256"]
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
    written |= {"device_facts.hpp", "adaptation.hpp", "own_program.hpp"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written


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
        assert 256 < figures["stack_bytes"] < boards.STACK_BYTES and figures["textbook"]["stack_bytes"] > 256
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
    lacking = boards.Requirement("qemu-system-arm", True, "running", "qemu-system-arm", None, to_build=False)
    genuine = boards.Board.missing_tools
    monkeypatch.setattr(boards.Board, "missing_tools", lambda board: [lacking] if board.name == "mps2" else genuine(board))
    said = command("demo", "--rounds", 2, "--out", tmp_path / "demo")
    assert said.code == 0 and "qemu-system-arm missing" in said.err
    assert store.read_run(tmp_path / "demo").devices[3].url == "native#4"


# --- Interrupted ---


def children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("per_round", [1, 2])
def test_ctrl_c_leaves_the_last_finished_round_and_no_process(tmp_path: Path, per_round: int) -> None:
    folder = tmp_path / "run"
    overrides = ["--set", "run.rounds=1000000", "--set", f"run.devices_per_round={per_round}", "--set", "evaluation.every=0"]
    arguments = [COMMAND, "train", SINE, "--device", "native:2", "--out", folder, "--json", *overrides]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path) as host:
        wait_until(lambda: host.poll() is not None or ((folder / "run.db").exists() and store.read_run(folder).trained > 50))
        processes = children(host.pid)
        assert len(processes) >= 4  # two devices to train, two to test, and a watchdog for each
        host.send_signal(signal.SIGINT)
        out, err = host.communicate(timeout=HUNG_SECONDS)
    assert host.returncode == 130
    assert out == "" and "Traceback" not in err
    assert err.count("Interrupted") == 1
    wait_until(lambda: not any(map(alive, processes)))
    assert f"continue with: tinymetafed train --resume {folder} --device native:2" in err
    run = store.read_run(folder)
    assert run.trained > 50 and run.result is None
    assert training.sha256(run.weights) == run.rounds[-1].weights_sha256
    with np.load(folder / "weights.npz") as arrays:
        assert int(arrays["rounds"]) == run.trained


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


# --- Errors before anything is written ---


@pytest.fixture
def refused(command: Command, tmp_path: Path) -> Callable[..., str]:
    """``refused(code, …)`` trains; asserts the exit code and that no file is left; returns the error's text."""

    def run(code: int, *arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        said = command("train", *arguments, "--test-device", "native:1", "--json", "--out", "run")
        assert said.code == code, said
        assert sorted(tmp_path.rglob("*")) == before
        return said.error

    return run


def test_a_folder_in_use_is_refused_and_untouched(command: Command, run_copy: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run_copy.iterdir()}
    said = command("train", SINE, *SHORT, "--device", "native:1", "--out", run_copy)
    assert said.code == 1
    assert str(run_copy) in said.error and "not empty" in said.error and "--out" in said.error
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run_copy.iterdir()}


@pytest.mark.parametrize(
    ("override", "culprit", "remedy"),
    [
        ("run.rouns=3", "run.rouns", "did you mean 'rounds'?"),
        ("run.rounds=ten", "run.rounds", "integer"),
        ("run.rounds=-1", "run.rounds", "greater than or equal to 0"),
        ("run.rounds=99999999999", "run.rounds", "less than or equal"),
        ("strategy.top_p=0", "strategy.top_p", "greater than 0"),
        ("model.input=[0]", "model.input", "greater than or equal to 1"),
        ('model.layers=[{op="dense",units=99999999}]', "units", "less than or equal"),
        ('model.layers=[{op="dense",units=1,local=true}]', "every layer is local", "leave 'local' out"),
        ('model.layers=[{op="relu"}]', "nothing to train", "add a dense or conv2d layer"),
        ('model.layers=[{op="dense",units=2},{op="dense",units=2,local=true}]', "task 'sine'", "= 1"),
        ("model.input=[2]", "task 'sine'", "[1]"),
        ("model.loss=softmax_cross_entropy", "softmax_cross_entropy", "at least 2 outputs"),
        ("nonsense", "--set nonsense", "run.rounds=50"),
    ],
)
def test_a_bad_experiment_is_wrong_usage(refused: Callable[..., str], override: str, culprit: str, remedy: str) -> None:
    text = refused(2, SINE, "--set", override, "--device", "native:1")
    assert culprit in text and remedy in text


OWN_DATA = """
[task]
kind = "folder"
path = "data"
held_out = ["carol"]
label = "activity"
support = 2
query = 2
adapt = 2
[model]
input = [2]
loss = "softmax_cross_entropy"
layers = [ { op = "dense", units = 4 }, { op = "dense", units = 2, local = true } ]
"""
ROWS = ["t,ax,ay,activity", *(f"{i / 50},{i % 7}.5,{i * i % 5},{'run' if i % 8 < 4 else 'idle'}" for i in range(32))]
GOOD = "\n".join(ROWS)
EQUAL = ROWS[0] + "\n1,2,3,run\n1,2,3,idle" * 8


def changed(cell: str, to: str) -> str:
    """The rows with another cell in the place of all that are equal."""
    return re.sub(rf"(?m)(?<=,){re.escape(cell)}(?=,|$)", to, GOOD)


# The rows of bob and carol, who is held out; options; the error.
BAD_DATA: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "one class": (changed("run", "idle"), changed("run", "idle"), (), r"1 class \(idle\), but the model's last layer has 2"),
    "a class that nobody trains on": (
        GOOD, changed("run", "walk"), ("model.layers.1.units=3",), r"carol\.csv: class 'walk' is in held-out clients only",
    ),
    "a window longer than every run": (
        GOOD, GOOD, ("task.time=t", "task.window=8", "model.input=[16]"), r"the longest run of one label .* has 4 rows; lower",
    ),
    "beyond float32": (GOOD, changed("0.5", "1e39"), (), r"carol\.csv: row 2, column 2 \('ax'\) '1e39' is not a finite number"),
    "NaN": (GOOD, changed("0.5", "NaN"), (), r"carol\.csv: row 2, column 2 \('ax'\) 'NaN' .*set task\.missing"),
    "too large to compute with": (GOOD, changed("0.5", "3e38"), (), r"carol\.csv: 'ax' = 3e\+38 is too large .* normalised"),
    "infinite once it is normalised": (
        GOOD, changed("0.5", "3e38"), ("data.shift=[0,0]", "data.scale=[9,1]"), r"'ax' = 3e\+38 is NaN or infinite once",
    ),
    "nothing but constants": (EQUAL, EQUAL, (), r"data: all samples are equal, so they tell no classes"),
    "no rows": (ROWS[0], GOOD, (), r"bob\.csv: no rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD_DATA))
def test_bad_data_are_refused_before_anything_is_written(refused: Callable[..., str], tmp_path: Path, case: str) -> None:
    bob, carol, keys, said = BAD_DATA[case]
    (tmp_path / "data").mkdir()
    for name, rows in (("alice", GOOD if bob == ROWS[0] else bob), ("bob", bob), ("carol", carol)):
        (tmp_path / "data" / f"{name}.csv").write_text(rows)
    (tmp_path / "own.toml").write_text(OWN_DATA)
    options = [word for key in (*keys, *["task.ignore=[1]"] * ("task.time=t" not in keys)) for word in ("--set", key)]
    assert re.search(said, refused(1, "own.toml", *options, "--device", "native:1"))


def test_a_missing_experiment_file_is_wrong_usage(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "examples/sine.toml" in refused(2, tmp_path / "none.toml")


@pytest.mark.parametrize("arguments", [["train"], ["trian", "x.toml"], ["train", SINE, "--rounds", "5"]])
def test_a_mistyped_command_is_wrong_usage(command: Command, arguments: list[object]) -> None:
    said = command(*arguments)
    assert said.code == 2 and said.error


LARGE = (
    'model.layers=[{op="dense",units=300,activation="relu"},{op="dense",units=300,activation="relu"},'
    '{op="dense",units=1,local=true}]'
)


def test_a_model_too_large_for_the_board_is_refused_with_the_map(refused: Callable[..., str], command: Command) -> None:
    for text in (
        refused(2, SINE, "--set", LARGE, "--device", "qemu:1"),
        command("codegen", SINE, "--set", LARGE, "--board", "mps2", "-o", "out").error,
    ):
        assert "262,144" in text and "dense2.kernel [300, 300]" in text and "received weights" in text
        assert "or choose a larger board" in text
    assert not Path("out").exists()


def test_an_unknown_board_is_wrong_usage(command: Command) -> None:
    said = command("codegen", SINE, "--board", "mps3", "-o", "out")
    assert said.code == 2 and "mps2" in said.error


@pytest.mark.parametrize("url", ["native:0", "nativ:2", "qemu:1@native"])
def test_an_invalid_device_is_wrong_usage(refused: Callable[..., str], url: str) -> None:
    assert f"device '{url}'" in refused(2, SINE, "--device", url)


# Data


def test_omniglot_needs_its_data(
    refused: Callable[..., str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pooch", reason="pooch is not installed: nothing can be downloaded")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # no network
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    text = refused(1, OMNIGLOT)
    assert "small1.zip: cannot be downloaded" in text and f"put it into {cache / 'tinymetafed' / 'data'}" in text
    missing = tmp_path / "nowhere"
    text = refused(1, OMNIGLOT, "--data", missing)
    assert str(missing) in text and "brendenlake/omniglot" in text


@needs_data
def test_a_truncated_archive_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    cut = tmp_path / "omniglot_background_small1.zip"
    cut.write_bytes((DATA / cut.name).read_bytes()[:500_000])
    text = refused(1, OMNIGLOT, "--data", tmp_path)
    assert str(cut) in text and "damaged, or another version" in text


def test_another_data_set_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    other = tmp_path / "digits.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("recordings/0_jackson_0.wav", b"RIFF")
    text = refused(1, OMNIGLOT, "--data", other)
    assert str(other) in text and "another data set" in text


# Ports and boards


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeBoard]:
    """``fake(…)`` starts a fake board that claims to hold the sine example's firmware; waiting uses a fake clock."""
    clock = FakeClock()
    open_line = ports.open_transport
    monkeypatch.setattr(running, "launch", functools.partial(launch.launch, clock=clock))
    monkeypatch.setattr(running, "Fleet", functools.partial(Fleet, clock=clock))

    def start(**faults: Any) -> FakeBoard:
        about = manifest(sine())
        hello = {"window": 1024, "model_hash": bytes.fromhex(about.model_hash)}
        identity = {"weights": about.n_global, "downlink": Dtype[about.downlink], **hello}
        board = FakeBoard(clock=clock, **{**identity, **faults})
        line = FakeLine(board, clock)
        monkeypatch.setattr(ports, "open_transport", lambda url, **about: line if url == board.url else open_line(url, **about))
        return board

    return start


def test_a_missing_port_is_named(refused: Callable[..., str]) -> None:
    text = refused(1, SINE, "--device", "/dev/ttyNOPE9")
    assert "/dev/ttyNOPE9" in text and "does not exist" in text and "plug the board in" in text


def test_a_busy_port_is_named(refused: Callable[..., str], fake: Callable[..., FakeBoard]) -> None:
    far, near = os.openpty()
    try:
        fcntl.flock(near, fcntl.LOCK_EX | fcntl.LOCK_NB)
        text = refused(1, SINE, "--device", os.ttyname(near))
        assert os.ttyname(near) in text and "is busy" in text and "close the program" in text
    finally:
        os.close(far)
        os.close(near)


def test_firmware_of_another_model_is_refused(refused: Callable[..., str], built_once: None) -> None:
    other = build_firmware(
        design_of(sine('model.layers=[{op="dense",units=3,activation="relu"},{op="dense",units=1}]'), "other"), "native"
    )
    with subprocess.Popen([other.program, "--pty"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().split()[1]
            text = refused(1, SINE, "--device", port)
        finally:
            process.kill()
    assert port in text and "flash" in text
    assert other.manifest.model_hash in text and manifest(sine()).model_hash in text


def test_firmware_of_another_schema_is_refused(refused: Callable[..., str], fake: Callable[..., FakeBoard]) -> None:
    device = fake(schema_hash=b"\x5a" * 8)
    text = refused(1, SINE, "--device", device.url)
    assert device.url in text and "5a" * 8 in text and "flash" in text


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"silent": True}, "no answer to Hello"),
        ({"noise": b"\xa5\x5a\xff"}, "another program is on the board"),
        ({"window": 20}, "receive_window = 20"),
    ],
    ids=["nothing", "garbage", "tiny window"],
)
def test_a_board_that_answers_nothing_or_garbage_is_named(
    refused: Callable[..., str], fake: Callable[..., FakeBoard], behaviour: dict[str, Any], words: str
) -> None:
    device = fake(**behaviour)
    text = refused(1, SINE, "--device", device.url)
    assert device.url in text and words in text


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"faults": [Fault.NONE] * 6 + [Fault.GARBAGE_ONLY] * 10_000}, "no valid answer"),
        ({"faults": [Fault.NONE] * 6, "silent": True}, "no answer"),
        ({"faults": [Fault.NONE] * 6 + [Fault.VANISH]}, "no device is left"),
        ({"steps": 80, "fails_at": 3}, "NOT_FINITE"),
        ({"steps": 80}, "delta chunk at rank 0"),  # the deltas of this fake board are not valid
    ],
    ids=["garbage", "nothing", "vanishes", "fails", "false delta"],
)
def test_a_board_that_fails_in_mid_run_leaves_no_finished_run(
    command: Command, fake: Callable[..., FakeBoard], behaviour: dict[str, Any], words: str
) -> None:
    device = fake(**behaviour)
    said = command("train", SINE, *SHORT, "--device", device.url, "--out", "run", "--json")
    assert said.code == 1 and words in said.error
    assert ("tinymetafed train --resume run" in said.err) == (words != "NOT_FINITE")
    run = store.read_run(Path("run"))
    assert run.result is None and run.trained == 0


# Weights


def flip(run: Path) -> None:
    content = bytearray((run / "run.db").read_bytes())
    content[content.index(b"native#1") + 3] ^= 1
    (run / "run.db").write_bytes(content)


def truncate(run: Path) -> None:
    (run / "run.db").write_bytes((run / "run.db").read_bytes()[:9000])


def another_version(run: Path) -> None:
    content = bytearray((run / "run.db").read_bytes())
    content[63] += 1  # user_version
    (run / "run.db").write_bytes(content)


@pytest.mark.parametrize("verb", [["train", "--resume"], ["adapt"], ["report"], ["export", "-o", "w.npz"]], ids=lambda v: v[0])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (flip, "is not what was written; restore"),
        (truncate, "malformed"),
        (another_version, f"a store of format {store.FORMAT + 1}"),
    ],
)
def test_a_damaged_store_is_refused(
    command: Command, run_copy: Path, verb: list[str], spoil: Callable[[Path], None], words: str
) -> None:
    spoil(run_copy)
    before = {path.name: path.read_bytes() for path in run_copy.iterdir()}
    said = command(*verb, run_copy)
    assert said.code == 1
    assert str(run_copy / "run.db") in said.error and words in said.error
    assert {path.name: path.read_bytes() for path in run_copy.iterdir()} == before and not Path("w.npz").exists()


@pytest.mark.parametrize("verb", [["adapt"], ["report"], ["export", "-o", "w.h"], ["train", "--resume"]], ids=lambda v: v[0])
def test_a_folder_without_a_run_is_refused(command: Command, tmp_path: Path, verb: list[str]) -> None:
    said = command(*verb, tmp_path)
    assert said.code == 1 and str(tmp_path) in said.error and "run folder" in said.error
    Path("runs/waves").mkdir(parents=True)
    assert "did you mean runs/waves?" in command(*verb, "runs/wave").error


# Runs that fail or learn nothing


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["strategy.output_clamp=0", "strategy.global_learning_rate=10"], ["training failed", "learning rate"]),
        (
            ["strategy.output_clamp=0", "strategy.global_learning_rate=0.3"],
            ["training diverged", "float16", "strategy.global_learning_rate"],
        ),
        (["strategy.global_learning_rate=0.5"], ["collapsed", "strategy.global_learning_rate"]),
    ],
    ids=["diverges on the device", "diverges on the server", "collapses"],
)
def test_a_run_that_fails_is_not_a_finished_one(command: Command, overrides: list[str], words: list[str]) -> None:
    settings = [
        word for key in ["run.rounds=60", "strategy.alpha_max=1", "evaluation.tasks=20", *overrides] for word in ("--set", key)
    ]
    said = command("train", SINE, "--device", "native:1", "--test-device", "native:1", "--out", "run", "--json", *settings)
    assert said.code == 1
    assert [word for word in words if word not in said.error] == []
    if store.read_run(Path("run")).result is not None:  # it ran to the end without learning anything, which the report says
        assert 'class="banner"' in Path("run/report.html").read_text()
        again = command("train", "--resume", "run", "--json")
        assert again.code == 1 and "collapsed" in again.error


def test_a_collapse_during_training_is_a_warning_until_the_end(command: Command) -> None:
    keys = ["run.rounds=100", "evaluation.every=10", "evaluation.tasks=20", *COLLAPSING]
    settings = [word for key in keys for word in ("--set", key)]
    said = command("simulate", SINE, "--out", "run", "--json", *settings)
    warning, error = said.error.split("Error:")
    assert warning.count("give the same answer whatever their input") == 1 and "after 10 rounds" in warning
    assert said.code == 1 and "training collapsed: after 100 rounds" in error
    assert store.read_run(Path("run")).result is not None


@pytest.fixture
def little_room() -> Iterator[None]:
    """Limits files to 4 KB, which a writer sees as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_and_leaves_no_run(command: Command, request: pytest.FixtureRequest) -> None:
    build_firmware(design_of(sine(), "test"), "native")  # not under test here
    request.getfixturevalue("little_room")
    said = command("train", SINE, *SHORT, "--device", "native:1", "--out", "run", "--json")
    assert said.code == 1 and "run/run.db" in said.error and "cannot be written" in said.error
    assert not Path("run/run.db").exists()


def test_an_invalid_board_file_is_reported_and_other_boards_still_work(command: Command, own_boards: Path) -> None:
    (own_boards / "broken.json").write_text('{"name": "x"}')
    said = command("simulate", SINE, *SHORT[:-2], "--out", "run", "--json")
    assert said.code == 0 and set(json.loads(said.out)["estimate"]["boards"]) == {"esp32dev", "nano33ble"}
    first, *_ = said.err.splitlines()
    assert first.startswith(f"Warning: {own_boards / 'broken.json'}: not a usable board file: line 1, 'tinymetafed' is missing")
    assert said.err.count("broken.json") == 1
    for device in ("native:1@broken", "/dev/ttyNONE@broken", "broken"):
        refused = command("train", SINE, *SHORT, "--device", device, "--out", "other")
        assert refused.code == 2 and "broken.json: not a usable board file" in refused.error
    assert not Path("other").exists()


def test_a_board_without_environment_is_refused_before_anything_is_built(command: Command, own_boards: Path) -> None:
    shutil.copy(own_boards / "native.json", own_boards / "lonely.json")
    said = command("train", SINE, *SHORT, "-d", "native:1", "-d", "native:1@lonely", "--out", "run")
    assert said.code == 1 and f"{own_boards / 'environments.ini'} has no [env:lonely]; write [env:lonely]" in said.error
    assert "building" not in said.err and not Path("run").exists()
