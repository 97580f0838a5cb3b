"""The command line: help that teaches, JSON alone on standard output, run folders that never lie, errors that help."""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_device import FakeDevice, Fault
from small_runs import DATA, OMNIGLOT, SINE, manifest, needs_data, needs_qemu, sine

from tinymetafed import cli, firmware, runner, store
from tinymetafed.link import launch
from tinymetafed.link.session import Session

COMMAND = Path(sys.executable).with_name("tinymetafed")
SHORT = ("--set", "run.rounds=5", "--set", "evaluation.tasks=3", "--set", "evaluation.every=0", "--test-device", "native:1")
RUN_FILES = {"experiment.toml", "manifest.json", "journal.jsonl", "weights.npz", "result.json", "report.html"}


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error's text, once it is known to be one: named as such, no traceback, nothing on standard output."""
        assert "Traceback" not in self.err and self.out == "", self
        assert self.code in (1, 2) and self.err.count("Error:") == 1, self
        return " ".join(self.err.split())


Command = Callable[..., Said]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, built_once: None) -> Command:
    """``command("train", …)`` runs the installed entry point in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["tinymetafed", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A short run by the installed command, in a process of its own."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    arguments = [COMMAND, "train", SINE, "--device", "native:2", "--out", folder, "--json", *SHORT]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder.parent)
    return folder, Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run_copy(finished: tuple[Path, Said], tmp_path: Path) -> Path:
    """A finished run to spoil."""
    return Path(shutil.copytree(finished[0], tmp_path / "copy"))


def the_object(said: Said) -> dict[str, Any]:
    """The one JSON object that standard output must be."""
    assert said.code == 0, said
    found = json.loads(said.out)
    assert isinstance(found, dict)
    assert said.out.count("\n") <= 1
    return found


# --- Help ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["train", "adapt", "report", "codegen", "doctor", "bench", "demo"]),
        (
            ["train"],
            ["tinymetafed train examples/sine.toml", "--device", "native:4", "qemu:4", "/dev/ttyACM0", "--data", "--set"],
        ),
        (["adapt"], ["tinymetafed adapt", "--tasks", "--samples", "--device"]),
        (["report"], ["RUN", "report.html"]),
        (["codegen"], ["tinymetafed codegen examples/sine.toml", "--board", "--output"]),
        (["doctor"], ["Check this machine", "--json"]),
        (["bench"], ["kernels"]),
        (["bench", "kernels"], ["instructions", "--board"]),
        (["demo"], ["--rounds", "--out"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].isalpha() else "",
)
def test_help_teaches(command: Command, arguments: list[str], words: list[str]) -> None:
    said = command(*arguments, "--help")
    assert said.code == 0
    text = " ".join(said.out.replace("│", " ").split())
    assert [word for word in words if word not in text] == []


def test_version(command: Command) -> None:
    assert command("--version").out.strip() == runner.versions()["tinymetafed"]


# --- What a run leaves ---


def test_train_prints_one_json_object_and_nothing_else(finished: tuple[Path, Said]) -> None:
    result = the_object(finished[1])
    assert result["rounds"] == 5
    assert len(result["weights_sha256"]) == 64
    assert 5 * 4 * 1120 == result["bytes_up_dense"] > result["bytes_up"] > 0
    assert result["bytes_down"] > 5 * 2 * 1120  # float16 values, and framing
    assert result["bytes_samples"] == 0
    assert result["seconds"] > 0
    assert {"metric", "before", "after", "n_tasks"} <= set(result["meta_test"])
    assert (result["meta_test"]["metric"], result["meta_test"]["n_tasks"]) == ("mse", 3)


def test_a_run_folder_holds_what_happened(finished: tuple[Path, Said]) -> None:
    folder, said = finished
    result = the_object(said)
    assert {path.name for path in folder.iterdir()} == RUN_FILES
    stored = json.loads((folder / "result.json").read_text())
    assert stored == {key: result[key] for key in stored}
    assert set(result) - set(stored) == {"run", "report"}
    entries = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    rounds = [entry for entry in entries if entry["kind"] == "round"]
    assert [entry["round"] for entry in rounds] == list(range(5))
    for key in ("bytes_down", "bytes_up", "bytes_samples"):
        assert sum(entry[key] for entry in rounds) == result[key]
    experiment = store.read_experiment(folder)
    assert experiment.run.rounds == 5 and experiment.model == sine().model
    with np.load(folder / "weights.npz") as arrays:
        assert int(arrays["rounds"]) == 5
    weights = store.read_weights(folder, manifest(experiment))
    assert runner.sha256(weights) == result["weights_sha256"]


def test_a_run_repeated_from_its_own_experiment_file_gives_its_weights(command: Command, finished: tuple[Path, Said]) -> None:
    folder, said = finished
    again = the_object(command("train", folder / "experiment.toml", "--out", "again", "--json", "--test-device", "native:1"))
    assert again["weights_sha256"] == the_object(said)["weights_sha256"]


def test_report_writes_the_page_of_a_run(command: Command, run_copy: Path) -> None:
    (run_copy / "report.html").unlink()
    said = command("report", run_copy)
    assert said.code == 0 and said.out.strip() == str(run_copy / "report.html")
    assert (run_copy / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_adapt_shows_unseen_clients_before_and_after(command: Command, finished: tuple[Path, Said]) -> None:
    result = the_object(command("adapt", finished[0], "--tasks", 3, "--json"))
    assert (result["metric"], result["samples"]) == ("mse", 8)
    assert [client["client"] for client in result["clients"]] == [0, 1, 2]
    # The very clients of the meta-test.
    pairs = the_object(finished[1])["meta_test"]["per_task"]
    assert [[client["before"], client["after"]] for client in result["clients"]] == pairs
    one = the_object(command("adapt", finished[0], "--tasks", 1, "--first", 2, "--samples", 5, "--json"))
    assert [client["client"] for client in one["clients"]] == [2] and one["samples"] == 5
    table = command("adapt", finished[0], "--tasks", 1)
    assert "sin(x" in table.out and "mean" in table.out


def test_codegen_prints_its_manifest(command: Command, tmp_path: Path) -> None:
    found = the_object(command("codegen", SINE, "--board", "mps2", "-o", tmp_path / "out", "--json"))
    assert found["board"] == "mps2" and found["ram_total"] < found["ram_available"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"protocol.hpp", "board.hpp", "model.hpp", "manifest.json"}


def test_doctor_prints_json_and_nothing_else(command: Command) -> None:
    said = command("doctor", "--json")
    assert said.code == 0 and said.out.count("\n") == 1
    assert {"name", "ok", "remedy"} <= set(json.loads(said.out)[0])


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
def test_bench_counts_instructions_exactly(command: Command) -> None:
    figures = [the_object(command("bench", "kernels", SINE, "--json")) for _ in range(2)]
    assert figures[0] == figures[1]
    counts = figures[0]["instructions_per_step"]
    assert set(counts) == {"local", "global", "full"} and 1_000 < counts["local"] < counts["global"] <= counts["full"] < 100_000
    assert 0 < figures[0]["ram_bytes"] < 262_144


@needs_qemu
@pytest.mark.xdist_group("emulator-qemu")
def test_the_demo_ends_on_its_figures(command: Command, tmp_path: Path) -> None:
    said = command("demo", "--rounds", 4, "--out", tmp_path / "demo")
    assert said.code == 0
    for words in ("before adaptation", "after", "dense float32", "instructions per training step", "report.html"):
        assert words in said.out
    assert "qemu#4" in (tmp_path / "demo" / "result.json").read_text()
    assert "instructions_per_step" in json.loads((tmp_path / "demo" / "result.json").read_text())


def test_the_demo_without_an_emulator_says_so(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = firmware.Missing("qemu-system-arm", "running", "qemu-system-arm", to_build=False)
    genuine = firmware.missing_tools
    monkeypatch.setattr(firmware, "missing_tools", lambda board: [lacking] if board == "mps2" else genuine(board))
    said = command("demo", "--rounds", 2, "--out", tmp_path / "demo")
    assert said.code == 0 and "qemu-system-arm missing" in said.err
    assert "native#4" in (tmp_path / "demo" / "result.json").read_text()


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
        end = time.monotonic() + 60
        journal = folder / "journal.jsonl"
        while (
            host.poll() is None and time.monotonic() < end and not (journal.exists() and journal.read_text().count("\n") > 50)
        ):
            time.sleep(0.05)
        processes = children(host.pid)
        assert len(processes) >= 4  # two to train, two to test, and their watchdogs
        host.send_signal(signal.SIGINT)
        out, err = host.communicate(timeout=20)
    assert host.returncode == 130
    assert out == "" and "Traceback" not in err
    assert err.count("Interrupted") == 1
    end = time.monotonic() + 5
    while any(map(alive, processes)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, processes))
    lines = journal.read_text()
    assert lines.endswith("\n")
    with np.load(folder / "weights.npz") as arrays:
        trained = int(arrays["rounds"])
    assert trained - lines.count("\n") in (0, 1)  # interrupted just before its line, a round is finished none the less
    assert not (folder / "result.json").exists()
    assert np.isfinite(store.read_weights(folder, manifest(sine()))).all()


# --- Refusals before anything is written ---


@pytest.fixture
def refused(command: Command, tmp_path: Path) -> Callable[..., str]:
    """``refused(code, …)`` trains, must end with that exit code, and must leave nothing; gives the error's text."""

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
        ("run.rounds=0", "run.rounds", "greater than or equal to 1"),
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
def test_a_device_that_means_nothing_is_wrong_usage(refused: Callable[..., str], url: str) -> None:
    assert f"device '{url}'" in refused(2, SINE, "--device", url)


