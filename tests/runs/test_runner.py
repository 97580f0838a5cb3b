"""A run that is killed, interrupted or out of disk space is continued and ends on the weights of an undisturbed run."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clocks import HUNG_SECONDS, wait_until
from processor import used_seconds
from small_runs import SINE, Quiet, sine

from tinymetafed.devices import running
from tinymetafed.devices.firmware import Firmware
from tinymetafed.devices.running import build_firmware
from tinymetafed.federation import example_client
from tinymetafed.federation import meta_test as evaluate
from tinymetafed.federation import rounds as server
from tinymetafed.federation.meta_test import MetaTest
from tinymetafed.federation.result import Evaluation
from tinymetafed.runs import store, training, unchanged
from tinymetafed.runs.journal import RoundEntry
from tinymetafed.runs.run_data import RunData, StoreError
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed.runs.store import read_run
from tinymetafed_codegen import hash

pytestmark = pytest.mark.xdist_group("runner")  # one undisturbed run serves all tests

KILLS = int(os.environ.get("TINYMETAFED_KILLS", "4"))
ROUNDS, EVERY, TASKS = 60, 20, 6  # of a run; rounds between two evaluations; clients of its meta-test
SETTINGS = [
    f"run.rounds={ROUNDS}",
    "run.devices_per_round=2",
    f"evaluation.every={EVERY}",
    "evaluation.every_tasks=3",
    f"evaluation.tasks={TASKS}",
]

# The installed command without PlatformIO's check whether the firmware is up to date, which takes seconds.
COMMAND = """
import sys
from pathlib import Path
from tinymetafed import cli
from tinymetafed.devices import running
from tinymetafed.devices.firmware import Firmware
firmware = Firmware(Path(sys.argv[1]), None, 0, 0)
running.build_firmware = lambda design, board: firmware
sys.argv = ["tinymetafed", *sys.argv[2:]]
cli.main()
"""


@dataclasses.dataclass(frozen=True)
class Clean:
    """An undisturbed run: its result, and the host's processor time from the start of the devices."""

    program: Path
    run: RunData
    seconds: float

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """``tinymetafed train`` in a process of its own."""
        command = [sys.executable, "-c", COMMAND, str(self.program), "train", *map(str, arguments), "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def begin(self, folder: Path) -> subprocess.Popen[str]:
        """Begins the run, or continues it if it exists."""
        if (folder / "run.db").exists():
            return self.start("--resume", folder)
        shutil.rmtree(folder, ignore_errors=True)  # killed before the run existed
        settings = [word for key in SETTINGS for word in ("--set", key)]
        return self.start(SINE, "--out", folder, "--device", "native:2", "--test-device", "native:1", *settings)

    def complete(self, folder: Path) -> dict[str, Any]:
        """Continues a run to its end and compares it with the undisturbed run."""
        out, err = self.begin(folder).communicate(timeout=HUNG_SECONDS)
        assert "Traceback" not in err and out, err
        result: dict[str, Any] = json.loads(out)
        self.compare(folder)
        return result

    def compare(self, folder: Path) -> None:
        """Asserts that each round occurs once and that rounds, evaluations and result equal those of the undisturbed run."""
        run = read_run(folder)
        assert [bits(entry) for entry in run.rounds] == [bits(entry) for entry in self.run.rounds]
        assert run.weights.tobytes() == self.run.weights.tobytes()
        assert [scores(entry) for entry in run.evaluations] == [scores(entry) for entry in self.run.evaluations]
        assert run.result is not None and self.run.result is not None
        for key in ("weights_sha256", "rounds", "meta_test", "d_curve", "example", "bytes_up_dense"):
            assert getattr(run.result, key) == getattr(self.run.result, key)
        assert run.result.sessions == len(run.sessions)
        for key in ("bytes_down", "bytes_up", "retries"):
            assert getattr(run.result, key) == sum(getattr(entry, key) for entry in run.rounds)
        assert sum(device.rounds for device in run.devices) == 2 * ROUNDS


def bits(entry: RoundEntry) -> list[Any]:
    """The part of a round that depends on the experiment alone."""
    parts = [(part.client, part.digest, part.entries) for part in entry.contributions]
    return [entry.round, entry.alpha, entry.update_norm, entry.weights_sha256, *parts]


def scores(entry: Evaluation) -> Evaluation:
    """An evaluation without time and traffic, which change when a second session sends Hello again."""
    return dataclasses.replace(entry, seconds=0, bytes_down=0, bytes_up=0)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    folder = tmp_path_factory.mktemp("clean") / "run"
    begun = Clean(build_firmware(design_of(sine(), "test"), "native").program, None, 0)  # type: ignore[arg-type]  # set below
    with begun.begin(folder) as process:
        until_it_starts_devices(process)
        used = [used_seconds(process.pid)]

        def has_ended() -> bool:
            used.append(used_seconds(process.pid))
            return process.poll() is not None

        wait_until(has_ended)
        _, err = process.communicate()
    assert process.returncode == 0, err
    seconds = max(used) - used[0]
    return dataclasses.replace(begun, run=read_run(folder), seconds=seconds)


def until_it_starts_devices(process: subprocess.Popen[str]) -> None:
    """Waits until the interpreter and its modules are loaded; a run has no data before that."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("starting"):
            return


def stop_at_random(clean: Clean, folder: Path, number: signal.Signals, draw: random.Random) -> tuple[int, str]:
    """Begins or continues a run and sends a signal at a random moment; returns exit code and standard error."""
    with clean.begin(folder) as process:
        until_it_starts_devices(process)
        moment = used_seconds(process.pid) + draw.uniform(0, clean.seconds)
        wait_until(lambda: process.poll() is not None or used_seconds(process.pid) >= moment)
        process.send_signal(number)
        _, err = process.communicate(timeout=HUNG_SECONDS)
    return process.returncode, err


def test_a_run_killed_at_random_moments_ends_with_the_clean_weights(clean: Clean, tmp_path: Path) -> None:
    draw, folder = random.Random(11), tmp_path / "run0"
    kills = finished = 0
    while kills < KILLS:
        code, err = stop_at_random(clean, folder, signal.SIGKILL, draw)
        if (folder / "run.db").exists():
            run = read_run(folder)  # valid at once, before the run is continued
            assert [bits(entry) for entry in run.rounds] == [bits(entry) for entry in clean.run.rounds[: run.trained]]
        if code == -signal.SIGKILL:
            kills += 1
        else:
            assert code == 0, err
            clean.compare(folder)
            finished += 1
            folder = tmp_path / f"run{finished}"
    result = clean.complete(folder)
    print(f"{kills} kills, {finished + 1} runs, the last one in {result['sessions']} sessions")


def test_ctrl_c_at_random_moments_says_how_to_resume(clean: Clean, tmp_path: Path) -> None:
    draw, folder = random.Random(12), tmp_path / "run"
    for _ in range(max(4, KILLS // 2)):
        code, err = stop_at_random(clean, folder, signal.SIGINT, draw)
        run = read_run(folder) if (folder / "run.db").exists() else None
        if run is not None and run.result is not None:
            continue  # the signal came too late: while the report was written or at exit
        assert code == 130 and "Traceback" not in err, err
        if run is not None:
            assert re.search(rf"continue with: tinymetafed train --resume {re.escape(str(folder))}\b", err)
            with np.load(folder / "weights.npz") as arrays:
                assert int(arrays["rounds"]) == run.trained
    clean.complete(folder)


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """Mounts a file system of the given size in bytes."""
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_full_disk_stops_a_run_with_an_error_and_loses_nothing(clean: Clean, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        for room in (200_000, 400_000):
            folder, filler = disk / f"run{room}", disk / "filler"
            free = shutil.disk_usage(disk).free
            filler.write_bytes(bytes(free - room))
            with clean.begin(folder) as process:
                out, err = process.communicate(timeout=HUNG_SECONDS)
            assert process.returncode == 1 and out == "" and "Traceback" not in err, err
            assert err.count("Error:") == 1 and f"{folder}/run.db: cannot be written: " in err and "make room" in err, err
            trained = read_run(folder).trained
            assert 0 < trained < ROUNDS
            with clean.begin(folder) as process:  # the disk is still full
                out, err = process.communicate(timeout=HUNG_SECONDS)
            assert process.returncode == 1 and "cannot be written" in err and read_run(folder).trained >= trained
            filler.unlink()
            result = clean.complete(folder)
            assert result["sessions"] >= 2
            shutil.rmtree(folder)


# --- In one process ---


@pytest.fixture
def trained(clean: Clean, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped in its last evaluation, when all rounds were done."""
    monkeypatch.setattr(running, "build_firmware", lambda design, board: dataclasses.replace(FIRMWARE, program=clean.program))
    setup = set_up(sine(*SETTINGS), "test", None)
    genuine = evaluate.meta_test

    def stop_at_the_last(*arguments: Any, **named: Any) -> MetaTest:
        if arguments[4] == TASKS:
            raise KeyboardInterrupt
        return genuine(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluate, "meta_test", stop_at_the_last)
        training.train(setup, ["native:2"], ["native:1"], tmp_path / "run", Quiet())
    return tmp_path / "run"


FIRMWARE = Firmware(Path(), design_of(sine(), "test").manifest, 0, 0)


def no_more_rounds(*_: Any, **__: Any) -> Iterator[server.Round]:
    raise AssertionError("a round was trained twice")


def test_a_run_interrupted_in_its_meta_test_repeats_only_that(
    clean: Clean, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = read_run(trained)
    assert begun.trained == ROUNDS and [entry.round for entry in begun.evaluations] == [EVERY, 2 * EVERY]
    monkeypatch.setattr(server, "rounds", no_more_rounds)

    def interrupted(*_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(example_client, "example", interrupted)
        training.resume(trained, Quiet())
    assert [entry.round for entry in read_run(trained).evaluations] == [EVERY, 2 * EVERY, ROUNDS]
    result = training.resume(trained, Quiet())
    assert [entry.round for entry in read_run(trained).evaluations] == [EVERY, 2 * EVERY, ROUNDS]
    assert result.sessions == 3
    clean.compare(trained)
    assert training.resume(trained, Quiet()) == read_run(trained).result


def test_a_run_is_continued_on_the_given_devices(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = training.resume(trained, Quiet(), urls=["native:1"], test_urls=["native:1"])
    assert read_run(trained).sessions[-1].devices[0].url == "native#1"
    assert result.sessions == 2 and result.redone == result.skipped == 0


def test_a_torn_log_is_reported(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    watch = Quiet()
    monkeypatch.setattr(watch, "event", said.append)
    monkeypatch.setattr(store, "lost_commits", lambda path: True)
    training.resume(trained, watch)
    assert len(said) == 1 and "run.db-wal" in said[0] and f"everything after {ROUNDS} rounds is done again" in said[0]


def test_another_model_is_not_continued(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash, "model_hash", lambda *_: bytes(8))
    before = (trained / "run.db").read_bytes()
    with pytest.raises(
        StoreError, match=r"run\.db: holds weights of model [0-9a-f]{16}, but in this version .* 0000000000000000"
    ):
        training.resume(trained, Quiet())
    assert len((trained / "run.db").read_bytes()) == len(before) and read_run(trained).result is None
    run = read_run(trained)
    setup = set_up(run.experiment(), "test", None)
    model = setup.experiment.model.model_copy(update={"weights": "start.npz"})
    changed = dataclasses.replace(setup.design, experiment=setup.experiment.model_copy(update={"model": model}))
    imported = dataclasses.replace(setup, design=changed)
    with pytest.raises(StoreError, match=r"restore start\.npz as it was then, or use tinymetafed \d"):
        unchanged.same_model(imported, run)


def test_a_missing_evaluation_is_repeated(clean: Clean, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "build_firmware", lambda design, board: dataclasses.replace(FIRMWARE, program=clean.program))
    setup = set_up(sine(*SETTINGS), "test", None)

    def interrupted(*_: Any, **__: Any) -> MetaTest:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluate, "meta_test", interrupted)
        training.train(setup, ["native:2"], ["native:1"], tmp_path / "run", Quiet())
    run = read_run(tmp_path / "run")
    assert EVERY <= run.trained <= 2 * EVERY and run.evaluations == []  # it ran beside the rounds that followed
    assert run.evaluating is not None and run.evaluating.round == EVERY
    assert (tmp_path / "run" / "weights.npz").exists()
    training.resume(tmp_path / "run", Quiet())
    clean.compare(tmp_path / "run")
