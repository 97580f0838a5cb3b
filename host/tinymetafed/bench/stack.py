"""Stack depth on an emulated board: the start-up code fills the stack with a pattern; the overwritten part is measured."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.optional_messages.secure_messages import LEAST_PARTICIPANTS
from tinymetafed_codegen.protocol import Phase, Program, Recipe, SampleSet, Variant
from tinymetafed_codegen.spec import Experiment
from tinymetafed_codegen.temporary import temporary_folder

from ..devices.client_program import pulled
from ..devices.device_urls import DeviceSpec
from ..devices.firmware import Firmware
from ..devices.link.session import Session
from ..learn.codecs.difference import Versions
from ..learn.strategies import open_strategy
from ..learn.weights import initial
from . import BenchError, launched, synthetic_samples

PAINT = 0xC5C5C5C5  # the pattern that a board's start-up code fills its stack with, from the symbol stack_start up
QUIET_ROUNDS = 6  # rounds in a row without a new maximum, until an interrupt has probably hit the deepest point
INTERRUPT_SECONDS = 0.0002
STEPS = 1  # per phase
FETCHED = 500  # weights to fetch, more than fit one answer
_MONITOR_SECONDS = 10.0


def deepest(experiment: Experiment, built: Firmware, board: Board) -> int:
    """Deepest stack in whole rounds and adaptations with all variants of training steps, interrupts included.

    Args:
        experiment: The experiment.
        built: Its firmware on the board.
        board: The emulated board.

    Returns:
        The depth in bytes.

    Raises:
        BenchError: The board's stack cannot be measured.
        LinkError: The emulator failed.
    """
    start, end = _stack(built.program, board)
    device = DeviceSpec(f"qemu:1@{board.name}", "qemu", board.name)
    with temporary_folder("bench") as folder:
        at = folder / "monitor"
        options = ["-qmp", f"unix:{at},server=on,wait=off"]
        with (
            launched(device, built, boards=Catalogue(board.project), options=options) as running,
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
    """Lowest address of the stack, and the address after its highest."""
    table = subprocess.run([f"{board.toolchain_prefix}nm", str(program)], capture_output=True, text=True, check=True).stdout
    symbols = {words[-1]: words[0] for words in map(str.split, table.splitlines())}
    try:
        return int(symbols["stack_start"], 16), int(symbols["stack_end"], 16)
    except KeyError as missing:
        raise BenchError(f"board '{board.name}': its linker script defines no symbol {missing}") from None


def _rounds(session: Session, experiment: Experiment, manifest: ModelManifest) -> Iterator[None]:
    """Endless rounds: load weights, train with all variants of steps, pull the delta, adapt, fetch weights, predict."""
    strategy = open_strategy(experiment, manifest)
    weights = strategy.download(initial(manifest, experiment.run.seed, experiment.model.init))
    others = strategy.download(initial(manifest, experiment.run.seed + 1, experiment.model.init))
    session.versions = Versions() if strategy.spec.takes_differences else None
    streamed = manifest.streamed
    rate, clamp = experiment.strategy.global_learning_rate, experiment.strategy.output_clamp
    training = (Variant.GRADIENT,) * 2 if experiment.strategy.gradient else (Variant.LOCAL, Variant.GLOBAL)
    programs = {Program.TRAIN: training, Program.ADAPT: (Variant.LOCAL, Variant.FULL)}
    for program, variants in programs.items():
        phases = tuple(Phase(variant, SampleSet.SUPPORT, STEPS, 1, rate, clamp) for variant in variants)
        sent = strategy.training_recipe() if program == Program.TRAIN else Recipe(())
        session.configure(program, replace(sent, phases=phases))
    samples = synthetic_samples(manifest, 2 * STEPS)
    while True:
        for program in programs:
            token = session.next_token()
            session.load(token, weights if program == Program.TRAIN else others)
            session.train(token, program, 1, 0, 0)
            if streamed:
                session.stream(token, samples)
            else:
                session.await_done(token, 2 * STEPS)
            if program == Program.TRAIN and strategy.secure_sum is not None:
                _mask(session, token, strategy.top_k)
            elif program == Program.TRAIN:
                pulled(
                    session,
                    token,
                    strategy.training_recipe(),
                    strategy.n_global,
                    codes_values=strategy.spec.codes_values,
                    levels=strategy.spec.uplink_levels,
                )
            hides = experiment.privacy.is_private or strategy.secure_sum is not None  # what a client has trained
            if not hides:
                session.fetch(0, min(FETCHED, manifest.n_parameters))
            if program == Program.ADAPT or not hides:
                session.predict(np.stack([sample.inputs for sample in samples]), manifest.output_size, 1 / 255)
        yield


def _mask(session: Session, token: int, count: int) -> None:
    """Lets the board mask its update together with boards that do not exist."""
    own = session.own_key(token)
    keys = [own, *(bytes([seat]) * len(own) for seat in range(1, LEAST_PARTICIPANTS))]
    for seat, key in enumerate(keys):
        session.take_seat(seat, key)
    session.pull_masked(token, 1, range(len(keys)), count)
    session.open_mask(token, 1)


@contextmanager
def _interrupted(session: Session) -> Iterator[None]:
    """Sends single delimiters all the time; they have no effect, but each one causes a receive interrupt."""
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
    """QEMU's machine protocol (QMP) on a socket, to read an emulated board's memory while it runs."""

    def __init__(self, path: Path) -> None:
        self._copy = path.with_name("memory")
        self._line = socket.socket(socket.AF_UNIX)
        self._line.settimeout(_MONITOR_SECONDS)
        self._line.connect(str(path))
        self._said = self._line.makefile("r", encoding="utf-8")
        self._ask("qmp_capabilities")

    def slow_down(self) -> None:
        """Makes QEMU translate one instruction at a time, so slowly that interrupts hit every part of the code."""
        for name in ("one-insn-per-tb", "singlestep"):  # QEMU 8.1 and later; earlier versions. The other name has no effect.
            self._ask("human-monitor-command", **{"command-line": f"{name} on"})

    def words(self, start: int, size: int) -> npt.NDArray[np.uint32]:
        """``size`` bytes of memory from address ``start`` on, as words. Raises BenchError if QEMU refuses."""
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
