"""The memory of a firmware on a board: flash and static RAM of the linked program, and the stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

from tinymetafed_codegen import spec
from tinymetafed_codegen.board import board_requirements, boards
from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.spec import Experiment
from tinymetafed_codegen.toolchain import require_tools

from ..devices.firmware import AS_THE_BOARD_SAYS, Deviation
from ..devices.running import build_firmware
from ..federation.observer import Observer
from ..runs.setup import measured_design
from . import BenchError, in_qemu, keeping_nothing, line_cost, stack

OWN_PROGRAM = Deviation(program="own_program")


def models(experiments: Sequence[Path], overrides: Sequence[str] = ()) -> list[tuple[str, Experiment]]:
    """Loads ``experiments`` with ``overrides``; if empty, two examples and the paper's presence detector. Raises SpecError."""
    if experiments:
        return [(str(path), spec.load(path, overrides)) for path in experiments]
    if overrides:
        raise BenchError(f"--set {overrides[0]}: name the experiment file that it overrides, for instance examples/sine.toml")
    examples = [f"examples/{name}.toml" for name in ("sine", "omniglot")]
    return [*((name, spec.load(find(name))) for name in examples), ("presence detector", line_cost.presence())]


def emulated_boards() -> list[str]:
    """Boards that can be built and run in QEMU on this machine. Raises BenchError, which says what to install, if none can."""
    all_of_them = [board.name for board in boards.usable() if board.kind == "qemu"]
    ready = [name for name in all_of_them if not boards.missing_tools(name) and not boards.load(name).cannot_build()]
    if not ready:
        remedies = " or ".join(board_requirements.remedy(boards.missing_tools(name)) for name in all_of_them)
        raise BenchError(f"no emulated board can be built and run here; {remedies}")
    return ready


@dataclass(frozen=True)
class Footprint:
    """Memory of a model on a board in bytes; ``ram`` is static RAM and deepest stack together.

    The stack is measured over whole rounds and adaptations with all variants of training steps, interrupts included.
    """

    model: str
    board: str
    flash: int
    static: int
    stack: int
    ram: int
    flash_available: int
    ram_available: int


def measure(
    chosen: Sequence[tuple[str, Experiment]], on: Sequence[str], observer: Observer, *, own_program: bool = False
) -> list[Footprint]:
    """Measures each model on each board.

    Args:
        chosen: Models by name.
        on: Names of emulated boards.
        observer: Is told of progress.
        own_program: Build with a program that also predicts, learns and adapts by itself.

    Returns:
        One footprint per model and board.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError or LinkError.
    """
    asked = [(designed, in_qemu(name, designed.boards)) for designed in starmap(_design, chosen) for name in on]
    for _, board in asked:
        require_tools(board)
    observer.stage("measuring memory", len(asked))
    measured = []
    for designed, board in asked:
        observer.note(f"{designed.source} on {board.name}")
        measured.append(_footprint(designed, board, OWN_PROGRAM if own_program else AS_THE_BOARD_SAYS))
        observer.advance()
    return measured


def _design(name: str, experiment: Experiment) -> Design:
    return measured_design(keeping_nothing(experiment), name)


def _footprint(designed: Design, board: Board, deviation: Deviation) -> Footprint:
    built = build_firmware(designed, board.name, deviation)
    depth = stack.deepest(designed.experiment, built, board)
    return Footprint(
        model=designed.source,
        board=board.name,
        flash=built.flash_bytes,
        static=built.ram_bytes,
        stack=depth,
        ram=built.ram_bytes + depth,
        flash_available=board.flash_bytes,
        ram_available=board.ram_bytes,
    )
