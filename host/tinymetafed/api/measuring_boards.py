"""Measures what boards take: exact instructions in an emulator, memory, and a connected board's speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen.locate import find

from ..bench import (
    activation_cost,
    adaptation_cost,
    augment_cost,
    authentication_cost,
    board_speed,
    footprint,
    kernel_cost,
    layer_grid,
    sound_cost,
)
from ..bench.activation_cost import ActivationCosts
from ..bench.adaptation_cost import AdaptationCost
from ..bench.augment_cost import AugmentCost
from ..bench.authentication_cost import AuthenticationCost
from ..bench.board_speed import BoardSpeed
from ..bench.footprint import Footprint
from ..bench.kernel_cost import Comparison
from ..bench.layer_grid import Grid
from ..bench.sound_cost import SoundCost
from ..devices.device_urls import require_secure
from .loaded_experiment import Experiment, load
from .progress import ProgressOption, watching


def bench_kernels(
    experiment: Experiment, board: str = "mps2", *, optimization: str | None = None, progress: ProgressOption = True
) -> Comparison:
    """Counts the exact instructions of a training step in a board's emulator, and compares with textbook kernels.

    Args:
        experiment: An experiment from ``load``.
        board: An emulated board with an exact instruction counter.
        optimization: A compiler's level such as "-O2"; None for the board's own.
        progress: As in ``simulate``.

    Returns:
        Instructions, estimated cycles, flash, RAM and stack of generated and textbook kernels.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError, LinkError.
    """
    with watching(progress) as observer:
        return kernel_cost.kernels(experiment.spec, experiment.source, board, observer, optimization)


def bench_grid(board: str = "mps2", *, progress: ProgressOption = True) -> Grid:
    """Counts instructions and estimates cycles of 47 layers of different shapes, compared with textbook kernels.

    Args:
        board: An emulated board whose core has a cost model.
        progress: As in ``simulate``.

    Returns:
        One row per layer, with forward pass, input gradient and update.

    Raises:
        Error: BoardError, BenchError, BuildError.
    """
    with watching(progress) as observer:
        return layer_grid.measure(board, observer)


def count_instructions(experiment: Experiment, board: str = "mps2", *, progress: ProgressOption = True) -> dict[str, int]:
    """Counts the exact instructions of one training step in a board's emulator.

    Args:
        experiment: An experiment from ``load``.
        board: An emulated board whose instructions can be counted.
        progress: As in ``simulate``.

    Returns:
        Instructions by what is trained: "local", "global" and "full".

    Raises:
        Error: As ``bench_kernels``.
    """
    with watching(progress) as observer:
        return kernel_cost.instructions(experiment.spec, experiment.source, board, observer)


def bench_adaptation(experiment: Experiment, board: str = "mps2", *, progress: ProgressOption = True) -> AdaptationCost:
    """Counts the exact instructions of the adaptation of a new client in a board's emulator.

    Args:
        experiment: An experiment from ``load``.
        board: An emulated board with an exact instruction counter.
        progress: As in ``simulate``.

    Returns:
        Instructions of all training steps as the board trains them, the same with whole steps, and what the board keeps.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError, LinkError.
    """
    with watching(progress) as observer:
        return adaptation_cost.adaptation(experiment.spec, experiment.source, board, observer)


def bench_augmentation(experiment: Experiment, board: str = "mps2", *, progress: ProgressOption = True) -> AugmentCost:
    """Counts what samples that change and averaged predictions add to a training step, and to a board's RAM and flash.

    Args:
        experiment: An experiment from ``load`` with keys of [augment] or [predict].
        board: An emulated board with an exact instruction counter.
        progress: As in ``simulate``.

    Returns:
        Mean instructions of a step, RAM and flash, with the keys and without.

    Raises:
        Error: BoardError, BenchError, BuildError, DataError, SpecError, LinkError.
    """
    with watching(progress) as observer:
        return augment_cost.measure(experiment.spec, experiment.source, board, observer)


def bench_activations(experiment: Experiment, board: str = "mps2", *, progress: ProgressOption = True) -> ActivationCosts:
    """Counts the exact instructions of a training step with each choice for less memory that makes the arena smaller.

    Args:
        experiment: An experiment from ``load``.
        board: An emulated board with an exact instruction counter.
        progress: As in ``simulate``.

    Returns:
        Arena, work and instructions by choice of board.memory and model.activations, the fastest first.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError, LinkError.
    """
    with watching(progress) as observer:
        return activation_cost.activations(experiment.spec, experiment.source, board, observer)


def bench_memory(
    experiments: Sequence[str | Path] = (),
    boards: Sequence[str] = (),
    *,
    overrides: Sequence[str] = (),
    own_program: bool = False,
    progress: ProgressOption = True,
) -> list[Footprint]:
    """Measures flash, static RAM and the deepest stack over whole rounds in emulators.

    Args:
        experiments: Experiment files; empty for two examples and a presence detector of the paper's size.
        boards: Emulated boards; empty for all that run on this machine.
        overrides: Keys of the experiments to override, such as "board.store=true".
        own_program: Measure firmware whose program also predicts, learns and adapts by itself, as a user's sketch may.
        progress: As in ``simulate``.

    Returns:
        One footprint per model and board, in bytes.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError, LinkError.
    """
    chosen = footprint.models([Path(path) for path in experiments], overrides)
    with watching(progress) as observer:
        return footprint.measure(chosen, boards or footprint.emulated_boards(), observer, own_program=own_program)


def bench_authentication(experiment: Experiment, board: str = "mps2", *, progress: ProgressOption = True) -> AuthenticationCost:
    """Measures a round with authentication and without in a board's emulator.

    Args:
        experiment: An experiment from ``load``.
        board: An emulated board whose instructions can be counted.
        progress: As in ``simulate``.

    Returns:
        Flash, RAM, bytes on the line and instructions of both.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError, LinkError.
    """
    with watching(progress) as observer:
        return authentication_cost.measure(experiment.spec, experiment.source, board, observer)


def bench_sound(experiment: Experiment, board: str = "mps2", *, progress: ProgressOption = True) -> SoundCost:
    """Counts the exact instructions that a board's log-mel front end takes, in an emulator.

    Args:
        experiment: An experiment from ``load`` with ``task.sound.arithmetic = "board"``.
        board: An emulated board with an exact instruction counter.
        progress: As in ``simulate``.

    Returns:
        Instructions per frame, per second and per sound, static RAM and tables.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError.
    """
    with watching(progress) as observer:
        return sound_cost.measure(experiment.spec, experiment.source, board, observer)


def bench_board(
    device: str,
    experiment: Experiment | None = None,
    *,
    out: str | Path | None = None,
    insecure: bool = False,
    progress: ProgressOption = True,
) -> BoardSpeed:
    """Measures a connected board: time per training step by its own clock, rates of the line, round trips, predictions.

    Args:
        device: One device URL, such as "/dev/ttyACM0@nano33ble" or "qemu:1". A board on a port holds the experiment's firmware.
        experiment: An experiment from ``load``; None for examples/sine.toml.
        out: File to write the figures into, as JSON; None for none.
        insecure: As for ``board_status``.
        progress: As in ``simulate``.

    Returns:
        The figures. ``clock`` says whose clock the times per step are from; nothing identifies the board.

    Raises:
        UsageError: The URL names several devices.
        BenchError: The file cannot be written. BuildError, SpecError, LaunchError, LinkError.
    """
    chosen = load(find("examples") / "sine.toml") if experiment is None else experiment
    require_secure([device], chosen.spec.run.security, insecure)
    with watching(progress) as observer:
        measured = board_speed.measure(chosen.spec, chosen.source, device, observer)
    if out is not None:
        measured.write(Path(out))
    return measured
