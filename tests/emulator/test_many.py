"""Many boards of different kinds on one machine end on the weights of one board, and use almost no processor time idle."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from clocks import HUNG_SECONDS
from processor import share
from rig import absent
from small_runs import Quiet, sine

from tinymetafed.devices import client_program as device
from tinymetafed.devices.running import running
from tinymetafed.runs import training
from tinymetafed.runs.setup import design_of, set_up

pytestmark = [pytest.mark.xdist_group("emulator-many"), pytest.mark.usefixtures("built_once", "patient")]
EMULATED = ("qemu:{}@mps2", "qemu:{}@rv32", "qemu:{}@esp32isa")
IDLE_SHARE = 0.01  # of ten boards and the host together, relative to a process that is always busy


def mixed(count: int, *kinds: str) -> list[str]:
    """URLs of ``count`` devices, spread evenly over the kinds that can run here."""
    here = [kind for kind in kinds if not absent(kind.format(1))]
    if not here:
        pytest.skip(absent(kinds[0].format(1)))
    shares = [count // len(here) + (place < count % len(here)) for place in range(len(here))]
    return [kind.format(share) for kind, share in zip(here, shares, strict=True)]


def test_fifty_boards_of_mixed_kinds_end_on_the_weights_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = set_up(sine("run.rounds=2", "run.devices_per_round=50", "evaluation.tasks=2"), "test", None)
    urls = mixed(50, "native:{}", *EMULATED)
    everybody = threading.Barrier(50, timeout=HUNG_SECONDS)  # fast boards would take the clients of slow boards

    def together(*job: Any) -> device.ClientResult:
        everybody.wait()
        return federate(*job)

    with monkeypatch.context() as patch:
        federate = device.federate
        patch.setattr(device, "federate", together)
        many = training.train(setup, urls, ["native:1"], tmp_path / "many", Quiet())
    one = training.train(setup, ["native:1"], ["native:1"], tmp_path / "one", Quiet())
    assert many.weights_sha256 == one.weights_sha256
    assert [board.rounds for board in many.devices] == [2] * 50
    assert len({board.board for board in many.devices}) == len(urls)


def test_ten_idle_boards_use_almost_no_processor_time() -> None:
    with running(design_of(sine(), "test"), mixed(10, *EMULATED), Quiet()) as fleet:
        processes = [device.process.pid for device in fleet.devices if device.process is not None]
        assert len(processes) == 10
        assert share(processes) <= IDLE_SHARE
