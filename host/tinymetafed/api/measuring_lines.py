"""Measures what lines carry: bytes and time of rounds, uploads and downloads, and boards that come and go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen.locate import find

from ..bench import downlink_cost, level_cost, line_cost, uplink_cost
from ..bench import soak as soaking
from ..bench.downlink_cost import DownlinkCost
from ..bench.level_cost import LevelCost
from ..bench.line_cost import WireCost
from ..bench.soak import Soak
from ..bench.uplink_cost import UplinkCost
from ..devices.device_urls import several
from .loaded_experiment import Experiment, data_path, load
from .number_ranges import require
from .progress import ProgressOption, watching


def bench_uplink(
    experiment: Experiment, board: str = "mps2", *, data: str | Path | None = None, progress: ProgressOption = True
) -> UplinkCost:
    """Measures the bytes of updates with ``strategy.uplink_coding`` "packed" and "rice", and what "rice" costs a board.

    Args:
        experiment: An experiment from ``load``.
        board: An emulated board whose instructions can be counted.
        data: Folder of the task's data; None if it needs none.
        progress: As in ``simulate``.

    Returns:
        Bytes of simulated updates and their entropy; flash, RAM, bytes and instructions of a round on the board.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError, TaskError, LinkError.
    """
    with watching(progress) as observer:
        folder = None if data is None else Path(data)
        return uplink_cost.measure(experiment.spec, experiment.source, board, folder, observer)


def bench_levels(
    experiment: Experiment, board: str = "mps2", *, data: str | Path | None = None, progress: ProgressOption = True
) -> LevelCost:
    """Measures weights and updates in few bits: their bytes in simulated rounds, and a round on a board in each format.

    Args:
        experiment: An experiment from ``load``.
        board: An emulated board whose instructions can be counted.
        data: Folder of the task's data; None if it needs none.
        progress: As in ``simulate``.

    Returns:
        Bytes, flash, RAM and instructions for each number of bits and coding.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError, TaskError, LinkError.
    """
    with watching(progress) as observer:
        folder = None if data is None else Path(data)
        return level_cost.measure(experiment.spec, experiment.source, board, folder, observer)


def bench_wire(experiment: Experiment | None = None, *, progress: ProgressOption = True) -> WireCost:
    """Measures bulk transfers on a serial line at 115200 baud, and estimates a round on it with a 64 MHz board.

    Args:
        experiment: An experiment from ``load``; None for a presence detector of the paper's size.
        progress: As in ``simulate``.

    Returns:
        The share of the line's capacity that bulk transfers use, the share of framing, and rounds with several dtypes.

    Raises:
        Error: BenchError, BuildError, SpecError, LinkError.
    """
    with watching(progress) as observer:
        if experiment is None:
            return line_cost.wire(None, "", observer)
        return line_cost.wire(experiment.spec, experiment.source, observer)


def bench_downlink(experiment: Experiment, *, data: str | Path | None = None, progress: ProgressOption = True) -> DownlinkCost:
    """Simulates a run and measures its download by difference, for boards that return every round, or less often.

    Args:
        experiment: An experiment from ``load``.
        data: Folder of the task's data; None for the usual place.
        progress: As in ``simulate``.

    Returns:
        Bytes of a download, of all weights and by difference, in each dtype.

    Raises:
        Error: BuildError, DataError, SpecError, StrategyError, UsageError.
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
    require("--minutes", minutes, 0.01)
    require("--every", disturbed_seconds, 0.1)
    chosen = load(find("examples/sine.toml"), {"run.devices_per_round": 3}) if experiment is None else experiment
    urls = several(devices) or soaking.usual_devices(10)
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
