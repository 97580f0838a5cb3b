"""Native boards that serve a TCP port of this machine, as where there are no pseudo-terminals."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import Quiet, needs_board, sine

import tinymetafed as tmf
from tinymetafed.devices import device_urls
from tinymetafed.devices.device_urls import DeviceUrlError, parse
from tinymetafed.devices.link.link_errors import LinkError
from tinymetafed.devices.running import running
from tinymetafed.runs.setup import design_of

SETTINGS = ("run.rounds=3", "evaluation.tasks=2", "evaluation.every=0")
FEW = sine(*SETTINGS)


@needs_board("native")
@pytest.mark.usefixtures("built_once")
@pytest.mark.parametrize("security", ["none", "authenticated"])
def test_a_run_over_tcp_has_the_weights_of_a_simulation(security: str, tmp_path: Path) -> None:
    experiment = tmf.Experiment(sine(*SETTINGS, f"run.security={security}"), "sine")
    trained = tmf.train(experiment, ["native:2?line=tcp"], test_device="native:1", out=tmp_path / "tcp", progress=False)
    simulated = tmf.simulate(experiment, out=tmp_path / "simulated", progress=False)
    assert trained.weights_sha256 == simulated.weights_sha256


@needs_board("native")
@pytest.mark.usefixtures("built_once")
def test_a_board_on_tcp_that_was_killed_comes_back_on_another_port_as_the_same_device() -> None:
    with running(design_of(FEW, "sine"), ["native:1?line=tcp"], Quiet()) as fleet:
        (device,) = fleet.devices
        was, line = device.hello, device.line
        assert line.startswith("socket://127.0.0.1:") and device.process is not None
        device.process.kill()
        device.process.wait()
        with pytest.raises(LinkError):
            device.session.hello(0.0)
        assert device.rejoin(0.0) == f"restarted as {device.line}"
        assert device.hello == was


def test_the_line_is_an_option_of_native_boards() -> None:
    urls = ["native:2?line=tcp&store=kept", "native:1?line=pty", "native:1", "qemu:1?line=pty"]
    assert [spec.tcp for spec in parse(urls)] == [True, False, False, False]
    assert parse(urls)[0].store == Path("kept").resolve()
    for url, why in (
        ("qemu:1?line=tcp", "tcp for native boards only"),
        ("native:1?line=usb", "expected line=tcp or line=pty"),
        ("native:1?line=tcp&line=pty", "line= is given twice"),
        ("/dev/ttyACM0?line=tcp", "line= is for boards that are started now"),
    ):
        with pytest.raises(DeviceUrlError, match=why):
            parse([url])


def test_a_system_without_pseudo_terminals_has_tcp_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_urls, "_USUAL_LINE", "tcp")
    assert [spec.tcp for spec in parse(["native:2", "qemu:1"])] == [True, False]
