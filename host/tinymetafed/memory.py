"""What a firmware takes of a board: flash and static RAM of the linked program, and the stack, read from a painted one."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen import boards, spec
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import Phase, Program, SampleSet, Variant
from tinymetafed_codegen.spec import Experiment

from . import bench, firmware, runner
from .kernel_cost import BenchError, made_up
from .learn.strategies import open_strategy
from .learn.weights import initial
from .link.launch import DeviceSpec, launch
from .link.session import Session
from .runner import Observer

PAINT = 0xC5C5C5C5  # what a board's start-up fills its stack with, from the symbol stack_start up
QUIET_ROUNDS = 6  # in a row that reach no deeper: interrupts come when they come, in time where the stack is deepest
INTERRUPT_SECONDS = 0.0002
STEPS = 2  # of each phase
FETCHED = 500  # weights: more than one answer of them
PROGRAMS = {Program.TRAIN: (Variant.LOCAL, Variant.GLOBAL), Program.ADAPT: (Variant.LOCAL, Variant.FULL)}
_MONITOR_SECONDS = 10.0


def models(experiments: Sequence[Path]) -> list[tuple[str, Experiment]]:
    """The ``experiments`` by name; without any the examples and the paper's presence detector. Raises SpecError."""
    if experiments:
        return [(str(path), spec.load(path)) for path in experiments]
    examples = [f"examples/{name}.toml" for name in ("sine", "omniglot")]
    return [*((name, spec.load(find(name))) for name in examples), ("presence detector", bench.presence())]


def emulated_boards() -> list[str]:
    """Boards that can be built and run in QEMU on this machine. Raises BenchError, saying what to install, for none."""
    all_of_them = [name for name in boards.names() if _in_qemu(name)]
    ready = [name for name in all_of_them if not boards.missing_tools(name)]
    if not ready:
        remedies = " or ".join(boards.remedy(boards.missing_tools(name)) for name in all_of_them)
        raise BenchError(f"no emulated board can be built and run here; {remedies}")
    return ready


def memory(chosen: Sequence[tuple[str, Experiment]], on: Sequence[str], observer: Observer) -> list[dict[str, Any]]:
    """Bytes that each model takes of each board: ``flash``, ``static`` RAM, deepest ``stack``, ``ram`` together.

    ``flash_available`` and ``ram_available`` are the board's. The stack's depth is that of whole rounds and adaptations
    with all kinds of training step, interrupts included. Raises BenchError, FirmwareError, SpecError, LinkError.
    """
    for board in on:
        if not _in_qemu(board):
            hint = ", ".join(name for name in boards.names() if _in_qemu(name))
            raise BenchError(f"board '{board}' does not run in QEMU, through which the stack is read; boards that do: {hint}")
        firmware.require_tools(board)
    observer.stage("measuring memory", len(chosen) * len(on))
    measured = []
    for name, experiment in chosen:
        for board in on:
            observer.note(f"{name} on {board}")
            measured.append({"model": name, "board": board, **_measure(name, experiment, boards.load(board))})
            observer.advance()
    return measured


def _in_qemu(board: str) -> bool:
    return boards.load(board).kind == "qemu"


def _measure(name: str, experiment: Experiment, board: boards.Board) -> dict[str, int]:
    built = runner.build(experiment, name, board.name)
    start, end = _stack(built.program, board)
    device = DeviceSpec(f"qemu:1@{board.name}", "qemu", board.name)
    with tempfile.TemporaryDirectory(prefix="tinymetafed-bench-") as folder:
        at = Path(folder) / "monitor"
        options = ["-qmp", f"unix:{at},server=on,wait=off"]
        with (
            launch([device], lambda _: built.program, options=options) as (running,),
            _Monitor(at) as monitor,
            _interrupted(running.session),
        ):
            monitor.slow_down()
            stack, quiet = 0, 0
            for _ in _rounds(running.session, experiment, built.manifest):
                touched = np.flatnonzero(monitor.words(start, end - start) != PAINT)
                if not touched.size or touched[0] == 0:
                    raise BenchError(f"board '{board.name}': its start-up does not paint the stack with 0x{PAINT:08X}")
                deepest = end - start - 4 * int(touched[0])
                stack, quiet = deepest, quiet + 1 if deepest == stack else 0
                if quiet == QUIET_ROUNDS:
                    break
    return {
        "flash": built.flash_bytes,
        "static": built.ram_bytes,
        "stack": stack,
        "ram": built.ram_bytes + stack,
        "flash_available": board.flash_bytes,
        "ram_available": board.ram_bytes,
    }


