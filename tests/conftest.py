"""Shared by tests of several folders: stand-ins of devices/ and fuzz/, references, runs to watch, one build per model."""

from __future__ import annotations

import functools
import gc
import hashlib
import os
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from clocks import HUNG_SECONDS, SlowClock
from exhaustive import is_exhaustive
from hypothesis import HealthCheck, settings

from tinymetafed.bench import kernel_cost, suite_cost
from tinymetafed.devices import firmware, running, serial_port
from tinymetafed.devices.firmware import Deviation, Firmware
from tinymetafed_codegen.board import board_environments, board_facts, board_file, boards
from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.files import locked
from tinymetafed_codegen.locate import find

sys.path += [str(Path(__file__).parent / folder) for folder in ("devices", "kernels", "fuzz", "nrf52840", "pages")]

# No property depends on the machine's speed.
settings.register_profile("without a clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("without a clock")

gc.disable()  # until the tests are collected, as hardly any of their objects is garbage

collect_ignore = ["firmware"]  # unit tests in C++, which `pio test` runs

# PlatformIO stores usage data in a folder of the checkout; two test processes would create that folder at the same time.
os.environ |= {"PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no", "PLATFORMIO_DISABLE_UPGRADE_CHECK": "true"}
(Path(__file__).parents[1] / ".pio" / "core").mkdir(parents=True, exist_ok=True)

# No test needs debugging information, and it takes a seventh of the compiler's time.
os.environ["PLATFORMIO_BUILD_FLAGS"] = f"{os.environ.get('PLATFORMIO_BUILD_FLAGS', '')} -g0".strip()

# Where the environment forbids bytecode, each of the hundreds of commands would compile our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What the tests train with is not to be remembered as this user's own code.
os.environ["XDG_STATE_HOME"] = str(Path(tempfile.gettempdir()) / f"tinymetafed-tests-{os.getpid()}")

# A shell that starts the tests in the background ignores Ctrl-C, and nohup the end of the terminal. The processes that the
# tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Files whose tests run in one process. The tests of group "lines" open and search pseudo-terminals by name: two processes
# would take each other's. The tests of each other file share programs or runs that take seconds to make.
_GROUPS = {
    "tests/arduino/test_sketch_library.py": "sketch library",
    "tests/core/test_arm_build.py": "arm build",
    "tests/devices/test_launch.py": "lines",
    "tests/devices/test_renumbered.py": "lines",
    "tests/arduino/test_network_lines.py": "network lines",
    "tests/devices/test_serial_lines.py": "lines",
    "tests/devices/test_transport.py": "lines",
    "tests/cli/test_cli.py": "cli",
    "tests/cli/test_failed_runs.py": "cli",
    "tests/cli/test_refused_commands.py": "cli",
    "tests/federation/test_liars.py": "liars",
    "tests/federation/test_liars_asleep.py": "liars asleep",
    "tests/fuzz/test_refusals.py": "refusals",
    "tests/runs/test_adapted.py": "adapted",
    "tests/runs/test_export_library.py": "export library",
    "tests/runs/test_keep_best.py": "keep best",
    "tests/runs/test_scoring.py": "scoring",
}
# Fixtures with the board's name as parameter, whose program is built once for all tests of that board.
_OF_EACH_BOARD = ("echo", "program")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups, and before `-m` deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        group = _GROUPS.get(item.nodeid.partition("::")[0])
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            for fixture in _OF_EACH_BOARD:
                if fixture in item.callspec.params:
                    group = f"{fixture} {item.callspec.params[fixture]}"
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
        if is_exhaustive(item.nodeid):
            item.add_marker(pytest.mark.exhaustive)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leaves the thousands of tests, which stay to the end, out of every later garbage collection."""
    gc.freeze()
    gc.enable()


_BEGINNING = suite_cost.Beginning()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Records how long `make test` took, for docs/costs.md; a part of the tests, and a run with failures, says nothing."""
    fewer = any(config.getoption(each) for each in ("keyword", "deselect", "ignore", "lf", "stepwise", "collectonly"))
    everyday = config.getoption("markexpr") == "not exhaustive" and not fewer
    if exitstatus == 0 and everyday and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        suite_cost.record(_BEGINNING.passed(len(terminalreporter.stats.get("passed", ()))))


@pytest.fixture
def built_once(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Builds each pair of model and board once for all test processes; PlatformIO's check for changes takes seconds."""
    _remember_builds(monkeypatch, tmp_path_factory)


@pytest.fixture(scope="module")
def built_once_for_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same for the devices that all tests of a file share."""
    with pytest.MonkeyPatch.context() as patch:
        _remember_builds(patch, tmp_path_factory)
        yield


def _remember_builds(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    build = firmware.build
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "built"
    folder.mkdir(exist_ok=True)

    def remembered(
        experiment: Path,
        board: Board,
        *,
        key: str,
        deviation: Deviation = firmware.AS_THE_BOARD_SAYS,
        generated: Path | None = None,
    ) -> Firmware:
        file = hashlib.sha256(str(board.file).encode()).hexdigest()[:8]  # a project may have another board of the same name
        name = f"{board.name}-{file}-{deviation.folder(key)}"
        with locked(folder / f"{name}.lock"):
            known = folder / f"{name}.pickle"
            if not known.exists():
                known.write_bytes(pickle.dumps(build(experiment, board, key=key, deviation=deviation, generated=generated)))
        found: Firmware = pickle.loads(known.read_bytes())
        return found

    monkeypatch.setattr(firmware, "build", remembered)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises the deadlines, so that a slow machine causes no repeat and no lost device; for lines without faults."""
    clock = SlowClock()
    monkeypatch.setattr(running, "launch", functools.partial(running.launch, clock=clock))
    monkeypatch.setattr(running, "Fleet", functools.partial(running.Fleet, clock=clock))
    monkeypatch.setattr(serial_port.SerialPort, "start", HUNG_SECONDS)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts two training steps, once: sending samples to an emulator takes longer than counting the instructions."""
    monkeypatch.setattr(kernel_cost, "STEPS", 2)
    monkeypatch.setattr(kernel_cost, "REPEATS", 1)


@pytest.fixture
def own_boards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of boards/ that a test may change; this process reads boards from there."""
    folder = tmp_path / "boards"
    shutil.copytree(find("boards"), folder)
    for module in (boards, board_facts, board_file, board_environments):
        monkeypatch.setattr(module, "find", lambda name: folder if name == "boards" else find(name))
    return folder