# Data


def test_omniglot_needs_its_data(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "--data PATH" in refused(1, OMNIGLOT)
    missing = tmp_path / "nowhere"
    text = refused(1, OMNIGLOT, "--data", missing)
    assert str(missing) in text and "https://github.com/brendenlake/omniglot" in text


@needs_data
def test_a_truncated_archive_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    cut = tmp_path / "omniglot_background_small1.zip"
    cut.write_bytes((DATA / cut.name).read_bytes()[:500_000])
    text = refused(1, OMNIGLOT, "--data", tmp_path)
    assert str(cut) in text and "get it again" in text


def test_another_data_set_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    other = tmp_path / "digits.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("recordings/0_jackson_0.wav", b"RIFF")
    text = refused(1, OMNIGLOT, "--data", other)
    assert str(other) in text and "another data set" in text


# Ports and boards


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that does not answer is given up in a second."""
    monkeypatch.setattr(runner, "launch", functools.partial(launch.launch, start=0.7))
    monkeypatch.setattr(launch, "Session", functools.partial(Session, deadline=0.05, retries=2))


@pytest.fixture
def fake() -> Iterator[Callable[..., FakeDevice]]:
    """``fake(…)`` is a device that claims to hold the sine example's firmware."""
    started: list[FakeDevice] = []

    def start(**faults: Any) -> FakeDevice:
        identity = {"weights": 1120, "window": 1024, "model_hash": bytes.fromhex(manifest(sine())["model_hash"])}
        started.append(FakeDevice(**{**identity, **faults}))
        return started[-1]

    yield start
    for device in started:
        device.close()


def test_a_port_that_does_not_exist(refused: Callable[..., str]) -> None:
    text = refused(1, SINE, "--device", "/dev/ttyNOPE9")
    assert "/dev/ttyNOPE9" in text and "does not exist" in text and "plug the board in" in text


def test_a_busy_port(refused: Callable[..., str]) -> None:
    far, near = os.openpty()
    try:
        fcntl.flock(near, fcntl.LOCK_EX | fcntl.LOCK_NB)
        text = refused(1, SINE, "--device", os.ttyname(near))
        assert os.ttyname(near) in text and "is busy" in text and "close the program" in text
    finally:
        os.close(far)
        os.close(near)


def test_firmware_of_another_model(refused: Callable[..., str], built_once: None) -> None:
    other = runner.build(sine('model.layers=[{op="dense",units=3,activation="relu"},{op="dense",units=1}]'), "other", "native")
    with subprocess.Popen([other.program, "--pty"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().split()[1]
            text = refused(1, SINE, "--device", port)
        finally:
            process.kill()
    assert port in text and "flash" in text
    assert other.manifest["model_hash"] in text and manifest(sine())["model_hash"] in text


def test_firmware_of_another_schema(refused: Callable[..., str], fake: Callable[..., FakeDevice]) -> None:
    device = fake(schema_hash=b"\x5a" * 8)
    text = refused(1, SINE, "--device", device.url)
    assert device.url in text and "5a" * 8 in text and "flash" in text


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"silent": True}, "no answer to Hello"),
        ({"noise": b"\xa5\x5a\xff"}, "another program is on the board"),
        ({"window": 20}, "receive window of 20"),
    ],
    ids=["nothing", "garbage", "tiny window"],
)
@pytest.mark.usefixtures("impatient")
def test_a_board_that_answers_nothing_or_garbage(
    refused: Callable[..., str], fake: Callable[..., FakeDevice], behaviour: dict[str, Any], words: str
) -> None:
    device = fake(**behaviour)
    text = refused(1, SINE, "--device", device.url)
    assert device.url in text and words in text


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"faults": [Fault.NONE] * 6 + [Fault.GARBAGE_ONLY] * 20}, "no valid answer"),
        ({"faults": [Fault.NONE] * 6 + [Fault.DROP] * 20}, "no answer"),
        ({"faults": [Fault.NONE] * 6 + [Fault.VANISH]}, "the line went away"),
        ({"steps": 80, "fails_at": 3}, "NOT_FINITE"),
        ({"steps": 80}, "delta chunk at rank 0"),  # this stand-in's deltas are no deltas
    ],
    ids=["garbage", "nothing", "vanishes", "fails", "false delta"],
)
@pytest.mark.usefixtures("impatient")
def test_a_board_that_fails_in_mid_run_leaves_no_finished_run(
    command: Command, fake: Callable[..., FakeDevice], behaviour: dict[str, Any], words: str
) -> None:
    device = fake(**behaviour)
    said = command("train", SINE, *SHORT, "--device", device.url, "--out", "run", "--json")
    assert said.code == 1 and words in said.error
    assert not Path("run/result.json").exists()
    with np.load("run/weights.npz") as arrays:
        assert int(arrays["rounds"]) == 0


