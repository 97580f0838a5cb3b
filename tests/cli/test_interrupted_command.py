"""Ctrl-C ends a command, its boards and their watchdogs, and leaves the last finished round."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from clocks import HUNG_SECONDS, wait_until
from commands import COMMAND
from small_runs import SINE

from tinymetafed.learn.weights import sha256 as weights_sha256
from tinymetafed.runs import store


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
    assert weights_sha256(run.weights) == run.rounds[-1].weights_sha256
    with np.load(folder / "weights.npz") as arrays:
        assert int(arrays["rounds"]) == run.trained
