"""Devices from URLs: their syntax, and processes that never outlive the host; the programs are stand-ins in Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from clocks import HUNG_SECONDS, EventClock, wait_until
from fake_device import FakeDevice
from hypothesis import given
from hypothesis import strategies as st

from tinymetafed.devices.device_urls import DeviceSpec, DeviceUrlError, parse
from tinymetafed.devices.launch import EmulatorMissing, LaunchError, launch, start_seconds
from tinymetafed.devices.link.link_errors import DeviceSilent, PortError
from tinymetafed.devices.link.session import Session
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.protocol import HelloAnswer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="emulated devices need pseudo-terminals")

HERE = Path(__file__).parent
Install = Callable[..., Path]

STAND_IN = """#!{python}
import os, pathlib, re, sys, time
sys.path[:0] = {path!r}
from fake_device import FakeDevice
{first}
sys.stderr.write("arguments: " + " ".join(sys.argv[1:]))
digits = [found[1] for word in sys.argv if (found := re.search("(?:0x|^)([0-9a-f]{{16}})(?:,|$)", word))][-1]
device = FakeDevice(board={board!r}, unique_id=bytes.fromhex(digits), silent={silent})
{announce}
while {silent} and not device.requests:
    time.sleep(0.01)
if {silent}:
    pathlib.Path(__file__).with_name("event").touch()
if {reads_stdin}:
    sys.stdin.read()
else:
    time.sleep(600)
"""

# By kind: the program, its board, and how it announces its line. Renode makes the line at a path that the host chooses.
STAND_INS = {
    "native": ("firmware", "native", "print('pty', device.url, flush=True)"),
    "qemu": ("qemu-system-arm", "mps2", "print('char device redirected to', device.url, '(label serial0)', flush=True)"),
    "renode": (
        "renode",
        "nrf52840",
        """
line = [word for word in sys.argv if word.startswith("$line=")][0].split('"')[1]
if os.path.lexists(line):
    os.remove(line)
os.symlink(device.url, line)
print("(monitor) $line=" + line + "; include board.resc\\r\\npty\\r\\n" + line + "\\r", flush=True)
""",
    ),
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install(kind)`` installs a stand-in for the native program, qemu-system-arm or renode; returns its path."""

    def write(kind: str, *, first: str = "", silent: bool = False) -> Path:
        name, board, announce = STAND_INS[kind]
        program = tmp_path / name
        text = STAND_IN.format(
            python=sys.executable,
            path=[str(HERE), *sys.path],
            board=board.encode(),
            announce=announce,
            reads_stdin=kind != "qemu",
            first=first,
            silent=silent,
        )
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return program

    return write


def until_event(program: Path) -> EventClock:
    """Every deadline passes once the stand-in has made the file `event`, as it does nothing more after that."""
    return EventClock(program.with_name("event").exists)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie counts as ended)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# --- URLs ---


def test_parse() -> None:
    urls = ["native:8", "qemu:4", "qemu:2@mps2", "renode:3", "/dev/ttyACM0", "COM5", "socket://[::1]:9", "loop://"]
    assert parse(urls) == [
        DeviceSpec("native:8", "native", "native", 8),
        DeviceSpec("qemu:4", "qemu", "mps2", 4),
        DeviceSpec("qemu:2@mps2", "qemu", "mps2", 2),
        DeviceSpec("renode:3", "renode", "nrf52840", 3),
        DeviceSpec("/dev/ttyACM0", "serial"),
        DeviceSpec("COM5", "serial"),
        DeviceSpec("socket://[::1]:9", "serial"),
        DeviceSpec("loop://", "serial"),
    ]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("native:0", "of at least 1, for instance native:4"),
        ("native:-2", "of at least 1"),
        ("native:٤", "of at least 1"),
        ("native:10001", "at most 10,000 devices"),
        ("native:", "of at least 1"),
        ("qemu", "of at least 1"),
        ("qemu:x", "of at least 1"),
        ("qemu:4@mps3", "did you mean 'mps2'?"),
        ("native:1@mps2", "use qemu:1"),
        ("qemu:3@native", "use native:3"),
        ("qemu:3@nrf52840", "use renode:3"),
        ("renode:1@mps2", "use qemu:1"),
        ("native:1@nano33ble", "connect it and give its port: PORT@nano33ble"),
        ("qemu:1@esp32dev", "connect it and give its port: PORT@esp32dev"),
        ("natve:4", "did you mean 'native:4'?"),
        ("mps2", "this is a board's name; give qemu:1@mps2"),
        ("nano33ble", "this is a board's name; give PORT@nano33ble"),
        ("bochs:4", "expected native:N, qemu:N"),
        ("", "expected native:N"),
    ],
)
def test_parse_refuses(url: str, words: str) -> None:
    with pytest.raises(DeviceUrlError) as caught:
        parse([url])
    assert f"device '{url}': " in str(caught.value) and words in str(caught.value)


