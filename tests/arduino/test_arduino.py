"""Real boards, without their vendors' packages: the sources compile for each chip, and the Arduino port trains on the host."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clocks import HUNG_SECONDS, SlowClock
from processor import share
from sketches import compile_sketch, write_library
from small_runs import Quiet, sine

import tinymetafed as tmf
from tinymetafed.bench import board_speed
from tinymetafed.devices.link.clock import SYSTEM_CLOCK
from tinymetafed.devices.link.link_errors import LinkError
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import Transport, open_transport
from tinymetafed.learn.codecs import downlink
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.projects import new
from tinymetafed.projects.new import starters
from tinymetafed.runs import training
from tinymetafed.runs.setup import set_up
from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.memory import work
from tinymetafed_codegen.protocol import Dtype, Program, Recipe
from tinymetafed_codegen.toolchain import compiler_flags

pytestmark = pytest.mark.usefixtures("patient")
HERE = Path(__file__).parent
OURS = [name for name in boards.names() if boards.load(name).real]
REAL = [*OURS, *starters()]  # including the boards that `tinymetafed new` writes into a project
OWN_PORTS = [name for name in REAL if name in OURS or new.own_board(name).port is not None]
EXPERIMENT = sine("run.rounds=6", "evaluation.tasks=3", "evaluation.every=0")
UNIQUE_IDS = {
    "nano33ble": "efcdab8967452301",
    "esp32dev": "1122334455660000",
    "rp2040": "e660583883724a32",
    "esp32s3": "1122334455660000",
    "esp32c3": "1122334455660000",
    "nucleo_f446re": "3858397832355107",
}  # as in core.cpp
# Library functions that GCC 8, the compiler of the ESP32, does not have. The option -std=c++17 does not catch their use.
OWN_USB = "-DARDUINO_USB_CDC_ON_BOOT=1"  # a chip's own USB is the line, in place of a UART
# Debian has no C library for it, so the headers are those of our boards without one.
RV32 = [*boards.load("rv32").machine_flags, "-ffreestanding", f"-I{find('boards/platform/freestanding')}"]
NEWER_THAN_GCC_8 = r"\b(bit_cast|is_constant_evaluated|__builtin_convertvector|__builtin_bit_cast|assume_aligned|from_chars)\b"


def known(board: str, folder: Path) -> Board:
    """A board of this repository, or one of a new project in ``folder``."""
    if board in OURS:
        return boards.load(board)
    if not folder.exists():
        new.create(folder, board)
    return Catalogue(folder).load(board)


def sources(board: Board, folder: Path) -> tuple[list[Path], list[str]]:
    """Generates into ``folder``; returns the board's sources and the compiler arguments that PlatformIO would add."""
    made = design(EXPERIMENT, board, "test")
    emit.write(made, folder, "pytest")
    firmware = find("firmware")
    files = [*sorted((firmware / "core").glob("*.cpp"))]
    files += [path for port in board.ports for path in sorted(board.port_folder(port).glob("*.cpp"))]
    files += [firmware / "app" / f"{board.main}.cpp", firmware / "app" / f"source_{made.manifest.sample_source}.cpp"]
    stand_ins = [HERE / board.name, *(HERE / port for port in board.ports if (HERE / port).is_dir())]
    folders = (folder, firmware / "core", firmware / "app", firmware / "port" / "arduino", *stand_ins)
    return files, [*compiler_flags(), *build_flags(board), *(f"-I{path}" for path in folders)]


def build_flags(board: Board) -> list[str]:
    """The compiler flags in the board's PlatformIO environment."""
    file = find("boards/environments.ini") if board.project is None else board.project / "boards" / "environments.ini"
    return [word for line in re.findall(r"(?m)^build_flags = (.*)$", file.read_text()) for word in line.split()]


@pytest.mark.parametrize("board", REAL)
def test_a_real_board_is_described_completely(board: str, tmp_path: Path) -> None:
    facts = known(board, tmp_path / "project")
    manifest = json.loads(facts.file.read_text())
    assert facts.usb and facts.emulator is None and not facts.requirements
    assert set(manifest["platforms"]).isdisjoint({"tinymetafed"}) and "arduino" in manifest["frameworks"]
    assert facts.ram_bytes < manifest["upload"]["maximum_ram_size"], "the Arduino core needs part of the RAM"
    assert facts.flash_bytes < manifest["upload"]["maximum_size"]
    assert (HERE / board / "Arduino.h").is_file() and board in UNIQUE_IDS
    file = find("boards/environments.ini") if facts.project is None else facts.project / "boards" / "environments.ini"
    assert f"[env:{board}]\nextends = flashed\n" in file.read_text() and facts.cannot_build() == ""


