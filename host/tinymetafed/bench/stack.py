"""How deep an emulated board's stack gets: read from its memory, where nothing has overwritten the start-up's paint."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.boards import Board, Catalogue
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Phase, Program, Recipe, SampleSet, Variant
from tinymetafed_codegen.spec import Experiment

from ..devices.firmware import Firmware
from ..devices.launch import DeviceSpec, launch
from ..devices.link.session import Session
from ..learn.strategies import open_strategy
from ..learn.weights import initial
from . import BenchError, made_up

PAINT = 0xC5C5C5C5  # what a board's start-up fills its stack with, from the symbol stack_start up
QUIET_ROUNDS = 6  # in a row that reach no deeper: interrupts come when they come, in time where the stack is deepest
INTERRUPT_SECONDS = 0.0002
STEPS = 1  # of each phase
FETCHED = 500  # weights: more than one answer of them
_MONITOR_SECONDS = 10.0


def deepest(experiment: Experiment, built: Firmware, board: Board) -> int:
    """Bytes of stack that whole rounds and adaptations take, with all kinds of training step and interrupts among them.

    Raises BenchError, LinkError.
    """
    start, end = _stack(built.program, board)
    device = DeviceSpec(f"qemu:1@{board.name}", "qemu", board.name)
    with tempfile.TemporaryDirectory(prefix="tinymetafed-bench-") as folder:
        at = Path(folder) / "monitor"
        options = ["-qmp", f"unix:{at},server=on,wait=off"]
        with (
            launch([device], lambda _: built.program, boards=Catalogue(board.project), options=options) as (running,),
            _Monitor(at) as monitor,
            _interrupted(running.session),
        ):
            monitor.slow_down()
            depth, quiet = 0, 0
            for _ in _rounds(running.session, experiment, built.manifest):
                touched = np.flatnonzero(monitor.words(start, end - start) != PAINT)
                if not touched.size or touched[0] == 0:
                    raise BenchError(f"board '{board.name}': its start-up does not paint the stack with 0x{PAINT:08X}")
                reached = end - start - 4 * int(touched[0])
                depth, quiet = reached, quiet + 1 if reached == depth else 0
                if quiet == QUIET_ROUNDS:
                    break
    return depth


def _stack(program: Path, board: Board) -> tuple[int, int]:
    """Lowest address of the stack and the one after its highest."""
    table = subprocess.run([f"{board.toolchain_prefix}nm", str(program)], capture_output=True, text=True, check=True).stdout
    symbols = {words[-1]: words[0] for words in map(str.split, table.splitlines())}
    try:
        return int(symbols["stack_start"], 16), int(symbols["stack_end"], 16)
    except KeyError as missing:
        raise BenchError(f"board '{board.name}': its linker script defines no symbol {missing}") from None


def _rounds(session: Session, experiment: Experiment, manifest: ModelManifest) -> Iterator[None]:
    """Rounds without end, each with an adaptation and predictions: weights down, all kinds of training step, delta up."""
    strategy = open_strategy(experiment, manifest)
    weights = strategy.download(initial(manifest, experiment.run.seed, experiment.model.init))
    streamed = manifest.streamed
    rate, clamp = experiment.strategy.global_learning_rate, experiment.strategy.output_clamp
    training = (Variant.GRADIENT,) * 2 if experiment.strategy.gradient else (Variant.LOCAL, Variant.GLOBAL)
    programs = {Program.TRAIN: training, Program.ADAPT: (Variant.LOCAL, Variant.FULL)}
    for program, variants in programs.items():
        phases = tuple(Phase(variant, SampleSet.SUPPORT, STEPS, 1, rate, clamp) for variant in variants)
        sent = strategy.training_recipe() if program == Program.TRAIN else Recipe(())
        session.configure(program, replace(sent, phases=phases))
    samples = made_up(manifest, 2 * STEPS)
    while True:
        for program in programs:
            token = session.next_token()
            session.load(token, weights)
            session.train(token, program, 1, 0, 0)
            if streamed:
                session.stream(token, samples)
            else:
                session.await_done(token, 2 * STEPS)
            if program == Program.TRAIN:
                session.pull(token, strategy.top_k)
            session.fetch(0, min(FETCHED, manifest.n_parameters))
            session.predict(np.stack([sample.inputs for sample in samples]), manifest.output_size, 1 / 255)
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