def test_parse_refuses_a_port_twice() -> None:
    with pytest.raises(DeviceUrlError, match="given twice"):
        parse(["/dev/ttyACM0", "native:1", "/dev/ttyACM0"])


@given(st.text(max_size=20))
def test_parse_of_anything_is_a_device_or_an_error(url: str) -> None:
    try:
        (spec,) = parse([url])
    except DeviceUrlError:
        return
    assert spec.url == url and spec.count >= 1 and (spec.kind == "serial") == (spec.board is None)


# --- Processes ---


def test_launch_greets_all_kinds_and_stops_them(install: Install) -> None:
    native = install("native")
    install("qemu")
    install("renode")
    asked: list[str] = []

    def firmware(board: str) -> Path:
        asked.append(board)
        return native

    port = FakeDevice(board=b"nano33ble", unique_id=b"realport")
    try:
        with launch(parse(["native:2", "qemu:1", "native:1", "renode:1", port.url]), firmware, start=HUNG_SECONDS) as devices:
            assert [device.url for device in devices] == ["native#1", "native#2", "qemu#1", "native#3", "renode#1", port.url]
            assert [device.board for device in devices] == ["native", "native", "mps2", "native", "nrf52840", "nano33ble"]
            assert len({device.hello.unique_id for device in devices}) == 6
            assert asked == ["native", "mps2", "nrf52840"]
            processes = [device.process for device in devices[:5] if device.process is not None]
            assert all(process.poll() is None for process in processes) and len(processes) == 5
            assert devices[0].session.fetch(0, 2).tolist() == [0, 0]
    finally:
        port.close()
    assert all(process.returncode is not None for process in processes)


def test_processes_are_stopped_when_the_host_fails(install: Install) -> None:
    install("qemu")
    with pytest.raises(KeyboardInterrupt), launch(parse(["qemu:2"]), Path) as devices:
        raise KeyboardInterrupt
    assert all(device.process is not None and device.process.returncode is not None for device in devices)


def test_killed_process_is_named(install: Install) -> None:
    program = install("native")
    with launch(parse(["native:2"]), lambda board: program) as devices:
        process = devices[1].process
        assert process is not None
        process.kill()
        process.wait()
        with pytest.raises(PortError, match=r"^native#2 \(/dev/pts/\d+\): the line went away"):
            devices[1].session.fetch(0, 1)
        devices[0].session.fetch(0, 1)


@pytest.mark.parametrize("kind", list(STAND_INS))
def test_a_killed_process_is_started_again_as_the_same_device(install: Install, kind: str) -> None:
    program = install(kind)
    seen: list[str] = []
    with launch(parse([f"{kind}:2"]), lambda board: program, check=lambda device: seen.append(device.url)) as devices:
        before, unique_id, spent = devices[1].process, devices[1].hello.unique_id, devices[1].traffic
        assert before is not None
        before.kill()
        before.wait()
        assert devices[1].rejoin(HUNG_SECONDS).startswith("restarted as /dev/pts/")
        after = devices[1].process
        assert after is not None and after.pid != before.pid and devices[1].hello.unique_id == unique_id
        assert devices[1].session.fetch(0, 2).tolist() == [0, 0] and devices[1].traffic.down > spent.down
        assert seen == [f"{kind}#1", f"{kind}#2", f"{kind}#2"]
    assert after.returncode is not None


def test_a_process_that_hangs_is_replaced(install: Install) -> None:
    program = install("native")
    with launch(parse(["native:1"]), lambda board: program) as (device,):
        process = device.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
        assert device.rejoin(0.5).startswith("restarted as")
        assert process.returncode is not None


@pytest.mark.parametrize("kind", list(STAND_INS))
def test_no_process_outlives_a_killed_host(install: Install, tmp_path: Path, kind: str) -> None:
    program = install(kind)
    script = tmp_path / "host.py"
    script.write_text(
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import pathlib, time\n"
        "from tinymetafed.devices.device_urls import parse\n"
        "from tinymetafed.devices.launch import launch\n"
        f"with launch(parse(['{kind}:2']), lambda board: pathlib.Path({str(program)!r})) as devices:\n"
        "    print(*[device.process.pid for device in devices], flush=True)\n"
        "    time.sleep(600)\n"
    )
    host = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    pids = [int(word) for word in host.stdout.readline().split()]
    assert len(pids) == 2 and all(alive(pid) for pid in pids)
    host.send_signal(signal.SIGKILL)
    host.wait()
    host.stdout.close()
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_the_output_of_a_failed_program_is_shown(install: Install) -> None:
    program = install("native", first="sys.exit('cannot map the arena')")
    with pytest.raises(LaunchError, match=r"firmware: exited at start-up \(exit code 1\): cannot map the arena"):
        launch(parse(["native:1"]), lambda board: program).__enter__()