def _stack(program: Path, board: boards.Board) -> tuple[int, int]:
    """Lowest address of the stack and the one after its highest."""
    table = subprocess.run([f"{board.toolchain_prefix}nm", str(program)], capture_output=True, text=True, check=True).stdout
    symbols = {words[-1]: words[0] for words in map(str.split, table.splitlines())}
    try:
        return int(symbols["stack_start"], 16), int(symbols["stack_end"], 16)
    except KeyError as missing:
        raise BenchError(f"board '{board.name}': its linker script defines no symbol {missing}") from None


def _rounds(session: Session, experiment: Experiment, manifest: dict[str, Any]) -> Iterator[None]:
    """Rounds without end, each with an adaptation and predictions: weights down, all kinds of training step, delta up."""
    strategy = open_strategy(experiment, manifest)
    weights = strategy.download(initial(manifest, experiment.run.seed, experiment.model.init))
    streamed = manifest["source"] == "streamed"
    rate, clamp = experiment.strategy.global_learning_rate, experiment.strategy.output_clamp
    for program, variants in PROGRAMS.items():
        phases = [Phase(variant, SampleSet.SUPPORT, STEPS, 1, rate, clamp) for variant in variants]
        k = strategy.top_k if program == Program.TRAIN else 0
        session.configure(program, phases, k, strategy.uplink, strategy.selection)
    samples = made_up(manifest, 2 * STEPS)
    while True:
        for program in PROGRAMS:
            token = session.next_round()
            session.load(token, weights)
            session.train(token, program, 1, 0, 0)
            if streamed:
                session.stream(token, samples)
            else:
                session.await_done(token, 2 * STEPS)
            if program == Program.TRAIN:
                session.pull(token, strategy.top_k)
            session.fetch(0, min(FETCHED, manifest["n_parameters"]))
            session.predict(np.stack([sample.inputs for sample in samples]), manifest["output_size"], 1 / 255)
        yield


@contextmanager
def _interrupted(session: Session) -> Iterator[None]:
    """Lone delimiters meanwhile, which change nothing: each is an interrupt on top of what the stack holds just then."""
    done = threading.Event()

    def drip() -> None:
        while not done.wait(INTERRUPT_SECONDS):
            session.delimit()

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class _Monitor:
    """QEMU's machine protocol on a socket: what an emulated board's memory holds, while it runs."""

    def __init__(self, path: Path) -> None:
        self._copy = path.with_name("memory")
        self._line = socket.socket(socket.AF_UNIX)
        self._line.settimeout(_MONITOR_SECONDS)
        self._line.connect(str(path))
        self._said = self._line.makefile("r", encoding="utf-8")
        self._ask("qmp_capabilities")

    def slow_down(self) -> None:
        """Runs one instruction at a time: so many interrupts come meanwhile that no stretch of code goes without."""
        for name in ("one-insn-per-tb", "singlestep"):  # QEMU 8.1 and later, earlier ones; the other's name does nothing
            self._ask("human-monitor-command", **{"command-line": f"{name} on"})

    def words(self, start: int, size: int) -> npt.NDArray[np.uint32]:
        """The ``size`` bytes from address ``start`` on. Raises BenchError when QEMU refuses."""
        self._ask("pmemsave", val=start, size=size, filename=str(self._copy))
        return np.fromfile(self._copy, "<u4")

    def _ask(self, command: str, **arguments: object) -> None:
        self._line.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        answer = next(message for message in map(json.loads, self._said) if "return" in message or "error" in message)
        if "error" in answer:
            raise BenchError(f"QEMU refuses {command}: {answer['error']['desc']}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._said.close()
        self._line.close()
