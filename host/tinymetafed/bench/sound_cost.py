"""Cost of the log-mel front end: exact instructions from a board's emulator, static RAM and tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen import emit
from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.options import log_mel_facts
from tinymetafed_codegen.options.log_mel_cpp import log_mel_header
from tinymetafed_codegen.spec import Experiment
from tinymetafed_codegen.toolchain import build_root

from ..devices import firmware
from ..devices.firmware import Deviation
from ..devices.firmware_project import writing_project
from ..federation.observer import Observer
from ..runs.setup import measured_design
from . import BenchError, in_qemu
from .board_answer import ask
from .kernel_cost import executed

PROGRAM = Deviation(program="sound_program")


@dataclass(frozen=True)
class SoundCost:
    """What the front end takes on a board.

    ``instructions_per_frame``: of one frame with the samples of its hop, mean of a second of loud sound. A second has
    ``frames_per_second`` of them. ``instructions_per_sound``: of a sound's spectrogram, for the longest sound.
    ``ram_bytes``: static RAM; ``table_bytes``: constants in flash.
    """

    board: str
    rate: int
    frames_per_second: float
    instructions_per_frame: int
    instructions_per_second: int
    instructions_per_sound: int
    ram_bytes: int
    table_bytes: int


def measure(experiment: Experiment, source: str, board: str, observer: Observer) -> SoundCost:
    """Lets the front end hear a second of sound in the board's emulator.

    Args:
        experiment: An experiment whose features boards compute.
        source: Its name in errors.
        board: An emulated board.
        observer: Is told of progress.

    Raises:
        Error: BoardError, BenchError, BuildError or SpecError.
    """
    facts = log_mel_facts.of_experiment(experiment, source)
    if facts is None:
        raise BenchError(f"{source}: boards make no spectrograms of sound here; set task.sound.arithmetic = 'board'")
    designed = measured_design(experiment, source)
    on = in_qemu(board, designed.boards)
    observer.stage(f"building firmware for {board}")
    with writing_project(designed) as written:
        key = written.parent.name
        generated = build_root() / PROGRAM.folder(key) / f"generated-{board}"
        text = emit.command(written, on)
        emit.write(designed.on(on), generated, text)
        (generated / "log_mel_facts.hpp").write_text(log_mel_header(facts, text), encoding="utf-8")
        built = firmware.build(written, on, key=key, deviation=PROGRAM, generated=generated)
    observer.stage(f"a second of sound on {board}")
    ram, hearing, writing = _said(built.program, on)
    frames, second = facts.rate / facts.hop, executed(hearing, on)
    return SoundCost(
        board=board,
        rate=facts.rate,
        frames_per_second=frames,
        instructions_per_frame=round(second / frames),
        instructions_per_second=second,
        instructions_per_sound=executed(writing, on),
        ram_bytes=ram,
        table_bytes=facts.flash,
    )


def _said(program: Path, board: Board) -> list[int]:
    """The numbers that firmware/bench/sound_program.cpp writes: bytes of RAM, ticks of a second, and of a spectrogram."""
    answer = ask(program, board).split()
    if len(answer) != 3:
        raise BenchError(f"board '{board.name}': expected three numbers from the front end, got {answer}")
    return [int(word) for word in answer]
