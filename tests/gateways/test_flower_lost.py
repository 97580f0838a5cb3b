"""Machines that are lost over Flower: a gateway killed in a run, and a SuperLink that is started again."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from clocks import wait_until
from small_runs import SINE
from superlinks import PROGRAM, RunningGateway, gateways, superlink

import tinymetafed as tmf

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'tinymetafed[flower]'")
pytestmark = [
    pytest.mark.usefixtures("built_once"),
    pytest.mark.skipif(not PROGRAM.exists(), reason=f"no {PROGRAM}: pip install 'tinymetafed[flower]'"),
]
KEYS = {"run.rounds": 6, "run.devices_per_round": 6, "evaluation.every": 0, "evaluation.tasks": 2}


def weights_alone(tmp_path: Path) -> str:
    alone = tmf.simulate(tmf.load(SINE, KEYS), out=tmp_path / "alone", threads=1, progress=False)
    assert alone.result is not None
    return alone.result.weights_sha256


def test_a_gateway_that_is_killed_is_redone_by_the_other(tmp_path: Path) -> None:
    experiment = tmf.load(SINE, KEYS)
    keys = [word for key, value in KEYS.items() for word in ("--set", f"{key}={value}")]
    said: list[str] = []
    with superlink(tmp_path) as link:
        words = [sys.executable, "-m", "tinymetafed", "gateway", str(SINE), *keys, "-d", "native:2", "--name", "doomed"]
        with (
            subprocess.Popen([*words, "--superlink", link.address, "--insecure"], stderr=subprocess.DEVNULL) as doomed,
            gateways(RunningGateway(experiment, link.address, "steady", "native:2")),
        ):

            def kill(event: tmf.ProgressEvent) -> None:
                said.append(event.event)
                if event.stage == "meta-training" and event.done == 2:
                    doomed.send_signal(signal.SIGKILL)

            reached = tmf.Gateways(link.address, 2, insecure=True)
            run = tmf.train(experiment, test_device="native:1", out=tmp_path / "run", gateways=reached, progress=kill)
    assert run.result is not None and run.result.weights_sha256 == weights_alone(tmp_path)
    assert run.result.redone == 3 and run.result.skipped == 0
    notes = {part.note for each in run.data.rounds for part in each.contributions if part.status == "redone"}
    assert all("gateway doomed" in note for note in notes) and any("gateway doomed" in line for line in said)


def test_a_superlink_that_is_started_again_is_joined_again_and_the_run_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinymetafed.gateways.flower import superlink_server

    monkeypatch.setattr(superlink_server, "AWAY_SECONDS", 1.0)
    experiment = tmf.load(SINE, KEYS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = RunningGateway(experiment, f"127.0.0.1:{port}", "lab", "native:2")
    reached = tmf.Gateways(f"127.0.0.1:{port}", 1, insecure=True)
    with gateways(lab):
        wait_until(lambda: any("does not answer (Connection refused)" in line for line in lab.said))
        with superlink(tmp_path, port=port) as link:

            def kill(event: tmf.ProgressEvent) -> None:
                if event.stage == "meta-training" and event.done == 2:
                    link.process.kill()
                    link.process.wait()

            with pytest.raises(tmf.LinkError, match=r"SuperLink .* has not answered for .*Connection refused"):
                tmf.train(experiment, test_device="native:1", out=tmp_path / "run", gateways=reached, progress=kill)
        with superlink(tmp_path, port=port):
            run = tmf.resume(tmp_path / "run", gateways=reached, progress=False)
    assert lab.error is None
    assert run.result is not None and run.result.weights_sha256 == weights_alone(tmp_path)
    assert run.result.sessions == 2
