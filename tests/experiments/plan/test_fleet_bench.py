"""Measured fleets: predictions, the file that holds them, and the page that shows them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from small_runs import Quiet

from tinymetafed.experiments.plan import HostCost, committed, measure, read
from tinymetafed.experiments.plan.fleet_bench import SERIAL, predicted
from tinymetafed.experiments.plan.scale_page import page
from tinymetafed.experiments.plan.server_bench import server_cost
from tinymetafed.runs.setup import Setup, set_up
from tinymetafed_codegen import spec
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.locate import find


def test_a_line_through_two_measurements() -> None:
    cost = HostCost.through((8.0, 0.0013), (48.0, 0.0053))
    assert (cost.per_client, cost.per_request) == pytest.approx((0.0005, 0.0001))
    assert cost.seconds(8) == pytest.approx(0.0013)
    assert HostCost.through((8.0, 0.002), (48.0, 0.001)).per_request == 0.0  # noise makes no negative cost


def test_a_fleet_of_processes_is_bound_by_lines_by_the_host_or_by_the_cores() -> None:
    assert predicted(1, 0.3, 0.002, 0.0, 2) == pytest.approx(0.3 + 0.001, rel=1e-3)
    assert predicted(1000, 6.0, 0.006, 0.0, 10**6) == pytest.approx(6 * 2**0.4 + 0.006, rel=1e-3)
    assert predicted(100, 0.0, 0.002, 0.036, 2) == pytest.approx(1.9 + 0.019, rel=0.01)


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "fleet.json"
    changed = replace(committed(), cores=7)
    file.write_text(json.dumps(asdict(changed)))
    assert read(file) == changed
    assert "7 cores" in changed.basis
    slow, fast = replace(SERIAL, bytes_per_second=11520.0), replace(SERIAL, bytes_per_second=1e6)
    assert changed.host_on(slow) == changed.host_at_serial and changed.host_on(fast) == changed.host


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--measured .*missing\.json"):
        read(tmp_path / "missing.json")
    file = tmp_path / "fleet.json"
    file.write_text("{}")
    with pytest.raises(UsageError, match=r"--measured .*fleet\.json: machine.*bench fleet --json > FILE"):
        read(file)


@pytest.mark.parametrize(
    ("boards", "kind", "calibrate", "said"),
    [
        ([0], "qemu", 8, "--boards 0"),
        ([], "qemu", 8, "--boards"),
        ([4], "serial", 8, "--kind serial"),
        ([4], "qemu", 0, "--calibrate 0"),
    ],
)
def test_impossible_measurements_are_refused(boards: list[int], kind: str, calibrate: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        measure(boards, kind, None, calibrate, 1, "a test", Quiet())


def test_a_servers_cost_is_measured() -> None:
    def made(width: int, clients: int) -> Setup:
        layers = f'[{{op = "dense", units = {width}}}, {{op = "dense", units = 1, local = true}}]'
        changes = [f"model.layers={layers}", f"run.devices_per_round={clients}"]
        return set_up(spec.load(find("examples/sine.toml"), changes), "a test", None)

    cost = server_cost(lambda clients: made(16, clients), lambda clients: made(512, clients))
    assert 0 < cost.per_update < 0.1 and 0 <= cost.per_entry < 1e-4
    assert cost.packing > 0 and cost.unpacking > 0
    assert 12 <= cost.memory_per_entry < 1000  # an index takes 8 bytes and a value 4


@pytest.mark.usefixtures("built_once")
def test_a_small_fleet_is_measured_and_predicted() -> None:
    found = measure([1, 2], "native", SERIAL, 2, 2, "a test", Quiet())
    assert [each.boards for each in found.fleets] == [1, 2] and found.calibrated_on.boards == 2
    assert found.fleets[1].predicted == pytest.approx(found.fleets[1].seconds)
    assert all(each.seconds > 0.3 for each in found.fleets), "3,240 bytes at 115,200 baud take 0.28 s, and answers 16 ms each"
    assert found.host_at_serial.seconds(8) > 0


def test_the_page_has_the_committed_figures() -> None:
    file, text = page()
    assert file.read_text(encoding="utf-8") == text, "write it again: python -m tinymetafed.experiments.plan.scale_page"