# Weights


def spoil_nan(file: Path) -> None:
    with np.load(file) as arrays:
        tensors = dict(arrays)
    tensors["dense1.kernel"][0, 3] = np.nan
    np.savez(file, **tensors)


def spoil_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def spoil_other_model(file: Path) -> None:
    np.savez(file, **{"rounds": np.int64(1), "dense1.kernel": np.zeros((1, 5), np.float32)})


def spoil_other_tensors(file: Path) -> None:
    np.savez(file, rounds=np.int64(1))


def spoil_text(file: Path) -> None:
    file.write_text("weights")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_nan, "NaN or infinity at weight 3"),
        (spoil_cut, "damaged or not a weights file"),
        (spoil_other_model, "belongs to another model"),
        (spoil_other_tensors, "belongs to another model"),
        (spoil_text, "damaged or not a weights file"),
        (Path.unlink, "has not saved any weights yet"),
    ],
    ids=["nan", "cut", "another model", "other tensors", "text", "missing"],
)
def test_weights_that_cannot_be_used(command: Command, run_copy: Path, spoil: Callable[[Path], Any], words: str) -> None:
    spoil(run_copy / "weights.npz")
    said = command("adapt", run_copy, "--json")
    assert said.code == 1
    assert str(run_copy / "weights.npz") in said.error and words in said.error