def test_every_downloaded_package_is_pinned_exactly() -> None:
    texts = [find("boards/environments.ini").read_text(), *(new.own_board(name).environment for name in starters())]
    lines = re.findall(r"(?m)^(?:platform|platform_packages) = (.*)$", "".join(texts))
    downloaded = [package for package in lines if "symlink://" not in package]
    assert downloaded and all(re.fullmatch(r"[\w/-]+@\d+\.\d+\.\d+", package) for package in downloaded)
    vendors = {Path(package).name for package in lines if "/vendors/" in package}
    manifests = {path.parent.name: json.loads(path.read_text()) for path in find("boards").glob("vendors/*/platform.json")}
    assert set(manifests) == vendors == {json.loads(boards.load(name).file.read_text())["platforms"][0] for name in OURS}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"]) for manifest in manifests.values())


def test_real_boards_are_built_on_request_only() -> None:
    chosen = re.search(r"(?m)^default_envs = (.*)$", find("platformio.ini").read_text())
    assert chosen and not set(REAL) & set(re.split(r"[,\s]+", chosen[1]))


def test_the_sources_compile_for_the_cortex_m4f(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    files, arguments = sources(boards.load("nano33ble"), tmp_path)
    check_syntax(["arm-none-eabi-g++", *boards.load("nano33ble").machine_flags], files, arguments)


def test_the_sources_compile_for_the_cortex_m0(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    board = known("rp2040", tmp_path / "project")
    files, arguments = sources(board, tmp_path)
    check_syntax(["arm-none-eabi-g++", *board.machine_flags], files, arguments)


@pytest.mark.parametrize(
    ("board", "compiler", "flags"),
    [
        ("nucleo_f446re", "arm-none-eabi-g++", []),
        ("esp32c3", "riscv64-unknown-elf-g++", RV32),
        ("esp32c3", "riscv64-unknown-elf-g++", [*RV32, OWN_USB]),
    ],
)
def test_the_sources_compile_for_a_starters_chip(board: str, compiler: str, flags: list[str], tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    facts = known(board, tmp_path / "project")
    files, arguments = sources(facts, tmp_path)
    check_syntax([compiler, *facts.machine_flags, *flags], files, arguments)


def test_the_sources_compile_for_xtensa(tmp_path: Path) -> None:
    clang = next((path for version in range(30, 16, -1) if (path := shutil.which(f"clang++-{version}"))), None)
    if clang is None or shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("no clang with Xtensa, or no arm-none-eabi-g++, whose C++ headers serve any 32-bit target")
    said = subprocess.run(
        ["arm-none-eabi-g++", "-E", "-v", "-x", "c++", "/dev/null"], capture_output=True, text=True, check=True
    )
    listed = [Path(line.strip()).resolve() for line in said.stderr.splitlines() if line.startswith(" /")]
    library = [path for path in listed if path.is_dir() and "gcc" not in path.parts]  # clang cannot use GCC's built-in headers
    headers = [word for path in library for word in ("-isystem", str(path))]
    files, arguments = sources(boards.load("esp32dev"), tmp_path)
    check_syntax([clang, *boards.load("esp32isa").machine_flags, *headers], files, arguments)


def check_syntax(compiler: list[str], files: list[Path], arguments: list[str]) -> None:
    """Compiles with every warning an error, including those about extensions and about features newer than C++17."""
    command = [*compiler, "-fsyntax-only", *arguments, "-pedantic-errors", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("folder", ["core", "app", "port/arduino", *(f"port/{board}" for board in OWN_PORTS)])
def test_the_sources_use_no_library_newer_than_gcc_8(folder: str, tmp_path: Path) -> None:
    own = {f"port/{board}": known(board, tmp_path / board).port_folder(board) for board in OWN_PORTS if board in starters()}
    inside = own.get(folder, find("firmware") / folder)
    files = [path for path in sorted(inside.rglob("*")) if path.suffix in (".hpp", ".cpp")]
    assert files and [path.name for path in files if re.search(NEWER_THAN_GCC_8, path.read_text())] == []


# The port runs on an Arduino core whose serial line is a pseudo-terminal.


@pytest.fixture(
    scope="module",
    params=[
        *OURS,
        "rp2040",
        pytest.param("nucleo_f446re", marks=pytest.mark.exhaustive),
        pytest.param("esp32s3", marks=pytest.mark.exhaustive),  # the port of esp32dev, on the chip's own USB
    ],
)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Board, Path]:
    """A real board's firmware, built as a host process."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.getbasetemp() / f"arduino-{request.param}"
    folder.mkdir(exist_ok=True)
    board = known(request.param, folder / "project")
    if (folder / "firmware").exists():  # for other tests
        return board, folder / "firmware"
    files, arguments = sources(board, folder)
    if board.name == "esp32s3":
        arguments.append(OWN_USB)
    command = ["g++", "-O2", *arguments, *map(str, files), str(HERE / "core.cpp"), "-pthread", "-o", str(folder / "firmware")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return board, folder / "firmware"


@contextmanager
def running(program: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts the process and gives it with the path of its line; checks at the end that no byte was lost."""
    with subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().removeprefix("pty ").strip()
        finally:
            process.terminate()
            ended = process.wait(HUNG_SECONDS)
    assert ended == 0, "bytes were lost"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """SHA-256 of the final weights of the native process."""
    return train("native:1", tmp_path_factory.mktemp("reference") / "run")


def train(url: str, out: Path, project: Path = HERE) -> str:
    setup = set_up(EXPERIMENT, str(project / "experiment.toml"), None)
    return training.train(setup, [url], ["native:1"], out, Quiet()).weights_sha256


def test_the_arduino_port_trains_to_the_same_weights(program: tuple[Board, Path], reference: str, tmp_path: Path) -> None:
    board, firmware = program
    with running(firmware) as (_, path):
        assert train(f"{path}@{board.name}", tmp_path / "run", board.project or HERE) == reference


def test_a_sketch_that_blinks_and_reads_trains_to_the_same_weights(reference: str, tmp_path: Path) -> None:
    library = write_library(tmf.Experiment(EXPERIMENT, str(HERE / "experiment.toml")), "nano33ble", tmp_path / "library")
    sketch = library / "examples" / "Federated" / "Federated.ino"
    assert 2 <= sketch.read_text().count("  // +\n") <= 10
    with running(compile_sketch(library, "nano33ble", sketch)) as (_, path):
        assert train(f"{path}@nano33ble", tmp_path / "run") == reference


def test_hello_names_the_board_and_its_id(program: tuple[Board, Path]) -> None:
    board, firmware = program
    with running(firmware) as (_, path), open_transport(path) as transport:
        hello = Session(transport, clock=SlowClock()).hello()
        assert hello.board.rstrip(b"\0").decode() == board.name
        assert hello.unique_id.hex() == UNIQUE_IDS[board.name]
        assert hello.receive_window == board.receive_window


def test_a_full_window_received_during_a_training_step_is_not_lost(program: tuple[Board, Path]) -> None:
    board, firmware = program
    strategy = open_strategy(EXPERIMENT, manifest := design(EXPERIMENT, board, "test").manifest)
    weights = np.random.default_rng(1).normal(0, 0.2, strategy.n_global).astype(np.float32)
    parts = downlink.encode(weights, Dtype.F16, [tensor.size for tensor in manifest.global_tensors])
    arrived = downlink.decode(parts, strategy.n_global)
    with running(firmware, "5000") as (_, path), open_transport(path) as transport:
        session = Session(transport, clock=SlowClock())  # a slow clock: a busy machine must cause no repeat
        session.hello()
        session.configure(Program.TRAIN, Recipe(strategy.training(), strategy.top_k))
        for token in range(1, 4):
            session.load(token, parts)
            np.testing.assert_array_equal(session.fetch(0, arrived.size), arrived)
            session.train(token, Program.TRAIN, 1, 1, token)
        assert session.traffic.retries == 0


def test_bench_board_measures_a_real_board(program: tuple[Board, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEP_SECONDS", 0.01), ("LINE_BYTES", 1500), ("ROUND_TRIPS", 3), ("MOST_STEPS", 50)):
        monkeypatch.setattr(board_speed, name, value)
    board, firmware = program
    source = str((board.project or HERE) / "experiment.toml")
    with running(firmware) as (_, path):
        found = board_speed.measure(EXPERIMENT, source, f"{path}@{board.name}", Quiet())
    assert found.board == board.name and found.real and found.clock == board_speed.BOARD_CLOCK
    assert all((step.cycles_per_mac is None) == (board.estimates is None) for step in found.steps.values())


def test_it_sleeps_while_idle(program: tuple[Board, Path]) -> None:
    with running(program[1]) as (process, path), open_transport(path) as transport:
        Session(transport, clock=SlowClock()).hello()
        assert share([process.pid]) < 0.1


@pytest.mark.parametrize("program", ["nano33ble"], indirect=True)
def test_answers_to_a_closed_port_do_not_block(program: tuple[Board, Path]) -> None:
    with running(program[1]) as (process, path), open_transport(path) as transport:
        session = Session(transport, deadline=0.1, retries=1)
        session.hello(HUNG_SECONDS)
        process.send_signal(signal.SIGUSR1)
        with pytest.raises(LinkError, match="no answer"):
            session.fetch(0, 1)
        process.send_signal(signal.SIGUSR2)
        session.hello(HUNG_SECONDS)


def loaded(transport: Transport) -> Session:
    """A session with a board that has been given its weights."""
    session = Session(transport, clock=SlowClock())
    board = boards.load("native")  # any board: the weights are the same
    strategy = open_strategy(EXPERIMENT, manifest := design(EXPERIMENT, board, "test").manifest)
    session.hello()
    session.configure(Program.TRAIN, Recipe(strategy.training(), strategy.top_k))
    sizes = [tensor.size for tensor in manifest.global_tensors]
    session.load(session.next_token(), downlink.encode(np.zeros(strategy.n_global, np.float32), Dtype.F16, sizes))
    return session


@pytest.mark.parametrize("program", ["nano33ble", "rp2040"], indirect=True)
def test_no_answer_stays_in_the_hosts_driver(program: tuple[Board, Path]) -> None:
    """Frames of every length up to three packets of USB, full packets at their end included."""
    with running(program[1]) as (_, path), open_transport(path) as transport:
        session = loaded(transport)
        session.clock, session.deadline, session.retries = SYSTEM_CLOCK, 60.0, 0  # an answer that is kept ends the test
        before = session.traffic
        lengths = set()
        for count in range(1, 48):
            session.fetch(0, count)
            lengths.add((session.traffic - before).up)
            before = session.traffic
        assert {64, 128, 192} <= lengths and before.retries == 0


@pytest.mark.parametrize("program", ["nano33ble", "esp32dev"], indirect=True)
def test_a_board_that_has_stopped_is_reset_by_its_watchdog_and_answers_again(program: tuple[Board, Path]) -> None:
    with running(program[1], "0", "60") as (process, path), open_transport(path) as transport:  # a second is a minute
        hello = loaded(transport).hello()
        process.send_signal(signal.SIGHUP)
        assert process.stdout is not None and process.stdout.readline() == f"pty {path}\n"
        assert loaded(transport).hello() == hello


@pytest.mark.parametrize("board", OURS)
def test_the_watchdog_waits_longer_than_any_training_step(board: str, tmp_path: Path) -> None:
    facts = boards.load(board)
    assert facts.watchdog_seconds is not None
    files = {name: spec.load(find(f"examples/{name}.toml")) for name in ("sine", "omniglot", "bench-conv")}
    for name, experiment in files.items():
        made = design(experiment, facts, name)
        assert work.STEPS_OF_WATCHDOG * work.longest_step_seconds(facts, made.graph) < facts.watchdog_seconds
        said = emit.board_header(made, "test")
        assert f"constexpr uint32_t kWatchdogSeconds = {facts.watchdog_seconds};\n" in said
    made = design(files["bench-conv"], facts, "slow")
    slow = replace(facts, estimates=replace(facts.estimates, clock_hz=10_000))
    step = work.longest_step_seconds(slow, made.graph)
    wanted = math.ceil(work.STEPS_OF_WATCHDOG * step)
    assert wanted > facts.watchdog_seconds and work.watchdog_seconds(slow, made.graph) == wanted
    said = emit.board_header(replace(made, board=slow), "test")
    assert f"constexpr uint32_t kWatchdogSeconds = {wanted};  // the board file's are too few for a step\n" in said


def test_a_board_without_a_watchdog_has_no_time_for_one(tmp_path: Path) -> None:
    made = design(EXPERIMENT, boards.load("mps2"), "test")
    assert work.watchdog_seconds(made.board, made.graph) is None
    assert "Watchdog" not in emit.board_header(made, "test")


# The packets of USB


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[bytes]], list[bytes]]:
    """``packets(pieces)``: the packets that the Arduino port makes of the pieces that it is told to write."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    program = tmp_path_factory.mktemp("packets") / "packets"
    port = find("firmware") / "port" / "arduino"
    command = ["g++", *compiler_flags(), f"-I{port}", str(HERE / "packets.cpp"), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    def run(pieces: list[bytes]) -> list[bytes]:
        told = b"".join(struct.pack("<H", len(piece)) + piece for piece in pieces)
        said, found = subprocess.run([program], input=told, capture_output=True, check=True).stdout, []
        while said:
            size = struct.unpack("<H", said[:2])[0]
            found.append(said[2 : 2 + size])
            said = said[2 + size :]
        return found

    return run


@pytest.mark.parametrize("size", [1, 2, 62, 63, 64, 65, 126, 127, 128, 129, 192, 300, 1024])
def test_an_answer_is_sent_in_as_few_packets_as_possible_and_the_last_is_not_full(
    packets: Callable[[list[bytes]], list[bytes]], size: int
) -> None:
    answer = bytes(1 + i % 255 for i in range(size - 1)) + b"\0"
    for step in (1, 3, 64, 254, size):
        pieces = [answer[at : at + step] for at in range(0, size, step)]
        sent = packets([*pieces, *pieces])
        assert b"".join(sent) == answer + answer
        whole, rest = divmod(size, 64)
        once = [64] * whole + [rest] if rest else [64] * (whole - 1) + [63, 1]
        assert [len(packet) for packet in sent] == once + once
