"""What `tinymetafed doctor` reports about this machine, and its remedies for what other machines lack."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from serial.tools.list_ports_common import ListPortInfo

from tinymetafed.projects import doctor
from tinymetafed.projects.doctor import Finding
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.locate import find


def port(device: str, vid: int | None, pid: int | None) -> ListPortInfo:
    info = ListPortInfo(device, skip_link_detection=True)
    info.vid, info.pid, info.description = vid, pid, "some adapter"
    return info


def show(monkeypatch: pytest.MonkeyPatch, *ports: ListPortInfo) -> list[Finding]:
    monkeypatch.setattr("tinymetafed.projects.doctor.list_ports.comports", lambda: list(ports))
    return doctor.serial_ports()


def test_every_shortcoming_has_a_remedy() -> None:
    findings = doctor.examine()
    assert {"Python", "Programs", "Boards", "Serial ports"} <= {finding.group for finding in findings}
    assert all(finding.detail and finding.name for finding in findings)
    assert all(finding.remedy for finding in findings if not finding.ok)


def test_programs_are_those_that_the_path_finds() -> None:
    found = {finding.name: finding for finding in doctor.programs()}
    assert {"g++", "arm-none-eabi-g++", "qemu-system-arm"} <= set(found)
    for name, finding in found.items():
        assert finding.ok == (shutil.which(name) is not None)


def test_missing_programs_name_package_and_what_works_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.name: finding for finding in doctor.programs()}
    assert not any(finding.ok for finding in found.values())
    assert found["qemu-system-arm"].detail == "not installed; for running the firmware without a board"
    assert "sudo apt install qemu-system-arm" in found["qemu-system-arm"].remedy
    assert re.search("without it no mps2; .*native.* not affected", found["qemu-system-arm"].remedy)
    assert "put `renode` on the PATH, from https://github.com/renode/renode/releases; without" in found["renode"].remedy
    boards = {finding.name: finding for finding in doctor.all_boards()}
    assert "does not build here, missing" in boards["native"].detail
    assert "g++" in boards["native"].remedy


def test_a_board_without_its_emulator_can_still_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("arm-none-eabi-g++")
    if compiler is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    for tool in ("arm-none-eabi-g++", "g++"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or compiler)
    monkeypatch.setenv("PATH", str(tmp_path))
    boards = {finding.name: finding for finding in doctor.all_boards()}
    assert boards["native"].ok and boards["native"].detail.endswith("runs as a process")
    assert boards["mps2"].detail.endswith("builds, does not run here, missing qemu-system-arm")


@pytest.mark.parametrize("board", ["nano33ble", "esp32dev"])
def test_a_real_board_brings_its_toolchain(board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = [finding for finding in doctor.all_boards() if finding.name == board]
    assert finding.ok and f"downloads its toolchain at the first `pio run -e {board} -t upload`" in finding.detail


def test_a_program_that_does_not_start_still_counts_as_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "g++"
    broken.write_text("no program")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = [finding for finding in doctor.programs() if finding.name == "g++"]
    assert finding.detail == f"{broken}, does not start"


def test_packages_come_from_the_projects_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=1.26,<3", "no-such-thing>=2", 'pytest>=8; extra == "dev"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
    found = {finding.name: finding for finding in doctor.python()}
    assert set(found) == {"python", "numpy", "no-such-thing"}
    assert found["numpy"].ok and found["numpy"].detail == importlib.metadata.version("numpy")
    assert not found["no-such-thing"].ok and "pip install 'no-such-thing>=2'" in found["no-such-thing"].remedy


def test_known_boards_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinymetafed.projects.doctor.os.access", lambda path, mode: True)
    ports = [port("/dev/none2", 1, 2), port("/dev/ttyS0", None, None), port("/dev/none1", 0x2341, 0x805A)]
    assert show(monkeypatch, *ports) == [
        Finding("Serial ports", "/dev/none1", True, "Arduino Nano 33 BLE: nano33ble (2341:805a)"),
        Finding("Serial ports", "/dev/none2", True, "some adapter (0001:0002)"),
    ]


def test_a_port_without_permission_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinymetafed.projects.doctor.os.access", lambda path, mode: False)  # root may open any port
    (finding,) = show(monkeypatch, port("/dev/ttyUSB0", 0x10C4, 0xEA60))
    assert not finding.ok and "CP2102" in finding.detail and "permission denied" in finding.detail
    assert "usermod -aG dialout" in finding.remedy


def test_a_busy_port_names_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    master, line = os.openpty()
    try:
        (finding,) = show(monkeypatch, port(os.ttyname(line), 0x1A86, 0x7523))
        assert not finding.ok and f"(pid {os.getpid()})" in finding.detail
    finally:
        os.close(master)
        os.close(line)


def test_a_machine_without_ports_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = show(monkeypatch)
    assert not finding.ok and "native:4 works without" in finding.remedy


def machine(root: Path, files: dict[str, str], masked: tuple[str, ...] = ()) -> dict[str, Finding]:
    """What is found on a machine with these files, and with links to /dev/null."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in masked:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to("/dev/null")
    return {finding.name: finding for finding in doctor.port_takers(root)}


