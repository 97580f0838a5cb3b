"""Boards of separate commands have different ids, and a board with a store keeps its own."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from small_runs import Quiet, sine

import tinymetafed as tmf
from tinymetafed.devices import launch
from tinymetafed.devices.board_files import kept_id
from tinymetafed.devices.link.link_errors import LaunchError
from tinymetafed.devices.running import running
from tinymetafed.runs.setup import design_of

EXPERIMENT = tmf.Experiment(sine("run.rounds=1"), "sine")


def ids_of(ports: dict[str, str]) -> list[str]:
    return [tmf.board_status(port).unique_id for port in ports.values()]


def begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process begins with."""
    monkeypatch.setattr(launch, "_process_numbers", itertools.count(1))


@pytest.mark.usefixtures("built_once")
def test_boards_of_two_commands_can_train_together(monkeypatch: pytest.MonkeyPatch) -> None:
    begun_anew(monkeypatch)
    with tmf.started(EXPERIMENT, ["native:2"], progress=False) as first:
        begun_anew(monkeypatch)
        with tmf.started(EXPERIMENT, ["native:1"], progress=False) as second:
            ports = [*first.values(), *second.values()]
            with running(design_of(EXPERIMENT.spec, "sine"), ports, Quiet()) as fleet:
                assert len({device.hello.unique_id for device in fleet.devices}) == 3


@pytest.mark.usefixtures("built_once")
def test_a_board_with_a_store_keeps_its_id_and_one_of_another_store_has_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for store in ("a", "b", "a"):
        begun_anew(monkeypatch)
        with tmf.started(EXPERIMENT, [f"native:1?store={tmp_path / store}"], progress=False) as ports:
            seen += ids_of(ports)
    begun_anew(monkeypatch)
    with running(design_of(EXPERIMENT.spec, "sine"), [f"native:1?store={tmp_path / 'a'}"], Quiet()) as fleet:
        seen += [device.hello.unique_id.hex() for device in fleet.devices]
    assert seen[0] == seen[2] == seen[3] != seen[1]
    assert (tmp_path / "a" / "native-1.flash.id").read_text() == f"{seen[0]}\n"


@pytest.mark.usefixtures("built_once")
def test_boards_of_a_run_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    begun_anew(monkeypatch)
    with running(design_of(EXPERIMENT.spec, "sine"), ["native:2"], Quiet()) as fleet:
        assert [device.hello.unique_id for device in fleet.devices] == [bytes([0] * 7 + [n]) for n in (1, 2)]


def test_a_flash_from_before_ids_were_kept_has_the_number_that_it_had(tmp_path: Path) -> None:
    flash = tmp_path / "native-1.flash"
    flash.write_bytes(b"\xff")
    assert [kept_id(flash, number) for number in (3, 4)] == [f"{3:016x}"] * 2
    (tmp_path / "native-1.flash.id").write_text("kitchen\n")
    with pytest.raises(LaunchError, match=r"native-1\.flash\.id: holds no id of 16 hexadecimal digits; remove it"):
        kept_id(flash, 3)
