"""Measurements: exact instructions, memory, speed of the simulation, bytes and time on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.locate import find

from ..bench import (
    activation_cost,
    adaptation_cost,
    authentication_cost,
    board_speed,
    costs,
    downlink_cost,
    footprint,
    kernel_cost,
    layer_grid,
    line_cost,
    simulation_cost,
    sound_cost,
    uplink_cost,
)
from ..bench import soak as soaking
from ..bench.activation_cost import ActivationCosts
from ..bench.adaptation_cost import AdaptationCost
from ..bench.authentication_cost import AuthenticationCost
from ..bench.board_speed import BoardSpeed as BoardSpeed
from ..bench.costs import Costs
from ..bench.downlink_cost import DownlinkCost
from ..bench.footprint import Footprint
from ..bench.kernel_cost import Comparison
from ..bench.layer_grid import Grid
from ..bench.line_cost import WireCost
from ..bench.simulation_cost import SimulationCost
from ..bench.soak import Soak
from ..bench.sound_cost import SoundCost
from ..bench.uplink_cost import UplinkCost
from ..devices.device_urls import require_secure
from ..experiments import byzantine
from ..simulation.vector_units import vector_units
from .loaded_experiment import Experiment, data_path, load
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
        BoardError, BenchError, BuildError, SpecError, LinkError.
    """
    with watching(progress) as observer:
        return kernel_cost.kernels(experiment.spec, experiment.source, board, observer, optimization)


def bench_grid(board: str = "mps2", *, progress: ProgressOption = True) -> Grid:
    """Counts instructions and estimates cycles of 47 layers of different shapes, beside textbook kernels.

    Args:
        board: An emulated board whose core has a cost model.
        progress: As in ``simulate``.

    Returns:
        One row per layer, with forward pass, input gradient and update.

    Raises:
        BoardError, BenchError, BuildError.
    """
    with watching(progress) as observer:
        return layer_grid.measure(board, observer)