@pytest.mark.parametrize("verb", ["adapt", "report"])
def test_a_folder_that_is_no_run(command: Command, tmp_path: Path, verb: str) -> None:
    said = command(verb, tmp_path)
    assert said.code == 1 and str(tmp_path) in said.error and "run folder" in said.error


# Runs that come to nothing


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
    if Path("run/result.json").exists():  # trained to its end, but to nothing: then the report says so
        assert 'class="banner"' in Path("run/report.html").read_text()


def test_a_collapse_is_noticed_on_the_way(command: Command) -> None:
    keys = ["run.rounds=500", "evaluation.every=50", "strategy.alpha_max=1", "strategy.global_learning_rate=0.5"]
    settings = [word for key in keys for word in ("--set", key)]
    said = command("train", SINE, "--device", "native:1", "--test-device", "native:1", "--out", "run", "--json", *settings)
    assert said.code == 1 and "training collapsed: after 50 rounds" in said.error
    assert not Path("run/result.json").exists()


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file grows beyond 4 KB: what a full disk looks like to whoever writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_and_leaves_no_finished_run(command: Command, request: pytest.FixtureRequest) -> None:
    runner.build(sine(), "test", "native")  # not what this is about
    request.getfixturevalue("little_room")
    said = command("train", SINE, *SHORT, "--device", "native:1", "--out", "run", "--json")
    assert said.code == 1 and "run/weights.npz" in said.error and "cannot be written" in said.error
    assert {path.name for path in Path("run").iterdir()} == {"experiment.toml", "manifest.json", "journal.jsonl"}