def test_a_silent_program_is_named_and_stopped(install: Install) -> None:
    program = install("native", silent=True)
    with pytest.raises(DeviceSilent, match=r"^native#1: no answer to Hello"):
        launch(parse(["native:1"]), lambda board: program, clock=until_event(program)).__enter__()


@pytest.mark.parametrize(("processes", "cores", "seconds"), [(1, 2, 120), (2, 2, 120), (4, 2, 240), (3, 1, 360), (9, 8, 135)])
def test_emulators_that_share_cores_get_more_time_to_start(processes: int, cores: int, seconds: float) -> None:
    board = replace(boards.load("nrf52840"), start_seconds=120.0)
    assert start_seconds(board, processes, cores) == seconds


def test_a_start_may_take_as_long_as_the_boards_file_says(install: Install, own_boards: Path) -> None:
    program = install("renode", silent=True)
    facts = json.loads((own_boards / "nrf52840.json").read_text())
    facts["tinymetafed"]["start_seconds"] = 7
    (own_boards / "nrf52840.json").write_text(json.dumps(facts))
    with pytest.raises(DeviceSilent, match=r"^renode#1: no answer to Hello in 7\.0 s;"):
        launch(parse(["renode:1"]), Path, clock=until_event(program)).__enter__()


def test_a_restart_may_take_as_long_as_a_start(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinymetafed.devices.launch.processor_cores", lambda: 2)
    install("renode")
    program = install("native")
    with launch(parse(["renode:3", "native:1"]), lambda board: program) as devices:
        ways = [list(device._port.reconnections())[-1] for device in devices]
        wanted = [2 * boards.load(device.board).start_seconds for device in devices]
        assert [way.start_seconds for way in ways] == wanted and wanted[0] > wanted[3]


def test_a_program_that_announces_no_line_is_named(install: Install) -> None:
    first = "print('hello', flush=True); pathlib.Path(__file__).with_name('event').touch(); time.sleep(600)"
    program = install("native", first=first)
    with pytest.raises(LaunchError, match="no serial line; its output: 'hello"):
        launch(parse(["native:1"]), lambda board: program, clock=until_event(program)).__enter__()


def test_missing_emulator_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmulatorMissing, match=r"qemu-system-arm: not installed.*apt install qemu-system-arm`, or use native:4"):
        launch(parse(["qemu:4"]), Path).__enter__()


def test_a_missing_emulator_without_a_package_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    where = r"renode: not installed, board 'nrf52840'.*put `renode` on the PATH, from https://github.com/renode/renode/releases"
    with pytest.raises(EmulatorMissing, match=where + ", or use native:4"):
        launch(parse(["renode:4"]), Path).__enter__()


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="cannot be started"):
        launch(parse(["native:1"]), lambda board: tmp_path / "none").__enter__()


def test_exact_counts_need_an_emulator(install: Install) -> None:
    with pytest.raises(LaunchError, match="need QEMU"):
        launch(parse(["native:1"]), Path, icount=True).__enter__()
    install("qemu", first="assert sys.argv[-2:] == ['-icount', 'shift=10']")
    with launch(parse(["qemu:1"]), Path, icount=True) as devices:
        assert devices[0].board == "mps2"


def test_errors_of_the_firmware_build_are_raised_and_no_process_starts() -> None:
    def firmware(board: str) -> Path:
        raise RuntimeError(f"no compiler for {board}")

    with pytest.raises(RuntimeError, match="no compiler for native"):
        launch(parse(["native:1"]), firmware).__enter__()


def test_nobody_waits_for_other_boards_once_one_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is with Ctrl-C: a board that does not answer is not waited for until its start would be over."""
    reasons: list[str] = []

    def hello(session: Session, start: float) -> HelloAnswer:
        assert session.watch is not None
        watch = session.watch
        wait_until(lambda: watch() is not None)
        reasons.append(str(watch()))
        raise DeviceSilent(session.name)

    monkeypatch.setattr(Session, "hello", hello)
    far, near = os.openpty()
    try:
        with (
            pytest.raises(PortError, match="/dev/ttyNOPE9"),
            launch(parse(["/dev/ttyNOPE9", os.ttyname(near)]), lambda board: HERE),
        ):
            pass
    finally:
        os.close(far)
        os.close(near)
    assert len(reasons) == 1 and "not waited for" in reasons[0]