def count_instructions(experiment: Experiment, board: str = "mps2", *, progress: ProgressOption = True) -> dict[str, int]:
    """Exact instructions of one training step, by variant: "local", "global", "full". Raises as ``bench_kernels``."""
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
        BoardError, BenchError, BuildError, SpecError, LinkError.
    """
    with watching(progress) as observer:
        return adaptation_cost.adaptation(experiment.spec, experiment.source, board, observer)


def bench_uplink(
    experiment: Experiment, board: str = "mps2", *, data: str | Path | None = None, progress: ProgressOption = True
) -> UplinkCost:
    """Measures the bytes of updates with ``strategy.uplink_coding`` "packed" and "rice", and what the latter costs a board.

    Args:
        experiment: An experiment from ``load``.
        board: An emulated board whose instructions can be counted.
        data: Folder of the task's data; None if it needs none.
        progress: As in ``simulate``.

    Returns:
        Bytes of simulated updates beside their entropy; flash, RAM, bytes and instructions of a round on the board.

    Raises:
        BoardError, BenchError, BuildError, SpecError, TaskError, LinkError.
    """
    with watching(progress) as observer:
        folder = None if data is None else Path(data)
        return uplink_cost.measure(experiment.spec, experiment.source, board, folder, observer)


def bench_activations(experiment: Experiment, board: str = "mps2", *, progress: ProgressOption = True) -> ActivationCosts:
    """Counts the exact instructions of a training step with each choice for less memory that makes the arena smaller.

    Args:
        experiment: An experiment from ``load``.
        board: An emulated board with an exact instruction counter.
        progress: As in ``simulate``.

    Returns:
        Arena, work and instructions by choice of board.memory and model.activations, the fastest first.

    Raises:
        BoardError, BenchError, BuildError, SpecError, LinkError.
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
        BoardError, BenchError, BuildError, SpecError, LinkError.
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
        BoardError, BenchError, BuildError, SpecError, LinkError.
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
        BoardError, BenchError, BuildError, SpecError.
    """
    with watching(progress) as observer:
        return sound_cost.measure(experiment.spec, experiment.source, board, observer)


def bench_simulation(
    experiment: Experiment | None = None,
    *,
    unit: str | None = None,
    threads: int = 1,
    clients: int | None = None,
    progress: ProgressOption = True,
) -> SimulationCost:
    """Measures how fast the simulation trains on this machine, in microseconds per client and training step.

    Args:
        experiment: An experiment from ``load``; None for examples/sine.toml.
        unit: A vector unit of this machine, or "scalar"; None for the one that ``simulate`` uses.
        threads: Threads to simulate on.
        clients: Clients of one round to measure in addition, for instance 100,000; None for no such round.
        progress: As in ``simulate``.

    Returns:
        Times of the kernels with all lanes, with one lane, of textbook kernels, and of JAX and PyTorch if they are installed.

    Raises:
        UsageError: This machine has no such vector unit.
        BenchError, BuildError, SpecError.
    """
    if unit is not None and unit not in vector_units():
        raise UsageError(f"--unit {unit}: this machine has {', '.join(vector_units())}")
    chosen = load(find("examples") / "sine.toml") if experiment is None else experiment
    with watching(progress) as observer:
        return simulation_cost.simulation(chosen.spec, chosen.source, unit, threads, observer, clients)


def bench_wire(experiment: Experiment | None = None, *, progress: ProgressOption = True) -> WireCost:
    """Measures bulk transfers on a serial line at 115200 baud, and estimates a round on it with a 64 MHz board.

    Args:
        experiment: An experiment from ``load``; None for a presence detector of the paper's size.
        progress: As in ``simulate``.

    Returns:
        The share of the line's capacity that bulk transfers use, the share of framing, and rounds with several dtypes.

    Raises:
        BenchError, BuildError, SpecError, LinkError.
    """
    with watching(progress) as observer:
        if experiment is None:
            return line_cost.wire(None, "", observer)
        return line_cost.wire(experiment.spec, experiment.source, observer)


def bench_downlink(experiment: Experiment, *, data: str | Path | None = None, progress: ProgressOption = True) -> DownlinkCost:
    """Simulates a run and measures its download by difference, for boards that return every round, or more seldom.

    Args:
        experiment: An experiment from ``load``.
        data: Folder of the task's data; None for the usual place.
        progress: As in ``simulate``.

    Returns:
        Bytes of a download, of all weights and by difference, in each dtype.

    Raises:
        BuildError, DataError, SpecError, StrategyError, UsageError.
    """
    with watching(progress) as observer:
        return downlink_cost.downlink_cost(experiment.spec, experiment.source, data_path(experiment.spec.task, data), observer)


def bench_soak(
    experiment: Experiment | None = None,
    *,
    devices: Sequence[str] = (),
    minutes: float = 1.0,
    disturbed_seconds: float = soaking.DISTURBED_SECONDS,
    seed: int = 1,
    progress: ProgressOption = True,
) -> Soak:
    """Trains for a time on boards that restart and are replugged under other port names, with 1 % of the frames damaged.

    Args:
        experiment: An experiment from ``load``; None for the example sine.toml with three devices per round.
        devices: Processes to start, such as "native:90" and "qemu:10"; empty for 10, one of them emulated where QEMU is.
        minutes: How long.
        disturbed_seconds: On average between two disturbances of one board.
        seed: Of the disturbances and of the faults on the lines.
        progress: As in ``simulate``.

    Returns:
        What was lost, whether the weights are those of an undisturbed simulation, and memory and descriptors over time.

    Raises:
        UsageError: A device is not a process. BuildError, LaunchError, SpecError, LinkError.
    """
    chosen = load(find("examples/sine.toml"), {"run.devices_per_round": 3}) if experiment is None else experiment
    urls = list(devices) or soaking.usual_devices(10)
    with watching(progress) as observer:
        return soaking.soak(
            chosen.spec,
            chosen.source,
            urls,
            60 * minutes,
            observer,
            disturbed_seconds=disturbed_seconds,
            seed=seed,
        )


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


def bench_all(
    out: str | Path, board: str = "mps2", *, data: str | Path | None = None, progress: ProgressOption = True
) -> tuple[Costs, tuple[Path, Path]]:
    """Makes all measurements on the project's own networks and writes costs.md and costs.svg; takes many minutes.

    Args:
        out: An existing folder to write into.
        board: An emulated board with an exact instruction counter.
        data: Folder of Omniglot's archives, for the bytes of its updates; None to leave them out.
        progress: As in ``simulate``.

    Returns:
        The figures, and the two files.

    Raises:
        UsageError: There is no such folder. BoardError, BenchError, BuildError, LinkError.
    """
    folder = Path(out)
    if not folder.is_dir():
        raise UsageError(f"--output {out}: no such folder; make it, or name another one")
    with watching(progress) as observer:
        measured = costs.measure(board, observer, None if data is None else Path(data))
    return measured, costs.write(measured, folder)


def bench_byzantine(
    out: str | Path,
    tasks: Sequence[str] = (),
    attacks: Sequence[str] = (),
    *,
    seeds: int = 3,
    rounds: int | None = None,
    data: str | Path | None = None,
    progress: ProgressOption = True,
) -> tuple[list[byzantine.Outcome], Path]:
    """Simulates boards that lie, by attack and defence, and writes robust.md and robust.json; takes many minutes.

    Args:
        out: An existing folder to write into. Runs that robust.json has already are not repeated.
        tasks: "sine" or "omniglot"; all if empty.
        attacks: Names of the attacks, such as "sign-flipped"; all if empty.
        seeds: Seeds of each run, from 1 on.
        rounds: Rounds of every run; None for enough to learn.
        data: Folder of Omniglot's archives; None for the usual place.
        progress: As in ``simulate``.

    Returns:
        What each run came to, and the page.

    Raises:
        UsageError: There is no such folder, task or attack. SweepFailed: robust.json is of another version.
        DataError, BuildError.
    """
    folder = Path(out)
    if not folder.is_dir():
        raise UsageError(f"--output {out}: no such folder; make it, or name another one")
    for option, given, known in (("--task", tasks, byzantine.TASKS), ("--attack", attacks, byzantine.ATTACKS)):
        if wrong := [name for name in given if name not in known]:
            raise UsageError(f"{option} {wrong[0]}: expected one of {', '.join(known)}")
    plan = byzantine.Plan(tasks or tuple(byzantine.TASKS), attacks or tuple(byzantine.ATTACKS), seeds, rounds)
    with watching(progress) as observer:
        outcomes = byzantine.run_all(plan, folder / byzantine.OUTCOMES, None if data is None else Path(data), observer)
    return outcomes, byzantine.write(outcomes, folder)