BRLTTY = {"usr/lib/udev/rules.d/85-brltty.rules": 'ENV{PRODUCT}=="1a86/7523/*", ENV{BRLTTY_BRAILLE_DRIVER}="bm"'}
MODEM_MANAGER = {"usr/sbin/ModemManager": "", "usr/lib/systemd/system/ModemManager.service": "[Service]"}
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="brltty and ModemManager are programs of Linux")


@linux
@pytest.mark.parametrize(
    ("files", "name", "state", "to_do"),
    [
        (BRLTTY, "brltty", "installed; takes USB bridges", "sudo apt remove brltty"),
        (BRLTTY, "brltty", "installed", "ln -s /dev/null /etc/udev/rules.d/85-brltty.rules"),
        (
            {"lib/udev/rules.d/90-brltty-usb.rules": "x"},
            "brltty",
            "installed",
            "/dev/null /etc/udev/rules.d/90-brltty-usb.rules",
        ),
        ({"proc/17/comm": "brltty\n"}, "brltty", "running; takes", "sudo apt remove brltty"),
        (MODEM_MANAGER, "ModemManager", "installed; looks for a modem", "sudo systemctl mask --now ModemManager"),
        ({"proc/1/comm": "init\n", "proc/299/comm": "ModemManager\n"}, "ModemManager", "running", "a udev rule for the board"),
    ],
)
def test_programs_that_take_ports_are_named_with_the_remedy(
    tmp_path: Path, files: dict[str, str], name: str, state: str, to_do: str
) -> None:
    found = machine(tmp_path, files)
    assert set(found) == {name} and not found[name].ok
    assert found[name].group == "Serial ports" and found[name].detail.startswith(state) and to_do in found[name].remedy


@linux
def test_programs_that_leave_boards_alone_are_no_shortcoming(tmp_path: Path) -> None:
    assert machine(tmp_path / "without", {"proc/1/comm": "init\n", "usr/bin/ls": ""}) == {}
    assert machine(tmp_path / "rules", BRLTTY, ("etc/udev/rules.d/85-brltty.rules",)) == {}
    assert machine(tmp_path / "unit", MODEM_MANAGER, ("etc/systemd/system/ModemManager.service",)) == {}
    rule = {"etc/udev/rules.d/78-boards.rules": 'ATTRS{idVendor}=="2341", ENV{ID_MM_DEVICE_IGNORE}="1"'}
    (found,) = machine(tmp_path / "rule", {**MODEM_MANAGER, "proc/9/comm": "ModemManager\n", **rule}).values()
    assert found.ok and found.detail.startswith("running; a udev rule")


@linux
def test_masked_programs_that_still_run_are_named(tmp_path: Path) -> None:
    found = machine(tmp_path, {**MODEM_MANAGER, "proc/9/comm": "ModemManager\n"}, ("etc/systemd/system/ModemManager.service",))
    assert not found["ModemManager"].ok


def test_the_documented_rule_keeps_modem_manager_off_every_known_board() -> None:
    page = (find("boards").parent / "docs" / "boards.md").read_text(encoding="utf-8")
    rules = [line for line in page.splitlines() if "ID_MM_DEVICE_IGNORE" in line]
    for vendor, product in (ids for board in boards.usable() for ids in board.usb):
        covering = [rule for rule in rules if f'=="{vendor:04x}"' in rule]
        assert any("idProduct" not in rule or f'=="{product:04x}"' in rule for rule in covering), f"{vendor:04x}:{product:04x}"


def test_doctor_looks_for_programs_that_take_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Finding("Serial ports", "brltty", False, "running", "remove it")
    monkeypatch.setattr("tinymetafed.projects.doctor.port_takers", lambda: [there])
    assert doctor.examine()[-1] == there


def test_a_board_file_that_cannot_be_used_is_a_finding_among_the_others(own_boards: Path) -> None:
    whole = doctor.examine()
    (own_boards / "broken.json").write_text('{"name": "x"}')
    findings = doctor.examine()
    (broken,) = [finding for finding in findings if finding.name == "broken"]
    assert not broken.ok and f"{own_boards / 'broken.json'}: not a usable board file" in broken.detail
    assert broken.remedy.startswith("correct the file, or remove it; ")
    assert [finding for finding in findings if finding is not broken] == whole


def test_a_board_without_environment_is_a_finding(own_boards: Path) -> None:
    for source, name in (("native", "lonely"), ("esp32dev", "realone")):
        shutil.copy(own_boards / f"{source}.json", own_boards / f"{name}.json")
    found = {finding.name: finding for finding in doctor.all_boards()}
    for name in ("lonely", "realone"):
        assert not found[name].ok and f"{own_boards / 'environments.ini'} has no [env:{name}]" in found[name].detail
        assert f"board = {name} there" in found[name].remedy
    (own_boards / "environments.ini").open("a").write("[env:lonely]\nextends = offline\nboard = lonely\n")
    found = {finding.name: finding for finding in doctor.all_boards()}
    assert found["lonely"].ok == found["native"].ok and not found["realone"].ok
    (own_boards / "environments.ini").write_text("no section\n")
    assert not any(finding.ok for finding in doctor.all_boards())
