"""Measures what runs take and reach: speed, defences, gains of layers, accuracy against RAM; and all costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.locate import find

from ..bench import costs, layer_gains, simulation_cost
from ..bench.costs import Costs
from ..bench.layer_gains import LayerGains
from ..bench.simulation_cost import SimulationCost
from ..experiments import budget, byzantine
from ..simulation.vector_units import vector_units
from .api_defaults import threads_of
from .loaded_experiment import Experiment, data_path, load
from .number_ranges import require
from .progress import ProgressOption, watching

MAX_CLIENTS = 1 << 20  # of a round that is measured


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
        Error: BenchError, BuildError, SpecError.
    """
    threads_of(threads)
    require("--clients", clients, 1, MAX_CLIENTS)
    if unit is not None and unit not in vector_units():
        raise UsageError(f"--unit {unit}: this machine has {', '.join(vector_units())}")
    chosen = load(find("examples") / "sine.toml") if experiment is None else experiment
    with watching(progress) as observer:
        return simulation_cost.simulation(chosen.spec, chosen.source, unit, threads, observer, clients)


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
        Error: DataError, BuildError.
    """
    folder = Path(out)
    if not folder.is_dir():
        raise UsageError(f"--output {out}: no such folder; make it, or name another one")
    require("--seeds", seeds, 1)
    require("--rounds", rounds, 1)
    for option, given, known in (("--task", tasks, byzantine.TASKS), ("--attack", attacks, byzantine.ATTACKS)):
        if wrong := [name for name in given if name not in known]:
            raise UsageError(f"{option} {wrong[0]}: expected one of {', '.join(known)}")
    plan = byzantine.Plan(tasks or tuple(byzantine.TASKS), attacks or tuple(byzantine.ATTACKS), seeds, rounds)
    with watching(progress) as observer:
        outcomes = byzantine.run_all(plan, folder / byzantine.OUTCOMES, None if data is None else Path(data), observer)
    return outcomes, byzantine.write(outcomes, folder)


def bench_gains(
    experiment: Experiment,
    *,
    clients: int = layer_gains.CLIENTS,
    data: str | Path | None = None,
    progress: ProgressOption = True,
) -> LayerGains:
    """Measures in the simulation what training each layer gains, for ``model.gains``.

    Args:
        experiment: An experiment from ``load``, whose ``model.weights`` have learned something.
        clients: How many training clients to measure, or all where there are fewer.
        data: Folder of the task's data; None for the usual place.
        progress: As in ``simulate``.

    Returns:
        The gain of each layer that boards share, relative to the largest.

    Raises:
        Error: SpecError, DataError, BuildError, TrainingFailed.
    """
    require("--clients", clients, 1)
    with watching(progress) as observer:
        path = data_path(experiment.spec.task, data)
        return layer_gains.measure(experiment.spec, experiment.source, path, clients, observer)


def bench_budget(
    out: str | Path,
    *,
    seeds: int = 3,
    work: str | Path = "build/budget",
    checked: bool = True,
    data: str | Path | None = None,
    progress: ProgressOption = True,
) -> tuple[budget.BudgetTable, Path]:
    """Measures accuracy against RAM for a network of the papers' size, and writes budget.md and budget.json.

    Args:
        out: An existing folder to write into. Runs that budget.json has already are not repeated.
        seeds: Seeds of each run, from 1 on.
        work: Folder for the weights that runs start from.
        checked: Also run the firmware of one budget for a round, emulated and as a process, and compare the weights.
        data: Folder of Omniglot's archives; None for the usual place.
        progress: As in ``simulate``.

    Returns:
        The table, and the page.

    Raises:
        UsageError: There is no such folder. SweepFailed: budget.json is of another version.
        Error: DataError, BuildError, LinkError.
    """
    folder = Path(out)
    if not folder.is_dir():
        raise UsageError(f"--output {out}: no such folder; make it, or name another one")
    require("--seeds", seeds, 1)
    plan = budget.Plan(seeds=seeds) if checked else budget.Plan(seeds=seeds, checked=None)
    with watching(progress) as observer:
        table = budget.run_all(plan, folder / budget.OUTCOMES, Path(work), None if data is None else Path(data), observer)
    return table, budget.write(table, folder)
